"""A callback in a worker's hands, until its destination has it or another queue has; and the queue that it came from.

Such a queue is read batch by batch, in its order, and halted at will. Neighbours: forwarder.py has a Source for each queue that
a channel always has, backlog.py one for its own. destination.py halts those that are for it alone while it fails: what is in
hand goes back to its place, and a few are looked at to probe. Of a quorum queue, which has no such place, it is kept in hand.
"""

from __future__ import annotations

import asyncio
import bisect
import itertools
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from junebug import names
from junebug.amqp.frames import Delivery
from junebug.model.callbacks import Callback
from junebug.model.messages import Content, Event, Status, UserMessage
from junebug.runtime.loop import end_task
from junebug.worker.context import ChannelContext

BATCH = 100
PATIENCE, PAUSE = 2.0, 0.02
"""Seconds that is waited for what should be in hand; between two looks."""
FINISHING = 5.0
"""Seconds in which callbacks that are being made must be finished before the queue is left to others."""


@dataclass(slots=True, eq=False)
class PendingCallback:
    """One callback until it is finished: its destination has it, or RabbitMQ has confirmed it elsewhere."""

    callback: Callback
    content: Content
    delivery: Delivery | None
    """Where it came from; None for what was not on RabbitMQ."""
    on_finished: Callable[[], None]
    """Lets its queue forget it."""
    home: Source | None = None
    """The queue that it came from, if that is its destination's alone: there it may go back to its place."""
    since: float = field(default_factory=time.monotonic)
    number: int = field(default_factory=itertools.count().__next__)
    is_finished: bool = False
    key: str = field(init=False)
    """What has one key is called in order: the messages of one address, the events of one message, a component."""

    def __post_init__(self) -> None:
        match self.content:
            case UserMessage():
                self.key = f"inbound {self.content.from_addr}"
            case Event():
                self.key = f"event {self.content.user_message_id}"
            case Status():
                self.key = f"status {self.content.component}"

    @property
    def is_wanted(self) -> bool:
        """False when its link is gone: it has been or will be delivered again."""
        return not self.is_finished and (self.delivery is None or self.delivery.alive)

    def finish(self) -> None:
        """It needs no more care."""
        if not self.is_finished:
            self.is_finished = True
            self.on_finished()

    def give_back(self) -> None:
        """It goes back to its place in its home, and comes again from there."""
        assert self.delivery
        assert self.home
        self.is_finished = True
        self.home.put_back(self.delivery)

    def fields(self) -> dict[str, Any]:
        """For the log."""
        match self.content:
            case UserMessage():
                about = {"message_id": self.content.message_id}
            case Event():
                about = {"message_id": self.content.user_message_id, "event_type": self.content.api_type}
            case Status():
                about = {"component": self.content.component, "status": self.content.status}
        callback = self.callback
        if callback.destination:
            about["destination_id"] = callback.destination
        if callback.replayed:
            about["replayed"] = callback.replayed
        return {"to": callback.to, **about}


def at_last(times: int, act: Callable[[], None]) -> Callable[[], None]:
    """To be called so many times, the last of which acts."""
    left = times

    def finish() -> None:
        nonlocal left
        left -= 1
        if not left:
            act()

    return finish


Dispatch = Callable[[PendingCallback], None]
OnLost = Callable[[], None]
Read = Callable[[Sequence[Delivery]], Awaitable[list[PendingCallback]]]


