// A page while it is shown: its element, its title, and what it does again and again, all of which ends as it is left.

import {ApiError} from "./api.js";
import {fill, h, newId} from "./dom.js";

const banner = document.getElementById("banner");
const toasts = document.getElementById("toasts");
const TOAST = 6000;
let isFirst = true;

export class View {
  constructor(main) {
    this.root = h("div", {class: "page"});
    this.main = main;
    this.controller = new AbortController();
    this.signal = this.controller.signal;
    this.refreshers = new Set();
  }

  get left() {
    return this.signal.aborted;
  }

  /** What the page holds. As it is shown first its heading gets the focus, but that of the tab's first page: who comes there
      begins at the top. */
  show(...children) {
    if (this.left) return;
    fill(this.root, ...children);
    if (this.root.isConnected) return;
    fill(this.main, this.root);
    const heading = this.root.querySelector("h1");
    heading?.setAttribute("tabindex", "-1");
    if (!isFirst) heading?.focus({preventScroll: true});
    isFirst = false;
    scrollTo(0, 0);
  }

  leave() {
    this.controller.abort();
  }

  /** Ends after so many milliseconds (Infinity: never), or as the page is left. */
  pause(milliseconds) {
    return new Promise((resolve) => {
      const timer = milliseconds < Infinity ? setTimeout(resolve, milliseconds) : 0;
      this.signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), {once: true});
    });
  }

  /** When the tab is seen. */
  visible() {
    if (!document.hidden || this.left) return Promise.resolve();
    return new Promise((resolve) => {
      const look = () => {
        if (document.hidden && !this.left) return;
        document.removeEventListener("visibilitychange", look);
        resolve();
      };
      document.addEventListener("visibilitychange", look);
      this.signal.addEventListener("abort", look, {once: true});
    });
  }

  /**
   * Does the work now, and so many milliseconds after it ended (Infinity: when it is asked to), until the page is left; not
   * while the tab is hidden. The first failure is the caller's; later ones are told in the banner. Returns a function that has it done soon.
   */
  async every(milliseconds, work) {
    await work();
    connected(true);
    let wake = () => {};
    let soon = false;
    const loop = async () => {
      let pause = milliseconds;
      while (!this.left) {
        if (!soon) await Promise.race([this.pause(pause), new Promise((resolve) => (wake = resolve))]);
        soon = false;
        await this.visible();
        if (this.left) return;
        try {
          await work();
          connected(true);
          pause = milliseconds;
        } catch (error) {
          if (this.left) return;
          pause = Math.min(pause * 2, 15000);
          if (error instanceof ApiError && error.status === 404) {
            this.problem(error);
            return;
          }
          connected(false, error);
        }
      }
    };
    loop();
    const refresh = () => {
      soon = true;
      wake();
    };
    this.refreshers.add(refresh);
    return refresh;
  }

  refresh() {
    for (const refresh of this.refreshers) refresh();
  }

  /** In place of the page: what went wrong. */
  problem(error, title = "This cannot be shown") {
    this.show(h("h1", {}, title), alertBox(error));
  }
}

function connected(is, error = null) {
  banner.hidden = is;
  if (!is) fill(banner, `${error?.message ?? error}. Trying again; what is shown may be out of date.`);
}

/** An error of the API, or a text, for people. */
export function alertBox(error) {
  const messages = error instanceof ApiError ? error.errors.map((each) => each.message) : [String(error?.message ?? error)];
  const lines = messages.length ? messages : [error.message];
  return h("div", {class: "alert", role: "alert"}, lines.length > 1 ? h("ul", {}, lines.map((each) => h("li", {}, each))) : lines[0]);
}

/** Says something for a while. */
export function toast(text, kind = "") {
  const note = h("div", {class: `toast ${kind}`}, text);
  toasts.append(note);
  while (toasts.children.length > 4) toasts.firstChild.remove();
  setTimeout(() => note.remove(), TOAST);
}

/** A dialog; resolves to what `close(value)` was given, or undefined. `content(close)`: its elements. */
export function dialog(title, content) {
  return new Promise((resolve) => {
    const id = newId("dialog");
    let value;
    const close = (given) => {
      value = given;
      element.close();
    };
    const element = h("dialog", {"aria-labelledby": id}, h("h2", {id}, title));
    element.append(...[content(close)].flat(Infinity).filter(Boolean));
    element.addEventListener("close", () => {
      element.remove();
      resolve(value);
    });
    document.body.append(element);
    element.showModal();
  });
}

/** Whether the user says yes. */
export async function confirmed(title, text, action, kind = "danger") {
  return (
    (await dialog(title, (close) => [
      h("p", {}, text),
      h("div", {class: "actions"},
        h("button", {type: "button", class: kind, on: {click: () => close(true)}}, action),
        h("button", {type: "button", on: {click: () => close(false)}}, "Cancel")),
    ])) === true
  );
}

/** Does the work of a button, which cannot be pressed meanwhile; tells how it went. */
export async function doing(button, work, done = "") {
  button.disabled = true;
  try {
    const result = await work();
    if (done) toast(done, "good");
    return result;
  } catch (error) {
    toast(error.message, "bad");
    return undefined;
  } finally {
    button.disabled = false;
  }
}
