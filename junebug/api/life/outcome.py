"""What has become of a message, and whether the application knows: decided by what happened, in its order. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from junebug.api.life.facts import Facts, Recipient
from junebug.api.life.log_steps import TAKEN
from junebug.api.life.step import ENDED, Step, at
from junebug.model.messages import CANCELLED, EXPIRED, REPORT_TYPES

OUTBOUND_STATUSES = (
    "queued", "sending", "submitted", "rejected", "delivery_pending", "delivery_succeeded", "delivery_failed", "expired",
    "cancelled", "dead", "moved",
)  # fmt: skip
INBOUND_STATUSES = ("received", "waiting", "forwarded", "dropped", "dead")
_OF_LOGS = {"sent": "submitted", "rejected": "rejected", "cancelled": "cancelled", "expired": "expired"}

EVENT_TYPES = {CANCELLED: "rejected", EXPIRED: "delivery_failed"}
"""Of statuses that have a name of their own: that of their event."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """`step`: by which it is known."""

    status: str
    step: Step | None = None


def status_of(event_type: str, ended: object) -> str:
    """A status by the last event: two that are ours (`Event.ended`) have names of their own."""
    return ended if isinstance(ended, str) and EVENT_TYPES.get(ended) == event_type else event_type


def sent(facts: Facts) -> Outcome:
    """Of an MT."""
    event = facts.last("event")
    if event:
        return Outcome(status_of(str(event.get("event_type")), event.get(ENDED)), event)
    for step in reversed(facts.steps):
        reported = REPORT_TYPES.get(str(step.get("delivery_status"))) if step.kind == "receipt" else None
        if reported:
            return Outcome(reported, step)
        if step.kind in _OF_LOGS:
            return Outcome(_OF_LOGS[step.kind], step)
    dead = [step for step in facts.steps if step.kind == "dead" and ".outbound" in str(step.get("queue"))]
    if dead:
        return Outcome("dead", dead[-1])
    if facts.moved_to:
        return Outcome("moved")
    last = facts.last("sent_to_provider", "provider_answered", "no_answer", "not_sent", "failed")
    return Outcome("sending", last) if last and last.kind == "sent_to_provider" else Outcome("queued", last)


def received(facts: Facts, deliveries: list[Delivery]) -> Outcome:
    """Of an MO."""
    states = {each.state for each in deliveries}
    told = facts.last("callback")
    if "open" in states:
        return Outcome("waiting")
    if "dead" in states:
        return Outcome("dead", facts.last("dead"))
    if "told" in states:
        return Outcome("forwarded", told)
    if dropped := facts.last("dropped"):
        return Outcome("dropped", dropped)
    dead = facts.last("dead")
    return Outcome("dead", dead) if dead else Outcome("received")


# --- the application ----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Delivery:
    """One thing that one recipient is to be told. `unknown`: where logs are missing."""

    recipient: Recipient
    event_type: str | None
    since: float
    state: Literal["open", "told", "dead", "unknown"] = "open"
    failures: int = 0
    last: Step | None = None
    """How it went the last time."""
    until: float | None = None
    """When it is tried again."""
    is_taken_out: bool = False
    """Dead, but no more among the dead letters."""

    def is_of(self, told: Mapping[str, Any]) -> bool:
        of = (told.get("to"), told.get("event_type"), told.get("destination_id") or "")
        return of == (self.recipient.to, self.event_type, self.recipient.destination)

    def learn(self, step: Step) -> None:
        match step.kind:
            case "callback" if step.get(TAKEN):
                self.state, self.last, self.until = "told", step, None
            case "callback" if self.state != "told":
                self.state, self.last, self.until = "open", step, None
                self.failures += 1
            case "callback_waits":
                self.until = at(str(step.get("retry_at"))) or None
            case "dead" if self.state != "told":
                self.state, self.last = "dead", step
            case "replayed":
                self.state, self.failures, self.until = "open", 0, None


def deliveries(facts: Facts) -> list[Delivery]:
    """All that are to be made, in their order."""
    found = []
    for delivery in _wanted(facts):
        steps = [step for step in facts.steps if delivery.is_of(step.details)]
        for step in steps:
            delivery.learn(step)
        if delivery.state != "told" and any(_is_letter_of(each, delivery) for each in facts.letters):
            delivery.state = "dead"
        elif delivery.state == "dead":
            delivery.is_taken_out = facts.has_all_letters
        elif not steps and facts.logs:
            delivery.state = "unknown"
        found.append(delivery)
    return found


def _wanted(facts: Facts) -> Iterator[Delivery]:
    if not facts.is_outbound:
        first = facts.last("stored", "received")
        for recipient in facts.recipients:
            yield Delivery(recipient, None, first.timestamp if first else facts.now)
        return
    for step in facts.steps:
        if step.kind == "event":
            for recipient in facts.recipients:
                yield Delivery(recipient, str(step.get("event_type")), step.timestamp)


def _is_letter_of(letter: Mapping[str, Any], delivery: Delivery) -> bool:
    message = letter.get("message") or {}
    of = (letter.get("to"), message.get("event_type"), letter.get("destination") or "")
    return of == (delivery.recipient.to, delivery.event_type, delivery.recipient.destination)
