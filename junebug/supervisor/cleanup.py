"""What deleted channels and routers leave behind: each is drained (worker/callbacks/drain.py), then nothing of it is left but its
logs, for as long as deleted_log_ttl says: then each host removes those that it has.

Neighbours: reconciler.py says whose process is gone, cli.py gives `drain`. Redis or RabbitMQ away, or we died over
it: the next look says it again, and a repeat is harmless. What is removed last is the channel's place among the deleted.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from junebug import names
from junebug.amqp.broker import Broker
from junebug.config.declaration import Settings
from junebug.door.routes import files_of
from junebug.errors import BrokerUnavailable, StoreUnavailable
from junebug.logs.files import LogsOf, file_of, is_old_log, numbers_in, take_over
from junebug.model.routing import RouterSpec
from junebug.stores import Stores
from junebug.stores.wanted import NOTE_OF_LOGS_TTL, Spec, WantedStore
from junebug.supervisor.processes.channel import crash_log, crash_log_of

log = structlog.stdlib.get_logger("reconciler")

Drain = Callable[[Settings, Broker, Stores, Spec, Sequence[str], Collection[str]], Coroutine[Any, Any, None]]
"""Is given the names of the channel's delay queues as well, which need not be there, and those of its queues that others name.
Bounds itself in time.

