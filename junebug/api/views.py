"""API JSON <-> domain, as pure functions (COMPAT §1).

Bodies come in here already checked by schemas.py. Neighbours: channels.py and messages.py, which do the I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from junebug.errors import ApiUsageError, InvalidBody, MessageTooLong
from junebug.messages import Event, UserMessage, worst_status
from junebug.registry import Registry
from junebug.spec import PROPERTIES, RESTARTING_PROPERTIES, ChannelSpec

_INTEGERS = ("rate_limit_count", "rate_limit_window", "character_limit")

RATE_NAMES = {
    "inbound_message": "inbound_message_rate",
    "outbound_message": "outbound_message_rate",
    "submitted": "submitted_event_rate",
    "rejected": "rejected_event_rate",
    "delivery_succeeded": "delivery_succeeded_rate",
    "delivery_failed": "delivery_failed_rate",
    "delivery_pending": "delivery_pending_rate",
}
"""What stores.RateStore counts -> the name of its rate in a channel's status."""

# --- channels ---------------------------------------------------------------------------------------------------------


def new_channel(channel_id: str, body: Mapping[str, Any], registry: Registry) -> ChannelSpec:
    """The channel that a POST /channels/ asks for. Raises InvalidChannelType, InvalidChannelConfig."""
    registry.validate_config(body["type"], body["config"])
    return ChannelSpec.from_properties(channel_id, _properties(body), generation=1)


def changed_channel(old: ChannelSpec, body: Mapping[str, Any], registry: Registry) -> ChannelSpec:
    """`old` with the properties given in `body`; a secret that is sent back masked stays as it is.

    Raises InvalidChannelType, InvalidChannelConfig, InvalidBody.
    """
    changes = _properties(body)
    if "config" in changes:
        channel_type = changes.get("type", old.type)
        changes["config"] = registry.restore_redacted(channel_type, changes["config"], old.config)
    if changes.get("amqp_queue") == old.id:
        message = "amqp_queue: the channel's own id names its own queues; choose another name"
        raise InvalidBody([(message, ["properties", "amqp_queue"])])
    new = ChannelSpec.from_properties(old.id, {**old.to_properties(), **changes}, old.generation, old.stored)
    if needs_restart(old, new):
        registry.validate_config(new.type, new.config)
    return new


def needs_restart(old: ChannelSpec, new: ChannelSpec) -> bool:
    """Whether what changed takes effect only by starting the channel afresh."""
    return any(not _same(getattr(old, name), getattr(new, name)) for name in RESTARTING_PROPERTIES)


def is_changed(old: ChannelSpec, new: ChannelSpec) -> bool:
    return not _same(old.to_properties(), new.to_properties())


def _same(one: Any, other: Any) -> bool:
    """As JSON sees it: for Python, 1 and true are equal."""
    return orjson.dumps(one, option=orjson.OPT_SORT_KEYS) == orjson.dumps(other, option=orjson.OPT_SORT_KEYS)


def _properties(body: Mapping[str, Any]) -> dict[str, Any]:
    """The body's properties; what only the server sets is left out, 10.0 becomes 10."""
    properties = {name: body[name] for name in PROPERTIES if name in body}
    for name in _INTEGERS:
        if properties.get(name) is not None:
            properties[name] = int(properties[name])
    return properties


def channel_json(spec: ChannelSpec, registry: Registry, status: Mapping[str, Any]) -> dict[str, Any]:
    """The channel as the API shows it: its properties, secrets masked, `id` and `status`."""
    properties = spec.to_properties()
    properties["config"] = registry.redact(spec.type, spec.config)
    return {"id": spec.id, **properties, "status": status}


def status_json(
    components: Mapping[str, Mapping[str, Any]], rates: Mapping[str, float], queue_length: int | None
) -> dict[str, Any]:
    """The nested status of a channel; `queue_length` is null while RabbitMQ cannot tell."""
    return {
        "status": worst_status([str(body.get("status")) for body in components.values()]),
        "components": components,
        **{name: rates.get(label, 0.0) for label, name in RATE_NAMES.items()},
        "queue_length": queue_length,
    }


