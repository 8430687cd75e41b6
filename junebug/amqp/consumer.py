"""Consuming queues for as long as it takes: begun again after every loss of the link.

Neighbours: quorum_consumer.py is for quorum queues; broker.py makes either (`Broker.consume`); frames.py has its channel;
browse.py goes through a queue once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, InitVar, dataclass
from typing import ClassVar

import structlog
from pamqp import commands as amqp

from junebug.amqp.connection import FAILURES, FIRST_PAUSE, LONGEST_PAUSE, Connection
from junebug.amqp.frames import Delivery, DeliveryChannel
from junebug.amqp.topology import Topology
from junebug.errors import BrokerUnavailable
from junebug.runtime.backoff import Backoff
from junebug.runtime.loop import end_task
from junebug.runtime.tasks import TaskOwner

log = structlog.stdlib.get_logger(__name__)


@dataclass(eq=False)
class Consumer:
    """Has `on_delivery` called (in the event loop, must not block) for each message, until cancelled.

    Of several queues each has its own `prefetch`. They must be among those declared, unless they are `temporary`: made by
    this consumer, for it alone, gone with its connection. `exclusive`: RabbitMQ lets nobody else consume them meanwhile.
    `halted`: it begins with `go_on`. `on_begun` is called when it consumes (again), `on_lost` when the link breaks: what
    was not acknowledged will be delivered again.
    """

    connection: Connection
    topology: Topology
    tasks: TaskOwner
    all_consumers: set[Consumer]
    """Where it stands until it is cancelled."""
    queue: InitVar[str | Sequence[str]]
    on_delivery: Callable[[Delivery], None]
    _: KW_ONLY
    prefetch: int
    exclusive: bool = False
    temporary: bool = False
    halted: InitVar[bool] = False
    on_lost: Callable[[], None] | None = None
    on_begun: Callable[[], None] | None = None
    in_turn: ClassVar = False
    """Whether all that it has in hand goes back at a time, as of quorum queues."""

    def __post_init__(self, queue: str | Sequence[str], halted: bool) -> None:
        self.queues = (queue,) if isinstance(queue, str) else tuple(queue)
        self._channel: DeliveryChannel | None = None
        self._wanted = asyncio.Event()
        self._switching = asyncio.Lock()
        """A consumer that is begun twice on one channel costs the whole connection."""
        self._not_begun: Callable[[], Iterable[Delivery]] = tuple
        if not halted:
            self._wanted.set()
        self._taker = self.on_delivery
        """Whom each delivery comes to first."""
        self.consuming = asyncio.Event()
        self._keeper = self.tasks.own("amqp consumer", self._keep_consuming())
        self.all_consumers.add(self)

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
            if self._wanted.is_set() or not (channel and channel.usable):
                return
            await self._put_back(channel)

    async def _put_back(self, channel: DeliveryChannel) -> None:
        late: list[Delivery] = []
        channel.on_delivery = late.append
        with suppress(*FAILURES):  # the link is gone, and with it the deliveries
            if self.consuming.is_set():
                self.consuming.clear()
                for queue in self.queues:
                    await channel.stop_consuming(queue)
            for delivery in (*self._not_begun(), *late):
                delivery.requeue()
            for queue in self.queues:
                await channel.length(queue)  # its answer says that what was put back is back

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

    async def extend(self, queues: Sequence[str]) -> None:
        """From now on it consumes these, in this order when it begins again; those of before are among them."""
        async with self._switching:
            more = [queue for queue in queues if queue not in self.queues]
            self.queues = tuple(queues)
            if more and self._channel and self._channel.usable and self.consuming.is_set():
                try:
                    await self._ask_for(self._channel, *more)
                except FAILURES:
                    await self._close_channel()  # so that the keeper begins again

    async def stop_deliveries(self) -> None:
        """Take no more, but keep what is in hand: it can still be acknowledged."""
        channel = self._channel
        if channel and channel.usable:
            channel.on_delivery = None
            with suppress(*FAILURES):  # the link is gone, and with it the deliveries
                for queue in self.queues:
                    await channel.stop_consuming(queue)

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
            waiting, _ = await self._channel.length(self.queues[0])
        except FAILURES as error:
            raise self.connection.unavailable(error) from None
        return waiting

    async def left(self) -> int:
        """Messages that wait in its queues or are in hand. Raises BrokerUnavailable."""
        channel = self._channel
        try:
            if channel is None:
                raise ConnectionError("there is no connection to RabbitMQ")
            waiting = [(await channel.length(queue))[0] for queue in self.queues]
        except FAILURES as error:
            raise self.connection.unavailable(error) from None
        return sum(waiting) + self.in_hand

    async def cancel(self) -> None:
        """End for good. What is acknowledged leaves first, the rest goes back to the queue."""
        await end_task(self._keeper)
        await self._close_channel()
        self.all_consumers.discard(self)

    async def _close_channel(self) -> None:
        channel, self._channel = self._channel, None
        self.consuming.clear()
        if channel:
            channel.on_delivery = None
            await channel.close()

    async def _keep_consuming(self) -> None:
        backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        is_missing = False
        while True:
            await self.connection.wait(None)
            await self._wanted.wait()
            try:
                async with self._switching:
                    channel, ended = await self._begin(declare=is_missing)
            except (*FAILURES, BrokerUnavailable) as error:
                is_missing = True
                log.warning("cannot consume", queue=self.queues[0], reason=self.connection.reason(error))
                await self._close_channel()
                await backoff.pause()
                continue
            backoff.reset()
            if not self._wanted.is_set():
                await self._stand_still()  # it was halted in this moment
            await ended.wait()
            is_missing = channel.usable  # RabbitMQ ended the consumer, not the link: its queue was deleted
            await self._close_channel()
            if self.on_lost:
                self.on_lost()

    async def _begin(self, declare: bool) -> tuple[DeliveryChannel, asyncio.Event]:
        """The channel, and what is set when it or a consumer on it ends."""
        if declare:
            await self.topology.declare_again(self.queues)
        channel = self._channel = await DeliveryChannel.open(self.connection.link)
        ended = asyncio.Event()
        channel.on_cancelled = ended.set
        await channel.set_prefetch(self.prefetch)
        if self.temporary:
            for queue in self.queues:
                await channel.ask(amqp.Queue.Declare(queue=queue, exclusive=True))
        await self._consume_on(channel)
        return channel, ended

    async def _consume_on(self, channel: DeliveryChannel) -> None:
        channel.on_delivery = self._taker
        await self._ask_for(channel, *self.queues)
        self.consuming.set()
        if self.on_begun:
            self.on_begun()

    async def _ask_for(self, channel: DeliveryChannel, *queues: str) -> None:
        await channel.consume(*queues, exclusive=self.exclusive)
