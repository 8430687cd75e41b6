"""What issue 4 promises, from outside: nothing is lost whatever is killed, a dead application harms nobody but itself,
and thousands of queued messages are cancelled while the API goes on answering.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from bisect import bisect_left
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import cycle
from pathlib import Path

import pytest
import redis
from yarl import URL

from bench.junebug import Connection
from tests.blackbox import world as worlds
from tests.blackbox.conftest import Channels
from tests.blackbox.receiver import WAYS, Key, Receiver
from tests.blackbox.smsc import WireSmsc
from tests.blackbox.test_smpp import smpp
from tests.blackbox.traffic import Traffic, everything_arrives, loopback_traffic, smpp_traffic, telnet_traffic
from tests.blackbox.world import World
from tests.harness import START_DEADLINE, THOROUGH, Channel, TelnetClient, gather_limited
from tests.polling import eventually

FLAGS = {"callback-retry-delays": "0.2,0.5,1", "callback-timeout": 1, "max-logs": 5000}
MANY = 2_000 * THOROUGH
PHONES = 10
CONCURRENCY = 50
"""callback_concurrency: calls of a channel under way to one host."""
MESSAGES = 300 * THOROUGH
FEW = 6 * THOROUGH
"""Messages of a channel before, during and after a mishap, at the most (and at least half of them during it)."""
PAUSE = 0.15
UNKNOWN = 100
"""Callbacks that each kill may repeat at the most: those that the application had taken and RabbitMQ was not yet (or not
durably) told of.
"""
SEED = int(os.environ.get("JUNEBUG_TEST_SEED", random.randrange(1_000_000)))

module_world = worlds.module_world
world = worlds.world
application = worlds.application
channels = worlds.application_channels


# --- whatever is killed -----------------------------------------------------------------------------------------------


class Mishaps:
    """What is killed, by name. Telnet's worker is spared: what its socket had received died with it."""

    def __init__(self, world: World, traffic: list[Traffic], mortal: list[Channel]) -> None:
        self.world = world
        self.traffic = traffic
        self.mortal = mortal
        self.all: dict[str, Callable[[], Awaitable[None]]] = {
            "loopback's worker": lambda: self.kill_worker(self.mortal[0]),
            "SMPP's worker": lambda: self.kill_worker(self.mortal[1]),
            "a worker": lambda: self.kill_worker(random.choice(self.mortal)),
            "RabbitMQ": lambda: asyncio.to_thread(world.rabbitmq.restart),
            "the reconciler": self.kill_reconciler,
            "Redis": lambda: asyncio.to_thread(world.redis.restart),
            "the API": self.kill_api,
            "Redis' data": self.empty_redis,
        }

    async def kill_worker(self, channel: Channel) -> None:
        os.kill(await eventually(lambda: self.world.junebug.channel_pids().get(channel.id)), signal.SIGKILL)

    async def kill_api(self) -> None:
        os.kill(await eventually(lambda: self.world.junebug.pid_titled("junebug: api:1")), signal.SIGKILL)

    async def kill_reconciler(self) -> None:
        os.kill(await eventually(lambda: self.world.junebug.pid_titled("junebug: reconciler")), signal.SIGKILL)

    async def empty_redis(self) -> None:
        with redis.Redis(port=self.world.redis.port) as store:
            store.flushall()
        ids = {each.load.channel.id for each in self.traffic}

        async def are_back() -> bool:
            answer = await self.world.junebug.api.get("/channels/")
            return answer.status == 200 and ids <= set(answer.result)

        await eventually(are_back, START_DEADLINE, "the channels")
        for each in self.traffic:
            await each.more(10)  # of those that were accepted meanwhile some were stored before
            each.forget_events()


