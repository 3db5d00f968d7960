/** Two runs: scores and their differences, curves over each other, configurations side by side. */

import { call, callIfThere, poll } from "../api.js";
import { h, render } from "../dom.js";
import { bytes, score, signed } from "../format.js";
import { Metrics, curves } from "../panels/curves.js";
import { badge, crumbs, dataTable, empty } from "../parts.js";
import { flat } from "./run.js";

const SECONDS = 3;
const LAZY_SECONDS = 30;
const SCORES = [
  ["AUC", "auc", true],
  ["Log loss", "log_loss", false],
  ["Normalised entropy", "ne", false],
  ["MSE", "mse", false],
  ["RMSE", "rmse", false],
];
// What names a place rather than a choice differs always.
const PLACES = new Set(["output", "metrics_port"]);

/** The comparison, live while one of the two trains. */
export async function showCompare({ main, params: names, signal, notice }) {
  document.title = `${names.join(" and ")} · MixDim`;
  const metrics = names.map((name) => new Metrics(name));
  const state = { names, metrics, isWhole: false };
  const redraw = () => !signal.aborted && render(main, view(state, toggle));
  const toggle = (event) => {
    state.isWhole = event.target.checked;
    redraw();
  };
  const refresh = async () => {
    state.runs = await Promise.all(names.map((name) => call(`runs/${name}`, { signal })));
    await Promise.all(metrics.map((one) => one.refresh(signal)));
    state.widths ??= await widths(names, signal);
    redraw();
    return state.runs.some((run) => run.state === "running") ? SECONDS : LAZY_SECONDS;
  };
  await poll(SECONDS, signal, refresh, { lost: notice, found: () => notice(null) });
}

/** Used widths of both plans by table; null until both have one. */
async function widths(names, signal) {
  const tables = await Promise.all(
    names.map((name) => callIfThere(`runs/${name}/explain`, { signal })),
  );
  if (!tables.every((rows) => rows?.length)) return null;
  return tables.map((rows) => Map.groupBy(rows, ({ field }) => field));
}

function view({ names, runs, metrics, widths: of, isWhole }, toggle) {
  return [
    crumbs("#/runs", "Runs"),
    h("div", { class: "page-head" }, h("h1", {}, "Comparison")),
    h(
      "ul",
      { class: "versus" },
      runs.map((run, place) =>
        h(
          "li",
          { key: run.name },
          h("i", { class: `swatch series-${place}` }),
          h("a", { href: `#/runs/${run.name}` }, run.name),
          badge(run.state),
        ),
      ),
    ),
    h("h2", {}, "Scores"),
    scoreTable(runs),
    h("h2", {}, "Curves"),
    curves(names.map((name, place) => [name, metrics[place]])),
    h("h2", {}, "Widths"),
    of ? widthTable(names, of) : empty("No plans to compare", "Both runs need to have started."),
    h(
      "div",
      { class: "page-head" },
      h("h2", {}, "Configuration"),
      h(
        "label",
        { class: "check" },
        h("input", { type: "checkbox", checked: isWhole, on: { change: toggle } }),
        h("span", {}, "Also what is the same"),
      ),
    ),
    configTable(names, runs, isWhole),
  ];
}

function scoreTable(runs) {
  const rows = SCORES.map(([title, name, isHigher]) => {
    const [one, two] = runs.map((run) => run.scores?.[name]);
    return { title, one, two, isHigher, format: score, difference: (by) => signed(by) };
  });
  const [one, two] = runs.map((run) => run.bytes);
  rows.push({
    title: "Bytes of training",
    one,
    two,
    isHigher: false,
    format: bytes,
    difference: share,
  });
  const shown = rows.filter((row) => row.one != null || row.two != null);
  const columns = [
    { title: "Score", isHead: true, cell: (row) => row.title },
    { title: runs[0].name, isNumber: true, cell: (row) => row.format(row.one) },
    { title: runs[1].name, isNumber: true, cell: (row) => row.format(row.two) },
    { title: "Difference", isNumber: true, cell: difference },
  ];
  return dataTable("Scores of the test split", columns, shown, { key: (row) => row.title });
}

function difference({ one, two, isHigher, difference: text }) {
  if (one == null || two == null) return "–";
  if (one === two) return "same";
  const isBetter = two > one === isHigher;
  const verdict = isBetter ? "better" : "worse";
  return h(
    "span",
    { class: `verdict ${verdict}` },
    text(two - one, one, two),
    h("small", {}, verdict),
  );
}

const share = (_, one, two) => (one ? `${signed((100 * (two - one)) / one, 1)} %` : "–");

function widthTable(names, [one, two]) {
  const text = (tables) => tables?.map(({ used }) => used).join(" + ") ?? "–";
  const size = (tables) => tables?.reduce((sum, table) => sum + table.bytes, 0);
  const rows = [...new Set([...one.keys(), ...two.keys()])].map((field) => ({
    field,
    widths: [text(one.get(field)), text(two.get(field))],
    sizes: [size(one.get(field)), size(two.get(field))],
  }));
  const columns = [
    { title: "Field", isHead: true, cell: (row) => row.field },
    ...names.map((name, place) => ({
      title: name,
      isNumber: true,
      cell: ({ widths: of }) => marked(of[place], of[0] !== of[1]),
    })),
    {
      title: "Difference in bytes",
      isNumber: true,
      cell: ({ sizes: [a, b] }) => (a === b ? "same" : b > a ? `+${bytes(b - a)}` : bytes(b - a)),
    },
  ];
  return dataTable("Used widths by field", columns, rows, { key: (row) => row.field });
}

function configTable(names, runs, isWhole) {
  const [one, two] = runs.map((run) => new Map(flat(run.config)));
  const rows = [...new Set([...one.keys(), ...two.keys()])]
    .map((name) => ({ name, values: [one.get(name), two.get(name)] }))
    .filter(({ name, values: [a, b] }) => isWhole || (a !== b && !PLACES.has(name)));
  if (!rows.length) return empty("Nothing differs", "Both runs were configured alike.");
  const columns = [
    { title: "Setting", isHead: true, cell: (row) => h("code", {}, row.name) },
    ...names.map((run, place) => ({
      title: run,
      cell: ({ values }) => marked(h("code", {}, values[place] ?? "–"), values[0] !== values[1]),
    })),
  ];
  return dataTable("Configurations", columns, rows, { key: (row) => row.name });
}

/** A value that differs from the other run's, for eyes and for ears. */
function marked(value, isOther) {
  return isOther ? h("mark", {}, value, h("span", { class: "unseen" }, " (differs)")) : value;
}
