"""MO messages that may still be replied to, for inbound_message_ttl seconds."""

from __future__ import annotations

from collections.abc import Iterable

from junebug import names
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
        """None when there is none of that id, or not any more."""
        (wire,) = await self._redis.run(("HGET", names.inbound_message(channel, message_id), "message"))
        return UserMessage.from_wire(wire.encode()) if wire else None
