"""Leases in Redis: who may claim what, and what a Redis that has lost some does."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

import pytest

from bench.simulated import SimulatedRedis
from junebug import names
from junebug.config.declaration import Settings
from junebug.errors import HostTaken, StartupError
from junebug.stores import Stores, leases
from junebug.stores.leases import HostEntry, Lease, Turn
from tests.harness import THOROUGH
from tests.polling import eventually

TTL = 30.0


@pytest.fixture
async def stores(settings: Settings) -> AsyncIterator[Stores]:
    stores = Stores(settings)
    yield stores
    await stores.close()


class Hosts:
    """Hosts as their supervisors speak to Redis, each at a place of its own."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    async def fences(self, ids: Iterable[str], late: bool = False) -> dict[str, int]:
        """Of their present leases, or `late` others; 0: there is none."""
        table = await self._stores._redis.run(*(("HGET", names.LEASES, id) for id in ids))
        return {id: int(lease.split()[1]) - late if lease else 0 for id, lease in zip(ids, table, strict=True)}

    async def turn(
        self, host: str, *, ttl: float = TTL, place: str = "", release: Sequence[str] | Mapping[str, int] = (),
        has_broker: bool | None = None, **asked: Any,
    ) -> Turn:  # fmt: skip
        """`release`: without a fence, whatever lease there is."""
        if not isinstance(release, Mapping):
            release = await self.fences(release) if release else {}
        entry = HostEntry(host, capacity=7, labels={"site": "north"}, has_broker=has_broker, name="machine")
        return await self._stores.leases.turn(entry, place or f"place of {host}", ttl, release=release, **asked)

    async def holders(self, host: str = "looker") -> dict[str, str]:
        found = await self.turn(host)
        assert found.holders is not None
        return {id: holder for id, (holder, _) in found.holders.items()}

    async def die(self, host: str) -> None:
        """As when its TTL is over."""
        seen = time.time() - TTL - 1
        await self._stores._redis.run(("DEL", names.host(host)), ("ZADD", names.HOSTS, "XX", seen, host))


@pytest.fixture
def hosts(stores: Stores) -> Hosts:
    return Hosts(stores)


async def test_what_one_holds_another_may_claim_only_when_it_is_dead_or_let_go(hosts: Hosts) -> None:
    first = await hosts.turn("a", claim={"c1": 0, "c2": 0})
    assert first.holders is not None
    assert {id: host for id, (host, _) in first.holders.items()} == {"c1": "a", "c2": "a"}
    await hosts.turn("b", claim={"c1": 0, "c2": 0, "c3": 0})
    assert await hosts.holders() == {"c1": "a", "c2": "a", "c3": "b"}
    await hosts.turn("a", release=["c1", "c3"])  # the second is not its
    await hosts.turn("b", claim={"c1": 0, "c2": 0})
    assert await hosts.holders() == {"c1": "b", "c2": "a", "c3": "b"}
    await hosts.die("a")
    last = await hosts.turn("b", claim={"c2": 0})
    assert last.holders is not None
    assert {id: host for id, (host, _) in last.holders.items()} == {"c1": "b", "c2": "b", "c3": "b"}
    assert last.holders["c2"][1] > first.holders["c2"][1]


async def test_a_release_that_comes_late_leaves_a_later_lease_alone(hosts: Hosts, stores: Stores) -> None:
    """It was sent, not answered in time, and sent again; the host has claimed the channel anew since."""
    await hosts.turn("a", claim={"c1": 0})
    first = await hosts.fences(["c1"])
    await hosts.turn("a", release=first)
    await hosts.turn("a", claim={"c1": 0})
    again = await hosts.fences(["c1"])
    assert again["c1"] > first["c1"]
    await hosts.turn("a", release=first)
    assert await hosts.holders() == {"c1": "a"}
    await stores.leases.leave("a", first)
    assert await hosts.fences(["c1"]) == again


