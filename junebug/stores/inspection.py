"""What a Redis is like, asked once: its version, where it keeps its data, how fast and how punctual it is. Judged elsewhere."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from junebug import names
from junebug.config.addresses import Address
from junebug.config.declaration import RedisSettings
from junebug.errors import StoreUnavailable
from junebug.stores.client import RedisClient, is_failure, read_info
from junebug.stores.link import ask_sentinel

TRIPS = 20
_OPTIONS = (
    "save", "appendonly", "stop-writes-on-bgsave-error", "maxmemory", "maxmemory-policy", "maxclients", "min-replicas-to-write",
)  # fmt: skip


@dataclass(frozen=True)
class RedisFacts:
    """`info`: what INFO says; `options`: of CONFIG, none where we may not ask. Times are in seconds."""

    info: Mapping[str, str]
    options: Mapping[str, str]
    trips: tuple[float, ...]
    """How long it took to answer, the shortest first."""
    ahead: float
    """How far its clock is ahead of ours; off by half of the shortest trip at the most."""
    refuses_writes: str = ""
    """Why."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """channels, routers, tokens."""


async def ask_sentinels(settings: RedisSettings) -> dict[Address, Address | str]:
    """Of each where the master is, or why it did not say it."""

    async def ask(sentinel: Address) -> Address | str:
        try:
            return await ask_sentinel(settings, sentinel)
        except Exception as error:
            if not is_failure(error):
                raise
            return str(error).replace(settings.sentinel_password or "\0", "********")

    sentinels = settings.sentinel_addresses
    return dict(zip(sentinels, await asyncio.gather(*map(ask, sentinels)), strict=True))


async def inspect(redis: RedisClient) -> RedisFacts:
    """Writes the key that `/health` does, and nothing else. Raises StoreUnavailable."""
    (info,) = await redis.run(("INFO",))
    options: dict[str, str] = {}
    try:
        for option in _OPTIONS:
            (found,) = await redis.run(("CONFIG", "GET", option))
            options |= found if isinstance(found, dict) else dict(zip(found[::2], found[1::2], strict=True))
    except Exception as error:  # a provider's Redis may have no CONFIG for us
        if not isinstance(error, StoreUnavailable) and not is_failure(error):
            raise
    trips = []
    for _ in range(TRIPS):  # with TIME, which a Redis that takes no writes answers, too: it refuses PING
        sent, began = time.time(), time.perf_counter()
        ((seconds, microseconds),) = await redis.run(("TIME",))
        took = time.perf_counter() - began
        trips.append((took, int(seconds) + int(microseconds) / 1e6 - sent - took / 2))
    trips.sort()
    refuses = ""
    try:
        await redis.run(("SET", names.HEALTH, "1", "EX", "60"))
    except StoreUnavailable as error:
        refuses = str(error)
    channels, routers, tokens = await redis.run(
        ("SCARD", names.CHANNELS), ("SCARD", names.ROUTERS), ("HLEN", names.API_TOKENS)
    )
    counts = {"channels": channels, "routers": routers, "tokens": tokens}
    return RedisFacts(read_info(info), options, tuple(took for took, _ in trips), trips[0][1], refuses, counts)
