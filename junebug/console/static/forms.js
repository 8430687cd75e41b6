// A form made from a JSON Schema: what Junebug checks with is what is shown. Its errors are told at the fields that they name.
//
// A part of a form is `{name, element, read(), at(path)}`. `read` gives its value; undefined: none is given. `at` gives the field
// (`{element, control}`) that is at a path, a list of names and places in lists, or next above it; undefined: there is none.

import {ApiError} from "./api.js";
import {fill, h, newId} from "./dom.js";
import {field, FieldProblem, kindOf} from "./fields.js";
import {alertBox} from "./view.js";

const FEW = 8;
/** Fields that are shown at once, where a type has more than twice as many. */
const OF_VUMI = /^Taken for the sake of|^Vumi's own/;

/** Parts as one. */
export const among = (parts) => ({
  at: ([name, ...rest]) => parts.find((each) => each.name === name)?.at(rest),
  read: () => Object.fromEntries(parts.map((each) => [each.name, each.read()]).filter(([, value]) => value !== undefined)),
});

/**
 * The parts of an object, as one with `elements`. `context`: `secrets` (paths with dots that are passwords), `lists` (a
 * property's name -> its datalist), `hidden` (paths not to be shown), `clears` (null says that what was there is gone).
 */
export function group(schema, initial, path, context) {
  const given = initial && typeof initial === "object" ? initial : {};
  const required = schema.required ?? [];
  const parts = Object.entries(schema.properties ?? {})
    .filter(([name, each]) => !each.readOnly && !context.hidden?.includes(join(path, name)))
    .map(([name, each]) => {
      const is = {required: required.includes(name), given: given[name] !== undefined && given[name] !== null, isGroup: kindOf(each) === "group"};
      return {...is, old: OF_VUMI.test(each.description ?? ""), ...property(name, join(path, name), each, given[name], is.required, context)};
    });
  const first = [...parts.filter((each) => each.required), ...parts.filter((each) => !each.required && !each.old)];
  const many = parts.length > FEW * 2;
  const shown = parts.filter((each) => !many || each.required || each.given || (!each.old && (first.indexOf(each) < FEW || each.isGroup)));
  const rest = parts.filter((each) => !shown.includes(each));
  shown.sort((a, b) => Number(b.required) - Number(a.required));
  const elements = shown.map((each) => each.element);
  if (rest.length) elements.push(moreOptions(rest));
  return {elements, at: among(parts).at, read: () => {
    const value = {...given};
    for (const each of parts) {
      const said = each.read();
      if (said !== undefined) value[each.name] = said;
      else if (context.clears && each.given) value[each.name] = null;
      else delete value[each.name];
    }
    return value;
  }};
}

const join = (path, name) => (path ? `${path}.${name}` : name);

function moreOptions(parts) {
  const filter = h("input", {type: "search", placeholder: "Find an option", "aria-label": "Find an option", on: {input: () => {
    const words = filter.value.toLowerCase();
    for (const each of parts) each.element.hidden = !each.element.textContent.toLowerCase().includes(words);
  }}});
  return h("details", {class: "more"}, h("summary", {}, `${parts.length} more options`), filter, parts.map((each) => each.element));
}

function property(name, path, schema, initial, required, context) {
  switch (kindOf(schema)) {
    case "group":
      return fieldset(name, path, schema, initial, required, context);
    case "flag-or-group":
      return flagOrGroup(name, path, schema, initial, context);
    case "groups":
      return groups(name, path, schema, initial, context);
    default:
      return field(name, schema, initial, {required, secret: context.secrets?.includes(path), datalist: context.lists?.[name]});
  }
}

function fieldset(name, path, schema, initial, required, context) {
  const inner = group(schema, initial, path, {...context, clears: false});
  const head = h("span", {class: "name"}, name);
  const body = [schema.description ? h("p", {class: "help"}, schema.description) : null, inner.elements];
  const element = h("details", {class: "group", open: required || initial !== undefined}, h("summary", {}, head), body);
  return {name, element, at: inner.at, read: () => {
    const value = inner.read();
    return !isBlank(value) || initial !== undefined || required ? value : undefined;
  }};
}

/** Whether nothing was typed into it, nor into what it holds. */
const isBlank = (value) => Object.values(value).every((each) => each !== null && typeof each === "object" && !Array.isArray(each) && isBlank(each));

