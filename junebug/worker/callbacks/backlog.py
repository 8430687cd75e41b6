"""Where callbacks wait for one destination that fails or is too slow: a queue of its own on RabbitMQ, in their order.

There only while needed. Once in use, all that comes goes behind what waits, until the queue is empty: so order is kept
for as long as it takes. What came from a queue that is the destination's alone anyway needs none (source.py). What waits in one
of the other kind (names.of_kind), from before the setting changed, is put into the present one first.
Neighbour: destination.py says when it is written, drained and left alone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

import structlog

from junebug import names
from junebug.amqp.frames import Delivery
from junebug.errors import BrokerUnavailable
from junebug.worker.callbacks.attempts import Attempts
from junebug.worker.callbacks.delay_queues import delete_if_empty, note, open_queue, pass_on_all
from junebug.worker.callbacks.source import Dispatch, OnLost, PendingCallback, Source, kind_of_source
from junebug.worker.context import ChannelContext

log = structlog.stdlib.get_logger("forwarder")

BATCH = 100
PAUSE = 0.1
LEEWAY = 86_400.0
"""Seconds that a callback may be older than it should be."""


class Backlog:
    def __init__(
        self, context: ChannelContext, attempts: Attempts, kind: str, destination: str, dispatch: Dispatch, on_lost: OnLost
    ) -> None:
        queue, is_quorum = names.backlog_queue(context.channel, kind, destination), context.prefers_quorum
        self.queue, self.former = names.of_kind(queue, is_quorum), names.of_kind(queue, not is_quorum)
        self.may_have_former = is_quorum
        self.in_use = False
        """Something may be in the queue: what comes goes there, too."""
        self.source: Source | None = None
        self._context = context
        self._attempts = attempts
        self.destination = destination
        self._about = f"{kind} {destination}"
        self._dispatch = dispatch
        self._on_lost = on_lost
        self._lifetime = max(context.settings.callback_max_age, context.settings.outbound_message_ttl)
        self._is_draining = True
        self._outbox: deque[PendingCallback] = deque()
        self._aside: list[PendingCallback] | None = None
        """Comes while it is seen whether the queue is empty."""
        self._writer: asyncio.Task[None] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()
        """Or closing: what is put into a queue while RabbitMQ deletes it is confirmed, and thrown away; also where it was to be
        deleted only if it is empty.
        """
        self._closing: asyncio.Task[None] | None = None

    @property
    def is_idle(self) -> bool:
        """Whether it may be forgotten."""
        return not self.in_use and (self._closing is None or self._closing.done())

    @property
    def queues(self) -> list[str]:
        """In which something may wait."""
        return [self.queue, self.former] if self.may_have_former else [self.queue]

    # --- in -----------------------------------------------------------------------------------------------------------

    def append(self, pending: PendingCallback) -> None:
        """It is finished when RabbitMQ has it; what is appended first comes out first."""
        if self._aside is not None:
            self._aside.append(pending)
            return
        log.info("callback waits in the backlog of its host", host=self.destination, **pending.fields())
        self._outbox.append(pending)
        if not self.is_writing:
            self.begin()

    def begin(self) -> None:
        """Something is in the queue since before this process, or will be."""
        self.in_use = True
        self._writer = self._context.own("backlog writer", self._write())

    async def note_again(self) -> None:
        if self.in_use:
            await note(self._context, self.queue, self._about, self._lifetime)

    @property
    def is_writing(self) -> bool:
        return self._writer is not None and not self._writer.done()

    async def _write(self) -> None:
        async with self._opening:
            await self._open()
        while self._outbox:
            batch = [self._outbox.popleft() for _ in range(min(BATCH, len(self._outbox)))]
            batch = [pending for pending in batch if pending.is_wanted]
            if batch:
                bodies = [pending.callback.to_wire() for pending in batch]
                await self._context.broker.publish_surely(self.queue, bodies)
            for pending in batch:
                pending.finish()

    async def _open(self) -> None:
        if self.source:
            return
        arguments = names.waiting_arguments(self._context.channel, self._lifetime + LEEWAY, names.is_quorum(self.queue))
        await open_queue(self._context, self.queue, arguments, self._about, self._lifetime)
        if self.may_have_former:
            await pass_on_all(self._context, self.former, self.queue)
            self.may_have_former = False
        room = self._context.settings.callback_concurrency
        halted = not self._is_draining
        self.source = kind_of_source(self.queue)(
            self._context, self.queue, self._read, self._dispatch, prefetch=2 * room, on_lost=self._on_lost, halted=halted
        )
        if self._is_draining:
            self._watch()

    async def _read(self, deliveries: Sequence[Delivery]) -> list[PendingCallback]:
        callbacks = await self._attempts.read_callbacks(deliveries)
        for pending in callbacks:
            pending.home = self.source
        return callbacks

    # --- out ----------------------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Nothing comes out until `drain`. Its source is halted by its destination, as the others are."""
        self._is_draining = False
        if self._watcher:
            self._watcher.cancel()
            self._put_aside_back()

    def drain(self) -> None:
        """What waits is dispatched, in order. Its destination has its source go on, as the others."""
        self._is_draining = True
        if self.source:
            self._watch()

    def _watch(self) -> None:
        if self._watcher is None or self._watcher.done():
            self._watcher = self._context.own("backlog watcher", self._until_empty())

    async def _until_empty(self) -> None:
        assert self.source is not None
        while True:
            await asyncio.sleep(PAUSE)
            if self._outbox or self.is_writing or self.source.in_hand:
                continue
            self._aside = []
            if await self._is_empty(self.source):
                break
            self._put_aside_back()
        source, self.source, self.in_use = self.source, None, False
        aside, self._aside = self._aside, None
        for pending in aside:
            self._dispatch(pending)
        self._context.broker.forget([self.queue])
        # a task of its own: whoever ends this watcher must not cut it off
        self._closing = self._context.own("end of a backlog", self._close(source))

    async def _is_empty(self, source: Source) -> bool:
        try:
            if names.is_quorum(self.queue) and not await source.waiting():
                await asyncio.sleep(PAUSE)  # what a node had to send us is in hand then
            return not (await source.waiting() or source.in_hand)
        except BrokerUnavailable:
            return False

    def _put_aside_back(self) -> None:
        aside, self._aside = self._aside, None
        for pending in aside or ():
            self.append(pending)

    async def _close(self, source: Source) -> None:
        async with self._opening:
            await source.stop()
            if self.source is None and await self._delete():
                return
        if not self.in_use:
            self.begin()  # something was on its way here

    async def _delete(self) -> bool:
        """Whether it is gone, or RabbitMQ removes it some day; else something is in it."""
        try:
            return await delete_if_empty(self._context, self.queue)
        except BrokerUnavailable:
            return True

    # --- the end ------------------------------------------------------------------------------------------------------

    async def stop(self, timeout: float) -> None:
        """Write what is on its way, within `timeout` seconds; the rest goes back to where it came from."""
        self.pause()
        if self.source:
            await self.source.stop_deliveries()
        if self._writer:
            await asyncio.wait([self._writer], timeout=timeout)
