"""Redis and RabbitMQ that fail over under traffic: three machines with a node of RabbitMQ and a Sentinel each, and two Redises.

The servers are tried by themselves, and with Junebug on them once it has the settings that name them all (SETTINGS).
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from junebug.config.declaration import OPTIONS
from tests.cluster.lab import REDIS_PORT, SENTINEL_PORT, Machine, Net, Rabbitmq, Redis, Sentinel, why_not
from tests.cluster.world import MORE, World, hosts_on
from tests.polling import eventually, eventually_blocking

LEASE = float(os.environ.get("JUNEBUG_TEST_CLUSTER", "0"))
SETTINGS = {"redis.sentinels", "amqp.hosts"}
MASTER = "junebug"

pytestmark = [
    pytest.mark.skipif(not LEASE, reason="minutes, most of them waiting: `make test-cluster` runs them"),
    pytest.mark.skipif(bool(LEASE and why_not()), reason=why_not() if LEASE else ""),
]
with_junebug = pytest.mark.skipif(
    not {option.name for option in OPTIONS} >= SETTINGS, reason=f"this Junebug has not all of {sorted(SETTINGS)}"
)


@dataclass
class Servers:
    net: Net
    machines: list[Machine]
    rabbitmqs: list[Rabbitmq]
    redises: list[Redis]
    sentinels: list[Sentinel]

    def start(self) -> None:
        """All that does not run; nodes of RabbitMQ wait for each other."""
        for each in (*self.redises, *self.sentinels, *self.rabbitmqs):
            if not each.answers():
                each.kill()
                each.start(wait=False)
        for each in (*self.redises, *self.sentinels, *self.rabbitmqs):
            each.wait_ready()

    def primary(self) -> str:
        """Its address, as most Sentinels say."""
        said = [ask(each.host, SENTINEL_PORT, f"SENTINEL get-master-addr-by-name {MASTER}") for each in self.sentinels]
        found = [address for answer in said for address in re.findall(r"[\d.]{7,}", answer)]
        return max(found, key=found.count, default="")

    def nodes(self) -> int:
        """How many nodes of RabbitMQ run, as the first of them says."""
        return len(re.findall(r"junebug@", self.rabbitmqs[0].erlang("rabbit_mnesia:cluster_nodes(running)")))


def ask(host: str, port: int, command: str) -> str:
    """Redis' answer; empty: there is none."""
    try:
        with socket.create_connection((host, port), 1) as link:
            link.settimeout(1)
            link.sendall(f"{command}\r\n".encode())
            return link.recv(65536).decode()
    except OSError:
        return ""


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    net = Net()
    machines = [net.machine() for _ in range(3)]
    peers = [machine.address for machine in machines]
    redises = [Redis(machines[0]), Redis(machines[1], follows=peers[0])]
    rabbitmqs = [Rabbitmq(each, peers) for each in machines]
    sentinels = [Sentinel(each, peers[0]) for each in machines]
    found = Servers(net, machines, rabbitmqs, redises, sentinels)
    try:
        rabbitmqs[0].start()  # at once, none would find another to join
        found.start()
        eventually_blocking(lambda: found.nodes() == 3, what="the cluster")
        replicated = f"slave0:ip={peers[1]},port={REDIS_PORT},state=online"
        eventually_blocking(lambda: replicated in ask(peers[0], REDIS_PORT, "INFO replication"), what="the replica")
        others, question = "num-other-sentinels\r\n$1\r\n2\r\n", f"SENTINEL master {MASTER}"
        eventually_blocking(lambda: all(others in ask(each, SENTINEL_PORT, question) for each in peers), what="Sentinels")
        yield found
    finally:
        for each in (*found.sentinels, *found.redises, *found.rabbitmqs):
            each.destroy()
        net.close()


@pytest.fixture(scope="module", params=["classic", "quorum"])
def world(servers: Servers, request: pytest.FixtureRequest) -> Iterator[World]:
    where = {
        "amqp-queue-type": request.param,
        "redis-sentinels": ",".join(each.host for each in servers.sentinels), "redis-master-name": MASTER,
        "amqp-hosts": ",".join(each.host for each in servers.rabbitmqs),
    }  # fmt: skip
    with hosts_on(servers.net, "abc", LEASE, where) as world:
        yield world


async def test_sentinels_make_the_replica_the_primary(servers: Servers) -> None:
    await asyncio.to_thread(servers.start)
    before = servers.primary()
    victim = next(each for each in servers.redises if each.host == before)
    await asyncio.to_thread(victim.kill)
    await eventually(lambda: servers.primary() not in ("", before), what="the failover")
    assert "role:master" in ask(servers.primary(), REDIS_PORT, "INFO replication")
    await asyncio.to_thread(servers.start)
    await eventually(lambda: "role:slave" in ask(before, REDIS_PORT, "INFO replication"), what="it follows")


async def test_a_cluster_goes_on_without_a_node(servers: Servers) -> None:
    await asyncio.to_thread(servers.rabbitmqs[2].kill)
    await eventually(lambda: servers.nodes() == 2, what="two nodes")
    await asyncio.to_thread(servers.start)
    await eventually(lambda: servers.nodes() == 3, what="three nodes")


@with_junebug
async def test_redis_fails_over_under_traffic(world: World, servers: Servers) -> None:
    async with world.scenario("Redis failed over", is_fenced=False) as at:
        before = servers.primary()
        at.hit()
        await asyncio.to_thread(next(each for each in servers.redises if each.host == before).kill)
        await eventually(lambda: servers.primary() not in ("", before), what="the failover")
        await at.traffic.more(MORE)
        await asyncio.to_thread(servers.start)


@with_junebug
async def test_each_node_of_rabbitmq_is_killed_under_traffic(world: World, servers: Servers) -> None:
    """One after the other. A classic queue is on one node, and away with it: its channel's messages are refused, none is lost. Of
    quorum queues, those of MOs and events among them, nothing is lost either, though their leaders are killed.
    """
    async with world.scenario("RabbitMQ failed over", is_fenced=False, receives=True) as at:
        at.hit()
        for node in servers.rabbitmqs:
            await asyncio.to_thread(node.kill)
            await asyncio.to_thread(servers.start)
            await eventually(lambda: servers.nodes() == 3, what="three nodes")
            await at.traffic.more(MORE)
