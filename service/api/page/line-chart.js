/** `<line-chart>`: curves over steps, with a cursor for pointer and keyboard and a table. */

import { Chart } from "./chart.js";
import { h, render, s } from "./dom.js";
import { compact, whole } from "./format.js";
import { decimals, extent, linear, nearest, padded, smoothed, thinned, ticks } from "./scale.js";

const HEIGHT = 240;
const EDGE = { top: 12, right: 16, bottom: 34, left: 56 };
const SMOOTH_FROM = 80; // points, below which every one can be told apart
const MAX_ROWS = 200;

/**
 * What it draws, given as the property `data`:
 * `{title, unit, series: [{name, points: [[step, value]]}], format, empty, best: "max"|"min"}`.
 */
export class LineChart extends Chart {
  #cursor = null;

  draw() {
    const { title, series, empty } = this.data;
    const drawn = series.filter(({ points }) => points.length);
    const head = h("div", { class: "chart-head" }, h("h3", {}, title), legend(series));
    if (!drawn.length) {
      render(this, head, h("p", { class: "chart-empty" }, empty));
      return;
    }
    const frame = this.#frame(drawn);
    render(this, head, facts(this.data, drawn), this.#plot(drawn, frame), this.#table(drawn));
  }

  #frame(drawn) {
    const width = this.width;
    const xs = extent(drawn.flatMap(({ points }) => [points[0][0], points.at(-1)[0]]));
    const ys = padded(extent(drawn.flatMap(({ points }) => points.map(([, y]) => y))));
    const x = linear([Math.min(0, xs[0]), xs[1]], [EDGE.left, width - EDGE.right]);
    const y = linear(ys, [HEIGHT - EDGE.bottom, EDGE.top]);
    const xTicks = ticks([Math.min(0, xs[0]), xs[1]], Math.max(2, width / 110));
    return { width, x, y, xTicks, yTicks: ticks(ys, 5), xs };
  }

  #plot(drawn, frame) {
    const label = `${this.data.title}. Arrow keys read single values.`;
    const on = {
      pointermove: (event) => this.#point(event, frame),
      pointerleave: () => this.#move(null),
      keydown: (event) => this.#key(event, drawn),
      blur: () => this.#move(null),
    };
    return h(
      "div",
      { class: "plot", tabindex: "0", role: "group", "aria-label": label, on },
      s(
        "svg",
        { width: frame.width, height: HEIGHT, "aria-hidden": "true" },
        axes(frame),
        drawn.map((line) => curve(line, frame)),
        this.#cursor != null && cursor(this.#cursor, drawn, frame),
      ),
      this.#readout(drawn, frame),
    );
  }

  #readout(drawn, frame) {
    const at = this.#cursor;
    const lines =
      at == null
        ? []
        : drawn.map(({ name, points, place }) => {
            const [step, value] = points[nearest(points, at)];
            const text = `${name} ${this.data.format(value)}`;
            return h("span", { class: `series-${place}` }, text, h("small", {}, ` at ${step}`));
          });
    const isRight = at != null && frame.x(at) > frame.width / 2;
    return h(
      "div",
      { class: `readout${at == null ? " away" : ""}${isRight ? " left" : ""}`, role: "status" },
      lines,
    );
  }

  #point(event, frame) {
    const left = event.clientX - event.currentTarget.getBoundingClientRect().left;
    const ratio = (left - EDGE.left) / (frame.width - EDGE.left - EDGE.right);
    const first = Math.min(0, frame.xs[0]);
    this.#move(first + Math.max(0, Math.min(1, ratio)) * (frame.xs[1] - first));
  }

  #key(event, drawn) {
    const points = drawn[0].points;
    const here = this.#cursor == null ? points.length : nearest(points, this.#cursor);
    const stride = event.shiftKey ? Math.ceil(points.length / 10) : 1;
    const aims = {
      ArrowLeft: here - stride,
      ArrowRight: here + stride,
      Home: 0,
      End: points.length - 1,
    };
    if (!(event.key in aims)) return;
    event.preventDefault();
    const index = Math.max(0, Math.min(points.length - 1, aims[event.key]));
    this.#move(points[index][0]);
  }

  #move(step) {
    if (step === this.#cursor) return;
    this.#cursor = step;
    this.redraw();
  }

  #table(drawn) {
    const isOpen = this.querySelector("details")?.open;
    const on = { toggle: () => this.redraw() };
    const body = isOpen && table(this.data, drawn);
    return h("details", { class: "as-table", on }, h("summary", {}, "Values as a table"), body);
  }
}

