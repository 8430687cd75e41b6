"""Lines of a channel's or router's log that tell of a message, as steps. Pure.

The words of the lines are those that worker/ and transports/ write. A line that says nothing here that is known is a `note`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from junebug.api.life.step import Step, at, in_order
from junebug.model.messages import DELIVERY_STATUSES
from junebug.smpp.status_texts import with_text

_LINE = frozenset(("logger", "level", "timestamp", "message", "message_id", "exception", "replayed"))
_ACCEPTED = "ESME_ROK"
_SENT = frozenset(("submit_sm", "data_sm", "submit_multi"))
_CAME = frozenset(("deliver_sm", "data_sm"))
Told = tuple[str, str]
"""Kind and description."""
MOST_STEPS = 500
MOST_STATUSES = 30
ABOUT_OTHERS = frozenset(("callbacks", "log", "set_aside", "routing"))
"""Components that keep no message from being sent."""
FORWARDED = "forwarded"
TAKEN = "taken"
"""Of a callback's details: whether the application has it."""


def steps_of(entries: Iterable[Mapping[str, Any]], *, is_outbound: bool) -> list[Step]:
    """`entries`: with their PDUs decoded, in any order; once replayed is told once."""
    steps, replays = list[Step](), set[str]()
    for entry in entries:
        when = float(entry["timestamp"])
        replayed = entry.get("replayed")
        if isinstance(replayed, str) and replayed not in replays:
            replays.add(replayed)
            steps.append(_replayed(replayed, entry, when))
        kind, description = _told(entry, is_outbound)
        details = {name: value for name, value in entry.items() if name not in _LINE and value is not None}
        if isinstance(entry.get("exception"), dict):
            details["exception"] = entry["exception"].get("instance")
        if kind == "callback":
            details[TAKEN] = entry["message"] == FORWARDED
        steps.append(Step(when, kind, description, details))
    return in_order(steps)[-MOST_STEPS:]


def status_steps(entries: Iterable[Mapping[str, Any]], begin: float, end: float) -> list[Step]:
    """What kept a message that waited from `begin` to `end`: how its channel's links did meanwhile, and what was wrong before."""
    steps, before = list[Step](), dict[str, Step]()
    for entry in sorted(entries, key=lambda each: float(each["timestamp"])):
        component = entry.get("component")
        if not isinstance(component, str) or component.partition("/")[0] in ABOUT_OTHERS or entry["timestamp"] > end:
            continue
        details = {name: entry.get(name) for name in ("component", "status", "type", "reason")}
        told = f"The channel's {component} is {entry.get('status')}: {entry.get('type')}: {entry.get('reason')}"
        step = Step(float(entry["timestamp"]), "channel", told, details)
        if step.timestamp >= begin:
            steps.append(step)
        else:
            before[component] = step
    return [*(step for step in before.values() if step.get("status") != "ok"), *steps[-MOST_STATUSES:]]


def _replayed(replayed: str, entry: Mapping[str, Any], before: float) -> Step:
    when, _, who = replayed.partition(" by ")
    details = {name: entry[name] for name in ("to", "event_type", "destination_id") if name in entry} | {"by": who}
    description = f"Taken from the dead letters by {who}, to be given to {entry.get('to')} again"
    return Step(min(at(when) or before, before), "replayed", description, details)


def _told(entry: Mapping[str, Any], is_outbound: bool) -> Told:
    word = str(entry["message"])
    if "pdu" in entry:
        return _pdu(entry, is_outbound)
    tell = _WORDS.get(word)
    return tell(entry) if tell else ("note", word)


