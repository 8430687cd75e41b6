"""What once went wrong with RabbitMQ, on a real server: each test is named after the promise that was broken."""

from __future__ import annotations

import asyncio
import signal
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from pamqp import commands as amqp

from junebug import names
from junebug.amqp.broker import Broker
from junebug.amqp.connection import Link
from junebug.amqp.frames import Channel, Delivery
from junebug.config.declaration import AmqpSettings
from junebug.errors import BrokerUnavailable, Unroutable
from tests.polling import eventually
from tests.servers import RabbitmqServer


@pytest.fixture
async def queue(broker: Broker) -> AsyncIterator[str]:
    name = f"test-{uuid.uuid4()}.outbound"
    await broker.declare({name: {}})
    yield name
    await broker.wait_connected(10)
    await broker.delete_queues([name])


@pytest.fixture
def alarmed(own_rabbitmq: RabbitmqServer) -> Iterator[RabbitmqServer]:
    """For a test that sets an alarm."""
    yield own_rabbitmq
    own_rabbitmq.alarm(False)


async def set_alarm(server: RabbitmqServer, on: bool) -> None:
    await asyncio.to_thread(server.alarm, on)


async def block(broker: Broker, server: RabbitmqServer, queue: str) -> None:
    """RabbitMQ tells of an alarm to whoever publishes."""
    await set_alarm(server, True)

    async def is_blocked() -> bool:
        if not broker.blocked:
            try:
                await broker.publish(queue, b"probe", timeout=1)
            except BrokerUnavailable:
                pass
        return bool(broker.blocked)

    await eventually(is_blocked)


# --- C1 ---------------------------------------------------------------------------------------------------------------


async def connected(server: RabbitmqServer, queues: dict[str, dict[str, Any]], *, bind: bool = False) -> Broker:
    """To be closed. These queues are there."""
    broker = Broker(server.settings, "test")
    broker.start()
    await broker.wait_connected(10)
    await broker.declare(queues, bind=bind)
    return broker


async def test_publishing_goes_on_after_somebody_deleted_the_exchange(own_rabbitmq: RabbitmqServer) -> None:
    broker = await connected(own_rabbitmq, {"app.outbound": {}, "own": {}}, bind=True)
    await broker.publish("app.outbound", b"1", exchange=names.EXCHANGE)
    channel = await Channel.open(broker._connection.link)
    await channel.ask(amqp.Exchange.Delete(exchange=names.EXCHANGE))
    await channel.close()
    with pytest.raises(BrokerUnavailable, match="vumi"):
        await broker.publish("app.outbound", b"lost", exchange=names.EXCHANGE, timeout=5)
    await broker.publish("own", b"2", timeout=5)
    await broker.publish("app.outbound", b"3", exchange=names.EXCHANGE, timeout=5)
    await asyncio.wait_for(broker.publish_surely("app.outbound", [b"4"], exchange=names.EXCHANGE), 10)
    assert await broker.queue_lengths(["app.outbound", "own"]) == {"app.outbound": 3, "own": 1}
    assert broker._connection.connected
    await broker.close()


