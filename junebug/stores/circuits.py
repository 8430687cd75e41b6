"""Which hosts fail, and who probes each for all: the workers of every host of ours that share this Redis."""

from __future__ import annotations

from dataclasses import dataclass

from junebug import names
from junebug.stores.client import RedisClient, milliseconds

KEPT_CLOSED = 60.0
"""Seconds for which it is told that a host works again: more than anybody lets pass between two looks."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Somebody else probes. Seconds, by the clock of Redis."""

    age: float
    """Since the host failed first."""
    due_in: float
    """Until the next probe; negative: under way."""
    pause: float
    """Between the last probe and the next one."""
    reason: str
    """How the last one failed."""


class CircuitStore:
    """By destination (`scheme://host:port`). Each of these raises StoreUnavailable."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis

    async def take(self, destination: str, prober: str, lease: float) -> Watch | None:
        """None: `prober` is to probe now, and has `lease` seconds to say how that went. Or nobody need wait: it works again."""
        (found,) = await self._redis.run(("EVAL", _TAKE, 1, names.circuit(destination), prober, milliseconds(lease)))
        if not found:
            return None
        age, due_in, pause = (int(each) / 1000 for each in found[:3])
        return Watch(age, due_in, pause, found[3])

    async def look(self, destination: str) -> Watch | None:
        """None: it does not fail, as far as anybody knows."""
        (found,) = await self._redis.run(("EVAL", _LOOK, 1, names.circuit(destination)))
        if not found:
            return None
        age, due_in, pause = (int(each) / 1000 for each in found[:3])
        return Watch(age, due_in, pause, found[3])

    async def failed(self, destination: str, prober: str, pause: float, lease: float, reason: str) -> None:
        """The probe failed; the same prober's next one comes in `pause` seconds, or it loses its place `lease` later."""
        arguments = (prober, milliseconds(pause), milliseconds(pause + lease), reason)
        await self._redis.run(("EVAL", _FAILED, 1, names.circuit(destination), *arguments))

    async def works(self, destination: str) -> None:
        """It works again, for all who wait for it."""
        key = names.circuit(destination)
        await self._redis.run(("DEL", key), ("HSET", key, "prober", ""), ("PEXPIRE", key, milliseconds(KEPT_CLOSED)))

    async def leave(self, destination: str, prober: str) -> None:
        """This one probes no more: whoever looks next does."""
        await self._redis.run(("EVAL", _LEAVE, 1, names.circuit(destination), prober))


_NOW = "local time = redis.call('TIME') local now = time[1] * 1000 + math.floor(time[2] / 1000) "

_TAKE = f"""{_NOW}
local prober, since, due, pause, reason = unpack(redis.call('HMGET', KEYS[1], 'prober', 'since', 'due', 'pause', 'reason'))
if prober == '' then return nil end
if prober and prober ~= ARGV[1] then
  return {{tostring(now - since), tostring(due - now), pause, reason}}
end
redis.call('HSET', KEYS[1], 'prober', ARGV[1], 'since', since or now, 'due', now, 'pause', pause or 0, 'reason', reason or '')
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return nil
"""

_LOOK = f"""{_NOW}
local prober, since, due, pause, reason = unpack(redis.call('HMGET', KEYS[1], 'prober', 'since', 'due', 'pause', 'reason'))
if not prober or prober == '' then return nil end
return {{tostring(now - since), tostring(due - now), pause, reason}}
"""

_FAILED = f"""{_NOW}
local prober, since = unpack(redis.call('HMGET', KEYS[1], 'prober', 'since'))
if prober and prober ~= '' and prober ~= ARGV[1] then return end
redis.call('HSET', KEYS[1], 'prober', ARGV[1], 'since', since or now, 'due', now + ARGV[2], 'pause', ARGV[2], 'reason', ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
"""

_LEAVE = """
if redis.call('HGET', KEYS[1], 'prober') == ARGV[1] then redis.call('DEL', KEYS[1]) end
"""
