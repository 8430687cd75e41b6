"""Everybody whom a channel's callbacks go to, and what becomes of a callback before and after each call.

    Forwarder, StatusReceiver --deliver--> Lane of its host --> mo_url, event_url, status_url, {amqp_queue}
    <id>.callbacks  ----------repeat---->     |  `--> waiting queue of the host
                                              `-----> retry queue, <id>.dead

A job is finished only when its destination has it, or RabbitMQ has confirmed it on one of those queues: nothing is lost.
Neighbours: lane.py for order and dead hosts, calls.py for one call, retry_policy.py for what comes next.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from junebug import names
from junebug.amqp.broker import Broker
from junebug.amqp.frames import Delivery
from junebug.config.declaration import Settings
from junebug.errors import BrokerUnavailable, MalformedMessage, StoreUnavailable
from junebug.model.callbacks import Callback, DeadLetter, Reason
from junebug.model.messages import Status
from junebug.model.spec import ChannelSpec
from junebug.stores import Stores
from junebug.worker.callbacks import retry_policy
from junebug.worker.callbacks.backlog import marker_in
from junebug.worker.callbacks.circuit_breaker import Circuit
from junebug.worker.callbacks.delay_queues import DelayQueues
from junebug.worker.callbacks.destination import Lane
from junebug.worker.callbacks.health import CallbackHealth
from junebug.worker.callbacks.pending_callback import Content, Job, Office
from junebug.worker.callbacks.target import call, content_of, origin, target_of
from junebug.worker.callbacks.webhook import Outcome, Webhook

log = structlog.stdlib.get_logger("forwarder")

MAX_LANES = 1000
"""Destinations that are known at a time; of more, those that have nothing to do are forgotten."""
STATUS_MAX_AGE = 3600.0
HEALTH_INTERVAL = 10.0
RESUME_PAUSE = 1.0

SpecView = Callable[[], ChannelSpec]
"""The channel's spec as it is now: a changed mo_url holds from the next attempt on."""