function legend(series) {
  if (series.length < 2) return null;
  const items = series.map(({ name, place }) =>
    h("li", {}, h("i", { class: `swatch series-${place}` }), name),
  );
  return h("ul", { class: "legend" }, items);
}

/** The figures that a reader looks for first. */
function facts({ format, best }, drawn) {
  if (drawn.length > 1) return null;
  const { points } = drawn[0];
  const isBetter = (one, two) => (best === "max" ? one[1] > two[1] : one[1] < two[1]);
  const top = points.reduce((kept, point) => (isBetter(point, kept) ? point : kept));
  return h(
    "p",
    { class: "chart-facts" },
    h("b", {}, format(points.at(-1)[1])),
    ` at step ${whole(points.at(-1)[0])}`,
    h("span", {}, `${best === "max" ? "highest" : "lowest"} ${format(top[1])} at ${whole(top[0])}`),
  );
}

function axes({ width, x, y, xTicks, yTicks }) {
  const digits = decimals(yTicks);
  const label = (value) => (Math.abs(value) >= 1000 ? compact(value) : value.toFixed(digits));
  return [
    yTicks.map((value) => [
      s("line", {
        class: "grid",
        x1: EDGE.left,
        x2: width - EDGE.right,
        y1: y(value),
        y2: y(value),
      }),
      s("text", { class: "tick end", x: EDGE.left - 8, y: y(value) + 4 }, label(value)),
    ]),
    xTicks.map((value) =>
      s("text", { class: "tick middle", x: x(value), y: HEIGHT - 16 }, compact(value)),
    ),
    s("text", { class: "tick end", x: width - EDGE.right, y: HEIGHT - 2 }, "step"),
  ];
}

function curve({ points, place }, { width, x, y }) {
  const path = (line) =>
    thinned(line, width)
      .map(([step, value], index) => `${index ? "L" : "M"}${fixed(x(step))} ${fixed(y(value))}`)
      .join("");
  const group = { class: `curve series-${place}` };
  if (points.length === 1) {
    return s("g", group, s("circle", { cx: x(points[0][0]), cy: y(points[0][1]), r: 3.5 }));
  }
  if (points.length < SMOOTH_FROM) {
    const isSparse = points.length <= 30;
    const dots = isSparse && points.map(([a, b]) => s("circle", { cx: x(a), cy: y(b), r: 2.5 }));
    return s("g", group, s("path", { d: path(points) }), dots);
  }
  const mean = smoothed(points, Math.max(5, points.length / 40));
  const raw = s("path", { class: "raw", d: path(points) });
  return s("g", group, raw, s("path", { d: path(mean) }));
}

function cursor(at, drawn, { x, y }) {
  const ends = { x1: x(at), x2: x(at), y1: EDGE.top, y2: HEIGHT - EDGE.bottom };
  const dots = drawn.map(({ points, place }) => {
    const [step, value] = points[nearest(points, at)];
    return s("circle", { class: `dot series-${place}`, cx: x(step), cy: y(value), r: 4 });
  });
  return s("g", {}, s("line", { class: "cursor", ...ends }), dots);
}

function table({ title, format }, drawn) {
  const steps = [...new Set(drawn.flatMap(({ points }) => points.map(([step]) => step)))];
  steps.sort((one, two) => one - two);
  const stride = Math.ceil(steps.length / MAX_ROWS);
  const shown = steps.filter((_, index) => index % stride === 0 || index === steps.length - 1);
  const columns = drawn.map(({ points }) => new Map(points));
  const rows = shown.map((step) =>
    h(
      "tr",
      {},
      h("th", { scope: "row", class: "number" }, whole(step)),
      columns.map((values) =>
        h("td", { class: "number" }, values.has(step) ? format(values.get(step)) : ""),
      ),
    ),
  );
  const note = stride > 1 ? `, every ${stride} of ${steps.length} points` : "";
  const names = drawn.map(({ name }) => h("th", { scope: "col", class: "number" }, name));
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": `${title}, values` },
    h(
      "table",
      {},
      h("caption", {}, title + note),
      h("thead", {}, h("tr", {}, h("th", { scope: "col", class: "number" }, "step"), names)),
      h("tbody", {}, rows),
    ),
  );
}

const fixed = (value) => value.toFixed(1);

customElements.define("line-chart", LineChart);
