/** One job: how far it is, what it says, what it trains. */

import { call, callIfThere, poll } from "../api.js";
import { h, render } from "../dom.js";
import { duration, elapsed, moment } from "../format.js";
import { Metrics, curves } from "../panels/curves.js";
import "../panels/log-view.js";
import { explainPanel, placementPanel } from "../panels/tables.js";
import { badge, crumbs, errorNote, facts, isFinal, progressBar, tabPanel, tabs } from "../parts.js";

const SECONDS = 2;
const LAZY_SECONDS = 20; // an ended job only changes when somebody retries it
const OF_RUN = [
  ["curves", "Curves"],
  ["tables", "Tables"],
  ["placement", "Placement"],
];
const OF_ALL = [
  ["log", "Log"],
  ["history", "History"],
];

/** The page of a job, refreshed until the job has ended. */
export async function showJob({ main, params: [id, wanted], signal, me, notice }) {
  const state = { id, me, wanted, order: {}, metrics: null };
  const redraw = () => !signal.aborted && state.job && render(main, view(state));
  state.redraw = redraw;
  state.act = async (action) => {
    state.problem = null;
    try {
      state.job = await call(`jobs/${id}/${action}`, { method: "POST", signal });
    } catch (error) {
      state.problem = error;
    }
    redraw();
  };
  const refresh = async () => {
    state.job = await call(`jobs/${id}`, { signal });
    document.title = `${state.job.name}, ${state.job.state} · MixDim`;
    await refreshTab(state, signal);
    redraw();
    return isFinal(state.job.state) ? LAZY_SECONDS : SECONDS;
  };
  await poll(SECONDS, signal, refresh, { lost: notice, found: () => notice(null) });
}

const itemsOf = ({ run, verb }) => (run && verb !== "compare" ? [...OF_RUN, ...OF_ALL] : OF_ALL);

function chosenOf({ job, wanted }) {
  const items = itemsOf(job);
  return items.some(([name]) => name === wanted) ? wanted : items[0][0];
}

/** Only what the open tab shows is asked for. */
async function refreshTab(state, signal) {
  const { job } = state;
  const chosen = chosenOf(state);
  if (chosen === "curves") {
    if (state.metrics?.run !== job.run) state.metrics = new Metrics(job.run);
    await state.metrics.refresh(signal);
  } else if (chosen === "tables" && !state.explain?.length) {
    state.explain = await callIfThere(`runs/${job.run}/explain`, { signal });
  } else if (chosen === "placement" && !state.placement) {
    state.placement = await callIfThere(`runs/${job.run}/placement`, { signal });
  } else if (chosen === "history") {
    state.events = await call(`jobs/${job.id}/events`, { signal });
  }
}

function view(state) {
  const { job, problem } = state;
  const chosen = chosenOf(state);
  const href = (tab) => `#/jobs/${job.id}/${tab}`;
  return [
    crumbs("#/jobs", "Jobs"),
    h("div", { class: "page-head" }, h("h1", {}, job.name, badge(job.state)), actions(state)),
    problem && errorNote(problem),
    outcome(job),
    !["queued", "starting"].includes(job.state) &&
      job.progress &&
      progressBar(job, { isLarge: true }),
    about(job),
    tabs("Parts of the job", itemsOf(job), chosen, href),
    tabPanel(itemsOf(job), chosen, panel(chosen, state)),
  ];
}

function actions({ job, me, act }) {
  const isAllowed = me.role === "admin" || (me.role === "submitter" && me.name === job.owner);
  if (!isAllowed) return null;
  const button = (title, action) =>
    h("button", { type: "button", key: action, on: { click: () => act(action) } }, title);
  if (job.state === "cancelling") return null;
  const shown = isFinal(job.state)
    ? job.state !== "succeeded" && button("Retry", "retry")
    : button("Cancel", "cancel");
  return h("div", { class: "actions" }, shown);
}

/** Why a job failed or waits, in its own words. */
function outcome({ id, state, message }) {
  if (!message) return null;
  const isBad = state === "failed";
  const log = isBad && h("p", {}, h("a", { href: `#/jobs/${id}/log` }, "Read its log"));
  return h("div", { class: `note${isBad ? " error" : ""}` }, h("p", {}, message), log);
}

function about(job) {
  const nodes = job.nodes > 1 ? `${job.nodes} nodes` : null;
  return h(
    "details",
    { class: "about", open: true },
    h("summary", {}, "About this job"),
    facts([
      ["Run", job.run && h("a", { href: `#/runs/${job.run}` }, job.run)],
      ["Owner", job.owner],
      ["Submitted", moment(job.created_at)],
      ["Waited", job.started_at && duration(elapsed(job.created_at, job.started_at))],
      ["Took", job.started_at && duration(elapsed(job.started_at, job.ended_at))],
      ["Scheduler", [job.scheduler, nodes].filter(Boolean).join(", ")],
      ["Priority", job.priority ? String(job.priority) : null],
      ["Attempts", job.attempts > 1 ? String(job.attempts) : null],
    ]),
    h(
      "pre",
      { class: "command", tabindex: "0", role: "region", "aria-label": "Command" },
      job.command.join(" "),
    ),
  );
}

function panel(chosen, state) {
  if (chosen === "curves") return state.metrics && curves([[state.job.run, state.metrics]]);
  if (chosen === "tables") return explainPanel(state.explain, state, state.redraw);
  if (chosen === "placement") return placementPanel(state.placement);
  if (chosen === "history") return history(state.events);
  return h("log-view", {
    data: { path: `jobs/${state.job.id}/logs`, attempt: state.job.attempts },
  });
}

function history(events) {
  const items = (events ?? []).map((event, index) =>
    h(
      "li",
      { key: index },
      badge(event.state),
      h("span", {}, moment(event.at)),
      event.message && h("span", { class: "quiet" }, event.message),
    ),
  );
  return h("ol", { class: "history" }, items);
}
