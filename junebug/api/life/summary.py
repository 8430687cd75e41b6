"""One sentence that says where a message is and why; its status; what it waits for. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from junebug.api.life import outcome
from junebug.api.life.facts import Facts
from junebug.api.life.outcome import Delivery, Outcome
from junebug.api.life.step import Step, shortly
from junebug.api.life.waiting import Waiting, sentence, to_be_sent, to_be_told
from junebug.smpp.status_texts import with_text

_OPEN = ("queued", "sending")


@dataclass(frozen=True, slots=True)
class Told:
    status: str
    summary: str
    waiting: Waiting | None


def tell(facts: Facts) -> Told:
    deliveries = outcome.deliveries(facts)
    waiting = to_be_told(facts, deliveries)
    if not facts.is_outbound:
        found = outcome.received(facts, deliveries)
        return Told(found.status, _sentence(_received(facts, found), _application(facts, deliveries, waiting)), waiting)
    found = outcome.sent(facts)
    if found.status in _OPEN:
        waiting = to_be_sent(facts)
        return Told(found.status, _sentence(_waits(facts, found, waiting)), waiting)
    return Told(found.status, _sentence(_sent(facts, found), _application(facts, deliveries, waiting)), waiting)


def _sentence(*parts: str) -> str:
    text = "; ".join(filter(None, parts))
    return f"{text[0].upper()}{text[1:]}."


# --- MT -----------------------------------------------------------------------------------------------------------------


def _waits(facts: Facts, found: Outcome, waiting: Waiting) -> str:
    accepted = facts.last("accepted")
    begun = f"accepted at {shortly(accepted.timestamp)}, " if accepted else ""
    if facts.is_cancelled:
        return f"{begun}it is cancelled and will not be sent, of which it gets the event when its turn comes: {sentence(waiting)}"
    over = ""
    if facts.expires_at is not None and facts.expires_at < facts.now:
        over = f"; its time was over at {shortly(facts.expires_at)}, so it will not be sent, but told as failed"
    where = "with the provider" if found.status == "sending" else "in the channel's queue"
    if waiting.what == "answer":
        return f"{begun}given to the provider at {shortly(waiting.since)}: {waiting.reason}{over}"
    again = facts.last("no_answer")
    if again:
        reason = f"given to the provider before ({again.get('reason')}), so nobody knows whether it arrived"
        return f"{begun}{reason}, it waits {where} to be sent again, because {sentence(waiting)}{over}"
    return f"{begun}it waits {where}, because {sentence(waiting)}{over}"


def _sent(facts: Facts, found: Outcome) -> str:
    step = found.step
    when = shortly(step.timestamp) if step else ""
    match found.status:
        case "submitted":
            return f"the provider took it at {when}{_as_its(step)}, and has reported nothing more of it"
        case "delivery_pending":
            return f"the provider took it, and reported at {when} that it is on its way{_state(step)}"
        case "delivery_succeeded":
            return f"it was delivered, as the provider reported at {when}{_state(step)}"
        case "delivery_failed":
            return f"the provider took it, but reported at {when} that it was not delivered{_state(step)}"
        case "expired":
            return _expired(facts, when)
        case "cancelled":
            by = facts.last("cancelled")
            who = f" by {by.get('by')}" if by and by.get("by") else ""
            return f"it was cancelled{who} at {when} before it was sent: it never left"
        case "moved":
            return f"the router moved it to channel {facts.moved_to}, whose timeline goes on"
        case "dead":
            return f"it was not sent, but moved to the dead letters at {when}: {_why_dead(step)}"
    return _rejected(facts, step, when)


def _rejected(facts: Facts, step: Step | None, when: str) -> str:
    reason = step.get("reason") if step else None
    answer, asked = facts.last("provider_answered"), facts.last("sent_to_provider")
    if facts.last("no_answer") and "unknown" in str(reason).lower():
        return f"the provider never answered, so nobody knows whether it arrived: told as rejected at {when} ({reason})"
    if answer and asked and answer.timestamp >= asked.timestamp and answer.get("command_status") == reason:
        return f"the provider refused it at {when}: it answered {with_text(str(reason))} to {asked.get('pdu')}"
    return f"it was rejected at {when}: {reason}"


def _expired(facts: Facts, when: str) -> str:
    kept = facts.last("not_sent", "no_answer") or _trouble(facts)
    accepted = facts.last("accepted")
    ended = f"its time was over at {shortly(facts.expires_at)}" if facts.expires_at else f"its time was over by {when}"
    waited = f" after it had waited since {shortly(accepted.timestamp)}" if accepted else ""
    why = f" (what kept it: {kept.get('reason')})" if kept else ""
    return f"{ended}{waited}{why}, so it was not sent"


def _trouble(facts: Facts) -> Step | None:
    return next((step for step in reversed(facts.steps) if step.kind == "channel" and step.get("status") != "ok"), None)


def _as_its(step: Step | None) -> str:
    id = step.get("sent_message_id") if step else None
    return f" as {id}" if id else ""


def _state(step: Step | None) -> str:
    if step is None:
        return ""
    told = [str(step.get(name)) for name in ("state", "reason") if step.get(name)]
    if step.get("error_code"):
        told.append(f"error {step.get('error_code')}")
    return f": {', '.join(told)}" if told else ""


def _why_dead(step: Step | None) -> str:
    return str((step.get("why") or step.get("reason") or step.get("error") or step.description) if step else "see the log")


# --- MO -----------------------------------------------------------------------------------------------------------------


def _received(facts: Facts, found: Outcome) -> str:
    came = next((step for step in facts.steps if step.kind == "received"), None)
    text = f"it came at {shortly(came.timestamp)}" if came else "it came from a phone"
    if not facts.last("stored"):
        text = f"{text}, and can be replied to no more"
    if found.status == "dropped" and found.step:
        return f"{text}, but was dropped: {found.step.description}"
    if found.status == "dead" and not facts.recipients:
        return f"{text}, but was moved to the dead letters: {_why_dead(found.step)}"
    if found.status == "received":
        return f"{text}" + ("" if facts.recipients else "; whom it was given to is not known here")
    return text


# --- the application ----------------------------------------------------------------------------------------------------


def _application(facts: Facts, deliveries: Sequence[Delivery], waiting: Waiting | None) -> str:
    about = "its event" if facts.is_outbound else "it"
    if not deliveries:
        is_nobody = facts.is_outbound and not facts.recipients
        return "it has no event_url, so nobody is told of its events" if is_nobody else ""
    dead = next((each for each in deliveries if each.state == "dead"), None)
    open = next((each for each in deliveries if each.state == "open"), None)
    told = [each for each in deliveries if each.state == "told"]
    if dead:
        return _given_up(dead, about)
    if open and waiting:
        failures = f" after {open.failures} failed attempt{'s' if open.failures > 1 else ''}" if open.failures else ""
        return f"your application does not know {about} yet{failures}: {sentence(waiting)}"
    if told and told[-1].last and len(told) == len(deliveries):
        last = told[-1].last
        status = last.get("http_status")
        how = f"answered HTTP {status}" if status else "has it"
        recipient = told[-1].recipient
        return f"your application was told at {shortly(last.timestamp)}: {recipient.to} at {recipient.host} {how}"
    return f"whether your application was told is not known here: {facts.logs}" if facts.logs else ""


def _given_up(dead: Delivery, about: str) -> str:
    last = dead.last
    why = f": {last.get('reason') or last.get('why')}" if last else ""
    when = f" at {shortly(last.timestamp)}" if last and last.kind == "dead" else ""
    where = "is with the dead letters, from where it can be replayed"
    if dead.is_taken_out:
        where = "is no more with the dead letters: it was replayed, and is about to be tried, or deleted"
    return (
        f"your application does not know {about}: {dead.recipient.to} at {dead.recipient.host} did not take it, so it was "
        f"given up{when}{why}, and {where}"
    )
