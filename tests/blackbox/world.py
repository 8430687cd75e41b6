"""What the fault tests share: a Junebug on servers of the module's own, to be killed, and a load to be kept up meanwhile.

A module takes the fixtures by name (`module_world = worlds.module_world`, ...) and may set `FLAGS` for its `jb`.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import pytest

from tests.blackbox.conftest import Channels, running_jb, server_flags
from tests.blackbox.receiver import Receiver
from tests.blackbox.traffic import Listener, Load
from tests.harness import START_DEADLINE, Api, Channel, JunebugProcess, WebhookSink
from tests.polling import eventually
from tests.servers import RabbitmqServer, RedisServer, Server, redis_server

REQUEST_TIMEOUT = 3.0


@dataclass
class World:
    """A Junebug and the servers it lives on."""

    redis: RedisServer
    rabbitmq: RabbitmqServer
    junebug: JunebugProcess


@pytest.fixture(scope="module")
def module_world(request: pytest.FixtureRequest, rabbitmq: RabbitmqServer) -> Iterator[World]:
    redis = redis_server()
    with rabbitmq.own_vhost():
        try:
            redis.start()
            own = getattr(request.module, "FLAGS", {})
            with running_jb({**server_flags(redis, rabbitmq, db=0), "request-timeout": REQUEST_TIMEOUT, **own}) as junebug:
                yield World(redis, rabbitmq, junebug)
        finally:
            redis.destroy()


@pytest.fixture
async def world(module_world: World) -> AsyncIterator[World]:
    """The module's, whole again before and after the test, whatever that did."""
    await _healed(module_world)
    yield module_world
    await _healed(module_world)


async def _healed(world: World) -> None:
    for server in (world.redis, world.rabbitmq):
        await asyncio.to_thread(server.heal)
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


@pytest.fixture
async def application() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


@pytest.fixture
async def application_channels(world: World, application: Receiver) -> AsyncIterator[Channels]:
    """Channels of that application."""
    made = Channels(world.junebug.api, application)
    yield made
    await _healed(world)
    await made.delete_all()


def server_of(world: World, name: str) -> Server:
    return world.redis if name == "redis" else world.rabbitmq


# --- load -------------------------------------------------------------------------------------------------------------


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


@asynccontextmanager
async def listening(channel: Channel, sink: WebhookSink) -> AsyncIterator[Listener]:
    client = await channel.connect()
    listener = Listener(client)
    await sink.wait_for("/mo", lambda body: body["from"] == client.address)
    try:
        yield listener
    finally:
        await listener.close()


SHOWN = 3
"""Missing messages of which a failure tells everything."""


@asynccontextmanager
async def explaining(
    channel: Channel, missing: Callable[[], Collection[str]] = tuple, ids: Mapping[str, str] | None = None
) -> AsyncIterator[None]:
    """What fails in the block says what is missing, what the channel logged of it, and how its process fared.

    `ids`: missing text -> message id.
    """
    try:
        yield
    except AssertionError as error:
        lost = sorted(missing())
        story = [str(error), f"missing: {len(lost)}: {lost[:20]}"]
        try:
            story.append(f"worker: {await channel.component('worker')}")
            for text in lost[:SHOWN] if ids else ():
                message_id = ids[text]
                story.append(f"{text!r} is {message_id}: {await channel.message(message_id)}")
                story += map(str, await channel.logs(message_id=message_id, n=20))
            story.append("the channel's last log entries:")
            story += map(str, await channel.logs(n=60))
        except (AssertionError, aiohttp.ClientError) as problem:
            story.append(f"no more is known: {problem}")
        raise AssertionError("\n".join(story)) from error


async def each_arrives(load: Load, heard: Callable[[], Counter[str]]) -> None:
    """Every text that got a 201 is heard; how often is printed."""
    async with explaining(load.channel, lambda: load.accepted.keys() - heard().keys(), load.accepted):
        await eventually(lambda: load.accepted.keys() <= heard().keys(), START_DEADLINE, "each accepted message")
    repeats = sum(heard().values()) - len(heard())
    print(f"\n{len(load.accepted)} accepted, {load.refused} refused, {repeats} repeated, slowest {load.slowest:.2f} s")


async def each_has_its_event(load: Load, sink: WebhookSink) -> None:
    def told() -> set[str]:
        return {body["message_id"] for body in sink.bodies("/event") if body["event_type"] == "submitted"}

    def untold() -> set[str]:
        return {text for text, message_id in load.accepted.items() if message_id not in told()}

    async with explaining(load.channel, untold, load.accepted):
        await eventually(lambda: set(load.accepted.values()) <= told(), START_DEADLINE, "each submitted event")


async def killing(times: int, victim: Callable[[], Awaitable[int]], load: Load) -> None:
    """SIGKILL the process that `victim` names, again and again, at random moments of the load."""
    for _ in range(times):
        pid = await victim()
        os.kill(pid, signal.SIGKILL)
        await load.more(random.randint(30, 80))
