"""The endpoint of metrics, for Prometheus: what all processes counted, and what the queues hold now (docs/metrics.md).

All of it is in Redis already, but what RabbitMQ holds: both are asked for so many channels at a time, so that requests beside it
are answered. Neighbour: api/metrics.py writes the page.
"""

from __future__ import annotations

import asyncio
import os
import platform
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from aiohttp import web

from junebug import __version__, names
from junebug.amqp.broker import Broker
from junebug.amqp.outbound_queue import queues_of
from junebug.api.access import CALLER, Caller, access
from junebug.api.http import bounded, long_work
from junebug.api.metrics import Page, content_type, owned_by, zeros
from junebug.errors import BrokerUnavailable, StoreUnavailable, Unavailable
from junebug.model.access import READ
from junebug.model.messages import of_shard
from junebug.model.spec import ChannelSpec
from junebug.runtime import families
from junebug.runtime.loop import end_task
from junebug.runtime.metrics import Metrics
from junebug.runtime.samples import Sample, sample
from junebug.stores import Stores
from junebug.stores.metrics import Counted, MetricStore, Overview
from junebug.stores.reporter import Reporter

AT_ONCE, SIDE_BY_SIDE = 50, 2
"""Channels that are asked for at a time, and how many such questions are under way: while RabbitMQ answers, Redis is asked."""
PATIENCE = 3.0
"""Seconds that one answer of Redis or RabbitMQ may take: Prometheus waits for ten in all."""
T = TypeVar("T")

LONGEST_COUNT = 6.0
"""Seconds after which the queues that are left are not asked for."""


def api_reporter(metrics: Metrics, stores: Stores, process: str, lost_lines: Callable[[], int]) -> Reporter:
    """Of an API process: it tells of itself."""
    host = socket.gethostname()

    def look() -> list[Sample]:
        found = sample(host, os.getpid(), process)
        return [found] if found else []

    return Reporter(metrics, stores.metrics, host, process, look, lost_lines)


@dataclass(frozen=True)
class MetricsPage:
    """The handler, and what it needs."""

    store: MetricStore
    broker: Broker
    reporter: Reporter

    async def reporting(self, _: web.Application) -> AsyncIterator[None]:
        """For `cleanup_ctx`: what this process counts is saved while the application runs."""
        task = asyncio.create_task(self.reporter.run())
        yield
        await end_task(task)
        await self.reporter.close()

    @long_work
    @access(READ, filters=True)
    async def get(self, request: web.Request) -> web.Response:
        """200 whatever is away: `junebug_up` says so, and what was to come from there is left out. A token for some channels is
        shown these, and nothing of the others or of Junebug as a whole.
        """
        caller = request[CALLER]
        is_for_all = caller.token is None or caller.token.channels is None
        scrape = _Scrape(self.store, self.broker)
        await scrape.run(self.reporter, caller, is_for_all=is_for_all)
        type = content_type(request.headers.get("Accept", ""))
        return web.Response(body=scrape.page.text(type).encode(), headers={"Content-Type": type})


