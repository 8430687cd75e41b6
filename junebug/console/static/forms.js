// A form made from a JSON Schema: what Junebug checks with is what is shown. Its errors are told at the fields that they name.

import {ApiError} from "./api.js";
import {fill, h, newId} from "./dom.js";
import {field, FieldProblem, kindOf} from "./fields.js";
import {alertBox} from "./view.js";

const FEW = 8;
/** Fields that are shown at once, where a type has more than twice as many. */
const OF_VUMI = /^Taken for the sake of|^Vumi's own/;

/**
 * The fields of an object: `{elements, fields, read()}`. `context`: `secrets` (paths with dots that are passwords), `lists`
 * (a property's name -> its datalist), `hidden` (paths not to be shown), `clears` (null says that what was there is gone).
 */
export function group(schema, initial, path, context) {
  const given = initial && typeof initial === "object" ? initial : {};
  const required = schema.required ?? [];
  const parts = Object.entries(schema.properties ?? {})
    .filter(([name, each]) => !each.readOnly && !context.hidden?.includes(join(path, name)))
    .map(([name, each]) => {
      const is = {name, required: required.includes(name), given: given[name] !== undefined && given[name] !== null};
      return {...is, old: OF_VUMI.test(each.description ?? ""), ...property(name, join(path, name), each, given[name], is.required, context)};
    });
  const first = [...parts.filter((each) => each.required), ...parts.filter((each) => !each.required && !each.old)];
  const many = parts.length > FEW * 2;
  const shown = parts.filter((each) => !many || each.required || each.given || (!each.old && first.indexOf(each) < FEW));
  const rest = parts.filter((each) => !shown.includes(each));
  shown.sort((a, b) => Number(b.required) - Number(a.required));
  const elements = shown.map((each) => each.element);
  if (rest.length) elements.push(moreOptions(rest));
  return {
    elements,
    fields: parts.flatMap((each) => each.fields),
    read: () => {
      const value = {...given};
      for (const each of parts) {
        const said = each.read();
        if (said !== undefined) value[each.name] = said;
        else if (context.clears && each.given) value[each.name] = null;
        else delete value[each.name];
      }
      return value;
    },
  };
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
    default: {
      const about = {required, secret: context.secrets?.includes(path), datalist: context.lists?.[name]};
      const made = field(name, path, schema, initial, about);
      return {element: made.element, fields: [made], read: made.read};
    }
  }
}

function fieldset(name, path, schema, initial, required, context) {
  const inner = group(schema, initial, path, {...context, clears: false});
  const head = h("span", {class: "name"}, name);
  const body = [schema.description ? h("p", {class: "help"}, schema.description) : null, inner.elements];
  const element = h("details", {class: "group", open: required || initial !== undefined}, h("summary", {}, head), body);
  return {element, fields: inner.fields, read: () => {
    const value = inner.read();
    return !isBlank(value) || initial !== undefined || required ? value : undefined;
  }};
}

/** Whether nothing was typed into it, nor into what it holds. */
const isBlank = (value) => Object.values(value).every((each) => each !== null && typeof each === "object" && !Array.isArray(each) && isBlank(each));

/** True, false, or an object with options, as `tls` is. */
function flagOrGroup(name, path, schema, initial, context) {
  const isObject = initial !== null && typeof initial === "object";
  const flag = field(name, path, {...schema, type: "string", enum: ["yes", "no", "with options"], default: schema.default ? "yes" : "no"},
    isObject ? "with options" : initial === undefined || initial === null ? undefined : initial ? "yes" : "no");
  const inner = group({...schema, required: []}, isObject ? initial : {}, path, {...context, clears: false});
  const options = h("div", {class: "nested", hidden: !isObject}, inner.elements);
  flag.control.addEventListener("change", () => (options.hidden = flag.read() !== "with options"));
  return {element: h("div", {}, flag.element, options), fields: [flag, ...inner.fields], read: () => {
    const said = flag.read();
    return said === undefined ? undefined : said === "with options" ? inner.read() : said === "yes";
  }};
}

