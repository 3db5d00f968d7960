/** Fields above a list, which choose what of it is shown; what they choose is in the address. */

import { h } from "./dom.js";

/** States of jobs, in the order of their life. */
export const STATES = [
  ...["queued", "starting", "running", "cancelling"],
  ...["succeeded", "failed", "cancelled"],
];

/** The form around them. */
export function filters(label, ...fields) {
  const stay = (event) => event.preventDefault();
  return h(
    "form",
    { class: "filters", role: "search", "aria-label": label, on: { submit: stay } },
    ...fields,
  );
}

/** One of a few, or any. */
export function choiceFilter(name, label, options, query, go) {
  const isChosen = (option) => query.get(name) === option;
  const change = (event) => go({ [name]: event.target.value });
  return h(
    "label",
    {},
    h("span", {}, label),
    h(
      "select",
      { name, value: query.get(name) ?? "", on: { change } },
      h("option", { value: "" }, "any"),
      options.map((option) => h("option", { value: option, selected: isChosen(option) }, option)),
    ),
  );
}

/** A part of the name. */
export function nameFilter(query, go) {
  const name = h("input", {
    type: "search",
    name: "name",
    value: query.get("name") ?? "",
    placeholder: "any",
    on: { change: (event) => go({ name: event.target.value.trim() }) },
  });
  return h("label", { class: "wide" }, h("span", {}, "Name"), name);
}
