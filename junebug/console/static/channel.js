// One channel: how it does and why, what waits, and what can be done about it.

import {api, path} from "./api.js";
import {fill, h, shower} from "./dom.js";
import {noted} from "./channels.js";
import {follow} from "./stream.js";
import {head} from "./things.js";
import {confirmed, doing, toast} from "./view.js";
import {badge, copyButton, empty, facts, json, named, number, rate, remembered, sparkline, table, time} from "./widgets.js";

const PAUSE = 2000;
const MOST_CHANGES = 30;
export const RATES = [
  ["submitted_event_rate", "Submitted"],
  ["delivery_succeeded_rate", "Delivered"], ["delivery_failed_rate", "Failed"], ["delivery_pending_rate", "Pending"],
  ["rejected_event_rate", "Rejected"],
];

export async function show(view, {channel: id}) {
  const where = path("channels", id);
  const state = h("span", {class: "head-state"});
  const summary = h("div", {class: "cards"});
  const components = h("div", {});
  const changes = h("div", {});
  const about = h("div", {});
  const seen = [];
  let channel;

  const showComponents = shower(components, (all) => componentsOf(all));
  const showChanges = shower(changes, changesOf);
  const showAbout = shower(about, aboutOf);
  const pause = h("button", {type: "button", on: {click: () => doing(pause, async () => {
    const paused = channel.status.queue.paused;
    await api.post(`${where}/${paused ? "resume" : "pause"}`);
    toast(paused ? "Sending again" : "Sending is paused", "good");
    soon();
  })}}, "Pause");
  const restart = h("button", {type: "button", on: {click: async () => {
    if (!(await confirmed("Restart this channel?", `Who is connected to ${named(channel)} is cut off; what waits is kept.`, "Restart", "primary"))) return;
    await doing(restart, () => api.post(`${where}/restart`), "The channel was restarted");
    soon();
  }}}, "Restart");
  const remove = h("button", {type: "button", class: "danger", on: {click: () => removeChannel(channel, remove)}}, "Delete");

  /** A status that is none of the last one's repeats is a change. */
  const note = (component, {status, type, message}) => {
    const last = seen.find((one) => one.component === component);
    if (last && last.status === status && last.type === type) return;
    seen.unshift({component, status, type, message, at: Date.now() / 1000});
    seen.length = Math.min(seen.length, MOST_CHANGES);
    showChanges(seen);
  };

  const load = async () => {
    const found = await api.get(where, {}, view.signal);
    channel = found;
    for (const [name, body] of Object.entries(channel.status.components)) note(name, body);
    noted(channel);
    fill(state, badge(channel.status.status, channel.status.queue?.paused));
    pause.textContent = channel.status.queue?.paused ? "Resume" : "Pause";
    fill(summary, summaryOf(channel));
    showComponents(channel.status.components);
    showAbout(channel);
  };

  const soon = await view.every(PAUSE, load);
  view.show(
    ...head("channel", channel, "Overview", state, pause, restart, remove),
    summary,
    h("section", {}, h("h2", {}, "Components"), components),
    h("section", {}, h("h2", {}, "Statuses since this page was opened"), changes),
    h("section", {}, h("h2", {}, "Properties"), about),
  );
  follow(view, {channel_id: id, kind: "status"}, (kind, event) => {
    if (event.component) note(event.component, {...event, message: event.reason});
    soon();
  });
}

export async function removeChannel(channel, button) {
  const text = `${named(channel)} and what waits in it will be gone: what is to be sent is cancelled, and its dead letters are deleted.`;
  if (!(await confirmed("Delete this channel?", text, "Delete"))) return;
  const done = await doing(button, () => api.delete(path("channels", channel.id)), `${named(channel)} was deleted`);
  if (done) location.hash = "#/channels";
}

function summaryOf({id, status}) {
  const queue = status.queue ?? {};
  const priorities = Object.entries(queue.queued ?? {}).filter(([, count]) => count).map(([priority, count]) => `${number(count)} of priority ${priority}`);
  const sending = Object.values(queue.sending ?? {}).reduce((sum, one) => sum + one, 0);
  const card = (title, value, more, chart) => h("div", {class: "card"}, h("h2", {}, title), h("p", {class: "big"}, value), more ? h("p", {class: "sub"}, more) : null, chart);
  return [
    card("In", [rate(status.inbound_message_rate), h("span", {class: "unit"}, "/s")], "messages a second", sparkline(remembered(`${id} in`), "inbound lately")),
    card("Out", [rate(status.outbound_message_rate), h("span", {class: "unit"}, "/s")], "messages a second", sparkline(remembered(`${id} out`), "outbound lately")),
    card("Queue", number(status.queue_length), [priorities.join(", ") || "nothing waits", sending ? `, ${number(sending)} being sent` : ""], sparkline(remembered(`${id} queue`), "queue lately", "warm")),
    card("Owed", number(status.callbacks_waiting), "waits for the application"),
    card("Dead letters", status.dead_letters ? h("a", {"data-key": "dead", href: `#/${path("channels", id, "dead-letters")}`}, number(status.dead_letters)) : number(status.dead_letters), "what it did not take"),
    h("div", {class: "card"}, h("h2", {}, "Events a second"), h("dl", {class: "rates"}, RATES.map(([name, label]) => h("div", {}, h("dt", {}, label), h("dd", {}, rate(status[name])))))),
  ];
}

export function componentsOf(components) {
  const all = Object.entries(components);
  if (!all.length) return empty("None has told yet how it does.");
  return table("Components", ["Component", "Status", "What it says"], h("tbody", {}, all.map(([name, one]) => {
    const hasDetails = Object.keys(one.details ?? {}).length > 0;
    return h("tr", {}, h("th", {scope: "row"}, name), h("td", {}, badge(one.status)),
      h("td", {class: "wide"}, h("p", {}, one.message || one.type, one.message && one.type ? h("span", {class: "sub"}, ` · ${one.type}`) : null),
        hasDetails ? h("details", {}, h("summary", {}, "Details"), json(one.details)) : null));
  })));
}

function changesOf(seen) {
  if (!seen.length) return empty("None.");
  return table("Statuses", ["When", "Component", "Status", "What it says"], h("tbody", {}, seen.map((one) =>
    h("tr", {}, h("td", {}, time(one.at)), h("td", {}, one.component), h("td", {}, badge(one.status)), h("td", {class: "wide"}, one.message || one.type)))));
}

function aboutOf(channel) {
  const {id, type, config, status, label, metadata, ...rest} = channel;
  return [
    facts([["id", h("code", {}, id), " ", copyButton(id, "the id")], ["type", type],
      status.router ? ["router", h("a", {href: `#/${path("routers", status.router)}`}, status.router)] : null,
      ...Object.entries(rest).map(([name, value]) => [name, typeof value === "object" && value ? json(value) : String(value)]),
      metadata ? ["metadata", json(metadata)] : null]),
    h("h3", {}, "config"), json(config),
  ];
}
