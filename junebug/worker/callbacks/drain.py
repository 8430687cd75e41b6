"""The last words of a deleted channel: what is queued is cancelled, what waits for the application is called once more.

Neighbours: supervisor/departures.py says when (cli.py gives it `farewell`) and removes the queues afterwards; outbound.py
cancels; forwarder.py did all this while the channel lived. All of it is bounded in time, and a repeat does no harm: a
message leaves its queue after its last attempt.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

import structlog

from junebug import names
from junebug.amqp import outbound
from junebug.amqp.broker import Broker
from junebug.amqp.frames import Delivery
from junebug.config.declaration import Settings
from junebug.errors import MalformedMessage, QueueBusy
from junebug.model.callbacks import Callback, Destination
from junebug.model.messages import Event, UserMessage
from junebug.model.spec import ChannelSpec
from junebug.stores import Stores
from junebug.worker.callbacks.pending_callback import Content, Job
from junebug.worker.callbacks.target import Target, call, content_of, event_callbacks, target_of
from junebug.worker.callbacks.webhook import Outcome, Webhook

log = structlog.stdlib.get_logger("farewell")

LONGEST = 20.0
"""Seconds for all of it."""
CANCELLING = 10.0
"""Seconds of those that cancelling may take."""
ATTEMPT_TIMEOUT = 5.0
SILENT_AFTER = 5
"""Calls in a row to which a destination did not answer: after so many it is called no more."""
BUSY_PAUSE = 0.2
MOST_LOGGED = 100
"""Failures that are told one by one; of more only the number."""


async def farewell(
    settings: Settings, broker: Broker, stores: Stores, spec: ChannelSpec, delayed: Sequence[str]
) -> None:
    """Say it. `delayed`: names of the channel's retry and waiting queues; one that is not there is fine.

    Raises BrokerUnavailable, StoreUnavailable: what was not done is still there.
    """
    webhook = Webhook(min(ATTEMPT_TIMEOUT, settings.callback_timeout))
    try:
        await _Farewell(settings, broker, stores, webhook, spec).say(delayed)
    finally:
        await webhook.close()


class _Farewell:
    def __init__(
        self, settings: Settings, broker: Broker, stores: Stores, webhook: Webhook, spec: ChannelSpec
    ) -> None:
        self._settings = settings
        self._broker = broker
        self._stores = stores
        self._webhook = webhook
        self._spec = spec
        self._channel = spec.id
        self._loop = asyncio.get_running_loop()
        self._ends = self._loop.time() + LONGEST
        self._slots = asyncio.Semaphore(settings.callback_concurrency)
        self._silence: Counter[str] = Counter()
        """Destination -> calls in a row without an answer."""
        self._counts: Counter[str] = Counter()

    async def say(self, delayed: Sequence[str]) -> None:
        channel = self._channel
        own = [*names.outbound_queues(channel).values()]
        callbacks = [names.inbound_queue(channel), names.event_queue(channel), *delayed, names.callback_queue(channel)]
        shared = await self._shared_queue()
        if any((await self._broker.queue_lengths([*own, *callbacks, *shared])).values()):
            await self._cancel([*own, *shared])
            for queue in callbacks:  # the callback queue last: what waited for its time comes there
                await self._empty(queue)
        if shared:
            await self._broker.delete_idle_queue(shared[0])
        left = await self._broker.queue_lengths([*own, *callbacks, names.dead_queue(channel)])
        dead = left.pop(names.dead_queue(channel))
        lost = {"failed": self._counts["failed"], "not_called": self._counts["not_called"], "left": sum(left.values())}
        say = log.warning if any(lost.values()) or dead else log.info
        done = {"cancelled": self._counts["cancelled"], "forwarded": self._counts["forwarded"]}
        say("farewell of a deleted channel", channel_id=channel, **done, **lost, dead_letters=dead)

    # --- what was to be sent ------------------------------------------------------------------------------------------

    async def _shared_queue(self) -> list[str]:
        """`{amqp_queue}.outbound`, if it was this channel's alone and nobody takes from it."""
        amqp_queue = self._spec.amqp_queue
        if not amqp_queue:
            return []
        queue = names.outbound_queue(amqp_queue)
        channels = await self._stores.channels.get_many(await self._stores.channels.ids())
        if any(spec.amqp_queue == amqp_queue for spec in channels.values()):
            return []
        try:
            await self._broker.walk(queue, self._call_all, keeping=True, most=0)
        except QueueBusy:
            return []
        return [queue]

    async def _cancel(self, queues: Sequence[str]) -> None:
        """Each gets its event, by way of the event queue."""
        await self._broker.declare(names.channel_queues(self._channel), remember=False)

        ends = self._loop.time() + CANCELLING

        async def cancel() -> bool:
            left = ends - self._loop.time()
            done = await outbound.cancel_queued(self._broker, self._channel, queues, None, left)
            self._counts["cancelled"] += done.cancelled
            return bool(done.remaining)

        await self._repeat(cancel, ends)

    async def _empty(self, queue: str) -> None:
        """Call the application once with each callback in it."""

        async def walk() -> bool:
            return bool(await self._broker.walk(queue, self._call_all, keeping=False))

        await self._repeat(walk, self._ends)

    async def _repeat(self, work: Callable[[], Awaitable[bool]], ends: float) -> None:
        """While it finds something, or somebody else goes through the queue: the dead worker's link, an API process."""
        is_busy = False
        while self._loop.time() < ends:
            try:
                is_busy = False
                if not await work():
                    return
            except QueueBusy:
                is_busy = True
                await asyncio.sleep(BUSY_PAUSE)
        if is_busy:
            log.warning("a queue is left as it is: somebody else consumes it", channel_id=self._channel)

    # --- what the application is to get -------------------------------------------------------------------------------

    async def _call_all(self, deliveries: Sequence[Delivery]) -> bool:
        """Those of one address after each other, the others beside them; whether there is time for more."""
        chains: dict[str, list[tuple[Delivery, list[Job]]]] = {}
        found = await asyncio.gather(*map(self._read, deliveries))
        for delivery, jobs in zip(deliveries, found, strict=True):
            chains.setdefault(jobs[0].key if jobs else "", []).append((delivery, jobs))
        await asyncio.gather(*map(self._call_in_order, chains.values()))
        return self._loop.time() < self._ends

    async def _call_in_order(self, chain: Sequence[tuple[Delivery, list[Job]]]) -> None:
        for delivery, jobs in chain:
            if self._loop.time() >= self._ends:
                return  # it goes back to its queue, and is counted there
            await asyncio.gather(*map(self._call, jobs))
            delivery.ack()

    async def _read(self, delivery: Delivery) -> list[Job]:
        """The calls that it stands for; none when nobody wants it or can read it."""
        try:
            if delivery.queue == names.inbound_queue(self._channel):
                return self._jobs_of_message(delivery.body)
            if delivery.queue == names.event_queue(self._channel):
                return await self._jobs_of_event(delivery.body)
            callback = Callback.from_wire(delivery.body)
            return [self._job(callback, content_of(callback))]
        except MalformedMessage:
            return []

    def _jobs_of_message(self, wire: bytes) -> list[Job]:
        message = UserMessage.from_wire(wire)
        targets: tuple[Destination, ...] = ("mo_url", "amqp_queue")
        return [self._job(Callback(to=to, kind="inbound", id=message.message_id, wire=wire), message) for to in targets]

    async def _jobs_of_event(self, wire: bytes) -> list[Job]:
        event = Event.from_wire(wire)
        target = None
        if event.user_message_id:
            target = await self._stores.outbound.event_target(self._channel, event.user_message_id)
        return [self._job(callback, event) for callback in event_callbacks(event, wire, target)]

    def _job(self, callback: Callback, content: Content) -> Job:
        return Job(callback, content, None, self._loop.time(), self._loop.create_future())

    async def _call(self, job: Job) -> None:
        """Once, or not at all where nobody answers."""
        target = target_of(job.callback, self._spec)
        if target is None:
            return
        async with self._slots:
            if self._silence[target.destination] >= SILENT_AFTER:
                self._counts["not_called"] += 1
                return
            outcome = await self._attempt(target, job)
        self._counts["forwarded" if outcome.ok else "failed"] += 1
        if not outcome.ok and self._counts["failed"] <= MOST_LOGGED:
            log.warning("last attempt failed", channel_id=self._channel, reason=outcome.reason, **job.fields())

    async def _attempt(self, target: Target, job: Job) -> Outcome:
        try:
            async with asyncio.timeout_at(self._ends):
                outcome = await call(
                    self._settings, self._broker, self._webhook, self._spec, target, job.callback, job.content
                )
        except TimeoutError:
            return Outcome(False, None, "there was no more time")
        if outcome.ok or outcome.status is not None:
            self._silence.pop(target.destination, None)
        else:
            self._silence[target.destination] += 1
        return outcome
