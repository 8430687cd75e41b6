"""Redis and RabbitMQ killed, frozen, emptied under load; processes killed at random: what got a 201 arrives (issue 2).

Servers of this module's own. Repeats are allowed where a link broke with a message in flight; losses never.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
import redis

from tests.blackbox.conftest import QUICK, Channels, server_flags
from tests.harness import (
    START_DEADLINE,
    Api,
    Channel,
    JunebugProcess,
    TelnetClient,
    WebhookSink,
    eventually,
)
from tests.servers import RabbitmqServer, RedisServer, Server, rabbitmq_server, redis_server

REQUEST_TIMEOUT = 3.0
MARGIN = 5.0
"""Seconds beyond request_timeout that a loaded machine may take to answer."""


@dataclass
class World:
    """A Junebug and the servers it lives on."""

    redis: RedisServer
    rabbitmq: RabbitmqServer
    junebug: JunebugProcess


@pytest.fixture(scope="module")
def module_world() -> Iterator[World]:
    directory = Path(tempfile.mkdtemp(prefix="jb-"))
    servers = (redis_server(), rabbitmq_server())
    junebug = None
    try:
        for server in servers:
            server.start()
        flags = {**server_flags(*servers, db=0), **QUICK, "request-timeout": REQUEST_TIMEOUT}
        junebug = JunebugProcess(directory, flags).start()
        yield World(*servers, junebug)
        assert junebug.stop() == 0
        assert "Traceback" not in junebug.output()
    finally:
        if junebug:
            junebug.destroy()
        for server in servers:
            server.destroy()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
async def world(module_world: World) -> AsyncIterator[World]:
    """The module's, whole again before and after the test, whatever that did."""
    await _healed(module_world)
    yield module_world
    await _healed(module_world)


async def _healed(world: World) -> None:
    for server in (world.redis, world.rabbitmq):
        server.signal(signal.SIGCONT)
        if not await asyncio.to_thread(server.answers):
            await asyncio.to_thread(server.restart)
    await is_healthy(world.junebug.api)


async def is_healthy(api: Api) -> None:
    async def ok() -> bool:
        return (await api.get("/health")).status == 200

    await eventually(ok, START_DEADLINE, "health ok")


@pytest.fixture
async def channels(world: World, sink: WebhookSink) -> AsyncIterator[Channels]:
    made = Channels(world.junebug.api, sink)
    yield made
    await _healed(world)
    await made.delete_all()


# --- load -------------------------------------------------------------------------------------------------------------


@dataclass
class Load:
    """Somebody who sends numbered texts to one address for as long as the block lasts, and counts the answers."""

    api: Api
    channel: Channel
    to: str
    event_url: str
    accepted: dict[str, str] = field(default_factory=dict)
    """Text -> message id of each that got a 201."""
    refused: int = 0
    slowest: float = 0.0

    async def run(self) -> None:
        n = 0
        async with self.api.kept_alive() as api:
            while True:
                n += 1
                text = f"text {n}"
                body = {"to": self.to, "content": text, "event_url": self.event_url}
                began = time.monotonic()
                try:
                    answer = await api.post(f"{self.channel.path}/messages/", body)
                except aiohttp.ClientError:
                    self.refused += 1  # the API process was killed with our request in its hands: no 201, no promise
                    continue
                self.slowest = max(self.slowest, time.monotonic() - began)
                if answer.status == 201:
                    self.accepted[text] = answer.result["message_id"]
                else:
                    assert answer.status == 503, answer
                    self.refused += 1
                await asyncio.sleep(0.002)

    async def more(self, count: int = 100) -> None:
        """When so many more were accepted."""
        wanted = len(self.accepted) + count
        await eventually(lambda: len(self.accepted) >= wanted, START_DEADLINE, f"{count} more 201s")


@asynccontextmanager
async def load_on(channel: Channel, to: str, sink: WebhookSink) -> AsyncIterator[Load]:
    load = Load(channel.api, channel, to, sink.url("/event"))
    task = asyncio.create_task(load.run())
    try:
        await load.more()
        yield load
        await load.more()
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Listener:
    """Keeps what a telnet client is shown."""

    def __init__(self, client: TelnetClient) -> None:
        self.client = client
        self.heard: Counter[str] = Counter()
        self._task = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        while line := await self.client.hear(timeout=3600):
            self.heard[line] += 1

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self.client.close()


@asynccontextmanager
async def listening(channel: Channel, sink: WebhookSink) -> AsyncIterator[Listener]:
    client = await channel.connect()
    listener = Listener(client)
    await sink.wait_for("/mo", lambda body: body["from"] == client.address)
    try:
        yield listener
    finally:
        await listener.close()


