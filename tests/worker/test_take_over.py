"""From one kind of queue to the other, of what is on its way to the application: nothing lost, and in its order."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace

from junebug import names
from junebug.amqp import kinds
from junebug.amqp.broker import Broker
from junebug.amqp.frames import Delivery
from junebug.model.callbacks import Callback, DeadLetter
from junebug.model.messages import event_of
from junebug.model.spec import ChannelSpec
from junebug.worker import take_over
from junebug.worker.callbacks import delay_queues
from junebug.worker.context import ChannelContext
from tests.polling import eventually
from tests.servers import RabbitmqServer
from tests.worker.conftest import Bench
from tests.worker.test_forwarder import Host, dead_letters, host, loopback, mo  # noqa: F401 - a fixture

SENDERS = 4
OWN = (names.inbound_queue, names.event_queue, names.callback_queue, names.dead_queue)


@pytest.fixture
async def moving(bench: Bench, host: Host, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Moving]:  # noqa: F811
    monkeypatch.setattr(take_over, "LOOK_EVERY", 0.05)
    monkeypatch.setattr(take_over, "LOOK_LATER", 0.05)
    monkeypatch.setattr(take_over, "QUIET", 0.5)
    monkeypatch.setattr(kinds, "LOOK_EVERY", 0.2)
    bench.settings = dataclasses.replace(bench.settings, callback_retry_delays=[0.2, 0.5])
    old = Broker(bench.settings.amqp, "an old publisher")
    old.start()
    await old.wait_connected(10)
    moving = Moving(bench, host, old)
    yield moving
    await old.close()


class Moving:
    """One channel, whose application is not there until the end."""

    def __init__(self, bench: Bench, host: Host, old: Broker) -> None:  # noqa: F811
        self.bench, self.host, self.old = bench, host, old
        self.channel = ""
        self.count = 0

    def use(self, queue_type: Any) -> None:
        """For processes that begin from now on."""
        bench = self.bench
        bench.settings = dataclasses.replace(bench.settings, amqp=dataclasses.replace(bench.settings.amqp, queue_type=queue_type))

    async def put(self, count: int, queue_of: Any = lambda queue: queue) -> None:
        """So many MOs and events more, as somebody does who knows of no change."""
        for _ in range(count):
            self.count += 1
            message = mo(str(self.count), f"+{self.count % SENDERS}")
            await self.old.kinds.publish_surely(names.inbound_queue(self.channel), (message.to_wire(),), is_quorum=False)
            event = event_of(replace(message, message_id=f"m{self.count % SENDERS}"), self.channel, "ack", sent_message_id="1")
            event = replace(event, event_type="delivery_report", delivery_status="pending", event_id=str(self.count))
            event = replace(event, event_url=self.host.url("/event"), transport_metadata={"n": self.count})
            await self.old.kinds.publish_surely(names.event_queue(self.channel), (event.to_wire(),), is_quorum=False)

    async def there(self) -> set[str]:
        """Its queues, those of waiting callbacks left out."""
        found = await self.bench.broker.look_at_queues(
            [names.of_kind(name(self.channel), kind) for name in OWN for kind in (False, True)]
        )
        return {queue.removeprefix(f"{self.channel}.") for queue in found}

    async def has_only(self, *queues: str) -> bool:
        return await self.there() == {*queues}

    def check(self) -> None:
        """Each came, and for the first time in its order."""
        received = self.host.received
        messages = [(body["from"], int(body["content"])) for body in received if body.get("content")]
        events = [(body["message_id"], body["event_details"]["n"]) for body in received if "event_type" in body]
        for found in messages, events:
            firsts = [*dict.fromkeys(found)]
            assert len(firsts) == self.count
            for _, of_one in itertools.groupby(sorted(firsts, key=lambda each: each[0]), key=lambda each: each[0]):
                numbers = [number for _, number in of_one]
                assert numbers == sorted(numbers)

    async def all_came(self) -> bool:
        bodies = self.host.received
        return (
            len({body["content"] for body in bodies if body.get("content")}) == self.count
            and len({body["event_details"]["n"] for body in bodies if "event_type" in body}) == self.count
        )


PLAIN = {"inbound", "event", "callbacks", "dead"}
QUORUM = {f"{each}.q" for each in PLAIN}


@pytest.mark.parametrize("steps", [
    ["classic", "quorum"],
    ["quorum", "classic"],
    ["classic", "quorum", "classic", "quorum"],
], ids=" to ".join)  # fmt: skip
async def test_what_waits_comes_in_its_order_whatever_the_queues_become(moving: Moving, steps: list[str]) -> None:
    bench = moving.bench
    moving.use(steps[0])
    bench.broker.is_quorum = steps[0] == "quorum"
    moving.channel = channel = await loopback(bench, mo_url=moving.host.url("/mo"))
    for step in steps:
        moving.use(step)
        if step is not steps[0]:
            bench.start(channel)
        adding = asyncio.create_task(moving.put(60))  # while it takes over
        await eventually(lambda: bench.held(channel) or moving.count > 20)
        await adding
        await moving.put(20)
        assert await bench.stop(channel) == 0
        await moving.put(20)
    bench.start(channel)
    await moving.host.start()
    await eventually(moving.all_came)
    moving.check()
    await eventually(lambda: moving.has_only(*(QUORUM if steps[-1] == "quorum" else PLAIN)))
    await moving.put(20)
    await eventually(moving.all_came)
    moving.check()


@pytest.mark.parametrize("steps", [("classic", "quorum"), ("quorum", "classic")], ids=" to ".join)
async def test_callbacks_repeats_and_dead_letters_come_along(moving: Moving, steps: tuple[str, str]) -> None:
    bench, app = moving.bench, moving.bench.app
    bench.settings = dataclasses.replace(bench.settings, callback_retry_delays=[3.0])
    moving.use(steps[0])
    app.statuses = {"later": 400}
    moving.channel = channel = await loopback(bench)
    await bench.put(names.inbound_queue(channel), mo("later").to_wire())
    await eventually(lambda: _noted(bench, channel, ".retry."))
    letters = [DeadLetter(reason="unreadable", error="", queue="q", body=str(n).encode()) for n in range(300)]
    await bench.put(names.dead_queue(channel), *(each.to_wire() for each in letters))
    await bench.stop(channel)
    callback = Callback(to="mo_url", kind="inbound", id="1", wire=mo("callback").to_wire())
    await bench.put(names.callback_queue(channel), callback.to_wire())
    app.statuses = {}
    moving.use(steps[1])
    bench.start(channel)
    await eventually(lambda: {"later", "callback"} <= {body["content"] for body in app.received})

    async def none_is_former() -> bool:
        noted = await bench.stores.delay_queues.noted(channel)
        return {names.is_quorum(queue) for queue in noted} <= {steps[1] == "quorum"}

    await eventually(none_is_former)
    assert [each.body for each in await dead_letters(bench, channel, 300)] == [each.body for each in letters]
    await eventually(lambda: moving.has_only(*(QUORUM if steps[1] == "quorum" else PLAIN)))


async def _noted(bench: Bench, channel: str, part: str) -> bool:
    noted = [queue for queue in await bench.stores.delay_queues.noted(channel) if part in queue]
    return bool(noted) and (any((await bench.broker.queue_lengths(noted)).values()) or bench.held(channel) > 0)


@pytest.mark.parametrize("queue_type", ["quorum"])
async def test_what_a_killed_process_had_in_hand_comes_again_in_its_order(moving: Moving, queue_type: str) -> None:
    bench = moving.bench
    moving.channel = channel = await loopback(bench, mo_url=moving.host.url("/mo"))
    await moving.put(400)
    for _ in range(3):
        await eventually(lambda: bench.held(channel) > 300)
        worker = bench._workers[channel]
        link = worker._broker._connection.link
        link._stream.writer.transport.abort()  # as the end of its process does
        await eventually(lambda: not bench.held(channel))
    await moving.host.start()
    await eventually(moving.all_came)
    moving.check()


async def test_where_nobody_knows_of_former_queues_they_are_found_later(
    moving: Moving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis was emptied meanwhile, and `quorum` set back to `classic`."""
    monkeypatch.setattr(take_over, "LATER", (0.5, 0.6))
    bench = moving.bench
    moving.channel = channel = await loopback(bench)
    await bench.stop(channel)
    queues = names.incoming_queues(channel, True) | names.callback_queues(channel, True)
    await bench.broker.declare(queues, remember=False)
    await bench.broker.publish(names.of_kind(names.inbound_queue(channel), True), mo("late").to_wire())
    bench.start(channel)
    await bench.app.wait(1)
    await eventually(lambda: moving.has_only(*PLAIN))


