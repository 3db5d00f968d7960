/** The door: a token and nothing else. */

import { ApiError, call, session } from "../api.js";
import { h, render } from "../dom.js";
import { errorNote } from "../parts.js";

const LEAD =
  "The token stays in this tab and is forgotten when you close it. " +
  "An administrator makes one with ";

/** Ask for a token until one is accepted, then call `enter(token, me)`. */
export function showLogin(main, reason, enter) {
  let [error, isAsking] = [null, false];
  const submit = async (event) => {
    event.preventDefault();
    const token = main.querySelector("input").value.trim();
    if (!token || isAsking) return;
    [error, isAsking] = [null, true];
    draw();
    session.begin(token);
    try {
      enter(token, await call("me"));
    } catch (problem) {
      if (!(problem instanceof ApiError)) throw problem;
      session.end();
      error = problem.status === 401 ? refused() : problem;
      isAsking = false;
      draw();
      main.querySelector("input").focus();
    }
  };
  const draw = () => render(main, form(submit, { error, reason, isAsking }));
  draw();
  main.querySelector("input").focus();
}

function refused() {
  return new ApiError(401, {
    message: "This token is not accepted.",
    hint: "Is it complete? Tokens expire and are revoked; an administrator makes new ones.",
  });
}

function form(submit, { error, reason, isAsking }) {
  const note = error
    ? errorNote(error)
    : reason && h("div", { class: "note", role: "status" }, h("p", {}, reason));
  return h(
    "form",
    { class: "door", on: { submit } },
    h("h1", {}, "Log in"),
    note,
    h("label", { for: "token" }, "Access token"),
    h("input", {
      id: "token",
      type: "password",
      autocomplete: "current-password",
      spellcheck: "false",
      required: true,
      "aria-invalid": error ? "true" : null,
    }),
    h("button", { class: "main", disabled: isAsking }, isAsking ? "Checking …" : "Log in"),
    h("p", { class: "quiet" }, LEAD, h("code", {}, "mixdim token create"), "."),
  );
}
