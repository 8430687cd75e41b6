"""Which retry queues and backlogs there are, so that a restarted worker finds them."""

from __future__ import annotations

from collections.abc import Iterable

from junebug import names
from junebug.stores.client import RedisClient, milliseconds


class DelayQueueStore:
    """Which queues of a channel hold callbacks that are to be tried again: a hint only, RabbitMQ itself knows best."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis

    async def note(self, channel: str, queue: str, destination: str, ttl: float) -> None:
        """`destination`: whom its callbacks wait for (no secrets), empty for a retry queue; `ttl`: in seconds."""
        key = names.delay_queues(channel)
        await self._redis.run(("HSET", key, queue, destination), ("PEXPIRE", key, milliseconds(ttl)))

    async def noted(self, channel: str) -> dict[str, str]:
        """Queue -> destination."""
        found: dict[str, str]
        (found,) = await self._redis.run(("HGETALL", names.delay_queues(channel)))
        return found

    async def forget(self, channel: str, queues: Iterable[str]) -> None:
        await self._redis.run(("HDEL", names.delay_queues(channel), *queues))
