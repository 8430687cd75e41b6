"""What a router's destinations send over RabbitMQ: `{amqp_queue}.outbound` of each -> the channel's outbound queue (COMPAT §3).

Neighbours: router.py says which destinations there are. A message is acknowledged when RabbitMQ holds it in the channel's queue.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial

import structlog
from msgspec.structs import replace

from junebug import names
from junebug.amqp.consumer import Consumer
from junebug.amqp.frames import Delivery
from junebug.amqp.outbound_queue import by_queue
from junebug.errors import BrokerUnavailable, ChannelNotFound, MalformedMessage, StoreUnavailable, Unroutable
from junebug.model.acceptance import OVER_AMQP
from junebug.model.messages import UserMessage
from junebug.model.routing import DestinationSpec, routed
from junebug.runtime.loop import end_task
from junebug.worker.context import ChannelContext

log = structlog.stdlib.get_logger("router")

PREFETCH = 50
PAUSE = 2.0
"""Seconds until what could not be passed on is tried again."""


class DestinationQueues:
    def __init__(self, context: ChannelContext, channel: str) -> None:
        """`channel`: by which it is sent."""
        self._context = context
        self._channel = channel
        self._consumers: dict[str, Consumer] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._owners: dict[str, str] = {}
        """Queue -> the destination whose it is."""

    async def follow(self, destinations: Mapping[str, DestinationSpec]) -> None:
        """Consume the queues of these, and no others."""
        named = sorted((id, each.amqp_queue) for id, each in destinations.items() if each.amqp_queue)
        owners = {names.outbound_queue(name): id for id, name in reversed(named) if names.is_amqp_queue(name)}
        for queue in [*self._consumers.keys() - owners.keys()]:
            await end_task(self._tasks.pop(queue))
            await self._consumers.pop(queue).cancel()
            self._context.broker.forget([queue])
        self._owners = owners
        for queue in self._owners.keys() - self._consumers.keys():
            try:
                await self._context.broker.declare({queue: {}}, bind=True)
            except BrokerUnavailable:
                pass  # it is remembered, and declared at the next connection
            pending: asyncio.Queue[Delivery] = asyncio.Queue()
            self._tasks[queue] = self._context.own(f"outbound of {queue}", self._pass_on(queue, pending))
            self._consumers[queue] = self._context.broker.consume(
                (queue,), pending.put_nowait, prefetch=PREFETCH, exclusive=False, on_lost=partial(_empty, pending)
            )

    async def stop(self) -> None:
        """Take no more; what is not passed on goes back to its queue."""
        for consumer in self._consumers.values():
            await consumer.cancel()

    async def _pass_on(self, queue: str, pending: asyncio.Queue[Delivery]) -> None:
        """What has gathered, together."""
        while True:
            batch = [await pending.get()]
            while not pending.empty():
                batch.append(pending.get_nowait())
            readable = await self._read(batch, self._owners[queue])
            while readable := {delivery: message for delivery, message in readable.items() if delivery.alive}:
                try:
                    await self._send(readable)
                    break
                except (StoreUnavailable, BrokerUnavailable, Unroutable, ChannelNotFound) as error:
                    log.warning("cannot pass on what a destination sends", queue=queue, reason=str(error))
                    await asyncio.sleep(PAUSE)

    async def _read(self, batch: Sequence[Delivery], destination: str) -> dict[Delivery, UserMessage]:
        """The messages as the channel is to get them; what can be read by nobody is with the dead letters."""
        context, found = self._context, dict[Delivery, UserMessage]()
        for delivery in batch:
            if not context.may_begin(delivery):
                await context.set_aside(delivery)
                continue
            try:
                message = UserMessage.from_wire(delivery.body)
            except MalformedMessage as error:
                await context.bury_unreadable(delivery, str(error))
                continue
            found[delivery] = replace(routed(message, context.channel, destination), transport_name=self._channel)
        return found

    async def _send(self, readable: dict[Delivery, UserMessage]) -> None:
        """What is in its queue is among them no more."""
        await self._context.stores.outbound.put_routed(self._channel, [*readable.values()], OVER_AMQP)
        broker = self._context.broker
        layout = broker.layout(await self._context.stores.channels.get(self._channel))
        for queue, some in by_queue(layout, self._channel, readable.items()).items():
            await broker.publish_many(queue, [message.to_wire() for _, message in some])
            for delivery, _ in some:
                delivery.ack()
                del readable[delivery]


def _empty(pending: asyncio.Queue[Delivery]) -> None:
    """The link is lost: what came over it comes again."""
    while not pending.empty():
        pending.get_nowait()
