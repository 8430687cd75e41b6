"""Channel specs, their generations, and what is left to clean up."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from junebug import names
from junebug.errors import ChannelChanged, ChannelNotFound
from junebug.model.spec import ChannelSpec
from junebug.runtime.backoff import Backoff
from junebug.stores import rates
from junebug.stores.client import Command, RedisClient, is_failure

SUBSCRIBE_PAUSES = (0.5, 5.0)
"""Seconds before a lost subscription is tried for again: the first and the longest."""
NOTE_OF_LOGS_TTL = 30 * 86_400
"""Seconds for which no supervisor may run before log files of deleted channels are left behind."""
FORGET_CHUNK = 1000
DELETED_TTL = 86_400
PRIORITIES_TTL = 86_400
"""Seconds; a worker that finds the note gone says it again (worker/outbound/priorities.py)."""
"""Seconds that the properties of a deleted channel are kept for its last callbacks, when nobody cleans up."""


class ChannelStore:
    def __init__(self, redis: RedisClient, metric_window: float) -> None:
        self._redis = redis
        self._metric_window = metric_window
        self._epoch_seen = False

    async def ids(self) -> list[str]:
        (ids,) = await self._redis.run(("SMEMBERS", names.CHANNELS))
        return sorted(ids)

    async def get(self, channel: str) -> ChannelSpec:
        """Raises ChannelNotFound."""
        stored, generation, priorities = await self._redis.run(
            ("GET", names.channel_properties(channel)),
            ("HGET", names.GENERATIONS, channel),
            ("SMEMBERS", names.channel_priorities(channel)),
        )
        if stored is None:
            raise _missing(channel)
        return _spec(channel, stored, generation, priorities)

    async def create(self, spec: ChannelSpec) -> None:
        await self._redis.run(
            ("SET", names.channel_properties(spec.id), _properties(spec)),
            ("SADD", names.CHANNELS, spec.id),
            ("HSET", names.GENERATIONS, spec.id, 1),
            ("SADD", names.channel_priorities(spec.id), names.LOWEST_PRIORITY),
            ("EXPIRE", names.channel_priorities(spec.id), PRIORITIES_TTL),
            ("SREM", names.DELETED_CHANNELS, spec.id),
            ("DEL", names.deleted_properties(spec.id)),
            ("PUBLISH", names.change_topic(spec.id), spec.id),
        )

    async def update(self, old: ChannelSpec, new: ChannelSpec, *, restart: bool) -> ChannelSpec:
        """Put `new` where `old` was read; with `restart` the channel is started afresh. Returns what is stored.

        Raises ChannelNotFound when it was deleted meanwhile, ChannelChanged when somebody else changed it.
        """
        keys, arguments = _spec_keys(new.id), (old.stored, _properties(new), new.id, int(restart))
        (outcome,) = await self._redis.run(("EVAL", _UPDATE, 2, *keys, *arguments))
        if outcome == -1:
            raise _missing(new.id)
        if outcome == -2:
            raise ChannelChanged(f"Channel {new.id!r} was changed at the same time: read it and try again")
        await self.notify_changed(new.id)
        return _spec(new.id, _properties(new), outcome, new.noted_priorities)

    async def note_priorities(self, channel: str, priorities: Iterable[int]) -> None:
        """That there are, or are about to be, outbound queues of these priorities; the channel's worker is told.

        Raises ChannelNotFound.
        """
        keys = names.channel_properties(channel), names.channel_priorities(channel)
        (is_there,) = await self._redis.run(("EVAL", _NOTE_PRIORITIES, 2, *keys, PRIORITIES_TTL, *priorities))
        if not is_there:
            raise _missing(channel)
        await self.notify_changed(channel)

    async def request_restart(self, channel: str) -> int:
        """Have the reconciler start it afresh, in the generation that is returned. Raises ChannelNotFound."""
        (outcome,) = await self._redis.run(("EVAL", _RESTART, 2, *_spec_keys(channel), channel))
        if outcome == -1:
            raise _missing(channel)
        await self.notify_changed(channel)
        return int(outcome)

    async def delete(self, channel: str) -> None:
        """The channel is gone at once; its process, queues and other keys are left to the reconciler.

        Raises ChannelNotFound.
        """
        (existed,) = await self._redis.run(
            (
                "EVAL", _DELETE, 5, names.channel_properties(channel), names.CHANNELS, names.GENERATIONS,
                names.DELETED_CHANNELS, names.deleted_properties(channel), channel, DELETED_TTL,
            )
        )
        if not existed:
            raise _missing(channel)
        await self.notify_changed(channel)

    async def notify_changed(self, channel: str) -> None:
        """Tell the channel's worker, and those who listen to all channels, that its spec changed."""
        await self._redis.run(("PUBLISH", names.change_topic(channel), channel))

    def changes(self, channel: str) -> AsyncIterator[str]:
        """The channel's id whenever its spec may have changed; survives Redis, ends only when cancelled.

        An empty string says that the subscription is new (what was said before was not heard), or lost.
        """
        return self._hear("subscribe", names.change_topic(channel))

    def all_changes(self) -> AsyncIterator[str]:
        """The same of every channel."""
        return self._hear("psubscribe", names.ALL_CHANGES)

    async def _hear(self, subscribe: str, topic: str) -> AsyncIterator[str]:
        backoff = Backoff(*SUBSCRIBE_PAUSES)
        while True:
            try:
                async with contextlib.aclosing(self._redis.hear(subscribe, topic)) as heard:
                    async for channel in heard:
                        backoff.reset()
                        yield channel or ""
            except Exception as error:
                if not is_failure(error):
                    raise
            yield ""
            await backoff.pause()

    # --- for the reconciler -------------------------------------------------------------------------------------------

    async def wanted(self) -> Wanted:
        """Which channels are wanted, and in which generation."""
        epoch, ids, generations = await self._redis.run(
            ("GET", names.EPOCH), ("SMEMBERS", names.CHANNELS), ("HGETALL", names.GENERATIONS)
        )
        lost = epoch is None and self._epoch_seen
        if epoch is None and not lost:
            await self._redis.run(("SET", names.EPOCH, int(time.time())))
        self._epoch_seen = True
        return Wanted({channel: int(generations.get(channel, 0)) for channel in ids}, lost)

    async def get_many(self, channels: Iterable[str]) -> dict[str, ChannelSpec]:
        """The specs of those channels that exist."""
        wanted = list(channels)
        found = await self._redis.run(
            *(("GET", names.channel_properties(channel)) for channel in wanted), ("HGETALL", names.GENERATIONS)
        )
        generations = found[-1]
        return {
            channel: _spec(channel, stored, generations.get(channel))
            for channel, stored in zip(wanted, found, strict=False)
            if stored is not None
        }

    async def named_queues(self) -> set[str]:
        """Queues that channels name as their `amqp_queue`'s."""
        specs = (await self.get_many(await self.ids())).values()
        return {queue for spec in specs if spec.amqp_queue for queue in names.application_queues(spec.amqp_queue)}

    async def restore(self, specs: Iterable[ChannelSpec]) -> None:
        """Redis was emptied: write back what is still known; what was created since stays as it is."""
        commands: list[Command] = []
        for spec in specs:
            commands += (
                ("SETNX", names.channel_properties(spec.id), _properties(spec)),
                ("SADD", names.CHANNELS, spec.id),
                ("HSETNX", names.GENERATIONS, spec.id, spec.generation),
                ("PUBLISH", names.change_topic(spec.id), spec.id),
            )
        await self._redis.run(*commands, ("SET", names.EPOCH, int(time.time())))

    async def deleted(self) -> list[str]:
        """Channels that are deleted, whose queues and keys still are to be removed."""
        (ids,) = await self._redis.run(("SMEMBERS", names.DELETED_CHANNELS))
        return sorted(ids)

    async def deleted_spec(self, channel: str) -> ChannelSpec | None:
        """What a deleted channel was; None when that is not known (any more)."""
        stored, priorities = await self._redis.run(
            ("GET", names.deleted_properties(channel)), ("SMEMBERS", names.channel_priorities(channel))
        )
        return None if stored is None else _spec(channel, stored, 0, priorities)

    async def keep_logs(self, channel: str, seconds: float) -> None:
        """Note that its log files are to be removed in so many seconds."""
        ends, kept = int(time.time() + seconds), int(seconds) + NOTE_OF_LOGS_TTL
        await self._redis.run(("ZADD", names.DELETED_LOGS, ends, channel), ("EXPIRE", names.DELETED_LOGS, kept))

    async def expired_logs(self) -> list[str]:
        """Channels whose log files are to be removed now."""
        (found,) = await self._redis.run(("ZRANGEBYSCORE", names.DELETED_LOGS, "-inf", int(time.time()), "LIMIT", 0, 1000))
        return [str(channel) for channel in found]

    async def forget_logs(self, channels: Sequence[str]) -> None:
        """Their log files are removed."""
        await self._redis.run(("ZREM", names.DELETED_LOGS, *channels))

    async def forget(self, channel: str) -> None:
        """Remove every key of a deleted channel, by its name, and its place among the deleted ones."""
        now = time.time()
        bucket = int(now // self._metric_window)
        await self._redis.run(
            (
                "UNLINK", names.channel_properties(channel), names.deleted_properties(channel),
                names.channel_status(channel), names.delay_queues(channel), names.cancelled_messages(channel),
                names.channel_priorities(channel),
                *(names.rate_bucket(channel, each) for each in range(bucket - rates.KEPT_WINDOWS, bucket + 2)),
            )
        )  # fmt: skip
        lists = names.key_lists(channel, now)
        while lists:
            found = await self._redis.run(*(("LRANGE", each, 0, FORGET_CHUNK - 1) for each in lists))
            full = [(each, keys) for each, keys in zip(lists, found, strict=True) if keys]
            for each, keys in full:
                await self._redis.run(("UNLINK", *(f"{channel}:{key}" for key in keys)), ("LTRIM", each, len(keys), -1))
            lists = [each for each, _ in full]
        await self._redis.run(("SREM", names.DELETED_CHANNELS, channel))


@dataclass(frozen=True, slots=True)
class Wanted:
    """Channel id -> generation; `lost` says that Redis was emptied since the last look."""

    generations: dict[str, int]
    lost: bool = False


def _missing(channel: str) -> ChannelNotFound:
    return ChannelNotFound(f"There is no channel with id {channel!r}")


def _spec_keys(channel: str) -> tuple[str, str]:
    return names.channel_properties(channel), names.GENERATIONS


def _properties(spec: ChannelSpec) -> str:
    return orjson.dumps(spec.to_properties()).decode()


def _spec(channel: str, stored: str, generation: Any, priorities: Iterable[Any] = ()) -> ChannelSpec:
    try:
        properties = orjson.loads(stored)
    except orjson.JSONDecodeError:
        properties = None
    if not isinstance(properties, dict):
        properties = {}  # a spec that nobody can read has no type: shown as such, never started
    noted = frozenset(map(int, priorities))
    return ChannelSpec.from_properties(channel, properties, int(generation or 0), stored, noted)


_UPDATE = """
local stored = redis.call('GET', KEYS[1])
if not stored then return -1 end
if stored ~= ARGV[1] then return -2 end
redis.call('SET', KEYS[1], ARGV[2])
return redis.call('HINCRBY', KEYS[2], ARGV[3], ARGV[4])
"""

_NOTE_PRIORITIES = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('SADD', KEYS[2], unpack(ARGV, 2))
redis.call('EXPIRE', KEYS[2], ARGV[1])
return 1
"""

_RESTART = """
if redis.call('EXISTS', KEYS[1]) == 0 then return -1 end
return redis.call('HINCRBY', KEYS[2], ARGV[1], 1)
"""

_DELETE = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('RENAME', KEYS[1], KEYS[5])
redis.call('EXPIRE', KEYS[5], ARGV[2])
redis.call('SREM', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[3], ARGV[1])
redis.call('SADD', KEYS[4], ARGV[1])
return 1
"""
