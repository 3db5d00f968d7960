/** Figures and times as people read them. Pure functions. */

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
const NONE = "–";

const isMissing = (value) => value == null || Number.isNaN(value);

/** Milliseconds of a moment: the service says seconds, or ISO 8601. */
export function time(moment) {
  return typeof moment === "number" ? 1000 * moment : Date.parse(moment);
}

/** Bytes in binary units, three digits: 1536 -> "1.50 KiB". */
export function bytes(value) {
  if (isMissing(value)) return NONE;
  let [size, unit] = [Math.abs(value), 0];
  while (size >= 1023.5 && unit < UNITS.length - 1) [size, unit] = [size / 1024, unit + 1];
  const digits = unit === 0 || size >= 99.95 ? 0 : size >= 9.995 ? 1 : 2;
  return `${value < 0 ? "−" : ""}${size.toFixed(digits)} ${UNITS[unit]}`;
}

/** A whole number with thousands: 1234567 -> "1,234,567". */
export function whole(value) {
  return isMissing(value) ? NONE : Math.round(value).toLocaleString("en-US");
}

/** A large number in few letters: 12345 -> "12.3k", 2000 -> "2k". */
export function compact(value) {
  if (isMissing(value)) return NONE;
  if (Math.abs(value) >= 1e12) return value.toExponential(1);
  for (const [limit, unit] of [
    [1e9, "G"],
    [1e6, "M"],
    [1e3, "k"],
  ]) {
    if (Math.abs(value) >= limit * 0.9995)
      return `${Number((value / limit).toPrecision(3))}${unit}`;
  }
  return String(Math.round(value * 10) / 10);
}

/** A score with four decimals; of one that has exploded, the size. */
export function score(value) {
  if (isMissing(value)) return NONE;
  return Math.abs(value) < 1e5 ? value.toFixed(4) : value.toExponential(3);
}

/** A difference with its sign. */
export function signed(value, digits = 4) {
  if (isMissing(value)) return NONE;
  const text = Math.abs(value).toFixed(digits);
  if (Number(text) === 0) return `±${text}`;
  return `${value < 0 ? "−" : "+"}${text}`;
}

/** A share of one: 0.125 -> "12.5 %". */
export function percent(value, digits = 0) {
  return isMissing(value) ? NONE : `${(100 * value).toFixed(digits)} %`;
}

/** A stretch of time by its two largest units: 3725 -> "1 h 02 min". */
export function duration(seconds) {
  if (isMissing(seconds)) return NONE;
  if (seconds < 10) return `${Math.max(0, seconds).toFixed(1)} s`;
  const total = Math.round(seconds);
  if (total < 60) return `${total} s`;
  const two = (value) => String(value).padStart(2, "0");
  const [minutes, hours] = [Math.floor(total / 60), Math.floor(total / 3600)];
  if (hours < 1) return `${minutes} min ${two(total % 60)} s`;
  if (hours < 48) return `${hours} h ${two(minutes % 60)} min`;
  return `${Math.floor(hours / 24)} d ${two(hours % 24)} h`;
}

/** How long ago a moment was, in words. */
export function ago(moment, now = Date.now()) {
  if (isMissing(moment)) return NONE;
  const seconds = (now - time(moment)) / 1000;
  if (seconds < 10) return "just now";
  if (seconds < 60) return `${Math.round(seconds)} s ago`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 48 * 3600) return `${Math.round(seconds / 3600)} h ago`;
  return `${Math.round(seconds / 86400)} d ago`;
}

/** A moment, to the second, in the reader's own time zone. */
export function moment(value) {
  if (isMissing(value)) return NONE;
  const date = new Date(time(value));
  const two = (part) => String(part).padStart(2, "0");
  const day = [date.getFullYear(), two(date.getMonth() + 1), two(date.getDate())].join("-");
  return `${day} ${[date.getHours(), date.getMinutes(), date.getSeconds()].map(two).join(":")}`;
}

/** Seconds from a start to an end, or to now where it has not ended; null before it started. */
export function elapsed(start, end, now = Date.now()) {
  if (isMissing(start)) return null;
  return ((isMissing(end) ? now : time(end)) - time(start)) / 1000;
}

/** Any value of a configuration on one line. */
export function plain(value) {
  if (value == null) return "none";
  if (typeof value === "object") return JSON.stringify(value);
  return String(value);
}
