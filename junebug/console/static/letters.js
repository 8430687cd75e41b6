// Dead letters: what an application did not take, to be given to it again, or deleted.

import {api, path} from "./api.js";
import {fill, h} from "./dom.js";
import {owner, sliced} from "./things.js";
import {confirmed, doing, toast} from "./view.js";
import {empty, json, number, pager, table, time} from "./widgets.js";

const PAUSE = 5000;

export async function show(view, given) {
  const {where: thing, above} = await owner(view, given, "Dead letters");
  const where = `${thing}/dead-letters`;
  const holder = h("div", {});
  const chosen = new Set();
  let first = 0;
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
    const key = JSON.stringify([first, found.total, found.dead_letters.map((each) => each.id)]);
    count();
    if (key === shown) return;
    shown = key;
    fill(holder, found.total === 0 ? empty("There are none.") : [
      table("Dead letters", ["Choose", "When", "Why", "To", "What", ""], h("tbody", {}, found.dead_letters.map(row))),
      pager(found.total, first, (next) => ((first = next), soon()), ", the oldest first")]);
  };
  const row = (letter) => {
    const choose = h("input", {type: "checkbox", "aria-label": `Choose the one of ${letter.timestamp}`, checked: chosen.has(letter.id), on: {change: () => {
      if (choose.checked) chosen.add(letter.id);
      else chosen.delete(letter.id);
      count();
    }}});
    const remove = h("button", {type: "button", class: "small", "aria-label": `Delete the one of ${letter.timestamp}`, on: {click: async () => {
      await doing(remove, () => api.delete(`${where}/${path(letter.id)}`), "The dead letter was deleted");
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
    found = await sliced(view, `${where}/`, first);
    first = found.first;
    render();
  };
  const soon = await view.every(PAUSE, load);
  view.show(...above, h("div", {class: "filters"}, replayAll, replayChosen, removeAll), holder);
}