def _pdu(entry: Mapping[str, Any], is_outbound: bool) -> Told:
    name, status, is_in = str(entry["pdu"]), entry.get("command_status"), entry.get("direction") == "in"
    if name.endswith("_resp") or name == "generic_nack":
        if not is_in:
            return "told_provider", f"The provider was answered: {name}, {status}"
        if status == _ACCEPTED:
            id = entry.get("smsc_message_id")
            return "provider_answered", "The provider took it" + (f" as {id}" if id else "")
        return "provider_answered", f"The provider answered {with_text(str(status))}"
    if not is_in and name in _SENT:
        return "sent_to_provider", f"Given to the provider: {name}, sequence number {entry.get('sequence_number')}"
    if is_in and name in _CAME and is_outbound:
        return "receipt", f"The provider's receipt: {entry.get('content', '')}"
    if is_in and name in _CAME:
        return "received", f"The provider gave it to us: {name}"
    return "note", f"{name} {'from' if is_in else 'to'} the provider"


def _forwarded(entry: Mapping[str, Any]) -> Told:
    status = entry.get("http_status")
    how = f"HTTP {status} in {entry.get('ms')} ms" if status is not None else "RabbitMQ has it"
    return "callback", f"{_what(entry)} given to {_whom(entry)}: {how}"


def _failed(entry: Mapping[str, Any]) -> Told:
    return "callback", f"{_what(entry)} not taken by {_whom(entry)}: {entry.get('reason')}"


def _what(entry: Mapping[str, Any]) -> str:
    event = entry.get("event_type")
    return f"Event {event}" if event else "The message"


def _whom(entry: Mapping[str, Any]) -> str:
    host, destination = entry.get("host"), entry.get("destination_id")
    return f"{entry.get('to')}" + (f" of destination {destination}" if destination else "") + (f" at {host}" if host else "")


def _report(entry: Mapping[str, Any]) -> Told:
    status = entry.get("delivery_status")
    return "receipt", f"The provider reported: {status if status in DELIVERY_STATUSES else '?'}"


def _dead(entry: Mapping[str, Any]) -> Told:
    return "dead", f"Moved to the dead letters: {entry.get('reason') or entry.get('why')}"


_WORDS: dict[str, Callable[[Mapping[str, Any]], Told]] = {
    "message sent": lambda entry: ("sent", "The provider has it"),
    "message rejected": lambda entry: ("rejected", f"Rejected: {entry.get('reason')}"),
    "message cancelled, not sent": lambda _: ("cancelled", "Cancelled before it was sent"),
    "message expired, not sent": lambda entry: ("expired", f"Its time was over at {entry.get('expires_at')}: it was not sent"),
    "not sent, kept": lambda entry: (
        "not_sent", f"Not sent: {entry.get('reason')}; tried again in {_seconds(entry.get('retry_after'))} s"
    ),
    "outcome unknown": lambda entry: ("no_answer", f"Nobody knows whether the provider has it: {entry.get('reason')}"),
    "send failed": lambda entry: ("failed", "The channel failed on it: a mistake of Junebug's, or of the channel's type"),
    "delivery report": _report,
    "inbound message received": lambda entry: (
        "received", f"It came from {entry.get('from_addr')} to {entry.get('to_addr')}"
    ),
    "inbound message dropped: the channel has no destination": lambda entry: (
        "dropped", "Given to nobody: the channel has neither mo_url nor amqp_queue"
    ),
    "inbound message dropped: it is for no destination": lambda entry: (
        "dropped", "Given to nobody: it is for no destination of the router"
    ),
    FORWARDED: _forwarded,
    "forwarding failed": _failed,
    "forwarding failed: moved to the dead letters": lambda entry: ("note", "Giving it to the application failed"),
    "callback is repeated later": lambda entry: (
        "callback_waits", f"{_what(entry)} for {_whom(entry)} is tried again at {entry.get('retry_at')}"
    ),
    "callback waits in the backlog of its host": lambda entry: (
        "callback_waits", f"{_what(entry)} waits until {entry.get('host')} takes what comes before it"
    ),
    "given up: moved to the dead letters": _dead,
    "set aside with the dead letters": _dead,
    "unreadable message: moved to the dead letters": _dead,
    "unreadable message on the outbound queue: moved to the dead letters": _dead,  # as it was logged before
}  # fmt: skip


def _seconds(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else "?"
