"""A channel's or router's queues as the API uses them: declared for its worker, published to, and what waits there counted.

Neighbours: handlers/ has the endpoints; handlers/queue.py asks the worker for more (amqp/rpc.py).
"""

from __future__ import annotations

import asyncio
import functools
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import structlog
from aiohttp import web

from junebug import names
from junebug.amqp import outbound_queue
from junebug.amqp.broker import Broker
from junebug.amqp.rpc import Answer, RpcClient
from junebug.api.http import PATIENCE, bounded
from junebug.api.routing_views import RouterCounts
from junebug.api.spec_cache import SpecCache
from junebug.api.views import QueueCounts
from junebug.config.declaration import Settings
from junebug.errors import BrokerUnavailable, InvalidBody, JunebugError, Unroutable
from junebug.model.messages import UserMessage
from junebug.model.spec import ChannelSpec
from junebug.runtime.families import MESSAGES
from junebug.runtime.metrics import Metrics
from junebug.stores import Stores

log = structlog.stdlib.get_logger("api")

COUNT_TIMEOUT = 1.5
"""Seconds after which a channel is shown without what its queues hold."""
COUNT_SHARE = 0.5
"""Share of request_timeout after which it is so, too, if that is sooner: the answer is still made within the request's time."""
LOOK_SHARE = 0.6
"""Share of these for which the worker is waited for: a hung one does not hide what RabbitMQ tells."""
CLEAN_UP_TIMEOUT = 10.0
_ACCEPTED = MESSAGES.field("outbound", "accepted")

T = TypeVar("T")


