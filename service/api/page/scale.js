/** From figures to places on a drawing, and round figures between two others. Pure functions. */

/** A function from a domain to a range, along a straight line. */
export function linear([low, high], [from, to]) {
  const span = high - low || 1;
  return (value) => from + ((value - low) / span) * (to - from);
}

/** The same for ratios: equal factors are equally far apart. */
export function logarithmic([low, high], range) {
  const place = linear([Math.log(low), Math.log(high)], range);
  return (value) => place(Math.log(value));
}

/** Lowest and highest of many figures; null where there is none. */
export function extent(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value == null || !Number.isFinite(value)) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return low > high ? null : [low, high];
}

/** An extent with room at both ends; a single figure gets room around it. */
export function padded([low, high], ratio = 0.06) {
  const room = (high - low) * ratio || Math.abs(high) * 0.05 || 1;
  return [low - room, high + room];
}

/** Round figures in a domain, about `count` of them, at steps of 1, 2 or 5 times a power of ten. */
export function ticks([low, high], count = 5) {
  const step = stepOf(high - low, count);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  const digits = digitsOf(step);
  return Array.from({ length: last - first + 1 }, (_, index) =>
    Number(((first + index) * step).toFixed(digits)),
  );
}

function stepOf(span, count) {
  const rough = (span || 1) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(rough));
  const factor = [1, 2, 5, 10].find((candidate) => candidate * power >= rough * 0.999) ?? 10;
  return factor * power;
}

function digitsOf(step) {
  return Math.max(0, Math.min(12, -Math.floor(Math.log10(step) + 1e-9)));
}

/** Decimals that tell neighbouring ticks apart. */
export function decimals(marks) {
  return marks.length < 2 ? 4 : digitsOf(Math.abs(marks[1] - marks[0]));
}

/** Powers of two (of four, of eight, ...) in a domain, at most `count`: for bytes. */
export function powers([low, high], count = 6) {
  const [first, last] = [Math.ceil(Math.log2(low) - 1e-9), Math.floor(Math.log2(high) + 1e-9)];
  const stride = Math.max(1, Math.ceil((last - first + 1) / count));
  const marks = [];
  for (let power = first; power <= last; power += 1) {
    if (power % stride === 0) marks.push(2 ** power);
  }
  return marks;
}

/** At most two points a pixel, the lowest and the highest, so that no spike is lost. */
export function thinned(points, buckets) {
  if (points.length <= 2 * buckets) return points;
  const kept = [];
  for (let bucket = 0; bucket < buckets; bucket += 1) {
    const start = Math.floor((bucket * points.length) / buckets);
    const end = Math.floor(((bucket + 1) * points.length) / buckets);
    const part = points.slice(start, end);
    const low = part.reduce((best, point) => (point[1] < best[1] ? point : best));
    const high = part.reduce((best, point) => (point[1] > best[1] ? point : best));
    kept.push(...(low === high ? [low] : low[0] < high[0] ? [low, high] : [high, low]));
  }
  return kept;
}

/** An exponential mean that starts unbiased; `span` is the number of points that it looks back. */
export function smoothed(points, span) {
  const keep = 1 - 2 / (span + 1);
  let [sum, weight] = [0, 0];
  return points.map(([x, y]) => {
    sum = sum * keep + y;
    weight = weight * keep + 1;
    return [x, sum / weight];
  });
}

/** Index of the point that is nearest along x; points ascend. */
export function nearest(points, x) {
  let [low, high] = [0, points.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (points[middle][0] < x) low = middle + 1;
    else high = middle;
  }
  return low > 0 && x - points[low - 1][0] <= points[low][0] - x ? low - 1 : low;
}
