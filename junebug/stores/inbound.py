"""MO messages that may still be replied to, for inbound_message_ttl seconds."""

from __future__ import annotations

import time
from collections.abc import Iterable

from junebug import names
from junebug.errors import MalformedMessage
from junebug.model.messages import UserMessage
from junebug.stores.client import Command, RedisClient


class InboundStore:
    def __init__(self, redis: RedisClient, ttl: int) -> None:
        self._redis = redis
        self._ttl = ttl

    async def put_all(self, channel: str, messages: Iterable[tuple[str, bytes]]) -> None:
        """Each: its id, and as it stands on the wire."""
        wires = {names.inbound_message(channel, message_id): wire for message_id, wire in messages}
        commands: list[Command] = []
        for key, wire in wires.items():
            commands += (("HSET", key, "message", wire), ("EXPIRE", key, self._ttl))
        if commands:
            await self._redis.make(channel, self._ttl, wires, *commands)

    async def get(self, channel: str, message_id: str) -> UserMessage | None:
        """None when there is none of that id, or not any more, or nobody can read it."""
        (wire,) = await self._redis.run(("HGET", names.inbound_message(channel, message_id), "message"))
        return _message(wire)

    async def with_time(self, channel: str, message_id: str) -> tuple[UserMessage, float, float] | None:
        """The same, with when it was stored, and until when it is: seconds since 1970."""
        key = names.inbound_message(channel, message_id)
        wire, left = await self._redis.run(("HGET", key, "message"), ("PTTL", key))
        ends = time.time() + max(left, 0) / 1000
        message = _message(wire)
        return (message, ends - self._ttl, ends) if message else None


def _message(wire: str | None) -> UserMessage | None:
    try:
        return UserMessage.from_wire(wire.encode()) if wire else None
    except MalformedMessage:
        return None