async def test_health_publishes(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    await broker.ping(5)
    channel = broker._publisher._channel
    before = channel._confirmed
    await broker.ping(5)
    assert channel._confirmed == before + 1


# --- C2, C12 ----------------------------------------------------------------------------------------------------------


async def test_while_rabbitmq_blocks_publishers_all_is_refused_at_once_and_nothing_leaves_later(
    alarmed: RabbitmqServer,
) -> None:
    states: list[tuple[bool, str]] = []
    broker = Broker(alarmed.settings, "test", lambda usable, why: states.append((usable, why)))
    broker.start()
    await broker.wait_connected(10)
    await broker.declare({"probes": {}, "q": {}})
    await block(broker, alarmed, "probes")
    assert states[-1][0] is False
    assert "low on memory" in states[-1][1]
    refused = await asyncio.wait_for(
        asyncio.gather(*(broker.publish("q", b"x" * 1000, timeout=60) for _ in range(100)), return_exceptions=True), 10
    )
    assert {type(each) for each in refused} == {BrokerUnavailable}
    with pytest.raises(BrokerUnavailable, match="takes no messages"):
        await broker.ping(60)
    surely = asyncio.create_task(broker.publish_surely("q", [b"surely"]))
    await set_alarm(alarmed, False)
    await asyncio.wait_for(surely, 30)
    assert states[-1] == (True, "connected")
    assert await broker.queue_length("q") == 1
    await broker.close()


async def test_what_waits_to_be_written_when_the_alarm_comes_is_refused_at_once_and_never_leaves(
    alarmed: RabbitmqServer,
) -> None:
    broker = await connected(alarmed, {"q": {}, "late": {}})
    await broker.publish("q", b"x")
    channel = broker._publisher._channel
    await set_alarm(alarmed, True)
    written = [asyncio.create_task(broker.publish_many("q", [b"x" * 100_000] * 20, timeout=60)) for _ in range(100)]
    late = [asyncio.create_task(broker.publish_many("late", [b"x"] * 100, timeout=60)) for _ in range(100)]  # for want of room
    await eventually(lambda: broker.blocked)
    refused = await asyncio.wait_for(asyncio.gather(*late, return_exceptions=True), 10)
    assert {type(each) for each in refused} == {BrokerUnavailable}
    assert {"takes no messages" in str(each) for each in refused} == {True}
    assert channel._unwritten_bytes == 0
    assert sum(not each.done() for each in written) < 20, "more than what was on its way already"
    await set_alarm(alarmed, False)
    outcomes = await asyncio.wait_for(asyncio.gather(*written, return_exceptions=True), 60)
    whole = 1 + 20 * outcomes.count(None)
    assert whole <= await broker.queue_length("q") < whole + 20  # the alarm may have cut one of them in two
    assert await broker.queue_length("late") == 0
    await broker.close()


async def test_queues_drain_while_rabbitmq_blocks_publishers(alarmed: RabbitmqServer) -> None:
    broker = await connected(alarmed, {"probes": {}, "q": {}})
    await broker.publish_many("q", [str(number).encode() for number in range(500)])
    await block(broker, alarmed, "probes")
    got: list[bytes] = []

    def take(delivery: Delivery) -> None:
        got.append(delivery.body)
        delivery.ack()

    consumer = broker.consume("q", take, prefetch=10)
    await eventually(lambda: len(got) == 500)

    async def is_empty() -> bool:
        return await broker.queue_length("q") == 0

    await eventually(is_empty)
    await consumer.cancel()
    await asyncio.wait_for(broker.close(), 10)


async def test_what_rabbitmq_does_not_read_is_bounded_and_never_leaves_once_given_up(
    own_rabbitmq: RabbitmqServer,
) -> None:
    broker = await connected(own_rabbitmq, {"q": {}, "given up": {}})
    await broker.publish("q", b"x")
    link, channel = broker._publisher._link, broker._publisher._channel
    assert link is not None
    own_rabbitmq.signal(signal.SIGSTOP)
    try:
        large = [asyncio.create_task(broker.publish_many("q", [b"x" * 100_000] * 20)) for _ in range(100)]  # 200 MB
        transport = link._stream.writer.transport
        await eventually(lambda: transport.get_write_buffer_size() > 0 and channel._unwritten_bytes >= 8_000_000)
        late = [asyncio.create_task(broker.publish("given up", b"x", timeout=0.2)) for _ in range(10)]
        outcomes = await asyncio.gather(*late, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {BrokerUnavailable}
        assert transport.get_write_buffer_size() < 2_000_000
        assert channel._unwritten_bytes < 12_000_000
    finally:
        own_rabbitmq.signal(signal.SIGCONT)
    await asyncio.wait_for(asyncio.gather(*large), 60)
    assert await broker.queue_lengths(["q", "given up"]) == {"q": 2001, "given up": 0}
    await broker.close()


async def test_what_is_given_up_in_the_line_never_leaves(
    own_rabbitmq: RabbitmqServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("junebug.amqp.confirm_channel.MOST_UNWRITTEN", 1_000_000_000)
    broker = await connected(own_rabbitmq, {"q": {}, "given up": {}})
    await broker.publish("q", b"x")
    channel = broker._publisher._channel
    own_rabbitmq.signal(signal.SIGSTOP)
    try:
        large = [asyncio.create_task(broker.publish_many("q", [b"x" * 100_000] * 20)) for _ in range(25)]  # 50 MB
        await eventually(lambda: channel._unwritten_bytes > 10_000_000)
        late = [asyncio.create_task(broker.publish("given up", b"x", timeout=0.2)) for _ in range(10)]
        await eventually(lambda: channel._unwritten[-1].size < 1000)
        outcomes = await asyncio.gather(*late, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {BrokerUnavailable}
    finally:
        own_rabbitmq.signal(signal.SIGCONT)
    await asyncio.wait_for(asyncio.gather(*large), 60)
    assert channel._unwritten_bytes == 0
    assert await broker.queue_lengths(["q", "given up"]) == {"q": 501, "given up": 0}
    await broker.close()


# --- C3 ---------------------------------------------------------------------------------------------------------------


async def test_what_must_arrive_is_written_once_however_late_the_confirm(
    own_rabbitmq: RabbitmqServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("junebug.amqp.connection.HEARTBEAT_AT_HOME", 0)  # the link itself outlasts what is withheld
    broker = await connected(own_rabbitmq, {"q": {}})
    await broker.publish("q", b"before")
    loop, passed = asyncio.get_running_loop(), 0.0
    time = loop.time
    monkeypatch.setattr(loop, "time", lambda: time() + passed)
    own_rabbitmq.signal(signal.SIGSTOP)
    try:
        surely = asyncio.create_task(broker.publish_surely("q", [b"once"]))
        given_up = asyncio.create_task(broker.publish("q", b"given up"))  # so that time is seen to pass
        await eventually(lambda: broker._publisher._channel._tag == 3)
        for _ in range(60):  # an hour, in which every timer of this loop ends
            passed += 60
            for _ in range(20):
                await asyncio.sleep(0)
        with pytest.raises(BrokerUnavailable, match="did not confirm within"):
            await given_up
        assert not surely.done()
    finally:
        own_rabbitmq.signal(signal.SIGCONT)
    await asyncio.wait_for(surely, 30)
    assert await broker.queue_length("q") == 3
    await broker.close()


# --- frames on numbers that are not open (504) ------------------------------------------------------------------------


async def test_errands_that_are_given_up_at_any_moment_cost_nobody_the_connection(broker: Broker, queue: str) -> None:
    link = broker._connection.link

    async def give_up(errand: Any, moments: int) -> None:
        task = asyncio.ensure_future(errand)
        for _ in range(moments):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    for moments in range(60):
        errands = (
            broker.queue_lengths([queue, "no.such.queue", queue]),
            broker.declare({queue: {}}, remember=False),
            broker.browse(queue, nothing, keeping=True),
            broker.delete_idle_queue("no.such.queue"),
        )
        await asyncio.gather(*(give_up(errand, moments) for errand in errands))
    assert await broker.queue_length(queue) == 0
    assert broker._connection.link is link
    assert not link.is_closed


async def nothing(_: Any) -> bool:
    return True


async def test_a_close_that_rabbitmq_answers_late_is_sent_once(own_rabbitmq: RabbitmqServer) -> None:
    broker = await connected(own_rabbitmq, {"q": {}})
    link = broker._connection.link
    consumer = broker.consume("q", lambda _: None, prefetch=10)
    await asyncio.wait_for(consumer.consuming.wait(), 10)
    own_rabbitmq.signal(signal.SIGSTOP)
    try:
        for errand in (consumer.cancel(), broker.queue_length("q")):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(errand, 0.3)
    finally:
        own_rabbitmq.signal(signal.SIGCONT)
    assert await broker.queue_lengths(["q"] * 20) == {"q": 0}
    assert broker._connection.link is link
    assert not link.is_closed
    await broker.close()


async def test_a_channel_that_rabbitmq_closed_writes_nothing_more(broker: Broker, queue: str) -> None:
    link = broker._connection.link
    await broker.publish_many(queue, [b"x"] * 10)
    for _ in range(20):
        got: list[Delivery] = []
        consumer = broker.consume(queue, got.append, prefetch=10)
        await eventually(lambda got=got: len(got) == 10)
        channel = consumer._channel
        assert channel is not None
        with pytest.raises(Exception, match="nowhere"):
            await channel.ask(amqp.Queue.Declare(queue="nowhere", passive=True))
        for delivery in got:
            delivery.ack()  # too late: it must not reach RabbitMQ
        await broker.queue_lengths(["nowhere", queue])
        await consumer.cancel()
    assert broker._connection.link is link
    assert await broker.queue_length(queue) == 10


# --- C8 ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keeper", ["connection", "consumer", "publisher"])
async def test_a_keeper_that_dies_of_a_bug_is_told_to_whoever_owns_the_broker(
    amqp_settings: AmqpSettings, queue: str, monkeypatch: pytest.MonkeyPatch, keeper: str
) -> None:
    broker = Broker(amqp_settings, "test")
    broker.start()
    await broker.wait_connected(10)
    watching = asyncio.create_task(broker.tasks.failure())
    consumer = broker.consume(queue, lambda _: None, prefetch=1)

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("a bug of ours")

    await asyncio.wait_for(consumer.consuming.wait(), 10)
    if keeper == "publisher":
        await broker.publish(queue, b"x")
        monkeypatch.setattr(broker._publisher._channel, "_next_frames", fail)
        with pytest.raises(BrokerUnavailable):
            await broker.publish(queue, b"x", timeout=0.2)
    else:
        monkeypatch.setattr(*((Link, "open") if keeper == "connection" else (consumer, "_begin")), fail)
        await broker._connection.link.close()
    with pytest.raises(RuntimeError, match="a bug of ours"):
        await asyncio.wait_for(watching, 10)
    monkeypatch.undo()
    await broker.close()


async def test_a_message_that_nobody_takes_after_a_half_given_up_batch_is_told_to_the_right_one(
    own_rabbitmq: RabbitmqServer,
) -> None:
    broker = await connected(own_rabbitmq, {"q": {}})
    await broker.publish("q", b"x")
    own_rabbitmq.signal(signal.SIGSTOP)
    try:
        with pytest.raises(BrokerUnavailable):  # its first part is on its way
            await broker.publish_many("nowhere", [b"x" * 100_000] * 200, timeout=0.3)
        following = asyncio.create_task(broker.publish("q", b"y"))
    finally:
        own_rabbitmq.signal(signal.SIGCONT)
    await asyncio.wait_for(following, 30)
    with pytest.raises(Unroutable):
        await broker.publish("nowhere", b"z")
    assert await broker.queue_length("q") == 2
    await broker.close()
