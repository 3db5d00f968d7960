/** Raw logs of this computer, sent to the service one after the other. */

import { ApiError, call } from "../api.js";
import { h } from "../dom.js";

const HELP =
  "Each can be chosen once it has come whole. Close this tab, and what is on its way is lost.";

/** A field to choose files in; `sending` says what became of them. */
export function filesField(sending, send) {
  return h(
    "div",
    { class: "field", key: "send-files" },
    h("label", { for: "send-files" }, "Send files from this computer"),
    h("input", {
      ...{ id: "send-files", type: "file", multiple: true, "aria-describedby": "send-files-help" },
      on: { change: (event) => send([...event.target.files]) },
    }),
    h("p", { id: "send-files-help", class: "help" }, HELP),
    h("p", { class: "help", role: "status" }, sending ?? ""),
  );
}

/**
 * Send files; each is kept whole or not at all.
 *
 * @param {File[]} files
 * @param {(text: string) => void} tell what happens
 * @returns {Promise<string[]>} the names by which those that came are known
 */
export async function sendFiles(files, tell) {
  const [names, faults] = [[], []];
  for (const file of files) {
    tell(`Sending ${file.name} …`);
    try {
      const path = `uploads/${encodeURIComponent(nameOf(file))}`;
      names.push((await call(path, { method: "PUT", body: file })).name);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      faults.push(`${file.name}: ${error.message}.`);
    }
  }
  tell([names.length && `Sent: ${names.join(", ")}.`, ...faults].filter(Boolean).join(" "));
  return names;
}

/** A file's name as the service takes names. */
function nameOf({ name }) {
  return name.replaceAll(/[^\w.-]/g, "-").replace(/^[^A-Za-z0-9]+/, "") || "file";
}
