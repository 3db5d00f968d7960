/** The shell: who is there, which view is open, and what went wrong. */

import { ApiError, call, session } from "./api.js";
import { h, render } from "./dom.js";
import { errorNote } from "./parts.js";
import { showCompare } from "./views/compare.js";
import { showFrontier, showFrontiers } from "./views/frontiers.js";
import { showJob } from "./views/job.js";
import { showJobs } from "./views/jobs.js";
import { showLogin } from "./views/login.js";
import { showRun } from "./views/run.js";
import { showRuns } from "./views/runs.js";
import { showSubmit } from "./views/submit.js";

const ROUTES = [
  ["jobs", /^jobs$/, showJobs, "Jobs"],
  ["jobs", /^jobs\/([^/]+)(?:\/([a-z]+))?$/, showJob, "Job"],
  ["runs", /^runs$/, showRuns, "Runs"],
  ["runs", /^runs\/([^/]+)(?:\/([a-z]+))?$/, showRun, "Run"],
  ["runs", /^compare\/([^/]+)\/([^/]+)$/, showCompare, "Comparison"],
  ["frontiers", /^frontiers$/, showFrontiers, "Frontiers"],
  ["frontiers", /^frontiers\/(of|on)\/([^/]+)(?:\/(\d+))?$/, showFrontier, "Frontier"],
  ["submit", /^submit(?:\/([a-z-]+))?$/, showSubmit, "Submit"],
];
const SECTIONS = [
  ["jobs", "Jobs"],
  ["runs", "Runs"],
  ["frontiers", "Frontiers"],
  ["submit", "Submit"],
];

const main = document.getElementById("main");
const bar = document.getElementById("bar");
const lost = document.getElementById("lost");
let stop = new AbortController();
let me = null;
let shown = "";

/** The part of the address behind `#/`, without what is asked of a list. */
function address() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  return { path: path || "jobs", query: new URLSearchParams(query) };
}

async function open() {
  if (location.hash === "#main") return; // the skip link
  const { path, query } = address();
  const isSamePage = place(path) === shown;
  stop.abort();
  stop = new AbortController();
  const { signal } = stop;
  try {
    if (!session.token) return void showDoor();
    me ??= await call("me", { signal });
    const route = ROUTES.find(([, form]) => form.test(path));
    drawBar(route?.[0]);
    if (!isSamePage) begin(path, route);
    if (!route) return void render(main, nowhere());
    const params = form(route, path);
    await route[2]({ main, params, query, signal, me, notice });
  } catch (error) {
    if (!signal.aborted) fail(error);
  }
}

const form = (route, path) =>
  route[1]
    .exec(path)
    .slice(1)
    .map((part) => part && decodeURIComponent(part));

/** Tabs of one job and points of one frontier are one page: focus and scroll position stay. */
function place(path) {
  return path
    .split("/")
    .slice(0, /^(compare|frontiers)/.test(path) ? 3 : 2)
    .join("/");
}

function begin(path, route) {
  const isFirst = !shown;
  shown = place(path);
  main.replaceChildren(h("p", { class: "quiet loading" }, "Loading …"));
  document.title = `${route?.[3] ?? "Nowhere"} · MixDim`;
  notice(null);
  window.scrollTo(0, 0);
  if (!isFirst) main.focus({ preventScroll: true });
}

function drawBar(section) {
  const links = SECTIONS.filter(([id]) => id !== "submit" || me.role !== "viewer").map(
    ([id, title]) =>
      h("a", { key: id, href: `#/${id}`, "aria-current": id === section ? "page" : null }, title),
  );
  render(
    bar,
    h("a", { class: "brand", href: "#/jobs" }, logo(), "MixDim"),
    h("nav", { "aria-label": "Main" }, links),
    h(
      "div",
      { class: "who" },
      h("span", {}, me.name, h("small", {}, me.role)),
      h("button", { type: "button", on: { click: leave } }, "Log out"),
    ),
  );
}

function logo() {
  return h("img", { src: "page/icon.svg", alt: "", width: 24, height: 24 });
}

function nowhere() {
  return [
    h("h1", {}, "There is nothing here"),
    h("p", {}, "The address leads nowhere. ", h("a", { href: "#/jobs" }, "Go to the jobs.")),
  ];
}

function showDoor(reason) {
  me = null;
  shown = "";
  document.title = "Log in · MixDim";
  render(bar, h("span", { class: "brand" }, logo(), "MixDim"));
  notice(null);
  main.replaceChildren();
  showLogin(main, reason, (token, who) => {
    session.begin(token);
    me = who;
    open();
  });
}

function leave() {
  stop.abort();
  session.end();
  showDoor();
}

/** A line below the bar: that the service is out of reach, or null when it is back. */
function notice(error) {
  render(lost, error ? `${error.message} ${error.hint ?? ""}` : "");
}

function fail(error) {
  if (!(error instanceof ApiError)) throw error;
  if (error.status === 401) {
    session.end();
    showDoor("This token is no longer accepted: it may have expired or been revoked.");
    return;
  }
  const again = h("button", { type: "button", on: { click: open } }, "Try again");
  const title = error.status === 404 ? "There is nothing here" : "This did not work";
  render(main, h("h1", {}, title), errorNote(error), h("p", { class: "actions" }, again));
}

window.addEventListener("hashchange", open);
open();
