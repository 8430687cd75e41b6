"""Messages that are cancelled and have not come to be sent yet: their ids, which the sender looks at."""

from __future__ import annotations

import time

from junebug import names
from junebug.model import acceptance
from junebug.model.acceptance import Origin
from junebug.stores.client import RedisClient
from junebug.stores.outbound import CANCELLED

LONGEST_WAIT = 30 * 24 * 3600
"""Seconds for which a cancellation is kept: as long as a message may wait, on a channel that is paused for weeks."""
AFTERWARDS = 3600
"""Seconds for which it is kept when the message has come: a crash may bring the message once more."""
MOST = 100_000
"""Of one channel, because its worker has them in memory."""


class CancellationStore:
    """By channel; each with a time until when it holds, in seconds since 1970."""

    def __init__(self, redis: RedisClient, outbound_ttl: int) -> None:
        self._redis = redis
        self._outbound_ttl = outbound_ttl

    async def note(self, channel: str, message_id: str, origin: Origin) -> bool:
        """False when it is cancelled already. `origin`: by whom; kept with what is kept of the message."""
        key, record, now = names.cancelled_messages(channel), names.outbound_message(channel, message_id), time.time()
        _, added, *_ = await self._redis.run(
            ("ZREMRANGEBYSCORE", key, "-inf", now),
            ("ZADD", key, "NX", now + LONGEST_WAIT, message_id),
            ("EXPIRE", key, LONGEST_WAIT),
            ("HSETNX", record, CANCELLED, acceptance.cancelled(origin)),
            ("EXPIRE", record, self._outbound_ttl, "NX"),
        )
        return bool(added)

    async def count(self, channel: str) -> int:
        (count,) = await self._redis.run(("ZCARD", names.cancelled_messages(channel)))
        return int(count)

    async def withdraw(self, channel: str, message_id: str) -> None:
        """It is not cancelled after all."""
        record = names.outbound_message(channel, message_id)
        await self._redis.run(("ZREM", names.cancelled_messages(channel), message_id), ("HDEL", record, CANCELLED))

    async def has(self, channel: str, message_id: str) -> bool:
        """Whether it is cancelled."""
        (until,) = await self._redis.run(("ZSCORE", names.cancelled_messages(channel), message_id))
        return until is not None and float(until) > time.time()

    async def ids(self, channel: str) -> set[str]:
        (found,) = await self._redis.run(
            ("ZRANGE", names.cancelled_messages(channel), time.time(), "+inf", "BYSCORE", "LIMIT", 0, MOST)
        )
        return set(found)

    async def done(self, channel: str, message_id: str) -> None:
        """It has come to be sent, and has its event."""
        await self._redis.run(("ZADD", names.cancelled_messages(channel), "XX", time.time() + AFTERWARDS, message_id))