@pytest.mark.timeout(900)
async def test_nothing_is_lost_while_everything_fails_in_turn(
    world: World, channels: Channels, application: Receiver
) -> None:
    print(f"\nJUNEBUG_TEST_SEED={SEED}")
    random.seed(SEED)
    async with AsyncExitStack() as stack:
        smsc = await stack.enter_async_context(WireSmsc())
        smsc.receipts = True
        loopback, telnet, over_smpp = await asyncio.gather(
            channels.loopback(), channels.telnet(), smpp(channels, smsc.port)
        )
        traffic = [
            loopback_traffic(loopback, application, PAUSE),
            await stack.enter_async_context(telnet_traffic(telnet, application, PAUSE)),
            smpp_traffic(over_smpp, application, smsc, PAUSE),
        ]
        for each in traffic:
            each.load.refusals = frozenset({404, 503})  # 404: Redis was emptied, and the channels are not back yet
        mishaps = Mishaps(world, traffic, [loopback, over_smpp])
        ways, names = list(WAYS), list(mishaps.all)
        random.shuffle(ways)
        random.shuffle(names)

        def total() -> int:
            return sum(each.total for each in traffic)

        async with AsyncExitStack() as flowing:
            for each in traffic:
                await flowing.enter_async_context(each.flowing())
            for way, name in zip(ways, names, strict=True):
                began, before = time.monotonic(), total()
                async with application.failing(way):
                    await asyncio.gather(*(each.more(random.randint(1, FEW)) for each in traffic))
                    await mishaps.all[name]()
                    await asyncio.gather(*(each.more(random.randint(FEW // 2, FEW)) for each in traffic))
                await asyncio.gather(*(each.more(random.randint(1, FEW)) for each in traffic))
                print(f"{way}, and {name} killed: {total() - before} messages in {time.monotonic() - began:.1f} s")
            await eventually(lambda: total() >= MESSAGES, START_DEADLINE, f"{MESSAGES} messages")
        await everything_arrives(traffic, application)
    repeats, untold = application.repeats, application.untold
    print(f"{total()} messages, {len(application.taken)} callbacks, {application.failed} calls failed, {untold} taken but "
          f"untold, {repeats} repeated")  # fmt: skip
    assert repeats <= untold + UNKNOWN * len(mishaps.all)
    for channel in (loopback, telnet, over_smpp):
        assert (await channel.status())["dead_letters"] == 0


# --- a dead application -----------------------------------------------------------------------------------------------


async def test_a_dead_mo_url_with_thousands_waiting_harms_nobody_and_all_arrive_in_order(
    world: World, channels: Channels, application: Receiver
) -> None:
    async with Receiver() as other_application, AsyncExitStack() as stack:
        channel = await channels.telnet(mo_url=other_application.url("/mo"))
        clients = [await stack.enter_async_context(await channel.connect()) for _ in range(PHONES)]
        await eventually(lambda: len(other_application.senders) == PHONES, what="each session")
        said = {client.address: [f"{phone} says {n}" for n in range(MANY // PHONES)] for phone, client in enumerate(clients)}
        async with other_application.failing("dead"):
            for client in clients:
                await client.write("".join(f"{line}\r\n" for line in said[client.address]).encode())

            async def waiting() -> int:
                return int((await channel.status())["callbacks_waiting"])

            async def all_wait() -> bool:
                return await waiting() >= MANY - CONCURRENCY

            began = time.monotonic()
            await eventually(all_wait, START_DEADLINE, f"{MANY} waiting callbacks")  # each but those being tried
            took = time.monotonic() - began
            memory = proportional_memory(await channel.pid())
            assert (await channel.component("callbacks"))["status"] == "degraded"
            await round_trips(await channels.loopback(), application)
            await heard_by(clients, channel, application)
            assert await all_wait()
            memory = max(memory, proportional_memory(await channel.pid()))
        began = time.monotonic()
        try:
            await eventually(lambda: sum(map(len, other_application.said.values())) >= MANY, START_DEADLINE)
        except AssertionError as error:
            arrived = sum(map(len, other_application.said.values()))
            raise AssertionError(f"{arrived} arrived, {await waiting()} wait") from error
        drained = time.monotonic() - began
        memory = max(memory, proportional_memory(await channel.pid()))
        assert other_application.repeats == 0
        assert {sender: set(lines) for sender, lines in other_application.said.items()} == {
            sender: set(lines) for sender, lines in said.items()
        }
        displaced = sum(
            out_of_order([int(line.rpartition(" ")[2]) for line in lines]) for lines in other_application.said.values()
        )
        print(f"\n{MANY} waited {took:.1f} s after they were said, arrived within {drained:.1f} s, {displaced} out of order; "
              f"the worker's memory {memory / 1e6:.0f} MB")  # fmt: skip
        assert displaced <= CONCURRENCY, "more out of order than had been tried when the circuit opened"
        assert memory < 60e6
        await eventually_none(waiting)


def out_of_order(numbers: list[int]) -> int:
    """How many of them would have to go for the rest to rise."""
    tails: list[int] = []
    """At n the lowest end of a rising sequence of n + 1 of them."""
    for number in numbers:
        place = bisect_left(tails, number)
        tails[place : place + 1] = [number]
    return len(numbers) - len(tails)


async def round_trips(channel: Channel, application: Receiver) -> None:
    """A hundred messages out and back, each with its two events."""
    async with channel.api.kept_alive() as api:
        kept = Channel(api, channel.created)
        sent = await gather_limited(
            5, [kept.send("+27", f"round {n}", event_url=application.url("/event")) for n in range(100)]
        )
    owed: list[Key] = [("mo", each["content"]) for each in sent]
    for kind in ("submitted", "delivery_succeeded"):
        owed += [("event", each["message_id"], kind) for each in sent]
    await eventually(lambda: not application.missing(owed), what="the other channel's messages")


async def heard_by(clients: list[TelnetClient], channel: Channel, application: Receiver) -> None:
    """A hundred messages out, each shown to its phone and with its event."""
    sent = [
        await channel.send(client.address, f"to the phone {n}", event_url=application.url("/event"))
        for n in range(10)
        for client in clients
    ]
    for client in clients:
        assert await client.hear_lines(10) == [f"to the phone {n}" for n in range(10)]
    owed: list[Key] = [("event", each["message_id"], "submitted") for each in sent]
    await eventually(lambda: not application.missing(owed), what="the channel's own events")


async def eventually_none(waiting: Callable[[], Awaitable[int]]) -> None:
    async def none_waits() -> bool:
        return await waiting() == 0

    await eventually(none_waits, what="no waiting callback")


def proportional_memory(pid: int) -> int:
    """PSS in bytes."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


# --- a purge ----------------------------------------------------------------------------------------------------------


async def test_thousands_of_queued_messages_are_cancelled_while_the_api_answers(
    world: World, channels: Channels, application: Receiver
) -> None:
    api = world.junebug.api
    channel, other = await channels.loopback(), await channels.loopback()
    assert (await api.post(f"{channel.path}/pause")).status == 200
    ids = await queue_many(channel, application)
    assert (await channel.status())["queue_length"] == MANY
    async with asking(channel, other) as seconds:
        await eventually(lambda: seconds, what="an answer")
        del seconds[:]
        began = time.monotonic()
        cancelled = await api.delete(f"{channel.path}/messages/")
        took, meanwhile = time.monotonic() - began, list(seconds)
    assert (cancelled.status, cancelled.result["cancelled"]) == (200, MANY), cancelled
    owed: list[Key] = [("event", message_id, "rejected") for message_id in ids]
    await eventually(lambda: not application.missing(owed), START_DEADLINE, "each event")
    print(f"\n{MANY} cancelled in {took:.1f} s, {len(meanwhile)} other requests answered meanwhile (slowest: "
          f"{max(meanwhile, default=0):.2f} s), events within {time.monotonic() - began:.1f} s")  # fmt: skip
    assert len(meanwhile) >= 5
    assert all(application.details[key]["reason"] == "cancelled" for key in owed)
    assert (await channel.status())["queue_length"] == 0


async def queue_many(channel: Channel, application: Receiver) -> list[str]:
    """MANY messages, sent as fast as can be; their ids."""
    address = URL(channel.api.url)
    body = {"to": "+27", "content": "queued", "event_url": application.url("/event")}
    left = iter(range(MANY))
    ids: list[str] = []

    async def client() -> None:
        connection = Connection(*await asyncio.open_connection(address.host, address.port))
        for _ in left:
            status, answer = await connection.request("POST", f"{channel.path}/messages/", body)
            assert status == 201, answer
            ids.append(json.loads(answer)["result"]["message_id"])
        connection.close()

    await asyncio.gather(*(client() for _ in range(32)))
    return ids


@asynccontextmanager
async def asking(*channels: Channel) -> AsyncIterator[list[float]]:
    """Ask the API this and that all the while; the seconds that each answer took."""
    paths = ["/health", "/channels/", *(channel.path for channel in channels)]
    seconds: list[float] = []

    async def ask() -> None:
        async with channels[0].api.kept_alive() as api:
            for path in cycle(paths):
                began = time.monotonic()
                answer = await api.get(path)
                assert answer.status == 200, answer
                seconds.append(time.monotonic() - began)

    task = asyncio.create_task(ask())
    try:
        yield seconds
        assert not task.done(), task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
