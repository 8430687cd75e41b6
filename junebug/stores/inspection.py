"""What a Redis is like, asked once: its version, where it keeps its data, how fast and how punctual it is. Judged elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from junebug import names
from junebug.errors import StoreUnavailable
from junebug.stores.client import RedisClient, is_failure

PINGS = 20
_OPTIONS = ("save", "appendonly", "stop-writes-on-bgsave-error", "maxmemory", "maxmemory-policy", "maxclients")


@dataclass(frozen=True)
class RedisFacts:
    """`info`: what INFO says; `options`: of CONFIG, none where we may not ask. Times are in seconds."""

    info: Mapping[str, str]
    options: Mapping[str, str]
    pings: tuple[float, ...]
    ahead: float
    """How far its clock is ahead of ours; off by half of the shortest ping at the most."""
    refuses_writes: str = ""
    """Why."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """channels, routers, tokens."""


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
    pings = []
    for _ in range(PINGS):
        began = time.perf_counter()
        await redis.run(("PING",))
        pings.append(time.perf_counter() - began)
    before = time.time()
    ((seconds, microseconds),) = await redis.run(("TIME",))
    ahead = int(seconds) + int(microseconds) / 1e6 - (before + time.time()) / 2
    refuses = ""
    try:
        await redis.run(("SET", names.HEALTH, "1", "EX", "60"))
    except StoreUnavailable as error:
        refuses = str(error)
    channels, routers, tokens = await redis.run(
        ("SCARD", names.CHANNELS), ("SCARD", names.ROUTERS), ("HLEN", names.API_TOKENS)
    )
    counts = {"channels": channels, "routers": routers, "tokens": tokens}
    return RedisFacts(_info(str(info)), options, tuple(sorted(pings)), ahead, refuses, counts)


def _info(text: str) -> dict[str, str]:
    lines = (line.strip().partition(":") for line in text.splitlines())
    return {name: value for name, colon, value in lines if colon}
