"""A channel's queues as the API sees them: declared for its worker, and what is in them and in the worker's hands counted.

Neighbours: handlers/ declares and shows; handlers/queue.py asks the worker for more (amqp/rpc.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator

from aiohttp import web

from junebug import names
from junebug.amqp.broker import Broker
from junebug.amqp.outbound_queue import queues_of
from junebug.amqp.rpc import Answer, RpcClient
from junebug.api.http import PATIENCE, bounded, broker_is_late
from junebug.api.views import QueueCounts
from junebug.config.declaration import Settings
from junebug.errors import BrokerUnavailable, JunebugError
from junebug.model.spec import ChannelSpec
from junebug.stores import Stores

COUNT_TIMEOUT = 1.5
"""Seconds after which a channel is shown without what its queues hold."""
LOOK_SHARE = 0.6
"""Share of that for which the worker is waited for: a hung one does not hide what RabbitMQ tells."""


async def declare_queues(broker: Broker, channel: str, timeout: float) -> None:
    """The channel's queues exist when this returns. Raises BrokerUnavailable within `timeout` seconds."""
    await bounded(broker.declare(names.channel_queues(channel), remember=False), timeout, broker_is_late)


class ChannelQueues:
    """Counts."""

    def __init__(self, settings: Settings, stores: Stores, broker: Broker, asking: RpcClient) -> None:
        self.timeout = min(COUNT_TIMEOUT, settings.request_timeout * PATIENCE)
        self._delay_queues = stores.delay_queues
        self._broker = broker
        self._asking = asking

    async def asking(self, _: web.Application) -> AsyncIterator[None]:
        """For `cleanup_ctx`: workers can be asked while the application runs."""
        self._asking.start()
        yield
        await self._asking.stop()

    async def counts(self, spec: ChannelSpec) -> QueueCounts | None:
        """None while RabbitMQ does not tell. Raises StoreUnavailable."""
        try:
            return await self.count(spec)
        except BrokerUnavailable:
            return None

    async def count(self, spec: ChannelSpec) -> QueueCounts:
        """Raises BrokerUnavailable in time, StoreUnavailable."""
        return await bounded(self._count(spec), self.timeout, broker_is_late)

    async def length(self, queue: str) -> int:
        """Raises BrokerUnavailable in time."""
        return await bounded(self._broker.queue_length(queue), self.timeout, broker_is_late)

    async def _count(self, spec: ChannelSpec) -> QueueCounts:
        channel = spec.id
        outbound = queues_of(channel, spec.amqp_queue)
        callbacks = [names.inbound_queue(channel), names.event_queue(channel), names.callback_queue(channel)]
        dead = names.dead_queue(channel)
        lengths = await self._broker.queue_lengths((*outbound, *callbacks, dead))
        seen = await self._look(channel)
        delayed = await self._broker.queue_lengths(seen["delay_queues"]) if seen["delay_queues"] else {}
        queued = _by_priority(seen["held"])
        for queue in outbound:
            queued[names.priority_of(queue, names.LOWEST_PRIORITY)] += lengths[queue]
        return QueueCounts(
            queued,
            _by_priority(seen["sending"]),
            sum(lengths[queue] for queue in callbacks) + sum(delayed.values()),
            lengths[dead],
        )

    async def _look(self, channel: str) -> Answer:
        """What the worker has; nothing when there is none, or it hangs. Raises StoreUnavailable."""
        try:
            return await self._asking.ask(channel, "look", self.timeout * LOOK_SHARE)
        except JunebugError:
            return {"held": {}, "sending": {}, "delay_queues": list(await self._delay_queues.noted(channel))}


def _by_priority(told: dict[str, int]) -> Counter[int]:
    return Counter({int(priority): count for priority, count in told.items()})
