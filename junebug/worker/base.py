"""Worker: what a channel's and a router's process have in common: its links, what it says of itself, its clock, and that it is
seen to live.

Redis or RabbitMQ away: it waits, and says so. A side task that dies ends the process: the supervisor starts it afresh, which is
better than half of one.

Neighbours: process.py is a channel's, router.py a router's.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

import structlog

from junebug import names
from junebug.amqp.broker import Broker
from junebug.amqp.rpc import Answer, Answers, RpcServer
from junebug.config.declaration import Settings
from junebug.errors import StoreUnavailable
from junebug.logs.channel_log import ChannelLog
from junebug.logs.files import take_over
from junebug.logs.redaction import Redactor
from junebug.logs.setup import setup_channel_logging
from junebug.model.messages import Status, StatusLevel, of_shard
from junebug.model.routing import DestinationSpec
from junebug.model.spec import Launch
from junebug.runtime import fence
from junebug.runtime.families import HELD_CALLBACKS, LOOP_LAG, LOST_LINES
from junebug.runtime.heartbeat import beat
from junebug.runtime.loop import call_again, run_async
from junebug.runtime.metrics import Metrics
from junebug.runtime.service import EXIT_FAILED, ServiceLife, bounded
from junebug.stores import Stores
from junebug.worker.callbacks.attempts import Attempts
from junebug.worker.callbacks.dispatcher import Dispatcher
from junebug.worker.callbacks.forwarder import Forwarder
from junebug.worker.context import ChannelContext
from junebug.worker.statuses import StatusReceiver
from junebug.worker.suspects import WHY, Suspects

log = structlog.stdlib.get_logger("worker")

TICK, LONGEST_TICK = 1.0, 2.5
"""Seconds between two turns of what goes by the clock: while something is counted, and at rest."""
TICKS_IN_TIMEOUT = 4
POLL_EVERY = 60
"""Reconcile intervals after which the spec is read though nobody said that it changed."""
WAIT_FOR_STORE = 1.0
IN_TIME = 2
"""So many of LOOP_LAG's bounds are no lag to speak of."""
MAX_UNCOUNTED = 100_000
PRESENCE_TIMEOUT = 5.0
"""Seconds that a process waits where there are no other hosts: RabbitMQ holds a lost worker's queue for a while."""
TICKS_IN_LEASE = 8

_LOST_LINES = LOST_LINES.field("worker")
_HELD_WAITING, _HELD_DELAYED = (HELD_CALLBACKS.field(where) for where in ("waiting", "delayed"))
_QUIET = frozenset((*LOOP_LAG.fields("worker")[:IN_TIME], LOOP_LAG.fields("worker")[-1]))
"""That the clock was in time is no news."""

R = TypeVar("R")
Left = Callable[[float], float]
"""A share of the time that is left -> seconds."""


