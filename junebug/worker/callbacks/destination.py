"""All calls of one destination (a URL's host, an AMQP queue): in their order, so many at a time, none while it is down.

    offer -> line -> call -> done, or to a retry queue
        `--> waiting room, while the host is down or too slow, or others wait there already

Neighbours: destinations.py has one lane for each destination and makes the calls; circuit.py and line.py decide;
waiting_room.py keeps what has to wait on RabbitMQ, so that a dead host costs no memory and holds up nobody else.
"""

from __future__ import annotations

import asyncio

import structlog

from junebug.amqp.broker import Broker
from junebug.worker.callbacks import retry_policy
from junebug.worker.callbacks.backlog import WaitingRoom
from junebug.worker.callbacks.circuit_breaker import Circuit
from junebug.worker.callbacks.delay_queues import DelayQueues
from junebug.worker.callbacks.keyed_queue import Line
from junebug.worker.callbacks.pending_callback import Job, Office
from junebug.worker.callbacks.webhook import Outcome

log = structlog.stdlib.get_logger("forwarder")

PATIENCE = 1.0
"""Seconds that a callback waits here for a slow host; then it and what follows it wait on RabbitMQ."""


class Lane:
    """One destination's."""

    def __init__(
        self, destination: str, office: Office, broker: Broker, queues: DelayQueues, circuit: Circuit, room: int
    ) -> None:
        """`room`: calls under way at the most."""
        self.destination = destination
        self.circuit = circuit
        self.is_known = False
        """Whether its waiting queue has been looked into since the start of this process."""
        self.waiting = WaitingRoom(destination, self, office, broker, queues, room)
        self._office = office
        self._line: Line[Job] = Line(room)
        self._calls: dict[asyncio.Task[None], Job] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_idle(self) -> bool:
        """Whether it may be forgotten."""
        return not (self._line or self._calls or self.waiting.is_used)

    # --- what comes ---------------------------------------------------------------------------------------------------

    def offer(self, job: Job) -> None:
        """Get it done, in its order."""
        if not (self.waiting.is_used or self.circuit.is_open):
            self.admit(job)
        elif self.waiting.may_hold:
            self.waiting.held.append(job)
        else:
            self.waiting.put(job)
        self._be_patient()

    def admit(self, job: Job) -> None:
        """It has not to wait, or has done so."""
        self._line.add(job)
        self._begin_calls()

    def look(self) -> None:
        """Something waits since before this process: go on with it."""
        self.is_known = True
        self.waiting.look()

    def _begin_calls(self) -> None:
        while job := self._line.begin():
            task = asyncio.create_task(self._call(job))
            self._calls[task] = job

    async def _call(self, job: Job) -> None:
        try:
            if job.is_wanted:
                outcome = await self._office.call(self.destination, job)
                if outcome is not None:
                    self.learn(job, outcome)
                    await self._office.settle(job, outcome)
        except asyncio.CancelledError:
            job.done.cancel()
            raise
        except Exception:
            await self._office.fail(job)
        finally:
            task = asyncio.current_task()
            assert task is not None
            del self._calls[task]
            self._line.done(job)
            self._begin_calls()

    def learn(self, job: Job, outcome: Outcome) -> None:
        """What a call says of the host."""
        if outcome.ok or retry_policy.is_clients_error(outcome.status):
            if self.circuit.answered():
                log.info("destination works again", destination=self.destination)
                self.waiting.on_news()
        elif self.circuit.failed(_now(), job.callback.id, outcome.reason, outcome.retry_after):
            log.warning("destination fails: it is only probed", destination=self.destination, reason=outcome.reason)
            self.waiting.end_pass()
            self._spill()

    # --- who waits too long -------------------------------------------------------------------------------------------

    def _be_patient(self) -> None:
        if self._timer is None and (self.waiting.held or any(not job.has_waited for job in self._line.waiting())):
            self._timer = asyncio.get_running_loop().call_later(PATIENCE / 2, self._lose_patience)

    def _lose_patience(self) -> None:
        self._timer = None
        waiting = (job.since for job in (*self.waiting.held, *self._line.waiting()) if not job.has_waited)
        if min(waiting, default=_now()) < _now() - PATIENCE:
            self._spill()
        self._be_patient()

    def _spill(self) -> None:
        """What stands in line and has not waited yet goes to the waiting room, in its order."""
        for job in self._line.leave(lambda job: not job.has_waited):
            self.waiting.put(job)
        while self.waiting.held:
            self.waiting.put(self.waiting.held.popleft())

    def send_back_waited(self) -> None:
        """What comes from the waiting queue and has not begun goes back to its place there."""
        for job in self._line.leave(lambda job: job.has_waited):
            job.done.cancel()

    # --- the end ------------------------------------------------------------------------------------------------------

    def drop_dead(self) -> None:
        """The link broke: what came over it will come again, so nobody goes on with it here."""
        for job in self._line.leave(lambda job: not job.is_wanted):
            job.done.cancel()
        self.waiting.drop_dead()
        for task, job in self._calls.items():
            if not job.is_wanted:
                task.cancel()

    async def stop_taking(self) -> None:
        """Begin no more call of what RabbitMQ has: it goes back there. The rest is still called."""
        if self._timer:
            self._timer.cancel()
        for job in self._line.leave(lambda job: job.delivery is not None):
            job.done.cancel()
        await self.waiting.stop_taking()

    def tasks(self) -> list[asyncio.Task[None]]:
        """What is under way."""
        return [*self._calls, *self.waiting.tasks()]

    async def stop(self) -> None:
        """End what is still under way."""
        for job in self._line.leave(lambda job: True):
            job.done.cancel()
        for task in self._calls:
            task.cancel()
        await asyncio.gather(*self._calls, self.waiting.stop(), return_exceptions=True)


def _now() -> float:
    """The loop's time, in seconds."""
    return asyncio.get_running_loop().time()
