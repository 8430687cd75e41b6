"""Two Junebugs on one Redis and RabbitMQ: they share the channels, and what happens when one of them ends or is cut off."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest

from tests.blackbox.conftest import Channels, StartJunebug, own_database
from tests.blackbox.test_smpp import config_for
from tests.blackbox.test_stream import following
from tests.cluster.ledger import CountingSmsc
from tests.harness import Channel, JunebugProcess, WebhookSink, run_command
from tests.polling import eventually
from tests.proxy import Gate

LEASE = 4.0
FLAGS = {"host": "a", "lease-ttl": LEASE, "moves-per-minute": 600}
CHANNELS = 4


@pytest.fixture
async def smsc() -> AsyncIterator[CountingSmsc]:
    async with CountingSmsc() as smsc:
        yield smsc
        assert smsc.doubles == []


@pytest.fixture
async def made(channels: Channels, smsc: CountingSmsc) -> list[Channel]:
    """Channels that are bound."""
    found = [
        await channels.create("smpp", {**config_for(smsc.port), "system_id": f"esme{number}"}) for number in range(CHANNELS)
    ]
    await eventually(lambda: len(smsc.bound()) == CHANNELS, what="all binds")
    return found


async def join(start: StartJunebug, jb: JunebugProcess, **flags: Any) -> JunebugProcess:
    own = {name: jb.flags[name] for name in ("redis-db", "amqp-vhost")}
    return await asyncio.to_thread(start, {**FLAGS, **own, "host": "b", **flags})


def runs(junebug: JunebugProcess, made: Iterable[Channel]) -> set[str]:
    """Which of them have a process there."""
    return {channel.id for channel in made} & junebug.channel_pids().keys()


async def shared(jb: JunebugProcess, other: JunebugProcess, made: list[Channel], smsc: CountingSmsc) -> set[str]:
    """What the other one runs, when each has its share and all are bound."""

    def is_shared() -> bool:
        one, two = runs(jb, made), runs(other, made)
        return len(one) == len(two) == CHANNELS // 2 and not one & two and len(smsc.bound()) == CHANNELS

    await eventually(is_shared, what="each has its share")
    return runs(other, made)


async def taken_over(jb: JunebugProcess, made: list[Channel], smsc: CountingSmsc) -> None:
    await eventually(lambda: len(runs(jb, made)) == CHANNELS and len(smsc.bound()) == CHANNELS, what="the take-over")


async def hosts_command(jb: JunebugProcess, *words: str) -> str:
    flags = [f"--{name}={jb.flags[name]}" for name in ("redis-host", "redis-port", "redis-db")]
    command, *rest = words
    ran = await asyncio.to_thread(run_command, "junebug", "hosts", command, *flags, *rest, cwd=jb.directory)
    assert ran.returncode == 0, ran
    return str(ran.stdout)


async def its_life_is_told(channel: Channel, message: str, missing: str = "") -> None:
    """By a host that has not sent it; `missing`: what is said when the one that did is gone."""
    is_whole = not missing
    logged = await channel.api.get(f"{channel.path}/logs")
    assert missing in logged.description
    assert is_whole is any(entry.get("message_id") == message and entry["message"] == "message sent" for entry in logged.result)
    life = (await channel.api.get(f"{channel.path}/messages/{message}/timeline")).result
    assert missing in life["logs"]
    assert is_whole is (life["logs"] == "complete")
    assert is_whole is any(step["kind"] == "sent" for step in life["steps"])
    found = (await channel.api.get("/messages?to=%2B27821")).result
    assert found["logs"] == (missing or "complete")
    assert [each["message_id"] for each in found["messages"]] == ([message] if is_whole else [])


async def test_a_host_that_joins_takes_its_share_and_hands_it_over_when_it_ends(
    jb: JunebugProcess, start_junebug: StartJunebug, made: list[Channel], smsc: CountingSmsc
) -> None:
    other = await join(start_junebug, jb)
    theirs = await shared(jb, other, made, smsc)
    moved = next(each for each in made if each.id in theirs)
    async with following(jb.api, f"?channel_id={moved.id}&kind=event") as client:
        message = (await moved.send("+27821", "by the other"))["message_id"]
        event = await client.next()
        assert event
        assert (event.data["event_type"], event.data["message_id"]) == ("submitted", message)
    assert [submit.text for submit in smsc.submits] == ["by the other"]
    await its_life_is_told(moved, message)
    await hosts_command(jb, "drain", "b")
    await taken_over(jb, made, smsc)
    listed = json.loads(await hosts_command(jb, "list", "--json"))
    assert {each["id"]: (each["state"], each["runs"]) for each in listed} == {"a": ("living", CHANNELS), "b": ("drained", 0)}
    await hosts_command(jb, "undrain", "b")
    theirs = await shared(jb, other, made, smsc)
    began = time.monotonic()
    assert await asyncio.to_thread(other.stop) == 0
    await taken_over(jb, made, smsc)
    assert time.monotonic() - began < LEASE  # nobody waited for the lease to run out
    assert "Traceback" not in other.output()
    await its_life_is_told(moved, message, "host b is away: its part of the log is not shown")
    for channel in made:
        worker = await channel.component("worker")
        assert worker["type"] == "running"
        assert (worker["details"]["pid"] in jb.channel_pids().values()) or channel.id not in theirs


async def test_a_host_that_cannot_reach_redis_stops_before_others_may_take_over(
    jb: JunebugProcess, start_junebug: StartJunebug, made: list[Channel], smsc: CountingSmsc
) -> None:
    async with Gate(jb.flags["redis-port"]) as gate:
        other = await join(start_junebug, jb, **{"redis-host": "127.0.0.1", "redis-port": gate.port})
        await shared(jb, other, made, smsc)
        gate.shut()
        began = time.monotonic()
        await eventually(lambda: not runs(other, made), what="it stops")
        assert time.monotonic() - began < LEASE
        await taken_over(jb, made, smsc)
        gate.open()
        await shared(jb, other, made, smsc)


async def test_who_was_alone_goes_on_without_redis_and_rabbitmq_keeps_others_away(
    jb: JunebugProcess, start_junebug: StartJunebug, smsc: CountingSmsc, sink: WebhookSink
) -> None:
    own = {**FLAGS, "lease-ttl": 2, "redis-db": own_database(), "amqp-vhost": jb.flags["amqp-vhost"]}
    async with Gate(jb.flags["redis-port"]) as gate:
        through = {"redis-host": "127.0.0.1", "redis-port": gate.port}
        alone = await asyncio.to_thread(start_junebug, {**own, "host": "alone", **through})
        channel = await Channels(alone.api, sink).create("smpp", {**config_for(smsc.port), "system_id": "alone"})
        await eventually(lambda: smsc.bound() == ["alone"], what="the bind")
        pid = alone.channel_pids()[channel.id]
        gate.shut()
        late = await asyncio.to_thread(start_junebug, {**own, "host": "late"})
        await eventually(lambda: channel.id in late.channel_pids(), what="it has claimed what it finds nobody at")
        assert alone.channel_pids()[channel.id] == pid
        assert len(smsc.binds) == 1  # the late one's process waits for RabbitMQ
        gate.open()
        await eventually(lambda: channel.id not in alone.channel_pids(), what="the old one lets go")
        await eventually(lambda: len(smsc.binds) == 2 and smsc.bound() == ["alone"], what="the new bind")


async def test_a_second_host_of_the_same_id_is_refused(jb: JunebugProcess, start_junebug: StartJunebug) -> None:
    own = {name: jb.flags[name] for name in ("redis-db", "amqp-vhost")}
    other = await asyncio.to_thread(lambda: start_junebug({**FLAGS, **own}, wait=False))
    assert await asyncio.to_thread(other.wait, 30) == 1
    assert "host: another Junebug runs under the host id 'a'" in other.stderr
