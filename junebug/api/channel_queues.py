"""A channel's queues as the API uses them: declared for its worker, published to, and what waits there counted.

Neighbours: handlers/ has the endpoints; handlers/queue.py asks the worker for more (amqp/rpc.py).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Container, Coroutine, Sequence
from typing import Any, TypeVar

import structlog
from aiohttp import web

from junebug import names
from junebug.amqp.broker import Broker
from junebug.amqp.outbound_queue import queues_of
from junebug.amqp.rpc import Answer, RpcClient
from junebug.api.http import PATIENCE, bounded
from junebug.api.spec_cache import SpecCache
from junebug.api.views import QueueCounts
from junebug.config.declaration import Settings
from junebug.errors import BrokerUnavailable, JunebugError, Unroutable
from junebug.model.spec import ChannelSpec
from junebug.stores import Stores

log = structlog.stdlib.get_logger("api")

COUNT_TIMEOUT = 1.5
"""Seconds after which a channel is shown without what its queues hold."""
LOOK_SHARE = 0.6
"""Share of that for which the worker is waited for: a hung one does not hide what RabbitMQ tells."""
CLEAN_UP_TIMEOUT = 10.0

T = TypeVar("T")


class ChannelQueues:
    """Those of all channels. Each of these raises BrokerUnavailable in time."""

    def __init__(self, settings: Settings, stores: Stores, broker: Broker, specs: SpecCache, asking: RpcClient) -> None:
        self._patience = settings.request_timeout * PATIENCE
        self.timeout = min(COUNT_TIMEOUT, self._patience)
        self._delay_queues, self._channels = stores.delay_queues, stores.channels
        self._broker = broker
        self._specs = specs
        self._asking = asking
        self._cleaning: set[asyncio.Task[None]] = set()

    async def asking(self, _: web.Application) -> AsyncIterator[None]:
        """For `cleanup_ctx`: workers can be asked while the application runs."""
        self._asking.start()
        yield
        await self._asking.stop()

    async def declare(self, channel: str, priorities: Container[int] = (names.LOWEST_PRIORITY,)) -> None:
        """The channel's queues exist when this returns, outbound ones of these priorities."""
        await self._bounded(self._broker.declare(names.channel_queues(channel, priorities), remember=False), self._patience)

    async def publish(self, channel: str, queue: str, bodies: Sequence[bytes]) -> None:
        """RabbitMQ has them in this queue of the channel's when this returns. Raises ChannelNotFound, too."""
        priority = names.priority_of(queue, names.LOWEST_PRIORITY)
        if priority > names.LOWEST_PRIORITY:
            await self._have(channel, priority)
        try:
            return await self._broker.publish_many(queue, bodies, timeout=self._patience)
        except Unroutable:
            spec = await self._specs.fetch(channel)  # is it deleted, or has RabbitMQ lost its queues?
        await self.declare(channel, {*spec.noted_priorities, names.LOWEST_PRIORITY, priority})
        try:
            await self._broker.publish_many(queue, bodies, timeout=self._patience)
        except Unroutable as error:
            raise BrokerUnavailable(f"RabbitMQ does not keep the channel's queue: {error}") from None

    async def _have(self, channel: str, priority: int) -> None:
        """The channel's worker knows that there is such a queue, or will. Raises ChannelNotFound, StoreUnavailable, too."""
        spec = self._specs.peek(channel) or await self._specs.fetch(channel)
        if priority not in spec.noted_priorities:
            await self._channels.note_priorities(channel, (priority,))  # before it can hold anything
            self._specs.drop(channel)
            await self.declare(channel, (priority, names.LOWEST_PRIORITY))

    def remove_later(self, channel: str) -> None:
        """Those of a channel that could not be stored. (If it was after all, its worker declares them again.)"""
        task = asyncio.create_task(self._remove(channel))
        self._cleaning.add(task)
        task.add_done_callback(self._cleaning.discard)

    async def counts(self, spec: ChannelSpec) -> QueueCounts | None:
        """None while RabbitMQ does not tell. Raises StoreUnavailable."""
        try:
            return await self.count(spec)
        except BrokerUnavailable:
            return None

    async def count(self, spec: ChannelSpec) -> QueueCounts:
        """Raises StoreUnavailable, too."""
        return await self._bounded(self._count(spec), self.timeout)

    async def length(self, queue: str) -> int:
        return await self._bounded(self._broker.queue_length(queue), self.timeout)

    async def _bounded(self, work: Coroutine[Any, Any, T], seconds: float) -> T:
        return await bounded(work, seconds, BrokerUnavailable("RabbitMQ does not answer"))

    async def _count(self, spec: ChannelSpec) -> QueueCounts:
        channel = spec.id
        outbound = queues_of(channel, spec.amqp_queue, spec.priorities)
        callbacks = [names.inbound_queue(channel), names.event_queue(channel), names.callback_queue(channel)]
        dead = names.dead_queue(channel)
        lengths = await self._broker.queue_lengths((*outbound, *callbacks, dead))
        seen = await self._look(channel)
        delayed = await self._broker.queue_lengths(seen["delay_queues"]) if seen["delay_queues"] else {}
        queued = _by_priority(seen["held"])
        for queue in outbound:
            queued[names.priority_of(queue, names.LOWEST_PRIORITY)] += lengths[queue]
        waiting = sum(lengths[queue] for queue in callbacks) + sum(delayed.values())
        return QueueCounts(queued, _by_priority(seen["sending"]), waiting, lengths[dead])

    async def _look(self, channel: str) -> Answer:
        """What the worker has; nothing when there is none, or it hangs. Raises StoreUnavailable."""
        try:
            return await self._asking.ask(channel, "look", self.timeout * LOOK_SHARE)
        except JunebugError:
            return {"held": {}, "sending": {}, "delay_queues": list(await self._delay_queues.noted(channel))}

    async def _remove(self, channel: str) -> None:
        try:
            queues = list(names.channel_queues(channel, (names.LOWEST_PRIORITY,)))
            await self._bounded(self._broker.delete_queues(queues), CLEAN_UP_TIMEOUT)
        except JunebugError as error:
            log.warning("queues left behind", channel_id=channel, reason=str(error))


def _by_priority(told: dict[str, int]) -> Counter[int]:
    return Counter({int(priority): count for priority, count in told.items()})
