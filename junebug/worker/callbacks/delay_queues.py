"""The queues where callbacks wait for a later attempt, one for each length of time: what is due moves to the callback queue.

RabbitMQ only keeps them; the worker moves what is due, and acknowledges it here only when it is confirmed there: RabbitMQ's
own timers (a TTL with dead-lettering) lose messages of a classic queue when it is killed, and a quorum queue as a whole when
it is killed soon after making it. In one queue all wait about as long, so only its head need be looked at. Of a quorum queue,
which has no place for what is only looked at, it is kept in hand.

Neighbour: attempts.py puts callbacks in.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import structlog
from msgspec.structs import replace

from junebug import names
from junebug.amqp.frames import Delivery
from junebug.errors import BrokerUnavailable, MalformedMessage, QueueBusy, StoreUnavailable
from junebug.model.callbacks import Callback
from junebug.worker.callbacks.retry_policy import Delay
from junebug.worker.context import ChannelContext

log = structlog.stdlib.get_logger("forwarder")

BATCH = 200
PAUSE = 0.1
"""Seconds between two looks at one queue, at the least."""
LEEWAY = 3600.0
"""Seconds that a callback may be late."""
SETTLING = 2.0
"""Seconds before a new queue is used. RabbitMQ that is killed forgets what it was asked to make in the moment before, and what
it confirmed there (measured with 3.10: 4 of 54 queues in the first 0.2 s, none of 24 after 0.5 s, on a quiet machine).
"""


class DelayQueues:
    def __init__(self, context: ChannelContext) -> None:
        self._context = context
        self._news: dict[str, asyncio.Event] = {}
        """Name of a queue that is looked after -> something was put into it."""
        self._opening = asyncio.Lock()
        self._held: dict[str, deque[Delivery]] = {}
        """Name of a quorum queue -> what came from it and is not due."""

    def names(self) -> list[str]:
        """Of the queues that may hold something."""
        return list(self._news)

    @property
    def held(self) -> int:
        """What came from them and is not due."""
        return sum(map(len, self._held.values()))

    async def note_again(self) -> None:
        for name in self.names():
            await note(self._context, name)

    async def put(self, callback: Callback, delay: Delay) -> None:
        """Have the callback come back to the callback queue after the delay; returns when RabbitMQ has confirmed it."""
        callback = replace(callback, due=time.time() + delay.seconds)
        channel, is_quorum = self._context.channel, self._context.prefers_quorum
        name = names.of_kind(names.retry_queue(channel, delay.queue), is_quorum)
        async with self._opening:
            if name not in self._news:
                arguments = names.waiting_arguments(channel, delay.queue + LEEWAY, is_quorum)
                await open_queue(self._context, name, arguments)
                self.look_after(name)
        await self._context.broker.publish_surely(name, (callback.to_wire(),))
        self._news[name].set()

    def look_after(self, name: str) -> None:
        """Something is in this queue, or will be soon."""
        is_quorum = self._context.prefers_quorum
        if names.is_quorum(name) != is_quorum:
            self._context.own(f"end of {name}", self._take_over(name, names.plain(name), is_quorum))
        elif name not in self._news:
            self._news[name] = asyncio.Event()
            self._context.own(f"repeats of {name}", self._move_forever(name))

    async def _take_over(self, former: str, plain: str, is_quorum: bool) -> None:
        """Of the other kind, from before the setting changed: what waits there waits in the present one."""
        name, seconds = names.of_kind(plain, is_quorum), int(plain.rpartition(".")[2]) / 1000
        await open_queue(self._context, name, names.waiting_arguments(self._context.channel, seconds + LEEWAY, is_quorum))
        await pass_on_all(self._context, former, name)
        self.look_after(name)

    async def _move_forever(self, name: str) -> None:
        news = self._news[name]
        while True:
            news.clear()
            try:
                due = await (self._move_all if names.is_quorum(name) else self._move_due)(name)
            except BrokerUnavailable:
                await self._context.broker.wait_connected(None)
                due = 0.0
            if due is None:
                await news.wait()
            await asyncio.sleep(max(PAUSE, (due or 0.0) - time.time()))

    async def _move_due(self, name: str) -> float | None:
        """When the next is due; None: there is none. Raises BrokerUnavailable."""
        next_due: float | None = None
        broker = self._context.broker

        async def visit(deliveries: Sequence[Delivery]) -> bool:
            nonlocal next_due
            now = time.time()
            ready = _ready(deliveries, now)
            if len(ready) < len(deliveries):
                next_due = _due(deliveries[len(ready)])
            if ready:
                callback_queue = names.callback_queue(self._context.channel)
                await self._context.publish(callback_queue, [delivery.body for delivery in ready])
            for delivery in ready:
                delivery.ack()
            return next_due is None

        seen = await broker.browse(name, visit, keeping=True, most=BATCH, exclusive=False)
        return 0.0 if seen and next_due is None else next_due

    async def _move_all(self, name: str) -> float | None:
        """Until there is none any more in this quorum queue (None). Raises BrokerUnavailable."""
        arrived = self._held[name] = deque[Delivery]()
        news = asyncio.Event()

        def arrive(delivery: Delivery) -> None:
            arrived.append(delivery)
            news.set()

        consumer = self._context.broker.consume(name, arrive, prefetch=BATCH, on_lost=arrived.clear)
        try:
            while True:
                news.clear()
                now = time.time()
                if ready := _ready(arrived, now):
                    callback_queue = names.callback_queue(self._context.channel)
                    await self._context.publish(callback_queue, [delivery.body for delivery in ready])
                    for delivery in ready:
                        delivery.ack()
                        if delivery.alive:
                            arrived.popleft()
                elif arrived:
                    with suppress(TimeoutError):  # not all wait for as long: what arrives may be due
                        async with asyncio.timeout(max(PAUSE, _due(arrived[0]) - now)):
                            await news.wait()
                elif not consumer.consuming.is_set() or await consumer.left():
                    with suppress(TimeoutError):
                        async with asyncio.timeout(PAUSE):
                            await news.wait()
                else:
                    break
        finally:
            del self._held[name]
            await consumer.cancel()
        return 0.0 if await self._context.broker.queue_length(name) else None


async def open_queue(
    context: ChannelContext, name: str, arguments: Mapping[str, Any], destination: str = "", ttl: float = names.NOTE_TTL
) -> None:
    """Declare a queue where callbacks wait, and note it for the process after this one (see DelayQueueStore.note).

    When this returns RabbitMQ will not forget it.
    """
    is_new = not await context.broker.surely(lambda: context.broker.queue_exists(name))
    await context.broker.declare_surely({name: arguments})
    await note(context, name, destination, ttl)
    if is_new:
        await asyncio.sleep(SETTLING)
    while names.is_quorum(name) and not await context.broker.surely(lambda: _works(context, name)):
        log.error("RabbitMQ was killed as it made a queue, and spoilt it: made again", queue=name)
        await context.broker.surely(lambda: context.broker.delete_queues((name,)))
        await context.broker.declare_surely({name: arguments})
        await asyncio.sleep(SETTLING)


async def note(context: ChannelContext, name: str, destination: str = "", ttl: float = names.NOTE_TTL) -> None:
    """For the process after this one (DelayQueueStore.note), which finds it without a note, too, but later (Dispatcher)."""
    try:
        await context.stores.delay_queues.note(context.channel, name, destination, ttl)
    except StoreUnavailable as error:
        what = "a backlog" if destination else "a delay queue"
        log.warning(f"{what} could not be noted", queue=name, reason=str(error))


async def _works(context: ChannelContext, name: str) -> bool:
    seen = await context.broker.look_at_queues((name,))
    return bool(name in seen and (any(seen[name]) or await context.broker.has_leader(name)))


async def pass_on_all(context: ChannelContext, former: str, present: str) -> None:
    """From a queue that nobody else knows, which is gone when this returns."""
    broker = context.broker

    async def visit(deliveries: Sequence[Delivery]) -> bool:
        await broker.publish_surely(present, [delivery.body for delivery in deliveries])
        for delivery in deliveries:
            delivery.ack()
        return True

    while not await broker.surely(lambda: delete_if_empty(context, former)):
        log.info("what waits in a former queue is passed on", queue=former)
        with suppress(QueueBusy, BrokerUnavailable):
            await broker.browse(former, visit, keeping=False)
        await asyncio.sleep(PAUSE)


async def delete_if_empty(context: ChannelContext, queue: str) -> bool:
    """Whether such a queue is gone; else something is in it, or in somebody's hands. Raises BrokerUnavailable."""
    broker = context.broker
    if not names.is_quorum(queue):
        is_gone = await broker.delete_idle_queue(queue)
    elif is_gone := not any((await broker.look_at_queues((queue,))).get(queue, ())):
        await broker.delete_queues((queue,))
    if is_gone:
        with suppress(StoreUnavailable):  # the note ends some day
            await context.stores.delay_queues.forget(context.channel, [queue])
    return is_gone


def _ready(deliveries: Iterable[Delivery], now: float) -> list[Delivery]:
    return list(itertools.takewhile(lambda delivery: _due(delivery) <= now, deliveries))


def _due(delivery: Delivery) -> float:
    try:
        return Callback.from_wire(delivery.body).due
    except MalformedMessage:
        return 0.0  # it is buried where it goes
