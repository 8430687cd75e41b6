"""What Redis keeps of a message, as steps: how it was accepted, its events, an inbound one that may be replied to. Pure."""

from __future__ import annotations

from junebug.api.life.step import ENDED, Step, at, shortly
from junebug.model.acceptance import Acceptance
from junebug.model.messages import Event, UserMessage
from junebug.model.presenter import event_body, message_body

_OF_EVENTS = {
    "submitted": "The provider accepted it", "rejected": "It was rejected", "delivery_succeeded": "It was delivered",
    "delivery_failed": "It was not delivered", "delivery_pending": "The provider is at it",
}  # fmt: skip


def acceptance_steps(kept: Acceptance, queue: str) -> list[Step]:
    """Accepted, and queued, in this queue: the answer to a send comes when RabbitMQ holds it."""
    when = at(kept.timestamp)
    told = {
        "by": kept.by or None, "address": kept.address or None, "to": kept.to_addr, "from": kept.from_addr,
        "reply_to": kept.in_reply_to, "expires_at": kept.expires_at, "router_id": kept.router or None,
        "destination_id": kept.destination or None,
    }  # fmt: skip
    details = {name: value for name, value in told.items() if value is not None}
    who = f"from {kept.by} at {kept.address}" if kept.by else f"over RabbitMQ, from destination {kept.destination}"
    queued = Step(when, "queued", f"RabbitMQ holds it, in queue {queue}", {"queue": queue})
    return [Step(when, "accepted", f"Accepted {who}", details), queued]


def unknown_acceptance(events: list[Event]) -> list[Step]:
    """Of what an older Junebug took, or what came by the channel's amqp_queue, as far as its events tell."""
    stamps = [event.message_timestamp for event in events if event.message_timestamp]
    if not stamps:
        return []
    return [Step(at(stamps[0]), "accepted", "Accepted; by whom was not kept: over RabbitMQ, or by an older Junebug")]


def event_step(event: Event, channel: str) -> Step:
    body = event_body(event, channel)
    details = {"event_type": body["event_type"], **body["event_details"]}
    details.pop(ENDED, None)  # of a provider's
    if event.ended:
        details[ENDED] = event.ended
    description = _OF_EVENTS[event.api_type]
    if reason := body["event_details"].get("reason") or body["event_details"].get("state"):
        description = f"{description}: {reason}"
    return Step(at(event.timestamp), "event", f"Event {event.api_type}: {description}", details)


def inbound_steps(message: UserMessage, channel: str, stored_at: float, ends: float) -> list[Step]:
    told = message_body(message, channel)
    details = {name: told[name] for name in ("to", "from", "group", "reply_to") if told[name] is not None}
    return [
        Step(at(message.timestamp), "received", f"It came from {message.from_addr} to {message.to_addr}", details),
        Step(max(stored_at, at(message.timestamp)), "stored", f"Kept to be replied to until {shortly(ends)}"),
    ]
