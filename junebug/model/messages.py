"""UserMessage, Event and Status: Vumi's wire form in and out (COMPAT §3), pure.

Neighbours: amqp/ carries the bytes, presenter.py turns them into what applications see.
Text is never parsed into dates; a missing optional field is filled; what is not ours is kept in its dict.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal, Self, TypeVar, cast, get_args

import msgspec
import orjson
from msgspec import field
from msgspec.structs import replace

from junebug import names
from junebug.errors import MalformedMessage
from junebug.model.reading import DEEPEST, brackets, dict_of, load, optional, reader, shown, text_of

MESSAGE_VERSION = "20110921"
SessionEvent = Literal["new", "resume", "close"]
SESSION_EVENTS = (None, *get_args(SessionEvent))
EventType = Literal["ack", "nack", "delivery_report"]
EVENT_TYPES = get_args(EventType)
DeliveryStatus = Literal["delivered", "failed", "pending"]
StatusLevel = Literal["ok", "degraded", "down"]
STATUS_LEVELS: tuple[StatusLevel, ...] = ("ok", "degraded", "down")

T = TypeVar("T")

_UUID_MASK = ~(0xF000 << 64 | 0xC000 << 48) & ((1 << 128) - 1)
_UUID_4 = 0x4000 << 64 | 0x8000 << 48


_random = bytearray()
os.register_at_fork(after_in_child=_random.clear)


def new_id() -> str:
    """A message id: 32 hex digits of a uuid4 (clients parse it as a UUID). A fifth of what `uuid.uuid4().hex` costs."""
    if not _random:
        _random.extend(os.urandom(4096))
    sixteen = bytes(_random[-16:])
    del _random[-16:]
    return id_of(sixteen)


def id_of(sixteen: bytes) -> str:
    """The uuid4 whose random part these bytes are."""
    return "%032x" % (int.from_bytes(sixteen, "big") & _UUID_MASK | _UUID_4)


def format_timestamp(when: datetime) -> str:
    """UTC as `YYYY-MM-DD HH:MM:SS.ffffff`: microseconds always, no T, no Z (COMPAT §2)."""
    return (when if when.tzinfo is UTC else when.astimezone(UTC)).isoformat(" ", "microseconds")[:26]


_second = (0, "")


def timestamp_now() -> str:
    """The text of a second is made once."""
    global _second
    seconds, microseconds = divmod(time.time_ns() // 1000, 1_000_000)
    known, text = _second
    if known != seconds:
        text = datetime.fromtimestamp(seconds, UTC).isoformat(" ")[:19]
        _second = (seconds, text)
    return f"{text}.{microseconds:06d}"


def _is_plain(timestamp: str) -> bool:
    """Whether it is in our form already, and a time that there is."""
    if len(timestamp) != 26 or timestamp[7] != "-" or timestamp[10] != " " or timestamp[19] != ".":
        return False
    try:
        return datetime.fromisoformat(timestamp).tzinfo is None
    except ValueError:
        return False


def normalise_timestamp(text: object) -> str:
    """A timestamp that came over AMQP in our form: takes a T, a trailing Z and missing microseconds.

    Text that is no timestamp is replaced by the present moment: a foreign clock's spelling loses no message.
    """
    if isinstance(text, str):
        try:
            return parse_timestamp(text)
        except ValueError:
            pass
    return timestamp_now()


def seconds_of(timestamp: str) -> float:
    """One in our form, in seconds since 1970."""
    return datetime.fromisoformat(timestamp).replace(tzinfo=UTC).timestamp()


def parse_timestamp(text: str) -> str:
    """A time as users write it (ISO 8601, UTC unless it says otherwise) in our form. Raises ValueError."""
    when = datetime.fromisoformat(text)
    if when.tzinfo is None:
        return when.isoformat(" ", "microseconds")
    try:
        return format_timestamp(when)
    except OverflowError:
        raise ValueError(f"in UTC its year is not 1 to 9999: {text}") from None


def _time(wire: dict[str, Any], name: str) -> str | None:
    text = text_of(wire, name)
    try:
        return None if text is None else parse_timestamp(text)
    except ValueError:
        raise MalformedMessage(f"{name}: expected a timestamp, got {shown(text)}") from None


_encode = msgspec.json.Encoder().encode


def _empty() -> dict[str, Any]:
    return {}


_NULL = field(default_factory=type(None))
"""None, which is said on the wire. A default is not."""
_EMPTY = field(default_factory=_empty)
"""The same of an object: what `dict` itself makes is not said."""
_DIGITS_AS_NOUGHTS = bytes(ord("0") if 48 <= octet <= 57 else ord(" ") for octet in range(256))
_LONG_NUMBER = b"0" * 19
"""Looked for in a text whose digits are all noughts: a tenth of what an expression, which tries each octet, costs."""


class _Wire(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="message_type"):
    """Its fields are JSON's. What is as Vumi writes it is read in one go; what is not is looked at field by field."""

    def __repr__(self) -> str:
        fields = (f"{name}={getattr(self, name)!r}" for name in self.__struct_fields__ if name != "event_auth_token")
        return f"{type(self).__name__}({', '.join(fields)})"

    def to_wire(self) -> bytes:
        """JSON bytes: every field of Vumi's, and of ours those that are given."""
        return _encode(self)


