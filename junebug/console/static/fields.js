// One input for one value, after its JSON Schema. forms.js puts them together.

import {h, newId} from "./dom.js";

/** What stands in a field and can be no value: told at the field. */
export class FieldProblem extends Error {
  constructor(field, message) {
    super(message);
    this.field = field;
  }
}

const typesOf = (schema) => [schema.type ?? []].flat().filter((each) => each !== "null");
const isOnly = (types, ...allowed) => types.length > 0 && types.every((each) => allowed.includes(each));

/** How a value of this schema is put in. */
export function kindOf(schema) {
  const types = typesOf(schema);
  if (schema.enum?.every((each) => typeof each !== "object" || each === null)) return "choice";
  if (isOnly(types, "boolean")) return "flag";
  if (types.includes("boolean") && types.includes("object") && schema.properties) return "flag-or-group";
  if (isOnly(types, "object") && schema.properties) return "group";
  if (isOnly(types, "array") && schema.items) {
    const items = kindOf(schema.items);
    if (items === "group") return "groups";
    if (items === "text" || items === "number" || items === "choice") return "lines";
  }
  if (isOnly(types, "string")) return "text";
  if (isOnly(types, "integer", "number", "string")) return "number";
  if (isOnly(types, "integer", "number", "string", "boolean")) return "scalar";
  return "json";
}

function asNumber(text) {
  const value = Number(text);
  return text.trim() !== "" && Number.isFinite(value) ? value : text;
}

/** Kind -> how a text becomes a value, and a value a text. A text that is none of it goes out as it is: the API says why not. */
const PARSERS = {
  text: [(text) => text, String],
  number: [asNumber, String],
  scalar: [(text) => ({true: true, false: false})[text] ?? asNumber(text), String],
  json: [JSON.parse, (value) => JSON.stringify(value, null, 2)],
};

function defaultOf(schema) {
  if (schema.default === undefined || schema.default === null || schema.default === "") return "";
  return typeof schema.default === "boolean" ? (schema.default ? "yes" : "no") : String(JSON.stringify(schema.default)).replace(/^"|"$/g, "");
}

/**
 * A field, which is the simplest part of a form (forms.js). What nobody touched is given back as it came, a masked secret
 * included. `about`: `required`, `secret`, `multiline`, `datalist` (texts to choose from).
 */
export function field(name, schema, initial, about = {}) {
  const kind = kindOf(schema);
  const id = newId("field");
  const help = `${id}-help`;
  const problem = `${id}-problem`;
  const common = {id, "aria-describedby": `${help} ${problem}`, "aria-required": about.required ? "true" : null, autocomplete: "off"};
  let control;
  let read;
  if (kind === "choice" || kind === "flag") {
    ({control, read} = choice(kind === "flag" ? [[true, "yes"], [false, "no"]] : choices(schema.enum), schema, initial, common));
  } else if (kind === "lines") {
    ({control, read} = lines(schema, initial, common));
  } else {
    ({control, read} = text(kind, schema, initial, common, about));
  }
  const parts = [
    h("label", {for: id}, h("span", {class: "name"}, name), about.required ? h("span", {class: "required"}, " required") : null),
    h("div", {class: "control"}, control, about.datalist ?? null,
      h("p", {class: "help", id: help}, schema.description ?? "", kind === "lines" ? " One a line." : ""),
      h("p", {class: "problem", id: problem})),
  ];
  const made = {name, element: h("div", {class: "field"}, parts), control, at: () => made, read: () => {
    try {
      return read();
    } catch (error) {
      throw new FieldProblem(made, `this is no JSON: ${error.message}`);
    }
  }};
  return made;
}

/** `[value, text]` of each; 33 and "33" are one. */
function choices(options) {
  const found = new Map();
  for (const each of options) if (each !== null && !found.has(String(each))) found.set(String(each), each);
  return [...found].map(([shown, value]) => [value, shown]);
}

function choice(options, schema, initial, common) {
  const known = initial === undefined || initial === null || options.some(([value]) => String(value) === String(initial));
  const all = known ? options : [...options, [initial, String(initial)]];
  const usual = defaultOf(schema);
  const control = h("select", common,
    h("option", {value: ""}, usual ? `${usual} (default)` : "–"),
    all.map(([, shown], n) => h("option", {value: String(n)}, shown)));
  const at = initial === undefined || initial === null ? -1 : all.findIndex(([value]) => String(value) === String(initial));
  control.value = at < 0 ? "" : String(at);
  const before = control.value;
  return {control, read: () => (control.value === before ? initial : control.value === "" ? undefined : all[Number(control.value)][0])};
}

function lines(schema, initial, common) {
  const shown = Array.isArray(initial) ? initial.join("\n") : "";
  const control = h("textarea", {...common, rows: Math.min(Math.max(shown.split("\n").length, 2), 8), spellcheck: "false", value: shown});
  const parse = kindOf(schema.items) === "number" ? asNumber : (each) => each;
  return {control, read: () => {
    if (control.value === shown) return initial;
    const given = control.value.split("\n").map((each) => each.trim()).filter(Boolean);
    return given.length ? given.map(parse) : undefined;
  }};
}

function text(kind, schema, initial, common, about) {
  const [parse, show] = PARSERS[kind];
  const shown = initial === undefined || initial === null ? "" : show(initial);
  const usual = kind === "json" ? "" : defaultOf(schema);
  const attributes = {...common, placeholder: usual ? `default: ${usual}` : null, spellcheck: "false", list: about.datalist?.id, value: shown};
  const isLong = kind === "json" || about.multiline;
  const control = isLong
    ? h("textarea", {...attributes, rows: kind === "json" ? 4 : 3, class: kind === "json" ? "code" : null})
    : h("input", {...attributes, type: about.secret ? "password" : "text", inputmode: kind === "number" ? "decimal" : null,
      autocomplete: about.secret ? "new-password" : "off"});
  return {control, read: () => (control.value === shown ? initial : control.value === "" ? undefined : parse(control.value))};
}
