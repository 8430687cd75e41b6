// Pieces that several pages show: statuses, numbers, times, little charts, tables.

import {h, svg} from "./dom.js";

/** How many of a long list are shown at once. */
export const PAGE = 25;

export const WORDS = ["ok", "degraded", "down"];
const HISTORY = 60;

/** A status: colour and word. */
export function badge(status, paused = false) {
  const isKnown = WORDS.includes(status);
  const state = h("span", {class: `badge ${isKnown ? status : "none"}`}, h("span", {class: "dot", "aria-hidden": "true"}), isKnown ? status : "no status yet");
  return paused ? h("span", {class: "badges"}, state, h("span", {class: "badge paused"}, "paused")) : state;
}

export function number(value, digits = 0) {
  return value === null || value === undefined ? "–" : Number(value).toLocaleString("en", {maximumFractionDigits: digits});
}

export const rate = (value) => (value ? number(value, value < 10 ? 1 : 0) : "0");

/** A timestamp of the API (UTC, without saying so), or seconds since 1970, as the reader's clock has it. */
export function time(given) {
  if (given === null || given === undefined || given === "") return "–";
  const date = typeof given === "number" ? new Date(given * 1000) : new Date(`${String(given).replace(" ", "T")}Z`);
  if (Number.isNaN(date.getTime())) return String(given);
  const today = date.toDateString() === new Date().toDateString();
  const day = today ? {} : {year: "numeric", month: "short", day: "2-digit"};
  const shown = date.toLocaleString("en-GB", {...day, hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3});
  return h("time", {datetime: date.toISOString(), title: date.toISOString()}, shown);
}

/** What was measured lately, for as long as the tab is there: key -> numbers, the newest last. */
const histories = new Map();

export function remember(key, value) {
  const known = histories.get(key) ?? [];
  histories.set(key, known);
  known.push(Number(value) || 0);
  if (known.length > HISTORY) known.shift();
  return known;
}

export const remembered = (key) => histories.get(key) ?? [];

/** A line of numbers; what it says stands beside it as text. */
export function sparkline(values, label, kind = "") {
  const width = 96;
  const height = 22;
  const top = Math.max(...values, 0.001);
  const step = width / (HISTORY - 1);
  const from = HISTORY - values.length;
  const points = values.map((value, n) => [((from + n) * step).toFixed(1), (height - 1.5 - (value / top) * (height - 4)).toFixed(1)]);
  const line = points.map((each) => each.join(",")).join(" ");
  const area = points.length ? `${points[0][0]},${height} ${line} ${points.at(-1)[0]},${height}` : "";
  return svg("svg", {class: `spark ${kind}`, viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": label},
    svg("line", {class: "base", x1: 0, x2: width, y1: height - 1, y2: height - 1}), svg("polygon", {class: "area", points: area}), svg("polyline", {class: "line", points: line}));
}

/** `columns`: texts, or [text, class]. `caption` is for who does not see it. A wide one scrolls by itself, by keyboard, too. */
export function table(caption, columns, body) {
  const heads = columns.map((each) => [each].flat()).map(([text, kind]) =>
    h("th", {scope: "col", class: kind}, text || h("span", {class: "hidden"}, "Actions")));
  return h("div", {class: "table", role: "region", tabindex: "0", "aria-label": caption},
    h("table", {}, h("caption", {class: "hidden"}, caption), h("thead", {}, h("tr", {}, heads)), body));
}

/** Leads through a long list, `PAGE` at a time; none is needed for a short one. `turn(first)`: shows those from there on. */
export function pager(total, first, turn, order = "") {
  if (total <= PAGE) return null;
  const last = Math.min(first + PAGE, total);
  const button = (key, text, disabled, to) => h("button", {type: "button", "data-key": key, disabled, on: {click: () => turn(to)}}, text);
  return h("div", {class: "pages"}, button("before", "Before", first === 0, Math.max(0, first - PAGE)),
    h("span", {}, `${number(first + 1)} to ${number(last)} of ${number(total)}${order}`), button("after", "After", last >= total, first + PAGE));
}

/** Where the page begins that shows `first`, or the last page, where there are fewer by now. */
export const pageAt = (first, total) => (first < total ? first : Math.max(0, Math.ceil(total / PAGE) - 1) * PAGE);

/** Terms and what they are. */
export function facts(pairs) {
  return h("dl", {class: "facts"}, pairs.filter(Boolean).map(([term, ...what]) => h("div", {}, h("dt", {}, term), h("dd", {}, ...what))));
}

/** Anything of JSON, to be read. */
export function json(value) {
  return h("pre", {class: "json", tabindex: "0", role: "group", "aria-label": "JSON"}, JSON.stringify(value, null, 2));
}

export function empty(...children) {
  return h("p", {class: "empty"}, ...children);
}

/** Links among the pages of one thing; `here` is the one that is shown. */
export function tabs(label, pages, here) {
  return h("nav", {class: "tabs", "aria-label": label},
    pages.map(([name, href]) => h("a", {href, "aria-current": name === here ? "page" : null}, name)));
}

export function crumbs(...links) {
  return h("nav", {class: "crumbs", "aria-label": "Where this is"}, links.map(([text, href]) => h("a", {href}, text)));
}

export const named = (thing) => thing.label || thing.id;

/** Copies a text, where the browser lets it. */
export function copyButton(text, what) {
  const button = h("button", {type: "button", class: "small", "aria-label": `Copy ${what}`, on: {click: async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Select and copy it";
    }
  }}}, "Copy");
  return button;
}
