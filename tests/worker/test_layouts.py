"""From one layout of outbound queues to another: nothing lost, nothing twice, and what is for one address in its order."""

from __future__ import annotations

import asyncio
import dataclasses
import uuid
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import pytest

from junebug import names
from junebug.api.channel_queues import ChannelQueues
from junebug.api.spec_cache import SpecCache
from junebug.errors import NotRunning, NotSent
from junebug.logs.redaction import Redactor
from junebug.model.messages import UserMessage
from junebug.model.spec import ChannelSpec, Launch
from junebug.registry import ChannelType
from junebug.runtime.metrics import Metrics
from junebug.transports.base import Accepted, Transport
from junebug.worker import context
from junebug.worker.outbound import former
from junebug.worker.process import ChannelWorker
from tests.polling import eventually
from tests.worker.conftest import Bench

ADDRESSES = 20
BACKLOG = 160


class Recorder(Transport):
    """Sends a few at a time, and forgets which shard it is of: all are in one list. `is_down`: nothing can be sent."""

    window = 4
    sent: ClassVar[list[tuple[str | None, int]]] = []
    is_down: ClassVar[bool] = False

    async def start(self) -> None:
        pass

    async def send(self, message: UserMessage) -> Accepted | str | None:
        await asyncio.sleep(0)
        if self.is_down:
            raise NotSent("no bind", 3600)
        self.sent.append((message.to_addr, int(message.content or 0)))
        return None

    async def stop(self) -> None:
        pass


RECORDER = ChannelType("recorder", "tests.worker.test_layouts:Recorder", {"type": "object"}, shardable=True)


@pytest.fixture
async def moving(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Moving]:
    monkeypatch.setattr(former, "LOOK_EVERY", 0.02)
    monkeypatch.setattr(former, "LOOK_LATER", 0.05)
    monkeypatch.setattr(former, "QUIET", 0.3)
    monkeypatch.setattr(former, "SETTLING", 0.2)
    Recorder.sent.clear()
    bench.settings = dataclasses.replace(bench.settings, channels={"recorder": "tests.worker.test_layouts:RECORDER"})
    moving = Moving(bench, str(uuid.uuid4()))
    await moving.store(1)
    yield moving
    Recorder.is_down = False
    for unit in [*bench.workers]:
        if not bench.workers[unit].done():
            await bench.stop(unit)


class Moving:
    """One channel, whose layout changes."""

    def __init__(self, bench: Bench, channel: str) -> None:
        self.bench, self.channel = bench, channel
        self.count = 0

    async def store(self, shards: int, queue_type: str = "classic") -> None:
        """That is what it is to be from now on."""
        bench = self.bench
        amqp = dataclasses.replace(bench.settings.amqp, queue_type=queue_type)
        bench.settings = dataclasses.replace(bench.settings, amqp=amqp)
        channels, new = bench.stores.channels, {"type": "recorder", "config": {"shards": shards}}
        if self.channel in await channels.ids():
            old = await channels.get(self.channel)
            spec = ChannelSpec.from_properties(self.channel, new, old.generation, old.stored, old.noted_priorities)
            await channels.update(old, spec, restart=True)
        else:
            await channels.create(ChannelSpec.from_properties(self.channel, new))

    @property
    def queues(self) -> ChannelQueues:
        """As an API process has them."""
        bench = self.bench
        bench.broker.is_quorum = bench.layout().is_quorum
        return ChannelQueues(
            bench.settings, bench.stores, bench.broker, SpecCache(bench.stores.channels), bench.asking, Metrics()
        )

    async def put(self, count: int, queues: ChannelQueues | None = None) -> None:
        """So many more, as the API does."""
        queues = queues or self.queues
        for _ in range(count):
            self.count += 1
            to = f"+2782{self.count % ADDRESSES}"
            message = UserMessage(to_addr=to, from_addr=None, content=str(self.count), transport_name=self.channel)
            await queues.send(self.channel, (message,))

    async def run(self, until: int, *, stop: bool = True) -> None:
        """With as many processes as it is to have, until so many are sent."""
        shards = (await self.bench.stores.channels.get(self.channel)).shards
        units = names.units(self.channel, shards)
        for unit in units:
            self.bench.start(unit)
        await eventually(lambda: len(Recorder.sent) >= until)
        if stop:
            await asyncio.gather(*(self.bench.stop(unit) for unit in units))

    def check(self) -> None:
        """All was sent once, and in its order to each address."""
        assert sorted(number for _, number in Recorder.sent) == list(range(1, self.count + 1))
        for address in range(ADDRESSES):
            sent = [number for to, number in Recorder.sent if to == f"+2782{address}"]
            assert sent == sorted(sent), address

    async def has_only(self, *endings: str) -> bool:
        return await self.there() == list(endings)

    async def has_none(self, ending: str) -> bool:
        return ending not in await self.there()

    async def is_empty(self, ending: str) -> bool:
        """It is there, and nothing is in it."""
        queue = f"{self.channel}.outbound{ending}"
        return [each.messages for each in (await self.bench.broker.look_at_queues((queue,))).values()] == [0]

    async def is_taken_up(self, number: int) -> bool:
        return number in (await self.bench.stores.channels.get(self.channel)).noted_priorities

    async def there(self) -> list[str]:
        """Its outbound queues, by their endings."""
        wanted = [queue for layout in names.LAYOUTS for queue in layout.queues(self.channel)]
        found = await self.bench.broker.look_at_queues(wanted)
        return [queue.partition(".outbound")[2] for queue in found]


