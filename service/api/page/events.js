/** Server-sent events, read with the token in a header. */

import { ApiError, request } from "./api.js";

/**
 * Follow a stream of events, from where it broke off when the connection is lost.
 *
 * EventSource cannot send the token in a header, and a token in an address ends up in logs.
 *
 * @param {string} path
 * @param {AbortSignal} signal ends it
 * @param {(event: {id: string, type: string, data: string}) => void} receive
 */
export async function follow(path, signal, receive) {
  let [offset, pause, isOver] = [0, 1, false];
  const take = (event) => {
    if (event.id) offset = event.id;
    pause = 1;
    isOver = event.type === "end";
    receive(event);
  };
  while (!isOver && !signal.aborted) {
    try {
      const query = { follow: true, offset };
      const answer = await request(path, { query, signal, accept: "text/event-stream" });
      for await (const event of events(answer.body)) take(event);
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof ApiError && !error.mayPass) throw error;
    }
    if (!isOver) await new Promise((resume) => setTimeout(resume, 1000 * pause));
    pause = Math.min(30, 2 * pause);
  }
}

/** Server-sent events of a body, whole ones only. */
async function* events(body) {
  let text = "";
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (text + value).split(/\r?\n\r?\n/);
    text = blocks.pop();
    for (const block of blocks) {
      const event = parse(block);
      if (event) yield event;
    }
  }
}

/** One event of a stream; null for a comment that keeps the connection alive. */
export function parse(block) {
  const event = { id: "", type: "message", data: [] };
  for (const line of block.split(/\r?\n/)) {
    const [, name, value] = /^([^:]*):? ?(.*)$/.exec(line);
    if (name === "id") event.id = value;
    else if (name === "event") event.type = value;
    else if (name === "data") event.data.push(value);
  }
  const isEmpty = !event.data.length && event.type === "message";
  return isEmpty ? null : { ...event, data: event.data.join("\n") };
}
