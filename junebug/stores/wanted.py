"""What the reconciler needs of channels and routers alike: which are wanted, which are deleted, and what those leave.

    channels, routers, channel_generations   what there is; 0.1 s of Redis's time to read at 100,000 channels
    wanted_changes                           stream: ids of what changed last, each with a number that no other history has

So `look` is told what changed since the change that it saw last. All is read when Redis does not know that one (any more), as
when it was emptied, failed over to an older copy or restored; when there are not as many as there should be: somebody has
changed something, and told nobody; and when it is asked to.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from junebug import names
from junebug.model.routing import RouterSpec
from junebug.model.spec import ChannelSpec
from junebug.stores import rates
from junebug.stores.channels import channel_spec
from junebug.stores.client import Command, RedisClient
from junebug.stores.key_lists import key_lists
from junebug.stores.routers import destination_specs, router_spec
from junebug.stores.specs import CHANGES_TTL, MOST_CHANGES, dumps, new_number, note_of_change

NOTE_OF_LOGS_TTL = 30 * 86_400
"""Seconds for which a host may be away before it keeps log files of deleted channels for ever."""
LOGS_AT_ONCE = 1000
FORGET_CHUNK = 1000

Spec = ChannelSpec | RouterSpec


class WantedStore:
    def __init__(self, redis: RedisClient, metric_window: float) -> None:
        self._redis = redis
        self._metric_window = metric_window
        self._epoch_seen = False
        self._seen = ("", "")
        """The last change that is known: its id and its number."""
        self._known = _Tables()

    async def wanted(self) -> Wanted:
        """Which channels and routers are wanted, and in which generation: all is read."""
        return (await self._tables()).wanted(frozenset())

    async def look(self, told: Collection[str] = (), *, thorough: bool = False) -> Wanted:
        """The same, and what of it changed since the last look: only that is read, and what was `told` to have changed.

        `thorough`: all is read, and all may have changed.
        """
        is_known, changed = not thorough and len(told) <= MOST_CHANGES, set[str]()
        for _ in range(2):  # once more where somebody is about to tell: his commands are on their way
            epoch, *seen, counts, found = await self._changes(told)
            is_known = is_known and found is not None
            if not is_known:
                break
            changed |= self._known.put(found)
            if self._known.counts == tuple(counts):
                break
        else:
            before, self._known = self._known, await self._tables()
            changed |= self._known.differing(before)
        if not is_known:
            self._known = await self._tables()
            changed = {""}
        lost = epoch is None and self._epoch_seen
        if epoch is None and not lost:
            await self._redis.run(("SET", names.EPOCH, int(time.time())))
        self._epoch_seen = True
        self._seen = (str(seen[0]), str(seen[1]))
        return self._known.wanted(frozenset(changed), lost)

    async def _changes(self, told: Collection[str]) -> list[Any]:
        """What _LOOK returns."""
        keys = (names.WANTED_CHANGES, names.CHANNELS, names.ROUTERS, names.GENERATIONS, names.EPOCH)
        ids = [id for id in told if id][:MOST_CHANGES]
        (found,) = await self._redis.run(("EVAL", _LOOK, len(keys), *keys, *self._seen, new_number(), CHANGES_TTL, *ids))
        return list(found)

    async def _tables(self) -> _Tables:
        channels, routers, generations = await self._redis.run(
            ("SMEMBERS", names.CHANNELS), ("SMEMBERS", names.ROUTERS), ("HGETALL", names.GENERATIONS)
        )
        return _Tables({*channels}, {*routers}, {id: int(number) for id, number in generations.items()})

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
        await self._redis.run(*commands, *note_of_change(), ("SET", names.EPOCH, int(time.time())))

    async def deleted(self) -> list[str]:
        """Channels and routers that are deleted, whose queues and keys still are to be removed."""
        (ids,) = await self._redis.run(("SMEMBERS", names.DELETED_CHANNELS))
        return sorted(ids)

    async def is_deleted(self, id: str) -> bool:
        """Whether it is one of them."""
        (is_one,) = await self._redis.run(("SISMEMBER", names.DELETED_CHANNELS, id))
        return bool(is_one)

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
        """Note that each host is to remove what it has of its log files in so many seconds."""
        ends, kept = int(time.time() + seconds), int(seconds) + NOTE_OF_LOGS_TTL
        await self._redis.run(("ZADD", names.DELETED_LOGS, ends, channel), ("EXPIRE", names.DELETED_LOGS, kept))

    async def expired_logs(self, since: float, until: float) -> AsyncIterator[list[str]]:
        """Deleted channels and routers whose time was up then, LOGS_AT_ONCE at a time, the last ones first."""
        for start in itertools.count(0, LOGS_AT_ONCE):
            (found,) = await self._redis.run(
                ("ZRANGE", names.DELETED_LOGS, int(until), int(since), "BYSCORE", "REV", "LIMIT", start, LOGS_AT_ONCE)
            )
            ids = [str(id) for id in found]
            if ids:
                *exist, deleted = await self._redis.run(
                    *(("EXISTS", names.channel_properties(id)) for id in ids), ("SMISMEMBER", names.DELETED_CHANNELS, *ids)
                )
                # one that was made anew under the same id, and maybe deleted again, has its time still to come
                yield [id for id, *is_there in zip(ids, exist, deleted, strict=True) if not any(is_there)]
            if len(ids) < LOGS_AT_ONCE:
                return

    async def forget_logs(self, until: float) -> None:
        """Of channels whose time was up then no host removes any more."""
        await self._redis.run(("ZREMRANGEBYSCORE", names.DELETED_LOGS, "-inf", int(until)))

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
        lists = key_lists(channel, now)
        while lists:
            found = await self._redis.run(*(("LRANGE", each, 0, FORGET_CHUNK - 1) for each in lists))
            full = [(each, keys) for each, keys in zip(lists, found, strict=True) if keys]
            for each, keys in full:
                await self._redis.run(("UNLINK", *(f"{channel}:{key}" for key in keys)), ("LTRIM", each, len(keys), -1))
            lists = [each for each, _ in full]
        await self._redis.run(("SREM", names.DELETED_CHANNELS, channel), ("SREM", names.DELETED_ROUTERS, channel))


@dataclass(frozen=True, slots=True)
class Wanted:
    """Id -> generation, and which of them are routers; `lost` says that Redis was emptied since the last look, `changed` what may
    have changed since: an empty text, all of it.
    """

    generations: Mapping[str, int]
    routers: frozenset[str] = frozenset()
    lost: bool = False
    changed: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Tables:
    """As they are in Redis."""

    channels: set[str] = field(default_factory=set)
    routers: set[str] = field(default_factory=set)
    generations: dict[str, int] = field(default_factory=dict)
    _wanted: Wanted | None = None

    @property
    def counts(self) -> tuple[int, int, int]:
        return len(self.channels), len(self.routers), len(self.generations)

    def put(self, found: Sequence[Any]) -> set[str]:
        """Ids, each with its generation, and whether it is a channel or a router. Returns the ids."""
        ids = set()
        for id, generation, is_channel, is_router in found:
            ids.add(str(id))
            (self.channels.add if is_channel else self.channels.discard)(id)
            (self.routers.add if is_router else self.routers.discard)(id)
            if generation is None:
                self.generations.pop(id, None)
            else:
                self.generations[id] = int(generation)
        if ids:
            self._wanted = None
        return ids

    def differing(self, other: _Tables) -> set[str]:
        return {id for id, _ in self.generations.items() ^ other.generations.items()} | (
            (self.channels ^ other.channels) | (self.routers ^ other.routers)
        )

    def wanted(self, changed: frozenset[str], lost: bool = False) -> Wanted:
        if self._wanted is None:
            generations = {id: self.generations.get(id, 0) for id in (*self.channels, *self.routers)}
            self._wanted = Wanted(generations, frozenset(self.routers))
        return replace(self._wanted, lost=lost, changed=changed)


_LOOK = """
local seen, number = ARGV[1], ARGV[2]
local tip = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if not tip then
  tip = {redis.call('XADD', KEYS[1], '*', '', ARGV[3]), {'', ARGV[3]}}
  redis.call('EXPIRE', KEYS[1], ARGV[4])
end
local first = seen ~= '' and redis.call('XRANGE', KEYS[1], seen, seen)[1]
local changes = false
if first and first[2][2] == number then
  changes = {}
  local known = {}
  local function add(id)
    if known[id] then return end
    known[id] = true
    changes[#changes + 1] = {
      id, redis.call('HGET', KEYS[4], id), redis.call('SISMEMBER', KEYS[2], id), redis.call('SISMEMBER', KEYS[3], id)
    }
  end
  local since = tip[1] ~= seen and redis.call('XRANGE', KEYS[1], seen, '+') or {}
  for n = 5, #ARGV do add(ARGV[n]) end
  for n = 2, #since do
    if since[n][2][1] == '' then
      changes = false
      break
    end
    add(since[n][2][1])
  end
end
local counts = {redis.call('SCARD', KEYS[2]), redis.call('SCARD', KEYS[3]), redis.call('HLEN', KEYS[4])}
return {redis.call('GET', KEYS[5]), tip[1], tip[2][2], counts, changes}
"""