class ChannelQueues:
    """Those of all channels. Each of these raises BrokerUnavailable in time."""

    def __init__(
        self, settings: Settings, stores: Stores, broker: Broker, specs: SpecCache, asking: RpcClient, metrics: Metrics
    ) -> None:
        self._patience = settings.request_timeout * PATIENCE
        self.timeout = min(COUNT_TIMEOUT, settings.request_timeout * COUNT_SHARE)
        self._delay_queues, self._channels, self._routers = stores.delay_queues, stores.channels, stores.routers
        self._broker = broker
        self.prefers_quorum = broker.prefers_quorum
        self._specs = specs
        self._asking = asking
        self._metrics = metrics
        self._cleaning: set[asyncio.Task[None]] = set()

    async def asking(self, _: web.Application) -> AsyncIterator[None]:
        """For `cleanup_ctx`: workers can be asked while the application runs."""
        self._asking.start()
        yield
        await self._asking.stop()

    async def create(self, spec: ChannelSpec) -> ChannelSpec:
        """The queues of a channel that is about to be stored exist when this returns: the spec that says which."""
        layout = self._broker.layout(spec)
        await self._declare(names.channel_queues(spec.id, (names.LOWEST_PRIORITY,), layout))
        return spec if layout is names.PLAIN else replace(spec, noted_priorities=frozenset((layout.number(1),)))

    async def _declare(self, queues: names.Queues, *, anew: bool = False) -> None:
        await self._bounded(self._broker.declare(queues, remember=False, anew=anew), self._patience)

    async def _declare_outbound(
        self, channel: str, priorities: Iterable[int], layout: names.Layout, *, anew: bool = False
    ) -> None:
        """Of these priorities, besides the lowest."""
        await self._declare(names.sending_queues(channel, {names.LOWEST_PRIORITY, *priorities}, layout), anew=anew)

    async def declare_router(self, router: str) -> None:
        await self._declare(names.router_queues(router, self._broker.is_quorum))

    async def send(self, channel: str, messages: Sequence[UserMessage]) -> None:
        """RabbitMQ has these messages, all of one priority, to be sent when this returns. Raises ChannelNotFound, too."""
        spec = self._specs.at_hand(channel) or await self._specs.fetch(channel)
        layout, priority = self._broker.layout(spec), messages[0].priority
        if priority > names.LOWEST_PRIORITY:
            await self._have(channel, priority)
        if layout.is_slotted:
            queues = outbound_queue.by_queue(layout, channel, enumerate(messages))
            sent = (self._send(channel, queue, [message for _, message in some]) for queue, some in queues.items())
            for outcome in await asyncio.gather(*sent, return_exceptions=True):
                if outcome:
                    raise outcome
        else:
            await self._send(channel, layout.queue(channel, priority), messages)
        self._metrics.of(channel)[_ACCEPTED] += len(messages)

    def queue(self, spec: ChannelSpec, priority: int, to_addr: str | None) -> str:
        """Where messages of this priority to this address wait to be sent."""
        return self._broker.layout(spec).queue(spec.id, priority, to_addr)

    async def _send(self, channel: str, queue: str, messages: Sequence[UserMessage]) -> None:
        try:
            return await self._broker.publish_many(queue, [each.to_wire() for each in messages], timeout=self._patience)
        except Unroutable as error:
            messages = [messages[index] for index in error.returned]
        spec = await self._specs.fetch(channel)  # is it deleted, has it other queues now, or has RabbitMQ lost them?
        layout, priority = self._broker.layout(spec), messages[0].priority
        was_there = priority == names.LOWEST_PRIORITY  # others are made when they are first used
        await self._declare_outbound(channel, (*spec.noted_priorities, priority), layout, anew=was_there)
        for another, some in outbound_queue.by_queue(layout, channel, enumerate(messages)).items():
            try:
                await self._broker.publish_many(another, [message.to_wire() for _, message in some], timeout=self._patience)
            except Unroutable as error:
                raise _not_kept(error) from None

    async def call_again(self, channel: str, callbacks: Sequence[bytes], is_quorum: bool) -> None:
        """RabbitMQ has these in the channel's callback queue when this returns; `is_quorum`: the kind that is believed. Raises
        ChannelNotFound, too.
        """
        await self._call_again(channel, callbacks, is_quorum, self._specs.fetch)

    async def call_again_of_router(self, router: str, callbacks: Sequence[bytes], is_quorum: bool) -> None:
        """The same of a router's. Raises RouterNotFound, too."""
        await self._call_again(router, callbacks, is_quorum, self._routers.get)

    async def _call_again(
        self, owner: str, callbacks: Sequence[bytes], is_quorum: bool, find: Callable[[str], Awaitable[object]]
    ) -> None:
        publish = functools.partial(
            self._broker.kinds.publish, names.callback_queue(owner), callbacks, is_quorum=is_quorum, timeout=self._patience
        )
        try:
            return await publish()
        except Unroutable:
            await find(owner)  # is it deleted, or has RabbitMQ lost its queues?
            await self._declare(names.callback_queues(owner, is_quorum), anew=True)
        try:
            await publish()
        except Unroutable as error:
            raise _not_kept(error) from None

    async def _have(self, channel: str, priority: int) -> None:
        """The channel's worker knows that there is such a queue, or will. Raises ChannelNotFound, StoreUnavailable, too."""
        spec = await self._specs.get(channel)
        if priority not in spec.noted_priorities:
            spec = await self._specs.fetch(channel)  # nothing is made of a channel that is deleted
            await self._declare_outbound(channel, (priority,), self._broker.layout(spec))
            await self._channels.note_priorities(channel, (priority,))  # before it holds anything; its worker declares it, too
            self._specs.drop(channel)

    def remove_new_router(self, router: str) -> None:
        """What `declare_router` made."""
        self.remove_later(router, names.router_queues(router, self._broker.is_quorum))

    def remove_new(self, spec: ChannelSpec) -> None:
        """What `create` made."""
        self.remove_later(spec.id, names.channel_queues(spec.id, (names.LOWEST_PRIORITY,), self._broker.layout(spec)))

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
        lengths = await self._broker.kinds.lengths(dict.fromkeys((callbacks, dead), self.prefers_quorum(None)))
        waiting = await self._broker.queue_lengths(delayed) if delayed else {}
        held = (await self._look(router)).get("callbacks", 0) if self.prefers_quorum(None) else 0
        return RouterCounts(lengths[callbacks] + sum(waiting.values()) + held, lengths[dead])

    async def count(self, spec: ChannelSpec) -> QueueCounts:
        """Raises StoreUnavailable, too."""
        return await self._bounded(self._count(spec), self.timeout)

    async def length(self, queue: str) -> int:
        return await self._bounded(self._broker.queue_length(queue), self.timeout)

    async def find(self, queue: str, is_quorum: bool) -> tuple[str, int]:
        """The name of the one of this name, of either kind, and how many messages wait there."""
        return await self._bounded(self._broker.kinds.find(queue, is_quorum), self.timeout)

    async def _bounded(self, work: Coroutine[Any, Any, T], seconds: float) -> T:
        return await bounded(work, seconds, BrokerUnavailable("RabbitMQ does not answer"))

    async def _count(self, spec: ChannelSpec) -> QueueCounts:
        channel = spec.id
        outbound = outbound_queue.queues_of(spec, self._broker.layout(spec), spec.priorities)
        callbacks = [names.inbound_queue(channel), names.event_queue(channel), names.callback_queue(channel)]
        dead = names.dead_queue(channel)
        asked = dict.fromkeys((*callbacks, dead), self.prefers_quorum(spec))
        lengths = await self._broker.kinds.lengths(asked, beside=outbound)
        seen = await asyncio.gather(*(self._look(unit) for unit in names.units(channel, spec.shards)))
        delay_queues = seen[0]["delay_queues"]
        delayed = await self._broker.queue_lengths(delay_queues) if delay_queues else {}
        queued, sending = (sum((_by_priority(each[where]) for each in seen), Counter[int]()) for where in ("held", "sending"))
        for queue in outbound:
            queued[names.priority_of(queue, names.LOWEST_PRIORITY)] += lengths[queue]
        waiting = sum(lengths[queue] for queue in callbacks) + sum(delayed.values()) + seen[0].get("callbacks", 0)
        return QueueCounts(queued, sending, waiting, lengths[dead])

    async def _look(self, unit: str) -> Answer:
        """What the worker has; nothing when there is none, or it hangs. Raises StoreUnavailable."""
        try:
            return await self._asking.ask(unit, "look", self.timeout * LOOK_SHARE)
        except JunebugError:
            return {"held": {}, "sending": {}, "delay_queues": list(await self._delay_queues.noted(unit))}

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


def _not_kept(error: Unroutable) -> BrokerUnavailable:
    return BrokerUnavailable(f"RabbitMQ does not keep the queue: {error}")


def _by_priority(told: dict[str, int]) -> Counter[int]:
    return Counter({int(priority): count for priority, count in told.items()})
