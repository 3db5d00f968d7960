/** One run: its scores, curves, tables, placement, configuration and files. */

import { call, callIfThere, download, poll } from "../api.js";
import { h, render } from "../dom.js";
import { bytes, plain, score, whole } from "../format.js";
import { Metrics, curves } from "../panels/curves.js";
import { explainPanel, placementPanel } from "../panels/tables.js";
import { badge, crumbs, dataTable, empty, tabPanel, tabs, tiles } from "../parts.js";

const SECONDS = 2;
const LAZY_SECONDS = 30;
const TABS = [
  ["curves", "Curves"],
  ["tables", "Tables"],
  ["placement", "Placement"],
  ["config", "Settings"],
  ["files", "Files"],
];

/** The page of a run, live while it trains. */
export async function showRun({ main, params: [name, wanted], signal, notice }) {
  const chosen = TABS.some(([id]) => id === wanted) ? wanted : "curves";
  const state = { name, chosen, order: {}, metrics: new Metrics(name) };
  document.title = `${name} · MixDim`;
  state.redraw = () => !signal.aborted && render(main, view(state));
  const refresh = async () => {
    state.run = await call(`runs/${name}`, { signal });
    await fetchPanel(state, signal);
    state.redraw();
    return state.run.state === "running" ? SECONDS : LAZY_SECONDS;
  };
  await poll(SECONDS, signal, refresh, { lost: notice, found: () => notice(null) });
}

async function fetchPanel(state, signal) {
  const { name, chosen, metrics } = state;
  if (chosen === "curves") await metrics.refresh(signal);
  else if (chosen === "tables")
    state.explain ??= await callIfThere(`runs/${name}/explain`, { signal });
  else if (chosen === "placement") {
    state.placement ??= await callIfThere(`runs/${name}/placement`, { signal });
  } else if (chosen === "files") state.files = await call(`runs/${name}/files`, { signal });
}

function view(state) {
  const { run, name, chosen } = state;
  return [
    crumbs("#/runs", "Runs"),
    h(
      "div",
      { class: "page-head" },
      h("h1", {}, name, badge(run.state)),
      run.job &&
        h(
          "div",
          { class: "actions" },
          h("a", { class: "button", href: `#/jobs/${run.job}` }, "Its job"),
        ),
    ),
    tiles(scoreTiles(run)),
    tabs("Parts of the run", TABS, chosen, (tab) => `#/runs/${name}/${tab}`),
    tabPanel(TABS, chosen, panel(state)),
  ];
}

/** The scores of the test split, and what the tables take. */
export function scoreTiles({ scores, bytes: size }) {
  const of = (name) => (scores?.[name] == null ? null : score(scores[name]));
  return [
    ["AUC", of("auc")],
    ["Log loss", of("log_loss")],
    ["Normalised entropy", of("ne")],
    ["Calibration", of("calibration")],
    ["MSE", of("mse")],
    ["RMSE", of("rmse")],
    ["Bytes of training", size == null ? null : bytes(size)],
    ["Examples scored", scores?.num_rows == null ? null : whole(scores.num_rows)],
  ];
}

function panel(state) {
  const { chosen, name } = state;
  if (chosen === "curves") return curves([[name, state.metrics]]);
  if (chosen === "tables") return explainPanel(state.explain, state, state.redraw);
  if (chosen === "placement") return placementPanel(state.placement);
  if (chosen === "config") return configuration(state.run.config);
  return files(name, state.files?.items ?? state.files);
}

/** Names and values of a configuration at every depth: `optimizer.sparse_lr`. */
export function flat(value, prefix = "") {
  const isTree = value && typeof value === "object" && !Array.isArray(value);
  if (!isTree || !Object.keys(value).length) return prefix ? [[prefix, plain(value)]] : [];
  return Object.entries(value).flatMap(([name, inner]) =>
    flat(inner, prefix ? `${prefix}.${name}` : name),
  );
}

function configuration(config) {
  const columns = [
    { title: "Setting", isHead: true, cell: ([name]) => h("code", {}, name) },
    { title: "Value", cell: ([, value]) => h("code", {}, value) },
  ];
  const rows = flat(config);
  if (!rows.length) return empty("No configuration", "It is written when the training starts.");
  return dataTable("Configuration", columns, rows, { key: ([name]) => name });
}

function files(run, items) {
  if (!items?.length) return empty("No files yet", "They appear as the training writes them.");
  const columns = [
    { title: "File", isHead: true, cell: ({ path }) => h("code", {}, path) },
    { title: "Size", isNumber: true, cell: (file) => bytes(file.bytes) },
    {
      title: "Save",
      isUnseen: true,
      cell: ({ path }) =>
        h(
          "button",
          {
            type: "button",
            "aria-label": `Save ${path}`,
            on: { click: () => download(`runs/${run}/files/${path}`, path.split("/").at(-1)) },
          },
          "Save",
        ),
    },
  ];
  return dataTable("Files of the run", columns, items, { key: ({ path }) => path });
}
