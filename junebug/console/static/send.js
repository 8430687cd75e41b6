// Sends one message, and shows beside it what would become of it.

import {api, path} from "./api.js";
import {fill, h} from "./dom.js";
import {field} from "./fields.js";
import {among, form} from "./forms.js";
import {owner} from "./things.js";
import {alertBox, toast} from "./view.js";
import {empty, facts, number, time} from "./widgets.js";

const WAIT = 350;
const PAUSE = 1500;
export const FIELDS = [
  ["to", {type: "string", description: "Whom it is for."}, {}],
  ["content", {type: "string", description: "The text."}, {multiline: true}],
  ["from", {type: "string", description: "Whom it is from, where the channel has a choice."}, {}],
];
export const MORE = [
  ["reply_to", {type: "string", description: "The id of the inbound message that it answers, in place of to."}, {}],
  ["group", {type: "string", description: "The group or room it is for."}, {}],
  ["priority", {enum: [1, 2, 3, 4, 5], default: 1, description: "5 goes first."}, {}],
  ["validity", {type: "number", description: "Seconds after which it is not sent any more."}, {}],
  ["expires_at", {type: "string", description: "When it is not sent any more, UTC, as 2027-12-31 00:00; in place of validity."}, {}],
  ["event_url", {type: "string", description: "Where its events are posted to."}, {}],
  ["event_auth_token", {type: "string", description: "Sent as `Authorization: Token ...` with them."}, {secret: true}],
  ["channel_data", {type: "object", description: "What the channel's type understands besides, as JSON."}, {}],
];

export async function show(view, given) {
  const {where, thing: channel, above} = await owner(view, given, "Send");
  const make = ([name, schema, about]) => field(name, schema, undefined, about);
  const shown = FIELDS.map(make);
  const more = MORE.map(make);
  const whole = among([...shown, ...more]);
  const body = () => ({content: null, ...whole.read()});
  const foresight = h("div", {"aria-live": "polite"});
  const sent = h("div", {});

  const element = form("Send a message", whole.at, [shown.map((each) => each.element),
    h("details", {class: "more"}, h("summary", {}, "More"), more.map((each) => each.element))], "Send", async () => {
    const message = await api.post(`${where}/messages/`, body());
    toast("The message was taken", "good");
    sentMessages.unshift({...message, events: []});
    sentMessages.length = Math.min(sentMessages.length, 10);
    showSent();
    soon?.();
  });

  // --- what would become of it
  let timer = 0;
  let asked = 0;
  let latest = null;
  const foresee = async () => {
    let said;
    try {
      said = body();
    } catch {
      return;
    }
    if (!said.to && !said.reply_to && !said.content) {
      fill(foresight, empty("Type a message: here is what would be sent."));
      return;
    }
    const mine = ++asked;
    latest?.abort();
    latest = new AbortController();
    try {
      const result = await api.post(`${where}/messages/`, said, {dry_run: "true"}, AbortSignal.any([latest.signal, view.signal]));
      if (mine === asked) fill(foresight, foreseen(result));
    } catch (error) {
      if (mine !== asked || view.left || error.name === "AbortError") return;
      fill(foresight, h("div", {class: "refused"}, h("p", {}, "It would be refused:"), alertBox(error)));
    }
  };
  element.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(foresee, WAIT);
  });

  // --- what became of it
  const sentMessages = [];
  const showSent = () => fill(sent, sentMessages.length ? h("ol", {class: "sent"}, sentMessages.map((each) => sentItem(channel, each))) : empty("Nothing yet."));
  let soon = null;
  const watch = async () => {
    for (const each of sentMessages) {
      if (each.events.some((event) => /^(delivery_(succeeded|failed)|rejected)$/.test(event.event_type))) continue;
      each.events = (await api.get(`${where}/messages/${encodeURIComponent(each.message_id)}`, {}, view.signal)).events;
    }
    showSent();
  };

  await foresee();
  view.show(...above,
    h("div", {class: "beside"}, h("div", {}, element),
      h("div", {}, h("section", {class: "panel"}, h("h2", {}, "What would be sent"), foresight),
        h("section", {class: "panel"}, h("h2", {}, "Sent from here"), sent))));
  shown[0].control.focus();
  soon = await view.every(PAUSE, watch);
}

/** What a dry run says. */
function foreseen({encoding, parts, octets, characters, replaced, would_replace: would, estimate, cost, rejected}) {
  const forced = encoding?.forced_by?.map(({character, code_point: code}) => h("span", {class: "chip"}, `${character} ${code ?? ""}`));
  const swaps = (all) => all.map(({character, by}) => h("span", {class: "chip"}, `${character} → ${by}`));
  return [
    rejected ? alertBox(`It would be taken, and rejected: ${rejected}`) : null,
    facts([
      encoding ? ["Encoding", encoding.name, forced?.length ? [" because of ", forced] : null, h("p", {class: "sub"}, encoding.reason ?? "")] : null,
      ["Size", `${number(parts?.length ?? 1)} ${parts?.length > 1 ? "parts" : "part"}, ${number(characters)} characters, ${number(octets)} octets`],
      replaced?.length ? ["Replaced", swaps(replaced)] : null,
      would?.length ? ["Could be replaced", swaps(would), h("p", {class: "sub"}, "by the option gsm_safe")] : null,
      estimate ? ["Leaves", estimate.seconds === null ? "nobody knows when" : estimate.seconds < 1 ? "at once" : `in about ${number(estimate.seconds)} s`,
        estimate.waiting ? `, behind ${number(estimate.waiting)}` : "", (estimate.reasons ?? []).map((each) => h("p", {class: "sub"}, each))] : null,
      cost ? ["Cost", `${number(cost.amount, 4)} ${cost.currency ?? ""}`] : null,
    ]),
    parts?.length ? h("ol", {class: "parts"}, parts.map((part) => h("li", {}, part.content))) : null,
  ];
}

function sentItem(channel, message) {
  const events = message.events.map((each) => h("li", {}, time(each.timestamp), " ", h("strong", {}, each.event_type),
    Object.keys(each.event_details ?? {}).length ? h("span", {class: "sub"}, ` ${JSON.stringify(each.event_details)}`) : null));
  return h("li", {}, h("p", {}, time(message.timestamp), " to ", h("strong", {}, message.to ?? "–"), " ",
    h("a", {href: `#/${path("messages", channel.id, message.message_id)}`}, "its life")),
  h("p", {class: "text"}, message.content ?? ""), h("ul", {class: "plain"}, events.length ? events : h("li", {class: "sub"}, "no event yet")));
}
