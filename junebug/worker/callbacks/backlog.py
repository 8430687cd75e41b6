"""Where callbacks wait for one destination: its waiting queue on RabbitMQ, looked after until it is empty.

While the circuit is open the host is probed, with what waits for longest. Then the queue is drained, in its order. A
marker written behind the last callback tells that it is empty when it comes back: only then new callbacks are called
without a detour again, so order is kept.

Neighbours: lane.py puts in what has to wait and calls what comes out; delay_queues.py writes.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Protocol

import orjson
import structlog

from junebug.amqp.broker import Broker
from junebug.amqp.consumer import Consumer
from junebug.amqp.frames import Delivery
from junebug.errors import BrokerUnavailable
from junebug.model.messages import new_id
from junebug.worker.callbacks import retry_policy
from junebug.worker.callbacks.circuit_breaker import Circuit
from junebug.worker.callbacks.delay_queues import DelayQueues
from junebug.worker.callbacks.pending_callback import Job, Office
from junebug.worker.callbacks.webhook import Outcome

log = structlog.stdlib.get_logger("forwarder")

MOST_HELD = 100
BATCH = 100
PAUSE = 0.1
GIVING_BACK = 1.0
"""Seconds in which RabbitMQ surely shows again, at its place, what a consumer has given back."""


class Caller(Protocol):
    """The lane, as its waiting room needs it."""

    circuit: Circuit

    def admit(self, job: Job) -> None: ...
    def send_back_waited(self) -> None: ...
    def learn(self, job: Job, outcome: Outcome) -> None: ...
    def drop_dead(self) -> None: ...


class WaitingRoom:
    """One destination's."""

    def __init__(
        self, destination: str, lane: Caller, office: Office, broker: Broker, queues: DelayQueues, room: int
    ) -> None:
        """`room`: what is in hand at the most while it is drained."""
        self.is_used = False
        """Something may be in the queue: what comes goes there, too, behind it."""
        self.held: deque[Job] = deque()
        """Came while the marker may be the only thing in the queue."""
        self._destination = destination
        self._lane = lane
        self._circuit = lane.circuit
        self._office = office
        self._broker = broker
        self._queues = queues
        self._room = room
        self._outbox: deque[Job | str] = deque()
        """On its way into the queue; a text is a marker."""
        self._writer: asyncio.Task[None] | None = None
        self._written = 0
        self._keeper: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._is_sorting = False
        """The queue is gone through although the circuit is open, for what is meant for others now."""
        self._consumer: Consumer | None = None
        self._drawn: set[asyncio.Future[None]] = set()
        """What came out of the queue and is not done."""
        self._pass_over = asyncio.Event()
        self._marker: str | None = None
        self._behind_marker = 0
        self._given_back = -GIVING_BACK
        """When something may have gone back to the queue: for a moment it looks emptier than it is."""
        self._stopping = False

    @property
    def may_hold(self) -> bool:
        """Whether the queue may well be empty, so that a moment's patience saves the detour."""
        is_nearly_empty = self._marker is not None and not self._behind_marker
        return is_nearly_empty and not self._circuit.is_open and not self._stopping and len(self.held) < MOST_HELD

    def look(self) -> None:
        """Something is in the queue since before this process."""
        if not self.is_used:
            self.is_used = True
            self._keep()

    def sort(self) -> None:
        """The channel's settings changed: what waits here may be meant for another destination now."""
        if self.is_used and self._circuit.is_open:
            self._is_sorting = True
            self._news.set()

    def on_news(self) -> None:
        """The circuit is closed."""
        self._news.set()

    # --- in -----------------------------------------------------------------------------------------------------------

    def put(self, job: Job) -> None:
        """It is done when RabbitMQ has it; what is put first comes out first."""
        self._behind_marker += 1
        self._put(job)

    def _mark(self) -> None:
        self._marker, self._behind_marker = new_id(), 0
        self._put(self._marker)

    def _put(self, job: Job | str) -> None:
        self.is_used = True
        self._outbox.append(job)
        if not self._is_writing:
            self._writer = asyncio.create_task(self._write())

    @property
    def _is_writing(self) -> bool:
        return self._writer is not None and not self._writer.done()

    async def _write(self) -> None:
        while self._outbox:
            bodies: list[bytes] = []
            jobs: list[Job] = []
            while self._outbox and len(bodies) < BATCH:
                job = self._outbox.popleft()
                if isinstance(job, str):
                    bodies.append(_marker(job))
                elif job.is_wanted and not await self._office.give_up_if_too_old(job, self._circuit.reason):
                    bodies.append(job.callback.to_wire())
                    jobs.append(job)
            if not bodies:
                continue
            try:
                await self._queues.wait(self._destination, bodies)
            except asyncio.CancelledError:
                for job in jobs:
                    job.done.cancel()
                raise
            self._written += len(bodies)
            for job in jobs:
                job.finish()
            if self._consumer and self._queues.waiting(self._destination) not in self._consumer.queues:
                self.end_pass()  # it is written to another queue now: that one is next
            self._keep()

    # --- out ----------------------------------------------------------------------------------------------------------

    def _keep(self) -> None:
        if not self._stopping and (self._keeper is None or self._keeper.done()):
            self._keeper = asyncio.create_task(self._look_after())

    async def _look_after(self) -> None:
        """Until nothing waits: probe while the circuit is open, else drain."""
        while self.is_used:
            try:
                if self._circuit.is_open and not self._is_sorting:
                    await self._until_probe()
                    if self._circuit.is_open and not self._is_sorting:
                        await self._probe()
                else:
                    await self._drain()
            except BrokerUnavailable:
                await self._broker.wait_connected(None)
                await asyncio.sleep(PAUSE)

    async def _until_probe(self) -> None:
        self._news.clear()
        if (left := self._circuit.probe_at - _now()) > 0:
            try:
                async with asyncio.timeout(left):
                    await self._news.wait()
            except TimeoutError:
                pass

    async def _probe(self) -> None:
        """One call, with what waits for longest; it keeps its place when the host does not answer."""
        written = self._written
        seen = await self._broker.walk(
            self._queues.waiting(self._destination), self._probe_with, keeping=True, most=1, exclusive=False
        )
        if seen:
            return
        if self._outbox or self._is_writing or written != self._written or not self._is_settled:
            await asyncio.sleep(PAUSE)  # something is on its way
            return
        self.is_used = False
        if not self._circuit.reason:
            self._circuit.answered()  # it was only suspected

    async def _probe_with(self, deliveries: Sequence[Delivery]) -> bool:
        (delivery,) = deliveries
        if marker_in(delivery.body):
            delivery.ack()
        elif job := self._office.job(delivery):
            if self._office.destination(job) != self._destination:
                self._office.offer(job)
                await asyncio.wait([job.done])
            else:
                await self._probe_by(job)
        return True

    async def _probe_by(self, job: Job) -> None:
        try:
            outcome = await self._office.call(self._destination, job)
            if outcome is None:
                await asyncio.wait([job.done])
            elif outcome.ok or retry_policy.is_clients_error(outcome.status):
                self._lane.learn(job, outcome)
                await self._office.settle(job, outcome)
            else:
                self._circuit.probe_failed(_now(), outcome.reason, outcome.retry_after)
                if outcome.status == 500:  # perhaps it is this one that the application cannot bear: next time another
                    await self._office.settle(job, outcome)
                elif not await self._office.give_up_if_too_old(job, outcome.reason):
                    job.done.cancel()
                    self._given_back = _now()
        except Exception:
            await self._office.fail(job)

    async def _drain(self) -> None:
        """Go through the queue, in its order, until the marker comes back (or the host fails again)."""
        self._pass_over.clear()
        queue = await self._queues.hold(self._destination)
        self._consumer = self._broker.consume(queue, self._take, prefetch=self._room, on_lost=self._on_lost)
        try:
            self._mark()
            await self._pass_over.wait()
            await self._consumer.stop_deliveries()
            while self._drawn:
                await asyncio.wait(list(self._drawn))
        finally:
            consumer, self._consumer = self._consumer, None
            self._queues.release(self._destination)
            await consumer.cancel()  # what has not begun goes back to its place
            self._given_back = _now()

    def _take(self, delivery: Delivery) -> None:
        if self._pass_over.is_set() or self._stopping:
            return  # it goes back when the consumer is cancelled
        if marker := marker_in(delivery.body):
            delivery.ack()
            if marker == self._marker:
                self._on_marker()
        elif job := self._office.job(delivery):
            self._drawn.add(job.done)
            job.done.add_done_callback(self._drawn.discard)
            if self._office.destination(job) != self._destination:
                self._office.offer(job)
            elif self._circuit.is_open:
                self.put(job)
            else:
                job.has_waited = True
                self._lane.admit(job)

    def _on_marker(self) -> None:
        if not self._is_settled:
            asyncio.get_running_loop().call_later(GIVING_BACK, self.on_expired_marker, self._marker)
        elif self._circuit.is_open:
            self.end_pass()
        elif self._behind_marker:
            self._mark()
        else:  # nothing was written since: the queue is empty
            self.is_used = False
            self.end_pass()
            while self.held:
                self._lane.admit(self.held.popleft())

    def end_pass(self) -> None:
        """Take no more out of the queue."""
        if self._circuit.is_open:
            if self._drawn:
                self.is_used = True  # although the marker was back: what was in hand is there again
            self._lane.send_back_waited()
        self._marker = None
        self._is_sorting = False
        self._pass_over.set()

    @property
    def _is_settled(self) -> bool:
        return self._given_back + GIVING_BACK < _now()

    def on_expired_marker(self, marker: str | None) -> None:
        """It tells nothing: it was in the queue for longer than anything may be, or came back too early."""
        if marker == self._marker and not self._stopping:
            self._mark()

    def _on_lost(self) -> None:
        """The link broke. RabbitMQ may have lost the queue as well, and the marker with it."""
        self._lane.drop_dead()
        self._given_back = _now()
        if self._marker:
            self._mark()

    # --- the end ------------------------------------------------------------------------------------------------------

    def drop_dead(self) -> None:
        """What came over a link that broke will come again."""
        for job in (*self.held, *self._outbox):
            if isinstance(job, Job) and not job.is_wanted:
                job.done.cancel()
        self.held = deque(job for job in self.held if not job.done.done())

    async def stop_taking(self) -> None:
        """Only what is in the outbox still goes its way."""
        self._stopping = True
        for job in self.held:
            job.done.cancel()
        self.held.clear()
        if self._consumer:
            await self._consumer.stop_deliveries()

    def tasks(self) -> list[asyncio.Task[None]]:
        """What is under way and not to be cut off."""
        return [self._writer] if self._writer and self._is_writing else []

    async def stop(self) -> None:
        """End what is still under way."""
        tasks = [task for task in (self._writer, self._keeper) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _marker(marker: str) -> bytes:
    return orjson.dumps({"message_type": "marker", "id": marker})


def marker_in(body: bytes) -> str | None:
    """The id, when this is a marker; a stray one (its worker died) is of no use to anybody."""
    if not body.startswith(b'{"message_type":"marker"'):
        return None
    return str(orjson.loads(body)["id"])
