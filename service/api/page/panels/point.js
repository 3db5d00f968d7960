/** One point of a frontier: its figures, its runs by seed, and how wide its tables are. */

import { h } from "../dom.js";
import { bytes, compact, duration, score, whole } from "../format.js";
import { dataTable, tiles } from "../parts.js";

/** The point that a reader has chosen. */
export function pointPanel(point, metric) {
  const { method, budget, value, low, high, n, bytes: size, serving_bytes: served } = point;
  const interval = n > 1 ? `${score(low)} to ${score(high)}` : null;
  return h(
    "section",
    { class: "point", "aria-labelledby": "chosen-point" },
    h("h2", { id: "chosen-point" }, [method, budget].filter(Boolean).join(", ")),
    tiles([
      [metric, score(value), interval],
      ["Bytes of training", bytes(size)],
      ["Bytes when served", served == null ? null : bytes(served)],
    ]),
    point.runs.length > 0 && runTable(point.runs, metric),
    widthTable(point.widths),
  );
}

function runTable(runs, metric) {
  const columns = [
    {
      title: "Run",
      isHead: true,
      cell: ({ run, seed }) => (run ? h("a", { href: `#/runs/${run}` }, run) : `seed ${seed}`),
    },
    { title: "Seed", isNumber: true, cell: ({ seed }) => String(seed) },
    { title: metric, isNumber: true, cell: ({ value }) => score(value) },
    { title: "Steps", isNumber: true, cell: ({ steps }) => whole(steps) },
    { title: "Examples/s", isNumber: true, cell: (run) => compact(run.examples_per_second) },
    { title: "Took", isNumber: true, cell: ({ seconds }) => duration(seconds) },
  ];
  const isKnown = ({ title }) => title !== "Took" || runs.some(({ seconds }) => seconds != null);
  const how = { key: ({ seed, run }) => `${run} ${seed}` };
  return dataTable("Runs of the point", columns.filter(isKnown), runs, how);
}

/** Fields by how wide they are, the widest first. */
function widthTable(widths) {
  const alike = Map.groupBy(Object.entries(widths), ([, blocks]) => blocks.join(" + "));
  const rows = [...alike].map(([width, fields]) => ({
    width,
    fields: fields.map(([name]) => name),
  }));
  rows.sort((one, two) => parseInt(two.width, 10) - parseInt(one.width, 10));
  const columns = [
    { title: "Width", isHead: true, cell: ({ width }) => width },
    { title: "Fields", isNumber: true, cell: ({ fields }) => String(fields.length) },
    { title: "Which", cell: ({ fields }) => fields.join(", ") },
  ];
  return dataTable("Widths of the plan", columns, rows, { key: ({ width }) => width });
}
