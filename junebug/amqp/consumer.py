"""Consuming a queue for as long as it takes, and walking through one once.

Neighbours: broker.py makes both (`Broker.consume`, `Broker.walk`) and keeps the connection; amqp_channel.py does what
comes once per message.
"""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import aiormq.exceptions
import structlog

from junebug.amqp.frames import FAILURES, RPC_TIMEOUT, Delivery, FastChannel, close_channel
from junebug.errors import BrokerUnavailable, QueueBusy
from junebug.runtime.loop import end_task

if TYPE_CHECKING:
    from junebug.amqp.broker import Broker

log = structlog.stdlib.get_logger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
WALK_PREFETCH, WALK_BATCH = 1000, 500
WALK_PATIENCE = 2.0
"""Seconds that a walk waits for the next message that should be there."""


class Consumer:
    """A consumer that starts again after every loss of the link; made by `Broker.consume`."""

    def __init__(
        self,
        broker: Broker,
        queues: tuple[str, ...],
        on_delivery: Callable[[Delivery], None],
        *,
        prefetch: int,
        exclusive: bool,
        temporary: bool,
        halted: bool,
        on_lost: Callable[[], None] | None,
    ) -> None:
        self.queues = queues
        self._broker = broker
        self._on_delivery = on_delivery
        self._on_lost = on_lost
        self._prefetch = prefetch
        self._exclusive = exclusive
        self._temporary = temporary
        self._channel: FastChannel | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._wanted = asyncio.Event()
        self._switching = asyncio.Lock()
        """A consumer that is begun twice on one channel costs the whole connection."""
        self._not_begun: Callable[[], Iterable[Delivery]] = tuple
        if not halted:
            self._wanted.set()
        self.consuming = asyncio.Event()

    def resume(self) -> None:
        """Consume (again)."""
        if self._keeper is None or self._keeper.done():
            self._keeper = asyncio.create_task(self._keep_consuming())

    async def pause(self) -> None:
        """Give back to the queue, in its order, all that is not acknowledged, and take no more until `resume`."""
        if self._keeper:
            await end_task(self._keeper)
            self._keeper = None
        await self._close_channel()

    async def halt(self, waiting: Callable[[], Iterable[Delivery]] = tuple) -> None:
        """Take no more until `go_on`, and put back in its place what `waiting` then says has not been begun.

        What else is in hand can still be acknowledged.
        """
        self._wanted.clear()
        self._not_begun = waiting
        await self._stand_still()

    async def _stand_still(self) -> None:
        async with self._switching:
            channel = self._channel
            if self._wanted.is_set() or not (channel and channel.usable and self.consuming.is_set()):
                return
            self.consuming.clear()
            late: list[Delivery] = []
            channel.on_delivery = late.append
            try:
                for queue in self.queues:
                    await channel.basic_cancel(queue, timeout=RPC_TIMEOUT)
                for delivery in (*self._not_begun(), *late):
                    delivery.requeue()
                async with asyncio.timeout(RPC_TIMEOUT):
                    await channel.flush()
                # its answer says that RabbitMQ has put back what was sent before
                await channel.basic_qos(prefetch_count=self._prefetch, timeout=RPC_TIMEOUT)
            except FAILURES:
                pass  # the link is gone, and with it the deliveries

    async def go_on(self) -> None:
        """After `halt`: consume again."""
        self._wanted.set()
        async with self._switching:
            channel = self._channel
            if self._wanted.is_set() and channel and channel.usable and not self.consuming.is_set():
                try:
                    await self._consume_on(channel)
                except FAILURES:
                    await self._close_channel()  # so that the keeper begins again

    async def stop_deliveries(self) -> None:
        """Take no more, but keep what is in hand: it can still be acknowledged."""
        channel = self._channel
        if channel and channel.usable:
            channel.on_delivery = None
            try:
                for queue in self.queues:
                    await channel.basic_cancel(queue, timeout=RPC_TIMEOUT)
            except FAILURES:
                pass  # the link is gone, and with it the deliveries

    @property
    def in_hand(self) -> int:
        """Messages that came and are not acknowledged."""
        return self._channel.unacknowledged if self._channel and self._channel.usable else 0

    async def waiting(self) -> int:
        """Messages that wait in its (first) queue. All that RabbitMQ had delivered before it answers is in hand then.

        Raises BrokerUnavailable.
        """
        try:
            if self._channel is None:
                raise ConnectionError("there is no connection to RabbitMQ")
            declared = await self._channel.queue_declare(self.queues[0], passive=True, timeout=RPC_TIMEOUT)
        except FAILURES as error:
            raise BrokerUnavailable(f"RabbitMQ does not answer: {self._broker.reason(error)}") from None
        return declared.message_count or 0

    async def cancel(self) -> None:
        """End for good. What is acknowledged leaves first, the rest goes back to the queue."""
        await self.pause()
        self._broker.drop(self)

    async def _close_channel(self) -> None:
        channel, self._channel = self._channel, None
        self.consuming.clear()
        if channel:
            await close_channel(channel)

    async def _keep_consuming(self) -> None:
        pause = FIRST_PAUSE
        is_missing = False
        while True:
            await self._broker.wait_connected(None)
            await self._wanted.wait()
            try:
                async with self._switching:
                    channel = await self._begin(declare=is_missing)
            except FAILURES as error:
                is_missing = True
                log.warning("cannot consume", queue=self.queues[0], reason=self._broker.reason(error))
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(pause * 2, LONGEST_PAUSE)
                continue
            pause = FIRST_PAUSE
            if not self._wanted.is_set():
                await self._stand_still()  # it was halted in this moment
            ended = asyncio.Event()
            channel.on_cancelled = ended.set
            channel.closing.add_done_callback(functools.partial(_set_event, ended))
            await ended.wait()
            is_missing = channel.usable  # RabbitMQ ended the consumer, not the link: its queue was deleted
            await self._close_channel()
            if self._on_lost:
                self._on_lost()

    async def _begin(self, declare: bool) -> FastChannel:
        if declare:
            await self._broker.declare_again(self.queues)
        channel = await FastChannel.open_on(self._broker.link(), timeout=RPC_TIMEOUT)
        self._channel = channel
        await channel.basic_qos(prefetch_count=self._prefetch, timeout=RPC_TIMEOUT)
        if self._temporary:
            for queue in self.queues:
                await channel.queue_declare(queue, exclusive=True, timeout=RPC_TIMEOUT)
        await self._consume_on(channel)
        return channel

    async def _consume_on(self, channel: FastChannel) -> None:
        channel.on_delivery = self._on_delivery
        for queue in self.queues:
            await channel.basic_consume(
                queue, _never_called, exclusive=self._exclusive, consumer_tag=queue, timeout=RPC_TIMEOUT
            )
        self.consuming.set()


