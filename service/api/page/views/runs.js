/** All runs: what was trained, how good and how large it is; two of them lead to a comparison. */

import { call, poll } from "../api.js";
import { h, render } from "../dom.js";
import { STATES, choiceFilter, filters, nameFilter } from "../filters.js";
import { bytes, score } from "../format.js";
import { badge, dataTable, empty } from "../parts.js";

const PAGE = 50;
const SECONDS = 10;

/** The list, with a choice of two. */
export async function showRuns({ main, query, signal, notice }) {
  const state = { chosen: [], items: [], query };
  const asked = Object.fromEntries(["cursor", "name", "state"].map((key) => [key, query.get(key)]));
  const redraw = () => !signal.aborted && render(main, view(state, toggle));
  const toggle = (name) => {
    const others = state.chosen.filter((other) => other !== name);
    state.chosen = others.length < state.chosen.length ? others : [...others.slice(-1), name];
    redraw();
  };
  const refresh = async () => {
    const page = await call("runs", { query: { limit: PAGE, ...asked }, signal });
    Object.assign(state, { items: page.items, next: page.next_cursor });
    redraw();
  };
  await poll(SECONDS, signal, refresh, { lost: notice, found: () => notice(null) });
}

function view({ items, chosen, next, query }, toggle) {
  const choose = (change) => {
    location.hash = address(query, { cursor: null, ...change });
  };
  return [
    h("div", { class: "page-head" }, h("h1", {}, "Runs")),
    filters(
      "Runs",
      choiceFilter("state", "State", STATES, query, choose),
      nameFilter(query, choose),
    ),
    items.length > 1 && chooser(chosen),
    items.length
      ? dataTable("Runs, by name", columns(chosen, toggle), items, { key: (run) => run.name })
      : nothing(query.get("name") || query.get("state")),
    (next || query.has("cursor")) && paging(query, next),
  ];
}

function nothing(isFiltered) {
  const link = (title, address) => h("a", { class: "button", href: address }, title);
  return isFiltered
    ? empty("No run matches", "Choose other filters, or none.", link("Show all runs", "#/runs"))
    : empty(
        "No runs yet",
        "A run is what a train job leaves behind.",
        link("Train a model", "#/submit/train"),
      );
}

/** Of the same list with other filters, or another page of it. */
function address(query, changes) {
  const next = new URLSearchParams(query);
  for (const [name, value] of Object.entries(changes)) {
    if (value) next.set(name, value);
    else next.delete(name);
  }
  return next.size ? `#/runs?${next}` : "#/runs";
}

function chooser(chosen) {
  const [one, two] = chosen;
  const text = two
    ? `${one} and ${two}`
    : one
      ? `${one} and …`
      : "Tick two runs to see them side by side.";
  return h(
    "div",
    { class: "chooser" },
    h("p", { role: "status" }, text),
    two
      ? h("a", { class: "button main", href: `#/compare/${one}/${two}` }, "Compare")
      : h("button", { type: "button", disabled: true }, "Compare"),
  );
}

function columns(chosen, toggle) {
  return [
    {
      title: "Compare",
      isUnseen: true,
      cell: ({ name }) =>
        h("input", {
          type: "checkbox",
          "aria-label": `compare ${name}`,
          checked: chosen.includes(name),
          on: { change: () => toggle(name) },
        }),
    },
    {
      title: "Run",
      isHead: true,
      cell: ({ name, preset, network }) => [
        h("a", { href: `#/runs/${name}` }, name),
        (preset ?? network) && h("small", { class: "verb" }, preset ?? network),
      ],
    },
    { title: "State", cell: ({ state }) => badge(state) },
    { title: "Quality", isNumber: true, cell: ({ scores }) => quality(scores) },
    { title: "Log loss", isNumber: true, cell: ({ scores }) => score(scores?.log_loss) },
    { title: "Bytes", isNumber: true, cell: (run) => bytes(run.bytes) },
    { title: "Dataset", cell: ({ data }) => data ?? "–" },
    { title: "Owner", cell: ({ owner }) => owner ?? "–" },
  ];
}

/** AUC of clicks, MSE of ratings. */
function quality(scores) {
  if (scores?.auc != null) return `AUC ${score(scores.auc)}`;
  return scores?.mse != null ? `MSE ${score(scores.mse)}` : "–";
}

function paging(query, next) {
  const link = (title, cursor) =>
    h("a", { class: "button", href: address(query, { cursor }) }, title);
  return h(
    "nav",
    { class: "paging", "aria-label": "Pages" },
    query.has("cursor") && link("First page", null),
    next && link("Next page", next),
  );
}
