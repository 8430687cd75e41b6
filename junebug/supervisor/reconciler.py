"""The reconciler's loop: specs in Redis against the processes that supervisord has (DESIGN §1).

    woken by   supervisord, over a pipe | a change notification over Redis | reconcile_interval seconds
    looks at   stores.channels (wanted), supervisord's RPC (running, alive)
    does       what reconcile.plan says, tells what reconcile.notice says, has cleanup.py remove what the deleted left

Level-triggered: what wakes it only says that it is worth looking, a lost one costs some seconds. Redis, RabbitMQ or
supervisord not answering means waiting, never stopping a channel. Runs in a process of its own; supervisord starts it
afresh when it dies or its loop hangs, and everything it must know it finds by looking.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import structlog

from junebug import names
from junebug.amqp.broker import Broker
from junebug.config.declaration import Settings
from junebug.errors import BrokerUnavailable, HostTaken, JunebugError, StoreUnavailable, Unavailable, Unroutable
from junebug.logs.channel_log import append_line
from junebug.logs.files import take_over, trouble_in
from junebug.logs.setup import setup_process_logging
from junebug.model.messages import Status, format_timestamp, of_shard
from junebug.model.routing import RouterSpec
from junebug.registry import Registry
from junebug.router_types import RouterTypes
from junebug.runtime.heartbeat import keep_beating
from junebug.runtime.loop import run_async
from junebug.runtime.metrics import Metrics
from junebug.runtime.service import EXIT_FAILED, ServiceLife, bounded
from junebug.stores import Stores
from junebug.stores.reporter import Reporter
from junebug.stores.wanted import Spec
from junebug.supervisor import reconcile
from junebug.supervisor.cleanup import Cleanup, Drain
from junebug.supervisor.client import SupervisorClient
from junebug.supervisor.host_logs import HostLogs
from junebug.supervisor.identity import Identity
from junebug.supervisor.leases import Leases
from junebug.supervisor.liveness import Pulse, SilenceWatch
from junebug.supervisor.metrics import Processes, Restarts
from junebug.supervisor.plugins import Plugins
from junebug.supervisor.reconcile import Notice, Plan, Running
from junebug.supervisor.spec_memory import SpecMemory

log = structlog.stdlib.get_logger("reconciler")

COMPONENT = "worker"
SHORTEST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
"""Seconds between two looks. Within these a pause is as long as the look before it: when hundreds of channels are made, each
look starts many of them, and supervisord is not asked about all of them for each.
"""
THOROUGH_EVERY = 20
"""Looks by the clock of which one reads all again: for what changed, and nobody told."""
SUSPICIOUS_INTERVAL = 1.0
LOG_INTERVAL = 10.0
PUBLISH_TIMEOUT = 10.0
STOP_TIMEOUT = 2.0
MOST_LOGGED = 10
NO_HOST = ("no_host", "No host that lives may run it: none has the labels of its placement and room, or all are drained")
MOST_NEWS = 64 * 1024


def run(settings: Settings, who: Identity, drain: Drain | None, news: int) -> int:
    """Reconcile until SIGTERM; blocking. Returns the exit code.

    `news`: a pipe's end; what comes there says that it is worth looking at the processes.
    """
    logs = setup_process_logging("reconciler", settings.logfile, settings.server_passwords, settings.sentry_dsn)
    try:
        return run_async(Reconciler(settings, who, drain, lambda: logs.lost_lines).run(news))
    except Exception:
        log.exception("reconciler failed")
        return EXIT_FAILED
    finally:
        logs.close()


class Reconciler:
    """One look after the other; `run` is its life."""

    def __init__(
        self, settings: Settings, who: Identity, drain: Drain | None, lost_lines: Callable[[], int] = int
    ) -> None:
        self._settings = settings
        self._registry = Registry.from_settings(settings.channels, settings.replace_channels)
        self._types = self._registry.names()
        self._host_bound = {name for name in self._types if self._registry.get(name).host_bound}
        self._router_types = RouterTypes.from_settings(settings.routers, settings.replace_routers)
        self._stores = Stores(settings)
        self._broker = Broker(settings.amqp, "reconciler", self._on_broker_state)
        self._supervisor = SupervisorClient(settings.supervisor_socket)
        self._life = ServiceLife()
        on_trouble = functools.partial(self._trouble, "clean-up")
        self._cleanup = Cleanup(settings, self._broker, self._stores, drain, on_trouble)
        self._silence = SilenceWatch(settings.worker_timeout)
        self._metrics = Metrics()
        self._restarts = Restarts(self._metrics)
        self._reporter = Reporter(
            self._metrics, self._stores.metrics, socket.gethostname(), "reconciler", Processes().look, lost_lines
        )
        self._plugins = Plugins(settings, self._stores.plugins)
        self._wake = asyncio.Event()
        self._memory = SpecMemory(self._stores.wanted, self._router_types)
        self._leases = Leases(settings, who, self._wake.set)
        self._host_logs = HostLogs(self._broker, who.id, settings)
        self._specs: Mapping[str, Spec] = {}
        """Of the last look."""
        self._plan = Plan()
        """Of the last look. What it removes is leaving until supervisord has it no more."""
        self._before: dict[str, Running] = {}
        self._killed: dict[str, int] = {}
        """Unit -> pid that was killed for its silence."""
        self._unsaved: dict[str, Status] = {}
        self._troubles: dict[str, str] = {}

    async def run(self, news: int) -> int:
        """Until SIGTERM, or until a part dies. Returns the exit code."""
        life = self._life
        life.tasks.own("heartbeat", keep_beating())
        life.tasks.own("amqp", self._broker.tasks.failure())
        plugins = [life.tasks.own("plugin", each.run()) for each in self._plugins.runners]
        life.tasks.own("plugin reports", self._plugins.report())
        life.tasks.own("metrics", self._reporter.run())

        async def start() -> None:
            self._broker.start()
            life.tasks.own("events", self._hear_news(news))
            life.tasks.own("changes", self._hear_changes())
            life.tasks.own("logs", self._look_at_logs())
            life.tasks.own("cleanup", self._cleanup.run())
            life.tasks.own("looks", self._look_forever())
            life.tasks.own("leases", self._leases.run())
            life.tasks.own("questions", self._host_logs.serve())

        async def stop() -> None:
            for each in plugins:
                each.cancel()  # once: it stops its plugin then, which may take its time
            if plugins:
                await asyncio.wait(plugins, timeout=STOP_TIMEOUT)
            await life.tasks.end()
            if self._supervisor.is_ending:
                await bounded("leases", self._leases.hand_over(leave=True), STOP_TIMEOUT)
            await self._leases.close()
            await bounded("metrics", self._reporter.close(), STOP_TIMEOUT)
            await bounded("broker", self._broker.close(), STOP_TIMEOUT)
            await bounded("stores", self._stores.close(), STOP_TIMEOUT)

        return await life.run(start, stop)

    async def _look_forever(self) -> None:
        poll_at, polls = 0.0, 0
        while True:
            now = time.monotonic()
            if now >= poll_at:
                poll_at = now + self._settings.reconcile_interval
                polls += 1
            thorough = polls >= THOROUGH_EVERY and self._memory.may_read_all(self._leases.hosts)
            if thorough:
                polls = 0
            await self.look(thorough)
            took = time.monotonic() - now
            await asyncio.sleep(min(max(SHORTEST_PAUSE, took), LONGEST_PAUSE))
            pause = poll_at - time.monotonic()
            try:
                async with asyncio.timeout(min(pause, SUSPICIOUS_INTERVAL) if self._silence.is_suspicious else pause):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()

    async def look(self, thorough: bool = True) -> None:
        """Look once, and do what is to be done. `thorough`: read all again, not only what is said to be new."""
        try:
            running = await asyncio.to_thread(self._supervisor.running)
            self._trouble("supervisord", None)
        except Unavailable as error:
            return self._trouble("supervisord", error)
        if self._supervisor.is_ending:
            return await self._leases.hand_over()
        await self._kill_the_hung(running)
        try:
            wanted, deleted, was_emptied = await self._memory.read(thorough)
            if was_emptied:
                self._plan = dataclasses.replace(self._plan, refused={})  # those statuses are lost with it
            units = reconcile.units(wanted)
            mine = await self._leases.share(reconcile.needs(units, deleted, self._host_bound), running)
            self._trouble("redis", None)
        except (StoreUnavailable, HostTaken) as error:
            return self._trouble("redis", error)  # nothing is started or stopped; what happens is told later
        except Unavailable as error:
            return self._trouble("supervisord", error)
        seen = self._specs.keys() | {*self._plan.remove}
        here = {unit: spec for unit, spec in units.items() if unit in mine}
        elsewhere = units.keys() - here.keys()
        plan = reconcile.plan(here, deleted, running, self._types, seen, self._router_types.names(), elsewhere)
        if self._leases.nowhere:
            refused = dict.fromkeys(self._leases.nowhere & units.keys(), NO_HOST)
            plan = dataclasses.replace(plan, refused={**plan.refused, **refused})
        if wanted is not self._specs:
            self._take_over_logs(wanted.keys() - self._specs.keys())
        self._specs = wanted
        await self._tell(running, plan)
        self._plugins.look(running, plan.leaving, wanted)
        self._restarts.look(running)
        self._plan, self._before = plan, running
        try:
            await asyncio.to_thread(self._carry_out, plan)
        except Unavailable as error:
            self._trouble("supervisord", error)
        if any(running[channel].state == "STOPPED" for channel in plan.remove):
            self._wake.set()  # it is gone now: the next look cleans up
        self._let_go([
            id for id in deleted if id in mine and id not in wanted and id not in running and not self._leases.has_shards(id)
        ])  # fmt: skip

    # --- acting -------------------------------------------------------------------------------------------------------

    async def _kill_the_hung(self, running: Mapping[str, Running]) -> None:
        now = time.time()
        hung = self._silence.look(now, [
            Pulse(channel, process.pid, process.spawned_at, process.beaten_at)
            for channel, process in running.items()
            if process.pid and process.state in ("STARTING", "RUNNING")
        ])  # fmt: skip
        if not hung:
            return
        for pulse in hung:
            self._killed[pulse.name] = pulse.pid
            await self._say(pulse.name, reconcile.hung_notice(pulse, now))
        try:
            await asyncio.to_thread(self._supervisor.kill, [pulse.name for pulse in hung])
        except Unavailable as error:
            self._trouble("supervisord", error)

    def _carry_out(self, plan: Plan) -> None:
        if plan.remove:
            log.info("stopping", channels=_some(plan.remove))
            self._supervisor.remove(plan.remove)
        if plan.restart:
            log.info("restarting", channels=_some([channel for channel, _ in plan.restart]))
            self._supervisor.restart(plan.restart)
        if plan.start:
            log.info("starting", channels=_some([channel for channel, _ in plan.start]))
            for group, is_router in ((names.CHANNEL_GROUP, False), (names.ROUTER_GROUP, True)):
                which = [each for each in plan.start if isinstance(self._spec_of(each[0]), RouterSpec) == is_router]
                leases = {channel: self._leases.launch(channel) for channel, _ in which}
                self._supervisor.start(which, group, leases)

    def _let_go(self, deleted: Sequence[str]) -> None:
        """Of a deleted channel whose processes are gone."""
        gone = frozenset(deleted)
        for known in (self._killed, self._unsaved):
            for unit in [unit for unit in known if names.channel_of(unit) in gone]:
                del known[unit]
        self._cleanup.put(deleted)

    def _spec_of(self, unit: str) -> Spec | None:
        return self._specs.get(names.channel_of(unit))

    # --- telling ------------------------------------------------------------------------------------------------------

    async def _tell(self, running: dict[str, Running], plan: Plan) -> None:
        """Component `worker` of each channel and shard, on change only."""
        for unit, status in list(self._unsaved.items()):
            await self._save(unit, status)
        for channel, (type, message) in plan.refused.items():
            if self._plan.refused.get(channel) != (type, message):
                await self._say(channel, Notice("down", type, message))
        leaving = plan.leaving
        for channel, process in running.items():
            found = reconcile.notice(self._before.get(channel), process, self._killed.get(channel, 0))
            if found and channel not in leaving:
                await self._say(channel, found)
        if orphans := {*plan.orphans} - {*self._plan.orphans}:
            log.warning("channels run that have no spec, and that nobody deleted: left alone", channels=_some(sorted(orphans)))

    async def _say(self, unit: str, found: Notice) -> None:
        channel, shard = names.channel_of(unit), names.shard_of(unit)
        at = datetime.now(UTC) if found.at is None else datetime.fromtimestamp(found.at, UTC)
        status = Status(
            channel_id=channel, component=of_shard(COMPONENT, shard), status=found.status, type=found.type,
            message=found.message, details=found.details, timestamp=format_timestamp(at), fence=self._leases.fence(unit),
            shard=shard,
        )  # fmt: skip
        log.warning("status", channel_id=channel, component=status.component, type=found.type, reason=found.message)
        await self._save(unit, status)

    async def _save(self, unit: str, status: Status) -> None:
        """Keep it, and have it posted, unless the worker has said something newer meanwhile (that it runs again)."""
        try:
            newest = await self._stores.statuses.put(status)
        except StoreUnavailable:
            self._unsaved[unit] = status
            return
        self._unsaved.pop(unit, None)
        if newest:
            told = {"component": status.component, "status": status.status, "type": status.type, "reason": status.message}
            path = self._settings.channel_log_path(unit)
            self._life.tasks.own("log", asyncio.to_thread(append_line, path, unit, logging.WARNING, "status", told))
        spec = self._spec_of(unit)
        if newest and spec and spec.status_url:
            self._life.tasks.own("status", self._publish(status))

    async def _publish(self, status: Status) -> None:
        """Give it to the channel's worker, which posts it, as soon as there is one."""
        try:
            await self._broker.publish(names.status_queue(status.channel_id), status.to_wire(), timeout=PUBLISH_TIMEOUT)
        except (BrokerUnavailable, Unroutable) as error:  # the store has it, as the API's readers see
            log.warning("a status could not be passed on", channel_id=status.channel_id, reason=str(error))

    def _trouble(self, what: str, error: JunebugError | None) -> None:
        """Log that something is away, or is there again: on change only."""
        text = str(error) if error else ""
        before = self._troubles.get(what, "")
        self._troubles[what] = text
        if error and text != before:
            log.warning("waiting", what=what, reason=text)
        elif before and not error:
            log.info("works again", what=what)

    def _on_broker_state(self, connected: bool, why: str) -> None:
        self._leases.broker(self._broker.connected)
        self._trouble("rabbitmq", None if connected else BrokerUnavailable(why))

    # --- side tasks ---------------------------------------------------------------------------------------------------

    def _take_over_logs(self, ids: Iterable[str]) -> None:
        """That an older Junebug has written here, also of what runs elsewhere now. No look waits for a disk."""
        if old := [id for id in ids if names.log_name(id) != id]:
            self._life.tasks.own("log", asyncio.to_thread(take_over, Path(self._settings.logging_path), old))

    async def _look_at_logs(self) -> None:
        """Who cannot log cannot say so in his log. Beside the looks: a disk that hangs must not hold them up."""
        while True:
            why = await asyncio.to_thread(trouble_in, Path(self._settings.logging_path))
            self._trouble("logging_path", Unavailable(f"what channels log is lost: {why}") if why else None)
            await asyncio.sleep(LOG_INTERVAL)

    async def _hear_changes(self) -> None:
        async for channel in self._stores.channels.all_changes():
            if channel:  # what was not heard is noted in Redis, too
                self._memory.changed(channel)
            self._wake.set()

    async def _hear_news(self, news: int) -> None:
        """supervisord's: a process has come to another state."""
        reader = asyncio.StreamReader()
        pipe = os.fdopen(news, "rb", buffering=0)
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        while await reader.read(MOST_NEWS):
            self._wake.set()
        raise ConnectionError("supervisord has closed the pipe")


def _some(channels: Sequence[str]) -> str:
    """For the log: not a thousand ids in a line."""
    more = len(channels) - MOST_LOGGED
    return ", ".join(channels[:MOST_LOGGED]) + (f" and {more} more" if more > 0 else "")