async def walk(
    channel: FastChannel,
    queue: str,
    visit: Callable[[Sequence[Delivery]], Awaitable[bool]],
    *,
    keeping: bool,
    most: int | None,
    exclusive: bool,
) -> int:
    """See `Broker.walk`. Raises QueueBusy, and what aiormq raises."""
    declared = await channel.queue_declare(queue, passive=True, timeout=RPC_TIMEOUT)
    waiting = declared.message_count or 0
    expected = waiting if most is None else min(waiting, most)
    if declared.consumer_count and exclusive:
        raise _busy(queue)  # it may hold all that is there
    if not expected:
        return 0
    arrived: list[Delivery] = []
    news = asyncio.Event()

    def take(delivery: Delivery) -> None:
        arrived.append(delivery)
        news.set()

    channel.on_delivery = take
    channel.on_cancelled = news.set
    channel.closing.add_done_callback(functools.partial(_set_event, news))
    await channel.basic_qos(prefetch_count=(most or 0) if keeping else WALK_PREFETCH, timeout=RPC_TIMEOUT)
    try:
        await channel.basic_consume(queue, _never_called, exclusive=exclusive, consumer_tag=queue, timeout=RPC_TIMEOUT)
    except aiormq.exceptions.ChannelAccessRefused:
        raise _busy(queue) from None
    seen = 0
    while seen < expected:
        try:
            async with asyncio.timeout(WALK_PATIENCE):
                await news.wait()
        except TimeoutError:
            break  # what is missing has expired, or somebody else has it
        if not channel.usable:
            raise ConnectionError("the connection to RabbitMQ was lost")
        batch = arrived[: min(WALK_BATCH, expected - seen)]
        del arrived[: len(batch)]
        if not arrived:
            news.clear()
        seen += len(batch)
        if not batch or not await visit(batch):
            break
    return seen


def _busy(queue: str) -> QueueBusy:
    return QueueBusy(f"Somebody else is going through the queue {queue}: try again")


def _set_event(event: asyncio.Event, _: Any) -> None:
    event.set()


async def _never_called(_: Any) -> None:
    """aiormq wants a callback; deliveries reach FastChannel.deliver before aiormq sees them."""