class _Scrape:
    """One look at everything, into a page."""

    def __init__(self, store: MetricStore, broker: Broker) -> None:
        self.page = Page()
        self._store = store
        self._broker = broker
        self._began = time.monotonic()
        self._redis_up = self._rabbitmq_up = True

    async def run(self, reporter: Reporter, caller: Caller, *, is_for_all: bool) -> None:
        ping = asyncio.create_task(self._ping())
        try:
            await self._of_redis(reporter.save())  # what this process counted is among it
            overview = await self._of_redis(self._store.overview())
            channels, routers = caller.sees(overview.channels), caller.sees(overview.routers)
            if is_for_all:
                self._add_overview(overview)
            ids = [*channels, *routers]
            parts = [ids[start : start + AT_ONCE] for start in range(0, len(ids), AT_ONCE)]
            await asyncio.gather(*(self._add_all(parts, frozenset(routers)) for _ in range(SIDE_BY_SIDE)))
        except StoreUnavailable:
            self._redis_up = False
        await ping
        page = self.page
        page.add(families.UP, int(self._redis_up), "redis")
        page.add(families.UP, int(self._rabbitmq_up), "rabbitmq")
        page.add(families.BUILD, 1, __version__, platform.python_version())
        page.add(families.SCRAPE_SECONDS, round(time.monotonic() - self._began, 6))

    async def _add_all(self, parts: list[list[str]], routers: frozenset[str]) -> None:
        """So many channels and routers at a time, as long as there are any. Raises StoreUnavailable."""
        try:
            while parts:
                counted = await self._of_redis(self._store.counted(parts.pop(), routers))
                lengths = await self._lengths(counted)
                for each in counted:
                    self._add(each, lengths)
        finally:
            parts.clear()

    async def _of_redis(self, work: Coroutine[Any, Any, T]) -> T:
        return await bounded(work, PATIENCE, StoreUnavailable("Redis does not answer"))

    async def _ping(self) -> None:
        try:
            await bounded(self._broker.ping(PATIENCE), PATIENCE, _silent())
        except Unavailable:
            self._rabbitmq_up = False

    async def _lengths(self, counted: Sequence[Counted]) -> Mapping[str, int]:
        """Of their queues; nothing of RabbitMQ when it does not tell (in time)."""
        beside = [queue for each in counted for queue in self._queues(each)]
        owed = {
            queue: self._broker.prefers_quorum(each.spec)
            for each in counted for queue in (*_callbacks(each), names.dead_queue(each.id))
        }  # fmt: skip
        left = self._began + LONGEST_COUNT - time.monotonic()
        if not self._rabbitmq_up or left <= 0:
            return {}
        try:
            return await bounded(self._broker.kinds.lengths(owed, beside), min(left, PATIENCE), _silent())
        except BrokerUnavailable:
            self._rabbitmq_up = False
            return {}

    def _queues(self, counted: Counted) -> list[str]:
        outbound = self._outbound(counted.spec) if counted.spec else ()
        return [*outbound, *counted.delay_queues]

    def _outbound(self, spec: ChannelSpec) -> list[str]:
        return queues_of(spec, self._broker.layout(spec), spec.priorities)

    # --- into the page ------------------------------------------------------------------------------------------------

    def _add_overview(self, overview: Overview) -> None:
        page = self.page
        page.add(families.CHANNELS, len(overview.channels))
        page.add(families.ROUTERS, len(overview.routers))
        page.add_fields({**_REFUSED, **overview.fields})
        there = {*map(names.channel_program, overview.channels), *map(names.router_program, overview.routers)}
        groups = (names.channel_program(""), names.router_program(""))
        for each in overview.samples:
            if each.process.startswith(groups) and names.channel_of(each.process) not in there:
                continue  # it is deleted
            where = each.host, each.process
            page.add(families.CPU, each.cpu, *where)
            page.add(families.RESIDENT, each.resident, *where)
            if each.proportional:
                page.add(families.PROPORTIONAL, each.proportional, *where)
            page.add(families.STARTED, each.started_at, *where)

    def _add(self, counted: Counted, lengths: Mapping[str, int]) -> None:
        page, spec = self.page, counted.spec
        owner = owned_by(counted.id, is_router=spec is None)
        page.add(families.CHANNEL_INFO, 1, counted.type, owner=owner)
        page.add_components(counted.components, owner)
        workers = (of_shard("worker", shard) for shard in range(spec.shards if spec else 1))
        is_alive = any(counted.components.get(worker) != "down" for worker in workers)
        page.add_fields({**zeros(spec is None), **counted.fields}, owner, is_alive=is_alive)
        if spec:
            page.add(families.PAUSED, int(bool(spec.paused)), owner=owner)
        if not lengths:
            return
        if spec:
            held = counted.fields if is_alive else {}
            waiting = {each: int(float(held.get(families.HELD.field(str(each)), 0))) for each in names.PRIORITIES}
            for queue in self._outbound(spec):
                waiting[names.priority_of(queue, names.LOWEST_PRIORITY)] += lengths[queue]
            for priority, count in waiting.items():
                page.add(families.QUEUE_LENGTH, count, str(priority), owner=owner)
        for family, queues, where in (
            (families.CALLBACKS_WAITING, _callbacks(counted), "waiting"), (families.BACKLOG, counted.delay_queues, "delayed")
        ):  # fmt: skip
            of_process = float(counted.fields.get(families.HELD_CALLBACKS.field(where), 0)) if is_alive else 0
            page.add(family, sum(lengths[queue] for queue in queues) + int(of_process), owner=owner)
        page.add(families.DEAD_LETTERS, lengths[names.dead_queue(counted.id)], owner=owner)


_REFUSED = {families.AUTH_FAILURES.field(*values): "0" for values in families.AUTH_FAILURES.all_values()}


def _silent() -> BrokerUnavailable:
    return BrokerUnavailable("RabbitMQ does not answer")


def _callbacks(counted: Counted) -> list[str]:
    own = (names.inbound_queue(counted.id), names.event_queue(counted.id)) if counted.spec else ()
    return [*own, names.callback_queue(counted.id)]
