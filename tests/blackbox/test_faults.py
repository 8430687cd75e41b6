"""Redis and RabbitMQ killed, frozen, emptied under load; processes killed at random: what got a 201 arrives (issue 2).

Servers of this module's own. Repeats are allowed where a link broke with a message in flight; losses never.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis

from tests.blackbox import world as worlds
from tests.blackbox.conftest import Channels
from tests.blackbox.world import (
    REQUEST_TIMEOUT,
    World,
    each_arrives,
    each_has_its_event,
    is_healthy,
    killing,
    listening,
    load_on,
    server_of,
)
from tests.harness import START_DEADLINE, Channel, JunebugProcess, WebhookSink
from tests.polling import eventually

module_world = worlds.module_world
world = worlds.world
channels = worlds.channels

MARGIN = 5.0
"""Seconds beyond request_timeout that a loaded machine may take to answer."""


# --- servers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rabbitmq", "redis"])
async def test_a_server_killed_and_restarted_under_load_loses_nothing_and_is_told_of_in_the_status(
    world: World, channels: Channels, sink: WebhookSink, name: str
) -> None:
    """Nor does it lose what waits for a dead application."""
    channel = await channels.telnet()
    pid = await channel.pid()
    api, server = world.junebug.api, server_of(world, name)
    async with (
        waiting_for_a_dead_application(channels),
        listening(channel, sink) as peer,
        telling(channels, sink, name) as told_to_be_away,
    ):
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
            await told_to_be_away()
            await asyncio.to_thread(server.start)
        await each_arrives(load, lambda: peer.heard)
        assert load.slowest < REQUEST_TIMEOUT + MARGIN
        assert peer.client.is_open
        said = {f"from the phone {n}" for n in range(20)}

        def lost() -> set[str]:
            return said - {body["content"] for body in sink.bodies("/mo")}

        async with worlds.explaining(channel, lost):
            await eventually(lambda: not lost(), START_DEADLINE, "each MO")
        await each_has_its_event(load, sink)
    assert await channel.pid() == pid, "the channel was restarted"
    contents = Counter(body["content"] for body in sink.bodies("/mo") if body["content"])
    assert max(contents.values()) <= 2

    async def all_ok() -> bool:
        return (await channel.status())["status"] == "ok"

    await eventually(all_ok)


@asynccontextmanager
async def telling(
    channels: Channels, sink: WebhookSink, name: str
) -> AsyncIterator[Callable[[], Awaitable[dict[str, Any]]]]:
    """A channel that tells its statuses: afterwards that the server is back. Yields what waits for the word that it is away."""
    channel = await channels.loopback(status_url=sink.url("/status"))
    await sink.wait("/status", 4)
    component = "redis" if name == "redis" else "amqp"

    def statuses() -> list[str]:
        return [body["status"] for body in sink.bodies("/status") if body["component"] == component]

    def away() -> Awaitable[dict[str, Any]]:
        return sink.wait_for("/status", lambda body: (body["component"], body["status"]) == (component, "down"))

    yield away

    async def is_ok() -> bool:
        return (await channel.component(component)).get("status") == "ok"

    async with worlds.explaining(channel):
        await eventually(lambda: "ok" in statuses()[statuses().index("down") :], START_DEADLINE, "the call of status_url")
        await eventually(is_ok, START_DEADLINE, "the API's status")


@asynccontextmanager
async def waiting_for_a_dead_application(channels: Channels) -> AsyncIterator[None]:
    """Messages and events of a channel wait for it, and afterwards each arrives."""
    async with WebhookSink() as application:
        channel = await channels.loopback(mo_url=application.url("/mo"))
        await application.close()
        event_url = application.url("/event")
        sent = {(await channel.send("+27", str(n), event_url=event_url))["content"] for n in range(30)}
        yield
        await application.start()
        await eventually(lambda: {body["content"] for body in application.bodies("/mo")} == sent, START_DEADLINE)
        await application.wait("/event", 60, START_DEADLINE)


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


# --- processes --------------------------------------------------------------------------------------------------------


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
