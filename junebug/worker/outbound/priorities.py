"""Which outbound queues a channel has: that of the lowest priority always, the others from the first such message on.

So a channel that rests costs RabbitMQ one queue instead of five. The API notes a priority in Redis, makes its queue and tells
the worker by the channel's topic (api/channel_queues.py); what was published before the worker consumes waits there. Where Redis
knows nothing of them (an older Junebug made the channel, or Redis was emptied), RabbitMQ is asked at the start; and once
later, as Redis may have lost the last one alone.

Of which layout they are (names.Layout), the settings and the channel's shards say. It is noted likewise, beside those that the
channel had before: what is in queues of these is sent first.

Neighbours: former.py empties those; sender.py consumes; process.py says when the spec was read.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterable

from junebug import names
from junebug.errors import BrokerUnavailable, ChannelNotFound, StoreUnavailable
from junebug.worker.context import ChannelContext
from junebug.worker.outbound.former import FormerQueues
from junebug.worker.outbound.sender import Sender

WAIT_FOR_STORE = 1.0
"""Seconds."""


class PriorityQueues:
    """The outbound queues of one channel, or of one shard of it."""

    def __init__(self, context: ChannelContext) -> None:
        self._context = context
        self._layout = names.PLAIN
        self._number = 0
        self._former = self._none_former()
        self._known: set[int] = set()
        self._sender: Sender | None = None
        self._first = ""
        """One of those that are consumed; empty: none is yet."""

    async def find(self) -> tuple[frozenset[int], names.Layout]:
        """The priorities of which there are to be queues at the start, and their layout."""
        spec = self._context.spec()
        self._layout = layout = self._context.broker.wanted_layout(self._context.shards)
        noted = spec.layouts
        is_same = bool(noted) and names.layout_of(noted[-1]) is layout
        self._number = noted[-1] if is_same else names.next_layout(noted, layout)
        self._former = self._none_former()
        self._former.add(each for each in noted if not (is_same and names.layout_of(each) is layout))
        self._known = {names.LOWEST_PRIORITY, *(spec.noted_priorities & {*names.PRIORITIES})}
        if names.LOWEST_PRIORITY not in spec.noted_priorities:
            await self._look_for_unnoted()
        if not self._to_note() <= spec.noted_priorities:
            await self._note_surely()
        return frozenset(self._known), layout

    def consume(self, sender: Sender) -> None:
        """Have the sender take what is in them, and in those that come to be."""
        self._sender = sender
        self._former.leave(sender, self._begin)
        self._context.own("unnoted priorities", self._find_unnoted())

    def _none_former(self) -> FormerQueues:
        return FormerQueues(self._context, self._layout, self._forget, self._is_noted)

    def _begin(self) -> None:
        assert self._sender
        queues = self._queues(self._known)
        self._first = queues[-1]
        self._sender.consume(queues, exclusive=True)

    async def follow(self) -> None:
        """The channel's spec was read again."""
        noted = self._context.spec().noted_priorities
        await self._add((noted & {*names.PRIORITIES}) - self._known)
        if self._known - noted:  # Redis was emptied
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
        await asyncio.sleep(self._context.until_look())
        before = self._to_note()
        await self._look_for_unnoted()
        if self._to_note() != before:
            await self._note()

    async def _look_for_unnoted(self) -> None:
        """Priorities and layouts that nobody knew of, and that have a queue."""
        broker, channel = self._context.broker, self._context.channel
        unknown = [each for each in names.PRIORITIES if each not in self._known]
        known = {self._layout, *map(names.layout_of, self._former.numbers)}
        others = [each for each in names.LAYOUTS if each not in known]
        queues = [self._layout.queue(channel, each) for each in unknown] + [each.queue(channel) for each in others]
        found = await broker.surely(functools.partial(broker.look_at_queues, queues))
        there = {each for each in unknown if self._layout.queue(channel, each) in found}
        await self._add(there)
        self._known |= there
        if former := [each.number(1) for each in others if each.queue(channel) in found]:
            self._number = max(self._number, self._layout.number(2))
            self._former.add(former)

    async def _note(self) -> bool:
        """Whether Redis has it: else it is said again when the spec is read next."""
        try:
            await self._context.stores.channels.note_priorities(self._context.channel, self._to_note())
        except StoreUnavailable:
            return False
        except ChannelNotFound:
            pass  # deleted
        return True

    async def _note_surely(self) -> None:
        """A layout that nobody else knows of would be published to by nobody."""
        while True:
            if await self._note() or self._to_note() == self._known:
                return
            await asyncio.sleep(WAIT_FOR_STORE)

    async def _is_noted(self) -> bool:
        """Whether the present layout is. Raises StoreUnavailable."""
        try:
            return self._number in (await self._context.stores.channels.get(self._context.channel)).noted_priorities
        except ChannelNotFound:
            return False

    def _to_note(self) -> set[int]:
        """The plain layout only where there is another one, too; one that is not taken up yet is not noted."""
        former = self._former
        is_plain = self._layout is names.PLAIN and not former.numbers
        return self._known | {*former.numbers, *(() if is_plain or not former.is_taken_up else (self._number,))}

    async def _forget(self, number: int) -> None:
        """This layout is done with. Raises StoreUnavailable."""
        if not await self._note():  # before, as it may be the present one that is taken up now
            raise StoreUnavailable("Redis is away")
        if self._context.shard == 0 or names.layout_of(number) is self._layout:
            await self._context.stores.channels.forget_layout(self._context.channel, number)

    def _queues(self, priorities: Iterable[int]) -> list[str]:
        context = self._context
        return self._layout.queues(context.channel, frozenset(priorities), context.shard, context.shards)
