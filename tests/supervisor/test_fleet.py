"""Hosts that come, end, hang and are cut off, with the real `Leases` and placement on a simulated clock and network."""

from __future__ import annotations

import asyncio

import pytest

from bench.fleet import ANYWHERE, MOVES, TTL, Fleet, simulate
from junebug.stores.leases import HostEntry
from junebug.supervisor.reconcile import Running
from tests.harness import THOROUGH


@pytest.mark.parametrize("part", range(4))
def test_there_are_never_two_owners_whatever_happens_to_hosts(part: int) -> None:
    """And in the end all runs, in balance, after a bounded number of moves. More: `python -m bench.hosts schedules`."""
    for seed in range(part, 16 * THOROUGH, 4):
        simulate(seed)


def test_what_was_started_since_the_last_look_is_not_renewed_once_another_has_it() -> None:
    """The host hangs between its claim and its start for longer than its lease lasts."""

    async def story(fleet: Fleet) -> None:
        host, loop = fleet.hosts[0], fleet.loop
        mine = host.new_leases()
        await mine._turn()
        assert await mine.share({"c1": ANYWHERE}, {}) == {"c1"}
        await asyncio.sleep(2 * TTL)
        fleet.redis.turn(loop.time(), HostEntry("other"), "elsewhere", TTL, claim={"c1": 0})
        host.supervisor.start(["c1"], mine.launch)
        await mine._turn()
        assert fleet.redis.leases["c1"][0] == "other"
        assert host.clock() > host.supervisor.processes["c1"].until

    simulate(1, story)


def test_a_redis_that_is_emptied_twice_does_not_make_a_host_believe_that_it_is_alone() -> None:
    """After the first time the others have not said yet that they live."""

    async def story(fleet: Fleet) -> None:
        mine, loop, other = fleet.hosts[0].new_leases(), fleet.loop, HostEntry("other")
        fleet.redis.turn(loop.time(), other, "elsewhere", TTL, claim={"c1": 0})
        await mine._turn()
        assert await mine.share({"c1": ANYWHERE, "c2": ANYWHERE}, {}) == {"c2"}
        for _ in range(2):
            fleet.redis = fleet.redis.emptied()
            await mine._turn()
            assert await mine.share({"c1": ANYWHERE, "c2": ANYWHERE}, {}) == {"c2"}

    simulate(1, story)


def test_a_new_reconciler_renews_nothing_that_another_host_has_taken_before_its_first_look() -> None:
    async def story(fleet: Fleet) -> None:
        host = fleet.hosts[0]
        first = host.new_leases()
        await first._turn()
        assert await first.share({"c1": ANYWHERE}, {}) == {"c1"}
        host.supervisor.start(["c1"], first.launch)
        await asyncio.sleep(2 * TTL)
        fleet.redis.turn(fleet.loop.time(), HostEntry("other"), "elsewhere", TTL, claim={"c1": 0})
        await host.new_leases()._turn()
        assert host.clock() > host.supervisor.processes["c1"].until

    simulate(1, story)


def test_who_was_away_for_longer_than_its_leases_does_not_claim_again_what_it_had() -> None:
    """Redis was emptied meanwhile, and who has taken it over has not said so yet."""

    async def story(fleet: Fleet) -> None:
        mine, loop, other = fleet.hosts[0].new_leases(), fleet.loop, HostEntry("other")
        fleet.redis.turn(loop.time(), other, "elsewhere", TTL)
        await mine._turn()
        assert await mine.share({"c1": ANYWHERE}, {}) == {"c1"}
        await asyncio.sleep(2 * TTL)
        fleet.redis.turn(loop.time(), other, "elsewhere", TTL, claim={"c1": 0})
        fleet.redis = fleet.redis.emptied()
        await mine._turn()
        assert await mine.share({"c1": ANYWHERE}, {}) == set()

    simulate(1, story)


