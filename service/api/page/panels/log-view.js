/** `<log-view>`: a job's output as it is written. */

import { ApiError } from "../api.js";
import { h } from "../dom.js";
import { follow } from "../events.js";
import { whole } from "../format.js";
import { errorNote } from "../parts.js";

const MAX_LINES = 5000;
// Colours and cursor movements that a terminal would swallow.
const ESCAPES = /\u001b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\u0007]*\u0007|.)/g;

/** Text without what only terminals understand; a line that rewrites itself is its last state. */
export function legible(line) {
  return line.replace(ESCAPES, "").replace(/\r$/, "").split("\r").at(-1);
}

/** Follows `data` = `{path, attempt}` from when it is on the page until it leaves. */
export class LogView extends HTMLElement {
  #data = null;
  #stop = null;
  #waiting = [];
  #isFollowing = true;
  #numLines = 0;
  #isOver = false;
  #isShowing = false;

  set data(value) {
    const isNew = value.path !== this.#data?.path || value.attempt !== this.#data?.attempt;
    this.#data = value;
    if (isNew && this.isConnected) this.#start();
  }

  get data() {
    return this.#data;
  }

  connectedCallback() {
    if (this.#data && !this.#stop) this.#start();
  }

  disconnectedCallback() {
    this.#stop?.abort();
    this.#stop = null;
  }

  #start() {
    this.#stop?.abort();
    this.#stop = new AbortController();
    [this.#numLines, this.#isOver, this.#waiting] = [0, false, []];
    const label = "Output of the job";
    this.text = h("pre", { tabindex: "0", role: "region", "aria-label": label });
    this.status = h("p", { class: "quiet", role: "status" }, "Waiting for the first line …");
    this.text.addEventListener("scroll", () => this.#scrolled());
    const end = h("button", { type: "button", on: { click: () => this.#toEnd() } }, "To the end");
    this.replaceChildren(h("div", { class: "log-bar" }, this.status, end), this.text);
    follow(this.#data.path, this.#stop.signal, (event) => this.#receive(event)).catch((error) => {
      if (!(error instanceof ApiError)) throw error;
      this.replaceChildren(errorNote(error));
    });
  }

  #receive({ type, data }) {
    if (type === "end") {
      this.#isOver = true;
    }
    if (!this.#isShowing) requestAnimationFrame(() => this.#show());
    this.#isShowing = true;
    // The service breaks a line that rewrites itself, at every carriage return.
    if (type === "message") this.#waiting.push(legible(data.replaceAll("\n", "\r")));
  }

  /** Once a frame, however many lines have come. */
  #show() {
    this.#isShowing = false;
    const lines = this.#waiting.splice(0).slice(-MAX_LINES);
    this.text.append(...lines.map((line) => h("span", { class: tone(line) }, `${line}\n`)));
    this.#numLines += lines.length;
    while (this.text.childElementCount > MAX_LINES) this.text.firstElementChild.remove();
    const cut = this.#numLines > MAX_LINES ? `, the last ${MAX_LINES} shown` : "";
    const state = this.#isOver ? ", complete" : "";
    this.status.textContent = `${whole(this.#numLines)} lines${cut}${state}`;
    if (this.#isFollowing) this.text.scrollTop = this.text.scrollHeight;
  }

  #scrolled() {
    const { scrollTop, clientHeight, scrollHeight } = this.text;
    this.#isFollowing = scrollHeight - scrollTop - clientHeight < 24;
  }

  #toEnd() {
    this.text.scrollTop = this.text.scrollHeight;
  }
}

function tone(line) {
  if (/\berror\b|Traceback|refused/i.test(line)) return "bad";
  return /^(validation|test)\b/.test(line) ? "good" : null;
}

customElements.define("log-view", LogView);