def _read_at_once(decode: Callable[[bytes], T], body: bytes) -> T | None:
    """None where something in it is to be looked at: nothing that comes from outside may be deep, or a number too long."""
    try:
        if brackets(body) <= DEEPEST and _LONG_NUMBER not in body.translate(_DIGITS_AS_NOUGHTS):
            return decode(body)
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        pass
    return None


class UserMessage(_Wire, frozen=True, kw_only=True, tag="user_message"):
    """A text between a person and an application, MO or MT. Addresses are strings of the channel's kind."""

    message_version: str = field(default_factory=lambda: MESSAGE_VERSION)
    message_id: str = field(default_factory=new_id)
    timestamp: str = field(default_factory=timestamp_now)
    to_addr: str | None
    from_addr: str | None
    group: str | None = _NULL
    in_reply_to: str | None = _NULL
    provider: str | None = _NULL
    session_event: SessionEvent | None = _NULL
    content: str | None
    transport_name: str
    transport_type: str | None = _NULL
    to_addr_type: str | None = _NULL
    from_addr_type: str | None = _NULL
    transport_metadata: dict[str, Any] = _EMPTY
    helper_metadata: dict[str, Any] = _EMPTY
    routing_metadata: dict[str, Any] = _EMPTY
    expires_at: str | None = None
    """An MT is not sent after this time (a timestamp as the others). Not Vumi's: on the wire only where it is given."""
    priority: int = 1
    """1 to 5, 5 first. It is the queue that says it, whatever the wire does."""
    event_url: str | None = None
    event_auth_token: str | None = None
    """Where the events of an MT go: with the message, so that they arrive even if Redis has lost it. Not Vumi's."""
    trace: str | None = None
    """Of the request that it came with (model/trace.py). Not Vumi's either."""

    def has_expired(self, now: datetime | None = None) -> bool:
        """Whether it may be sent no more; without a `now`, at this moment."""
        return self.expires_at is not None and (format_timestamp(now) if now else timestamp_now()) >= self.expires_at

    @classmethod
    @reader
    def from_wire(cls, body: bytes, priority: int = 1) -> UserMessage:
        """Raises MalformedMessage, naming the field."""
        read = _read_at_once(_decode_message, body)
        if read and read.message_id and _is_plain(read.timestamp) and (not read.expires_at or _is_plain(read.expires_at)):
            if read.priority != priority:
                msgspec.structs.force_setattr(read, "priority", priority)
            return read
        wire = load(body, "user_message")
        session_event = text_of(wire, "session_event")
        if session_event not in SESSION_EVENTS:
            raise MalformedMessage(f"session_event: expected null, new, resume or close, got {shown(session_event)}")
        return cls(
            message_id=text_of(wire, "message_id") or new_id(),
            timestamp=normalise_timestamp(wire.get("timestamp")),
            session_event=cast(SessionEvent | None, session_event),
            transport_name=text_of(wire, "transport_name") or "",
            expires_at=_time(wire, "expires_at"),
            priority=priority,
            **optional(wire, _MESSAGE_TEXTS, _DICTS),
        )


