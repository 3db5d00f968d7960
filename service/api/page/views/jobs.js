/** All jobs: what runs, how far it is, what has ended how. */

import { call, poll } from "../api.js";
import { h, render } from "../dom.js";
import { STATES, choiceFilter, filters, nameFilter } from "../filters.js";
import { duration, elapsed } from "../format.js";
import { badge, dataTable, empty, progressBar, since } from "../parts.js";

const VERBS = ["prepare", "size", "search", "train", "evaluate", "compare", "export"];
const PAGE = 25;
const SECONDS = 2;

const COLUMNS = [
  {
    title: "Job",
    isHead: true,
    cell: (job) => [
      h("a", { href: `#/jobs/${job.id}` }, job.name),
      h("small", { class: "verb" }, job.verb),
    ],
  },
  { title: "State", cell: (job) => badge(job.state) },
  { title: "Progress", cell: (job) => progressBar(job) },
  { title: "Owner", cell: (job) => job.owner },
  {
    title: "Submitted",
    cell: (job) => since(job.created_at),
  },
  {
    title: "Took",
    isNumber: true,
    cell: (job) => duration(elapsed(job.started_at, job.ended_at)),
  },
];

/** The list, refreshed while it is looked at. */
export async function showJobs({ main, query, signal, me, notice }) {
  const cursors = query.get("cursors")?.split(",") ?? [];
  const asked = { state: query.get("state"), verb: query.get("verb"), name: query.get("name") };
  asked.owner = query.get("mine") ? me.name : null;
  const go = (changes) => {
    const next = new URLSearchParams(query);
    if (!("cursors" in changes)) next.delete("cursors"); // another filter starts at its first page
    for (const [name, value] of Object.entries(changes)) {
      if (value) next.set(name, value);
      else next.delete(name);
    }
    location.hash = next.size ? `#/jobs?${next}` : "#/jobs";
  };
  const refresh = async () => {
    const ask = { ...asked, limit: PAGE, cursor: cursors.at(-1) };
    const page = await call("jobs", { query: ask, signal });
    if (!signal.aborted) render(main, view(page, { query, cursors, go, me }));
  };
  await poll(SECONDS, signal, refresh, { lost: notice, found: () => notice(null) });
}

function view({ items, next_cursor: next }, { query, cursors, go, me }) {
  const isFiltered = ["state", "verb", "name", "mine"].some((name) => query.get(name));
  const submit = h("a", { class: "button main", href: "#/submit" }, "Submit a job");
  const list = items.length
    ? dataTable("Jobs, newest first", COLUMNS, items, { key: (job) => job.id })
    : isFiltered
      ? empty("No job matches", "Choose other filters, or none.", clear())
      : empty(
          "No jobs yet",
          "What is submitted here or with `mixdim submit` is listed here.",
          me.role !== "viewer" && submit,
        );
  return [
    h(
      "div",
      { class: "page-head" },
      h("h1", {}, "Jobs"),
      me.role !== "viewer" && submit.cloneNode(true),
    ),
    filterBar(query, go),
    list,
    paging(cursors, next, go),
  ];
}

const clear = () => h("a", { class: "button", href: "#/jobs" }, "Show all jobs");

function filterBar(query, go) {
  const mine = h("input", {
    type: "checkbox",
    checked: Boolean(query.get("mine")),
    on: { change: (event) => go({ mine: event.target.checked ? "1" : "" }) },
  });
  return filters(
    "Jobs",
    choiceFilter("state", "State", STATES, query, go),
    choiceFilter("verb", "Verb", VERBS, query, go),
    nameFilter(query, go),
    h("label", { class: "check" }, mine, h("span", {}, "Only mine")),
  );
}

function paging(cursors, next, go) {
  if (!cursors.length && !next) return null;
  const button = (title, isPossible, to) =>
    h(
      "button",
      { type: "button", disabled: !isPossible, on: { click: () => go({ cursors: to }) } },
      title,
    );
  return h(
    "nav",
    { class: "paging", "aria-label": "Pages" },
    button("Newer", cursors.length > 0, cursors.slice(0, -1).join(",")),
    h("span", {}, `Page ${cursors.length + 1}`),
    button("Older", Boolean(next), [...cursors, next].join(",")),
  );
}
