"""What a request's JSON asks for, and how a channel is shown: pure functions (COMPAT §1).

Bodies come in here already checked by schemas.py. Neighbours: handlers/ does the I/O, model/presenter.py shows messages and
events, as the worker posts them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from msgspec.structs import replace

from junebug import names
from junebug.api.properties import Properties, is_same
from junebug.errors import ApiUsageError, MessageNotFound, MessageTooLong
from junebug.model import templates
from junebug.model.messages import UserMessage, format_timestamp, parse_timestamp, worst_status
from junebug.model.spec import PROPERTIES, RESTARTING_PROPERTIES, ChannelSpec
from junebug.registry import Registry

_CHANNEL = Properties(
    PROPERTIES, secrets=("callback_secret", "mo_url_auth_token"), urls=("mo_url", "status_url"),
    integers=("rate_limit_count", "rate_limit_window", "character_limit"),
)  # fmt: skip

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
    """The channel that a POST /channels/ asks for. Raises InvalidChannelType, InvalidChannelConfig, InvalidBody."""
    registry.validate_config(body["type"], body["config"])
    return ChannelSpec.from_properties(channel_id, _CHANNEL.read(body, {}), generation=1)


def changed_channel(old: ChannelSpec, body: Mapping[str, Any], registry: Registry) -> ChannelSpec:
    """`old` with the properties given in `body`; a secret that is sent back masked stays as it is.

    Raises InvalidChannelType, InvalidChannelConfig, and ApiUsageError for a destination of its own while it is a router's.
    """
    changes = _CHANNEL.read(body, old.to_properties())
    if "config" in changes:
        channel_type = changes.get("type", old.type)
        changes["config"] = registry.restore_redacted(channel_type, changes["config"], old.config)
    properties = {**old.to_properties(), **changes}
    new = ChannelSpec.from_properties(old.id, properties, old.generation, old.stored, old.noted_priorities, old.router)
    for name in ("mo_url", "amqp_queue"):
        if old.router and changes.get(name):
            raise ApiUsageError(f"{name}: router {old.router} has this channel's messages; give it to one of its destinations")
    if needs_restart(old, new):
        registry.validate_config(new.type, new.config)
    return new


def needs_restart(old: ChannelSpec, new: ChannelSpec) -> bool:
    """Whether what changed takes effect only by starting the channel afresh."""
    return any(not is_same(getattr(old, name), getattr(new, name)) for name in RESTARTING_PROPERTIES)


def is_changed(old: ChannelSpec, new: ChannelSpec) -> bool:
    return not is_same(old.to_properties(), new.to_properties())


def channel_json(spec: ChannelSpec, registry: Registry, status: Mapping[str, Any]) -> dict[str, Any]:
    """The channel as the API shows it: its properties, secrets masked, `id` and `status`."""
    properties = spec.to_properties()
    properties["config"] = registry.redact(spec.type, spec.config)
    properties.pop("paused", None)  # it stands in the status, so that what was read can be sent back
    routed = {"router": spec.router} if spec.router else {}
    return {"id": spec.id, **_CHANNEL.shown(properties), "status": {**status, **routed}}


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """What of a channel waits where. `queued` and `sending`: priority -> messages."""

    queued: Mapping[int, int]
    sending: Mapping[int, int]
    callbacks_waiting: int
    dead_letters: int


def queue_json(paused: bool | None, counts: QueueCounts | None) -> dict[str, Any]:
    """What waits to be sent; the numbers are null while RabbitMQ does not tell."""
    return {
        "paused": bool(paused),
        "queued": _by_priority(counts.queued) if counts else None,
        "sending": _by_priority(counts.sending) if counts else None,
    }


def _by_priority(counts: Mapping[int, int]) -> dict[str, int]:
    """Of each priority, the most urgent first."""
    priorities = range(names.HIGHEST_PRIORITY, names.LOWEST_PRIORITY - 1, -1)
    return {str(priority): counts.get(priority, 0) for priority in priorities}


def status_json(
    components: Mapping[str, Mapping[str, Any]],
    rates: Mapping[str, float],
    paused: bool | None,
    counts: QueueCounts | None,
) -> dict[str, Any]:
    """The nested status of a channel; what RabbitMQ does not tell is null."""
    return {
        "status": worst_status([str(body.get("status")) for body in components.values()]),
        "components": components,
        **rates_json(rates),
        "queue_length": sum(counts.queued.values()) if counts else None,
        "queue": queue_json(paused, counts),
        "callbacks_waiting": counts.callbacks_waiting if counts else None,
        "dead_letters": counts.dead_letters if counts else None,
    }


def rates_json(rates: Mapping[str, float]) -> dict[str, float]:
    return {name: rates.get(label, 0.0) for label, name in RATE_NAMES.items()}


NEW_STATUS = status_json({}, {}, False, QueueCounts({}, {}, 0, 0))
"""Of a channel that has just been created."""


# --- messages ---------------------------------------------------------------------------------------------------------


def check_addressing(body: Mapping[str, Any], allow_expired_replies: bool) -> None:
    """Raises ApiUsageError unless exactly one of `to` and `reply_to` is given (or both, where that is allowed)."""
    has_to, has_reply_to = body.get("to") is not None, body.get("reply_to") is not None
    if not has_to and not has_reply_to:
        raise ApiUsageError('Either "to" or "reply_to" must be specified')
    if has_to and has_reply_to and not allow_expired_replies:
        raise ApiUsageError('Only one of "to" and "reply_to" may be specified')


def check_destination(spec: ChannelSpec) -> None:
    """Whether this channel takes any. Raises ApiUsageError."""
    if not spec.has_destination:
        raise ApiUsageError('This channel has no "mo_url" or "amqp_queue"')


def check_length(body: Mapping[str, Any], limit: int) -> None:
    """`limit`: in characters, 0: none. Raises MessageTooLong."""
    length = len(body["content"] or "")
    if limit and length > limit:
        raise MessageTooLong(
            f"The message content is of length {length}, which is greater than the character limit of {limit}"
        )


def not_replyable(reply_to: Any) -> MessageNotFound:
    return MessageNotFound(f"Inbound message with id {str(reply_to)[:100]!r} not found: it may have expired")


def expiry(body: Mapping[str, Any], now: datetime) -> str | None:
    """After when the message is not to be sent, None: never. Raises ApiUsageError."""
    given, seconds = body.get("expires_at"), body.get("validity")
    if given is None and seconds is None:
        return None
    if given is not None and seconds is not None:
        raise ApiUsageError('Only one of "expires_at" and "validity" may be specified')
    if seconds is not None:
        return format_timestamp(now + timedelta(seconds=seconds))
    ends = parse_timestamp(str(given))
    if ends <= format_timestamp(now):
        raise ApiUsageError(f'"expires_at" is in the past: {ends} UTC')
    return ends


def new_message(body: Mapping[str, Any], channel: str, expires_at: str | None = None, **own: Any) -> UserMessage:
    """The outbound message that a body with `to` asks for. `own`: its message_id and timestamp, new ones by default.

    `channel_data` is its helper_metadata, without what says the session_event: `session_event` does so outright; else
    `continue_session` true is resume, false is close; else it is null.
    """
    helper_metadata = dict(body.get("channel_data") or {})
    session_event = helper_metadata.pop("session_event", None)
    continue_session = helper_metadata.pop("continue_session", None)
    if session_event is None and continue_session is not None:
        session_event = "resume" if continue_session else "close"
    return UserMessage(
        to_addr=body.get("to"), from_addr=body.get("from"), group=body.get("group"), content=body["content"],
        session_event=session_event, transport_name=channel, helper_metadata=helper_metadata, expires_at=expires_at,
        event_url=body.get("event_url") or None, event_auth_token=body.get("event_auth_token"),
        priority=priority(body), **own,
    )  # fmt: skip


def new_reply(
    body: Mapping[str, Any], channel: str, inbound: UserMessage, expires_at: str | None = None, **own: Any
) -> UserMessage:
    """The outbound message that answers `inbound`: its addresses swapped; `from` and `group` override."""
    message = new_message(body, channel, expires_at, **own)
    return replace(
        message, to_addr=inbound.from_addr,
        from_addr=inbound.to_addr if message.from_addr is None else message.from_addr,
        group=inbound.group if message.group is None else message.group, in_reply_to=inbound.message_id,
        provider=inbound.provider, transport_type=inbound.transport_type, to_addr_type=inbound.from_addr_type,
        from_addr_type=inbound.to_addr_type, transport_metadata=inbound.transport_metadata,
    )  # fmt: skip


def with_event_url(message: UserMessage) -> UserMessage:
    """What the message says is filled into its event_url: an event does not know it. Raises ApiUsageError."""
    if message.event_url is None or not templates.is_template(message.event_url):
        return message
    said = {"from": message.from_addr, "to": message.to_addr, "content": message.content, "group": message.group,
            "reply_to": message.in_reply_to}  # fmt: skip
    try:
        return replace(message, event_url=templates.expand_message(message.event_url, said))
    except ValueError as error:
        raise ApiUsageError(f'"event_url": {error}') from None


def priority(body: Mapping[str, Any]) -> int:
    """1 to 5; 1 when nothing is said."""
    return int(body.get("priority") or 1)
