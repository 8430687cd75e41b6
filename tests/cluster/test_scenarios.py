"""What is promised of several hosts, from outside: nothing lost, no two binds at once, no PDU after the fence.

Minutes, most of it waiting: `make test-cluster` runs it. JUNEBUG_TEST_CLUSTER: the hosts' lease_ttl, in seconds.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.cluster.lab import Net, Rabbitmq, Redis, why_not
from tests.cluster.world import MORE, World, hosts_on

LEASE = float(os.environ.get("JUNEBUG_TEST_CLUSTER", "0"))
CUT, PAUSE = 3 * LEASE, 2 * LEASE
"""Seconds."""

pytestmark = [
    pytest.mark.skipif(not LEASE, reason="minutes, most of them waiting: `make test-cluster` runs them"),
    pytest.mark.skipif(bool(LEASE and why_not()), reason=why_not() if LEASE else ""),
]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with closing(Net()) as net:
        redis, rabbitmq = Redis(net.machine()), Rabbitmq(net.machine())
        try:
            redis.start(wait=False)
            rabbitmq.start()
            redis.wait_ready()
            with hosts_on(net, "abc", LEASE, {"redis-host": redis.host, "amqp-host": rabbitmq.host}) as world:
                yield world
        finally:
            for each in (rabbitmq, redis):
                each.destroy()


async def test_a_host_is_killed(world: World) -> None:
    async with world.scenario("killed") as at:
        at.hit()
        await asyncio.to_thread(at.victim.kill)
        await at.resumed()
        await asyncio.to_thread(world.heal)


async def test_a_machine_loses_power(world: World) -> None:
    async with world.scenario("no power") as at:
        at.hit()
        at.victim.cut()
        await asyncio.to_thread(at.victim.kill)
        await at.resumed()
        await asyncio.to_thread(world.heal)


@pytest.mark.parametrize(("name", "ways"), [("cut", {}), ("cut inward", {"outward": False}), ("cut outward", {"inward": False})])
async def test_the_net_of_a_host_is_cut(world: World, name: str, ways: dict[str, bool]) -> None:
    async with world.scenario(name) as at:
        at.hit()
        at.victim.cut(**ways)
        await at.resumed()
        await at.lasting(CUT)
        at.victim.heal()


async def test_a_host_cannot_reach_redis(world: World) -> None:
    async with world.scenario("cut from Redis") as at:
        at.hit()
        at.victim.cut(peers=[str(at.victim.junebug.flags["redis-host"])])
        await at.resumed()
        await at.lasting(CUT)
        at.victim.heal()


async def test_a_host_cannot_reach_rabbitmq(world: World) -> None:
    async with world.scenario("cut from RabbitMQ", is_fenced=False) as at:
        at.hit()
        at.victim.cut(peers=[str(at.victim.junebug.flags["amqp-host"])])
        await at.resumed()
        await at.lasting(CUT)
        at.victim.heal()


async def test_a_host_stands_still_and_wakes(world: World) -> None:
    async with world.scenario("paused") as at:
        at.hit()
        await asyncio.to_thread(at.victim.pause)
        await at.resumed()
        await at.lasting(PAUSE)
        at.victim.resume()


async def test_a_host_ends(world: World) -> None:
    async with world.scenario("SIGTERM") as at:
        at.hit()
        await asyncio.to_thread(at.victim.stop)
        await at.resumed()
        await asyncio.to_thread(world.heal)


async def test_a_host_is_drained(world: World) -> None:
    async with world.scenario("drained", is_fenced=False) as at:
        at.hit()
        await asyncio.to_thread(at.victim.drain)
        await at.resumed()
        await at.traffic.more(MORE)
        await asyncio.to_thread(at.victim.drain, off=True)
