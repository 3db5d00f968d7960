/** Submit: a form that the service describes, checked by the service, with its answers in place. */

import { ApiError, call, callAll } from "../api.js";
import { h, render } from "../dom.js";
import { filesField, sendFiles } from "../panels/send-files.js";
import { errorNote } from "../parts.js";
import { NUMBERS, field, readField } from "./fields.js";

const VERBS = ["train", "size", "search", "prepare", "evaluate", "export", "compare"];
const COMMON = new Set([
  ...["epochs", "batch-size", "max-steps", "validate-every", "seed"],
  ...["optimizer.sparse-lr", "optimizer.dense-lr"],
  ...["scheme", "model", "dim", "rows", "scale", "min-count", "split", "checkpoint", "dtype"],
]);
const LISTED = new Set(["datasets", "sizings", "runs", "uploads"]);
const MACHINES = [
  ["nodes", "Nodes", "Machines.", 1, 64],
  ["ranks_per_node", "Ranks per node", "Training processes on each machine.", 1, 64],
  ["priority", "Priority", "From -10 to 10; jobs of higher priority start first.", -10, 10],
  ["max_retries", "Retries", "How often it is started again after it has failed.", 0, 10],
];

/** The form of one verb; a change of preset or method asks for its options again. */
export async function showSubmit({ main, params: [verb = "train"], query, signal }) {
  const state = { verb, given: Object.fromEntries(query), options: {}, filter: "", error: null };
  const draw = () => !signal.aborted && render(main, view(state, act));
  const load = async () => {
    const { preset, method } = state.given;
    state.form = await call(`forms/${verb}`, { query: { preset, method }, signal });
    [state.things, state.form.options] = await Promise.all([
      choices(state.form.things, signal),
      choices(state.form.options, signal),
    ]);
    draw();
  };
  const act = {
    draw,
    give: async (name, value) => {
      state.given[name] = value;
      state.key = null;
      clear(state, name);
      if (name === "preset" || name === "method") await load();
    },
    set: (flag, value) => {
      if (value === undefined) delete state.options[flag];
      else state.options[flag] = value;
      state.key = null;
      clear(state, `options.${flag}`);
    },
    filter: (text) => {
      state.filter = text;
      draw();
    },
    send: () => send(state, draw, main),
    sendFiles: async (files) => {
      const tell = (text) => {
        state.sending = text;
        draw();
      };
      const names = await sendFiles(files, tell);
      state.given.inputs = [...new Set([...(state.given.inputs ?? []), ...names])];
      state.key = null;
      if (!signal.aborted) await load();
    },
  };
  await load();
}

/** The same with names to choose from, where it is about things that the service lists. */
async function choices(asked, signal) {
  const kinds = [...new Set(asked.map(({ among }) => among))].filter((kind) => LISTED.has(kind));
  const lists = new Map(
    await Promise.all(
      kinds.map(async (kind) => {
        const items = await callAll(kind, { signal });
        return [kind, items.map(({ name }) => ({ name, summary: "" }))];
      }),
    ),
  );
  return asked.map((one) =>
    lists.has(one.among) ? { ...one, choices: lists.get(one.among) } : one,
  );
}

/** A fault goes when its field is touched. */
function clear(state, place) {
  if (state.error?.place === place) state.error = null;
}

async function send(state, draw, main) {
  if (state.isSending) return;
  // The same key until something changes: a second attempt never makes a second job.
  state.key ??= [...crypto.getRandomValues(new Uint8Array(16))]
    .map((byte) => byte.toString(16))
    .join("");
  Object.assign(state, { isSending: true, error: null });
  draw();
  try {
    const job = await call("jobs", { method: "POST", body: request(state), key: state.key });
    location.hash = `#/jobs/${job.id}`;
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    state.error = { problem: error, place: placeOf(error, state.form) };
  }
  state.isSending = false;
  draw();
  const wrong = main.querySelector('[aria-invalid="true"]') ?? main.querySelector(".note.error");
  wrong?.closest("details")?.setAttribute("open", "");
  wrong?.focus();
}

/** The field that is at fault; a verb's own complaint names an option without saying so. */
function placeOf({ field: place }, { options: known }) {
  const name = place?.replaceAll("_", "-");
  return known.some((option) => option.name === name) ? `options.${name}` : place;
}

/** What is asked for: also the choices that were shown and left as they were. */
function request({ verb, given, options, things }) {
  const shown = things.filter((thing) => thing.default != null);
  const asked = {
    ...Object.fromEntries(shown.map((thing) => [thing.name, thing.default])),
    ...given,
  };
  const filled = Object.entries(asked).filter(([, value]) => value !== "" && value?.length !== 0);
  return { verb, ...Object.fromEntries(filled), options };
}

