"""The laboratory's small form, in every run of the tests: hosts are processes, to be killed and stopped, but not cut off."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.blackbox.conftest import QUICK, server_flags
from tests.cluster.lab import Net
from tests.cluster.world import World, hosts_on
from tests.servers import RabbitmqServer, RedisServer

LEASE = 4.0


@pytest.fixture(scope="module")
def world(redis_server_shared: RedisServer, rabbitmq: RabbitmqServer) -> Iterator[World]:
    where = {**QUICK, **server_flags(redis_server_shared, rabbitmq)}
    with closing(Net(is_cuttable=False)) as net, hosts_on(net, "ab", LEASE, where) as world:
        yield world
        for host in world.hosts:
            host.stop()
            assert "Traceback" not in host.junebug.output()


async def test_the_channels_of_a_killed_host_go_on_elsewhere_and_nothing_is_lost(world: World) -> None:
    async with world.scenario("killed") as at:
        at.hit()
        await asyncio.to_thread(at.victim.kill)
        await at.resumed()
        await asyncio.to_thread(world.heal)


async def test_a_stopped_host_sends_nothing_when_it_wakes(world: World) -> None:
    async with world.scenario("paused") as at:
        links = at.hit()
        await asyncio.to_thread(at.victim.pause)
        await at.resumed()
        assert not [link for link in links if link.is_open]  # closed by the kernel at the lease's end, while they were stopped
        at.victim.resume()
