"""Where the events of each MT go and which there were, for outbound_message_ttl seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from junebug import names
from junebug.errors import MalformedMessage
from junebug.model import acceptance
from junebug.model.acceptance import Acceptance, Cancellation, Origin
from junebug.model.messages import Event, UserMessage
from junebug.stores.client import Command, RedisClient

ACCEPTED, CANCELLED = "accepted", "cancelled"
"""Fields: who gave us it, and who cancelled it (stores/cancellations.py)."""


class EventTarget(msgspec.Struct, frozen=True):
    """Where the events of one MT go."""

    url: str | None
    auth_token: str | None
    destination: str | None = None
    """Of a router, through which it was sent."""
    trace: str | None = None
    """That its request was part of (model/trace.py)."""


@dataclass(frozen=True, slots=True)
class OutboundRecord:
    """All that is kept of an MT."""

    accepted: Acceptance | None
    """None: an older Junebug kept it, or it came over RabbitMQ."""
    target: EventTarget
    events: tuple[Event, ...]
    """Oldest first."""
    cancelled: Cancellation | None = None
    """By whom, as a single message."""


class OutboundStore:
    def __init__(self, redis: RedisClient, ttl: int) -> None:
        self._redis = redis
        self._ttl = ttl

    async def put(self, channel: str, message: UserMessage, origin: Origin | None = None) -> None:
        """To be called before the message is published: an event may come at once. `origin`: who sends, where that is kept."""
        key = names.outbound_message(channel, message.message_id)
        fields = fields_of(message, acceptance.accepted(message, channel, origin) if origin else b"")
        await self._redis.make(channel, self._ttl, (key,), ("HSET", key, *fields), ("EXPIRE", key, self._ttl))

    async def put_routed(self, channel: str, messages: Sequence[UserMessage], origin: Origin | None = None) -> None:
        """The same of what is sent through one router, as its routing_metadata says; and that this channel has it, also where
        another one had it before (then without an `origin`: the router keeps the first one's).
        """
        router, keys = messages[0].routing_metadata["router"], list[str]()
        commands: list[Command] = []
        for each in messages:
            key, note = (names.outbound_message(owner, each.message_id) for owner in (channel, router))
            accepted = acceptance.accepted(each, channel, origin) if origin else b""
            commands += (("HSET", key, *fields_of(each, accepted)), ("EXPIRE", key, self._ttl))
            commands += (("HSET", note, *note_of(channel, each, accepted)), ("EXPIRE", note, self._ttl))
            keys += (key, note)
        await self._redis.make(channel, self._ttl, keys, *commands, also=router)

    async def taker(self, router: str, message_id: str) -> tuple[str | None, str]:
        """The channel that has a message which was sent through this router, and the destination it came from ("": none). No
        channel: the message is unknown.
        """
        (found,) = await self._redis.run(("HMGET", names.outbound_message(router, message_id), "channel", "destination"))
        return found[0], found[1] or ""

    async def accepted_by(self, router: str, message_id: str) -> Acceptance | None:
        """As the router has kept it."""
        (kept,) = await self._redis.run(("HGET", names.outbound_message(router, message_id), ACCEPTED))
        return acceptance.read(kept)

    async def put_many(self, channel: str, messages: Sequence[UserMessage], origin: Origin) -> None:
        """The same for several, in one command with one reply."""
        keys = [names.outbound_message(channel, message.message_id) for message in messages]
        given: list[str | bytes] = []
        for each in messages:
            accepted = acceptance.accepted(each, channel, origin)
            given += (each.message_id, each.event_url or "", each.event_auth_token or "", accepted)
        traces = [("HSET", key, "trace", each.trace) for key, each in zip(keys, messages, strict=True) if each.trace]
        await self._redis.make(channel, self._ttl, keys, ("EVAL", _PUT_MANY, len(keys), *keys, self._ttl, *given), *traces)

    async def add_events(self, channel: str, events: Sequence[tuple[bytes, Event]]) -> list[EventTarget]:
        """Keep events, as they stand on the wire (a repeat of one changes nothing); where each goes.

        One that names no message is kept nowhere.
        """
        named = [
            (names.outbound_message(channel, event.user_message_id), f"event:{event.event_id}", wire)
            for wire, event in events
            if event.user_message_id
        ]
        commands: list[Command] = []
        for key, name, wire in named:
            commands += (
                ("HSET", key, name, wire),
                ("EXPIRE", key, self._ttl, "NX"),
                ("HMGET", key, "event_url", "event_auth_token", "destination", "trace"),
            )
        found = await self._redis.run(*commands) if commands else []
        if new := [key for (key, _, _), is_new in zip(named, found[1::3], strict=True) if is_new]:
            await self._redis.make(channel, self._ttl, new)  # they came over RabbitMQ, or are long forgotten
        kept = (EventTarget(*target) for target in found[2::3])
        return [next(kept) if event.user_message_id else EventTarget(None, None) for _, event in events]

    async def may_wait(self, channel: str, message_id: str) -> bool:
        """Whether the message is known, and nothing has become of it yet."""
        (fields,) = await self._redis.run(("HKEYS", names.outbound_message(channel, message_id)))
        return bool(fields) and not any(field.startswith("event:") for field in fields)

    async def record(self, channel: str, message_id: str) -> OutboundRecord | None:
        """None: the message is unknown."""
        return (await self.records(((channel, message_id),)))[0]

    async def records(self, ids: Sequence[tuple[str, str]]) -> list[OutboundRecord | None]:
        """Of each (channel, message id)."""
        if not ids:
            return []
        found = await self._redis.run(*(("HGETALL", names.outbound_message(*each)) for each in ids))
        return [_record(fields) if fields else None for fields in found]

    async def events(self, channel: str, message_id: str) -> list[Event]:
        """The message's events, oldest first; empty when the message is unknown."""
        record = await self.record(channel, message_id)
        return list(record.events) if record else []


def _record(fields: dict[str, str]) -> OutboundRecord:
    events = []
    for name, wire in fields.items():
        if name.startswith("event:"):
            try:
                events.append(Event.from_wire(wire.encode()))
            except MalformedMessage:
                continue
    target = EventTarget(fields.get("event_url"), fields.get("event_auth_token"), fields.get("destination"))
    events.sort(key=lambda event: event.timestamp)
    accepted, cancelled = acceptance.read(fields.get(ACCEPTED)), acceptance.read_cancellation(fields.get(CANCELLED))
    return OutboundRecord(accepted, target, tuple(events), cancelled)


def fields_of(message: UserMessage, accepted: bytes) -> list[str | bytes]:
    """What is kept of an MT before it is sent: names and values."""
    fields: list[str | bytes] = ["message_id", message.message_id]
    if accepted:
        fields += (ACCEPTED, accepted)
    if message.event_url:
        fields += ("event_url", message.event_url)
    if message.event_auth_token:
        fields += ("event_auth_token", message.event_auth_token)
    if destination := message.routing_metadata.get("destination"):
        fields += ("destination", destination)
    if message.trace:
        fields += ("trace", message.trace)
    return fields


def note_of(channel: str, message: UserMessage, accepted: bytes) -> list[str | bytes]:
    """What the router of an MT keeps of it: names and values."""
    fields: list[str | bytes] = ["channel", channel, "destination", message.routing_metadata.get("destination") or ""]
    return [*fields, ACCEPTED, accepted] if accepted else fields


_PUT_MANY = """
for n, key in ipairs(KEYS) do
  local id, url, token, accepted = unpack(ARGV, 4 * n - 2, 4 * n + 1)
  redis.call('HSET', key, 'message_id', id, 'accepted', accepted)
  if url ~= '' then redis.call('HSET', key, 'event_url', url) end
  if token ~= '' then redis.call('HSET', key, 'event_auth_token', token) end
  redis.call('EXPIRE', key, ARGV[1])
end
return 1
"""