async def test_a_queue_that_an_older_junebug_makes_again_is_found(moving: Moving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(take_over, "LATER", (0.5, 0.6))
    monkeypatch.setattr(take_over, "AGAIN", 0.5)
    moving.use("quorum")
    bench = moving.bench
    moving.channel = channel = await loopback(bench)
    await eventually(lambda: moving.has_only(*QUORUM))
    await bench.broker.declare({names.inbound_queue(channel): {}}, remember=False)
    await bench.broker.publish(names.inbound_queue(channel), mo("late").to_wire())
    await bench.app.wait(1)
    await eventually(lambda: moving.has_only(*QUORUM))


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
async def test_a_router_and_its_channel_go_over_one_after_the_other(moving: Moving, queue_type: str) -> None:
    """First the channel's process is of the new setting, then the router's; and the channel is its own again."""
    bench, app = moving.bench, moving.bench.app
    other = "classic" if queue_type == "quorum" else "quorum"
    moving.channel = channel = await loopback(bench, mo_url=None)
    destinations = {"a": {"config": {"default": True}, "mo_url": app.url("/a")}}
    router = await bench.router("from_address", {"channel": channel}, destinations)
    await bench.running(router)
    numbers = itertools.count()

    async def arrive(count: int) -> None:
        sent = [mo(str(next(numbers))) for _ in range(count)]
        for each in sent:
            await bench.broker.kinds.publish_surely(
                names.inbound_queue(channel), (replace(each, transport_name=channel).to_wire(),), is_quorum=queue_type == "quorum"
            )

    await arrive(20)
    await app.wait(20)
    moving.use(other)
    await bench.stop(channel)
    bench.start(channel)
    await arrive(20)
    await app.wait(40)
    await bench.stop(router)
    await arrive(20)
    bench.start_router(router)
    await app.wait(60)
    await arrive(20)
    await app.wait(80)
    assert [int(body["content"]) for body in app.received] == [*range(80)]
    await eventually(lambda: moving.has_only(*(QUORUM if other == "quorum" else PLAIN)))


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
@pytest.mark.parametrize("first", [0, 1])
async def test_a_shard_that_is_of_the_old_setting_still_is_heard(moving: Moving, queue_type: str, first: int) -> None:
    """`first`: the shard that is started again before the other."""
    bench = moving.bench
    bench.settings = dataclasses.replace(bench.settings, channels={"recorder": "tests.worker.test_layouts:RECORDER"})
    channel = moving.channel = await bench.channel("recorder", {"shards": 2})
    units = names.units(channel, 2)
    bench.start(units[1])
    said: list[str] = []

    async def all_are_heard() -> None:
        """What comes by each shard."""
        for unit in units:
            worker: Any = bench._workers[unit]
            await eventually(lambda worker=worker: worker._sender)  # type: ignore[misc]
            for _ in range(10):
                said.append(str(len(said)))
                await worker._context.publish(names.inbound_queue(channel), (mo(said[-1]).to_wire(),))
        await eventually(lambda: {body["content"] for body in bench.app.received} == {*said})

    await all_are_heard()
    moving.use("classic" if queue_type == "quorum" else "quorum")
    for shard in (first, 1 - first):
        await bench.stop(units[shard])
        bench.start(units[shard])
        await all_are_heard()
    await eventually(lambda: moving.has_only(*(PLAIN if queue_type == "quorum" else QUORUM)))


@pytest.mark.parametrize("is_routed", [False, True])
async def test_who_begins_while_another_passes_on_waits_for_nobody(
    moving: Moving, is_routed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The router's process takes over first, and does so for as long as anybody publishes to the former queues."""
    monkeypatch.setattr(take_over, "QUIET", 3600.0)
    bench, app = moving.bench, moving.bench.app
    moving.channel = channel = await loopback(bench, mo_url=None if is_routed else app.url("/"))
    moving.use("quorum")
    if is_routed:
        destinations = {"a": {"config": {"default": True}, "mo_url": app.url()}}
        router = await bench.router("from_address", {"channel": channel}, destinations)
        await bench.running(router)
    await bench.stop(channel)
    bench.start(channel)
    await eventually(lambda: bench._workers[channel]._answers and bench._workers[channel]._sender)
    await moving.put(3)
    await app.wait(3)


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
async def test_queues_that_rabbitmq_has_lost_are_made_again(bench: Bench, queue_type: str) -> None:
    channel = await loopback(bench)
    own = [bench.name(name(channel)) for name in OWN]
    await bench.broker.delete_queues(own)
    context = bench._workers[channel]._context
    await context.publish(names.inbound_queue(channel), (mo("found").to_wire(),))
    await context.publish(names.dead_queue(channel), (DeadLetter(reason="failed", error="").to_wire(),))
    await bench.app.wait(1)
    there = await bench.broker.look_at_queues([names.of_kind(name(channel), kind) for name in OWN for kind in (False, True)])
    assert {*there} <= {*own}


async def test_who_publishes_takes_the_kind_that_there_is(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "LOOK_EVERY", 0.0)
    broker, queue = bench.broker, names.inbound_queue("some-channel")
    quorum = names.of_kind(queue, True)

    async def publish(prefers_quorum: bool) -> None:
        await broker.kinds.publish(queue, [b"1", b"2"], is_quorum=prefers_quorum)

    await broker.declare({queue: {}}, remember=False)
    await publish(True)
    assert await broker.queue_lengths((queue, quorum)) == {queue: 2, quorum: 0}
    await broker.declare({quorum: names.incoming_queues("some-channel", True)[quorum]}, remember=False)
    await publish(True)  # what is in the other one comes first
    assert await broker.kinds.lengths({queue: True}) == {queue: 4}
    await _empty(broker, queue)
    await publish(True)
    await broker.delete_queues((queue,))
    await publish(False)
    assert await broker.queue_lengths((queue, quorum)) == {queue: 0, quorum: 4}
    assert await broker.kinds.lengths({queue: False}) == {queue: 4}
    assert await broker.kinds.find(queue, False) == (quorum, 4)
    await broker.delete_queues((quorum,))


async def _empty(broker: Broker, queue: str) -> None:
    async def visit(deliveries: Any) -> bool:
        for each in deliveries:
            assert isinstance(each, Delivery)
            each.ack()
        return True

    await broker.browse(queue, visit, keeping=False)
    assert not await broker.queue_length(queue)


async def test_a_queue_that_rabbitmq_was_killed_over_is_made_again(
    bench: Bench, own_rabbitmq: RabbitmqServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A quorum queue of that moment is there ever after, but takes nothing, and who publishes to it waits for good."""
    monkeypatch.setattr(delay_queues, "SETTLING", 2.0)
    amqp = dataclasses.replace(own_rabbitmq.settings, queue_type="quorum")
    bench.settings = dataclasses.replace(bench.settings, amqp=amqp)
    broker = Broker(amqp, "test")
    broker.start()
    await broker.wait_connected(30)
    context = ChannelContext("c", bench.settings, broker, bench.stores, lambda: ChannelSpec(id="c", type="", config={}), _own)
    queue = names.of_kind(names.retry_queue("c", 1), True)
    opening = asyncio.create_task(delay_queues.open_queue(context, queue, names.waiting_arguments("c", 3600, True)))
    await eventually(lambda: broker.queue_exists(queue))
    await asyncio.to_thread(own_rabbitmq.kill)
    await asyncio.to_thread(own_rabbitmq.start)
    await asyncio.wait_for(opening, 90)
    await asyncio.wait_for(broker.publish_surely(queue, [b"x"]), 30)
    assert await broker.queue_length(queue) == 1
    await broker.close()


def _own(name: str, work: Any) -> asyncio.Task[Any]:
    return asyncio.create_task(work, name=name)