def test_who_was_alone_and_away_claims_nothing_of_an_emptied_redis_before_others_had_time_to_say_what_they_run() -> None:
    """One came while Redis could not be reached from here; it is seed 3575 of the schedules."""

    async def story(fleet: Fleet) -> None:
        mine, loop, other = fleet.hosts[0].new_leases(), fleet.loop, HostEntry("other")
        await mine._turn()
        assert await mine.share({"c1": ANYWHERE}, {}) == {"c1"}
        await asyncio.sleep(2 * TTL)
        fleet.redis.turn(loop.time(), other, "elsewhere", TTL, claim={"c2": 0})
        fleet.redis = fleet.redis.emptied()
        await mine._turn()
        needs = {"c1": ANYWHERE, "c2": ANYWHERE}
        assert await mine.share(needs, {"c1": Running("RUNNING", pid=1)}) == {"c1"}  # it runs here, so it is no other's
        await asyncio.sleep(TTL)
        await mine._turn()
        assert {*await mine.share(needs, {"c1": Running("RUNNING", pid=1)})} == {"c1", "c2"}  # nobody has said anything

    simulate(1, story)


def test_a_host_without_rabbitmq_gives_all_it_runs_to_those_that_have_it_and_has_its_share_again_with_it() -> None:
    """At once, however few may move in a minute: they wait where they are."""

    async def story(fleet: Fleet) -> None:
        fleet.needs = {f"c{n}": ANYWHERE for n in range(3 * MOVES)}
        fleet.hosts = fleet.hosts[:3]
        first, *others = fleet.hosts
        for host in fleet.hosts:
            host.labels = {}
            host.start()
        await asyncio.sleep(300)
        runs = {host.id: len(host.supervisor.running()) for host in fleet.hosts}
        assert set(runs.values()) == {MOVES}
        first.reach_broker(False)
        await asyncio.sleep(TTL)
        assert len(first.supervisor.running()) == MOVES  # it may come back
        await asyncio.sleep(TTL)
        fleet._check()
        assert not first.supervisor.running()
        assert [len(host.supervisor.running()) for host in others] == [MOVES * 3 // 2] * 2
        first.reach_broker(True)
        await asyncio.sleep(240)
        fleet._check()
        fleet._check_end()

    simulate(1, story)


def test_a_rabbitmq_that_is_away_for_all_moves_nothing_nor_does_its_coming_back_to_one_first() -> None:
    async def story(fleet: Fleet) -> None:
        fleet.needs = dict.fromkeys(fleet.needs, ANYWHERE)
        for host in fleet.hosts:
            host.labels = {}
            host.start()
        await asyncio.sleep(300)
        before = [{*host.supervisor.processes} for host in fleet.hosts]
        for host in fleet.hosts:
            host.reach_broker(False)
        await asyncio.sleep(5 * TTL)
        fleet.hosts[0].reach_broker(True)
        await asyncio.sleep(TTL * 0.8)
        for host in fleet.hosts:
            host.reach_broker(True)
        await asyncio.sleep(5 * TTL)
        assert [{*host.supervisor.processes} for host in fleet.hosts] == before
        assert all(before)

    simulate(1, story)


def test_shards_that_are_wanted_no_more_are_waited_for_and_their_leases_do_not_stay() -> None:
    """One runs on a host that lives, one was a dead host's."""

    async def story(fleet: Fleet) -> None:
        mine, other, dead = fleet.hosts[0].new_leases(), HostEntry("other"), HostEntry("dead")
        fleet.redis.turn(fleet.loop.time(), dead, "elsewhere", TTL, claim={"c~2": 0})
        await asyncio.sleep(2 * TTL)
        fleet.redis.turn(fleet.loop.time(), other, "elsewhere", TTL, claim={"c~1": 0})
        await mine._turn()
        await mine.share({"c": ANYWHERE}, {})
        assert mine.has_shards("c")
        fence = fleet.redis.leases["c~1"][1]
        fleet.redis.turn(fleet.loop.time(), other, "elsewhere", TTL, release={"c~1": fence})
        await mine._turn()
        assert not mine.has_shards("c")
        for _ in range(8):  # what a dead host had may be running for a while
            await asyncio.sleep(TTL / 4)
            await mine._turn()
            await mine.share({"c": ANYWHERE}, {})
        assert fleet.redis.leases.keys() <= {"c"}

    simulate(1, story)
