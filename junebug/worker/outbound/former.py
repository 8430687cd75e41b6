"""What waits in outbound queues of a former layout (names.Layout): sent before anything of the present one, so that the order
of what is for one address is kept. Then those queues are deleted.

The layout changes with the setting `amqp.queue_type`, and when a channel gets shards or has them no more: all its processes
are started afresh. Each of them empties its part; none begins with the present layout before all of the former queues are
empty and nobody consumes them. An API process that knows no better yet may still publish to one: what is gone returns such a
message, and it is published again to the right one; what is not gone yet is looked at as long as it is there.

RabbitMQ deletes a classic queue on the condition that it is empty, a quorum queue with whatever is in it. So the latter stays
until nothing can come any more.

Neighbours: priorities.py says which layouts there are; sender.py consumes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress

import structlog

from junebug import names
from junebug.amqp.topology import Seen
from junebug.errors import BrokerUnavailable, ChannelNotFound, StoreUnavailable
from junebug.worker.context import ChannelContext
from junebug.worker.outbound.sender import Sender

log = structlog.stdlib.get_logger("sender")

LOOK_EVERY = 0.25
LOOK_LATER = 1.0
"""Seconds between two looks, while there are such queues; and once they were empty."""
QUIET = 60.0
"""Seconds for which nothing may have come into a quorum queue: longer than anybody waits for a confirm and knows an old spec."""


class FormerQueues:
    def __init__(self, context: ChannelContext) -> None:
        self.layouts: frozenset[names.Layout] = frozenset()
        self._context = context
        self._sender: Sender | None = None
        self._begin: Callable[[], None] | None = None
        """To be called once nothing of them is left to be sent."""
        self._leaving: asyncio.Task[None] | None = None
        self._there: dict[names.Layout, list[str]] = {}
        """Queues that were there at the last look; all are looked at again when none of these is."""
        self._quiet_since = 0.0

    def add(self, layouts: Iterable[names.Layout]) -> None:
        """There may be queues of these."""
        self.layouts = self.layouts.union(layouts)
        self._leave()

    def leave(self, sender: Sender, begin: Callable[[], None]) -> None:
        """Have the sender send what is in them, then call `begin`, and delete them."""
        self._sender, self._begin = sender, begin
        self._leave()

    def _leave(self) -> None:
        if self._sender is None or (self._leaving and not self._leaving.done()):
            return
        if self.layouts:
            self._leaving = self._context.own("former queues", self._leave_all(self._sender))
        else:
            self._begin_once()

    def _begin_once(self) -> None:
        begin, self._begin = self._begin, None
        if begin:
            begin()

    async def _leave_all(self, sender: Sender) -> None:
        log.info("sending first what is in former queues", layouts=sorted(each.number for each in self.layouts))
        self._quiet_since = time.monotonic()
        while self.layouts:
            is_done = False
            with suppress(BrokerUnavailable, StoreUnavailable):
                is_done = await self._step(sender)
            if not is_done:
                await asyncio.sleep(LOOK_EVERY if self._begin else LOOK_LATER)
        self._begin_once()

    async def _step(self, sender: Sender) -> bool:
        """Whether it did something that took its time."""
        context = self._context
        of_layout = {each: await self._look(each) for each in self.layouts}
        seen = {queue: found for each in of_layout.values() for queue, found in each.items()}
        if any(found.messages or found.consumers for found in seen.values()):
            self._quiet_since = time.monotonic()
        for layout, found in of_layout.items():
            own = layout.queues(context.channel, shard=context.shard, shards=context.shards)
            if busy := [queue for queue in own if queue in found and found[queue].messages]:
                await self._empty(sender, busy)
                return True
        if any(found.messages or found.consumers for found in seen.values()):
            return False  # another shard, or the process before this one, is at it
        self._begin_once()
        for layout, found in of_layout.items():
            if not found:
                await self._forget(layout)
            elif context.shard == 0:
                await self._delete(layout, found)
        return False

    async def _look(self, layout: names.Layout) -> dict[str, Seen]:
        broker = self._context.broker
        found = await broker.look_at_queues(self._there.get(layout, ()))
        if not found:
            found = await broker.look_at_queues(layout.queues(self._context.channel))
        self._there[layout] = list(found)
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

    async def _delete(self, layout: names.Layout, found: Mapping[str, Seen]) -> None:
        """That by which the layout is found again goes last."""
        broker, mark = self._context.broker, layout.queue(self._context.channel)
        for queue in [each for each in found if each != mark] or [mark]:
            if not layout.is_quorum:
                await broker.delete_idle_queue(queue)
            elif time.monotonic() > self._quiet_since + QUIET and (lost := await broker.delete_queues((queue,))):
                log.error("messages were deleted with a former queue: a process knew of it too long", queue=queue, messages=lost)

    async def _forget(self, layout: names.Layout) -> None:
        log.info("former queues are gone", layout=layout.number)
        self.layouts -= {layout}
        if self._context.shard == 0:
            try:
                await self._context.stores.channels.forget_layout(self._context.channel, layout)
            except ChannelNotFound:
                pass