async def each_arrives(load: Load, heard: Callable[[], Counter[str]]) -> None:
    """Every text that got a 201 is heard; how often is printed."""
    await eventually(lambda: load.accepted.keys() <= heard().keys(), START_DEADLINE, "each accepted message")
    repeats = sum(heard().values()) - len(heard())
    print(f"\n{len(load.accepted)} accepted, {load.refused} refused, {repeats} repeated, slowest {load.slowest:.2f} s")


async def each_has_its_event(load: Load, sink: WebhookSink) -> None:
    def told() -> set[str]:
        return {body["message_id"] for body in sink.bodies("/event") if body["event_type"] == "submitted"}

    await eventually(lambda: set(load.accepted.values()) <= told(), START_DEADLINE, "each submitted event")


# --- servers ----------------------------------------------------------------------------------------------------------


def server_of(world: World, name: str) -> Server:
    return world.redis if name == "redis" else world.rabbitmq


@pytest.mark.parametrize("name", ["rabbitmq", "redis"])
async def test_a_server_killed_and_restarted_under_load_loses_nothing(
    world: World, channels: Channels, sink: WebhookSink, name: str
) -> None:
    channel = await channels.telnet()
    pid = await channel.pid()
    api, server = world.junebug.api, server_of(world, name)
    async with listening(channel, sink) as peer:
        async with load_on(channel, peer.client.address, sink) as load:
            await asyncio.to_thread(server.kill)
            refused = load.refused
            await eventually(lambda: load.refused > refused, what="a 503")
            health = await api.get("/health")
            away, there = ("redis", "amqp") if name == "redis" else ("amqp", "redis")
            assert health.status == 503
            assert health.result[away] == "down"
            assert health.result[there] == "ok"
            assert any(word in str(health.errors).lower() for word in (name, away))
            for n in range(20):
                await peer.client.say(f"from the phone {n}")  # nothing that a phone says is lost, either
            await asyncio.to_thread(server.start)
        await each_arrives(load, lambda: peer.heard)
        assert load.slowest < REQUEST_TIMEOUT + MARGIN
        assert peer.client.is_open
        await eventually(
            lambda: {f"from the phone {n}" for n in range(20)} <= {body["content"] for body in sink.bodies("/mo")},
            START_DEADLINE, "each MO",
        )  # fmt: skip
        await each_has_its_event(load, sink)
    assert await channel.pid() == pid, "the channel was restarted"
    contents = Counter(body["content"] for body in sink.bodies("/mo") if body["content"])
    assert max(contents.values()) <= 2

    async def all_ok() -> bool:
        return (await channel.status())["status"] == "ok"

    await eventually(all_ok)


@pytest.mark.parametrize("name", ["rabbitmq", "redis"])
async def test_while_a_server_hangs_the_api_answers_503_within_its_timeout(
    world: World, channels: Channels, sink: WebhookSink, name: str
) -> None:
    channel = await channels.loopback()
    api, server = world.junebug.api, server_of(world, name)
    server.signal(signal.SIGSTOP)
    try:
        assert not await asyncio.to_thread(server.answers)
        began = time.monotonic()
        send, health, create = await asyncio.gather(
            api.post(f"{channel.path}/messages/", {"to": "+27", "content": "x"}),
            api.get("/health"),
            api.post("/channels/", {"type": "loopback", "config": {}}),
        )
        took = time.monotonic() - began
    finally:
        server.signal(signal.SIGCONT)
    assert [send.status, health.status, create.status] == [503, 503, 503]
    assert send.description == "service unavailable"
    assert health.result["redis" if name == "redis" else "amqp"] == "down"
    assert took < REQUEST_TIMEOUT + MARGIN
    await is_healthy(api)

    async def works() -> bool:
        return (await api.post(f"{channel.path}/messages/", {"to": "+27", "content": "again"})).status == 201

    await eventually(works)
    await sink.wait_content("/mo", "again")


@pytest.mark.parametrize("name", ["rabbitmq", "redis"])
async def test_the_status_tells_that_a_server_was_away(
    world: World, channels: Channels, sink: WebhookSink, name: str
) -> None:
    channel = await channels.loopback(status_url=sink.url("/status"))
    await sink.wait("/status", 4)
    component = "redis" if name == "redis" else "amqp"
    server = server_of(world, name)
    await asyncio.to_thread(server.kill)
    await sink.wait_for("/status", lambda body: (body["component"], body["status"]) == (component, "down"))
    before = len(sink.requests("/status"))
    await asyncio.to_thread(server.start)

    def is_told() -> bool:
        later = sink.bodies("/status")[before:]
        return any((body["component"], body["status"]) == (component, "ok") for body in later)

    await eventually(is_told, START_DEADLINE)

    async def is_ok() -> bool:
        return (await channel.component(component)).get("status") == "ok"

    await eventually(is_ok, START_DEADLINE)


