/** Frontiers: quality against bytes over methods and budgets, with the spread over seeds. */

import { call, callAll, poll } from "../api.js";
import { h, render } from "../dom.js";
import { bytes, score } from "../format.js";
import { pointPanel } from "../panels/point.js";
import { crumbs, dataTable, empty, nextOrder, sorted } from "../parts.js";
import "../frontier-chart.js";

const SECONDS = 15;
const LOWER_IS_BETTER = new Set(["mse", "rmse", "log_loss", "ne"]);
const TITLES = { auc: "AUC", mse: "MSE", rmse: "RMSE", log_loss: "Log loss", ne: "NE" };
const LEAD =
  "Every point is a plan: what its tables take, and how good the model is on the test split. " +
  "Bars are the 95 % interval over seeds. A point leads to its runs.";
/** Where points are from: a comparison's folder, or the runs on a dataset. */
const SOURCES = {
  of: (name) => `frontiers/${name}`,
  on: (name) => `datasets/${name}/frontier`,
};

/** Comparisons, and datasets whose runs make a frontier by themselves. */
export async function showFrontiers({ main, signal, notice }) {
  const refresh = async () => {
    const [compared, data] = await Promise.all(
      ["frontiers", "datasets"].map((kind) => callAll(kind, { signal })),
    );
    if (!signal.aborted) render(main, overview(compared, data));
  };
  await poll(SECONDS, signal, refresh, { lost: notice, found: () => notice(null) });
}

function overview(compared, data) {
  const list = (title, kind, items) => {
    const link = ({ name }) => h("a", { href: `#/frontiers/${kind}/${name}` }, name);
    return dataTable(title, [{ title, isHead: true, cell: link }], items, {
      key: (row) => row.name,
    });
  };
  return [
    h("div", { class: "page-head" }, h("h1", {}, "Frontiers")),
    h("p", { class: "lead" }, "How good models are against how many bytes their tables take."),
    data.length
      ? list("All runs on a dataset", "on", data)
      : empty("No dataset yet", "A `prepare` job makes one from raw logs."),
    compared.length
      ? list("Comparisons", "of", compared)
      : empty(
          "No comparison yet",
          "`mixdim compare` trains sizings, budgets and seeds side by side.",
        ),
  ];
}

/** One frontier: the picture, the table beside it, and the point that was chosen. */
export async function showFrontier({ main, params: [kind, name, chosen], signal, notice }) {
  document.title = `${name} · MixDim`;
  const state = { kind, name, chosen: chosen && Number(chosen), points: [], order: {} };
  state.redraw = () => !signal.aborted && render(main, view(state));
  const refresh = async () => {
    const points = await call(SOURCES[kind](name), { signal });
    const isMixed = new Set(points.map(({ recipe }) => recipe)).size > 1;
    state.points = points.map((point, index) => described(point, index, state, isMixed));
    state.redraw();
  };
  await poll(SECONDS, signal, refresh, { lost: notice, found: () => notice(null) });
}

/** A point with what chart and table say of it, and where it leads. */
function described(point, index, { kind, name }, isMixed) {
  const method = isMixed ? `${point.recipe}, ${point.method}` : point.method;
  const metric = TITLES[point.metric] ?? point.metric;
  const figures = `${metric} ${score(point.value)}, ${bytes(point.bytes)}`;
  const only = point.runs.length === 1 && point.runs[0].run;
  return {
    ...point,
    method,
    index,
    href: only ? `#/runs/${only}` : `#/frontiers/${kind}/${name}/${index}`,
    title: `${method}, ${point.budget || "own bytes"}: ${figures}`,
  };
}

function view(state) {
  const { kind, name, points, chosen } = state;
  const title = kind === "on" ? `All runs on ${name}` : name;
  const head = [
    crumbs("#/frontiers", "Frontiers"),
    h("div", { class: "page-head" }, h("h1", {}, title)),
  ];
  if (!points.length) {
    return [...head, empty("No point yet", "A point appears when the first run has its scores.")];
  }
  const [{ metric }] = points;
  const isLowerBetter = LOWER_IS_BETTER.has(metric);
  const data = { metric: TITLES[metric] ?? metric, isLowerBetter, points };
  return [
    ...head,
    h("p", { class: "lead" }, LEAD),
    h("div", { class: "beside" }, h("frontier-chart", { data }), pointTable(state, data)),
    points[chosen] && pointPanel(points[chosen], data.metric),
  ];
}

function pointTable(state, { metric, points }) {
  const link = ({ href, method, index }) =>
    h("a", { href, "aria-current": index === state.chosen ? "true" : null }, method);
  const columns = [
    { title: "Method", isHead: true, cell: link, sort: (row) => row.method },
    { title: "Budget", cell: (row) => row.budget || "own" },
    { title: "Bytes", isNumber: true, cell: (row) => bytes(row.bytes), sort: (row) => row.bytes },
    { title: metric, isNumber: true, cell: valueCell, sort: (row) => row.value },
    { title: "Seeds", isNumber: true, cell: (row) => String(row.n) },
  ];
  const sort = (column) => {
    state.order = nextOrder(state.order, column, columns);
    state.redraw();
  };
  const rows = sorted(points, columns, state.order);
  const how = { key: (row) => row.index, order: state.order, sort };
  return dataTable("Points of the frontier", columns, rows, how);
}

function valueCell({ value, sd, n }) {
  return n > 1 && sd != null ? [score(value), h("small", {}, `± ${score(sd)}`)] : score(value);
}
