// A channel or a router, `kind`: what its pages have in common.

import {api, each, path} from "./api.js";
import {h} from "./dom.js";
import {badge, crumbs, named, PAGE, pageAt, tabs} from "./widgets.js";

/** How many may be chosen from by name. */
const MOST_NAMED = 200;
const TITLES = {channel: "Channels", router: "Routers"};
const PAGES = {
  channel: [["Overview"], ["Send", "send"], ["Waiting", "queue"], ["Logs", "logs"], ["Dead letters", "dead-letters"], ["Change", "edit"]],
  router: [["Overview"], ["Logs", "logs"], ["Dead letters", "dead-letters"], ["Change", "edit"]],
};

export const placeOf = (kind, id, ...more) => `#/${path(`${kind}s`, id, ...more)}`;

/** What stands above each of its pages. */
export function head(kind, thing, here, ...tools) {
  return [
    crumbs([TITLES[kind], `#/${kind}s`]),
    h("div", {class: "head"}, h("h1", {}, named(thing)), h("span", {class: "count"}, thing.type), h("div", {class: "head-tools"}, ...tools)),
    tabs(`Of this ${kind}`, PAGES[kind].map(([name, ...end]) => [name, placeOf(kind, thing.id, ...end)]), here),
  ];
}

/** The one that a page is of: `{kind, id, where, thing, above}`. `given`: kind -> id, as of the page's path; `above`: its head. */
export async function owner(view, given, here) {
  const [kind, id] = Object.entries(given)[0];
  const where = path(`${kind}s`, id);
  const thing = await api.get(where, {}, view.signal);
  return {kind, id, where, thing, above: head(kind, thing, here, badge(thing.status.status, thing.status.queue?.paused))};
}

/** Of a list of ids the things from `first` on that are there still: `{things, first, total}`. Past the end: the last page. */
export async function listed(view, where, first = 0, count = MOST_NAMED) {
  const ids = await api.get(`${where}/`, {}, view.signal);
  const from = pageAt(first, ids.length);
  const found = await each(ids.slice(from, from + count), (id) => api.get(`${where}/${path(id)}`, {}, view.signal));
  return {things: found.filter(Boolean), first: from, total: ids.length};
}

/** Of a list that the API gives in slices, the slice from `first` on, likewise. */
export async function sliced(view, where, first, query = {}) {
  const found = await api.get(where, {...query, limit: PAGE, offset: first}, view.signal);
  const from = pageAt(first, found.total);
  return from === first ? {...found, first} : sliced(view, where, from, query);
}
