"""Going once through what waits in a queue, in its order: what is not acknowledged is back in its place at the end.

RabbitMQ gives a browser the messages themselves, not copies. While it has them, a running consumer of the same queue
would get later ones: whoever minds the order lets nobody consume meanwhile (`exclusive`), and goes on with what it has
in hand. So a browse is short: bounded in number, and what is only skipped is dropped where it arrives.

A quorum queue has no place for what is given back: it goes before all that was never delivered, but behind what was given back
before. So whoever has seen some of that takes the rest of it, too, and gives back all of it, in its order.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress

import aiormq.exceptions

from junebug import names
from junebug.amqp.connection import FAILURES, Connection, is_away
from junebug.amqp.frames import Delivery, DeliveryChannel
from junebug.errors import QueueBusy

PREFETCH, BATCH = 1000, 500
MOST_KEPT = 65_535
"""Messages that a browse can leave in a queue behind it: RabbitMQ counts what is in hand with 16 bits."""
PATIENCE = 2.0
"""Seconds that it waits for the next message that should be there."""
GIVING_BACK, CLOSING_PAUSE = 10.0, 0.01
"""Seconds in which what is given back should be back; between two looks."""

Visit = Callable[[Sequence[Delivery]], Awaitable[bool]]


async def browse(
    connection: Connection, queue: str, visit: Visit, *, keeping: bool, most: int | None = None, skip: int = 0,
    exclusive: bool = True,
) -> int:  # fmt: skip
    """Go once through what waits in the queue, in its order; how many messages were seen.

    `visit` gets them in batches and answers whether to go on. What it acknowledges is gone; the rest is back in its place
    when this returns. `keeping`: it leaves many there (else they come as fast as it acknowledges). `most`: see no more than
    so many, the first `skip` of which are left out. `exclusive`: nobody else may consume the queue meanwhile.

    Raises QueueBusy when somebody consumes it already, BrokerUnavailable.
    """
    try:
        channel = await DeliveryChannel.open(connection.link)
        try:
            return await _browse(channel, queue, visit, keeping, most, skip, exclusive)
        except aiormq.exceptions.ChannelNotFoundEntity as error:
            if is_away(error):
                raise
            return 0
        finally:
            channel.close_soon()
    except FAILURES as error:
        raise connection.unavailable(error) from None


async def _browse(
    channel: DeliveryChannel, queue: str, visit: Visit, keeping: bool, most: int | None, skip: int, exclusive: bool
) -> int:
    in_turn = names.is_quorum(queue)
    waiting, consumers = await channel.length(queue)
    expected = waiting if most is None else min(waiting, most)
    if consumers and exclusive:
        raise _busy(queue)  # it may hold all that is there
    if not expected:
        return 0
    arrived: list[Delivery] = []
    news = asyncio.Event()
    to_skip, is_returned = skip, None

    def arrive(delivery: Delivery) -> None:
        nonlocal to_skip, is_returned
        is_returned = delivery.redelivered
        if to_skip:
            to_skip -= 1
        else:
            arrived.append(delivery)
        news.set()

    channel.on_delivery = arrive
    channel.on_cancelled = news.set
    await channel.set_prefetch(min(expected, MOST_KEPT) if keeping else PREFETCH)
    try:
        await channel.consume(queue, exclusive=exclusive and not in_turn)
    except aiormq.exceptions.ChannelAccessRefused:
        raise _busy(queue) from None
    try:
        seen = min(skip, expected)
        while seen < expected:
            enough = min(BATCH, expected - seen)
            is_patient = True
            while (to_skip or len(arrived) < enough) and is_patient and channel.usable:
                news.clear()
                try:
                    async with asyncio.timeout(PATIENCE):
                        await news.wait()
                except TimeoutError:
                    is_patient = False  # what is missing has expired, or somebody else has it
            if not channel.usable:
                raise ConnectionError(str(channel.ended_by or "the channel was closed"))
            batch = arrived[:enough]
            del arrived[:enough]
            seen += len(batch)
            if in_turn and is_returned is None:
                raise _busy(queue)  # who came before is served
            if not batch or not await visit(batch):
                break
        return seen
    finally:
        channel.on_delivery = None
        with suppress(*FAILURES):
            if in_turn:
                await give_back(channel, (queue,), (queue,) if is_returned else ())
            else:
                await channel.stop_consuming(queue)
                channel.requeue_all()
                await channel.length(queue)


async def give_back(channel: DeliveryChannel, queues: Sequence[str], returned: Collection[str]) -> None:
    """All that came from these quorum queues is in its place again when this returns, and the channel closed. `returned`: those
    of which what came last had been given back before. Raises FAILURES: the link is lost, then RabbitMQ does it in its own time.
    """
    others: list[tuple[DeliveryChannel, str]] = []
    for queue in returned:
        before, is_returned = channel, True
        while is_returned:
            others.append((await DeliveryChannel.open(channel.link), queue))
            is_returned = await _takes_returned(before, others[-1][0], queue)
            before = others[-1][0]
    for each, queue in (*((channel, queue) for queue in queues), *others):
        await each.stop_consuming(queue)
    asking = await DeliveryChannel.open(channel.link)
    left = Counter(queue for _, queue in others)
    await _close(channel, {queue: left[queue] for queue in queues}, asking)
    for each, queue in others:
        left[queue] -= 1
        await _close(each, {queue: left[queue]}, asking)
    asking.close_soon()


async def _close(channel: DeliveryChannel, left: Mapping[str, int], asking: DeliveryChannel) -> None:
    """What was not acknowledged is in its queues when this returns; `left`: queue -> others that have something of it in hand.

    RabbitMQ gives back in the order of delivery what a closed channel had; what is rejected together, in none (3.10, of more
    than 32). It closes a channel before the queues hear of it: until then they count a consumer that has something in hand.
    """
    await channel.close()
    with suppress(TimeoutError):
        async with asyncio.timeout(GIVING_BACK):
            for queue, consumers in left.items():
                while (await asking.length(queue))[1] > consumers:  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(CLOSING_PAUSE)


async def _takes_returned(before: DeliveryChannel, channel: DeliveryChannel, queue: str) -> bool:
    """Whether all that comes on this channel, once the one before takes no more, had been given back, and there is more."""
    arrived: list[bool] = []
    news = asyncio.Event()

    def arrive(delivery: Delivery) -> None:
        arrived.append(delivery.redelivered)
        news.set()

    channel.on_delivery, channel.on_cancelled = arrive, news.set
    await channel.set_prefetch(PREFETCH)
    await channel.consume(queue, exclusive=False)  # before the other one ends: else somebody might come between
    await before.stop_consuming(queue)
    with suppress(TimeoutError):
        while channel.usable and all(arrived) and len(arrived) < PREFETCH:
            news.clear()
            if not (await channel.length(queue))[0]:
                break
            async with asyncio.timeout(PATIENCE):
                await news.wait()
    return len(arrived) >= PREFETCH and all(arrived)


def _busy(queue: str) -> QueueBusy:
    return QueueBusy(f"Somebody else is going through the queue {queue}: try again")
