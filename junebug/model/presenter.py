"""The application's JSON, pure: what its URLs are POSTed, and what the API answers of messages and events (COMPAT §2).

Neighbours: messages.py has Vumi's form, which travels on RabbitMQ; api/views.py shows channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from junebug.model.messages import Content, Event, Status, UserMessage


def body_of(content: Content, channel: str) -> dict[str, Any]:
    """What the mo_url, the event_url or the status_url gets."""
    match content:
        case UserMessage():
            return message_body(content, channel)
        case Event():
            return event_body(content, channel)
        case Status():
            return status_body(content)


def message_body(message: UserMessage, channel: str) -> dict[str, Any]:
    """A message, MO or MT."""
    channel_data = dict(message.helper_metadata)
    if message.session_event is not None:
        channel_data["session_event"] = message.session_event
    body = {
        "to": message.to_addr, "from": message.from_addr, "group": message.group, "message_id": message.message_id,
        "channel_id": channel, "timestamp": message.timestamp, "reply_to": message.in_reply_to,
        "content": message.content, "channel_data": channel_data,
    }  # fmt: skip
    return body if message.expires_at is None else {**body, "expires_at": message.expires_at}


def event_body(event: Event, channel: str) -> dict[str, Any]:
    """An event (spec 1.7.2); `event_details` holds what the channel told of it."""
    details = dict(event.transport_metadata)
    if event.nack_reason is not None:
        details["reason"] = event.nack_reason
    if event.sent_message_id is not None and event.sent_message_id != event.user_message_id:
        details["sent_message_id"] = event.sent_message_id
    return {
        "event_type": event.api_type,
        "message_id": event.user_message_id,
        "channel_id": channel,
        "timestamp": event.timestamp,
        "event_details": details,
    }


def status_body(status: Status) -> dict[str, Any]:
    """A status (spec 1.7.3); the API shows it among a channel's components, too."""
    shown = ("channel_id", "component", "status", "type", "message", "details")
    return {name: getattr(status, name) for name in shown}


def submitted_json(message: UserMessage, channel: str) -> dict[str, Any]:
    """The answer to a send: the whole message, and `id` as the spec shows it."""
    return {"id": message.message_id, **message_body(message, channel)}


def queued_json(message: UserMessage, channel: str) -> dict[str, Any]:
    """A message that waits to be sent."""
    return {**submitted_json(message, channel), "priority": message.priority, "state": "queued"}


def message_status_json(message_id: str, channel: str, events: Sequence[Event]) -> dict[str, Any]:
    """What became of a message; `events`: oldest first, formatted as they are posted to an event_url."""
    bodies = [event_body(event, channel) for event in events]
    last = bodies[-1] if bodies else {}
    return {
        "id": message_id,
        "last_event_type": last.get("event_type"),
        "last_event_timestamp": last.get("timestamp"),
        "events": bodies,
    }
