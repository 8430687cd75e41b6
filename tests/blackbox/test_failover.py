"""A whole Junebug on a Redis that sentinels watch: its master is killed under traffic."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.blackbox.conftest import Channels, running_jb
from tests.blackbox.world import each_arrives, each_has_its_event, is_healthy, listening, load_on
from tests.harness import JunebugProcess, WebhookSink, run_command
from tests.sentinels import MASTER, Fleet, fleet
from tests.servers import RabbitmqServer


@pytest.fixture(scope="module")
def servers() -> Iterator[Fleet]:
    with fleet() as servers:
        yield servers


@pytest.fixture(scope="module")
def junebug(servers: Fleet, rabbitmq: RabbitmqServer) -> Iterator[JunebugProcess]:
    sentinels = {"redis-sentinels": ",".join(servers.settings.sentinels), "redis-master-name": MASTER}
    with rabbitmq.own_vhost():
        amqp = {"amqp-hosts": f"127.0.0.1:{rabbitmq.port},127.0.0.1:1", "amqp-vhost": rabbitmq.vhost}
        with running_jb({**sentinels, **amqp, "request-timeout": 3}) as junebug:
            yield junebug


@pytest.fixture
async def channels(junebug: JunebugProcess, sink: WebhookSink) -> AsyncIterator[Channels]:
    made = Channels(junebug.api, sink)
    yield made
    await made.delete_all()


async def test_nothing_that_was_accepted_is_lost_with_the_master(
    servers: Fleet, junebug: JunebugProcess, channels: Channels, sink: WebhookSink
) -> None:
    channel = await channels.telnet()
    async with listening(channel, sink) as peer:
        async with load_on(channel, peer.client.address, sink) as load:
            master = await asyncio.to_thread(servers.master)
            await asyncio.to_thread(master.kill)
            await is_healthy(junebug.api)
            await load.more()
        await each_arrives(load, lambda: peer.heard)
        await each_has_its_event(load, sink)
    assert (await asyncio.to_thread(servers.master)) is not master
    assert (await channel.get())["id"] == channel.id


def test_the_command_line_finds_the_master(servers: Fleet, short_dir: Path) -> None:
    flags = ["--redis-sentinels", ",".join(servers.settings.sentinels), "--redis-master-name", MASTER]
    for command in (["tokens", "list"], ["hosts", "list"], ["backup", str(short_dir / "backup")]):
        done = run_command("junebug", *command, *flags, cwd=short_dir)
        assert done.returncode == 0, done.stderr
