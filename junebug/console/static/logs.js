// Logs: what a channel or a router did, its PDUs decoded, and what happens as it happens.

import {api, path} from "./api.js";
import {fill, h} from "./dom.js";
import {follow} from "./stream.js";
import {owner} from "./things.js";
import {badge, empty, json, time} from "./widgets.js";

const PAUSE = 2000;
const MOST = 500;
export const KINDS = ["status", "event", "message", "log"];
const LEVELS = [[40, "error"], [30, "warning"], [20, "info"], [0, "debug"]];
/** What each line has, beside which the rest is shown. */
const COMMON = new Set(["logger", "level", "timestamp", "message", "channel_id", "kind"]);

export async function show(view, given, query) {
  const {id, where, above} = await owner(view, given, "Logs");
  const list = h("ol", {class: "log", "aria-label": "Log lines, the newest first", tabindex: "0"});
  const messageId = h("input", {type: "search", "aria-label": "Message id", placeholder: "Of one message: its id", value: query.get("message_id") ?? ""});
  const words = h("input", {type: "search", "aria-label": "Find in the lines", placeholder: "Find in the lines", "data-search": true});
  const level = h("select", {"aria-label": "At least this level"}, LEVELS.toReversed().map(([number, name]) => h("option", {value: number}, name === "debug" ? "all levels" : `${name} and worse`)));
  const state = h("span", {class: "count", role: "status"});
  const stop = h("button", {type: "button", "aria-pressed": "false", on: {click: () => {
    held = !held;
    stop.setAttribute("aria-pressed", String(held));
    stop.textContent = held ? "Go on" : "Hold";
    render();
  }}}, "Hold");
  let held = false;
  let entries = [];
  let shown = "";

  const render = () => {
    if (held) return;
    const wanted = words.value.toLowerCase();
    const found = entries.filter((each) => each.level >= Number(level.value) && (!wanted || JSON.stringify(each).toLowerCase().includes(wanted)));
    const key = JSON.stringify([found.length, found[0], found.at(-1)]);
    if (key === shown) return;
    shown = key;
    const open = new Set([...list.querySelectorAll("details[open]")].map((each) => each.dataset.key));
    fill(list, found.length ? found.map((each) => line(each, open)) : h("li", {}, empty("No lines.")));
    state.textContent = `${found.length} lines`;
  };
  const load = async () => {
    entries = await api.get(`${where}/logs`, {message_id: messageId.value.trim()}, view.signal);
    render();
  };
  const soon = await view.every(PAUSE, load);
  words.addEventListener("input", render);
  level.addEventListener("change", render);
  messageId.addEventListener("change", () => soon());
  view.show(...above, h("div", {class: "filters"}, words, messageId, level, stop, state), list);
  follow(view, {channel_id: id, kind: "log"}, () => soon());
}

const levelName = (level) => LEVELS.find(([least]) => level >= least)?.[1] ?? "debug";

function line(entry, open) {
  const more = Object.entries(entry).filter(([name]) => !COMMON.has(name));
  const key = `${entry.timestamp} ${entry.message} ${entry.sequence_number ?? ""}`;
  const title = entry.pdu ? `${entry.direction ?? ""} ${entry.pdu}`.trim() : entry.message;
  const brief = more.filter(([name, value]) => typeof value !== "object" && !["hex", "pdu", "direction"].includes(name));
  return h("li", {class: levelName(entry.level ?? 20)},
    h("details", {"data-key": key, open: open.has(key)},
      h("summary", {}, time(entry.timestamp), " ", h("span", {class: "level"}, levelName(entry.level ?? 20)), " ",
        h("span", {class: `what ${entry.pdu ? "pdu" : ""}`}, title), " ",
        h("span", {class: "brief"}, brief.slice(0, 8).map(([name, value]) => `${name}=${typeof value === "number" ? Math.round(value * 1000) / 1000 : value}`).join("  "))),
      entry.exception ? h("pre", {class: "json", tabindex: "0", role: "group", "aria-label": "Exception"}, [entry.exception.class, entry.exception.instance, ...(entry.exception.stack ?? [])].join("\n")) : null,
      entry.pdu ? pdu(more) : json(Object.fromEntries(more))));
}

/** A PDU's parameters. */
function pdu(more) {
  return h("table", {class: "pdu"}, h("tbody", {}, more.map(([name, value]) =>
    h("tr", {}, h("th", {scope: "row"}, name), h("td", {}, typeof value === "object" ? JSON.stringify(value) : h("code", {}, String(value)))))));
}

// --- everything -------------------------------------------------------------------------------------------------------

export async function live(view) {
  const list = h("ol", {class: "log", "aria-label": "What happens, the newest first", tabindex: "0"});
  const words = h("input", {type: "search", "aria-label": "Find", placeholder: "Find", "data-search": true, on: {input: () => render()}});
  const kinds = h("select", {"aria-label": "Which kind", on: {change: () => render()}}, h("option", {value: ""}, "all kinds"), KINDS.map((each) => h("option", {value: each}, each)));
  const state = h("span", {class: "count", role: "status"}, "connecting");
  const nothing = h("div", {}, empty("Nothing has happened since this page was opened."));
  const happened = [];
  let due = false;
  const render = () => {
    if (due) return;
    due = true;
    requestAnimationFrame(() => {
      due = false;
      const wanted = words.value.toLowerCase();
      const found = happened.filter((each) => (!kinds.value || each.kind === kinds.value) && (!wanted || each.text.includes(wanted)));
      fill(list, found.slice(0, 200).map((each) => each.element));
      nothing.hidden = happened.length > 0;
      list.hidden = !nothing.hidden;
    });
  };
  list.hidden = true;
  view.show(h("div", {class: "head"}, h("h1", {}, "Live"), state), h("div", {class: "filters"}, words, kinds), nothing, list);
  follow(view, {}, (kind, data) => {
    happened.unshift({kind, text: JSON.stringify(data).toLowerCase(), element: liveLine(kind, data)});
    happened.length = Math.min(happened.length, MOST);
    render();
  }, (is, error) => (state.textContent = is ? "as it happens" : ["not connected", error?.message].filter(Boolean).join(": ")));
}

function liveLine(kind, data) {
    const what = {
    status: () => [badge(data.status), ` ${data.component ?? ""} `, data.reason || data.message || data.type || ""],
    lost: () => [`Some of it is missing: ${data.reason ?? ""}`],
    event: () => [h("strong", {}, data.event_type ?? "event"), ` ${data.message_id ?? ""}`],
    message: () => [h("strong", {}, `${data.from_addr ?? "–"} → ${data.to_addr ?? "–"}`), ` ${data.message_id ?? ""}`],
    log: () => [h("span", {class: "level"}, levelName(data.level ?? 20)), ` ${data.pdu ?? data.message ?? ""}`],
  }[kind]?.() ?? [JSON.stringify(data)];
  const id = data.channel_id;
  return h("li", {class: kind === "log" ? levelName(data.level ?? 20) : "info"}, h("details", {},
    h("summary", {}, time(data.timestamp), " ", h("span", {class: "chip"}, kind), " ", h("span", {class: "what"}, what)),
    id ? h("p", {}, h("a", {href: `#/${path("channels", id)}`}, id), data.message_id ? [" ", h("a", {href: `#/${path("messages", id, data.message_id)}`}, "its life")] : null) : null,
    json(data)));
}
