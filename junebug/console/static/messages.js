// Messages: those that wait, those that are looked for, and the life of one.

import {api, ApiError, each, path} from "./api.js";
import {channelHead} from "./channel.js";
import {fill, h, shower} from "./dom.js";
import {alertBox, confirmed, doing} from "./view.js";
import {badge, crumbs, empty, json, named, number, table, time} from "./widgets.js";

const PAUSE = 5000;
const PAGE = 50;
const MOST_NAMED = 200;

// --- what waits -------------------------------------------------------------------------------------------------------

export async function waiting(view, {channel: id}) {
  const where = path("channels", id);
  const channel = await api.get(where, {}, view.signal);
  const holder = h("div", {});
  const cancelAll = h("button", {type: "button", class: "danger", on: {click: async () => {
    if (!(await confirmed("Cancel all that waits?", "Each message gets the event rejected, with the reason cancelled.", "Cancel all messages"))) return;
    const done = await doing(cancelAll, () => api.delete(`${where}/messages/`), "Cancelled");
    if (done) load();
  }}}, "Cancel all");
  const cancelOne = (message) => async ({target}) => {
    await doing(target, () => api.delete(`${where}/messages/${encodeURIComponent(message.message_id)}`), "Cancelled");
    load();
  };
  const load = async () => {
    const found = await api.get(`${where}/messages/`, {state: "queued", limit: PAGE}, view.signal);
    cancelAll.disabled = found.total === 0;
    fill(holder, found.total === 0 ? empty("Nothing waits to be sent.") : [
      table("Waiting messages", ["When", "From", "To", "Text", "Priority", ""], h("tbody", {}, found.messages.map((one) =>
        h("tr", {}, h("td", {}, h("a", {class: "row-link", href: `#/${path("messages", id, one.message_id)}`}, time(one.timestamp))), h("td", {}, one.from ?? "–"), h("td", {}, one.to ?? "–"),
          h("td", {class: "wide text"}, one.content ?? ""), h("td", {}, number(one.priority)),
          h("td", {}, h("button", {type: "button", class: "small", "aria-label": `Cancel the message to ${one.to}`, on: {click: cancelOne(one)}}, "Cancel")))))),
      h("p", {class: "sub"}, `The next ${found.messages.length} of ${number(found.total)}.`)]);
  };
  await load();
  view.refreshers.add(load);
  const again = h("button", {type: "button", on: {click: () => load()}}, "Look again");
  view.show(...channelHead(channel, "Waiting", badge(channel.status.status, channel.status.queue?.paused)),
    h("div", {class: "filters"}, again, cancelAll), holder);
}

// --- search -----------------------------------------------------------------------------------------------------------

const STATUSES = ["queued", "submitted", "delivery_pending", "delivery_succeeded", "delivery_failed", "rejected", "expired", "cancelled",
  "received", "waiting", "forwarded", "dropped", "dead"];

export async function search(view, _, query) {
  const make = (name, placeholder, type = "search") => h("input", {type, name, "aria-label": name, placeholder, value: query.get(name) ?? "", autocomplete: "off"});
  const pick = (name, all, options) => {
    const element = h("select", {name, "aria-label": name}, h("option", {value: ""}, all), options.map(([value, text]) => h("option", {value}, text)));
    element.value = query.get(name) ?? "";
    return element;
  };
  const to = make("to", "to");
  to.dataset.search = "";
  const channels = await channelNames(view);
  const fields = [to, make("from", "from"), make("since", "since 2027-01-31 08:00 (UTC)"), make("until", "until (UTC)"),
    pick("status", "any status", STATUSES.map((one) => [one, one])), pick("direction", "both directions", [["outbound", "outbound"], ["inbound", "inbound"]]),
    pick("channel_id", "all channels", channels.map((one) => [one.id, named(one)]))];
  const holder = h("div", {"aria-live": "polite"});
  const byId = Object.fromEntries(channels.map((one) => [one.id, named(one)]));
  const wanted = () => Object.fromEntries(fields.map((one) => [one.name, one.value.trim()]).filter(([, value]) => value));
  const rows = h("tbody", {});
  const more = h("button", {type: "button"}, "More");

  const find = async (cursor) => {
    let found;
    try {
      found = await api.get("messages", {...wanted(), limit: PAGE, cursor}, view.signal);
    } catch (error) {
      if (view.left) return;
      fill(holder, error instanceof ApiError && error.status === 404 ? empty("This Junebug cannot look for messages.") : alertBox(error));
      return;
    }
    if (!cursor) fill(rows);
    rows.append(...found.messages.map((one) => messageRow(one, byId)));
    more.onclick = () => doing(more, () => find(found.cursor));
    fill(holder, rows.children.length ? table("Messages", ["When", "Direction", "From", "To", "Channel", "Status"], rows) : empty(found.cursor ? "None so far; older ones are there to be looked at." : "None was found."), found.cursor ? h("div", {class: "pages"}, more) : null);
  };
  const element = h("form", {class: "filters search", "aria-label": "Find messages", on: {submit: (event) => {
    event.preventDefault();
    const text = new URLSearchParams(wanted()).toString();
    history.replaceState(null, "", `#/messages${text ? `?${text}` : ""}`);
    find();
  }}}, fields, h("button", {type: "submit", class: "primary"}, "Find"));
  await find();
  view.refreshers.add(() => find());
  view.show(h("div", {class: "head"}, h("h1", {}, "Messages")), element, holder);
}

