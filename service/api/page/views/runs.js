/** All runs: what was trained, how good and how large it is; two of them lead to a comparison. */

import { call, poll } from "../api.js";
import { h, render } from "../dom.js";
import { bytes, score } from "../format.js";
import { badge, dataTable, empty } from "../parts.js";

const PAGE = 50;
const SECONDS = 10;

/** The list, with a choice of two. */
export async function showRuns({ main, query, signal, notice }) {
  const state = { chosen: [], items: [] };
  const cursor = query.get("cursor");
  const redraw = () => !signal.aborted && render(main, view(state, cursor, toggle));
  const toggle = (name) => {
    const others = state.chosen.filter((other) => other !== name);
    state.chosen = others.length < state.chosen.length ? others : [...others.slice(-1), name];
    redraw();
  };
  const refresh = async () => {
    const page = await call("runs", { query: { limit: PAGE, cursor }, signal });
    Object.assign(state, { items: page.items, next: page.next_cursor });
    redraw();
  };
  await poll(SECONDS, signal, refresh, { lost: notice, found: () => notice(null) });
}

function view({ items, chosen, next }, cursor, toggle) {
  const list = items.length
    ? dataTable("Runs, by name", columns(chosen, toggle), items, { key: (run) => run.name })
    : empty(
        "No runs yet",
        "A run is what a train job leaves behind.",
        h("a", { class: "button", href: "#/submit/train" }, "Train a model"),
      );
  return [
    h("div", { class: "page-head" }, h("h1", {}, "Runs")),
    items.length > 1 && chooser(chosen),
    list,
    (next || cursor) && paging(cursor, next),
  ];
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

function paging(cursor, next) {
  return h(
    "nav",
    { class: "paging", "aria-label": "Pages" },
    cursor && h("a", { class: "button", href: "#/runs" }, "First page"),
    next &&
      h(
        "a",
        { class: "button", href: `#/runs?${new URLSearchParams({ cursor: next })}` },
        "Next page",
      ),
  );
}