_decode_message = msgspec.json.Decoder(UserMessage).decode
_MESSAGE_TEXTS = (
    "to_addr", "from_addr", "group", "in_reply_to", "provider", "content", "transport_type", "to_addr_type",
    "from_addr_type", "event_url", "event_auth_token", "trace",
)  # fmt: skip
_DICTS = ("transport_metadata", "helper_metadata", "routing_metadata")

REPORT_TYPES = {"delivered": "delivery_succeeded", "failed": "delivery_failed", "pending": "delivery_pending"}
"""`delivery_status` -> type of the event, in the API's words."""
_API_EVENT_TYPES = {"ack": "submitted", "nack": "rejected", **REPORT_TYPES}
API_EVENT_TYPES = tuple(_API_EVENT_TYPES.values())
ENDED = CANCELLED, EXPIRED = "cancelled", "expired"
"""What we end before it is sent, which is the reason in its event: the API's `rejected` and `delivery_failed`."""
DELIVERY_STATUSES = tuple(REPORT_TYPES)


class Event(_Wire, frozen=True, kw_only=True, tag="event"):
    """What became of an MT: ack (with `sent_message_id`), nack (with `nack_reason`) or a delivery_report."""

    message_version: str = field(default_factory=lambda: MESSAGE_VERSION)
    event_id: str = field(default_factory=new_id)
    event_type: EventType
    user_message_id: str
    timestamp: str = field(default_factory=timestamp_now)
    transport_name: str
    transport_metadata: dict[str, Any] = _EMPTY
    helper_metadata: dict[str, Any] = _EMPTY
    routing_metadata: dict[str, Any] = _EMPTY
    sent_message_id: str | None = None
    nack_reason: str | None = None
    delivery_status: DeliveryStatus | None = None
    event_url: str | None = None
    event_auth_token: str | None = None
    """Where it goes, if the message said so; not Vumi's: the application's own queue gets it `without_url`."""
    message_timestamp: str | None = None
    """When the message was accepted: the application may not know its id yet. Not Vumi's either."""
    trace: str | None = None
    """Its message's."""
    ended: str | None = None
    """One of ENDED, where it was us who ended it: a provider's reason may read alike. Not Vumi's either."""

    def to_wire(self) -> bytes:
        if self.event_type == "ack" and self.sent_message_id is None:  # Vumi's ack has one, be it null
            return orjson.dumps({**msgspec.to_builtins(self), "sent_message_id": None})
        return _encode(self)

    def without_url(self) -> Self:
        return replace(self, event_url=None, event_auth_token=None, message_timestamp=None, trace=None, ended=None)

    @property
    def api_type(self) -> str:
        """`submitted`, `rejected`, `delivery_succeeded`, `delivery_failed` or `delivery_pending`."""
        status = self.delivery_status if self.event_type == "delivery_report" else None
        return _API_EVENT_TYPES[status or self.event_type]

    @classmethod
    @reader
    def from_wire(cls, body: bytes) -> Event:
        """Raises MalformedMessage, naming the field."""
        read = _read_at_once(_decode_event, body)
        if (
            read and read.event_id and _is_plain(read.timestamp)
            and (read.delivery_status or read.event_type != "delivery_report")
            and (not read.message_timestamp or _is_plain(read.message_timestamp))
        ):  # fmt: skip
            return read
        wire = load(body, "event")
        event_type = text_of(wire, "event_type", required=True)
        if event_type not in EVENT_TYPES:
            raise MalformedMessage(f"event_type: expected one of {', '.join(EVENT_TYPES)}, got {shown(event_type)}")
        delivery_status = text_of(wire, "delivery_status")
        if event_type == "delivery_report" and delivery_status not in DELIVERY_STATUSES:
            raise MalformedMessage(
                f"delivery_status: expected one of {', '.join(DELIVERY_STATUSES)}, got {shown(delivery_status)}"
            )
        return cls(
            event_id=text_of(wire, "event_id") or new_id(),
            event_type=cast(EventType, event_type),
            user_message_id=text_of(wire, "user_message_id") or "",
            timestamp=normalise_timestamp(wire.get("timestamp")),
            transport_name=text_of(wire, "transport_name") or "",
            delivery_status=cast(DeliveryStatus | None, delivery_status),
            message_timestamp=_time(wire, "message_timestamp"),
            **optional(wire, _EVENT_TEXTS, _DICTS),
        )