function view(state, act) {
  const { verb, form, isSending } = state;
  const onSubmit = (event) => {
    event.preventDefault();
    act.send();
  };
  return [
    h("div", { class: "page-head" }, h("h1", {}, "Submit a job")),
    h(
      "nav",
      { class: "verbs", "aria-label": "Verb" },
      VERBS.map((name) =>
        h(
          "a",
          { key: name, href: `#/submit/${name}`, "aria-current": name === verb ? "page" : null },
          name,
        ),
      ),
    ),
    h(
      "form",
      { class: "submit", key: verb, novalidate: true, on: { submit: onSubmit } },
      h("p", { class: "lead" }, form.summary),
      fault(state),
      h(
        "fieldset",
        {},
        h("legend", {}, "What"),
        h(
          "div",
          { class: "fields" },
          things(state, act),
          verb === "prepare" && filesField(state.sending, act.sendFiles),
        ),
      ),
      options(state, act),
      h(
        "fieldset",
        {},
        h("legend", {}, "Where"),
        h("div", { class: "fields" }, machines(state, act)),
      ),
      h(
        "p",
        { class: "actions" },
        h("button", { class: "main", disabled: isSending }, isSending ? "Submitting …" : "Submit"),
      ),
    ),
  ];
}

/** What is wrong as a whole; a fault of one field is shown at that field as well. */
function fault({ error }) {
  if (!error) return null;
  const note = errorNote(error.problem);
  note.tabIndex = -1;
  return note;
}

const messageAt = ({ error }, place) => (error?.place === place ? error.problem.message : null);

function things(state, act) {
  const own = [
    { name: "name", type: "text", help: "What people call it; made from the verb where empty." },
    { name: "output", type: "text", help: "What its result is called; as the job where empty." },
  ];
  const isMaking = state.verb !== "evaluate";
  return [...state.things, ...own.slice(0, isMaking ? 2 : 1)].map((thing) =>
    field({
      place: thing.name,
      label: thing.name,
      thing,
      value: state.given[thing.name] ?? thing.default,
      message: messageAt(state, thing.name),
      change: (event) => act.give(thing.name, readField(event.target, thing)),
    }),
  );
}

function options(state, act) {
  const isCommon = ({ name }) => COMMON.has(name);
  const matches = ({ name, help }) =>
    !state.filter || `${name} ${help}`.toLowerCase().includes(state.filter.toLowerCase());
  const rest = state.form.options.filter((option) => !isCommon(option));
  const shown = rest.filter(matches);
  const isWrong = rest.some(({ name }) => messageAt(state, `options.${name}`));
  const find = h("input", {
    id: "find-option",
    type: "search",
    placeholder: "a word of its name or its text",
    on: { input: (event) => act.filter(event.target.value) },
  });
  return h(
    "fieldset",
    {},
    h("legend", {}, "How"),
    h(
      "div",
      { class: "fields" },
      state.form.options.filter(isCommon).map((one) => option(one, state, act)),
    ),
    rest.length > 0 &&
      h(
        "details",
        { open: isWrong || undefined },
        h("summary", {}, `${rest.length} further options`),
        h("p", { class: "field find" }, h("label", { for: "find-option" }, "Find an option"), find),
        h(
          "div",
          { class: "fields" },
          shown.map((one) => option(one, state, act)),
        ),
        !shown.length && h("p", { class: "quiet" }, "No option matches."),
      ),
  );
}

function option(one, state, act) {
  const { name: flag } = one;
  return field({
    place: `options.${flag}`,
    label: h("code", {}, flag),
    thing: one,
    value: state.options[flag],
    message: messageAt(state, `options.${flag}`),
    change: (event) => {
      const value = readField(event.target, one);
      act.set(flag, value === "" || value === one.default ? undefined : value);
    },
  });
}

function machines(state, act) {
  const schedulers = state.form.schedulers ?? [];
  const where = {
    name: "scheduler",
    type: "text",
    choices: schedulers.map((name) => ({ name })),
    default: schedulers[0],
    help: "Where it runs.",
  };
  const numbers = MACHINES.map(([name, , help, low, high]) => ({
    ...{ name, help, low, high },
    type: NUMBERS.integer,
    default: Math.max(low, name === "priority" ? 0 : low),
  }));
  const titles = Object.fromEntries(MACHINES.map(([name, title]) => [name, title]));
  return [...(schedulers.length > 1 ? [where] : []), ...numbers].map((thing) =>
    field({
      place: thing.name,
      label: titles[thing.name] ?? thing.name,
      thing,
      value: state.given[thing.name],
      message: messageAt(state, thing.name),
      change: (event) => act.give(thing.name, readField(event.target, thing)),
    }),
  );
}