async def test_who_knows_a_change_is_told_what_came_after_it(hosts: Hosts, stores: Stores) -> None:
    first = await hosts.turn("a", claim={"c1": 0, "c2": 0})
    assert first.holders is not None
    same = await hosts.turn("a", seen=first.seen)
    assert (same.holders, same.changes, same.seen) == (None, {}, first.seen)
    refused = await hosts.turn("b", seen=first.seen, claim={"c1": 0})
    assert (refused.holders, refused.changes) == (None, {})
    released = await hosts.turn("a", seen=first.seen, release=["c1"])
    assert (released.holders, released.changes) == (None, {"c1": None})
    assert released.newest > first.newest
    claimed = await hosts.turn("b", seen=first.seen, claim={"c1": 0})
    assert (claimed.holders, claimed.changes) == (None, {"c1": ("b", claimed.newest)})
    await stores.leases.leave("b", await hosts.fences(["c1"]))
    assert (await hosts.turn("a", seen=claimed.seen)).changes == {"c1": None}


async def test_who_knows_a_change_that_redis_does_not_know_is_told_all(hosts: Hosts, stores: Stores) -> None:
    """As after a failover to a copy that lacks it, and came to the same fence by another change; or as it is long ago."""
    redis, keys = stores._redis, (names.LEASES, names.LEASE_FENCE, names.LEASE_CHANGES)
    await hosts.turn("a", claim={"c1": 0})
    await hosts.turn("b")
    await redis.run(*(("COPY", key, f"copy:{key}") for key in keys))
    lost = await hosts.turn("a", claim={"c2": 0})
    await redis.run(*(("COPY", f"copy:{key}", key, "REPLACE") for key in keys))
    other = await hosts.turn("b", claim={"c3": 0})
    assert other.newest == lost.newest
    found = await hosts.turn("a", seen=lost.seen)
    assert found.holders is not None
    assert found.holders.keys() == {"c1", "c3"}
    for _ in range(8):
        await hosts.turn("a", claim={f"c{number}": 0 for number in range(1_000)})
        await hosts.turn("a", release=[f"c{number}" for number in range(1_000)])
    (kept,) = await redis.run(("XLEN", names.LEASE_CHANGES))
    assert kept <= leases.MOST_CHANGES + 100
    assert (await hosts.turn("a", seen=other.seen)).holders == {"c3": ("b", other.newest)}


async def test_what_an_older_version_changes_without_saying_so_is_seen_by_the_fence(hosts: Hosts, stores: Stores) -> None:
    before = await hosts.turn("a", claim={"c1": 0})
    fence = before.newest + 1
    await stores._redis.run(("HSET", names.LEASES, "c2", f"old {fence}"), ("SET", names.LEASE_FENCE, fence))
    found = await hosts.turn("a", seen=before.seen)
    assert found.holders is not None
    assert found.holders["c2"] == ("old", fence)
    assert (await hosts.turn("a", seen=found.seen)).holders is None


async def test_a_restored_backup_has_an_older_fence_than_the_last_change(hosts: Hosts, stores: Stores) -> None:
    before = await hosts.turn("a", claim={f"c{number}": 0 for number in range(1_000)})
    await stores._redis.run(("SET", names.LEASE_FENCE, before.newest - 5))
    after = await hosts.turn("b", claim={"new": 0})
    assert after.newest > before.newest


async def test_hosts_are_told_what_placement_must_know_of_each(hosts: Hosts, stores: Stores) -> None:
    await hosts.turn("a", claim={"c1": 0})
    assert await stores.leases.drain("a", is_drained=True)
    assert not await stores.leases.drain("nobody", is_drained=True)
    found = (await hosts.turn("b")).hosts
    assert found.keys() == {"a", "b"}
    assert (found["a"].capacity, found["a"].labels, found["a"].drained, found["b"].drained) == (7, {"site": "north"}, True, False)
    await hosts.die("b")
    listed = {each.id: (each.is_living, each.leases) for each in await stores.leases.hosts()}
    assert listed == {"a": (True, 1), "b": (False, 0)}
    await stores.leases.leave("a", await hosts.fences(["c1"]))
    assert await hosts.holders() == {}


async def test_a_redis_that_lost_leases_takes_first_the_claims_of_those_who_run_what_they_claim(
    hosts: Hosts, stores: Stores
) -> None:
    before = await hosts.turn("a", claim={"c1": 0})
    assert before.holders is not None
    fence = before.holders["c1"][1]
    await stores._redis.run(("FLUSHDB",))
    await hosts.turn("b", newest=before.newest, alone=False, claim={"c1": 0})  # it knew of a
    assert await hosts.holders() == {}
    after = await hosts.turn("a", newest=before.newest, alone=False, claim={"c1": fence})
    assert after.holders == {"c1": ("a", fence)}
    assert after.newest > before.newest
    (ttl,) = await stores._redis.run(("PTTL", names.LEASES_SETTLING))
    assert 0 < ttl <= TTL * 1000


