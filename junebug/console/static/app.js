// The console's frame: which page is shown, its keys, its theme, and signing in. Each page has a file.

import {api, token, unauthorized} from "./api.js";
import {fill, h} from "./dom.js";
import {dialog, View} from "./view.js";
import * as channels from "./channels.js";
import * as channel from "./channel.js";
import * as edit from "./edit.js";
import * as send from "./send.js";
import * as logs from "./logs.js";
import * as letters from "./letters.js";
import * as messages from "./messages.js";
import * as routers from "./routers.js";
import * as tokens from "./tokens.js";

/** Title, path (`:x` is any part), page: a function of the view, its parts, and what stands behind a `?`. */
const PAGES = [
  ["Channels", "channels", channels.show],
  ["New channel", "channels/new", edit.newChannel],
  ["Channel", "channels/:channel", channel.show],
  ["Change a channel", "channels/:channel/edit", edit.change],
  ["Send a message", "channels/:channel/send", send.show],
  ["Waiting messages", "channels/:channel/queue", messages.waiting],
  ["Logs", "channels/:channel/logs", logs.show],
  ["Dead letters", "channels/:channel/dead-letters", letters.show],
  ["Messages", "messages", messages.search],
  ["The life of a message", "messages/:channel/:message", messages.timeline],
  ["Live", "live", logs.live],
  ["Routers", "routers", routers.show],
  ["New router", "routers/new", edit.newRouter],
  ["Router", "routers/:router", routers.one],
  ["Change a router", "routers/:router/edit", edit.change],
  ["Logs", "routers/:router/logs", logs.show],
  ["Dead letters", "routers/:router/dead-letters", letters.show],
  ["New destination", "routers/:router/destinations/new", edit.destination],
  ["Change a destination", "routers/:router/destinations/:destination", edit.destination],
  ["API tokens", "tokens", tokens.show],
];
/** Name, path, and the key that leads there after a `g`. */
const NAVIGATION = [["Channels", "channels", "c"], ["Messages", "messages", "m"], ["Routers", "routers", "r"], ["Live", "live", "l"], ["Tokens", "tokens", "t"]];
const KEYS = [
  ...NAVIGATION.map(([, path, key]) => [`g ${key}`, path]),
  ["n", "new channel, router, destination or token"], ["/", "the page's search field"], ["j k", "the next, or previous, row of a list"],
  ["r", "look again now"], ["d", "dark or light"], ["Ctrl Enter", "send the form"], ["Esc", "close a dialog"], ["?", "this list"],
];
const GO = Object.fromEntries(NAVIGATION.map(([, path, key]) => [key, path]));

const main = document.getElementById("main");
const nav = document.getElementById("nav");
let view = new View(main);

// --- pages ------------------------------------------------------------------------------------------------------------

function found(path) {
  const parts = path.split("/").filter(Boolean).map(decodeURIComponent);
  for (const [title, pattern, page] of PAGES) {
    const wanted = pattern.split("/");
    if (wanted.length !== parts.length) continue;
    const given = {};
    if (wanted.every((each, n) => (each.startsWith(":") ? ((given[each.slice(1)] = parts[n]), true) : each === parts[n]))) return {title, page, given};
  }
  return null;
}

async function go() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  if (!path) {
    location.replace("#/channels");
    return;
  }
  view.leave();
  view = new View(main);
  const here = view;
  let place = null;
  try {
    place = found(path);
  } catch {
    // a % that is none
  }
  document.title = `${place?.title ?? "Nothing here"} · Junebug`;
  for (const link of nav.children) {
    const isHere = link.hash.slice(2) === path.split("/")[0];
    if (isHere) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.getElementById("banner").hidden = true;
  main.setAttribute("aria-busy", "true");
  try {
    if (place) await place.page(here, place.given, new URLSearchParams(query));
    else here.problem("There is no such page.", "Nothing here");
  } catch (error) {
    if (!here.left) here.problem(error);
  }
  if (!here.left) main.removeAttribute("aria-busy");
}

