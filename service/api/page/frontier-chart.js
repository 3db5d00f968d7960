/** `<frontier-chart>`: quality against bytes, a point a plan, a line a method. */

import { Chart } from "./chart.js";
import { h, render, s } from "./dom.js";
import { bytes } from "./format.js";
import { decimals, extent, linear, logarithmic, padded, powers, ticks } from "./scale.js";

const HEIGHT = 380;
const EDGE = { top: 16, right: 20, bottom: 44, left: 64 };
const SHAPES = 6;

/**
 * What it draws, given as the property `data`:
 * `{metric, isLowerBetter, points: [{method, budget, bytes, value, low, high, href, title}]}`;
 * points of one method follow each other.
 */
export class FrontierChart extends Chart {
  draw() {
    const methods = [...new Set(this.data.points.map(({ method }) => method))];
    const frame = this.#frame();
    const lines = methods.map((method, place) => {
      const points = this.data.points.filter((point) => point.method === method);
      return line(points, place, frame);
    });
    render(
      this,
      legend(methods),
      s(
        "svg",
        { width: this.width, height: HEIGHT, role: "group", "aria-label": this.#title() },
        axes(frame, this.data),
        lines,
      ),
    );
  }

  #title() {
    const direction = this.data.isLowerBetter ? "lower" : "higher";
    return `${this.data.metric} against bytes of training; ${direction} and left is better`;
  }

  #frame() {
    const { points } = this.data;
    const [low, high] = extent(points.map((point) => point.bytes));
    const xs = [low / 1.25, high * 1.25];
    const ys = padded(extent(points.flatMap(({ low, high, value }) => [low, high, value])), 0.08);
    return {
      width: this.width,
      x: logarithmic(xs, [EDGE.left, this.width - EDGE.right]),
      y: linear(ys, [HEIGHT - EDGE.bottom, EDGE.top]),
      xTicks: powers(xs, Math.max(3, this.width / 110)),
      yTicks: ticks(ys, 6),
    };
  }
}

/** Swatches with the shape and the colour of each method. */
function legend(methods) {
  const items = methods.map((method, place) =>
    h(
      "li",
      {},
      s(
        "svg",
        { class: `mark series-${place % 8}`, width: 14, height: 14, "aria-hidden": "true" },
        mark(place, 7, 7),
      ),
      method,
    ),
  );
  return h("ul", { class: "legend" }, items);
}

function line(points, place, { x, y }) {
  const ordered = [...points].sort((one, two) => one.bytes - two.bytes);
  const path = ordered
    .map((point, index) => `${index ? "L" : "M"}${x(point.bytes)} ${y(point.value)}`)
    .join("");
  return s(
    "g",
    { class: `series-${place % 8}` },
    s("path", { class: "frontier-line", d: path }),
    ordered.map((point) => spread(point, x, y)),
    ordered.map((point) => dot(point, place, x(point.bytes), y(point.value))),
  );
}

function spread({ bytes: size, low, high }, x, y) {
  if (low == null || high == null || low === high) return null;
  const [across, cap] = [x(size), 4];
  const bar = `M${across} ${y(low)}V${y(high)}`;
  const caps = [low, high].map((end) => `M${across - cap} ${y(end)}H${across + cap}`).join("");
  return s("path", { class: "spread", d: bar + caps });
}

/** A point; a link where its run is known. */
function dot({ href, title }, place, across, down) {
  const target = s("circle", { class: "target", cx: across, cy: down, r: 13 });
  const drawn = [target, mark(place, across, down), s("title", {}, title)];
  if (!href) return s("g", { class: "mark", role: "img", "aria-label": title }, drawn);
  return s("a", { class: "mark", href, "aria-label": title }, drawn);
}

/** Methods differ by shape too, for those who see no colours. */
function mark(place, across, down) {
  const size = 5.5;
  const at = (angle, radius) => {
    const [x, y] = [across + radius * Math.sin(angle), down - radius * Math.cos(angle)];
    return `${x.toFixed(1)} ${y.toFixed(1)}`;
  };
  const polygon = (corners, turn, radius) =>
    Array.from({ length: corners }, (_, index) =>
      at(turn + (2 * Math.PI * index) / corners, radius),
    );
  const shape = (corners, turn = 0, radius = size * 1.15) =>
    s("path", { class: "shape", d: `M${polygon(corners, turn, radius).join("L")}Z` });
  const shapes = [
    () => s("circle", { class: "shape", cx: across, cy: down, r: size }),
    () => shape(4, Math.PI / 4),
    () => shape(3, 0, size * 1.3),
    () => shape(4),
    () => shape(3, Math.PI, size * 1.3),
    () => shape(5),
  ];
  return shapes[place % SHAPES]();
}

function axes({ width, x, y, xTicks, yTicks }, { metric, isLowerBetter }) {
  const digits = decimals(yTicks);
  const base = HEIGHT - EDGE.bottom;
  return s(
    "g",
    { "aria-hidden": "true" },
    yTicks.map((value) => [
      s("line", {
        class: "grid",
        x1: EDGE.left,
        x2: width - EDGE.right,
        y1: y(value),
        y2: y(value),
      }),
      s("text", { class: "tick end", x: EDGE.left - 8, y: y(value) + 4 }, value.toFixed(digits)),
    ]),
    xTicks.map((value) => [
      s("line", { class: "grid", x1: x(value), x2: x(value), y1: EDGE.top, y2: base }),
      s(
        "text",
        { class: "tick middle", x: x(value), y: base + 18 },
        bytes(value).replace(/\.0+ /, " "),
      ),
    ]),
    s("text", { class: "tick end", x: width - EDGE.right, y: HEIGHT - 6 }, "bytes of training"),
    s(
      "text",
      { class: "tick", x: 4, y: HEIGHT - 6 },
      `${metric}, ${isLowerBetter ? "lower" : "higher"} is better`,
    ),
  );
}

customElements.define("frontier-chart", FrontierChart);
