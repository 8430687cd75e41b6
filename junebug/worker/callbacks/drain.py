"""The end of a deleted channel: what is queued is cancelled, what waits for the application is called once more.

This is the ordinary forwarder in a draining mode: one attempt each, nothing waits. All of it is bounded in time, and a
repeat does no harm: a message leaves its queue after its last attempt. Neighbours: supervisor/cleanup.py says when (cli.py
gives it `drain`) and removes the queues afterwards.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Container, Sequence
from contextlib import suppress

import structlog

from junebug import names
from junebug.amqp import outbound_queue
from junebug.amqp.broker import Broker
from junebug.amqp.frames import Delivery
from junebug.config.declaration import Settings
from junebug.errors import QueueBusy
from junebug.model.messages import Event, UserMessage
from junebug.model.routing import RouterSpec
from junebug.runtime.tasks import TaskOwner
from junebug.stores import Stores
from junebug.stores.wanted import Spec
from junebug.worker.callbacks.attempts import Attempts
from junebug.worker.callbacks.dispatcher import Dispatcher
from junebug.worker.callbacks.forwarder import Forwarder, Routing
from junebug.worker.callbacks.source import PendingCallback
from junebug.worker.callbacks.webhook import Outcome
from junebug.worker.context import ChannelContext
from junebug.worker.take_over import TakeOver

log = structlog.stdlib.get_logger("drain")

LONGEST = 20.0
"""Seconds for all of it."""
TAKING_OVER, CANCELLING = 5.0, 10.0
"""Seconds of those that it may take to have all in queues of one kind, and to cancel."""
ATTEMPT_TIMEOUT = 5.0
STOP_TIMEOUT = 1.0
PAUSE = 0.1


async def drain(
    settings: Settings, broker: Broker, stores: Stores, spec: Spec, delayed: Sequence[str], named: Container[str]
) -> None:
    """`delayed`: names of the channel's retry queues and backlogs; one that is not there is fine. `named`: of its queues, and of
    those of its `amqp_queue`, those that others name, too.

    Raises BrokerUnavailable, StoreUnavailable: what was not done is still there.
    """
    settings = dataclasses.replace(settings, callback_timeout=min(ATTEMPT_TIMEOUT, settings.callback_timeout))
    tasks = TaskOwner()
    destinations = await stores.routers.destinations(spec.id) if isinstance(spec, RouterSpec) else {}
    context = ChannelContext(spec.id, settings, broker, stores, lambda: spec, tasks.own, destinations=lambda: destinations)
    work = asyncio.create_task(_Drain(context, delayed, named).run())
    failure = asyncio.create_task(tasks.failure())
    try:
        await asyncio.wait([work, failure], return_when=asyncio.FIRST_COMPLETED)
        (failure if failure.done() else work).result()
    finally:
        for task in (work, failure):
            task.cancel()
        await asyncio.gather(work, failure, return_exceptions=True)
        await tasks.end()


async def anything_waits(broker: Broker, spec: Spec, delayed: Sequence[str]) -> bool:
    """In any queue that the drain may look at. Raises BrokerUnavailable."""
    outbound = [] if isinstance(spec, RouterSpec) else outbound_queue.queues_of(spec, broker.layout(spec), spec.priorities)
    return any((await _lengths(broker, _callback_queues(spec), [*outbound, *delayed])).values())


def _callback_queues(spec: Spec) -> list[str]:
    """As classic ones are called. A router's messages and events are in its channel's."""
    own = [] if isinstance(spec, RouterSpec) else [names.inbound_queue(spec.id), names.event_queue(spec.id)]
    return [*own, names.callback_queue(spec.id)]


async def _lengths(broker: Broker, either_kind: Sequence[str], beside: Sequence[str]) -> dict[str, int]:
    return await broker.kinds.lengths(dict.fromkeys(either_kind, broker.is_quorum), beside)


class _NoChannel:
    """Routing of a router that is gone: what it has decided is brought to its destinations, no more."""

    channel = ""

    async def route(self, messages: Sequence[UserMessage]) -> list[Sequence[str] | None]:
        raise NotImplementedError

    def on_event(self, destination: str, event: Event) -> None:
        raise NotImplementedError


class LastAttempts(Attempts):
    """One attempt each, and none where nobody answers."""

    may_wait = False
    counts: Counter[str]

    async def call(self, pending: PendingCallback) -> Outcome | None:
        outcome = await super().call(pending)
        if outcome and outcome.ok:
            self.counts["forwarded"] += 1
        return outcome

    async def conclude(self, pending: PendingCallback, outcome: Outcome) -> None:
        self.counts["failed"] += 1
        pending.finish()

    def skip(self, pending: PendingCallback) -> None:
        self.counts["not_called"] += 1
        pending.finish()


class _Drain:
    def __init__(self, context: ChannelContext, delayed: Sequence[str], named: Container[str]) -> None:
        self._context = context
        self._channel = context.channel
        self._delayed = delayed
        self._named = named
        self._broker = context.broker
        self._is_router = isinstance(context.spec(), RouterSpec)
        self._ends = time.monotonic() + LONGEST
        self._counts: Counter[str] = Counter()

    async def run(self) -> None:
        channel, broker, spec = self._channel, self._broker, self._context.spec()
        own = [] if self._is_router else self._outbound()
        callbacks = [queue for queue in _callback_queues(spec) if queue not in self._named]
        shared, letters = await self._shared_queue(), names.dead_queue(channel)
        left = await _lengths(broker, [*callbacks, letters], [*own, *self._delayed, *shared])
        if any(count for queue, count in left.items() if queue != letters):
            await self._declare()
            await self._cancel([*own, *shared])
            await self._call_all([*self._delayed, *(names.of_kind(queue, broker.is_quorum) for queue in callbacks)])
            left = await _lengths(broker, [*callbacks, letters], [*own, *self._delayed])
        if shared:
            await broker.delete_idle_queue(shared[0])
        dead = left.pop(letters)
        lost = {"failed": self._counts["failed"], "not_called": self._counts["not_called"], "left": sum(left.values())}
        tell = log.warning if any(lost.values()) or dead else log.info
        done = {"cancelled": self._counts["cancelled"], "forwarded": self._counts["forwarded"]}
        tell("deleted channel drained", channel_id=channel, **done, **lost, dead_letters=dead)

    async def _declare(self) -> None:
        """Its queues, of one kind; what is in those of the other kind is in these then, if there is time for that."""
        channel, broker, is_quorum = self._channel, self._broker, self._broker.is_quorum
        queues = names.callback_queues(channel, is_quorum)
        if not self._is_router:
            queues |= names.incoming_queues(channel, is_quorum)
        await broker.declare({**queues, **names.status_queues(channel)}, remember=False)
        with suppress(TimeoutError):
            async with asyncio.timeout(TAKING_OVER):
                await TakeOver(self._context, queues, is_quorum=is_quorum).run(is_likely=True)

    def _outbound(self) -> list[str]:
        """Its own outbound queues; some may not be there."""
        spec = self._context.spec()
        found = outbound_queue.queues_of(spec, self._broker.layout(spec), spec.priorities)
        return [queue for queue in found if outbound_queue.is_own(self._channel, queue) and queue not in self._named]

    async def _shared_queue(self) -> list[str]:
        """`{amqp_queue}.outbound`, if it was this channel's alone and nobody takes from it."""
        amqp_queue = self._context.spec().amqp_queue
        if not amqp_queue or not names.is_amqp_queue(amqp_queue):
            return []
        queue = names.outbound_queue(amqp_queue)
        return [] if queue in self._named or await self._is_busy(queue) else [queue]

    async def _cancel(self, queues: Sequence[str]) -> None:
        """Each gets its event, by way of the event queue."""
        ends = time.monotonic() + CANCELLING

        async def cancel() -> bool:
            try:
                metrics, left = self._context.metrics, ends - time.monotonic()
                done = await outbound_queue.cancel_all(
                    self._broker, metrics, self._channel, queues, left, is_quorum=self._broker.is_quorum
                )
            except QueueBusy:
                return False  # the dead worker's link has it yet, or an API process
            self._counts["cancelled"] += done.cancelled
            return not done.remaining

        await self._until(cancel, ends)

    async def _call_all(self, queues: Sequence[str]) -> None:
        """With each callback in them."""

        async def are_free() -> bool:
            return not any([await self._is_busy(queue) for queue in queues])

        if not await self._until(are_free, self._ends):
            log.warning("a queue is left as it is: somebody else consumes it", channel_id=self._channel)
            return
        attempts = LastAttempts(self._context, lambda _: False, lambda _: None)
        attempts.counts = self._counts
        dispatcher = Dispatcher(self._context, attempts)
        existing = [queue for queue, length in (await self._broker.queue_lengths(self._delayed)).items() if length]
        routing: Routing | None = _NoChannel() if self._is_router else None
        forwarder = Forwarder(self._context, attempts, dispatcher, Counter(), existing, routing)  # nobody asks for its rates
        forwarder.start()

        async def are_empty() -> bool:
            if forwarder.in_hand or not dispatcher.is_idle:
                return False
            return not any((await self._broker.queue_lengths(queues)).values()) and not forwarder.in_hand

        try:
            await self._until(are_empty, self._ends)
        finally:
            await forwarder.stop(STOP_TIMEOUT)
            await attempts.close()

    async def _is_busy(self, queue: str) -> bool:
        """Whether somebody consumes it."""

        async def visit(_: Sequence[Delivery]) -> bool:
            return False

        try:
            await self._broker.browse(queue, visit, keeping=True, most=0)
        except QueueBusy:
            return True
        return False

    async def _until(self, work: Callable[[], Awaitable[bool]], ends: float) -> bool:
        while True:
            if await work() or time.monotonic() >= ends:
                return time.monotonic() < ends
            await asyncio.sleep(PAUSE)
