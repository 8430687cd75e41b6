"""How many messages and events there were, per metric window."""

from __future__ import annotations

import time
from collections.abc import Mapping

from junebug import names
from junebug.stores.client import Command, RedisClient

RATES = ("inbound_message", "outbound_message", "submitted", "rejected", "delivery_succeeded", "delivery_failed",
         "delivery_pending", "dropped_message")  # fmt: skip
KEPT_WINDOWS = 3
"""A window's counts live for so many windows, and a second."""


class RateStore:
    """Counts per metric window; a rate is the count of the last whole window divided by its length in seconds."""

    def __init__(self, redis: RedisClient, window: float) -> None:
        self._redis = redis
        self._window = window

    async def add(self, channel: str, counts: Mapping[str, int], now: float | None = None) -> None:
        """`counts`: one of RATES -> how many more in the present window."""
        if counts:
            key = names.rate_bucket(channel, self._bucket(now))
            await self._redis.run(
                *(("HINCRBY", key, label, count) for label, count in counts.items()),
                ("EXPIRE", key, int(self._window * KEPT_WINDOWS) + 1),
            )

    async def add_many(self, counted: Mapping[str, Mapping[str, int]], now: float) -> None:
        """The same of several, by their ids, in one round trip."""
        bucket = self._bucket(now)
        commands: list[Command] = []
        for id, counts in counted.items():
            key = names.rate_bucket(id, bucket)
            commands += (("HINCRBY", key, label, count) for label, count in counts.items())
            commands.append(("EXPIRE", key, int(self._window * KEPT_WINDOWS) + 1))
        if commands:
            await self._redis.run(*commands)

    async def rates(self, channel: str, now: float | None = None) -> dict[str, float]:
        """Each of RATES -> per second."""
        (found,) = await self._redis.run(("HGETALL", names.rate_bucket(channel, self._bucket(now) - 1)))
        return {label: int(found.get(label, 0)) / self._window for label in RATES}

    def _bucket(self, now: float | None) -> int:
        return int((time.time() if now is None else now) // self._window)
