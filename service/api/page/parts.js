/** Pieces that several views show. */

import { h, s } from "./dom.js";
import { ago, compact, moment, percent, time, whole } from "./format.js";

const FINAL = new Set(["succeeded", "failed", "cancelled"]);
const ICONS = {
  queued: "M8 4.5V8l2.5 1.5",
  starting: "M8 4.5V8l2.5 1.5",
  running: "M6.5 5.2v5.6L11 8z",
  succeeded: "M5 8.2 7.2 10.5 11 6",
  failed: "M5.8 5.8l4.4 4.4M10.2 5.8l-4.4 4.4",
  cancelling: "M5.5 8h5",
  cancelled: "M5.5 8h5",
};

/** Whether a job will never change again by itself. */
export const isFinal = (state) => FINAL.has(state);

/** A state in a colour, a shape and a word. */
export function badge(state) {
  const icon = s(
    "svg",
    { width: 16, height: 16, viewBox: "0 0 16 16", "aria-hidden": "true" },
    s("circle", { cx: 8, cy: 8, r: 6.5 }),
    s("path", { d: ICONS[state] ?? "" }),
  );
  return h("span", { class: `badge ${state}` }, icon, state);
}

/** How far a job is: a bar, the share, steps and speed. */
export function progressBar({ state, progress, name }, { isLarge = false } = {}) {
  if (!progress) return h("span", { class: "quiet" }, state === "succeeded" ? "done" : "–");
  const { step, steps, fraction, examples_per_second: speed } = progress;
  const share = state === "succeeded" ? 1 : (fraction ?? 0);
  const bar = h("progress", {
    max: "1",
    value: share,
    class: state,
    "aria-label": `progress of ${name}`,
  });
  const parts = [
    h("span", {}, percent(share)),
    step != null && h("span", { class: "quiet" }, stepText(step, steps)),
    isLarge && speed != null && h("span", { class: "quiet" }, `${compact(speed)} examples/s`),
  ];
  return h("div", { class: `progress${isLarge ? " large" : ""}` }, bar, h("div", {}, parts));
}

function stepText(step, steps) {
  return steps ? `step ${whole(step)} of ${whole(steps)}` : `step ${whole(step)}`;
}

/** How long ago something was; the exact moment on demand. */
export function since(value) {
  if (value == null) return "–";
  const exact = new Date(time(value)).toISOString();
  return h("time", { datetime: exact, title: moment(value) }, ago(value));
}

/** Terms and what they stand for; those without a value are left out. */
export function facts(entries) {
  const shown = entries.filter(([, value]) => value != null && value !== "");
  return h(
    "dl",
    { class: "facts" },
    shown.map(([term, value]) => h("div", { key: term }, h("dt", {}, term), h("dd", {}, value))),
  );
}

/** Large figures side by side. */
export function tiles(entries) {
  const shown = entries.filter(([, value]) => value != null);
  if (!shown.length) return null;
  return h(
    "dl",
    { class: "tiles" },
    shown.map(([term, value, note]) =>
      h("div", { key: term }, h("dt", {}, term), h("dd", {}, value, note && h("small", {}, note))),
    ),
  );
}

/** Text whose `quoted` parts are code. */
export function inline(text) {
  return text.split("`").map((part, index) => (index % 2 ? h("code", {}, part) : part));
}

/** What stands where there is nothing yet, and what to do about it. */
export function empty(title, text, action) {
  return h(
    "div",
    { class: "empty" },
    h("p", { class: "empty-title" }, title),
    h("p", {}, inline(text)),
    action,
  );
}

/** What went wrong, and what to do about it. */
export function errorNote(error) {
  const hint = error.hint && h("p", {}, inline(error.hint));
  return h(
    "div",
    { class: "note error", role: "alert" },
    h("p", {}, h("b", {}, error.message)),
    hint,
  );
}