async def test_an_emptied_redis_is_filled_again_and_no_session_is_cut(
    world: World, channels: Channels, sink: WebhookSink
) -> None:
    made = [await channels.telnet(label=f"number {n}") for n in range(3)]
    pids = {channel.id: await channel.pid() for channel in made}
    async with await made[0].connect() as client:
        await sink.wait("/mo")
        with redis.Redis(port=world.redis.port) as store:
            store.flushall()

        async def is_back() -> bool:
            ids = (await made[0].api.get("/channels/")).result
            return {channel.id for channel in made} <= set(ids)

        await eventually(is_back)
        for channel in made:

            async def tells(one: Channel = channel) -> bool:
                return {"telnet", "worker", "amqp", "redis"} <= (await one.status())["components"].keys()

            await eventually(tells)
            assert (await channel.get())["label"] == channel.created["label"]
        await client.say("session kept")
        await sink.wait_content("/mo", "session kept")
        await made[0].send(client.address, "and it hears")
        assert await client.hear() == "and it hears"
    assert {channel.id: await channel.pid() for channel in made} == pids


async def test_a_redis_that_comes_back_empty_is_filled_again(
    world: World, channels: Channels, sink: WebhookSink
) -> None:
    channel = await channels.telnet()
    async with await channel.connect() as client:
        await sink.wait("/mo")
        await asyncio.to_thread(world.redis.kill)
        shutil.rmtree(world.redis.directory / "redis")
        await asyncio.to_thread(world.redis.start)

        async def is_back() -> bool:
            answer = await channel.api.get("/channels/")
            return answer.status == 200 and channel.id in answer.result

        await eventually(is_back, START_DEADLINE)
        await client.say("session kept")
        await sink.wait_content("/mo", "session kept")


async def test_what_waits_for_a_dead_application_survives_a_restart_of_rabbitmq(
    world: World, channels: Channels, sink: WebhookSink
) -> None:
    channel = await channels.loopback()
    await sink.close()
    sent = {(await channel.send("+27", str(n), event_url=sink.url("/event")))["content"] for n in range(30)}
    await asyncio.to_thread(world.rabbitmq.restart)
    await sink.start()
    await eventually(lambda: {body["content"] for body in sink.bodies("/mo")} == sent, START_DEADLINE)
    await sink.wait("/event", 60, START_DEADLINE)


# --- processes --------------------------------------------------------------------------------------------------------


async def killing(times: int, victim: Callable[[], Awaitable[int]], load: Load) -> None:
    """SIGKILL the process that `victim` names, again and again, at random moments of the load."""
    for _ in range(times):
        pid = await victim()
        os.kill(pid, signal.SIGKILL)
        await load.more(random.randint(30, 80))


async def test_the_api_killed_under_load_loses_nothing_that_it_accepted(
    world: World, channels: Channels, sink: WebhookSink
) -> None:
    channel = await channels.telnet()

    async def api_pid() -> int:
        return int(await eventually(lambda: world.junebug.pid_titled("junebug: api:1")))

    async with listening(channel, sink) as peer:
        async with load_on(channel, peer.client.address, sink) as load:
            await killing(3, api_pid, load)
        await each_arrives(load, lambda: peer.heard)
        assert peer.client.is_open
        assert not [line for line, count in peer.heard.items() if count > 1], "sent twice"
        await each_has_its_event(load, sink)


async def test_a_channel_killed_at_random_under_load_loses_nothing(
    world: World, channels: Channels, sink: WebhookSink
) -> None:
    channel = await channels.loopback({"delivery_reports": False})

    async def worker_pid() -> int:
        return int(await eventually(lambda: world.junebug.channel_pids().get(channel.id, 0)))

    def heard() -> Counter[str]:
        return Counter(body["content"] for body in sink.bodies("/mo"))

    async with load_on(channel, "+27", sink) as load:
        await killing(3, worker_pid, load)  # more would be a crash loop, which backs off
    await each_arrives(load, heard)
    await each_has_its_event(load, sink)
    assert load.refused == 0


async def _kill_reconciler(junebug: JunebugProcess) -> None:
    """And wait for the next."""
    pid = junebug.pid_titled("junebug: reconciler")
    os.kill(pid, signal.SIGKILL)
    await eventually(lambda: junebug.pid_titled("junebug: reconciler") not in (0, pid))


async def test_the_reconciler_killed_leaves_channels_alone(
    world: World, channels: Channels, sink: WebhookSink
) -> None:
    channel = await channels.telnet()
    pid = await channel.pid()
    async with listening(channel, sink) as peer:
        for _ in range(3):
            await _kill_reconciler(world.junebug)
        later = await channels.loopback()
        await later.send("+27", "made later")
        await sink.wait_content("/mo", "made later")
        assert peer.client.is_open
    assert await channel.pid() == pid
