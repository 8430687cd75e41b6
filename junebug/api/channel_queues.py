"""A channel's or router's queues as the API uses them: declared for its worker, published to, and what waits there counted.

Neighbours: handlers/ has the endpoints; handlers/queue.py asks the worker for more (amqp/rpc.py).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Container, Coroutine, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import structlog
from aiohttp import web

from junebug import names
from junebug.amqp.broker import Broker
from junebug.amqp.outbound_queue import queues_of
from junebug.amqp.rpc import Answer, RpcClient
from junebug.api.http import PATIENCE, bounded
from junebug.api.routing_views import RouterCounts
from junebug.api.spec_cache import SpecCache
from junebug.api.views import QueueCounts
from junebug.config.declaration import Settings
from junebug.errors import BrokerUnavailable, InvalidBody, JunebugError, Unroutable
from junebug.model.spec import ChannelSpec
from junebug.runtime.families import MESSAGES
from junebug.runtime.metrics import Metrics
from junebug.stores import Stores

log = structlog.stdlib.get_logger("api")

COUNT_TIMEOUT = 1.5
"""Seconds after which a channel is shown without what its queues hold."""
LOOK_SHARE = 0.6
"""Share of that for which the worker is waited for: a hung one does not hide what RabbitMQ tells."""
CLEAN_UP_TIMEOUT = 10.0
_ACCEPTED = MESSAGES.field("outbound", "accepted")

T = TypeVar("T")


class ChannelQueues:
    """Those of all channels. Each of these raises BrokerUnavailable in time."""

    def __init__(
        self, settings: Settings, stores: Stores, broker: Broker, specs: SpecCache, asking: RpcClient, metrics: Metrics
    ) -> None:
        self._patience = settings.request_timeout * PATIENCE
        self.timeout = min(COUNT_TIMEOUT, self._patience)
        self._delay_queues, self._channels, self._routers = stores.delay_queues, stores.channels, stores.routers
        self._broker = broker
        self._specs = specs
        self._asking = asking
        self._metrics = metrics
        self._cleaning: set[asyncio.Task[None]] = set()

    async def asking(self, _: web.Application) -> AsyncIterator[None]:
        """For `cleanup_ctx`: workers can be asked while the application runs."""
        self._asking.start()
        yield
        await self._asking.stop()

    async def declare(self, channel: str, priorities: Container[int] = (names.LOWEST_PRIORITY,)) -> None:
        """The channel's queues exist when this returns, outbound ones of these priorities."""
        await self._bounded(self._broker.declare(names.channel_queues(channel, priorities), remember=False), self._patience)

    async def declare_router(self, router: str) -> None:
        await self._bounded(self._broker.declare(names.router_queues(router), remember=False), self._patience)

    async def send(self, channel: str, priority: int, bodies: Sequence[bytes]) -> None:
        """RabbitMQ has these messages to be sent when this returns. Raises ChannelNotFound, too."""
        await self.publish(channel, names.outbound_queue(channel, priority), bodies, priority)
        self._metrics.of(channel)[_ACCEPTED] += len(bodies)

    async def publish(self, channel: str, queue: str, bodies: Sequence[bytes], priority: int = names.LOWEST_PRIORITY) -> None:
        """RabbitMQ has them in this queue of the channel's when this returns. `priority`: an outbound queue's. Raises
        ChannelNotFound, too.
        """
        if priority > names.LOWEST_PRIORITY:
            await self._have(channel, priority)

        async def declare() -> None:
            spec = await self._specs.fetch(channel)  # is it deleted, or has RabbitMQ lost its queues?
            await self.declare(channel, {*spec.noted_priorities, names.LOWEST_PRIORITY, priority})

        await self._publish(queue, bodies, declare)

    async def publish_to_router(self, router: str, queue: str, bodies: Sequence[bytes]) -> None:
        """The same of a queue of a router's. Raises RouterNotFound, too."""

        async def declare() -> None:
            await self._routers.get(router)
            await self.declare_router(router)

        await self._publish(queue, bodies, declare)

    async def _publish(self, queue: str, bodies: Sequence[bytes], declare: Callable[[], Awaitable[None]]) -> None:
        try:
            return await self._broker.publish_many(queue, bodies, timeout=self._patience)
        except Unroutable:
            await declare()
        try:
            await self._broker.publish_many(queue, bodies, timeout=self._patience)
        except Unroutable as error:
            raise BrokerUnavailable(f"RabbitMQ does not keep the queue: {error}") from None

    async def _have(self, channel: str, priority: int) -> None:
        """The channel's worker knows that there is such a queue, or will. Raises ChannelNotFound, StoreUnavailable, too."""
        spec = await self._specs.get(channel)
        if priority not in spec.noted_priorities:
            await self._channels.note_priorities(channel, (priority,))  # before it can hold anything
            self._specs.drop(channel)
            await self.declare(channel, (priority, names.LOWEST_PRIORITY))

    def remove_later(self, id: str, queues: Iterable[str]) -> None:
        """Those of a channel or router that could not be stored. (If it was after all, its process declares them again.)"""
        task = asyncio.create_task(self._remove(id, list(queues)))
        self._cleaning.add(task)
        task.add_done_callback(self._cleaning.discard)

    async def counts(self, spec: ChannelSpec) -> QueueCounts | None:
        """None while RabbitMQ does not tell. Raises StoreUnavailable."""
        try:
            return await self.count(spec)
        except BrokerUnavailable:
            return None

    async def router_counts(self, router: str) -> RouterCounts | None:
        """None while RabbitMQ does not tell. Raises StoreUnavailable."""
        try:
            return await self._bounded(self._count_router(router), self.timeout)
        except BrokerUnavailable:
            return None

    async def _count_router(self, router: str) -> RouterCounts:
        callbacks, dead = names.callback_queue(router), names.dead_queue(router)
        delayed = await self._delay_queues.noted(router)
        lengths = await self._broker.queue_lengths((callbacks, dead, *delayed))
        dead_letters = lengths.pop(dead)
        return RouterCounts(sum(lengths.values()), dead_letters)

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

    async def _remove(self, id: str, queues: list[str]) -> None:
        try:
            await self._bounded(self._broker.delete_queues(queues), CLEAN_UP_TIMEOUT)
        except JunebugError as error:
            log.warning("queues left behind", id=id, reason=str(error))


async def check_amqp_queue(stores: Stores, body: Mapping[str, Any]) -> None:
    """Raises InvalidBody when it is a channel's or a router's id, or begins like the names of its queues."""
    parts = (body.get("amqp_queue") or "").split(".")
    begins = (".".join(parts[:count]) for count in range(1, len(parts) + 1))
    for id in await stores.wanted.get_many(filter(names.is_channel_id, begins)):
        message = f"amqp_queue: {id} is a channel or a router, and queues of that name are its own; choose another name"
        raise InvalidBody([(message, ["properties", "amqp_queue"])])


def _by_priority(told: dict[str, int]) -> Counter[int]:
    return Counter({int(priority): count for priority, count in told.items()})