/**
 * A table that turns into cards on a phone.
 *
 * @param {string} caption read out, not shown
 * @param {Array<object>} columns title, cell(row), and where due isNumber, isHead, sort(row)
 * @param {Array<object>} rows
 * @param {{key: (row) => string, order?: {column: string, isDown: boolean}, sort?: Function}} how
 */
export function dataTable(caption, columns, rows, { key, order, sort, foot }) {
  const head = columns.map((column) => heading(column, order, sort));
  const body = rows.map((row) =>
    h(
      "tr",
      { key: key(row) },
      columns.map(({ title, cell, isNumber, isHead }) =>
        h(
          isHead ? "th" : "td",
          {
            "data-title": title,
            class: isNumber ? "number" : null,
            scope: isHead ? "row" : null,
          },
          cell(row),
        ),
      ),
    ),
  );
  return h(
    "table",
    { class: "cards" },
    h("caption", { class: "unseen" }, caption),
    h("thead", {}, h("tr", {}, head)),
    h("tbody", {}, body),
    foot && h("tfoot", {}, foot),
  );
}

function heading({ title, isNumber, isUnseen, sort: by }, order, sort) {
  const props = { scope: "col", class: isNumber ? "number" : null };
  if (isUnseen) return h("th", props, h("span", { class: "unseen" }, title));
  if (!sort || !by) return h("th", props, title);
  const isBy = order?.column === title;
  const direction = order?.isDown ? "descending" : "ascending";
  const arrow = h("span", { "aria-hidden": "true" }, isBy ? (order.isDown ? "↓" : "↑") : "↕");
  return h(
    "th",
    { ...props, "aria-sort": isBy ? direction : "none" },
    h("button", { type: "button", class: "sort", on: { click: () => sort(title) } }, title, arrow),
  );
}

/** Rows in the order that a reader has asked for. */
export function sorted(rows, columns, order) {
  const column = columns.find(({ title }) => title === order?.column);
  if (!column) return rows;
  const by = (row) => column.sort(row) ?? -Infinity;
  const sign = order.isDown ? -1 : 1;
  return [...rows].sort((one, two) => sign * (by(one) < by(two) ? -1 : by(one) > by(two) ? 1 : 0));
}

/** The order after a click on a column: figures start with the largest. */
export function nextOrder(order, column, columns) {
  const isNumber = columns.find(({ title }) => title === column)?.isNumber ?? false;
  return { column, isDown: order?.column === column ? !order.isDown : isNumber };
}

/**
 * Tabs whose choice is a part of the address; arrow keys go from one to the next.
 *
 * @param {string} label
 * @param {Array<[string, string]>} items id and title
 * @param {string} chosen
 * @param {(id: string) => string} href
 */
export function tabs(label, items, chosen, href) {
  const go = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const links = [...event.currentTarget.querySelectorAll("a")];
    const next =
      links[(links.indexOf(document.activeElement) + step + links.length) % links.length];
    next.focus();
    next.click();
  };
  const links = items.map(([id, title]) =>
    h(
      "a",
      {
        key: id,
        id: `tab-${id}`,
        role: "tab",
        href: href(id),
        tabindex: id === chosen ? "0" : "-1",
        "aria-selected": String(id === chosen),
        "aria-controls": "panel",
      },
      title,
    ),
  );
  return h(
    "div",
    { class: "tabs", role: "tablist", "aria-label": label, on: { keydown: go } },
    links,
  );
}

/** What the chosen tab shows, under a heading for those who go from one to the next. */
export function tabPanel(items, chosen, ...children) {
  const title = h("h2", { class: "unseen" }, new Map(items).get(chosen));
  const props = { id: "panel", key: chosen, role: "tabpanel", "aria-labelledby": `tab-${chosen}` };
  return h("div", props, title, children);
}

/** Where a page is, and the way back. */
export function crumbs(href, title) {
  return h("nav", { class: "crumbs", "aria-label": "Breadcrumb" }, h("a", { href }, title));
}
