// New channels, routers and destinations, and changes of them: forms made from the schemas that Junebug checks with.

import {api, path} from "./api.js";
import {fill, h, newId} from "./dom.js";
import {form, group} from "./forms.js";
import {head, listed, placeOf} from "./things.js";
import {toast} from "./view.js";
import {crumbs, named} from "./widgets.js";

/**
 * What the two kinds of form have in common: properties of the thing, and its config. `schema`: of the body; `type`: a
 * `{schema, secrets}` of the config, or undefined where it is not known here. Returns a part of a form, with `elements`.
 */
function thing(schema, type, current, lists) {
  const {config, type: _, ...others} = schema.properties;
  const secrets = ["mo_url_auth_token", "mo_url_token", "callback_secret"];
  const context = {secrets, hidden: ["mo_url_token", "status", "id"], clears: true, lists};
  const own = group({properties: others}, current ?? {}, "", context);
  const options = type ? group(type.schema, current?.config, "config", {secrets: type.secrets.map((each) => `config.${each}`), lists}) : null;
  const nothing = h("p", {class: "empty"}, "This type has no options.");
  return {
    elements: [
      h("fieldset", {class: "part"}, h("legend", {}, "Options of its type"), options?.elements.length ? options.elements : nothing),
      h("fieldset", {class: "part"}, h("legend", {}, "Properties"), own.elements),
    ],
    at: ([name, ...rest]) => (name === "config" ? options?.at(rest) : own.at([name, ...rest])),
    read: () => {
      const {status, id, ...said} = own.read();
      delete said.mo_url_token; // another name of mo_url_auth_token
      return {...changedOnly(said, current), config: options ? {...options.read()} : {}};
    },
  };
}

/** Of a change, what is as it was is not said again. */
function changedOnly(said, current) {
  return Object.fromEntries(Object.entries(said).filter(([name, value]) => !current || JSON.stringify(value) !== JSON.stringify(current[name])));
}

/** A form whose type can be chosen. `types`: name -> {schema, secrets}. */
function typedForm({kind, name, action, schema, types, current, lists, save, back}) {
  const holder = h("div", {});
  const id = newId("type");
  const choice = h("select", {id, "data-search": true, on: {change: () => fillIn(choice.value)}},
    h("option", {value: ""}, `Choose a type of ${kind}`), Object.keys(types).map((each) => h("option", {value: each}, each)));
  const fillIn = (type) => {
    if (!type) {
      fill(holder);
      return;
    }
    const isSame = current?.type === type;
    const parts = thing(schema, types[type], isSame || !current ? current : {...current, config: {}}, lists);
    const chosen = {control: choice, element: h("p", {class: "problem"})};
    choice.removeAttribute("aria-invalid");
    fill(holder, form(name, (place) => (place[0] === "type" ? chosen : parts.at(place)), [chosen.element, ...parts.elements], action,
      () => save({type, ...parts.read()}), back));
  };
  if (current) choice.value = current.type;
  fillIn(choice.value);
  return [h("div", {class: "field type-field"}, h("label", {for: id}, h("span", {class: "name"}, "type"), h("span", {class: "required"}, " required")),
    h("div", {class: "control"}, choice)), holder, ...Object.values(lists ?? {})];
}

// --- channels and routers ---------------------------------------------------------------------------------------------

export const newChannel = (view) => ofKind(view, "channel", null);
export const newRouter = (view) => ofKind(view, "router", null);
export const change = (view, given) => ofKind(view, ...Object.entries(given)[0]);

/** A new one, or a change of that one. */
async function ofKind(view, kind, id) {
  const [{types, [kind]: schema}, current, channels] = await Promise.all([
    api.get(`${kind}-types/`, {}, view.signal), id && api.get(path(`${kind}s`, id), {}, view.signal), kind === "router" ? channelList(view) : null]);
  const title = `New ${kind}`;
  const above = current ? head(kind, current, "Change")
    : [crumbs([kind === "channel" ? "Channels" : "Routers", `#/${kind}s`]), h("div", {class: "head"}, h("h1", {}, title))];
  const note = current && kind === "channel"
    ? h("p", {class: "note"}, "A change of the type, of its options or of public_http restarts the channel; any other does not. A secret that is left as it is stays as it is.") : null;
  view.show(...above, note, typedForm({
    kind, schema, current, types: Object.fromEntries(types.map((each) => [each.name, {schema: each.config_schema, secrets: each.secrets}])), lists: channels && {channel: channels},
    name: current ? `Change the ${kind}` : title, action: current ? "Save" : `Create the ${kind}`,
    back: current ? placeOf(kind, id) : `#/${kind}s`,
    save: async (body) => {
      const store = current && kind === "router" ? api.patch : api.post;
      const saved = await store(current ? path(`${kind}s`, id) : `${kind}s/`, body);
      toast(current ? `The ${kind} was changed` : `${named(saved)} was created`, "good");
      location.hash = placeOf(kind, saved.id);
    }}));
}

/** Ids of channels to choose from, with their labels. */
async function channelList(view) {
  const {things} = await listed(view, "channels");
  return h("datalist", {id: newId("channels")}, things.map((one) => h("option", {value: one.id}, `${one.label ?? ""} (${one.type})`)));
}

// --- destinations -----------------------------------------------------------------------------------------------------

/** A new one, or a change of that one. */
export async function destination(view, {router: id, destination: of}) {
  const where = path("routers", id, "destinations");
  const [{types, destination: schema}, router, current] = await Promise.all([
    api.get("router-types/", {}, view.signal), api.get(path("routers", id), {}, view.signal),
    of && api.get(`${where}/${path(of)}`, {}, view.signal)]);
  const type = types.find((each) => each.name === router.type);
  const parts = thing(schema, type && {schema: type.destination_schema, secrets: type.destination_secrets}, current);
  const title = current ? "Change a destination" : "New destination";
  const back = placeOf("router", id);
  view.show(crumbs(["Routers", "#/routers"], [named(router), back]), h("div", {class: "head"}, h("h1", {}, title)),
    form(title, parts.at, parts.elements, current ? "Save" : "Create the destination", async () => {
      if (current) await api.patch(`${where}/${path(of)}`, parts.read());
      else await api.post(`${where}/`, parts.read());
      toast(current ? "The destination was changed" : "The destination was created", "good");
      location.hash = back;
    }, back));
}
