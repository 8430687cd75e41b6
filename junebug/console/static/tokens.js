// API tokens: who may do what. A new one's text is shown once.

import {api, path} from "./api.js";
import {fill, h} from "./dom.js";
import {field} from "./fields.js";
import {among, form} from "./forms.js";
import {confirmed, dialog, doing} from "./view.js";
import {copyButton, empty, table, time} from "./widgets.js";

export const SCOPES = [["channels:read", "see what there is"], ["messages:send", "send, and ask what became of it"], ["admin", "everything"]];

export async function show(view) {
  const holder = h("div", {});
  const row = (token) => {
    const revoke = h("button", {type: "button", class: "small danger", "aria-label": `Revoke ${token.name}`, on: {click: async () => {
      if (!(await confirmed("Revoke this token?", `Whoever uses ${token.name} is refused from now on.`, "Revoke"))) return;
      await doing(revoke, () => api.delete(path("tokens", token.id)), "The token was revoked");
      soon();
    }}}, "Revoke");
    return h("tr", {}, h("th", {scope: "row"}, token.name, h("span", {class: "sub"}, token.id)), h("td", {}, token.scopes.map((each) => [h("span", {class: "chip"}, each), " "])),
      h("td", {class: "wide"}, token.channels ? token.channels.join(", ") : "all"), h("td", {}, time(token.created_at), h("span", {class: "sub"}, token.created_by ? `by ${token.created_by}` : "")),
      h("td", {}, token.expires_at ? time(token.expires_at) : "never"), h("td", {}, revoke));
  };
  const soon = await view.every(Infinity, async () => {
    const found = await api.get("tokens/", {}, view.signal);
    fill(holder, found.length ? table("API tokens", ["Name", "Scopes", "For", "Made", "Expires", ""], h("tbody", {}, found.map(row))) : empty("There are none. The setting admin_token is not listed here."));
  });
  const make = h("button", {type: "button", class: "primary", "data-new": true, on: {click: async () => {
    const made = await dialog("New API token", (close) => newToken(close));
    if (!made) return;
    soon();
    await dialog("The new token", (close) => [h("p", {}, "This is its text. It is shown now, and never again."),
      h("p", {class: "secret"}, h("code", {}, made.token), " ", copyButton(made.token, "the token")),
      h("div", {class: "actions"}, h("button", {type: "button", class: "primary", on: {click: () => close()}}, "I have it"))]);
  }}}, "New token");
  view.show(h("div", {class: "head"}, h("h1", {}, "API tokens"), h("div", {class: "head-tools"}, make)), holder);
}

function newToken(close) {
  const boxes = SCOPES.map(([scope, what]) => ({scope, box: h("input", {type: "checkbox"}), what}));
  const scopes = {name: "scopes", control: boxes[0].box, at: () => scopes, read: () => boxes.filter((each) => each.box.checked).map((each) => each.scope),
    element: h("fieldset", {class: "field"}, h("legend", {class: "name"}, "scopes", h("span", {class: "required"}, " required")),
      h("div", {class: "control"}, boxes.map((each) => h("label", {class: "check"}, each.box, ` ${each.scope}: ${each.what}`)), h("p", {class: "problem"})))};
  const parts = [
    field("name", {type: "string", description: "Whose it is; the audit log tells it."}, undefined, {required: true}), scopes,
    field("channels", {type: "array", items: {type: "string"}, description: "Ids of the channels, routers and destinations that it is for; none: all."}),
    field("expires_at", {type: "string", description: "UTC, as 2027-12-31 00:00; nothing: never."}),
  ];
  const whole = among(parts);
  return [form("New API token", whole.at, parts.map((each) => each.element), "Create the token",
    async () => close(await api.post("tokens/", {name: "", ...whole.read()}))),
  h("button", {type: "button", class: "quiet", on: {click: () => close()}}, "Close without one")];
}
