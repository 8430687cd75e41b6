// Messages: those that wait, those that are looked for, and the life of one.

import {api, each, path} from "./api.js";
import {fill, h, shower} from "./dom.js";
import {listed, owner, placeOf, sliced} from "./things.js";
import {alertBox, confirmed, doing} from "./view.js";
import {crumbs, empty, json, named, number, pager, table, time} from "./widgets.js";

const PAUSE = 5000;
const FOUND = 50;

// --- what waits -------------------------------------------------------------------------------------------------------

export async function waiting(view, given) {
  const {id, where: of, above} = await owner(view, given, "Waiting");
  const where = `${of}/messages/`;
  const holder = h("div", {});
  let first = 0;
  const cancelAll = h("button", {type: "button", class: "danger", on: {click: async () => {
    if (!(await confirmed("Cancel all that waits?", "Each message gets the event rejected, with the reason cancelled.", "Cancel all messages"))) return;
    if (await doing(cancelAll, () => api.delete(where), "Cancelled")) soon();
  }}}, "Cancel all");
  const cancelOne = (message) => async ({target}) => {
    await doing(target, () => api.delete(where + path(message.message_id)), "Cancelled");
    soon();
  };
  const row = (one) => h("tr", {}, h("td", {}, h("a", {class: "row-link", href: `#/${path("messages", id, one.message_id)}`}, time(one.timestamp))), h("td", {}, one.from ?? "–"), h("td", {}, one.to ?? "–"),
    h("td", {class: "wide text"}, one.content ?? ""), h("td", {}, number(one.priority)),
    h("td", {}, h("button", {type: "button", class: "small", "aria-label": `Cancel the message to ${one.to}`, on: {click: cancelOne(one)}}, "Cancel")));
  const soon = await view.every(Infinity, async () => {
    const {messages, total, first: from} = await sliced(view, where, first, {state: "queued"});
    first = from;
    cancelAll.disabled = total === 0;
    fill(holder, total === 0 ? empty("Nothing waits to be sent.") : [
      table("Waiting messages", ["When", "From", "To", "Text", "Priority", ""], h("tbody", {}, messages.map(row))),
      pager(total, first, (next) => ((first = next), soon()), ", the next to be sent first")]);
  });
  const again = h("button", {type: "button", on: {click: soon}}, "Look again");
  view.show(...above, h("div", {class: "filters"}, again, cancelAll), holder);
}

// --- search -----------------------------------------------------------------------------------------------------------

export const STATUSES = ["queued", "submitted", "delivery_pending", "delivery_succeeded", "delivery_failed", "rejected", "expired", "cancelled",
  "received", "waiting", "forwarded", "dropped", "dead"];

export const DIRECTIONS = ["outbound", "inbound"];

export async function search(view, _, query) {
  const make = (name, placeholder, type = "search") => h("input", {type, name, "aria-label": name, placeholder, value: query.get(name) ?? "", autocomplete: "off"});
  const pick = (name, all, options) => {
    const element = h("select", {name, "aria-label": name}, h("option", {value: ""}, all), options.map(([value, text]) => h("option", {value}, text)));
    element.value = query.get(name) ?? "";
    return element;
  };
  const to = make("to", "to");
  to.dataset.search = "";
  const {things: channels} = await listed(view, "channels");
  const of = query.get("channel_id");
  const other = of && !channels.some((one) => one.id === of) ? [[of, of]] : [];
  const fields = [to, make("from", "from"), make("since", "since 2027-01-31 08:00 (UTC)"), make("until", "until (UTC)"),
    pick("status", "any status", STATUSES.map((one) => [one, one])), pick("direction", "both directions", DIRECTIONS.map((one) => [one, one])),
    pick("channel_id", "all channels", [...channels.map((one) => [one.id, named(one)]), ...other])];
  const holder = h("div", {"aria-live": "polite"});
  const byId = Object.fromEntries(channels.map((one) => [one.id, named(one)]));
  const wanted = () => Object.fromEntries(fields.map((one) => [one.name, one.value.trim()]).filter(([, value]) => value));
  const rows = h("tbody", {});
  const more = h("button", {type: "button"}, "More");

  const find = async (cursor) => {
    let found;
    try {
      found = await api.get("messages", {...wanted(), limit: FOUND, cursor}, view.signal);
    } catch (error) {
      if (view.left) return;
      fill(holder, alertBox(error));
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

function messageRow(one, byId) {
  return h("tr", {}, h("td", {}, h("a", {class: "row-link", href: `#/${path("messages", one.channel_id, one.message_id)}`}, time(one.timestamp))),
    h("td", {}, one.direction), h("td", {}, one.from ?? "–"), h("td", {}, one.to ?? "–"),
    h("td", {}, h("a", {href: `#/${path("channels", one.channel_id)}`}, byId[one.channel_id] ?? one.channel_id)), h("td", {}, outcome(one.status)));
}

/** Kind of badge -> the statuses of messages that have it; "none": those that tell nothing yet. */
export const OUTCOMES = {
  ok: ["delivery_succeeded", "forwarded"],
  degraded: ["delivery_pending", "waiting"],
  down: ["delivery_failed", "rejected", "expired", "cancelled", "dropped", "dead"],
  none: ["queued", "sending", "submitted", "moved", "received"],
};
/** Likewise the kinds of steps. */
export const STEPS = {
  ok: ["received", "told_provider", "sent_to_provider", "provider_answered", "sent", "receipt", "event", "callback"],
  degraded: ["not_sent", "callback_waits"],
  down: ["no_answer", "failed", "rejected", "cancelled", "expired", "dropped", "dead"],
  "": ["channel", "stored", "accepted", "queued", "moved", "replayed", "note"],
};
const kindIn = (table, word) => Object.keys(table).find((kind) => table[kind].includes(word));

function outcome(status) {
  return h("span", {class: `badge ${kindIn(OUTCOMES, status) ?? "none"}`}, String(status ?? "unknown").replaceAll("_", " "));
}

// --- the life of one --------------------------------------------------------------------------------------------------

export async function timeline(view, {channel: id, message}) {
  const where = path("channels", id, "messages", message, "timeline");
  const holder = h("div", {});
  const render = shower(holder, (life) => lifeOf(life, id));
  const [channel] = await each([id], () => api.get(path("channels", id), {}, view.signal)); // null: for whom messages are all they may see
  await view.every(PAUSE, async () => render(await api.get(where, {}, view.signal)));
  view.show(crumbs(["Messages", "#/messages"], [named(channel ?? {id}), placeOf("channel", id)]),
    h("div", {class: "head"}, h("h1", {}, "The life of a message"), h("code", {class: "count"}, message),
      h("div", {class: "head-tools"}, h("a", {class: "button", href: `#/${path("channels", id, "logs")}?message_id=${encodeURIComponent(message)}`}, "Its log lines"))),
    holder);
}

function lifeOf(life, id) {
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
    const kind = kindIn(STEPS, step.kind);
    return h("li", {class: kind}, h("p", {}, time(step.timestamp), " ", h("strong", {}, step.kind.replaceAll("_", " ")), step.description ? [" ", step.description] : null),
      said.length ? h("details", {}, h("summary", {}, said.map(([name]) => name.replaceAll("_", " ")).slice(0, 8).join(", ")), json(step.details)) : null);
  }));
}
