"""What the reconciler needs of channels and routers alike: which are wanted, which are deleted, and what those leave."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from junebug import names
from junebug.model.routing import RouterSpec
from junebug.model.spec import ChannelSpec
from junebug.stores import rates
from junebug.stores.channels import channel_spec
from junebug.stores.client import Command, RedisClient
from junebug.stores.routers import destination_specs, router_spec
from junebug.stores.specs import dumps

NOTE_OF_LOGS_TTL = 30 * 86_400
"""Seconds for which no supervisor may run before log files of deleted channels are left behind."""
FORGET_CHUNK = 1000

Spec = ChannelSpec | RouterSpec


class WantedStore:
    def __init__(self, redis: RedisClient, metric_window: float) -> None:
        self._redis = redis
        self._metric_window = metric_window
        self._epoch_seen = False

    async def wanted(self) -> Wanted:
        """Which channels and routers are wanted, and in which generation."""
        epoch, channels, routers, generations = await self._redis.run(
            ("GET", names.EPOCH), ("SMEMBERS", names.CHANNELS), ("SMEMBERS", names.ROUTERS), ("HGETALL", names.GENERATIONS)
        )
        lost = epoch is None and self._epoch_seen
        if epoch is None and not lost:
            await self._redis.run(("SET", names.EPOCH, int(time.time())))
        self._epoch_seen = True
        return Wanted({id: int(generations.get(id, 0)) for id in (*channels, *routers)}, frozenset(routers), lost)

    async def get_many(self, ids: Iterable[str], routers: frozenset[str] = frozenset()) -> dict[str, Spec]:
        """The specs of those that exist; `routers`: which of them are such."""
        wanted = list(ids)
        found = await self._redis.run(
            *(("GET", names.channel_properties(id)) for id in wanted), ("HGETALL", names.GENERATIONS)
        )
        generations = found[-1]
        return {
            id: (router_spec if id in routers else channel_spec)(id, stored, generations.get(id))
            for id, stored in zip(wanted, found, strict=False)
            if stored is not None
        }

    async def named_queues(self) -> set[str]:
        """Queues that channels and destinations name as their `amqp_queue`'s."""
        wanted = await self.wanted()
        specs = await self.get_many(wanted.generations.keys() - wanted.routers)
        named = [spec.amqp_queue for spec in specs.values() if isinstance(spec, ChannelSpec)]
        if wanted.routers:
            for found in await self._redis.run(*(("HGETALL", names.destinations(router)) for router in wanted.routers)):
                named += [each.amqp_queue for each in destination_specs(found).values()]
        return {queue for each in named if each for queue in names.application_queues(each)}

    async def restore(self, specs: Iterable[Spec], claims: Mapping[str, str] | None = None) -> None:
        """Redis was emptied: write back what is still known; what was created since stays as it is. `claims`: routed channel ->
        its router; first, so that no channel takes for its own what is the router's.
        """
        routed = (claims or {}).items()
        commands: list[Command] = [("HSETNX", names.ROUTED_CHANNELS, channel, router) for channel, router in routed]
        for spec in specs:
            commands += (
                ("SETNX", names.channel_properties(spec.id), dumps(spec.to_properties())),
                ("SADD", names.ROUTERS if isinstance(spec, RouterSpec) else names.CHANNELS, spec.id),
                ("HSETNX", names.GENERATIONS, spec.id, spec.generation),
                ("PUBLISH", names.change_topic(spec.id), spec.id),
            )
        await self._redis.run(*commands, ("SET", names.EPOCH, int(time.time())))

    async def deleted(self) -> list[str]:
        """Channels and routers that are deleted, whose queues and keys still are to be removed."""
        (ids,) = await self._redis.run(("SMEMBERS", names.DELETED_CHANNELS))
        return sorted(ids)

    async def deleted_spec(self, id: str) -> Spec | None:
        """What a deleted channel or router was; None when that is not known (any more)."""
        stored, priorities, is_router = await self._redis.run(
            ("GET", names.deleted_properties(id)), ("SMEMBERS", names.channel_priorities(id)),
            ("SISMEMBER", names.DELETED_ROUTERS, id),
        )  # fmt: skip
        if stored is None:
            return None
        return router_spec(id, stored, 0) if is_router else channel_spec(id, stored, 0, priorities)

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
                names.channel_priorities(channel), names.destinations(channel), names.destination_words(channel),
                names.channel_metrics(channel), names.hosts_of(channel),
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
        await self._redis.run(("SREM", names.DELETED_CHANNELS, channel), ("SREM", names.DELETED_ROUTERS, channel))


@dataclass(frozen=True, slots=True)
class Wanted:
    """Id -> generation, and which of them are routers; `lost` says that Redis was emptied since the last look."""

    generations: dict[str, int]
    routers: frozenset[str] = frozenset()
    lost: bool = False
