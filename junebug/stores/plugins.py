"""How the plugins do: written by the reconciler's process, shown in the API's `/health`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from junebug import names
from junebug.stores.client import RedisClient

REPORT_TTL = 90
"""Seconds: about three of the supervisor's intervals."""


class PluginStore:
    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis

    async def put(self, plugins: Sequence[dict[str, Any]]) -> None:
        """One for each plugin: `type`, `status`, and `problems` of one that fails."""
        await self._redis.run(("SET", names.PLUGINS, orjson.dumps(plugins).decode(), "EX", REPORT_TTL))

    async def get(self) -> list[dict[str, Any]]:
        """As they were put; empty where there are none, or no supervisor runs."""
        (stored,) = await self._redis.run(("GET", names.PLUGINS))
        try:
            return list(orjson.loads(stored or "[]"))
        except (orjson.JSONDecodeError, TypeError):
            return []
