// Routers and their destinations.

import {api, path} from "./api.js";
import {componentsOf} from "./channel.js";
import {fill, h, shower} from "./dom.js";
import {head, listed} from "./things.js";
import {confirmed, doing} from "./view.js";
import {badge, copyButton, empty, facts, json, named, number, PAGE, pager, rate, table} from "./widgets.js";

const PAUSE = 4000;

export async function show(view) {
  const holder = h("div", {});
  let first = 0;
  const turn = (next) => ((first = next), soon());
  const render = shower(holder, ({things, total}) => (total === 0
    ? empty("There is no router yet. One brings a number's messages to several applications, or sends by several channels.")
    : [table("Routers", ["Router", "Status", ["In", "rate"], ["Out", "rate"], ["Dropped", "rate"], ["Owed", "rate"], ["Dead", "rate"]], h("tbody", {}, things.map(row))), pager(total, first, turn)]));
  const soon = await view.every(PAUSE, async () => {
    const found = await listed(view, "routers", first, PAGE);
    first = found.first;
    render(found);
  });
  view.show(h("div", {class: "head"}, h("h1", {}, "Routers"), h("div", {class: "head-tools"}, h("a", {class: "button primary", href: "#/routers/new", "data-new": true}, "New router"))), holder);
}

function row(router) {
  const {status} = router;
  const value = (label, text) => h("td", {class: "rate", "data-label": label}, h("span", {class: "value"}, text));
  return h("tr", {}, h("td", {class: "main"}, h("a", {class: "row-link", "data-key": router.id, href: `#/${path("routers", router.id)}`}, named(router)), h("span", {class: "sub"}, router.label ? `${router.type} · ${router.id}` : router.type)),
    h("td", {"data-label": "Status"}, badge(status.status)), value("In", rate(status.inbound_message_rate)), value("Out", rate(status.outbound_message_rate)),
    value("Dropped", rate(status.dropped_message_rate)), value("Owed", number(status.callbacks_waiting)), value("Dead", number(status.dead_letters)));
}

export async function one(view, {router: id}) {
  const where = path("routers", id);
  const state = h("span", {class: "head-state"});
  const components = h("div", {});
  const destinations = h("div", {});
  const about = h("div", {});
  const showComponents = shower(components, componentsOf);
  const showAbout = shower(about, aboutOf);
  const showDestinations = shower(destinations, ({things, total}) => (total === 0 ? empty("It has none.")
    : [table("Destinations", ["Destination", "Config", "To", ["In", "rate"], ["Out", "rate"], ""], h("tbody", {}, things.map(destinationRow))), pager(total, first, turn)]));
  const turn = (next) => ((first = next), soon());
  let first = 0;
  let router;
  const destinationRow = (each) => {
    const at = path("routers", id, "destinations", each.id);
    const remove = h("button", {type: "button", class: "small", "aria-label": `Delete ${named(each)}`, on: {click: async () => {
      if (!(await confirmed("Delete this destination?", `${named(each)} gets no more messages.`, "Delete"))) return;
      await doing(remove, () => api.delete(at), "The destination was deleted");
      soon();
    }}}, "Delete");
    return h("tr", {}, h("td", {class: "main"}, h("a", {class: "row-link", "data-key": each.id, href: `#/${at}`}, named(each)), each.label ? h("span", {class: "sub"}, each.id) : null),
      h("td", {class: "wide"}, h("code", {}, JSON.stringify(each.config))), h("td", {class: "wide"}, each.mo_url ?? each.amqp_queue ?? "–"),
      h("td", {class: "rate"}, rate(each.status.inbound_message_rate)), h("td", {class: "rate"}, rate(each.status.outbound_message_rate)), h("td", {}, remove));
  };
  const restart = h("button", {type: "button", on: {click: async () => {
    await doing(restart, () => api.post(`${where}/restart`), "The router was restarted");
    soon();
  }}}, "Restart");
  const remove = h("button", {type: "button", class: "danger", on: {click: async () => {
    if (!(await confirmed("Delete this router?", `${named(router)} and its destinations will be gone; its channel is free then.`, "Delete"))) return;
    if (await doing(remove, () => api.delete(where), "The router was deleted")) location.hash = "#/routers";
  }}}, "Delete");
  const soon = await view.every(PAUSE, async () => {
    router = await api.get(where, {}, view.signal);
    const found = await listed(view, `${where}/destinations`, first, PAGE);
    first = found.first;
    fill(state, badge(router.status.status));
    showComponents(router.status.components);
    showDestinations(found);
    showAbout(router);
  });
  view.show(...head("router", router, "Overview", state, restart, remove),
    h("section", {}, h("div", {class: "head"}, h("h2", {}, "Destinations"), h("div", {class: "head-tools"}, h("a", {class: "button", "data-new": true, href: `#/${path("routers", id, "destinations", "new")}`}, "New destination"))), destinations),
    h("section", {}, h("h2", {}, "Components"), components), h("section", {}, h("h2", {}, "Properties"), about));
}

function aboutOf({id, type, config, metadata, status}) {
  return [facts([["id", h("code", {}, id), " ", copyButton(id, "the id")], ["type", type], ["dropped a second", rate(status.dropped_message_rate)], metadata ? ["metadata", json(metadata)] : null]),
    h("h3", {}, "config"), json(config)];
}