@pytest.mark.parametrize(
    "steps",
    [
        [(1, "classic"), (1, "quorum"), (1, "classic")],
        [(1, "classic"), (2, "classic"), (8, "classic"), (1, "classic")],
        [(2, "classic"), (2, "quorum"), (1, "quorum"), (1, "classic")],
        [(1, "classic"), (2, "quorum"), (1, "classic"), (2, "quorum"), (1, "classic")],
    ],
    ids=["kinds", "shards", "both", "to and fro"],
)
async def test_what_waits_is_sent_once_and_in_order_whatever_the_queues_become(
    moving: Moving, steps: list[tuple[int, Any]]
) -> None:
    for shards, queue_type in steps:
        await moving.store(shards, queue_type)
        before = len(Recorder.sent)
        await moving.put(BACKLOG)
        await moving.run(until=before + BACKLOG // 4)  # stopped in the middle: the rest is for the next step
    await moving.put(20)
    await moving.run(until=moving.count, stop=False)
    moving.check()
    await eventually(lambda: moving.has_only(""))


async def test_what_was_lost_with_redis_is_found_again(moving: Moving) -> None:
    await moving.put(50)
    await moving.bench.stores.channels._redis.run(("DEL", names.channel_priorities(moving.channel)))
    await moving.store(1, "quorum")
    await moving.put(50)
    await moving.run(until=100, stop=False)
    moving.check()
    await eventually(lambda: moving.has_only(".q"))
    assert (await moving.bench.stores.channels.get(moving.channel)).noted_priorities == {1, 21}


async def test_who_knows_no_better_yet_publishes_to_a_queue_that_is_still_there(
    moving: Moving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RabbitMQ confirms, and loses, what comes to a classic queue in the moment in which it deletes that "if it is empty"."""
    monkeypatch.setattr(former, "QUIET", 60.0)
    queues = moving.queues
    await moving.put(10, queues)
    await moving.store(3)
    await moving.run(until=10, stop=False)
    await eventually(lambda: moving.is_taken_up(22))
    known = queues._specs.at_hand(moving.channel)
    assert known
    assert known.shards == 1
    await moving.put(ADDRESSES, queues)
    await eventually(lambda: len(Recorder.sent) == moving.count)
    moving.check()
    await eventually(lambda: moving.is_empty(""))
    monkeypatch.setattr(former, "QUIET", 0.3)
    await eventually(lambda: moving.has_none(""))


async def test_a_queue_that_somebody_makes_again_is_found_and_goes_again(
    moving: Moving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older Junebug's API, which knows of no layouts: what it publishes comes through, late."""
    monkeypatch.setattr(context, "UNLIKELY_AFTER", (0.0, 0.1))
    await moving.store(1, "quorum")
    await moving.put(10)
    old = names.outbound_queue(moving.channel)
    await moving.bench.broker.declare({old: {}}, remember=False)
    message = UserMessage(to_addr="+27820", from_addr=None, content="11", transport_name=moving.channel)
    await moving.bench.broker.publish(old, message.to_wire())
    await moving.bench.stores.channels.note_priorities(moving.channel, (11,))
    moving.count += 1
    await moving.run(until=11, stop=False)
    await eventually(lambda: moving.has_only(".q"))


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
async def test_a_second_process_binds_to_nothing_while_the_first_lives(moving: Moving, queue_type: str) -> None:
    await moving.store(1, queue_type)
    await moving.run(until=0, stop=False)
    await moving.bench.running(moving.channel)
    second = ChannelWorker(moving.bench.settings, moving.channel, Launch(is_shared=queue_type == "classic"), Redactor())
    running = asyncio.create_task(second.run())
    try:
        await eventually(lambda: second._priorities._known)
        await moving.put(100)
        await eventually(lambda: len(Recorder.sent) == 100)
        assert (second._transport, second._sender) == (None, None)
        await moving.bench.stop(moving.channel)
        await moving.put(100)
        await eventually(lambda: len(Recorder.sent) == 200)
        moving.check()
    finally:
        second.stop()
        await running


async def test_what_a_quorum_queue_gives_is_kept_in_its_order_whatever_happens(moving: Moving) -> None:
    """Nothing can be sent: it is held, listed, given back at a stop, cancelled in part, and sent in the end."""
    await moving.store(1, "quorum")
    await moving.run(until=0, stop=False)
    await eventually(lambda: moving.has_only(".q"))
    Recorder.is_down = True
    await moving.put(120)
    asking, channel = moving.bench.asking, moving.channel

    async def is_held() -> bool:
        try:
            found = await asking.ask(channel, "look", 5)
        except NotRunning:
            return False
        return found["held"]["1"] == 50 and not any(found["sending"].values())

    for offset, limit in ((0, 0), (0, 100), (30, 20), (0, 5), (0, 0)):
        await eventually(is_held)
        if limit:
            page = await asking.ask(channel, "list", 20, offset=offset, limit=limit)
            numbers = [int(entry["message"]["content"]) for entry in page["messages"]]
            assert numbers == list(range(1, 121))[offset : offset + limit]
        await moving.bench.stop(channel)
        await moving.run(until=0, stop=False)
    await eventually(is_held)
    await moving.bench.stop(channel)
    Recorder.is_down = False
    await moving.run(until=120, stop=False)
    moving.check()
    Recorder.is_down = True
    await moving.put(60)
    await eventually(is_held)
    assert await asking.ask(channel, "cancel_all", 20) == {"cancelled": 60, "remaining": 0, "sending": 0}
