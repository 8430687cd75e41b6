"""Which outbound queues a channel has: that of the lowest priority always, the others from the first such message on.

So a channel that rests costs RabbitMQ one queue instead of five. The API notes a priority in Redis, makes its queue and tells
the worker by the channel's topic (api/channel_queues.py); what was published before the worker consumes waits there. Where Redis
knows nothing of them (an older Junebug made the channel, or Redis was emptied), RabbitMQ is asked at the start; and once
later, as Redis may have lost the last one alone.

Of which layout they are (names.Layout), the settings and the channel's shards say. Those of another one are sent first.

Neighbours: former.py empties those; sender.py consumes; process.py says when the spec was read.
"""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Iterable

from junebug import names
from junebug.errors import BrokerUnavailable, ChannelNotFound, StoreUnavailable
from junebug.worker.context import ChannelContext
from junebug.worker.outbound.former import FormerQueues
from junebug.worker.outbound.sender import Sender

UNNOTED_AFTER = (60.0, 600.0)
"""Seconds after its start, at random between these, at which a process looks for queues that are not noted."""


class PriorityQueues:
    """The outbound queues of one channel, or of one shard of it."""

    def __init__(self, context: ChannelContext) -> None:
        self._context = context
        self._layout = names.PLAIN
        self._former = FormerQueues(context)
        self._known: set[int] = set()
        self._sender: Sender | None = None
        self._first = ""
        """One of those that are consumed; empty: none is yet."""

    async def find(self) -> tuple[frozenset[int], names.Layout]:
        """The priorities of which there are to be queues at the start, and their layout."""
        spec = self._context.spec()
        self._layout = self._context.broker.layout(self._context.shards)
        noted = spec.noted_priorities
        self._known = {names.LOWEST_PRIORITY, *(noted & {*names.PRIORITIES})}
        self._former.add(spec.former_layouts(self._layout))
        if names.LOWEST_PRIORITY not in noted:
            await self._look_for_unnoted()
        if not self._to_note() <= noted:
            await self._note()
        return frozenset(self._known), self._layout

    def consume(self, sender: Sender) -> None:
        """Have the sender take what is in them, and in those that come to be."""
        self._sender = sender
        self._former.leave(sender, self._begin)
        self._context.own("unnoted priorities", self._find_unnoted())

    def _begin(self) -> None:
        assert self._sender
        queues = self._queues(self._known)
        self._first = queues[-1]
        self._sender.consume(queues, exclusive=True)

    async def follow(self) -> None:
        """The channel's spec was read again."""
        spec = self._context.spec()
        noted = spec.noted_priorities
        await self._add((noted & {*names.PRIORITIES}) - self._known)
        if noted & names.LAYOUTS.keys():  # somebody may have used another one who did not know better
            self._former.add(spec.former_layouts(self._layout))
        if self._to_note() - noted:  # Redis was emptied
            await self._note()

    async def _add(self, priorities: Iterable[int]) -> None:
        more = set(priorities) - self._known
        if not more or self._sender is None:
            return
        self._known |= more
        try:
            await self._context.broker.declare(dict.fromkeys(self._queues(more), self._layout.arguments))
        except BrokerUnavailable:
            pass  # they are remembered, and declared at the next connection
        if self._first:
            await self._sender.consume_also(self._queues(self._known), beside=self._first)

    async def _find_unnoted(self) -> None:
        await asyncio.sleep(random.uniform(*UNNOTED_AFTER))
        before = self._to_note()
        await self._look_for_unnoted()
        if self._to_note() != before:
            await self._note()

    async def _look_for_unnoted(self) -> None:
        """Priorities and layouts that nobody knew of, and that have a queue."""
        broker, channel = self._context.broker, self._context.channel
        unknown = [each for each in names.PRIORITIES if each not in self._known]
        others = [each for each in names.LAYOUTS.values() if each != self._layout]
        queues = [self._layout.queue(channel, each) for each in unknown] + [each.queue(channel) for each in others]
        found = await broker.surely(functools.partial(broker.look_at_queues, queues))
        self._former.add(each for each in others if each.queue(channel) in found)
        there = {each for each in unknown if self._layout.queue(channel, each) in found}
        await self._add(there)
        self._known |= there

    async def _note(self) -> None:
        try:
            await self._context.stores.channels.note_priorities(self._context.channel, self._to_note())
        except (StoreUnavailable, ChannelNotFound):
            pass  # said again when the spec is read next; deleted

    def _to_note(self) -> set[int]:
        """The plain layout only where there is another one, too."""
        layouts = self._former.layouts | {self._layout}
        return self._known | {each.number for each in layouts if layouts != {names.PLAIN}}

    def _queues(self, priorities: Iterable[int]) -> list[str]:
        context = self._context
        return self._layout.queues(context.channel, frozenset(priorities), context.shard, context.shards)
