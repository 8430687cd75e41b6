"""What a channel's transport keeps beyond its own life."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
from collections.abc import AsyncIterator, Callable, Mapping

from junebug import names
from junebug.errors import StoreUnavailable
from junebug.model.messages import new_id
from junebug.stores.client import RedisClient, milliseconds

ALONE_TTL, ALONE_PAUSE = 5.0, (0.005, 0.03)
"""Seconds; the second: between two attempts, at random."""


class TransportStore:
    """What one channel's transport keeps, by names of its own. Values are text; every key has a TTL, in seconds."""

    def __init__(self, redis: RedisClient, channel: str) -> None:
        self._redis = redis
        self._channel = channel
        self._key: Callable[[str], str] = functools.partial(names.transport_key, channel)

    def shared(self, word: str) -> TransportStore:
        """One that every channel sees whose transport asks for the same word."""
        store = TransportStore(self._redis, "")
        store._key = functools.partial(names.shared_transport_key, word)
        return store

    async def get(self, *keys: str) -> list[str | None]:
        """The values of these, None where there is none."""
        values: list[str | None]
        (values,) = await self._redis.run(("MGET", *map(self._key, keys)))
        return values

    async def put(self, key: str, value: str, ttl: float, *, only_if_absent: bool = False) -> bool:
        """Keep it; False when it was there already and `only_if_absent`."""
        condition = ("NX",) if only_if_absent else ()
        name = self._key(key)
        command = ("SET", name, value, "PX", milliseconds(ttl), *condition)
        (kept,) = await self._redis.make(self._channel, ttl, (name,), command)
        return kept is not None

    async def take(self, key: str) -> str | None:
        """The value, which is there no more."""
        value: str | None
        (value,) = await self._redis.run(("GETDEL", self._key(key)))
        return value

    async def fields(self, *keys: str) -> list[dict[str, str]]:
        """All fields of each of these hashes; empty where there is none."""
        return await self._redis.run(*(("HGETALL", self._key(key)) for key in keys))

    async def put_fields(self, key: str, fields: Mapping[str, str], ttl: float, *reading: str) -> list[dict[str, str]]:
        """Add or replace these fields of a hash, which from now on lives for `ttl`. All fields of those to be read then."""
        name = self._key(key)
        commands = [("HSET", name, *(part for item in fields.items() for part in item)), ("PEXPIRE", name, milliseconds(ttl))]
        commands += [("HGETALL", self._key(each)) for each in reading]
        found: list[dict[str, str]] = await self._redis.make(self._channel, ttl, (name,), *commands)
        return found[2:]

    async def remove_fields(self, key: str, *fields: str) -> None:
        await self._redis.run(("HDEL", self._key(key), *fields))

    @contextlib.asynccontextmanager
    async def alone(self, key: str, ttl: float = ALONE_TTL) -> AsyncIterator[None]:
        """No other process that asks for the same is within; of one that died, or takes longer, for so many seconds."""
        name, mark = self._key(f"alone:{key}"), new_id()
        ends = asyncio.get_running_loop().time() + 2 * ttl  # a second one that dies is not waited for
        while True:
            (taken,) = await self._redis.run(("SET", name, mark, "PX", milliseconds(ttl), "NX"))
            if taken is not None or asyncio.get_running_loop().time() > ends:
                break
            await asyncio.sleep(random.uniform(*ALONE_PAUSE))
        try:
            yield
        finally:
            with contextlib.suppress(StoreUnavailable):
                await self._redis.run(("EVAL", _LET_GO, 1, name, mark))

    async def expire(self, key: str, ttl: float) -> None:
        """From now on it lives for `ttl`."""
        await self._redis.run(("PEXPIRE", self._key(key), milliseconds(ttl)))

    async def remove(self, *keys: str) -> None:
        await self._redis.run(("DEL", *map(self._key, keys)))


_LET_GO = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
"""