async def test_a_host_that_was_alone_need_not_wait_when_redis_lost_all(hosts: Hosts, stores: Stores) -> None:
    before = await hosts.turn("a", claim={"c1": 0})
    await stores._redis.run(("FLUSHDB",))
    after = await hosts.turn("a", newest=before.newest, alone=True, claim={"new": 0})
    assert after.holders is not None
    assert after.holders.keys() == {"new"}


async def test_hosts_are_told_again_only_when_one_comes_changes_or_ends(hosts: Hosts, stores: Stores) -> None:
    first = await hosts.turn("a")
    pretended = {"a": first.hosts["a"]}
    same = await hosts.turn("a", seen=first.seen, hosts=pretended)
    assert same.hosts == pretended
    await stores.leases.drain("a", is_drained=True)
    assert (await hosts.turn("a", seen=first.seen, hosts=pretended)).hosts["a"].drained
    await hosts.turn("b")
    both = await hosts.turn("a", seen=first.seen, hosts=pretended)
    assert both.hosts.keys() == {"a", "b"}
    await hosts.die("b")
    await hosts.turn("c")  # as many as before
    assert (await hosts.turn("a", seen=both.seen, hosts=both.hosts)).hosts.keys() == {"a", "c"}
    await hosts.die("c")
    assert (await hosts.turn("a", seen=both.seen, hosts=both.hosts)).hosts.keys() == {"a"}


async def test_every_key_but_the_fence_and_the_drained_has_a_ttl(hosts: Hosts, stores: Stores) -> None:
    await hosts.turn("a", claim={"c1": 0})
    await stores.leases.drain("a", is_drained=True)
    (keys,) = await stores._redis.run(("KEYS", "*"))
    ttls = dict(zip(keys, await stores._redis.run(*(("TTL", key) for key in keys)), strict=True))
    assert {key for key, ttl in ttls.items() if ttl < 0} == {names.LEASE_FENCE, names.DRAINED_HOSTS}
    assert names.LEASES in ttls


async def test_who_ran_a_channel_is_remembered_as_its_log_lies_there(hosts: Hosts, stores: Stores) -> None:
    redis = stores._redis
    await redis.run(*(("SET", names.channel_properties(id), "{}") for id in ("c1", "c2")))
    assert await stores.leases.hosts_of(["c1"]) == {}
    await hosts.turn("a", claim={"c1": 0, "c2": 0, "deleted": 0})
    assert await stores.leases.hosts_of(["c1"]) == {"a": True}
    await hosts.turn("a", release=["c1", "deleted"])  # moved
    await hosts.turn("b", claim={"c1": 0})
    assert await stores.leases.hosts_of(["c1"]) == {"b": True, "a": True}
    await hosts.die("a")
    await hosts.turn("b", claim={"c2": 0})  # taken over
    assert await stores.leases.hosts_of(["c2", "c1"]) == {"b": True, "a": False}
    await stores.leases.leave("b", await hosts.fences(["c2"]))
    assert await stores.leases.hosts_of(["c2"]) == {"b": False, "a": False}
    kept = await redis.run(*(("TTL", names.hosts_of(id)) for id in ("c1", "c2", "deleted")))
    assert (kept[0] > 0, kept[1] > 0, kept[2]) == (True, True, -2)
    for number in range(2 * leases.MOST_HOSTS):
        await hosts.turn(f"h{number}", claim={"c2": 0})
        await hosts.turn(f"h{number}", release=["c2"])
    assert len(await stores.leases.hosts_of(["c2"])) == leases.MOST_HOSTS


