"""Queues of what is on its way to the application become those of the other kind (amqp/kinds.py): the process that consumes them
decides when it begins. What is in the former ones is passed on into the present ones, in its order, before anything else may
come into these; then what others still publish to the former ones is, until nothing has come for a while, and they are deleted.

RabbitMQ deletes a classic queue on the condition that it is empty, a quorum queue with whatever is in it; so both stay for as
long. An older Junebug, which knows of one kind only, makes its queue again: now and then it is looked for.

Neighbours: process.py has one for the queues of a channel, router.py for those of a router and of what comes by its channel;
outbound/former.py is for what is to be sent.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import structlog

from junebug import names
from junebug.amqp.consumer import Consumer
from junebug.amqp.frames import Delivery
from junebug.amqp.topology import Seen
from junebug.errors import BrokerUnavailable, Unroutable
from junebug.worker.context import ChannelContext

log = structlog.stdlib.get_logger("worker")

LOOK_EVERY, LOOK_LATER = 0.25, 5.0
"""Seconds between two looks whether such a queue is empty, and once it has been."""
QUIET = 60.0
"""Seconds for which nothing may have come into a former queue before it is deleted: longer than anybody waits for a confirm."""
PREFETCH = 300
"""No more than anybody consumes such a queue with: of what a killed process had in hand a quorum queue keeps the order only for
who takes all of it again.
"""
LATER, AGAIN = (60.0, 600.0), 3600.0
"""Seconds, at random between these, after which former queues are looked for that nobody knew of; until that is done again."""


class TakeOver:
    def __init__(self, context: ChannelContext, queues: Mapping[str, Mapping[str, Any]], *, is_quorum: bool) -> None:
        """`queues`: those of the present kind (names.incoming_queues or callback_queues), which are there."""
        self._context = context
        self._is_quorum = is_quorum
        self._queues = queues
        self._plain = [names.plain(queue) for queue in queues]
        self._present = {names.of_kind(queue, not is_quorum): names.of_kind(queue, is_quorum) for queue in self._plain}
        """Former queue -> the present one. The first is deleted last: by that they are found again."""
        self._emptied = asyncio.Event()
        self._quiet_since = 0.0

    async def run(self, *, is_likely: bool) -> None:
        """What was in former queues is in the present ones when this returns. `is_likely`: there may be such; else they are only
        looked for later.
        """
        for plain in self._plain:
            self._context.broker.kinds.settle(plain, self._is_quorum)
        if is_likely and await self._look():
            self._context.own("former queues", self._leave())
            await self._emptied.wait()
        self._context.own("former queues, later", self._look_later())

    async def _look(self, queues: Sequence[str] = ()) -> dict[str, Seen]:
        """At these, or all."""
        broker = self._context.broker
        return await broker.surely(lambda: broker.look_at_queues(queues or self._present))

    async def _look_later(self) -> None:
        """Where there are to be classic ones, once, and for the first: to say that there is none costs as much as to make one."""
        await asyncio.sleep(random.uniform(*LATER))
        if self._is_quorum or await self._look([next(iter(self._present))]):
            await self._leave()
        while self._is_quorum:
            await asyncio.sleep(AGAIN)
            await self._leave()

    async def _leave(self) -> None:
        """Pass on what is in them, and what comes, until they are gone."""
        while seen := await self._look():
            log.info("passing on what is in former queues", queues=list(seen))
            arrived: asyncio.Queue[Delivery] = asyncio.Queue()
            passing_on = self._context.own("former queues", self._pass_on(arrived))
            consumer = self._context.broker.consume([*seen], arrived.put_nowait, prefetch=PREFETCH, exclusive=True)
            try:
                await self._until_quiet(consumer)
            finally:
                passing_on.cancel()
                await consumer.cancel()
            await self._delete()
        self._emptied.set()

    async def _pass_on(self, arrived: asyncio.Queue[Delivery]) -> None:
        while True:
            batch = [await arrived.get()]
            while not arrived.empty():
                batch.append(arrived.get_nowait())
            self._quiet_since = time.monotonic()
            for queue, present in self._present.items():
                if found := [each for each in batch if each.queue == queue and each.alive]:
                    await self._publish(present, [each.body for each in found])
                    for each in found:
                        each.ack()

    async def _publish(self, queue: str, bodies: Sequence[bytes]) -> None:
        broker = self._context.broker
        while True:
            try:
                return await broker.publish_surely(queue, bodies)
            except Unroutable:  # RabbitMQ has lost it
                await broker.surely(lambda: broker.declare({queue: self._queues[queue]}, remember=False))

    async def _until_quiet(self, consumer: Consumer) -> None:
        """Or until one of its queues is gone."""
        self._quiet_since, times = time.monotonic(), 0
        while time.monotonic() < self._quiet_since + QUIET:
            await asyncio.sleep(LOOK_LATER if self._emptied.is_set() else LOOK_EVERY)
            with suppress(BrokerUnavailable):
                is_empty = await self._is_empty(consumer)
                times = times + 1 if is_empty else 0
                if times > 1:  # what had left the queue at the first look is in hand at the second
                    self._emptied.set()
                elif not is_empty:
                    self._quiet_since = time.monotonic()
                    if not consumer.consuming.is_set() and len(await self._look()) < len(consumer.queues):
                        return

    async def _is_empty(self, consumer: Consumer) -> bool:
        """Nothing is in its queues, or in hand. Where RabbitMQ lets another process consume them, that one passes on."""
        if consumer.in_hand:
            return False
        seen, is_alone = await self._context.broker.look_at_queues(consumer.queues), consumer.consuming.is_set()
        is_idle = not any(each.messages or (is_alone and each.consumers > 1) for each in seen.values())
        return is_idle and len(seen) == len(consumer.queues)

    async def _delete(self) -> None:
        """Those in which nothing is."""
        broker = self._context.broker
        with suppress(BrokerUnavailable):
            for queue, seen in (await broker.look_at_queues(reversed(self._present))).items():
                if names.is_quorum(queue):
                    if seen.messages or seen.consumers:
                        break
                    if lost := await broker.delete_queues((queue,)):
                        log.error("messages were deleted with a former queue", queue=queue, messages=lost)
                elif not await broker.delete_idle_queue(queue):
                    break
