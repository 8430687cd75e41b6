"""Going once through what waits in a queue, in its order: what is not acknowledged is back in its place at the end.

RabbitMQ gives a browser the messages themselves, not copies. While it has them, a running consumer of the same queue
would get later ones: whoever minds the order lets nobody consume meanwhile (`exclusive`), and goes on with what it has
in hand. So a browse is short: bounded in number, and what is only skipped is dropped where it arrives.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import aiormq.exceptions

from junebug.amqp.connection import FAILURES, Connection, is_away
from junebug.amqp.frames import Delivery, DeliveryChannel
from junebug.errors import QueueBusy

PREFETCH, BATCH = 1000, 500
MOST_KEPT = 65_535
"""Messages that a browse can leave in a queue behind it: RabbitMQ counts what is in hand with 16 bits."""
PATIENCE = 2.0
"""Seconds that it waits for the next message that should be there."""

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
    waiting, consumers = await channel.length(queue)
    expected = waiting if most is None else min(waiting, most)
    if consumers and exclusive:
        raise _busy(queue)  # it may hold all that is there
    if not expected:
        return 0
    arrived: list[Delivery] = []
    news = asyncio.Event()
    to_skip = skip

    def arrive(delivery: Delivery) -> None:
        nonlocal to_skip
        if to_skip:
            to_skip -= 1
        else:
            arrived.append(delivery)
        news.set()

    channel.on_delivery = arrive
    channel.on_cancelled = news.set
    await channel.set_prefetch(min(expected, MOST_KEPT) if keeping else PREFETCH)
    try:
        await channel.consume(queue, exclusive=exclusive)
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
            if not batch or not await visit(batch):
                break
        return seen
    finally:
        channel.on_delivery = None
        await _give_back(channel, queue)


async def _give_back(channel: DeliveryChannel, queue: str) -> None:
    """All is in its place again when this returns, unless the link is lost (then RabbitMQ does it in its own time)."""
    with suppress(*FAILURES):
        await channel.stop_consuming(queue)
        channel.requeue_all()
        await channel.length(queue)


def _busy(queue: str) -> QueueBusy:
    return QueueBusy(f"Somebody else is going through the queue {queue}: try again")
