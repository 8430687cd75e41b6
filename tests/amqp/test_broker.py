"""RabbitMQ as we use it, on a real server: confirmed batches, deliveries, and what happens while it is away."""

from __future__ import annotations

import asyncio
import dataclasses
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from pamqp import commands as amqp

from junebug import names
from junebug.amqp import broker as broker_module
from junebug.amqp.broker import Broker
from junebug.amqp.frames import Channel, Delivery
from junebug.config.declaration import AmqpSettings
from junebug.errors import BrokerUnavailable, QueueBusy, StartupError, Unroutable
from tests.polling import eventually
from tests.servers import RabbitmqServer


@pytest.fixture
async def queue(broker: Broker) -> AsyncIterator[str]:
    name = f"test-{uuid.uuid4()}.outbound"
    await broker.declare({name: {}})
    yield name
    await broker.delete_queues([name])


async def deleted_by_somebody(broker: Broker, queue: str) -> None:
    """By another than Junebug: it is still to be declared again."""
    channel = await Channel.open(broker._connection.link)
    await channel.ask(amqp.Queue.Delete(queue=queue))
    await channel.close()


async def test_what_is_confirmed_is_delivered_once_and_in_order(broker: Broker, queue: str) -> None:
    bodies = [str(number).encode() for number in range(3000)]
    await broker.publish_many(queue, bodies[:1000])
    await asyncio.gather(*(broker.publish(queue, body) for body in bodies[1000:]))
    got: list[bytes] = []

    def take(delivery: Delivery) -> None:
        got.append(delivery.body)
        delivery.ack()

    consumer = broker.consume(queue, take, prefetch=100)
    await eventually(lambda: len(got) == 3000)
    await consumer.cancel()
    assert got == bodies
    assert await broker.queue_length(queue) == 0


async def test_what_is_not_acknowledged_comes_again(broker: Broker, queue: str) -> None:
    await broker.publish_many(queue, [b"1", b"2", b"3"])
    got: list[Delivery] = []
    consumer = broker.consume(queue, got.append, prefetch=10)
    await eventually(lambda: len(got) == 3)
    got[1].ack()
    await consumer.cancel()
    assert not got[0].alive
    got[0].ack()  # too late: it does nothing
    consumer = broker.consume(queue, got.append, prefetch=10)
    await eventually(lambda: len(got) == 5)
    assert [delivery.body for delivery in got[3:]] == [b"1", b"3"]
    assert all(delivery.redelivered for delivery in got[3:])
    await consumer.cancel()


async def test_stopped_deliveries_can_still_be_acknowledged(broker: Broker, queue: str) -> None:
    await broker.publish_many(queue, [b"1", b"2"])
    got: list[Delivery] = []
    consumer = broker.consume(queue, got.append, prefetch=1)
    await eventually(lambda: len(got) == 1)
    await consumer.stop_deliveries()
    got[0].ack()
    await consumer.cancel()
    assert await broker.queue_length(queue) == 1
    assert len(got) == 1


async def test_a_message_that_nobody_takes_is_told(broker: Broker, queue: str) -> None:
    with pytest.raises(Unroutable, match="no.such.key"):
        await broker.publish("no.such.key", b"x", exchange=names.EXCHANGE)
    results = await asyncio.gather(
        broker.publish(queue, b"fine"), broker.publish("no.such.queue", b"x"), broker.publish(queue, b"fine, too"),
        return_exceptions=True,
    )  # fmt: skip
    assert [type(result) for result in results] == [type(None), Unroutable, type(None)]


FULL = {"x-max-length": 1, "x-overflow": "reject-publish"}