/** True, false, or an object with options, as `tls` is. */
function flagOrGroup(name, path, schema, initial, context) {
  const isObject = initial !== null && typeof initial === "object";
  const flag = field(name, {...schema, type: "string", enum: ["yes", "no", "with options"], default: schema.default ? "yes" : "no"},
    isObject ? "with options" : initial === undefined || initial === null ? undefined : initial ? "yes" : "no");
  const inner = group({...schema, required: []}, isObject ? initial : {}, path, {...context, clears: false});
  const options = h("div", {class: "nested", hidden: !isObject}, inner.elements);
  flag.control.addEventListener("change", () => (options.hidden = flag.read() !== "with options"));
  return {name, element: h("div", {}, flag.element, options), at: (rest) => inner.at(rest) ?? flag, read: () => {
    const said = flag.read();
    return said === undefined ? undefined : said === "with options" ? inner.read() : said === "yes";
  }};
}

/** A list of objects. */
function groups(name, path, schema, initial, context) {
  const id = newId("list");
  const list = h("div", {class: "items"});
  let items = [];
  const number = () => items.forEach((each, n) => {
    each.title.textContent = `${name} ${n + 1}`;
    each.remove.setAttribute("aria-label", `Remove ${name} ${n + 1}`);
  });
  const add = (value) => {
    const inner = group(schema.items, value, path, {...context, clears: false});
    const title = h("h4", {});
    const remove = h("button", {type: "button", class: "small", on: {click: () => {
      items = items.filter((each) => each !== item);
      item.element.remove();
      number();
    }}}, "Remove");
    const item = {inner, title, remove, element: h("div", {class: "item"}, h("div", {class: "item-head"}, title, remove), inner.elements)};
    items.push(item);
    list.append(item.element);
    number();
  };
  (Array.isArray(initial) ? initial : schema.minItems ? [{}] : []).forEach(add);
  const control = h("button", {type: "button", class: "small", on: {click: () => add({})}}, `Add to ${name}`);
  const whole = {control, element: h("p", {class: "problem"})};
  const element = h("fieldset", {class: "group", "aria-describedby": id}, h("legend", {class: "name"}, name),
    h("p", {class: "help", id}, schema.description ?? ""), list, whole.element, control);
  return {name, element, at: ([place, ...rest]) => items[place]?.inner.at(rest) ?? whole,
    read: () => (items.length || initial !== undefined ? items.map((each) => each.inner.read()) : undefined)};
}

// --- errors -----------------------------------------------------------------------------------------------------------

/** Which field an error of the API is about, and what it says of it. */
function placed(error) {
  let path = error.field ?? "";
  let message = error.message;
  const named = /^([A-Za-z_]\w*(?:\.\w+)*): (.*)$/s.exec(message);
  if (named && (!path || named[1] === path)) [, path, message] = named;
  const missing = /^"(\w+)" is a required property/.exec(message);
  if (missing) path = join(path, missing[1]);
  return {path, message};
}

/**
 * Says each error at its field, found by `at`, and those of no field in `summary`. The first field gets the focus. Returns the
 * fields.
 */
function tellErrors(at, summary, error) {
  const problems = error instanceof FieldProblem ? [error] : error instanceof ApiError ? error.errors.map(placed) : [];
  const elsewhere = [];
  const fields = [];
  for (const {path, message, field = path && at(path.split("."))} of problems) {
    if (!field) {
      elsewhere.push(path ? `${path}: ${message}` : message);
      continue;
    }
    fields.push(field);
    problemOf(field).textContent = message;
    field.control.setAttribute("aria-invalid", "true");
    for (let around = field.element; around; around = around.parentElement) {
      around.hidden = false;
      if (around.tagName === "DETAILS") around.open = true;
    }
  }
  const told = problems.length ? elsewhere : [error.message];
  fill(summary, alertBox(told.join("; ") || "Something is wrong below: it is said there."));
  fields[0]?.control.focus();
  return fields;
}

const problemOf = ({element}) => (element.matches(".problem") ? element : element.querySelector(".problem"));

/**
 * A form. `at`: as of a part; `save()` is awaited as it is sent. Ctrl+Enter sends it, too. `back`: where Cancel leads.
 */
export function form(name, at, elements, action, save, back = null) {
  const summary = h("div", {});
  let told = [];
  const button = h("button", {type: "submit", class: "primary"}, action);
  const element = h("form", {"aria-label": name, novalidate: true, class: "schema"}, summary, elements,
    h("div", {class: "actions"}, button, back ? h("a", {class: "button", href: back}, "Cancel") : null));
  element.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) element.requestSubmit();
  });
  element.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (button.disabled) return;
    button.disabled = true;
    fill(summary);
    for (const field of told) {
      field.control.removeAttribute("aria-invalid");
      problemOf(field).textContent = "";
    }
    try {
      await save();
    } catch (error) {
      told = tellErrors(at, summary, error);
    } finally {
      button.disabled = false;
    }
  });
  return element;
}
