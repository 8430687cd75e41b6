"""What processes counted: added up in a hash for each channel and router, and one for Junebug itself.

A process gives what is new (runtime/metrics.py). Each batch is added once, however often it is tried, so what is added up neither
goes back nor is lost when the process ends.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import structlog

from junebug import names
from junebug.errors import StoreUnavailable
from junebug.model.messages import of_shard
from junebug.model.spec import ChannelSpec
from junebug.runtime import families
from junebug.runtime.metrics import OF_SHARD, SAY_AGAIN, Batch, Metrics
from junebug.runtime.samples import SAMPLE_EVERY, Sample
from junebug.stores import statuses
from junebug.stores.channels import channel_spec
from junebug.stores.client import Command, RedisClient

log = structlog.stdlib.get_logger(__name__)

KEPT = int(SAY_AGAIN * 30)
"""Seconds for which the sums of what counts no more are kept."""
BATCH_KEPT = 3600
"""Seconds for which it is known that a batch was added."""
WANTED_FOR = 300
"""Seconds after a scrape for which the processes' memory is looked at."""
STALE = SAMPLE_EVERY * 4
"""Seconds after which nobody says anything of a process any more: it is gone."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What is known of one channel, or router. `spec`: None of a router."""

    id: str
    type: str
    spec: ChannelSpec | None
    fields: Mapping[str, str]
    components: Mapping[str, str]
    """Component -> ok, degraded or down."""
    delay_queues: Sequence[str]
    """Names of those that may hold something."""


@dataclass(frozen=True, slots=True)
class Overview:
    channels: list[str]
    routers: list[str]
    fields: Mapping[str, str]
    """Junebug's own."""
    samples: list[Sample]


class MetricStore:
    """Each of these raises StoreUnavailable."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis

    async def save(self, metrics: Metrics, batch: Batch) -> None:
        """Add it, unless it was added already; what was counted for a channel that is deleted is let go. One that Redis refuses
        is lost: no process ends for its metrics.
        """
        keys: list[str] = [names.saved_metrics(batch.process)]
        arguments: list[Any] = [batch.number, BATCH_KEPT, KEPT]
        for owner, counts in batch.counts.items():
            keys.append(_hash_of(owner))
            gauges = batch.gauges if owner == batch.owner else {}
            lives = names.channel_properties(owner) if owner else ""
            arguments += (lives, len(counts), len(gauges), *_flat(counts), *_flat(gauges))
        try:
            await self._redis.run(("EVAL", _ADD, len(keys), *keys, *arguments))
        except StoreUnavailable:
            raise
        except Exception:
            log.exception("what was counted cannot be added")
        metrics.saved(batch)

    async def overview(self) -> Overview:
        """What there is, and what is no channel's; whoever asks wants to know the processes' memory from now on."""
        channels, routers, fields, samples, _ = await self._redis.run(
            ("SMEMBERS", names.CHANNELS), ("SMEMBERS", names.ROUTERS), ("HGETALL", names.METRICS),
            ("HGETALL", names.PROCESS_SAMPLES), ("SET", names.METRICS_WANTED, 1, "EX", WANTED_FOR),
        )  # fmt: skip
        oldest, found = time.time() - STALE, list[Sample]()
        for told in map(orjson.loads, samples.values()):
            if told["at"] > oldest:
                found += (Sample(told["host"], *each) for each in told["processes"])
        return Overview(sorted(channels), sorted(routers), fields, found)

    async def counted(self, ids: Sequence[str], routers: frozenset[str]) -> list[Counted]:
        """Of these channels and routers, those that (still) exist."""
        commands: list[Command] = []
        for id in ids:
            commands += (
                ("GET", names.channel_properties(id)), ("HGETALL", names.channel_metrics(id)),
                ("HGETALL", names.channel_status(id)), ("HKEYS", names.delay_queues(id)),
                ("SMEMBERS", names.channel_priorities(id)),
            )  # fmt: skip
        replies = iter(await self._redis.run(*commands))
        found = []
        for id, properties, fields, told, queues, priorities in zip(ids, *(replies,) * 5, strict=False):
            if properties is not None:
                spec = None if id in routers else channel_spec(id, properties, 0, priorities)
                kind = spec.type if spec else str(orjson.loads(properties).get("type", ""))
                levels = {name: str(body.get("status")) for name, body in statuses.read(told).items()}
                fields = _of_shards(fields, spec.shards, levels) if spec and spec.shards > 1 else fields
                found.append(Counted(id, kind, spec, fields, levels, queues))
        return found

    async def is_wanted(self) -> bool:
        """Whether somebody looks."""
        (found,) = await self._redis.run(("EXISTS", names.METRICS_WANTED))
        return bool(found)

    async def put_samples(self, host: str, program: str, samples: Iterable[Sample]) -> None:
        """In place of what this program of this host said before; what nobody renews is dropped."""
        processes = [(each.process, each.started_at, each.cpu, each.resident, each.proportional) for each in samples]
        told = orjson.dumps({"at": time.time(), "host": host, "processes": processes})
        field, known = f"{host} {program}", await self._redis.run(("HGETALL", names.PROCESS_SAMPLES))
        oldest = time.time() - STALE
        stale = [name for name, text in known[0].items() if orjson.loads(text)["at"] < oldest]
        drop: list[Command] = [("HDEL", names.PROCESS_SAMPLES, *stale)] if stale else []
        await self._redis.run(
            *drop, ("HSET", names.PROCESS_SAMPLES, field, told), ("EXPIRE", names.PROCESS_SAMPLES, int(STALE * 2))
        )


def _of_shards(fields: Mapping[str, str], shards: int, levels: Mapping[str, str]) -> dict[str, str]:
    """With the gauges of all shards that live together: each is there under the first one's name."""
    alive = {shard for shard in range(shards) if levels.get(of_shard("worker", shard)) != "down"}
    found: dict[str, float] = {}
    for name, value in fields.items():
        name, _, shard = name.partition(OF_SHARD)
        family = families.BY_FIELD.get(name.partition(families.SEPARATOR)[0])
        if family is None or family.kind != "gauge":
            continue
        if int(shard or 0) in alive:
            sum_or_max = max if family is families.THROTTLED else sum
            found[name] = sum_or_max((found.get(name, 0.0), float(value)))
    counts = {name: value for name, value in fields.items() if OF_SHARD not in name}
    return counts | {name: f"{value:g}" for name, value in found.items()}


def _hash_of(owner: str) -> str:
    return names.channel_metrics(owner) if owner else names.METRICS


def _flat(pairs: Mapping[str, float]) -> Iterable[Any]:
    for name, value in pairs.items():
        yield name
        yield value


_ADD = """
if tonumber(redis.call('GET', KEYS[1]) or 0) >= tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
local place = 4
for number = 2, #KEYS do
  local key, lives, counts, gauges = KEYS[number], ARGV[place], tonumber(ARGV[place + 1]), tonumber(ARGV[place + 2])
  place = place + 3
  if lives == '' or redis.call('EXISTS', lives) == 1 then
    for each = place, place + 2 * counts - 2, 2 do redis.call('HINCRBY', key, ARGV[each], ARGV[each + 1]) end
    for each = place + 2 * counts, place + 2 * (counts + gauges) - 2, 2 do redis.call('HSET', key, ARGV[each], ARGV[each + 1]) end
    redis.call('EXPIRE', key, ARGV[3])
  end
  place = place + 2 * (counts + gauges)
end
return 1
"""
