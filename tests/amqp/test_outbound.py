"""What waits to be sent, on a real RabbitMQ: listed in the order of sending, cancelled with an event each."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from junebug import names
from junebug.amqp import browse, frames
from junebug.amqp.broker import Broker
from junebug.amqp.frames import Delivery
from junebug.amqp.outbound_queue import Cancelled, cancel_all, list_queued, queues_of
from junebug.errors import QueueBusy
from junebug.model.callbacks import DeadLetter
from junebug.model.messages import Event, UserMessage
from junebug.model.spec import ChannelSpec
from junebug.runtime.families import GIVEN_UP, MESSAGES
from junebug.runtime.metrics import Metrics
from tests.polling import eventually

_CANCELLED = MESSAGES.field("outbound", "cancelled")


QUORUM = names.Layout(is_quorum=True)
LAYOUTS: dict[str, names.Layout] = {}
"""Channel -> how its queues are."""


@pytest.fixture(params=[names.PLAIN, QUORUM], ids=["classic", "quorum"])
async def channel(broker: Broker, request: pytest.FixtureRequest) -> AsyncIterator[str]:
    made = str(uuid.uuid4())
    LAYOUTS[made] = request.param
    declared = names.channel_queues(made, (1, 5), request.param)
    await broker.declare(declared, remember=False)
    yield made
    await broker.delete_queues(list(declared))


def is_quorum(channel: str) -> bool:
    return LAYOUTS[channel].is_quorum


def queues(channel: str) -> list[str]:
    return queues_of(ChannelSpec(id=channel, type="", config={}, noted_priorities=frozenset((11,))), LAYOUTS[channel])


async def queue(broker: Broker, channel: str, *texts: str, priority: int = 1) -> list[str]:
    """Their ids."""
    messages = [UserMessage(to_addr="1", from_addr=None, content=text, transport_name=channel) for text in texts]
    await broker.publish_many(LAYOUTS[channel].queue(channel, priority), [message.to_wire() for message in messages])
    return [message.message_id for message in messages]


async def taken(broker: Broker, queue: str) -> list[bytes]:
    """All that is in the queue, which is empty afterwards."""
    found: list[bytes] = []

    async def visit(batch: Sequence[Delivery]) -> bool:
        for delivery in batch:
            found.append(delivery.body)
            delivery.ack()
        return True

    await broker.browse(queue, visit, keeping=False)
    return found


async def listed(broker: Broker, channel: str, offset: int = 0, limit: int = 100) -> list[tuple[int, str | None]]:
    found = await list_queued(broker, channel, queues(channel), offset, limit)
    return [(message.priority, message.content) for message in found]


async def test_a_page_is_listed_in_the_order_of_sending(broker: Broker, channel: str) -> None:
    await queue(broker, channel, "a", "b", "c")
    await queue(broker, channel, "urgent", "urgent too", priority=5)
    everything = [(5, "urgent"), (5, "urgent too"), (1, "a"), (1, "b"), (1, "c")]
    assert await listed(broker, channel) == everything
    for offset in range(6):
        for limit in (1, 2, 5):
            assert await listed(broker, channel, offset, limit) == everything[offset : offset + limit]


async def test_what_is_before_a_page_is_not_kept(broker: Broker, channel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    alive = most_alive = 0

    class Counted(Delivery):
        def __init__(self, *given: Any) -> None:
            nonlocal alive, most_alive
            super().__init__(*given)
            alive += 1
            most_alive = max(alive, most_alive)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    monkeypatch.setattr(frames, "Delivery", Counted)
    await queue(broker, channel, *map(str, range(500)))
    assert await listed(broker, channel, 400, 10) == [(1, str(number)) for number in range(400, 410)]
    assert 10 <= most_alive < 20


async def test_cancelling_all_empties_every_queue_and_tells_each(broker: Broker, channel: str) -> None:
    metrics = Metrics()
    ids = await queue(broker, channel, *map(str, range(700)))
    urgent = await queue(broker, channel, "urgent", priority=5)
    done = await cancel_all(broker, metrics, channel, queues(channel), 30, is_quorum=is_quorum(channel))
    assert done == Cancelled(701, 0)
    assert await listed(broker, channel) == []
    queue_of_events = names.of_kind(names.event_queue(channel), is_quorum(channel))
    events = [Event.from_wire(wire) for wire in await taken(broker, queue_of_events)]
    assert [event.user_message_id for event in events] == [*urgent, *ids]
    assert {(event.api_type, event.nack_reason) for event in events} == {("rejected", "cancelled")}


async def test_what_cannot_be_cancelled_in_time_is_told(broker: Broker, channel: str) -> None:
    metrics = Metrics()
    await queue(broker, channel, *map(str, range(1200)))
    done = await cancel_all(broker, metrics, channel, queues(channel), 0, is_quorum=is_quorum(channel))
    assert 0 < done.cancelled < 1200
    assert done.cancelled + done.remaining == 1200


async def test_what_cannot_be_read_becomes_a_dead_letter(broker: Broker, channel: str) -> None:
    metrics = Metrics()
    await broker.publish(LAYOUTS[channel].queue(channel), b"{")
    await queue(broker, channel, "a")
    assert await listed(broker, channel) == [(1, "a")]
    assert await cancel_all(broker, metrics, channel, queues(channel), 30, is_quorum=is_quorum(channel)) == Cancelled(1, 0)
    (letter,) = map(DeadLetter.from_wire, await taken(broker, names.of_kind(names.dead_queue(channel), is_quorum(channel))))
    assert (letter.reason, letter.queue, letter.body) == ("unreadable", LAYOUTS[channel].queue(channel), b"{")
    assert metrics.of(channel) == {_CANCELLED: 1, GIVEN_UP.field("unreadable"): 1}


async def test_what_was_cancelled_before_a_queue_was_busy_is_counted(
    broker: Broker, channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics, browse = Metrics(channel), broker.browse
    await queue(broker, channel, "urgent", priority=5)

    async def busy(name: str, *given: Any, **more: Any) -> int:
        if name == LAYOUTS[channel].queue(channel):
            raise QueueBusy("somebody else goes through it")
        return await browse(name, *given, **more)

    monkeypatch.setattr(broker, "browse", busy)
    with pytest.raises(QueueBusy):
        await cancel_all(broker, metrics, channel, queues(channel), 30, is_quorum=is_quorum(channel))
    assert metrics.counts == {_CANCELLED: 1}


async def test_what_was_given_back_keeps_its_place(broker: Broker, channel: str) -> None:
    """A quorum queue has none for it: a page is given back before and behind what another page was."""
    await queue(broker, channel, *map(str, range(1, 31)))
    everything = [(1, str(number)) for number in range(1, 31)]
    for offset, limit in ((0, 10), (0, 3), (5, 2), (2, 15), (0, 1), (29, 5), (0, 4)):
        assert await listed(broker, channel, offset, limit) == everything[offset : offset + limit]
    taken_by_another: list[Delivery] = []
    name = LAYOUTS[channel].queue(channel)
    consumer = broker.consume(name, taken_by_another.append, prefetch=7)
    await eventually(lambda: len(taken_by_another) == 7)
    await consumer.cancel()
    assert await listed(broker, channel, 0, 2) == everything[:2]
    assert await listed(broker, channel) == everything


async def test_what_is_given_back_by_who_has_just_begun_keeps_its_place(
    broker: Broker, channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RabbitMQ may deliver before it has answered that it does."""
    await queue(broker, channel, *map(str, range(1, 31)))
    assert len(await listed(broker, channel)) == 30
    consume, answer_comes = frames.DeliveryChannel.consume, asyncio.Event()

    async def late(self: frames.DeliveryChannel, *queues: str, exclusive: bool) -> None:
        await consume(self, *queues, exclusive=exclusive)
        try:
            await answer_comes.wait()
        except asyncio.CancelledError:
            await self.close()  # as frames.py does with one whose answer is not waited for
            raise

    taken_by_another: list[Delivery] = []
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(frames.DeliveryChannel, "consume", late)
        consumer = broker.consume(LAYOUTS[channel].queue(channel), taken_by_another.append, prefetch=7)
        await eventually(lambda: len(taken_by_another) == 7)
        cancelling = asyncio.create_task(consumer.cancel())
        await asyncio.sleep(0)
        answer_comes.set()
        await cancelling
    assert await listed(broker, channel) == [(1, str(number)) for number in range(1, 31)]


async def test_more_was_given_back_than_is_taken_at_once(
    broker: Broker, channel: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browse, "PREFETCH", 4)
    await queue(broker, channel, *map(str, range(1, 31)))
    assert len(await listed(broker, channel, 0, 21)) == 21
    assert await listed(broker, channel, 0, 2) == [(1, "1"), (1, "2")]
    assert await listed(broker, channel) == [(1, str(number)) for number in range(1, 31)]
