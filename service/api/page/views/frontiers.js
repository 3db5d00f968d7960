/** Frontiers: quality against bytes over methods and budgets, with the spread over seeds. */

import { call, poll } from "../api.js";
import { h, render } from "../dom.js";
import { bytes, score } from "../format.js";
import { crumbs, dataTable, empty, nextOrder, sorted } from "../parts.js";
import "../frontier-chart.js";

const SECONDS = 15;
const LOWER_IS_BETTER = new Set(["mse", "rmse", "log_loss", "ne"]);
const LEAD =
  "Every point is a plan: what its tables take, and how good the model is on the test split. " +
  "Bars are the 95 % interval over seeds.";
const TITLES = { auc: "AUC", mse: "MSE", rmse: "RMSE", log_loss: "Log loss", ne: "NE" };

/** The list of comparisons. */
export async function showFrontiers({ main, signal, notice }) {
  const columns = [
    {
      title: "Frontier",
      isHead: true,
      cell: ({ name }) => h("a", { href: `#/frontiers/${name}` }, name),
    },
    { title: "Points", isNumber: true, cell: ({ points }) => String(points ?? "–") },
  ];
  const refresh = async () => {
    const answer = await call("frontiers", { signal });
    const items = answer.items ?? answer;
    const list = items.length
      ? dataTable("Frontiers", columns, items, { key: ({ name }) => name })
      : empty(
          "No frontiers yet",
          "A `compare` job trains several sizings and budgets and draws quality against bytes.",
        );
    if (!signal.aborted)
      render(main, h("div", { class: "page-head" }, h("h1", {}, "Frontiers")), list);
  };
  await poll(SECONDS, signal, refresh, { lost: notice, found: () => notice(null) });
}

/** One comparison: the picture, and the table beside it. */
export async function showFrontier({ main, params: [name], signal, notice }) {
  document.title = `${name} · MixDim`;
  const state = { name, points: [], order: {} };
  state.redraw = () => !signal.aborted && render(main, view(state));
  const refresh = async () => {
    const answer = await call(`frontiers/${name}`, { signal });
    state.points = (answer.points ?? answer).map(point);
    state.redraw();
  };
  await poll(SECONDS, signal, refresh, { lost: notice, found: () => notice(null) });
}

/** What chart and table say of a point. */
function point({ method, budget, bytes: size, metric, value, low, high, sd, n, run }) {
  const figure = `${TITLES[metric] ?? metric} ${score(value)}, ${bytes(size)}`;
  const text = `${method}, ${budget || "own bytes"}: ${figure}`;
  return {
    ...{ method, budget, bytes: size, metric, value, low, high, sd, n, run },
    href: run ? `#/runs/${run}` : null,
    title: run ? `${text}, run ${run}` : text,
  };
}

function view(state) {
  const { name, points } = state;
  const head = [
    crumbs("#/frontiers", "Frontiers"),
    h("div", { class: "page-head" }, h("h1", {}, name)),
  ];
  if (!points.length) {
    return [
      ...head,
      empty("No point yet", "A point appears when the first run of the comparison has ended."),
    ];
  }
  const { metric } = points[0];
  const data = {
    metric: TITLES[metric] ?? metric,
    isLowerBetter: LOWER_IS_BETTER.has(metric),
    points,
  };
  return [
    ...head,
    h("p", { class: "lead" }, LEAD),
    h("div", { class: "beside" }, h("frontier-chart", { data }), pointTable(state, data)),
  ];
}

function pointTable(state, { metric, points }) {
  const columns = [
    {
      title: "Method",
      isHead: true,
      cell: (row) => (row.href ? h("a", { href: row.href }, row.method) : row.method),
      sort: (row) => row.method,
    },
    { title: "Budget", cell: (row) => row.budget || "own" },
    { title: "Bytes", isNumber: true, cell: (row) => bytes(row.bytes), sort: (row) => row.bytes },
    { title: metric, isNumber: true, cell: valueCell, sort: (row) => row.value },
    { title: "Seeds", isNumber: true, cell: (row) => String(row.n ?? 1) },
  ];
  const sort = (column) => {
    state.order = nextOrder(state.order, column, columns);
    state.redraw();
  };
  const rows = sorted(points, columns, state.order);
  const how = {
    key: (row) => `${row.method} ${row.budget} ${row.bytes}`,
    order: state.order,
    sort,
  };
  return dataTable("Points of the frontier", columns, rows, how);
}

function valueCell({ value, sd, n }) {
  return n > 1 && sd != null ? [score(value), h("small", {}, ` ± ${score(sd)}`)] : score(value);
}
