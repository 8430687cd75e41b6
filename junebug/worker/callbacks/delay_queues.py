"""The queues where callbacks wait for a later attempt, one for each length of time: what is due moves to the callback queue.

RabbitMQ only keeps them; the worker moves what is due, and acknowledges it here only when it is confirmed there: RabbitMQ's
own timers (a TTL with dead-lettering) lose messages of a classic queue when it is killed, and a quorum queue as a whole when
it is killed soon after making it. In one queue all wait about as long, so only its head need be looked at.

Neighbour: attempts.py puts callbacks in.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from msgspec.structs import replace

from junebug import names
from junebug.amqp.frames import Delivery
from junebug.errors import BrokerUnavailable, MalformedMessage, StoreUnavailable
from junebug.model.callbacks import Callback
from junebug.worker.callbacks.retry_policy import Delay
from junebug.worker.context import ChannelContext

log = structlog.stdlib.get_logger("forwarder")

BATCH = 200
PAUSE = 0.1
"""Seconds between two looks at one queue, at the least."""
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

    def names(self) -> list[str]:
        """Of the queues that may hold something."""
        return list(self._news)

    async def put(self, callback: Callback, delay: Delay) -> None:
        """Have the callback come back to the callback queue after the delay; returns when RabbitMQ has confirmed it."""
        callback = replace(callback, due=time.time() + delay.seconds)
        name = names.retry_queue(self._context.channel, delay.queue)
        async with self._opening:
            if name not in self._news:
                await open_queue(self._context, name, names.delay_arguments(self._context.channel, delay.queue))
                self.look_after(name)
        await self._context.broker.publish_surely(name, (callback.to_wire(),))
        self._news[name].set()

    def look_after(self, name: str) -> None:
        """Something is in this queue, or will be soon."""
        if name not in self._news:
            self._news[name] = asyncio.Event()
            self._context.own(f"repeats of {name}", self._move_forever(name))

    async def _move_forever(self, name: str) -> None:
        news = self._news[name]
        while True:
            news.clear()
            try:
                due = await self._move_due(name)
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
            ready = list(itertools.takewhile(lambda delivery: _due(delivery) <= now, deliveries))
            if len(ready) < len(deliveries):
                next_due = _due(deliveries[len(ready)])
            if ready:
                callback_queue = names.callback_queue(self._context.channel)
                await broker.publish_surely(callback_queue, [delivery.body for delivery in ready])
            for delivery in ready:
                delivery.ack()
            return next_due is None

        seen = await broker.browse(name, visit, keeping=True, most=BATCH, exclusive=False)
        return 0.0 if seen and next_due is None else next_due


async def open_queue(
    context: ChannelContext, name: str, arguments: Mapping[str, Any], destination: str = "", ttl: float = names.NOTE_TTL
) -> None:
    """Declare a queue where callbacks wait, and note it for the process after this one (see DelayQueueStore.note).

    When this returns RabbitMQ will not forget it.
    """
    is_new = not await context.broker.surely(lambda: context.broker.queue_exists(name))
    await context.broker.declare_surely({name: arguments})
    try:
        await context.stores.delay_queues.note(context.channel, name, destination, ttl)
    except StoreUnavailable as error:  # the settings' delays are known, a backlog is found when its destination is called next
        what = "a backlog" if destination else "a delay queue"
        log.warning(f"{what} could not be noted", queue=name, reason=str(error))
    if is_new:
        await asyncio.sleep(SETTLING)


def _due(delivery: Delivery) -> float:
    try:
        return Callback.from_wire(delivery.body).due
    except MalformedMessage:
        return 0.0  # it is buried where it goes