async function channelNames(view) {
  const ids = (await api.get("channels/", {}, view.signal)).slice(0, MOST_NAMED);
  return (await each(ids, (id) => api.get(path("channels", id), {}, view.signal))).filter(Boolean);
}

function messageRow(one, byId) {
  return h("tr", {}, h("td", {}, h("a", {class: "row-link", href: `#/${path("messages", one.channel_id, one.message_id)}`}, time(one.timestamp))),
    h("td", {}, one.direction), h("td", {}, one.from ?? "–"), h("td", {}, one.to ?? "–"),
    h("td", {}, h("a", {href: `#/${path("channels", one.channel_id)}`}, byId[one.channel_id] ?? one.channel_id)), h("td", {}, outcome(one.status)));
}

/** A message's status: good, bad, or under way. */
function outcome(status) {
  const kind = /succeeded|forwarded/.test(status ?? "") ? "ok" : /fail|reject|dead|expired|cancel|dropped/.test(status ?? "") ? "down" : /waiting|pending/.test(status ?? "") ? "degraded" : "none";
  return h("span", {class: `badge ${kind}`}, String(status ?? "unknown").replaceAll("_", " "));
}

// --- the life of one --------------------------------------------------------------------------------------------------

export async function timeline(view, {channel: id, message}) {
  const where = path("channels", id, "messages", message);
  const holder = h("div", {});
  const render = shower(holder, (life) => lifeOf(life, id));
  let name = id;
  try {
    name = named(await api.get(path("channels", id), {}, view.signal));
  } catch {
    // it was deleted; its messages may be known still
  }
  const load = async () => {
    try {
      render(await api.get(`${where}/timeline`, {}, view.signal));
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 404 || error.type === "MessageNotFound") throw error;
      render({only: (await api.get(where, {}, view.signal)).events});
    }
  };
  await view.every(PAUSE, load);
  view.show(crumbs(["Messages", "#/messages"], [name, `#/${path("channels", id)}`]),
    h("div", {class: "head"}, h("h1", {}, "The life of a message"), h("code", {class: "count"}, message),
      h("div", {class: "head-tools"}, h("a", {class: "button", href: `#/${path("channels", id, "logs")}?message_id=${encodeURIComponent(message)}`}, "Its log lines"))),
    holder);
}

function lifeOf(life, id) {
  if (life.only) {
    const steps = life.only.map((event) => ({timestamp: event.timestamp, kind: event.event_type, description: "", details: event.event_details}));
    return [empty("This Junebug tells of its events alone."), stepsOf(steps)];
  }
  const since = life.waiting?.since;
  return [
    h("p", {class: "summary"}, outcome(life.status), " ", life.summary),
    life.waiting ? h("div", {class: "note waiting"}, h("strong", {}, "Waits "), life.waiting.for, since ? [" since ", time(since)] : null, life.waiting.until ? [", until ", time(life.waiting.until)] : null) : null,
    h("p", {class: "sub"}, `An ${life.direction} message of `, h("a", {href: `#/${path("channels", id)}`}, id),
      life.logs && life.logs !== "complete" ? `. Of its log lines not all are left (${life.logs}).` : ""),
    stepsOf(life.steps),
  ];
}

function stepsOf(steps) {
  if (!steps.length) return empty("Nothing is known of it.");
  return h("ol", {class: "steps"}, steps.map((step) => {
    const said = Object.entries(step.details ?? {});
    const kind = /failed|rejected|dead|expired|cancelled|dropped|no_answer/.test(step.kind) ? "down" : /waits|not_sent/.test(step.kind) ? "degraded" : /sent|receipt|event|callback|answered|received/.test(step.kind) ? "ok" : "";
    return h("li", {class: kind}, h("p", {}, time(step.timestamp), " ", h("strong", {}, step.kind.replaceAll("_", " ")), step.description ? [" ", step.description] : null),
      said.length ? h("details", {}, h("summary", {}, said.map(([name]) => name.replaceAll("_", " ")).slice(0, 8).join(", ")), json(step.details)) : null);
  }));
}