@pytest.mark.parametrize("then", ["there is room", "there is none", "it is gone"])
async def test_what_is_refused_is_published_again_for_a_moment(
    broker: Broker, then: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a quorum queue does that is being made; here it is one that is full."""
    monkeypatch.setattr("junebug.amqp.publisher.AFTER_REFUSAL", (0.05,) * (3 if then == "there is none" else 1000))
    queue = f"full-{uuid.uuid4()}"
    await broker.declare({queue: FULL}, remember=False)
    publishing = asyncio.create_task(broker.publish_many(queue, [b"1", b"2", b"3"]))
    await eventually(lambda: broker.queue_length(queue), what="the first")
    got: list[Delivery] = []

    def take(delivery: Delivery) -> None:
        got.append(delivery)
        delivery.ack_now()

    if then == "there is room":
        consumer = broker.consume(queue, take, prefetch=1)
        await publishing
        await eventually(lambda: len(got) == 3)
        assert [delivery.body for delivery in got] == [b"1", b"2", b"3"]
        await consumer.cancel()
    elif then == "there is none":
        with pytest.raises(BrokerUnavailable, match="refused") as raised:
            await publishing
        assert type(raised.value) is BrokerUnavailable
        assert await broker.queue_length(queue) == 1
    else:
        await broker.delete_queues([queue])
        with pytest.raises(Unroutable) as unroutable:
            await publishing
        assert unroutable.value.returned == [1, 2]
    await broker.delete_queues([queue])


async def test_a_quorum_queue_that_another_one_is_making_takes_messages(broker: Broker, amqp_settings: AmqpSettings) -> None:
    other = Broker(amqp_settings, "other")
    other.start()
    await other.wait_connected(10)
    for _ in range(10):
        queue = f"{uuid.uuid4()}.q"
        wanted = {queue: {"x-queue-type": "quorum"}}
        making = asyncio.create_task(other.declare(wanted, remember=False))
        await broker.declare(wanted, remember=False)
        await broker.publish(queue, b"x")
        await making
        await broker.delete_queues([queue])
    await other.close()


async def test_a_message_larger_than_a_frame_arrives_whole(broker: Broker, queue: str) -> None:
    body = bytes(range(256)) * 4096
    await broker.publish(queue, body)
    got: list[Delivery] = []
    consumer = broker.consume(queue, got.append, prefetch=1)
    await eventually(lambda: len(got) == 1)
    assert got[0].body == body
    await consumer.cancel()


async def test_an_empty_body_arrives(broker: Broker, queue: str) -> None:
    await broker.publish_many(queue, [b"", b"x"])
    got: list[Delivery] = []
    consumer = broker.consume(queue, got.append, prefetch=2)
    await eventually(lambda: len(got) == 2)
    assert [delivery.body for delivery in got] == [b"", b"x"]
    await consumer.cancel()


async def test_a_second_owner_is_refused(broker: Broker, queue: str, amqp_settings: AmqpSettings) -> None:
    first = broker.consume(queue, lambda delivery: delivery.ack(), prefetch=1, exclusive=True)
    await asyncio.wait_for(first.consuming.wait(), 10)
    other = Broker(amqp_settings, "other")
    other.start()
    await other.wait_connected(10)
    await other.declare({queue: {"x-max-priority": 5}})
    second = other.consume(queue, lambda delivery: delivery.ack(), prefetch=1, exclusive=True)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(second.consuming.wait(), 0.5)
    await first.cancel()
    await asyncio.wait_for(second.consuming.wait(), 10)
    await other.close()


async def test_a_consumer_of_a_deleted_queue_gets_it_back(broker: Broker, queue: str) -> None:
    got: list[bytes] = []

    def take(delivery: Delivery) -> None:
        got.append(delivery.body)
        delivery.ack()

    consumer = broker.consume(queue, take, prefetch=1)
    await asyncio.wait_for(consumer.consuming.wait(), 10)
    await deleted_by_somebody(broker, queue)

    async def is_back() -> bool:
        try:
            await broker.publish(queue, b"x")
        except Unroutable:
            return False
        return True

    await eventually(is_back)
    await eventually(lambda: got == [b"x"])
    await consumer.cancel()


async def test_what_must_arrive_brings_its_deleted_queue_back(broker: Broker, queue: str) -> None:
    await deleted_by_somebody(broker, queue)
    await broker.publish_surely(queue, [b"1", b"2"])
    assert await broker.queue_length(queue) == 2
    with pytest.raises(Unroutable):
        await broker.publish_surely("nobodys.queue", [b"1"])


async def test_the_length_of_a_queue_that_is_not_there_is_zero(broker: Broker) -> None:
    assert await broker.queue_length("no.such.queue") == 0
    await broker.delete_queues(["no.such.queue"])


async def test_a_fault_in_one_handler_leaves_the_connection_alive(broker: Broker, queue: str) -> None:
    def fail(delivery: Delivery) -> None:
        raise ValueError("a bug")

    consumer = broker.consume(queue, fail, prefetch=1)
    await broker.publish(queue, b"x")
    await consumer.cancel()
    assert await broker.queue_length(queue) == 1
    assert broker._connection.connected


async def test_everything_comes_back_after_a_kill_of_rabbitmq(own_rabbitmq: RabbitmqServer) -> None:
    states: list[bool] = []
    broker = Broker(own_rabbitmq.settings, "test", lambda up, why: states.append(up))
    broker.start()
    await broker.wait_connected(10)
    await broker.declare({"q": {}})
    got: set[bytes] = set()
    lost: list[bool] = []

    def take(delivery: Delivery) -> None:
        got.add(delivery.body)
        delivery.ack()

    consumer = broker.consume("q", take, prefetch=10, on_lost=lambda: lost.append(True))
    await asyncio.wait_for(consumer.consuming.wait(), 10)
    await broker.publish(queue := "q", b"before")
    own_rabbitmq.kill()
    await eventually(lambda: not broker._connection.connected)
    with pytest.raises(BrokerUnavailable):
        await broker.publish(queue, b"away")
    surely = asyncio.create_task(broker.publish_surely(queue, [b"surely"]))
    own_rabbitmq.start(wait=False)
    await asyncio.wait_for(surely, 60)
    await eventually(lambda: len(got & {b"before", b"surely"}) == 2)
    assert lost
    assert states[0]
    assert states[-1]
    assert False in states
    await consumer.cancel()
    await broker.close()


async def test_the_check_at_the_start_names_the_setting(amqp_settings: AmqpSettings) -> None:
    await broker_module.check(amqp_settings, 10)
    for wrong, named in (
        (dataclasses.replace(amqp_settings, port=1), "amqp.hostname, amqp.port: "),
        (dataclasses.replace(amqp_settings, password="sesame"), "amqp.username, amqp.password: "),
        (dataclasses.replace(amqp_settings, vhost="/nowhere"), "amqp.vhost: "),
    ):
        with pytest.raises(StartupError) as error:
            await broker_module.check(wrong, 10)
        assert str(error.value).startswith(named), str(error.value)
        assert "sesame" not in str(error.value)
        assert "\n" not in str(error.value)


async def test_close_ends_a_broker_that_never_connected() -> None:
    broker = Broker(AmqpSettings(port=1), "test")
    broker.start()
    with pytest.raises(BrokerUnavailable):
        await broker.wait_connected(0.1)
    with pytest.raises(BrokerUnavailable):
        await broker.publish("q", b"x")
    await asyncio.wait_for(broker.close(), 5)


async def test_a_consumer_can_be_paused_the_moment_it_has_a_delivery(broker: Broker, queue: str) -> None:
    await broker.publish_many(queue, [b"1", b"2"])
    for _ in range(5):
        delivered = asyncio.Event()
        consumer = broker.consume(queue, lambda _, delivered=delivered: delivered.set(), prefetch=10, exclusive=True)
        await asyncio.wait_for(delivered.wait(), 10)
        await asyncio.wait_for(consumer.cancel(), 10)
    assert await broker.queue_length(queue) == 2


@pytest.mark.parametrize("messages", [0, 1])
async def test_a_queue_of_another_junebug_is_taken_over(broker: Broker, messages: int) -> None:
    old, other = f"old-{uuid.uuid4()}.outbound", f"new-{uuid.uuid4()}.inbound"
    await broker.declare({old: {"x-max-priority": 5}}, remember=False)
    await broker.publish_many(old, [b"x"] * messages)
    await broker.declare({old: {}, other: {}})
    assert await broker.queue_lengths([old, other]) == {old: messages, other: 0}
    await broker.publish(old, b"y")
    await broker.publish(other, b"declared, too")
    got: list[bytes] = []
    consumer = broker.consume(old, lambda delivery: got.append(delivery.body), prefetch=10)
    await eventually(lambda: len(got) == 1 + messages)
    assert got == [b"x"] * messages + [b"y"]
    await consumer.cancel()
    await broker.delete_queues([old, other])


async def test_an_applications_queue_is_used_as_it_is(broker: Broker) -> None:
    name = f"app-{uuid.uuid4()}.outbound"
    await broker.declare({name: {"x-max-length": 5}}, remember=False)
    await broker.declare({name: {}}, bind=True)
    await broker.publish_many(name, [b"x"] * 10)
    assert await broker.queue_length(name) == 5
    await broker.publish(name, b"bound", exchange=names.EXCHANGE)
    await broker.delete_queues([name])


async def test_lengths_of_queues_that_are_not_there_are_0(broker: Broker, queue: str) -> None:
    await broker.publish_many(queue, [b"1", b"2"])
    assert await broker.queue_lengths(["no.such", queue, "nor.this"]) == {"no.such": 0, queue: 2, "nor.this": 0}


async def test_idle_queues_are_deleted_and_the_others_named(broker: Broker, queue: str) -> None:
    queues = {name: f"{queue}.{name}" for name in ("absent", "idle", "full", "another", "consumed", "last")}
    await broker.declare({queues[name]: {} for name in queues if name != "absent"}, remember=False)
    await broker.publish(queues["full"], b"kept")
    consumer = broker.consume(queues["consumed"], lambda _: None, prefetch=1)

    async def is_consumed() -> bool:
        return (await broker.look_at_queues([queues["consumed"]]))[queues["consumed"]].consumers == 1

    await eventually(is_consumed)
    assert await broker.without_idle_queues(queues.values()) == [queues["full"], queues["consumed"]]
    assert (await broker.look_at_queues(queues.values())).keys() == {queues["full"], queues["consumed"]}
    assert await broker.queue_length(queues["full"]) == 1
    assert await broker.without_idle_queues([]) == []
    await consumer.cancel()
    await broker.delete_queues(list(queues.values()))


async def test_a_message_that_has_waited_too_long_is_dropped(broker: Broker, queue: str) -> None:
    await broker.publish(queue, b"brief", expiration=0.001)
    await broker.publish(queue, b"lasting")
    got: list[Delivery] = []

    async def brief_is_gone() -> bool:
        return await broker.queue_length(queue) == 1

    await eventually(brief_is_gone)
    consumer = broker.consume(queue, got.append, prefetch=10)
    await eventually(lambda: len(got) == 1)
    assert got[0].body == b"lasting"
    await consumer.cancel()


async def test_several_queues_share_a_consumer(broker: Broker, queue: str) -> None:
    other = f"{queue}.other"
    await broker.declare({other: {}})
    await broker.publish_many(queue, [b"1"] * 3)
    await broker.publish_many(other, [b"2"] * 3)
    got: list[Delivery] = []
    consumer = broker.consume([queue, other], got.append, prefetch=2)
    await eventually(lambda: len(got) == 4)
    assert sorted((delivery.queue, delivery.body) for delivery in got) == [(queue, b"1")] * 2 + [(other, b"2")] * 2
    for delivery in got:
        delivery.ack()
    await eventually(lambda: len(got) == 6)
    await consumer.cancel()
    await broker.delete_queues([other])


# --- standing still, and walking through a queue ----------------------------------------------------------------------


async def test_a_halted_consumer_gives_back_what_is_not_begun_and_keeps_the_rest(broker: Broker, queue: str) -> None:
    await broker.publish_many(queue, [str(number).encode() for number in range(6)])
    got: list[Delivery] = []
    consumer = broker.consume(queue, got.append, prefetch=4, exclusive=True)
    await eventually(lambda: len(got) == 4)
    begun, waiting = got[1], [got[0], *got[2:]]
    await consumer.halt(lambda: waiting)
    seen = await bodies(broker, queue)
    assert seen == [b"0", b"2", b"3", b"4", b"5"]
    begun.ack()
    got.clear()
    await consumer.go_on()
    await eventually(lambda: len(got) >= 4)  # RabbitMQ may give a fifth for the one that was acknowledged meanwhile
    assert [delivery.body for delivery in got][:4] == [b"0", b"2", b"3", b"4"]
    await consumer.cancel()
    assert await bodies(broker, queue) == seen


async def bodies(broker: Broker, queue: str, **options: Any) -> list[bytes]:
    """What a walk sees."""
    seen: list[bytes] = []

    async def visit(batch: Sequence[Delivery]) -> bool:
        seen.extend(delivery.body for delivery in batch)
        return True

    await broker.browse(queue, visit, keeping=True, **options)
    return seen


async def test_a_halted_consumer_stays_so_when_the_link_is_lost(broker: Broker, queue: str) -> None:
    got: list[Delivery] = []
    consumer = broker.consume(queue, got.append, prefetch=10)
    await asyncio.wait_for(consumer.consuming.wait(), 10)
    await consumer.halt()
    link = broker._connection.link
    await link.close()
    await eventually(lambda: broker._connection.connected and broker._connection.link is not link)
    await broker.publish(queue, b"x")
    assert await broker.queue_length(queue) == 1
    assert not consumer.consuming.is_set()
    await consumer.go_on()
    await eventually(lambda: len(got) == 1)
    await consumer.cancel()


async def test_a_walk_takes_what_is_chosen_and_leaves_the_rest_in_order(broker: Broker, queue: str) -> None:
    numbers = range(2500)
    await broker.publish_many(queue, [str(number).encode() for number in numbers])
    batches = 0

    async def take_the_even(batch: Sequence[Delivery]) -> bool:
        nonlocal batches
        batches += 1
        for delivery in batch:
            if int(delivery.body) % 2 == 0:
                delivery.ack()
        return True

    assert await broker.browse(queue, take_the_even, keeping=True) == 2500
    assert batches > 1
    assert await bodies(broker, queue) == [str(number).encode() for number in numbers if number % 2]
    assert await bodies(broker, queue, most=3) == [b"1", b"3", b"5"]


async def test_a_walk_that_takes_everything_empties_the_queue(broker: Broker, queue: str) -> None:
    await broker.publish_many(queue, [b"x"] * 2500)

    async def take(batch: Sequence[Delivery]) -> bool:
        for delivery in batch:
            delivery.ack()
        return True

    assert await broker.browse(queue, take, keeping=False) == 2500
    assert await broker.queue_length(queue) == 0
    assert await broker.browse(queue, take, keeping=False) == 0
    assert await broker.browse("no.such.queue", take, keeping=False) == 0


async def test_a_walk_that_fails_half_way_loses_nothing(broker: Broker, queue: str) -> None:
    await broker.publish_many(queue, [b"1", b"2", b"3"])

    async def fail(batch: Sequence[Delivery]) -> bool:
        batch[0].ack()
        raise BrokerUnavailable("the next publish failed")

    with pytest.raises(BrokerUnavailable, match="the next publish failed"):
        await broker.browse(queue, fail, keeping=True)
    assert await bodies(broker, queue) == [b"2", b"3"]


async def test_nobody_walks_where_somebody_consumes(broker: Broker, queue: str) -> None:
    await broker.publish(queue, b"x")
    consumer = broker.consume(queue, lambda _: None, prefetch=1, exclusive=True)
    await asyncio.wait_for(consumer.consuming.wait(), 10)
    with pytest.raises(QueueBusy, match="try again"):
        await bodies(broker, queue)
    await consumer.cancel()


async def test_a_temporary_queue_is_there_as_long_as_its_consumer_is_connected(
    broker: Broker, amqp_settings: AmqpSettings
) -> None:
    name = f"temporary-{uuid.uuid4()}"
    other = Broker(amqp_settings, "other")
    other.start()
    await other.wait_connected(10)
    got: list[Delivery] = []
    consumer = other.consume(name, got.append, prefetch=1, temporary=True)
    await asyncio.wait_for(consumer.consuming.wait(), 10)
    await broker.publish(name, b"x")
    await eventually(lambda: len(got) == 1)
    await other.close()
    with pytest.raises(Unroutable):
        await broker.publish(name, b"y")


async def test_a_consumer_may_be_halted_and_go_on_at_any_moment(broker: Broker, queue: str) -> None:
    await broker.publish_many(queue, [b"x"] * 20)
    got: list[Delivery] = []
    link = broker._connection.link

    def taken_back() -> list[Delivery]:
        taken = got[:]
        got.clear()
        return taken

    for moment in range(30):
        consumer = broker.consume(queue, got.append, prefetch=10, exclusive=True)
        for _ in range(moment):
            await asyncio.sleep(0)
        await asyncio.gather(consumer.halt(taken_back), consumer.go_on(), consumer.halt(taken_back))
        await consumer.go_on()
        await eventually(lambda: len(got) == 10)
        await consumer.cancel()
        got.clear()
    assert broker._connection.link is link, "the connection was lost"
    assert await broker.queue_length(queue) == 20
