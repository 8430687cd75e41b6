"""A router that sends through several channels: what waits for one that is down goes by another, before it has left.

The API has chosen a channel for each message (the type's `sends_by`). While one cannot send, what the router gave it and another
one would get now is moved there: by the channel's own worker, which holds its sender meanwhile, or here where it has none.

Neighbours: router.py runs it; commands.py is where a channel's worker is asked.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import structlog
from msgspec.structs import replace

from junebug import names
from junebug.amqp.broker import Broker
from junebug.amqp.frames import Delivery
from junebug.amqp.outbound_queue import by_queue, is_own, queues_of
from junebug.amqp.rpc import RpcClient
from junebug.errors import ChannelNotFound, JunebugError, NotRunning, Unroutable
from junebug.model.messages import UserMessage
from junebug.model.routing import ChannelState, RouterSpec, state_of
from junebug.router_types import RouterTypes
from junebug.stores import Stores
from junebug.worker.context import ChannelContext

log = structlog.stdlib.get_logger("router")

LOOK_EVERY = 2.0
GRACE = 5.0
"""Seconds that a channel may be down before its messages are moved: a bind that is lost and back moves none."""
MOVING = 20.0
"""Seconds of one turn; the rest is moved at the next."""


async def channel_states(stores: Stores, channels: Sequence[str]) -> dict[str, ChannelState]:
    """Whether each could send now. Raises StoreUnavailable."""
    return dict(zip(channels, await asyncio.gather(*(_state(stores, each) for each in channels)), strict=True))


async def _state(stores: Stores, channel: str) -> ChannelState:
    try:
        spec = await stores.channels.get(channel)
    except ChannelNotFound:
        return state_of(None, {})
    return state_of(spec, await stores.statuses.components(channel))


async def move(
    broker: Broker, stores: Stores, types: RouterTypes, spec: RouterSpec, channel: str, queues: Sequence[str],
    states: Mapping[str, ChannelState],
) -> int:  # fmt: skip
    """Move what this router gave the channel, and what another one would get now; how many. The sender that consumes these
    queues of the channel's is held, or there is none. Raises QueueBusy, BrokerUnavailable, StoreUnavailable.
    """
    ends, moved = time.monotonic() + MOVING, 0

    async def visit(batch: Sequence[Delivery]) -> bool:
        nonlocal moved
        leaving: dict[tuple[str, int], list[tuple[Delivery, UserMessage]]] = {}
        for delivery in batch:
            try:
                message = UserMessage.from_wire(delivery.body)
                if message.routing_metadata.get("router") != spec.id or message.in_reply_to:
                    continue  # a reply leaves by where it was asked
                chosen = types.choose(spec, message, states).channel
            except JunebugError:
                continue  # its own sender says what is wrong with it
            if chosen != channel:
                priority = names.priority_of(delivery.queue, delivery.priority)
                leaving.setdefault((chosen, priority), []).append((delivery, message))
        for (chosen, priority), found in leaving.items():
            found = [(delivery, replace(message, transport_name=chosen, priority=priority)) for delivery, message in found]
            await stores.outbound.put_routed(chosen, [message for _, message in found])
            try:
                layout = broker.layout(await stores.channels.get(chosen))
                if priority > names.LOWEST_PRIORITY:  # its worker knows that there is such a queue, or will
                    priorities = priority, names.LOWEST_PRIORITY
                    await broker.declare(names.sending_queues(chosen, priorities, layout), remember=False)
                    await stores.channels.note_priorities(chosen, (priority,))
                for queue, some in by_queue(layout, chosen, found).items():
                    await broker.publish_many(queue, [message.to_wire() for _, message in some])
                    for delivery, _ in some:
                        delivery.ack()
                    moved += len(some)
            except (Unroutable, ChannelNotFound):
                continue  # that channel is being deleted
        return time.monotonic() < ends

    for queue in _own(channel, queues):
        await broker.browse(queue, visit, keeping=True)
    return moved


def _own(channel: str, queues: Sequence[str]) -> list[str]:
    """Those that a router gives messages to."""
    return [queue for queue in queues if is_own(channel, queue)]


class FailOver:
    """`run` is its life."""

    def __init__(self, context: ChannelContext, types: RouterTypes) -> None:
        self._context = context
        self._types = types
        self._asking = RpcClient(context.broker)
        self._down_since: dict[str, float] = {}

    async def run(self) -> None:
        self._asking.start()
        while True:
            await asyncio.sleep(LOOK_EVERY)
            try:
                await self._look()
            except JunebugError as error:
                log.warning("channels that are down are looked at later", reason=str(error))

    async def stop(self) -> None:
        await self._asking.stop()

    async def _look(self) -> None:
        spec, now = self._context.spec(), time.monotonic()
        states = await channel_states(self._context.stores, self._types.channels_of(spec))
        self._down_since = {id: self._down_since.get(id, now) for id, state in states.items() if not state.is_ready}
        if len(self._down_since) == len(states):
            return  # nowhere else to go
        for channel, since in self._down_since.items():
            if now - since >= GRACE:
                await self._move_from(channel, spec, states)

    async def _move_from(self, channel: str, spec: RouterSpec, states: Mapping[str, ChannelState]) -> None:
        context = self._context
        try:
            of_channel = await context.stores.channels.get(channel)
        except ChannelNotFound:
            return
        queues = _own(channel, queues_of(of_channel, context.broker.layout(of_channel)))
        if not any((await context.broker.queue_lengths(queues)).values()):
            return  # what its worker has in hand goes back before it is down for long
        told = {id: asdict(state) for id, state in states.items()}
        shards, moved = of_channel.shards, 0
        for shard in range(shards):
            unit = names.unit(channel, shard)
            try:
                moved += int((await self._asking.ask(unit, "move", MOVING * 1.5, router=spec.id, states=told))["moved"])
            except NotRunning:
                queues = _own(channel, queues_of(of_channel, context.broker.layout(of_channel), shard=shard, shards=shards))
                moved += await move(context.broker, context.stores, self._types, spec, channel, queues, states)
        if moved:
            log.warning(
                "messages moved to other channels", channel_id=channel, moved=moved, reason=states[channel].reason
            )