class Destinations(Office):
    """Those of one channel."""

    def __init__(
        self,
        settings: Settings,
        channel: str,
        broker: Broker,
        stores: Stores,
        webhook: Webhook,
        spec: SpecView,
        is_superseded: Callable[[Status], bool],
        on_health: Callable[[dict[str, str]], None],
    ) -> None:
        """`is_superseded(status)`: a newer one of its component is known. `on_health(failing)`: kind -> reason, at a change."""
        self._settings = settings
        self._broker = broker
        self._webhook = webhook
        self._spec = spec
        self._channel = channel
        self._is_superseded = is_superseded
        self._on_health = on_health
        self._delays = settings.callback_retry_delays
        self._queues = DelayQueues(broker, stores.delay_queues, channel, self._delays)
        self._lanes: OrderedDict[str, Lane] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._health = CallbackHealth(memory=2 * max(*self._delays, retry_policy.LONGEST_RETRY_AFTER))
        self._told: dict[str, str] = {}
        self._ticker: asyncio.TimerHandle | None = None
        self._has_stopped = False

    async def start(self) -> None:
        """Go on with what an earlier process left; from then on what comes is put behind it."""
        self._tick()
        if not await self._resume():
            self._own(self._resume_later())

    async def stop(self, timeout: float) -> None:
        """Finish what is under way within `timeout` seconds; all else goes back to its queue."""
        for task in self._tasks:
            task.cancel()
        if self._ticker:
            self._ticker.cancel()
        await asyncio.gather(*(lane.stop_taking() for lane in self._lanes.values()))
        ends = _now() + timeout
        while tasks := [task for lane in self._lanes.values() for task in lane.tasks()]:
            await asyncio.wait(tasks, timeout=max(0.0, ends - _now()))
            if _now() >= ends:
                break
        self._has_stopped = True
        await asyncio.gather(*(lane.stop() for lane in self._lanes.values()), *self._tasks, return_exceptions=True)
        await self._queues.close()

    def delay_queues(self) -> list[str]:
        """Names of the retry and waiting queues that may hold something."""
        return self._queues.names()

    # --- what comes ---------------------------------------------------------------------------------------------------

    def deliver(self, callback: Callback, content: Content, delivery: Delivery | None) -> Job:
        """Get a new one done; its `done` tells when. Of one key, what is delivered first is called first."""
        job = self._make_job(callback, content, delivery)
        self.offer(job)
        return job

    def repeat(self, delivery: Delivery) -> None:
        """Get one done whose time to be tried again has come."""
        if marker := marker_in(delivery.body):
            for lane in self._lanes.values():
                lane.waiting.on_expired_marker(marker)
            delivery.ack()
        elif job := self.job(delivery):
            self.offer(job)

    def drop_dead(self) -> None:
        """The link to RabbitMQ broke: what came over it will come again."""
        for lane in self._lanes.values():
            lane.drop_dead()

    def on_changed_spec(self) -> None:
        """What waits for a host may be meant for another one now."""
        for lane in self._lanes.values():
            lane.waiting.sort()
        self._forget_failures()

    def _make_job(self, callback: Callback, content: Content, delivery: Delivery | None, is_repeat: bool = False) -> Job:
        loop = asyncio.get_running_loop()
        return Job(callback, content, delivery, loop.time(), loop.create_future(), is_repeat)

    # --- what lanes ask -----------------------------------------------------------------------------------------------

    def job(self, delivery: Delivery) -> Job | None:
        try:
            callback = Callback.from_wire(delivery.body)
            content = content_of(callback)
        except MalformedMessage as error:
            self.bury_unreadable(delivery, str(error))
            return None
        job = self._make_job(callback, content, delivery, is_repeat=True)
        if isinstance(content, Status) and self._is_superseded(content):
            log.info("repeat of a status dropped: there is a newer one", **job.fields())
            job.finish()
            return None
        return job

    def destination(self, job: Job) -> str | None:
        target = target_of(job.callback, self._spec())
        return target.destination if target else None

    def offer(self, job: Job) -> None:
        if self._has_stopped:
            job.done.cancel()
        elif destination := self.destination(job):
            self._lane(destination).offer(job)
        else:
            job.finish()

    async def call(self, destination: str, job: Job) -> Outcome | None:
        target = target_of(job.callback, self._spec())
        if target is None or target.destination != destination:  # the channel's settings changed meanwhile
            job.has_waited = False
            self.offer(job)
            return None
        outcome = await call(
            self._settings, self._broker, self._webhook, self._spec(), target, job.callback, job.content
        )
        kind = job.callback.to
        if outcome.ok:
            log.info("forwarded", **job.fields())
            self._health.worked(kind, destination)
            if not (lane := self._lane(destination)).is_known:
                lane.is_known = True
                self._own(self._look_into(lane))
        else:
            log.warning("forwarding failed", reason=outcome.reason, **job.fields())
            self._health.failed(kind, destination, outcome.reason, _now())
        self._tell_health()
        return outcome

    async def settle(self, job: Job, outcome: Outcome) -> None:
        if outcome.ok:
            job.finish()
            return
        job.callback = dataclasses.replace(job.callback, attempts=job.callback.attempts + 1, error=outcome.reason)
        attempts, age, max_age = job.callback.attempts, time.time() - job.callback.since, self._max_age(job)
        step = retry_policy.next_step(attempts, outcome.status, outcome.retry_after, age, max_age, self._delays)
        if isinstance(step, retry_policy.Delay):
            await self._queues.retry(job.callback, step)
            job.finish()
        else:
            await self._bury(job, step, outcome.reason)

    async def give_up_if_too_old(self, job: Job, error: str) -> bool:
        if time.time() - job.callback.since <= self._max_age(job):
            return False
        await self._bury(job, "too_old", job.callback.error or error)
        return True

    async def fail(self, job: Job) -> None:
        log.exception("forwarding failed: moved to the dead letters", **job.fields())
        await self._bury(job, "failed", "see the channel's log")

    # --- dead letters -------------------------------------------------------------------------------------------------

    def bury_unreadable(self, delivery: Delivery, error: str) -> None:
        """What nobody can read goes to the dead letters."""
        log.error("unreadable message: moved to the dead letters", reason=error)
        self._own(self._bury_delivery(delivery, error))

    async def _bury_delivery(self, delivery: Delivery, error: str) -> None:
        letter = DeadLetter(reason="unreadable", error=error, queue=delivery.queue, body=delivery.body)
        await self._broker.publish_surely(names.dead_queue(self._channel), (letter.to_wire(),))
        delivery.ack()

    async def _bury(self, job: Job, reason: Reason, error: str) -> None:
        letter = DeadLetter(reason=reason, error=error, callback=job.callback)
        await self._broker.publish_surely(names.dead_queue(self._channel), (letter.to_wire(),))
        log.error("given up: moved to the dead letters", why=reason, reason=error, **job.fields())
        job.finish()

    def _max_age(self, job: Job) -> float:
        match job.callback.kind:
            case "inbound":
                return self._settings.callback_max_age
            case "event":
                return self._settings.outbound_message_ttl
            case "status":
                return STATUS_MAX_AGE

    # --- lanes --------------------------------------------------------------------------------------------------------

    def _lane(self, destination: str) -> Lane:
        lane = self._lanes.get(destination)
        if lane is None:
            circuit, room = Circuit(self._delays), self._settings.callback_concurrency
            lane = self._lanes[destination] = Lane(destination, self, self._broker, self._queues, circuit, room)
            if len(self._lanes) > MAX_LANES:
                self._forget_a_lane(lane)
        self._lanes.move_to_end(destination)
        return lane

    def _forget_a_lane(self, new: Lane) -> None:
        for destination, lane in self._lanes.items():
            if lane.is_idle and lane is not new:
                del self._lanes[destination]
                return

    async def _look_into(self, lane: Lane) -> None:
        """An earlier process may have left something for this host, which works."""
        try:
            if await self._broker.queue_length(self._queues.waiting(lane.destination)):
                lane.look()
        except BrokerUnavailable:
            lane.is_known = False

    async def _resume(self) -> bool:
        try:
            left = await self._queues.left_waiting()
        except (StoreUnavailable, BrokerUnavailable) as error:
            log.warning("cannot see yet what waits for a repeat", reason=str(error))
            return False
        for destination in left:
            lane = self._lane(destination)
            if not lane.waiting.is_used:
                lane.circuit.suspect(_now())
                lane.look()
        return True

    async def _resume_later(self) -> None:
        while True:
            await asyncio.sleep(RESUME_PAUSE)
            if await self._resume():
                return

    def _own(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- health -------------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        self._forget_failures()
        self._ticker = asyncio.get_running_loop().call_later(HEALTH_INTERVAL, self._tick)

    def _forget_failures(self) -> None:
        """What failed and is not called any more fails no more."""
        self._health.forget(_now(), self._is_current)
        self._tell_health()

    def _tell_health(self) -> None:
        failing = self._health.failing()
        if failing.keys() != self._told.keys():
            self._told = failing
            self._on_health(failing)

    def _is_current(self, kind: str, destination: str) -> bool:
        """Whether callbacks of this kind may still go there."""
        spec = self._spec()
        match kind:
            case "mo_url":
                return bool(spec.mo_url) and origin(spec.mo_url or "") == destination
            case "status_url":
                return bool(spec.status_url) and origin(spec.status_url or "") == destination
            case "amqp_queue":
                queue = spec.amqp_queue or ""
                return destination in (f"amqp:{names.inbound_queue(queue)}", f"amqp:{names.event_queue(queue)}")
        return True


def _now() -> float:
    return asyncio.get_running_loop().time()
