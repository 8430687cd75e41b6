// What Junebug tells as it happens (`GET /events/stream`): read with fetch, because EventSource sends no token.

import {ask, ApiError} from "./api.js";

const PAUSE = 2000;
const LONGEST_PAUSE = 15000;

/**
 * Calls `onEvent(kind, data)` for each until the view is left. `query`: `channel_id`, `kind`. While the tab is hidden nothing
 * is read; what came meanwhile is asked for by the last id. `onState(true)`: it is
 * being told; `onState(false, error)`: it is not, because of that, if anything is known.
 */
export async function follow(view, query, onEvent, onState = () => {}) {
  let last = "";
  let pause = PAUSE;
  while (!view.left) {
    await view.visible();
    if (view.left) return;
    const connection = new AbortController();
    const hide = () => document.hidden && connection.abort();
    document.addEventListener("visibilitychange", hide);
    const signal = AbortSignal.any([view.signal, connection.signal]);
    let problem = null;
    try {
      const headers = {Accept: "text/event-stream", ...(last ? {"Last-Event-ID": last} : {})};
      const response = await ask("GET", "events/stream", {query, signal, headers});
      onState(true);
      pause = PAUSE;
      for await (const event of eventsOf(response.body)) {
        if (event.id) last = event.id;
        if (event.data) onEvent(event.event, JSON.parse(event.data));
      }
    } catch (error) {
      if (view.left) return;
      if (error instanceof ApiError && [401, 403, 404].includes(error.status)) {
        onState(false, error);
        return;
      }
      problem = error;
    } finally {
      document.removeEventListener("visibilitychange", hide);
      connection.abort();
    }
    if (document.hidden) continue;
    onState(false, problem);
    await view.pause(pause);
    pause = Math.min(pause * 2, LONGEST_PAUSE);
  }
}

/** The events of a body in the form of Server-sent events. */
async function* eventsOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let event = {event: "message", data: "", id: ""};
  try {
    for (;;) {
      const {done, value} = await reader.read();
      if (done) return;
      const lines = (rest + value).split(/\r\n|\n|\r/);
      rest = lines.pop();
      for (const line of lines) {
        if (line === "") {
          if (event.data || event.id) yield {...event, data: event.data.replace(/\n$/, "")};
          event = {event: "message", data: "", id: ""};
          continue;
        }
        const [, name, text] = /^([^:]*):? ?(.*)$/.exec(line);
        if (name === "data") event.data += `${text}\n`;
        else if (name === "event" || name === "id") event[name] = text;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
