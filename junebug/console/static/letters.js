// Dead letters: what an application did not take, to be given to it again, or deleted.

import {api, path} from "./api.js";
import {channelHead} from "./channel.js";
import {fill, h} from "./dom.js";
import {routerHead} from "./routers.js";
import {confirmed, doing, toast} from "./view.js";
import {badge, empty, json, number, table, time} from "./widgets.js";

const PAUSE = 5000;
const PAGE = 25;

export async function show(view, {channel: id}) {
  const channel = await api.get(path("channels", id), {}, view.signal);
  await letters(view, channelHead(channel, "Dead letters", badge(channel.status.status)), path("channels", id, "dead-letters"));
}

export async function ofRouter(view, {router: id}) {
  const router = await api.get(path("routers", id), {}, view.signal);
  await letters(view, routerHead(router, "Dead letters"), path("routers", id, "dead-letters"));
}

async function letters(view, head, where) {
  const holder = h("div", {});
  const chosen = new Set();
  let offset = 0;
  let found = {dead_letters: [], total: 0};
  let shown = "";
  const replay = (ids) => async ({target}) => {
    const done = await doing(target, () => api.post(`${where}/replay`, ids ? {ids: [...ids]} : {}));
    if (!done) return;
    toast(`${number(done.replayed)} given to the application again${done.skipped ? `, ${number(done.skipped)} skipped` : ""}`, "good");
    chosen.clear();
    soon();
  };
  const replayAll = h("button", {type: "button", class: "primary", on: {click: replay(null)}}, "Replay all");
  const replayChosen = h("button", {type: "button", on: {click: replay(chosen)}}, "Replay the chosen");
  const removeAll = h("button", {type: "button", class: "danger", on: {click: async () => {
    if (!(await confirmed("Delete all dead letters?", `${number(found.total)} will be gone for good.`, "Delete all"))) return;
    await doing(removeAll, () => api.delete(`${where}/`), "The dead letters were deleted");
    soon();
  }}}, "Delete all");

  const count = () => {
    replayChosen.disabled = chosen.size === 0;
    replayChosen.textContent = chosen.size ? `Replay the chosen ${chosen.size}` : "Replay the chosen";
    replayAll.disabled = removeAll.disabled = found.total === 0;
  };
  const render = () => {
    const key = JSON.stringify([offset, found.total, found.dead_letters.map((each) => each.id)]);
    count();
    if (key === shown) return;
    shown = key;
    fill(holder, found.total === 0 ? empty("There are none.") : [
      table("Dead letters", ["Choose", "When", "Why", "To", "What", ""], h("tbody", {}, found.dead_letters.map(row))),
      found.total > PAGE ? h("div", {class: "pages"},
        h("button", {type: "button", "data-key": "before", disabled: offset === 0, on: {click: () => turn(-PAGE)}}, "Before"),
        h("span", {}, `${offset + 1} to ${Math.min(offset + PAGE, found.total)} of ${number(found.total)}, the oldest first`),
        h("button", {type: "button", "data-key": "after", disabled: offset + PAGE >= found.total, on: {click: () => turn(PAGE)}}, "After")) : null]);
  };
  const turn = (by) => {
    offset = Math.max(0, offset + by);
    soon();
  };
  const row = (letter) => {
    const choose = h("input", {type: "checkbox", "aria-label": `Choose the one of ${letter.timestamp}`, checked: chosen.has(letter.id), on: {change: () => {
      if (choose.checked) chosen.add(letter.id);
      else chosen.delete(letter.id);
      count();
    }}});
    const remove = h("button", {type: "button", class: "small", "aria-label": `Delete the one of ${letter.timestamp}`, on: {click: async () => {
      await doing(remove, () => api.delete(`${where}/${encodeURIComponent(letter.id)}`), "The dead letter was deleted");
      chosen.delete(letter.id);
      soon();
    }}}, "Delete");
    const what = letter.message ? letter.message.content ?? letter.message.event_type ?? letter.message.message ?? letter.kind : letter.body;
    return h("tr", {}, h("td", {}, choose), h("td", {}, time(letter.timestamp)),
      h("td", {class: "wide"}, h("p", {}, letter.reason.replace("_", " ")), h("p", {class: "sub"}, letter.error, letter.attempts ? `, tried ${number(letter.attempts)} times` : "")),
      h("td", {}, letter.to ?? letter.queue ?? "–", letter.kind ? h("span", {class: "sub"}, letter.kind) : null),
      h("td", {class: "wide"}, h("details", {}, h("summary", {}, String(what ?? "–").slice(0, 200)), json(letter.message ?? letter.body))),
      h("td", {}, remove));
  };
  const load = async () => {
    found = await api.get(`${where}/`, {limit: PAGE, offset}, view.signal);
    render();
  };
  const soon = await view.every(PAUSE, load);
  view.show(...head, h("div", {class: "filters"}, replayAll, replayChosen, removeAll), holder);
}
