"""The last status of each component of each channel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from junebug import names
from junebug.model.messages import Status, normalise_timestamp
from junebug.model.presenter import status_body
from junebug.stores.client import RedisClient

ORPHAN_TTL = 3600
"""Seconds that a status lives whose channel has no spec (deleted, or Redis was emptied)."""


class StatusStore:
    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis

    async def put(self, status: Status) -> bool:
        """Keep it, unless a newer one of the same component is there, or one of a later lease of the channel (or shard), or the
        channel has no such shard any more: then False.

        A status whose channel has no spec lives for an hour only.
        """
        (kept,) = await self._redis.run(
            (
                "EVAL", _PUT_STATUS, 2, names.channel_status(status.channel_id),
                names.channel_properties(status.channel_id), status.component, orjson.dumps(status_body(status)),
                normalise_timestamp(status.timestamp), ORPHAN_TTL, status.fence, status.shard, _fence_field(status.shard),
            )
        )
        return bool(kept)

    async def forget_shards(self, channel: str, shards: int) -> None:
        """It has only so many: what others said goes."""
        await self._redis.run(("EVAL", _FORGET_SHARDS, 1, names.channel_status(channel), shards, names.MOST_SHARDS))

    async def components(self, channel: str) -> dict[str, dict[str, Any]]:
        """Component -> body of its last status (spec 1.7.3)."""
        (found,) = await self._redis.run(("HGETALL", names.channel_status(channel)))
        return read(found)

    async def with_times(self, channel: str) -> dict[str, tuple[dict[str, Any], str]]:
        """The same, each with the timestamp of that status: since when it is so."""
        (found,) = await self._redis.run(("HGETALL", names.channel_status(channel)))
        return {name: (body, found.get(f"{name}@", "")) for name, body in read(found).items()}


def trouble(components: Mapping[str, Mapping[str, Any]], component: str) -> dict[str, Any]:
    """The details of its last status; nothing where that was `ok`, or there is none."""
    body = components.get(component)
    return dict(body["details"]) if body and body["status"] != "ok" else {}


def _fence_field(shard: int) -> str:
    return f"/{shard}@" if shard else "@"


def read(found: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The components of a channel's hash, which others may fetch with theirs."""
    return {name: orjson.loads(body) for name, body in sorted(found.items()) if not name.endswith("@")}


_PUT_STATUS = """
local fence, known = tonumber(ARGV[5]), tonumber(redis.call('HGET', KEYS[1], ARGV[7]) or 0)
if fence > 0 and fence < known then return 0 end
if ARGV[6] ~= '0' then
  local is_read, spec = pcall(cjson.decode, redis.call('GET', KEYS[2]) or '')
  if is_read and type(spec) == 'table' then
    local shards = type(spec.config) == 'table' and spec.config.shards
    if (type(shards) == 'number' and shards or 1) <= tonumber(ARGV[6]) then return 0 end
  end
  redis.call('HSETNX', KEYS[1], ARGV[7], 0)
end
if fence > known then redis.call('HSET', KEYS[1], ARGV[7], ARGV[5])
else
  local newest = redis.call('HGET', KEYS[1], ARGV[1] .. '@')
  if newest and newest > ARGV[3] then return 0 end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2], ARGV[1] .. '@', ARGV[3])
if redis.call('EXISTS', KEYS[2]) == 1 then redis.call('PERSIST', KEYS[1])
else redis.call('EXPIRE', KEYS[1], ARGV[4]) end
return 1
"""

_FORGET_SHARDS = """
for shard = ARGV[1], ARGV[2] - 1 do
  if redis.call('HDEL', KEYS[1], '/' .. shard .. '@') == 1 then
    for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
      if string.match(field, '/(%d+)@?$') == tostring(shard) then redis.call('HDEL', KEYS[1], field) end
    end
  end
end
"""
"""A shard that has said anything has a fence there."""