class Worker:
    """`run` is its life; `_start` and `_stop_parts` say what else it is made of."""

    def __init__(
        self, settings: Settings, id: str, program: str, launch: Launch, redactor: Redactor, log_file: ChannelLog | None
    ) -> None:
        """`id`: of the channel, of one of its shards (names.unit), or of the router."""
        self._settings = settings
        self._unit = id
        self._id, self._shard = names.channel_of(id), names.shard_of(id)
        self._launch = launch
        self._redactor = redactor
        self._log = log_file
        self._life = ServiceLife()
        self.stop = self._life.stop
        """Have `run` end, as SIGTERM does."""
        self._stores = Stores(settings)
        self._broker = Broker(settings.amqp, program, self._on_broker_state)
        own, suspects = self._life.tasks.own, Suspects(self._on_set_aside)
        self._metrics = Metrics(self._id, _QUIET, shard=self._shard)
        self._context = ChannelContext(
            self._id, settings, self._broker, self._stores, self._present_spec, own, suspects, self._present_destinations,
            self._metrics, self._shard, self._shards, lambda: self._may_lack_notes,
        )  # fmt: skip
        self._redis_run = ""
        self._may_lack_notes = True
        self._counts: Counter[str] = Counter()
        self._statuses = StatusReceiver(self._context)
        self._attempts = Attempts(self._context, self._statuses.is_superseded, self._on_callbacks)
        self._dispatcher = Dispatcher(self._context, self._attempts)
        self._forwarder = self._make_forwarder()
        self._metrics.gauges.append(self._dispatcher.gauges)
        self._metrics.gauges.append(self._held_callbacks)
        self._lag = LOOP_LAG.observer(self._metrics.counts, "worker")
        self._levels: dict[str, tuple[str, str]] = {}
        self._look_at_spec = asyncio.Event()
        self._poll_at = math.inf
        self._is_open = False
        self._saving_rates: asyncio.Task[None] | None = None
        self._saving_metrics: asyncio.Task[None] | None = None
        self._next_tick = math.inf

    async def run(self) -> int:
        """Start everything, wait for the end, stop everything in reverse. Returns the exit code."""
        self._context.suspects.open(self._settings.suspects_dir / self._unit)
        self._life.tasks.own("clock", call_again(self._go_by_the_clock))
        self._life.tasks.own("amqp", self._broker.tasks.failure())
        self._broker.start()
        return await self._life.run(self._start, self._shut_down)

    def _present_spec(self) -> Any:
        raise NotImplementedError

    def _make_forwarder(self) -> Forwarder:
        return Forwarder(self._context, self._attempts, self._dispatcher, self._counts)

    def _shards(self) -> int:
        """Of the channel, when this process began."""
        return 1

    def _present_destinations(self) -> Mapping[str, DestinationSpec]:
        return {}

    async def _start(self) -> int | None:
        """An exit code ends the worker."""
        raise NotImplementedError

    async def _stop_parts(self, left: Left) -> None:
        """In reverse, consumers before publishers: late messages and events still leave."""
        raise NotImplementedError

    async def _shut_down(self) -> None:
        """All of it bounded."""
        ends = time.monotonic() + self._settings.stop_timeout * 0.8

        def left(share: float) -> float:
            return max(0.1, (ends - time.monotonic()) * share)

        await self._stop_parts(left)
        await self._life.tasks.end()
        await self._attempts.close()
        await asyncio.gather(self._flush_counts(), self._save_metrics())
        await self._statuses.drain(left(0.5))
        await bounded("broker", self._broker.close(), left(0.8))
        await bounded("stores", self._stores.close(), left(0.8))
        self._context.suspects.close()
        log.info("worker stopped")

    async def _open(
        self, queues: Mapping[str, Mapping[str, Any]], generation: int, answered: Answers | None = None
    ) -> RpcServer:
        """With its queues there, what waits in them and what it says can go; it is known that this process is there, and no
        other, which answers when it is told to begin (what is `answered`: at once).

        Where there are other hosts this waits until RabbitMQ knows of no other process of the channel: that is the second fence.
        So it does with quorum queues, as RabbitMQ lets several consume them (and serves one).
        """
        await self._broker.declare_surely(queues)
        answers = RpcServer(self._broker, self._unit, self._launch.generation or generation, answered)
        is_patient = self._launch.is_shared or self._broker.is_quorum
        await answers.start(None if is_patient else PRESENCE_TIMEOUT)
        self._is_open = True
        if self._shard:
            self._life.tasks.own("relayed statuses", self._statuses.relay())
        else:
            self._dispatcher.start()
            self._statuses.start(self._dispatcher)
        return answers

    def _held_callbacks(self) -> Mapping[str, float]:
        """For the metrics; asked at each turn of a resting channel's clock."""
        waiting, delayed = self._forwarder.held, self._dispatcher.held
        return {_HELD_WAITING: waiting, _HELD_DELAYED: delayed} if waiting or delayed else {}

    def _look_at_callbacks(self) -> Answer:
        """For the API: the queues that it cannot know, and how many are here, which RabbitMQ does not count."""
        held = self._forwarder.held + self._dispatcher.held
        return {"delay_queues": self._dispatcher.delay_queues(), "callbacks": held}

    async def _until_read(self, read: Callable[[], Awaitable[R]]) -> R:
        """What Redis says, however long it is away."""
        while True:
            try:
                return await read()
            except StoreUnavailable as error:
                self._tell("redis", "down", "connection_lost", str(error))
                await asyncio.sleep(WAIT_FOR_STORE)

    def _is_forgotten(self, known: Collection[str]) -> bool:
        """Whether Redis was emptied since we said that we run: it is not among the components that are `known`."""
        return of_shard("worker", self._shard) not in known

    def _say_again(self) -> None:
        """What Redis has forgotten."""
        self._statuses.say_again()
        self._dispatcher.note_again()

    async def _come_after(self, known: Mapping[str, Mapping[str, Any]]) -> None:
        """What the process before this one said is known: by that Redis is recognised (a new channel's notes are all there), and
        what this one says is kept in its place from now on.
        """
        self._life.tasks.own("statuses", self._statuses.run())
        self._redis_run = await self._stores.run_id()
        said = known.get(of_shard("redis", self._shard))
        is_same = said and self._redis_run and said["details"].get("run_id") == self._redis_run
        self._may_lack_notes = bool(said and not is_same)

    def _say_redis_works(self) -> None:
        if self._levels.get("redis", ("ok", ""))[0] != "ok":
            self._dispatcher.note_again()  # what could not be noted
        self._tell("redis", "ok", "connected", "Connected to Redis")

    def _say_running(self, known: Collection[str]) -> None:
        """`known`: the components of which Redis had a status at the start."""
        if self._launch.restarts and "amqp" not in known and self._shard == 0:
            self._dispatcher.find_unnoted()  # Redis was emptied (of `worker` the supervisor has said again that it ended)
        self._tell("redis", "ok", "connected", "Connected to Redis", {"run_id": self._redis_run})
        launch = self._launch
        message = f"Running again (before: {launch.last_exit})" if launch.last_exit else "Running"
        details = {"pid": os.getpid(), "restarts": launch.restarts, "last_exit": launch.last_exit}
        log.info("worker running", **details)
        self._tell("worker", "ok", "running", message, details)

    # --- the spec, live -----------------------------------------------------------------------------------------------

    async def _refresh_spec(self) -> None:
        raise NotImplementedError

    def _follow_spec(self, changes: AsyncIterator[str]) -> None:
        self._poll_soon()
        self._life.tasks.own("spec", self._watch_spec())
        self._life.tasks.own("changes", self._hear_changes(changes))

    async def _watch_spec(self) -> None:
        """Apply what changed in the spec: told by a notification, found by the poll."""
        while True:
            await self._look_at_spec.wait()
            self._look_at_spec.clear()
            self._poll_soon()
            await self._refresh_spec()

    async def _hear_changes(self, changes: AsyncIterator[str]) -> None:
        async for _ in changes:
            self._look_at_spec.set()

    def _poll_soon(self, intervals: float = POLL_EVERY) -> None:
        """Not all channels at the same moment."""
        self._poll_at = time.monotonic() + self._settings.reconcile_interval * intervals * random.uniform(0.75, 1.25)

    # --- what the worker says of itself -------------------------------------------------------------------------------

    def _tell(
        self, component: str, status: StatusLevel, type: str, message: str, details: dict[str, Any] | None = None
    ) -> None:
        """A status of the worker's own, on change only."""
        if self._levels.get(component) == (status, type):
            return
        self._levels[component] = (status, type)
        component = of_shard(component, self._shard)
        tell = log.info if status == "ok" else log.warning
        tell("status", component=component, status=status, type=type, reason=message)
        self._statuses.receive(
            Status(
                channel_id=self._id, component=component, status=status, type=type, message=message, details=details or {},
                fence=self._launch.fence, shard=self._shard,
            )
        )  # fmt: skip

    def _on_broker_state(self, connected: bool, why: str) -> None:
        if connected:
            self._tell("amqp", "ok", "connected", "Connected to RabbitMQ")
        elif self._broker.blocked:
            self._tell("amqp", "degraded", "blocked", why)
        else:
            self._tell("amqp", "down", "connection_lost", why)

    def _on_set_aside(self) -> None:
        self._tell("set_aside", "degraded", "set_aside", f"Something is with the dead letters, because {WHY}")

    def _on_callbacks(self, failing: dict[str, str]) -> None:
        """Component `callbacks` is degraded while a destination of the channel fails."""
        if not failing:
            self._tell("callbacks", "ok", "working", "The application's URLs and queues take what they are given")
        else:
            self._levels.pop("callbacks", None)  # another one fails: that is news too
            self._tell("callbacks", "degraded", "failing", f"Failing: {', '.join(sorted(failing))}", failing)

    # --- side tasks ---------------------------------------------------------------------------------------------------

    def _go_by_the_clock(self) -> float:
        """All that nothing but the time is a cause for, by the one timer that a resting channel has. Seconds until the next."""
        beat()
        fence.arm()
        if self._is_open and fence.is_alone() and not self._broker.connected:
            fence.leave("Redis and RabbitMQ are away, and others may come")
        settings = self._settings
        longest = min(LONGEST_TICK, settings.worker_timeout / TICKS_IN_TIMEOUT, settings.lease_ttl / TICKS_IN_LEASE)
        pause = min(TICK, longest) if self._counts else longest
        if self._counts and (self._saving_rates is None or self._saving_rates.done()):
            self._saving_rates = self._life.tasks.own("rates", self._flush_counts())
        if self._log:
            self._tell_log(self._log)
        now = time.monotonic()
        if now >= self._poll_at:
            self._look_at_spec.set()
        self._lag(max(0.0, now - self._next_tick))
        if self._saving_metrics is None and self._metrics.due(now):
            self._saving_metrics = self._life.tasks.own("metrics", self._save_metrics())
        self._next_tick = time.monotonic() + pause
        return pause

    async def _save_metrics(self) -> None:
        try:
            if batch := self._metrics.taken():
                await self._stores.metrics.save(self._metrics, batch)
        except StoreUnavailable:
            pass  # it is tried again with the next one
        finally:
            self._saving_metrics = None

    def _tell_log(self, channel_log: ChannelLog) -> None:
        self._metrics.reached(_LOST_LINES, channel_log.lost_lines)
        if channel_log.trouble:
            self._tell("log", "degraded", "not_written", f"Log lines are lost: {channel_log.trouble}")
            log.warning("log lines were lost", lines=channel_log.lost_lines)  # written as soon as any can be
        elif "log" in self._levels:
            self._tell("log", "ok", "written", "Log lines are written again")

    async def _flush_counts(self) -> None:
        counts = self._counts.copy()
        self._counts.clear()
        try:
            await self._stores.rates.add(self._id, counts, time.time())
        except StoreUnavailable:
            self._look_at_spec.set()  # which tells that Redis is away
            if counts.total() < MAX_UNCOUNTED:
                self._counts.update(counts)


def run_worker(settings: Settings, id: str, make: Callable[[Redactor, ChannelLog], Worker]) -> int:
    """Run it in this process until SIGTERM or SIGINT; blocking. Returns the exit code: 0 = asked to stop."""
    redactor = Redactor(settings.server_passwords)
    take_over(Path(settings.logging_path), [id])
    path, size, files = settings.channel_log_path(id), settings.log_rotate_size, settings.max_log_files
    log_file = setup_channel_logging(path, id, redactor, rotate_size=size, max_files=files, sentry_dsn=settings.sentry_dsn)
    try:
        return run_async(make(redactor, log_file).run())
    except Exception:
        log.exception("worker failed")
        return EXIT_FAILED
    finally:
        log_file.close()