// --- signing in -------------------------------------------------------------------------------------------------------

let asking = false;

async function signIn(reason) {
  if (asking) return;
  asking = true;
  const given = await dialog("Sign in", (close) => {
    const input = h("input", {type: "password", id: "token", autocomplete: "current-password", spellcheck: "false"});
    return h("form", {on: {submit: (event) => (event.preventDefault(), close(input.value.trim()))}},
      reason ? h("p", {class: "problem"}, reason) : null,
      h("p", {}, "With an API token, as `junebug tokens create` makes them. It is kept for this tab, and forgotten with it."),
      h("label", {for: "token"}, "API token"), input,
      h("div", {class: "actions"}, h("button", {type: "submit", class: "primary"}, "Sign in"),
        h("button", {type: "button", on: {click: () => close(undefined)}}, "Cancel")));
  });
  asking = false;
  if (given) {
    token.set(given);
    tools();
    go();
  }
}

unauthorized.handler = (problem) => signIn(token.get() ? problem.message : "An API token is needed here.");

function tools() {
  const theme = h("button", {type: "button", class: "quiet", id: "theme", on: {click: switchTheme}}, themeName());
  const account = token.get()
    ? h("button", {type: "button", class: "quiet", on: {click: () => (token.set(""), tools(), go())}}, "Sign out")
    : h("button", {type: "button", class: "quiet", on: {click: () => signIn("")}}, "Sign in");
  const help = h("button", {type: "button", class: "quiet", "aria-label": "Keys", on: {click: showKeys}}, "?");
  fill(document.getElementById("tools"), theme, account, help);
}

// --- theme ------------------------------------------------------------------------------------------------------------

const isDark = () => (document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
const themeName = () => (isDark() ? "Light" : "Dark");

function switchTheme() {
  const chosen = isDark() ? "light" : "dark";
  document.documentElement.dataset.theme = chosen;
  try {
    localStorage.setItem("junebug.theme", chosen);
  } catch {
    // for this page only, then
  }
  document.getElementById("theme").textContent = themeName();
}

// --- keys -------------------------------------------------------------------------------------------------------------

function showKeys() {
  if (document.querySelector("dialog[open]")) return;
  dialog("Keys", (close) => [
    h("table", {class: "keys"}, h("tbody", {}, KEYS.map(([keys, what]) =>
      h("tr", {}, h("th", {scope: "row"}, keys.split(" ").map((key) => [h("kbd", {}, key), " "])), h("td", {}, what))))),
    h("div", {class: "actions"}, h("button", {type: "button", on: {click: () => close()}}, "Close")),
  ]);
}

function step(by) {
  const rows = [...main.querySelectorAll("a.row-link")];
  if (!rows.length) return;
  const at = rows.indexOf(document.activeElement);
  rows[Math.min(Math.max(at < 0 ? (by > 0 ? 0 : rows.length - 1) : at + by, 0), rows.length - 1)].focus();
}

let awaitsPlace = 0;

const SINGLE = {
  "?": showKeys,
  "/": () => main.querySelector("[data-search]")?.focus(),
  n: () => main.querySelector("[data-new]")?.click(),
  r: () => view.refresh(),
  d: switchTheme,
  j: () => step(1),
  k: () => step(-1),
};

addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, textarea, select, dialog, [contenteditable]");
  if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const place = Date.now() - awaitsPlace < 1500 ? GO[event.key] : null;
  awaitsPlace = event.key === "g" ? Date.now() : 0;
  const action = place ? () => (location.hash = `#/${place}`) : SINGLE[event.key];
  if (!action) return;
  event.preventDefault();
  action();
});

document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});

fill(nav, NAVIGATION.map(([name, path]) => h("a", {href: `#/${path}`}, name)));
tools();
addEventListener("hashchange", go);
go();
