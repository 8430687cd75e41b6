"""The laboratory's small form, in every run of the tests: hosts are processes, to be killed and stopped, but not cut off."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.blackbox.conftest import QUICK, server_flags
from tests.cluster.lab import Host, Net
from tests.cluster.world import World, flags
from tests.servers import RabbitmqServer, RedisServer

LEASE = 4.0


@pytest.fixture(scope="module")
def world(redis_server_shared: RedisServer, rabbitmq: RabbitmqServer) -> Iterator[World]:
    net = Net(is_cuttable=False)
    own = flags(LEASE, {**QUICK, **server_flags(redis_server_shared, rabbitmq)})
    hosts = [Host(net.machine(), id, own) for id in "ab"]
    try:
        yield World(net, hosts, LEASE)
        for host in hosts:
            host.stop()
            assert "Traceback" not in host.junebug.output()
    finally:
        for host in hosts:
            host.destroy()
        net.close()


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
