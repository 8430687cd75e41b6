// New channels, routers and destinations, and changes of them: forms made from the schemas that Junebug checks with.

import {api, each, path} from "./api.js";
import {channelHead} from "./channel.js";
import {fill, h, newId} from "./dom.js";
import {form, group} from "./forms.js";
import {toast} from "./view.js";
import {routerHead} from "./routers.js";
import {crumbs, named} from "./widgets.js";

const MOST_NAMED = 200;

/**
 * What the two kinds of form have in common: properties of the thing, and its config. `schema`: of the body; `type`: a
 * `{schema, secrets}` of the config, or null while none is chosen. Returns `{elements, fields, body()}`.
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
    fields: [...own.fields, ...(options?.fields ?? [])],
    body: () => {
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
function typedForm(view, {name, action, schema, types, current, lists, save, back, what}) {
  const holder = h("div", {});
  const id = newId("type");
  const choice = h("select", {id, "data-search": true, on: {change: () => fillIn(choice.value)}},
    h("option", {value: ""}, `Choose a type of ${what}`), Object.keys(types).map((each) => h("option", {value: each}, each)));
  const fillIn = (type) => {
    if (!type) {
      fill(holder);
      return;
    }
    const isSame = current?.type === type;
    const parts = thing(schema, types[type], isSame || !current ? current : {...current, config: {}}, lists);
    const typeField = {path: "type", control: choice, element: h("div", {class: "type-problem"}, h("p", {class: "problem"}))};
    fill(holder, form(name, () => [...parts.fields, typeField], [typeField.element, ...parts.elements], action, async () => {
      const body = {type, ...parts.body()};
      await save(body);
    }, back));
  };
  if (current) choice.value = current.type;
  fillIn(choice.value);
  return [h("div", {class: "field type-field"}, h("label", {for: id}, h("span", {class: "name"}, "type"), h("span", {class: "required"}, " required")),
    h("div", {class: "control"}, choice)), holder, ...Object.values(lists ?? {})];
}

const byName = (types, schema, secrets) => Object.fromEntries(types.map((each) => [each.name, {schema: each[schema], secrets: each[secrets]}]));

// --- channels ---------------------------------------------------------------------------------------------------------

export async function newChannel(view) {
  const {types, channel: schema} = await api.get("channel-types/", {}, view.signal);
  view.show(crumbs(["Channels", "#/channels"]), h("div", {class: "head"}, h("h1", {}, "New channel")),
    typedForm(view, {name: "New channel", action: "Create the channel", schema, types: byName(types, "config_schema", "secrets"),
      what: "channel", back: "#/channels", save: async (body) => {
        const made = await api.post("channels/", body);
        toast(`${named(made)} was created`, "good");
        location.hash = `#/${path("channels", made.id)}`;
      }}));
}

export async function changeChannel(view, {channel: id}) {
  const [{types, channel: schema}, current] = await Promise.all([
    api.get("channel-types/", {}, view.signal), api.get(path("channels", id), {}, view.signal)]);
  view.show(...channelHead(current, "Change"), h("p", {class: "note"}, "A change of the type, of its options or of public_http restarts the channel; any other does not. A secret that is left as it is stays as it is."),
    typedForm(view, {name: "Change the channel", action: "Save", schema, types: byName(types, "config_schema", "secrets"), current,
      what: "channel", back: `#/${path("channels", id)}`, save: async (body) => {
        await api.post(path("channels", id), body);
        toast("The channel was changed", "good");
        location.hash = `#/${path("channels", id)}`;
      }}));
}

// --- routers and destinations -----------------------------------------------------------------------------------------

/** Ids of channels to choose from, with their labels. */
async function channelList(view) {
  const ids = (await api.get("channels/", {}, view.signal)).slice(0, MOST_NAMED);
  const channels = await each(ids, (id) => api.get(path("channels", id), {}, view.signal));
  return h("datalist", {id: newId("channels")}, channels.filter(Boolean).map((one) => h("option", {value: one.id}, `${one.label ?? ""} (${one.type})`)));
}

export async function newRouter(view) {
  const [{types, router: schema}, channel] = await Promise.all([api.get("router-types/", {}, view.signal), channelList(view)]);
  view.show(crumbs(["Routers", "#/routers"]), h("div", {class: "head"}, h("h1", {}, "New router")),
    typedForm(view, {name: "New router", action: "Create the router", schema, types: byName(types, "config_schema", "secrets"),
      lists: {channel}, what: "router", back: "#/routers", save: async (body) => {
        const made = await api.post("routers/", body);
        toast(`${named(made)} was created`, "good");
        location.hash = `#/${path("routers", made.id)}`;
      }}));
}

export async function changeRouter(view, {router: id}) {
  const [{types, router: schema}, current, channel] = await Promise.all([
    api.get("router-types/", {}, view.signal), api.get(path("routers", id), {}, view.signal), channelList(view)]);
  view.show(...routerHead(current, "Change"),
    typedForm(view, {name: "Change the router", action: "Save", schema, types: byName(types, "config_schema", "secrets"), current,
      lists: {channel}, what: "router", back: `#/${path("routers", id)}`, save: async (body) => {
        await api.patch(path("routers", id), body);
        toast("The router was changed", "good");
        location.hash = `#/${path("routers", id)}`;
      }}));
}

export async function newDestination(view, {router: id}) {
  await destinationForm(view, id, null);
}

export async function changeDestination(view, {router: id, destination}) {
  await destinationForm(view, id, await api.get(path("routers", id, "destinations", destination), {}, view.signal));
}

async function destinationForm(view, id, current) {
  const [{types, destination: schema}, router] = await Promise.all([
    api.get("router-types/", {}, view.signal), api.get(path("routers", id), {}, view.signal)]);
  const type = types.find((each) => each.name === router.type);
  const parts = thing(schema, type ? {schema: type.destination_schema, secrets: type.destination_secrets} : null, current);
  const title = current ? "Change a destination" : "New destination";
  view.show(crumbs(["Routers", "#/routers"], [named(router), `#/${path("routers", id)}`]), h("div", {class: "head"}, h("h1", {}, title)),
    form(title, () => parts.fields, parts.elements, current ? "Save" : "Create the destination", async () => {
      if (current) await api.patch(path("routers", id, "destinations", current.id), parts.body());
      else await api.post(`${path("routers", id, "destinations")}/`, parts.body());
      toast(current ? "The destination was changed" : "The destination was created", "good");
      location.hash = `#/${path("routers", id)}`;
    }, `#/${path("routers", id)}`));
}