async def test_one_id_is_one_hosts(hosts: Hosts, settings: Settings) -> None:
    await hosts.turn("a", claim={"c1": 0})
    with pytest.raises(HostTaken, match="under the host id 'a', on machine"):
        await hosts.turn("a", place="elsewhere", claim={"c2": 0})
    assert await hosts.holders() == {"c1": "a"}
    await leases.check(settings.redis, 5, "a", "place of a")  # it is the one that was here before

    async def renew() -> None:
        while True:
            await hosts.turn("a")
            await asyncio.sleep(0.1)

    renewing = asyncio.create_task(renew())
    with pytest.raises(StartupError, match="give each its own"):
        await leases.check(settings.redis, 5, "a", "elsewhere")
    renewing.cancel()
    await hosts.turn("a", ttl=0.5)
    await leases.check(settings.redis, 5, "a", "elsewhere")  # it was over
    assert (await eventually(lambda: hosts.turn("a", place="elsewhere"))).hosts.keys() >= {"a"}


@pytest.mark.parametrize("seed", range(3 * THOROUGH))
async def test_the_simulated_redis_answers_as_the_script_does(hosts: Hosts, stores: Stores, seed: int) -> None:
    """So what bench/fleet.py finds with it holds. Fences are compared by their order, changes by what they tell."""
    dice, simulated = random.Random(seed), SimulatedRedis()
    there, ids = [f"h{n}" for n in range(4)], [f"c{n}" for n in range(8)]
    known: dict[str, Any] = dict.fromkeys(there, ("", "", 0, 0, {}))
    for _ in range(60):
        host = dice.choice(there)
        real_seen, simulated_seen, real_newest, simulated_newest, living = known[host]
        claim = {id: dice.choice([0, 0, 0, 1]) for id in dice.sample(ids, dice.randint(0, 3))}
        released, late, has_broker = dice.sample(ids, 2), dice.random() < 0.3, dice.choice([True, True, True, False, None])
        asked: dict[str, Any] = {
            "alone": dice.random() < 0.3, "ttl": TTL, "place": f"place of {host}",
        }  # fmt: skip
        real = await hosts.turn(
            host, release=await hosts.fences(released, late), seen=real_seen, newest=real_newest, hosts=living,
            claim={id: fence and real_newest for id, fence in claim.items()}, has_broker=has_broker, **asked,
        )  # fmt: skip
        entry = HostEntry(host, capacity=7, labels={"site": "north"}, has_broker=has_broker, name="machine")
        told = simulated.turn(
            1, entry, release=fences_of(simulated, released, late), seen=simulated_seen, newest=simulated_newest,
            claim={id: fence and simulated_newest for id, fence in claim.items()}, **asked,
        )  # fmt: skip
        assert (real.hosts, _told(real)) == (told.hosts, _told(told))
        known[host] = real.seen, told.seen, real.newest, told.newest, real.hosts
        match dice.randrange(12):
            case 0:
                dead = dice.choice(there)
                await hosts.die(dead)
                simulated.hosts.pop(dead, None)
            case 1:
                leaving, some = dice.choice(there), dice.sample(ids, 2)
                await stores.leases.leave(leaving, await hosts.fences(some))
                simulated.leave(1, leaving, fences_of(simulated, some))
            case 2:
                drained = dice.choice(there)
                await stores._redis.run(("SADD", names.DRAINED_HOSTS, drained))
                simulated.drained.add(drained)
            case 3 if dice.random() < 0.3:
                await stores._redis.run(("FLUSHDB",))
                simulated = simulated.emptied()


def fences_of(redis: SimulatedRedis, ids: Iterable[str], late: bool = False) -> dict[str, int]:
    return {id: redis.leases[id][1] - late if id in redis.leases else 0 for id in ids}


def _told(turn: Turn) -> tuple[Any, ...]:
    def ranked(leases: Mapping[str, Lease | None]) -> dict[str, Any]:
        fences = sorted({lease[1] for lease in leases.values() if lease})
        return {id: lease and (lease[0], fences.index(lease[1])) for id, lease in leases.items() if id}

    return turn.holders is None, ranked(turn.holders or {}), ranked(turn.changes)


async def test_a_host_that_runs_a_shard_is_known_to_have_a_part_of_the_channels_log(hosts: Hosts, stores: Stores) -> None:
    await stores._redis.run(("SET", names.channel_properties("c"), "{}"))
    await hosts.turn("a", claim={"c": 0})
    await hosts.turn("b", claim={"c~1": 0})
    assert (await stores.leases.hosts_of(["c"])).keys() == {"a", "b"}
    assert (await stores.leases.hosts_of(["c", "c~1"])).keys() == {"a", "b"}
    (keys,) = await stores._redis.run(("KEYS", "*~*"))
    assert keys == []
