"""Which outbound queues a channel has: that of the lowest priority always, the others from the first such message on.

So a channel that rests costs RabbitMQ one queue instead of five. The API notes a priority in Redis, makes its queue and tells
the worker by the channel's topic (api/channel_queues.py); what was published before the worker consumes waits there. Where Redis
knows nothing of them (an older Junebug made the channel, or Redis was emptied), RabbitMQ is asked at the start; and once
later, as Redis may have lost the last one alone.

Neighbours: sender.py consumes; process.py says when the spec was read.
"""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Iterable, Mapping

from junebug import names
from junebug.errors import BrokerUnavailable, ChannelNotFound, StoreUnavailable
from junebug.worker.context import ChannelContext
from junebug.worker.outbound.sender import Sender

UNNOTED_AFTER = (60.0, 600.0)
"""Seconds after its start, at random between these, at which a process looks for queues that are not noted."""


class PriorityQueues:
    """The outbound queues of one channel."""

    def __init__(self, context: ChannelContext) -> None:
        self._context = context
        self._known: set[int] = set()
        self._sender: Sender | None = None

    async def find(self) -> Mapping[int, str]:
        """Priority -> queue, of those that are to be there at the start."""
        noted = self._context.spec().noted_priorities
        self._known = {names.LOWEST_PRIORITY, *noted}
        if names.LOWEST_PRIORITY not in noted:
            self._known |= await self._unnoted()
            await self._note()
        return self._queues(self._known)

    def consume(self, sender: Sender) -> None:
        """Have the sender take what is in them, and in those that come to be."""
        self._sender = sender
        sender.consume(self._queues(self._known).values(), exclusive=True)
        self._context.own("unnoted priorities", self._find_unnoted())

    async def follow(self) -> None:
        """The channel's spec was read again."""
        noted = self._context.spec().noted_priorities
        await self._add(noted - self._known)
        if self._known - noted:  # Redis was emptied
            await self._note()

    async def _add(self, priorities: Iterable[int]) -> None:
        queues = self._queues(priorities)
        if not queues or self._sender is None:
            return
        self._known |= queues.keys()
        try:
            await self._context.broker.declare({queue: {} for queue in queues.values()})
        except BrokerUnavailable:
            pass  # they are remembered, and declared at the next connection
        lowest = names.outbound_queue(self._context.channel)
        await self._sender.consume_also(list(self._queues(self._known).values()), beside=lowest)

    async def _find_unnoted(self) -> None:
        await asyncio.sleep(random.uniform(*UNNOTED_AFTER))
        if found := await self._unnoted():
            await self._add(found)
            await self._note()

    async def _unnoted(self) -> set[int]:
        """Priorities that nobody knew of, and that have a queue."""
        broker, unknown = self._context.broker, self._queues({*names.PRIORITIES} - self._known)
        return {each for each, queue in unknown.items() if await broker.surely(functools.partial(broker.queue_exists, queue))}

    async def _note(self) -> None:
        try:
            await self._context.stores.channels.note_priorities(self._context.channel, self._known)
        except (StoreUnavailable, ChannelNotFound):
            pass  # said again when the spec is read next; deleted

    def _queues(self, priorities: Iterable[int]) -> dict[int, str]:
        return names.outbound_queues(self._context.channel, frozenset(priorities))