_decode_event = msgspec.json.Decoder(Event).decode
_EVENT_TEXTS = ("sent_message_id", "nack_reason", "event_url", "event_auth_token", "trace", "ended")


def event_of(message: UserMessage, channel: str, event_type: EventType, **fields: Any) -> Event:
    """What became of an MT on this channel. By what it bears of a router, the event finds to its destination."""
    return Event(
        routing_metadata=message.routing_metadata if "destination" in message.routing_metadata else {},
        event_type=event_type, user_message_id=message.message_id, transport_name=channel,
        event_url=message.event_url, event_auth_token=message.event_auth_token, message_timestamp=message.timestamp,
        trace=message.trace, **fields,
    )  # fmt: skip


_ID = re.compile(rb'"(?:user_)?message_id" ?: ?"([^"\\\x00-\x1f]{1,200})"')


def id_in(body: bytes) -> str | None:
    """The id of the message that this is, or that it is about, by its text alone: what cannot be read, or kills who reads it."""
    found = _ID.search(body)
    return found[1].decode("utf-8", "replace") if found else None


def rejected(message: UserMessage, channel: str, reason: str) -> Event:
    """The event of an MT that will not be sent."""
    return event_of(message, channel, "nack", nack_reason=reason)


def cancelled(message: UserMessage, channel: str) -> Event:
    """The event of an MT that somebody has cancelled."""
    return event_of(message, channel, "nack", nack_reason=CANCELLED, ended=CANCELLED)


def expired(message: UserMessage, channel: str) -> Event:
    """The event of an MT whose time was over before it was sent."""
    details = {"reason": EXPIRED}
    return event_of(message, channel, "delivery_report", delivery_status="failed", transport_metadata=details, ended=EXPIRED)


class Status(_Wire, frozen=True, kw_only=True, tag="status_event"):
    """How one component of a channel does (spec 1.7.3). `type` is for programs, `message` for people."""

    channel_id: str
    component: str
    status: StatusLevel
    type: str
    message: str
    details: dict[str, Any] = _EMPTY
    timestamp: str = field(default_factory=timestamp_now)
    fence: int = 0
    """Of the lease of the process that says so: what a later one says goes first, whatever the clocks say. 0: it has none."""
    shard: int = 0
    """Of its channel, which that process is; its components are named so (`of_shard`)."""

    @classmethod
    @reader
    def from_wire(cls, body: bytes) -> Self:
        """Raises MalformedMessage, naming the field."""
        wire = load(body, "status_event")
        status = wire.get("status")
        if status not in STATUS_LEVELS:
            raise MalformedMessage(f"status: expected one of {', '.join(STATUS_LEVELS)}, got {shown(status)}")
        texts: dict[str, Any] = {name: text_of(wire, name, required=True) for name in _STATUS_TEXTS}
        timestamp = text_of(wire, "timestamp") or timestamp_now()
        fence, shard = wire.get("fence", 0), wire.get("shard", 0)
        return cls(
            **texts, status=status, details=dict_of(wire, "details"), timestamp=timestamp,
            fence=fence if type(fence) is int and 0 <= fence < 1 << 53 else 0,
            shard=shard if type(shard) is int and 0 <= shard < names.MOST_SHARDS else 0,
        )  # fmt: skip

    @property
    def age(self) -> tuple[int, str]:
        """Of two of one component the greater is the newer."""
        return self.fence, self.timestamp


def of_shard(component: str, shard: int) -> str:
    """A component's name among those of all shards of its channel: `smpp`, `smpp/1`, `smpp/2` ..."""
    return f"{component}/{shard}" if shard else component


_STATUS_TEXTS = ("channel_id", "component", "type", "message")

Content = UserMessage | Event | Status
"""What applications are told."""


def worst_status(statuses: list[str]) -> str | None:
    """The worst of the components' levels (down < degraded < ok); None while there is none."""
    known = [STATUS_LEVELS.index(status) for status in statuses if status in STATUS_LEVELS]
    return STATUS_LEVELS[max(known)] if known else None
