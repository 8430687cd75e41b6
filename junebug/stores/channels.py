"""Channel specs, and which outbound queues they have."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from junebug import names
from junebug.errors import ChannelChanged, ChannelNotFound
from junebug.model.spec import ChannelSpec
from junebug.stores.specs import SpecStore, change_of, dumps, loads, spec_keys

PRIORITIES_TTL = 86_400
"""Seconds; a worker that finds the note gone says it again (worker/outbound/priorities.py)."""


class ChannelStore(SpecStore[ChannelSpec]):
    kind, missing, changed, index = "channel", ChannelNotFound, ChannelChanged, names.CHANNELS

    async def get(self, channel: str) -> ChannelSpec:
        """Raises ChannelNotFound."""
        stored, generation, priorities, router = await self._redis.run(
            ("GET", names.channel_properties(channel)),
            ("HGET", names.GENERATIONS, channel),
            ("SMEMBERS", names.channel_priorities(channel)),
            ("HGET", names.ROUTED_CHANNELS, channel),
        )
        if stored is None:
            raise self.not_found(channel)
        return channel_spec(channel, stored, generation, priorities, router)

    async def create(self, spec: ChannelSpec) -> None:
        await self._redis.run(
            ("SET", names.channel_properties(spec.id), dumps(spec.to_properties())),
            ("SADD", names.CHANNELS, spec.id),
            ("HSET", names.GENERATIONS, spec.id, 1),
            ("SADD", names.channel_priorities(spec.id), names.LOWEST_PRIORITY, *spec.noted_priorities),
            ("EXPIRE", names.channel_priorities(spec.id), PRIORITIES_TTL),
            ("SREM", names.DELETED_CHANNELS, spec.id),
            ("DEL", names.deleted_properties(spec.id)),
            *change_of(spec.id),
        )

    async def update(self, old: ChannelSpec, new: ChannelSpec, *, restart: bool) -> ChannelSpec:
        """Put `new` where `old` was read; with `restart` the channel is started afresh. Returns what is stored.

        Raises ChannelNotFound when it was deleted meanwhile, ChannelChanged when somebody else changed it, or whose it is.
        """
        properties = dumps(new.to_properties())
        arguments = (old.stored, properties, new.id, int(restart), old.router or "")
        keys = (*spec_keys(new.id), names.ROUTED_CHANNELS)
        generation = self._checked(new.id, await self._change(new.id, ("EVAL", _UPDATE, len(keys), *keys, *arguments)))
        return channel_spec(new.id, properties, generation, new.noted_priorities, new.router)

    async def note_priorities(self, channel: str, priorities: Iterable[int]) -> None:
        """That there are, or are about to be, outbound queues of these priorities (or layouts, by their numbers); the channel's
        worker is told.

        Raises ChannelNotFound.
        """
        keys = names.channel_properties(channel), names.channel_priorities(channel)
        (is_there,) = await self._redis.run(("EVAL", _NOTE_PRIORITIES, 2, *keys, PRIORITIES_TTL, *priorities))
        if not is_there:
            raise self.not_found(channel)
        await self.notify_changed(channel)

    async def forget_layout(self, channel: str, number: int) -> None:
        """It has no queues any more."""
        await self._redis.run(("SREM", names.channel_priorities(channel), number))
        await self.notify_changed(channel)

    async def existing(self, channels: Iterable[str]) -> list[str]:
        """Those of these that are channels."""
        asked = list(channels)
        found = await self._redis.run(*(("SISMEMBER", names.CHANNELS, channel) for channel in asked)) if asked else []
        return [channel for channel, is_there in zip(asked, found, strict=True) if is_there]


def channel_spec(
    channel: str, stored: str, generation: Any, priorities: Iterable[Any] = (), router: str | None = None
) -> ChannelSpec:
    return ChannelSpec.from_properties(
        channel, loads(stored), int(generation or 0), stored, frozenset(map(int, priorities)), router
    )


_UPDATE = """
local stored = redis.call('GET', KEYS[1])
if not stored then return -1 end
if stored ~= ARGV[1] or (redis.call('HGET', KEYS[3], ARGV[3]) or '') ~= ARGV[5] then return -2 end
redis.call('SET', KEYS[1], ARGV[2])
return redis.call('HINCRBY', KEYS[2], ARGV[3], ARGV[4])
"""

_NOTE_PRIORITIES = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('SADD', KEYS[2], unpack(ARGV, 2))
redis.call('EXPIRE', KEYS[2], ARGV[1])
return 1
"""
