// All channels: how each does, at a glance.

import {api, each, path} from "./api.js";
import {fill, h} from "./dom.js";
import {follow} from "./stream.js";
import {badge, empty, named, number, PAGE, pageAt, pager, rate, remember, remembered, sparkline, table} from "./widgets.js";

const PAUSE = 3000;
const MOST_ASKED = 1000;
const COLUMNS = ["Channel", "Status", ["In", "rate"], ["Out", "rate"], ["Queue", "rate"], ["Owed", "rate"], ["Dead", "rate"]];

export async function show(view) {
  const known = new Map();
  const filter = h("input", {type: "search", "aria-label": "Find a channel", placeholder: "Find by label, type, id or status", "data-search": true});
  const count = h("p", {class: "count", role: "status"});
  const body = h("tbody", {});
  const pages = h("div", {});
  const rows = new Map();
  let ids = [];
  let first = 0;

  /** Of those that are looked for. */
  const wanted = () => {
    const words = filter.value.toLowerCase();
    return ids.filter((id) => !words || textOf(known.get(id) ?? {id}).includes(words));
  };

  const render = () => {
    const found = wanted();
    first = pageAt(first, found.length);
    const shown = found.slice(first, first + PAGE).filter((id) => known.has(id));
    for (const id of shown) {
      if (!rows.has(id)) rows.set(id, makeRow(id));
      rows.get(id).update(known.get(id));
    }
    const elements = shown.map((id) => rows.get(id).element);
    if (elements.length !== body.children.length || elements.some((one, n) => one !== body.children[n])) fill(body, elements);
    const text = ids.length === 0 ? "" : found.length === ids.length ? `${ids.length} in all` : `${found.length} of ${ids.length}`;
    if (count.textContent !== text) count.textContent = text;
    holder.hidden = ids.length === 0;
    none.hidden = ids.length > 0;
    fill(pages, pager(found.length, first, (next) => ((first = next), soon())));
  };

  const load = async () => {
    ids = await api.get("channels/", {}, view.signal);
    const unknown = ids.filter((id) => !known.has(id)).slice(0, Math.max(0, MOST_ASKED - known.size));
    const shown = wanted().slice(first, first + PAGE);
    const asked = [...new Set([...shown, ...unknown])];
    await each(asked, async (id) => {
      const found = await api.get(path("channels", id), {}, view.signal);
      known.set(id, found);
      noted(found);
    });
    for (const id of known.keys()) if (!ids.includes(id)) known.delete(id);
    render();
  };

  filter.addEventListener("input", () => ((first = 0), render()));
  const holder = table("Channels", COLUMNS, body);
  const none = empty("There is no channel yet. ", h("a", {href: "#/channels/new"}, "Make the first one"), ".");
  const head = h("div", {class: "head"}, h("h1", {}, "Channels"), count,
    h("div", {class: "head-tools"}, filter, h("a", {class: "button primary", href: "#/channels/new", "data-new": true}, "New channel")));
  const soon = await view.every(PAUSE, load);
  view.show(head, none, holder, pages);
  follow(view, {kind: "status"}, () => soon());
}

const textOf = (channel) => [channel.label, channel.type, channel.id, channel.status?.status].join(" ").toLowerCase();

/** Remembers what the little charts show. */
export function noted(channel) {
  remember(`${channel.id} in`, channel.status.inbound_message_rate);
  remember(`${channel.id} out`, channel.status.outbound_message_rate);
  remember(`${channel.id} queue`, channel.status.queue_length);
}

function makeRow(id) {
  const link = h("a", {class: "row-link", href: `#/${path("channels", id)}`});
  const about = h("span", {class: "sub"});
  const status = h("td", {"data-label": "Status"});
  const numbers = ["In", "Out", "Queue", "Owed", "Dead"].map((label) => h("td", {class: "rate", "data-label": label}));
  const element = h("tr", {}, h("td", {class: "main"}, link, about), status, numbers);
  return {element, update: (channel) => {
    link.textContent = named(channel);
    about.textContent = channel.label ? `${channel.type} · ${id.slice(0, 8)}` : channel.type;
    const {status: word, queue, components} = channel.status;
    const reason = Object.values(components).find((one) => one.status === word && word !== "ok");
    fill(status, badge(word, queue?.paused), reason ? h("span", {class: "sub"}, reason.message || reason.type) : null);
    const [incoming, outgoing, waiting] = ["in", "out", "queue"].map((one) => remembered(`${id} ${one}`));
    fill(numbers[0], h("span", {class: "value"}, rate(channel.status.inbound_message_rate), h("span", {class: "unit"}, "/s")), sparkline(incoming, "inbound lately"));
    fill(numbers[1], h("span", {class: "value"}, rate(channel.status.outbound_message_rate), h("span", {class: "unit"}, "/s")), sparkline(outgoing, "outbound lately"));
    fill(numbers[2], h("span", {class: "value"}, number(channel.status.queue_length)), sparkline(waiting, "queue lately", "warm"));
    fill(numbers[3], h("span", {class: "value"}, number(channel.status.callbacks_waiting)));
    fill(numbers[4], channel.status.dead_letters
      ? h("a", {class: "value", href: `#/${path("channels", id, "dead-letters")}`}, number(channel.status.dead_letters))
      : h("span", {class: "value"}, number(channel.status.dead_letters)));
  }};
}
