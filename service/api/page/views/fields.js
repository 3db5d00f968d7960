/** One field of a form: label, control, help, and what the service says of its value. */

import { h } from "../dom.js";
import { inline } from "../parts.js";

/** What a comparison may be asked: the smallest that says something. */
const EXAMPLE = {
  seeds: [0, 1, 2],
  budgets: ["4x", "8x"],
  recipes: { fm: { preset: "fm" } },
  sizings: { uniform: { scheme: "uniform" }, popularity: { scheme: "popularity" } },
};

/** Types of figures. */
export const NUMBERS = { integer: "integer", number: "number" };

/**
 * A field.
 *
 * @param {{place: string, label: string, thing: object, value: any, message: string|null,
 *   change: (event: Event) => void}} about `thing` is what the service says of it: `{type, default,
 *   choices: [{name, summary}], is_required, is_list, help}`
 */
export function field({ place, label, thing, value, message, change }) {
  const id = `field-${place.replaceAll(/[^\w-]/g, "-")}`;
  const isTicked = thing.type === "boolean";
  const help = summaryOf(thing, value) ?? thing.help;
  const notes = [message && `${id}-wrong`, help && `${id}-help`].filter(Boolean).join(" ");
  const props = {
    id,
    "aria-invalid": message ? "true" : null,
    "aria-describedby": notes || null,
    required: thing.is_required,
    on: { change },
  };
  const title = h(
    "label",
    { for: id },
    label,
    thing.is_required && h("span", { class: "quiet" }, " (needed)"),
  );
  return h(
    "div",
    { class: `field${isTicked ? " ticked" : ""}`, key: place },
    title,
    control(thing, value, props),
    message && h("p", { id: `${id}-wrong`, class: "wrong" }, message),
    help && h("p", { id: `${id}-help`, class: "help" }, inline(help)),
  );
}

/** What the chosen one of some choices is. */
function summaryOf({ choices, default: usual }, value) {
  return choices?.find(({ name }) => name === (value ?? usual))?.summary || null;
}

function control(thing, value, props) {
  if (thing.type === "boolean") {
    return h("input", { ...props, type: "checkbox", checked: value ?? thing.default ?? false });
  }
  if (thing.type === "json") {
    const shown = typeof value === "object" ? JSON.stringify(value, null, 2) : value;
    const place = JSON.stringify(EXAMPLE, null, 2);
    return h("textarea", {
      ...props,
      rows: 9,
      spellcheck: "false",
      value: shown ?? "",
      placeholder: place,
    });
  }
  if (thing.choices) return select(thing, value, props);
  const isNumber = thing.type in NUMBERS;
  return h("input", {
    ...props,
    type: "text",
    inputmode: isNumber ? "decimal" : null,
    spellcheck: "false",
    autocomplete: "off",
    value: value == null ? "" : written(value),
    placeholder: thing.default == null ? "" : written(thing.default),
  });
}

function select({ choices, default: usual, is_required: isNeeded, is_list: isList }, value, props) {
  const chosen = value ?? usual;
  const isChosen = (name) => (isList ? (chosen ?? []).includes(name) : name === chosen);
  const options = choices.map(({ name }) =>
    h("option", { key: name, value: name, selected: isChosen(name) }, name),
  );
  if (!choices.length) {
    const none = h("option", { value: "" }, "there is none yet");
    return h("select", { ...props, disabled: true }, none);
  }
  if (isList)
    return h("select", { ...props, multiple: true, size: Math.min(6, choices.length) }, options);
  const blank =
    usual == null && h("option", { key: "", value: "" }, isNeeded ? "choose …" : "none");
  return h("select", { ...props, value: chosen ?? "" }, blank, options);
}

/** A default or a value as a person would type it. */
function written(value) {
  if (Array.isArray(value)) return value.join(" ");
  if (typeof value === "object") return Object.entries(value).flat().join(" ");
  return String(value);
}

/** What a control holds, as the request has it; text that is no number goes on as it is. */
export function readField(element, { type, is_list: isList }) {
  if (type === "boolean") return element.checked;
  if (element.multiple) return [...element.selectedOptions].map((option) => option.value);
  const text = element.value.trim();
  if (text === "") return "";
  if (type === "json") return decoded(text);
  if (type in NUMBERS) return figure(text);
  if (isList) return text.split(/[\s,]+/);
  if (type === "list") return text.split(/[\s,]+/).map(figure);
  if (type === "mapping") return pairs(text.split(/[\s,=:]+/));
  return text;
}

/** Text that is no JSON goes on as it is: the service says what is wrong with it. */
function decoded(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

const figure = (text) => (Number.isFinite(Number(text)) ? Number(text) : text);

function pairs(words) {
  const names = words.filter((_, index) => index % 2 === 0);
  return Object.fromEntries(names.map((name, index) => [name, figure(words[2 * index + 1] ?? "")]));
}
