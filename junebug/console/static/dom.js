// Makes elements. Whatever comes from the API goes in as text or as an attribute's value, never as HTML.

const SVG = "http://www.w3.org/2000/svg";

/** `h("a", {href: "#/x", on: {click}}, "text", element, null)`: null, undefined and false are left out, of attributes, too. */
export function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [event, handler] of Object.entries(value)) element.addEventListener(event, handler);
    else if (name === "value" || name === "checked" || name === "disabled") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((each) => each !== null && each !== undefined && each !== false));
  return element;
}

/** The element holds these and nothing else. What has the focus keeps it, by its `data-key`. */
export function fill(element, ...children) {
  const key = element.contains(document.activeElement) ? document.activeElement.dataset?.key : null;
  element.replaceChildren(...children.flat(Infinity).filter((each) => each !== null && each !== undefined && each !== false));
  if (key) [...element.querySelectorAll("[data-key]")].find((each) => each.dataset.key === key)?.focus({preventScroll: true});
  return element;
}

/** A function that fills the element anew, when what it is to show is not what it shows. */
export function shower(element, render) {
  let shown;
  return (data) => {
    const text = JSON.stringify(data);
    if (text === shown) return;
    shown = text;
    fill(element, render(data));
  };
}

let ids = 0;

/** An id that no other element has. */
export function newId(prefix = "e") {
  ids += 1;
  return `${prefix}-${ids}`;
}
