"""What deleted channels and routers leave behind: each is drained (worker/callbacks/drain.py), then nothing of it is left but its
logs, for as long as deleted_log_ttl says.

Neighbours: reconciler.py says whose process is gone, cli.py gives `drain`. Redis or RabbitMQ away, or we died over
it: the next look says it again, and a repeat is harmless. What is removed last is the channel's place among the deleted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from junebug import names
from junebug.amqp.broker import Broker
from junebug.config.declaration import Settings
from junebug.door.routes import files_of
from junebug.errors import BrokerUnavailable, StoreUnavailable
from junebug.logs.files import file_of, numbers_in
from junebug.model.routing import RouterSpec
from junebug.stores import Stores
from junebug.stores.wanted import Spec
from junebug.supervisor.processes.channel import crash_log

log = structlog.stdlib.get_logger("reconciler")

Drain = Callable[[Settings, Broker, Stores, Spec, Sequence[str]], Coroutine[Any, Any, None]]
"""Is given the names of the channel's delay queues as well, which need not be there. Bounds itself in time.

Raises BrokerUnavailable, StoreUnavailable: it is to be done again.
"""

AT_ONCE = 4
CONNECT_PATIENCE = 5.0
"""Seconds to wait for RabbitMQ: when we have just started, it is about to be there."""
SHORTEST_LOG_PAUSE, LONGEST_LOG_PAUSE = 1.0, 3600.0
"""Seconds between two looks for logs that are to be removed."""
DRAIN_TIMEOUT = 60.0
"""Seconds after which a drain that does not keep its own time is over."""


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
        if channel not in await wanted.deleted():
            return  # it is done: that look was an old one
        await self.broker.wait_connected(CONNECT_PATIENCE)
        spec = await wanted.deleted_spec(channel)
        noted = await self.stores.delay_queues.noted(channel)
        delayed = {*names.retry_queues(channel, self.settings.callback_retry_delays), *noted}
        if self.broker.is_quorum:
            delayed |= {names.of_kind(queue, True) for queue in delayed if not names.is_quorum(queue)}
        if self.drain and spec:
            await self._bounded(self.drain, spec, sorted(delayed))
        named = await wanted.named_queues()  # another channel's amqp_queue may be this one's id (an older Junebug took that)
        await self.broker.delete_queues([queue for queue in (*self._queues(channel, spec), *delayed) if queue not in named])
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

    async def _bounded(self, drain: Drain, spec: Spec, delayed: Sequence[str]) -> None:
        try:
            async with asyncio.timeout(DRAIN_TIMEOUT):
                await drain(self.settings, self.broker, self.stores, spec, delayed)
        except TimeoutError:
            log.error("the drain took too long", channel_id=spec.id)
        except (BrokerUnavailable, StoreUnavailable):
            raise
        except Exception:
            log.exception("the drain failed", channel_id=spec.id)  # and will again: it must not keep the channel

    def _remove_files(self, channel: str) -> None:
        files: list[Path] = []
        for unit in names.units(channel, names.MOST_SHARDS):
            crashes = crash_log(self.settings, unit)
            files += crashes, crashes.with_name(f"{crashes.name}.1"), self.settings.suspects_path(unit)
        routes = files_of(self.settings.door, channel) if self.settings.door else ()
        _remove(channel, [*files, *routes])

    async def _remove_logs_forever(self) -> None:
        ttl = self.settings.deleted_log_ttl
        while True:
            try:
                await self._remove_logs()
            except StoreUnavailable as error:
                log.warning("logs of deleted channels are left for now", reason=str(error))
            await asyncio.sleep(min(LONGEST_LOG_PAUSE, max(SHORTEST_LOG_PAUSE, ttl / 10)))

    async def _remove_logs(self) -> None:
        """Of channels that were deleted long enough ago."""
        wanted = self.stores.wanted
        while expired := await wanted.expired_logs():
            anew = (await wanted.get_many(expired)).keys()  # somebody has made it anew under the same id
            for channel in [each for each in expired if each not in anew]:
                await asyncio.to_thread(_remove_logs, channel, Path(self.settings.logging_path))
            await wanted.forget_logs(expired)
            log.info("logs of deleted channels removed", channels=len(expired))


def _remove_logs(channel: str, directory: Path) -> None:
    try:
        found = numbers_in(directory, frozenset(names.units(channel, names.MOST_SHARDS)))
    except OSError as error:
        log.warning("a deleted channel's logs are left", channel_id=channel, path=str(directory), reason=error.strerror)
        return
    _remove(channel, [file_of(directory / unit, number) for unit, numbers in found.items() for number in numbers])


def _remove(channel: str, files: Sequence[Path]) -> None:
    """A disk that does not let us keeps them: no reason to end."""
    for path in files if names.is_channel_id(channel) else ():
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("a deleted channel's file is left", channel_id=channel, path=str(path), reason=error.strerror)
