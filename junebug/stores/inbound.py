"""MO messages that may still be replied to, for inbound_message_ttl seconds."""

from __future__ import annotations

from junebug import names
from junebug.model.messages import UserMessage
from junebug.stores.client import RedisClient


class InboundStore:
    def __init__(self, redis: RedisClient, ttl: int) -> None:
        self._redis = redis
        self._ttl = ttl

    async def put(self, channel: str, message: UserMessage, wire: bytes) -> None:
        key = names.inbound_message(channel, message.message_id)
        await self._redis.make(channel, self._ttl, (key,), ("HSET", key, "message", wire), ("EXPIRE", key, self._ttl))

    async def get(self, channel: str, message_id: str) -> UserMessage | None:
        """None when there is none of that id, or not any more."""
        (wire,) = await self._redis.run(("HGET", names.inbound_message(channel, message_id), "message"))
        return UserMessage.from_wire(wire.encode()) if wire else None