class Source:
    """`read` makes callbacks of deliveries and may take its time; each is then given to `dispatch`."""

    def __init__(
        self,
        context: ChannelContext,
        queue: str,
        read: Read,
        dispatch: Dispatch,
        *,
        prefetch: int,
        on_lost: OnLost,
        halted: bool = False,
        left: bool = False,
    ) -> None:
        """`prefetch`: in hand at the most. `on_lost`: the link broke, what is in hand will come again. `halted`: it begins
        with `go_on`; `left`: with `come_back`.
        """
        self.queue = queue
        self.read = read
        self._context = context
        self._dispatch = dispatch
        self._on_lost = on_lost
        self._is_left = left
        self._arrived: deque[Delivery] = deque()
        self._news = asyncio.Event()
        self._reader = context.own(f"reader of {queue}", self._read_forever())
        self._consumer = consumer = context.broker.consume(
            queue, self._on_delivery, prefetch=prefetch, halted=self._begins_halted(halted), on_lost=self._lost
        )
        self.waiting = consumer.waiting
        """How many messages wait in the queue; all that it has delivered is in hand then. Raises BrokerUnavailable."""

    def _begins_halted(self, halted: bool) -> bool:
        return halted or self._is_left

    @property
    def in_hand(self) -> int:
        """Messages that came and are not acknowledged."""
        return self._consumer.in_hand

    @property
    def held(self) -> int:
        """Of these, what waits until it goes on."""
        return 0

    async def halt(self) -> None:
        """Take no more until `go_on`; what nobody has begun with goes back to its place."""
        await self._consumer.halt(self._give_back)

    async def go_on(self) -> None:
        """After `halt`."""
        if not self._is_left:
            await self._consumer.go_on()

    async def leave(self) -> None:
        """To others, who consume it from now on, until `come_back`."""
        self._is_left = True
        await self.halt()

    async def come_back(self) -> None:
        self._is_left = False
        await self.go_on()

    def put_back(self, delivery: Delivery) -> None:
        """It goes back to its place, and comes again from there."""
        delivery.requeue()

    async def browse(self, most: int, visit: Callable[[list[PendingCallback]], Awaitable[None]]) -> int:
        """Show the first of what waits; what is not finished then keeps its place. How many there were.

        Raises BrokerUnavailable.
        """

        async def show(deliveries: Sequence[Delivery]) -> bool:
            await visit(await self.read(deliveries))
            return False

        return await self._context.broker.browse(self.queue, show, keeping=True, most=most, exclusive=False)

    async def stop_deliveries(self) -> None:
        """Take no more; what is in hand can still be acknowledged."""
        await self._consumer.stop_deliveries()
        self._arrived.clear()

    async def stop(self) -> None:
        """What is not acknowledged goes back."""
        await end_task(self._reader)
        await self._consumer.cancel()

    def _on_delivery(self, delivery: Delivery) -> None:
        self._arrived.append(delivery)
        self._news.set()

    async def _read_forever(self) -> None:
        while True:
            await self._news.wait()
            batch = self._take_batch()
            if not (batch and self._arrived):
                self._news.clear()
            for callback in await self.read(batch) if batch else ():
                self._dispatch(callback)

    def _take_batch(self) -> list[Delivery]:
        return [self._arrived.popleft() for _ in range(min(BATCH, len(self._arrived)))]

    def _give_back(self) -> list[Delivery]:
        arrived = list(self._arrived)
        self._arrived.clear()
        return arrived

    def _lost(self) -> None:
        self._arrived.clear()
        self._on_lost()


class QuorumSource(Source):
    """Of a quorum queue: what is in hand stays there while it is halted, and is begun again in its order."""

    _is_halted = False

    def _begins_halted(self, halted: bool) -> bool:
        self._is_halted = halted
        return self._is_left

    @property
    def held(self) -> int:
        return len(self._arrived) if self._is_halted else 0

    async def halt(self) -> None:
        self._is_halted = True

    async def go_on(self) -> None:
        if not self._is_left:
            self._is_halted = False
            self._news.set()
            await self._consumer.go_on()

    async def leave(self) -> None:
        self._is_left = self._is_halted = True
        ends = time.monotonic() + FINISHING
        while self.in_hand > len(self._arrived) and time.monotonic() < ends:  # noqa: ASYNC110 - each has its own end
            await asyncio.sleep(PAUSE)
        await self._consumer.halt(self._give_back)

    def put_back(self, delivery: Delivery) -> None:
        if delivery.alive:
            bisect.insort(self._arrived, delivery, key=lambda each: each.tag)
            self._news.set()

    async def browse(self, most: int, visit: Callable[[list[PendingCallback]], Awaitable[None]]) -> int:
        await self._until_anything_arrived()
        first = [self._arrived.popleft() for _ in range(min(most, len(self._arrived)))]
        callbacks = await self.read(first)
        try:
            await visit(callbacks)
        finally:
            for delivery in dict.fromkeys(pending.delivery for pending in callbacks if not pending.is_finished):
                assert delivery
                self.put_back(delivery)
        return len(first)

    async def _until_anything_arrived(self) -> None:
        """Unless there is nothing. Raises BrokerUnavailable."""
        ends = time.monotonic() + PATIENCE
        while not self._arrived and time.monotonic() < ends:
            if self._consumer.consuming.is_set() and not await self.waiting():
                return
            await asyncio.sleep(PAUSE)

    async def stop_deliveries(self) -> None:
        self._is_halted = True
        await super().stop_deliveries()

    def _take_batch(self) -> list[Delivery]:
        return [] if self._is_halted else super()._take_batch()


def kind_of_source(queue: str) -> type[Source]:
    """For a queue of this name."""
    return QuorumSource if names.is_quorum(queue) else Source
