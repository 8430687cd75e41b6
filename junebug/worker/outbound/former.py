"""What waits in outbound queues of former layouts (names.Layout): sent before anything of the present one, so that the order of
what is for one address is kept. Then those queues are deleted.

The layout changes with the setting `amqp.queue_type`, and when a channel gets shards or has them no more: all its processes are
started afresh. Redis knows which layouts there were, in their order, and messages are published to the last. One after the
other is emptied, by each shard its part: nobody begins with the next one before all queues of one are empty and nobody
consumes them. Where the channel gets a layout again whose queues still hold what is older than others', messages are published
to it only when they are empty: else the new ones could not be told from these.

An API process may know of the last change a moment later. If a queue is gone RabbitMQ returns its message, and it is published
again, to the right one; if it is not, it is emptied again. Queues stay until nothing can come any more: a quorum queue is deleted
with whatever is in it, and what comes to a classic one in the moment in which RabbitMQ deletes it "if it is empty" is lost, too.

Neighbours: priorities.py says which layouts there are, and notes them; sender.py consumes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import suppress

import structlog

from junebug import names
from junebug.amqp.topology import Seen
from junebug.errors import BrokerUnavailable, StoreUnavailable
from junebug.worker.context import ChannelContext
from junebug.worker.outbound.sender import Sender

log = structlog.stdlib.get_logger("sender")

LOOK_EVERY, LOOK_LATER = 0.25, 1.0
"""Seconds between two looks, while such queues hold anything, and while they are only still there."""
SETTLING = 1.5
"""Seconds after which all API processes know of the present layout: longer than they know an old spec (api/spec_cache.py)."""
QUIET = 60.0
"""Seconds for which nothing may have come into a queue before it is deleted: longer than anybody waits for a confirm."""


class FormerQueues:
    def __init__(
        self, context: ChannelContext, present: names.Layout, forget: Callable[[int], Awaitable[None]],
        is_noted: Callable[[], Awaitable[bool]],
    ) -> None:  # fmt: skip
        """`present`: the layout that the channel has now. `forget(number)` is called when a layout has no queues any more, or
        those that it has are the present ones; `is_noted` asks whether messages are published to these already.
        """
        self.numbers: list[int] = []
        """Of the former layouts, in their order; the present one's may be among them, from an earlier time."""
        self._context = context
        self._present = present
        self._forget, self._is_noted = forget, is_noted
        self._sender: Sender | None = None
        self._begin: Callable[[], None] | None = None
        """To be called once nothing of them is left to be sent."""
        self._leaving: asyncio.Task[None] | None = None
        self._there: dict[int, list[str]] = {}
        """Queues that were there at the last look; all are looked at again when none of these is."""
        self._settled_at = self._quiet_since = 0.0

    @property
    def is_taken_up(self) -> bool:
        """Whether messages may be published to the present layout."""
        return self._leftover is None

    @property
    def _leftover(self) -> int | None:
        """The present layout's number of an earlier time, as long as its queues may hold what came then."""
        return next((number for number in self.numbers if names.layout_of(number) is self._present), None)

    def add(self, numbers: Iterable[int]) -> None:
        """There may be queues of these."""
        self.numbers = sorted({*self.numbers, *numbers})
        self._leave()

    def leave(self, sender: Sender, begin: Callable[[], None]) -> None:
        """Have the sender send what is in them, then call `begin`, and delete them."""
        self._sender, self._begin = sender, begin
        self._leave()

    def _leave(self) -> None:
        if self._sender is None or (self._leaving and not self._leaving.done()):
            return
        if self.numbers:
            self._leaving = self._context.own("former queues", self._leave_all(self._sender))
        else:
            self._begin_once()

    def _begin_once(self) -> None:
        begin, self._begin = self._begin, None
        if begin:
            begin()

    async def _leave_all(self, sender: Sender) -> None:
        log.info("sending first what is in former queues", layouts=self.numbers)
        self._quiet_since = time.monotonic()
        self._settled_at = self._quiet_since + SETTLING
        while self.numbers:
            with suppress(BrokerUnavailable, StoreUnavailable):
                if await self._step(sender):
                    continue
            await asyncio.sleep(LOOK_EVERY if self._begin else LOOK_LATER)
        self._begin_once()

    async def _step(self, sender: Sender) -> bool:
        """Whether there may be more to be done at once."""
        context = self._context
        found: dict[int, dict[str, Seen]] = {}
        if self._leftover and await self._is_noted():
            self.numbers.remove(self._leftover)  # another shard was faster: what these hold now is new
        for number in self.numbers:
            layout, seen = names.layout_of(number), await self._look(number)
            own = layout.queues(context.channel, shard=context.shard, shards=context.shards)
            if busy := [queue for queue in own if queue in seen and seen[queue].messages]:
                self._quiet_since = time.monotonic()
                await self._empty(sender, busy)
                return True
            if any(each.messages or each.consumers for each in seen.values()):
                self._quiet_since = time.monotonic()
                return False  # another shard, or the process before this one, is at it
            if number == self._leftover:
                await self._forgotten(number)
                self._settled_at = time.monotonic() + SETTLING
                return True
            found[number] = seen
        if time.monotonic() < self._settled_at and self._begin:
            return False
        self._begin_once()
        for number, seen in found.items():
            if not seen:
                await self._forgotten(number)
            elif context.shard == 0:
                await self._delete(names.layout_of(number), seen)
        return False

    async def _look(self, number: int) -> dict[str, Seen]:
        broker = self._context.broker
        found = await broker.look_at_queues(self._there.get(number, ()))
        if not found:
            found = await broker.look_at_queues(names.layout_of(number).queues(self._context.channel))
        self._there[number] = list(found)
        return found

    async def _empty(self, sender: Sender, queues: Collection[str]) -> None:
        """Send all that is in these."""
        consumer = sender.consume(queues, exclusive=True)
        try:
            while True:
                await asyncio.sleep(LOOK_EVERY)
                with suppress(BrokerUnavailable):  # it consumes again when it can
                    if consumer.consuming.is_set():
                        if not await consumer.left():
                            return
                    elif len(await self._context.broker.look_at_queues(queues)) < len(queues):
                        return  # somebody has deleted one of them
        finally:
            await sender.release(consumer.queues[0])

    async def _delete(self, layout: names.Layout, queues: Collection[str]) -> None:
        """That by which the layout is found again goes last."""
        if time.monotonic() < self._quiet_since + QUIET:
            return
        broker, mark = self._context.broker, layout.queue(self._context.channel)
        for queue in [each for each in queues if each != mark] or [mark]:
            if not layout.is_quorum:
                await broker.delete_idle_queue(queue)
            elif lost := await broker.delete_queues((queue,)):
                log.error("messages were deleted with a former queue: a process knew of it too long", queue=queue, messages=lost)

    async def _forgotten(self, number: int) -> None:
        log.info("former queues are done with", layout=number)
        self.numbers.remove(number)
        try:
            await self._forget(number)
        except StoreUnavailable:
            self.add((number,))
            raise
