"""Where the events of each MT go and which there were, for outbound_message_ttl seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from junebug import names
from junebug.model.messages import Event, UserMessage
from junebug.stores.client import Command, RedisClient


@dataclass(frozen=True, slots=True)
class EventTarget:
    """Where the events of one MT go."""

    url: str | None
    auth_token: str | None
    destination: str | None = None
    """Of a router, through which it was sent."""
    trace: str | None = None
    """That its request was part of (model/trace.py)."""


class OutboundStore:
    def __init__(self, redis: RedisClient, ttl: int) -> None:
        self._redis = redis
        self._ttl = ttl

    async def put(
        self, channel: str, message_id: str, event_url: str | None = None, event_auth_token: str | None = None,
        trace: str | None = None,
    ) -> None:  # fmt: skip
        """To be called before the message is published: an event may come at once."""
        key = names.outbound_message(channel, message_id)
        fields = outbound_fields(message_id, event_url, event_auth_token, trace=trace)
        await self._redis.make(channel, self._ttl, (key,), ("HSET", key, *fields), ("EXPIRE", key, self._ttl))

    async def put_routed(self, channel: str, messages: Sequence[UserMessage]) -> None:
        """The same of what is sent through one router, as its routing_metadata says; and that this channel has it, also where
        another one had it before.
        """
        router, keys = messages[0].routing_metadata["router"], list[str]()
        commands: list[Command] = []
        for each in messages:
            key, note = (names.outbound_message(owner, each.message_id) for owner in (channel, router))
            commands += (("HSET", key, *fields_of(each)), ("EXPIRE", key, self._ttl))
            commands += (("HSET", note, *note_of(channel, each)), ("EXPIRE", note, self._ttl))
            keys += (key, note)
        await self._redis.make(channel, self._ttl, keys, *commands, also=router)

    async def taker(self, router: str, message_id: str) -> tuple[str | None, str]:
        """The channel that has a message which was sent through this router, and the destination it came from ("": none). No
        channel: the message is unknown.
        """
        (found,) = await self._redis.run(("HMGET", names.outbound_message(router, message_id), "channel", "destination"))
        return found[0], found[1] or ""

    async def put_many(self, channel: str, messages: Sequence[UserMessage]) -> None:
        """The same for several, in one command with one reply."""
        keys = [names.outbound_message(channel, message.message_id) for message in messages]
        given = [part for each in messages for part in (each.message_id, each.event_url or "", each.event_auth_token or "")]
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

    async def events(self, channel: str, message_id: str) -> list[Event]:
        """The message's events, oldest first; empty when the message is unknown."""
        (found,) = await self._redis.run(("HGETALL", names.outbound_message(channel, message_id)))
        events = [Event.from_wire(wire.encode()) for name, wire in found.items() if name.startswith("event:")]
        return sorted(events, key=lambda event: event.timestamp)


def outbound_fields(
    message_id: str, event_url: str | None, event_auth_token: str | None, destination: str | None = None,
    trace: str | None = None,
) -> list[str]:  # fmt: skip
    """What is kept of an MT before it is sent: names and values."""
    fields = ["message_id", message_id]
    if event_url:
        fields += ("event_url", event_url)
    if event_auth_token:
        fields += ("event_auth_token", event_auth_token)
    if destination:
        fields += ("destination", destination)
    if trace:
        fields += ("trace", trace)
    return fields


def fields_of(message: UserMessage) -> list[str]:
    """The same."""
    destination = message.routing_metadata.get("destination")
    return outbound_fields(message.message_id, message.event_url, message.event_auth_token, destination, message.trace)


def note_of(channel: str, message: UserMessage) -> list[str]:
    """What the router of an MT keeps of it: names and values."""
    return ["channel", channel, "destination", message.routing_metadata.get("destination") or ""]


_PUT_MANY = """
for n, key in ipairs(KEYS) do
  local id, url, token = ARGV[3 * n - 1], ARGV[3 * n], ARGV[3 * n + 1]
  redis.call('HSET', key, 'message_id', id)
  if url ~= '' then redis.call('HSET', key, 'event_url', url) end
  if token ~= '' then redis.call('HSET', key, 'event_auth_token', token) end
  redis.call('EXPIRE', key, ARGV[1])
end
return 1
"""