NEW_STATUS = status_json({}, {}, 0)
"""Of a channel that has just been created."""


# --- messages ---------------------------------------------------------------------------------------------------------


def check_addressing(body: Mapping[str, Any], allow_expired_replies: bool) -> None:
    """Raises ApiUsageError unless exactly one of `to` and `reply_to` is given (or both, where that is allowed)."""
    has_to, has_reply_to = body.get("to") is not None, body.get("reply_to") is not None
    if not has_to and not has_reply_to:
        raise ApiUsageError('Either "to" or "reply_to" must be specified')
    if has_to and has_reply_to and not allow_expired_replies:
        raise ApiUsageError('Only one of "to" and "reply_to" may be specified')


def check_sendable(body: Mapping[str, Any], spec: ChannelSpec) -> None:
    """Whether this channel takes it. Raises ApiUsageError, MessageTooLong."""
    if not spec.has_destination:
        raise ApiUsageError('This channel has no "mo_url" or "amqp_queue"')
    length, limit = len(body["content"] or ""), spec.character_limit
    if limit and length > limit:
        raise MessageTooLong(
            f"The message content is of length {length}, which is greater than the character limit of {limit}"
        )


def new_message(body: Mapping[str, Any], channel: str) -> UserMessage:
    """The outbound message that a body with `to` asks for."""
    session_event, helper_metadata = _session(body)
    return UserMessage(
        to_addr=body.get("to"),
        from_addr=body.get("from"),
        group=body.get("group"),
        content=body["content"],
        session_event=session_event,
        transport_name=channel,
        helper_metadata=helper_metadata,
    )


def new_reply(body: Mapping[str, Any], channel: str, inbound: UserMessage) -> UserMessage:
    """The outbound message that answers `inbound`: its addresses swapped; `from` and `group` override."""
    session_event, helper_metadata = _session(body)
    sender, group = body.get("from"), body.get("group")
    return UserMessage(
        to_addr=inbound.from_addr,
        from_addr=inbound.to_addr if sender is None else sender,
        group=inbound.group if group is None else group,
        content=body["content"],
        in_reply_to=inbound.message_id,
        session_event=session_event,
        provider=inbound.provider,
        transport_name=channel,
        transport_type=inbound.transport_type,
        to_addr_type=inbound.from_addr_type,
        from_addr_type=inbound.to_addr_type,
        transport_metadata=inbound.transport_metadata,
        helper_metadata=helper_metadata,
    )


def _session(body: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """The session_event, and the helper_metadata: channel_data without what says the former.

    `session_event` says it outright; else `continue_session` true is resume, false is close; else it is null.
    """
    helper_metadata = dict(body.get("channel_data") or {})
    session_event = helper_metadata.pop("session_event", None)
    continue_session = helper_metadata.pop("continue_session", None)
    if session_event is None and continue_session is not None:
        session_event = "resume" if continue_session else "close"
    return session_event, helper_metadata


def priority(body: Mapping[str, Any]) -> int:
    """1 to 5; 1 when nothing is said."""
    return int(body.get("priority") or 1)


def message_json(message: UserMessage, channel: str) -> dict[str, Any]:
    """The answer to a send: the whole message, and `id` as the spec shows it."""
    return {"id": message.message_id, **message.body(channel)}


def message_status_json(message_id: str, channel: str, events: list[Event]) -> dict[str, Any]:
    """What became of a message; `events`: oldest first, formatted as they are posted to an event_url."""
    bodies = [event.body(channel) for event in events]
    last = bodies[-1] if bodies else {}
    return {
        "id": message_id,
        "last_event_type": last.get("event_type"),
        "last_event_timestamp": last.get("timestamp"),
        "events": bodies,
    }
