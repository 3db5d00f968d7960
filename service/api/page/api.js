/** The service's HTTP API: requests, its errors, and asking again. */

const ROOT = "api/v1/";
const TOKEN = "mixdim-token";

/** An answer that is not what was asked for: what happened, and what to do about it. */
export class ApiError extends Error {
  constructor(status, { message, hint, field } = {}) {
    super(message ?? `the service answered with status ${status}`);
    Object.assign(this, { status, hint, field });
  }

  /** Whether the same may work in a while: no answer, too many requests, a fault of the service. */
  get mayPass() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

/** The token of this tab; it goes when the tab is closed. */
export const session = {
  get token() {
    return sessionStorage.getItem(TOKEN);
  },
  begin(token) {
    sessionStorage.setItem(TOKEN, token);
  },
  end() {
    sessionStorage.removeItem(TOKEN);
  },
};

/**
 * Ask the service for something.
 *
 * @param {string} path below /api/v1/
 * @param {{method?: string, query?: object, body?: object|Blob, key?: string,
 *   signal?: AbortSignal}} ask
 * @returns {Promise<any>} the decoded body; null where there is none
 * @throws {ApiError}
 */
export async function call(path, ask = {}) {
  const answer = await request(path, ask);
  return answer.status === 204 ? null : answer.json();
}

/** All items of a list, page after page. */
export async function callAll(path, ask) {
  const items = [];
  for (let cursor; cursor !== null; ) {
    const page = await call(path, { ...ask, query: { limit: 200, cursor } });
    items.push(...page.items);
    cursor = page.next_cursor;
  }
  return items;
}

/** What `call` answers, when "there is none" is a good answer: null for 404. */
export async function callIfThere(path, ask) {
  try {
    return await call(path, ask);
  } catch (error) {
    if (error.status === 404) return null;
    throw error;
  }
}

/** Ask for something of any form: the answer, if it is a good one. */
export async function request(path, { method = "GET", query, body, key, signal, accept } = {}) {
  const headers = {
    Authorization: `Bearer ${session.token}`,
    Accept: accept ?? "application/json",
  };
  const isFile = body instanceof Blob;
  if (body && !isFile) headers["Content-Type"] = "application/json";
  if (key) headers["Idempotency-Key"] = key;
  const content = isFile ? body : body && JSON.stringify(body);
  const init = { method, headers, signal, body: content, cache: "no-store" };
  const answer = await reach(ROOT + path + search(query), init);
  if (!answer.ok) throw new ApiError(answer.status, await problem(answer));
  return answer;
}

async function reach(url, init) {
  try {
    return await fetch(url, init);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, {
      message: "The service does not answer.",
      hint: "It may be restarting; jobs go on meanwhile. This page tries again by itself.",
    });
  }
}

async function problem(answer) {
  try {
    return (await answer.json()).error;
  } catch {
    return {}; // a proxy's page, say
  }
}

function search(query) {
  const given = Object.entries(query ?? {}).filter(([, value]) => value != null && value !== "");
  return given.length ? `?${new URLSearchParams(given)}` : "";
}

/** Save one of a run's files where the browser keeps downloads. */
export async function download(path, name) {
  const answer = await request(path, { accept: "*/*" });
  const url = URL.createObjectURL(await answer.blob());
  Object.assign(document.createElement("a"), { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/**
 * Do something now and every few seconds, while the page is looked at.
 *
 * Ends with the signal. `work` may answer with other seconds. A service that does not answer is
 * asked again, ever less often; `lost` and `found` say so.
 */
export async function poll(usual, signal, work, { lost, found } = {}) {
  let [failures, seconds] = [0, usual];
  while (!signal.aborted) {
    try {
      if (!document.hidden) seconds = (await work()) ?? usual;
      if (failures) found?.();
      failures = 0;
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof ApiError) || !error.mayPass) throw error;
      failures += 1;
      lost?.(error);
    }
    await waited(Math.min(30, seconds * 2 ** failures), signal);
  }
}

function waited(seconds, signal) {
  return new Promise((resume) => {
    const go = () => {
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", go);
      signal.removeEventListener("abort", go);
      resume();
    };
    const timer = setTimeout(go, 1000 * seconds);
    document.addEventListener("visibilitychange", go);
    signal.addEventListener("abort", go);
  });
}