/** A list of objects. */
function groups(name, path, schema, initial, context) {
  const id = newId("list");
  const list = h("div", {class: "items"});
  const fields = [];
  let items = [];
  const renumber = () => items.forEach((each, n) => (each.title.textContent = `${name} ${n + 1}`));
  const add = (value) => {
    const at = items.length;
    const inner = group(schema.items, value, `${path}.${at}`, {...context, clears: false});
    const title = h("h4", {});
    const remove = h("button", {type: "button", class: "small", "aria-label": `Remove ${name} ${at + 1}`, on: {click: () => {
      items = items.filter((each) => each !== item);
      item.element.remove();
      renumber();
    }}}, "Remove");
    const item = {inner, title, element: h("div", {class: "item"}, h("div", {class: "item-head"}, title, remove), inner.elements)};
    items.push(item);
    fields.push(...inner.fields);
    list.append(item.element);
    renumber();
  };
  (Array.isArray(initial) ? initial : schema.minItems ? [{}] : []).forEach(add);
  const button = h("button", {type: "button", class: "small", on: {click: () => add({})}}, `Add to ${name}`);
  const problem = {path, element: h("p", {class: "problem"}), control: button};
  fields.push({path, control: button, element: h("div", {}, problem.element)});
  const element = h("fieldset", {class: "group", "aria-describedby": id}, h("legend", {class: "name"}, name),
    h("p", {class: "help", id}, schema.description ?? ""), list, fields.at(-1).element, button);
  return {element, fields, read: () => (items.length || initial !== undefined ? items.map((each) => each.inner.read()) : undefined)};
}

// --- errors -----------------------------------------------------------------------------------------------------------

/** Which field an error of the API is about, and what it says of it. */
export function placed(error) {
  let path = error.field ?? "";
  let message = error.message;
  const named = /^([A-Za-z_]\w*(?:\.\w+)*): (.*)$/s.exec(message);
  if (named && (!path || named[1] === path)) [, path, message] = named;
  const missing = /^"(\w+)" is a required property/.exec(message);
  if (missing) path = join(path, missing[1]);
  return {path, message};
}

/** Says each error at its field; those of no field in `summary`. The first field gets the focus. */
export function tellErrors(fields, summary, error) {
  clearErrors(fields, summary);
  const problems = error instanceof FieldProblem ? [error] : error instanceof ApiError ? error.errors.map(placed) : [{path: "", message: error.message}];
  const elsewhere = [];
  let first = null;
  for (const {path, message} of problems) {
    const at = path && fields.filter((each) => path === each.path || path.startsWith(`${each.path}.`)).sort((a, b) => b.path.length - a.path.length)[0];
    if (!at) {
      elsewhere.push(path ? `${path}: ${message}` : message);
      continue;
    }
    at.element.querySelector(".problem").textContent = message;
    at.control.setAttribute("aria-invalid", "true");
    first ??= at.control;
    for (let around = at.element.parentElement; around; around = around.parentElement) {
      around.hidden = false;
      if (around.tagName === "DETAILS") around.open = true;
    }
    at.element.hidden = false;
  }
  const told = elsewhere.length || first ? elsewhere : [error.message];
  if (told.length) fill(summary, alertBox(told.join("; ")));
  else if (first) fill(summary, alertBox("Something is wrong below: it is said there."));
  first?.focus();
}

export function clearErrors(fields, summary) {
  fill(summary);
  for (const each of fields) {
    each.control.removeAttribute("aria-invalid");
    const problem = each.element.querySelector(".problem");
    if (problem) problem.textContent = "";
  }
}

/**
 * A form: `fields` as of `group`, `save()` is awaited as it is sent. Ctrl+Enter sends it, too. `back`: where Cancel leads.
 */
export function form(name, fields, elements, action, save, back = null) {
  const summary = h("div", {});
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
    clearErrors(fields(), summary);
    try {
      await save();
    } catch (error) {
      tellErrors(fields(), summary, error);
    } finally {
      button.disabled = false;
    }
  });
  return element;
}