Raises BrokerUnavailable, StoreUnavailable: it is to be done again.
"""

AT_ONCE = 4
CONNECT_PATIENCE = 5.0
"""Seconds to wait for RabbitMQ: when we have just started, it is about to be there."""
SHORTEST_LOG_PAUSE, LONGEST_LOG_PAUSE = 1.0, 3600.0
"""Seconds between two looks for logs that are to be removed."""
DRAIN_TIMEOUT = 60.0
"""Seconds after which a drain that does not keep its own time is over."""
CLOCKS = 60.0
"""Seconds by which those of hosts may differ, and a note be late."""
NAMED_AGE, NAMED_SHARE = 1.0, 0.1
"""Seconds for which it counts which queues channels name; longer, where reading it takes more than this share of the time."""


@dataclass
class Cleanup:
    """A few channels at a time; `run` is its life."""

    settings: Settings
    broker: Broker
    stores: Stores
    drain: Drain | None
    on_trouble: Callable[[BrokerUnavailable | StoreUnavailable | None], None]
    """Is told what hinders, and None when nothing does any more."""
    _waiting: list[str] = field(default_factory=list)
    _under_way: set[str] = field(default_factory=set)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._named = _NamedQueues(self.stores.wanted)

    def put(self, channels: Iterable[str]) -> None:
        """All the deleted channels whose processes are gone."""
        self._waiting = [channel for channel in channels if channel not in self._under_way]
        if self._waiting:
            self._news.set()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(AT_ONCE):
                tasks.create_task(self._work_forever())
            tasks.create_task(self._remove_logs_forever())

    async def _work_forever(self) -> None:
        while True:
            if not self._waiting:
                self._news.clear()
                await self._news.wait()
                continue
            channel = self._waiting.pop(0)
            self._under_way.add(channel)
            try:
                await self._clean_up(channel)
                self.on_trouble(None)
            except (BrokerUnavailable, StoreUnavailable) as error:
                self._waiting.clear()  # the others would fare no better: the next look brings them again
                self.on_trouble(error)
            finally:
                self._under_way.discard(channel)

    async def _clean_up(self, channel: str) -> None:
        wanted = self.stores.wanted
        if not await wanted.is_deleted(channel):
            return  # it is done: that look was an old one
        await self.broker.wait_connected(CONNECT_PATIENCE)
        spec = await wanted.deleted_spec(channel)
        noted = await self.stores.delay_queues.noted(channel)
        delayed = {*names.retry_queues(channel, self.settings.callback_retry_delays), *noted}
        if self.broker.is_quorum:
            delayed |= {names.of_kind(queue, True) for queue in delayed if not names.is_quorum(queue)}
        own = [*self._queues(channel, spec), *delayed]
        if self.drain and spec:
            shared = names.application_queues(spec.amqp_queue) if spec.amqp_queue else ()
            named = await self._named.among([*own, *shared])
            idle = [queue for queue in delayed - named if not names.is_quorum(queue)]
            delayed.difference_update(idle)
            delayed.update(await self.broker.without_idle_queues(idle))
            await self._bounded(self.drain, spec, sorted(delayed), named)
        others = await self._named.among(own)  # an amqp_queue may be this one's id (an older Junebug took that)
        await self.broker.delete_queues([queue for queue in own if queue not in others])
        self._remove_files(channel)
        await wanted.keep_logs(channel, self.settings.deleted_log_ttl)
        await wanted.forget(channel)
        log.info("deleted", channel_id=channel)

    def _queues(self, channel: str, spec: Spec | None) -> Iterable[str]:
        if isinstance(spec, RouterSpec):
            return [*names.router_queues(channel), *names.callback_queues(channel, True)]
        layouts = {*names.LAYOUTS}
        if spec:  # of the others there is none
            layouts = {names.PLAIN, self.broker.wanted_layout(spec.shards), *map(names.layout_of, spec.layouts)}
        outbound = [queue for layout in layouts for queue in layout.queues(channel)]
        kinds = {layout.is_quorum for layout in layouts}
        others = [queue for kind in kinds for queue in names.channel_queues(channel, (), names.Layout(kind))]
        return (*others, *outbound)

    async def _bounded(self, drain: Drain, spec: Spec, delayed: Sequence[str], others: Collection[str]) -> None:
        try:
            async with asyncio.timeout(DRAIN_TIMEOUT):
                await drain(self.settings, self.broker, self.stores, spec, delayed, others)
        except TimeoutError:
            log.error("the drain took too long", channel_id=spec.id)
        except (BrokerUnavailable, StoreUnavailable):
            raise
        except Exception:
            log.exception("the drain failed", channel_id=spec.id)  # and will again: it must not keep the channel

    def _remove_files(self, channel: str) -> None:
        """Of this host. What another one has of its shards goes with their logs."""
        files: list[str | Path] = [*self._routes(channel)]
        suspects, accepted = self.settings.suspects_dir, self.settings.accepted_dir
        for unit in names.units(channel, names.MOST_SHARDS):
            crashes = crash_log(self.settings, unit)
            files += crashes, f"{crashes}.1", f"{suspects}/{unit}", f"{accepted}/{unit}", f"{accepted}/.{unit}"
        _remove(channel, files)

    def _routes(self, channel: str) -> tuple[Path, ...]:
        return files_of(self.settings.door, channel) if self.settings.door else ()

    async def _remove_logs_forever(self) -> None:
        ttl, since = self.settings.deleted_log_ttl, 0.0
        while True:
            now = time.time()
            try:
                await self._remove_logs(max(since - CLOCKS, now - NOTE_OF_LOGS_TTL), now)
                since = now
            except StoreUnavailable as error:
                log.warning("logs of deleted channels are left for now", reason=str(error))
            await asyncio.sleep(min(LONGEST_LOG_PAUSE, max(SHORTEST_LOG_PAUSE, ttl / 10)))

    async def _remove_logs(self, since: float, until: float) -> None:
        """What this host has of channels whose time was up then; a process that is new goes through all that are noted."""
        wanted = self.stores.wanted
        async for expired in wanted.expired_logs(since, until):
            if files := await asyncio.to_thread(self._remove_all, expired):
                log.info("logs of deleted channels removed", files=files)
        await wanted.forget_logs(until - NOTE_OF_LOGS_TTL)

    def _remove_all(self, channels: Sequence[str]) -> int:
        """How many files it were; blocking. Each directory is looked at once, however many channels they are."""
        files: dict[str, list[Path]] = {channel: [] for channel in channels}
        for path, unit in self._left_here(channels):
            files[names.channel_of(unit)].append(path)
        for channel, found in files.items():
            _remove(channel, [*found, *self._routes(channel)])
        return sum(map(len, files.values()))

    def _left_here(self, channels: Sequence[str]) -> Iterator[tuple[Path, str]]:
        """Files, each with its unit."""
        logs, own = Path(self.settings.logging_path), frozenset(channels)
        take_over(logs, channels)
        with _kept(logs):
            for name, numbers in numbers_in(logs, LogsOf(own)).items():
                files = [file_of(logs / name, number) for number in numbers]
                yield from ((file, name) for file in files if file.name == name or not is_old_log(file))
        settings, without_dot = self.settings, lambda name: name.removeprefix(".")
        places = ((settings.log_dir, crash_log_of), (settings.suspects_dir, str), (settings.accepted_dir, without_dot))
        for directory, unit_of in places:
            with _kept(directory):
                for name in os.listdir(directory):
                    if names.channel_of(unit := unit_of(name)) in own and names.is_unit(unit):
                        yield directory / name, unit


class _NamedQueues:
    """Which queues channels and destinations name as their `amqp_queue`'s. That takes reading all that there are: what was read a
    moment ago is good enough for all that are deleted together. A queue that somebody consumes is left alone anyhow.
    """

    def __init__(self, wanted: WantedStore) -> None:
        self._wanted = wanted
        self._queues: set[str] = set()
        self._until = 0.0
        self._reading = asyncio.Lock()

    async def among(self, queues: Iterable[str]) -> frozenset[str]:
        """Those of these. Raises StoreUnavailable."""
        async with self._reading:
            if (begun := time.monotonic()) >= self._until:
                self._queues = await self._wanted.named_queues()
                took = time.monotonic() - begun
                self._until = begun + max(NAMED_AGE, took / NAMED_SHARE)
        return frozenset(queue for queue in queues if queue in self._queues)


@contextmanager
def _kept(directory: Path) -> Iterator[None]:
    """What is there, where the disk does not let us look."""
    try:
        yield
    except FileNotFoundError:
        pass
    except OSError as error:
        log.warning("files of deleted channels are left", path=str(directory), reason=error.strerror)


def _remove(channel: str, files: Sequence[str | Path]) -> None:
    """A disk that does not let us keeps them: no reason to end."""
    for path in files if names.is_channel_id(channel) else ():
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            log.warning("a deleted channel's file is left", channel_id=channel, path=str(path), reason=error.strerror)
