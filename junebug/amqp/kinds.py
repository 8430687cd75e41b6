"""Queues of what is on its way to the application, each of one of two kinds: classic, or quorum (names.of_kind).

The process that consumes them decides of which (worker/take_over.py), RabbitMQ knows: that queue is there. Whoever else
publishes to them, or counts what waits, prefers a kind by what it knows of the channel, and takes the other one as long as that
is what there is. While there are both, the process passes on what comes into the former one: so it is no longer published to
only when that is empty, and a moment later, lest what comes next overtakes.

They are called by their plain names here, those of classic queues. Neighbours: topology.py looks, publisher.py publishes.
"""

from __future__ import annotations

import asyncio
import functools
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from junebug.amqp.publisher import CONFIRM_TIMEOUT, Publisher
from junebug.amqp.topology import Topology
from junebug.errors import Unroutable
from junebug.names import of_kind

LOOK_EVERY = 10.0
"""Seconds between two looks whether there is one of the kind that is preferred."""
SETTLING = 0.5
"""Seconds until what was published to the former one has surely been passed on."""
MOST_KNOWN = 10_000


class Kinds:
    def __init__(self, topology: Topology, publisher: Publisher) -> None:
        self._topology = topology
        self._publisher = publisher
        self._known: dict[str, tuple[bool, float]] = {}
        """Queue -> whether the quorum one is there, and until when it is taken without a look though another one is preferred."""
        self._looking = asyncio.Lock()
        self._in_line = 0
        """Who look, or wait for it: nobody overtakes them."""

    def settle(self, queue: str, is_quorum: bool) -> None:
        """This one is there."""
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        self._known[queue] = is_quorum, time.monotonic() + LOOK_EVERY

    async def publish(
        self, queue: str, bodies: Sequence[bytes], *, is_quorum: bool, timeout: float = CONFIRM_TIMEOUT
    ) -> None:
        """As Publisher.publish_many does. `is_quorum`: which kind is preferred. Raises Unroutable where there is neither."""
        publish = functools.partial(self._publisher.publish_many, timeout=timeout)
        await self._publish(publish, queue, bodies, is_quorum)

    async def publish_surely(self, queue: str, bodies: Sequence[bytes], *, is_quorum: bool) -> None:
        """As Publisher.publish_surely does, likewise."""
        await self._publish(self._publisher.publish_surely, queue, bodies, is_quorum, surely=True)

    async def _publish(
        self, publish: Callable[[str, Sequence[bytes]], Awaitable[None]], queue: str, bodies: Sequence[bytes], is_quorum: bool,
        *, surely: bool = False,
    ) -> None:  # fmt: skip
        while True:
            name = None if self._in_line else self._at_hand(queue, is_quorum)
            name = name or await self._chosen(queue, is_quorum, surely)
            try:
                return await publish(name, bodies)
            except Unroutable as error:
                bodies = [bodies[index] for index in error.returned or range(len(bodies))]
                look = functools.partial(self._topology.look, (of_kind(queue, False), of_kind(queue, True)))
                there = await (self._topology.surely(look) if surely else look())
                if not there:
                    raise
                self.settle(queue, (name in there) == (name != queue))

    def _at_hand(self, queue: str, is_quorum: bool) -> str | None:
        """Its name, where that is known without a look."""
        is_known, until = self._known.get(queue, (False, -math.inf if is_quorum else math.inf))
        return of_kind(queue, is_known) if is_known == is_quorum or time.monotonic() < until else None

    async def _chosen(self, queue: str, is_quorum: bool, surely: bool) -> str:
        self._in_line += 1
        try:
            async with self._looking:
                if name := self._at_hand(queue, is_quorum):
                    return name
                choose = functools.partial(self._choose, queue, is_quorum)
                return await (self._topology.surely(choose) if surely else choose())
        finally:
            self._in_line -= 1

    async def _choose(self, queue: str, is_quorum: bool) -> str:
        wanted, other = of_kind(queue, is_quorum), of_kind(queue, not is_quorum)
        there = await self._topology.look((wanted, other))
        stays = other in there and (wanted not in there or there[other].messages)
        if not stays and queue in self._known:
            await asyncio.sleep(SETTLING)
        self.settle(queue, is_quorum != bool(stays))
        return other if stays else wanted

    async def find(self, queue: str, is_quorum: bool) -> tuple[str, int]:
        """The name of the one to look into, and how many messages wait there: that of the preferred kind, unless there is the
        other one only. Raises BrokerUnavailable.
        """
        for kind in (is_quorum, not is_quorum):
            name = of_kind(queue, kind)
            if there := await self._topology.look((name,)):
                return name, there[name].messages
        return of_kind(queue, is_quorum), 0

    async def lengths(self, queues: Mapping[str, bool], beside: Sequence[str] = ()) -> dict[str, int]:
        """Messages that wait in each, of both kinds together. `queues`: with the kind that is preferred. `beside`: queues that
        are of one kind. Raises BrokerUnavailable.
        """
        asked = {queue: self._may_be(queue, is_quorum) for queue, is_quorum in queues.items()}
        looked_at = [of_kind(queue, kind) for queue, kinds in asked.items() for kind in kinds]
        there = await self._topology.look([*beside, *looked_at])
        alone = {queue: kinds[0] for queue, kinds in asked.items() if len(kinds) == 1}
        if missing := [of_kind(queue, not kind) for queue, kind in alone.items() if of_kind(queue, kind) not in there]:
            there |= await self._topology.look(missing)
        lengths = {queue: there[queue].messages if queue in there else 0 for queue in beside}
        for queue in queues:
            kinds = [kind for kind in (False, True) if of_kind(queue, kind) in there]
            if len(kinds) == 1:
                self.settle(queue, kinds[0])
            lengths[queue] = sum(there[of_kind(queue, kind)].messages for kind in kinds)
        return lengths

    def _may_be(self, queue: str, is_quorum: bool) -> Sequence[bool]:
        """Of which kinds there may be one. To say that there is none costs RabbitMQ as much as to make one."""
        is_known, _ = self._known.get(queue, (is_quorum, 0.0))
        return (is_quorum,) if is_known == is_quorum else (True, False)
