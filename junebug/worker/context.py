"""What the parts of one channel's, or one router's, worker have in common."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from junebug import names
from junebug.amqp import dead_letters
from junebug.amqp.broker import Broker
from junebug.amqp.frames import Delivery
from junebug.config.declaration import Settings
from junebug.errors import Unroutable
from junebug.model.callbacks import DeadLetter
from junebug.model.messages import Content, Status, id_in
from junebug.model.routing import DestinationSpec
from junebug.model.spec import ChannelSpec
from junebug.runtime.metrics import Metrics
from junebug.stores import Stores
from junebug.worker.suspects import WHY, Suspects

log = structlog.stdlib.get_logger("worker")

UNNOTED_AFTER, UNLIKELY_AFTER = (60.0, 600.0), (600.0, 3600.0)
"""Seconds after its start, at random between these, at which a process looks for queues that are not noted in Redis: of one that
may have lost a note, and of one that has not, as far as can be told. To say of each that there is none costs RabbitMQ as much as
to make one, and a line in its log.
"""


@dataclass(frozen=True, slots=True)
class ChannelContext:
    channel: str
    """The id of the channel, or of the router."""
    settings: Settings
    broker: Broker
    stores: Stores
    spec: Callable[[], Any]
    """The ChannelSpec (or RouterSpec) as it is now: a changed mo_url holds from the next attempt on."""
    own: Callable[[str, Coroutine[Any, Any, Any]], asyncio.Task[Any]]
    """Runs a side task (its name, its work) that the worker lives and dies with."""
    suspects: Suspects = field(default_factory=Suspects)
    destinations: Callable[[], Mapping[str, DestinationSpec]] = dict
    """Of a router: its destinations as they are now, by their ids."""
    metrics: Metrics = field(default_factory=Metrics)
    shard: int = 0
    """Which of the channel's shards this process is, from 0 on: `shards` of them share what is to be sent."""
    begun_with: Callable[[], int] = lambda: 1
    may_lack_notes: Callable[[], bool] = lambda: True
    """Redis was started again, or is another one, since the process before this one."""

    @property
    def shards(self) -> int:
        """How many the channel had when this process began: when that changes, it is started afresh."""
        return self.begun_with()

    def recipient(self, destination: str) -> ChannelSpec | DestinationSpec | None:
        """Whose mo_url, amqp_queue and so on these are: the channel's own, or a router's destination's, if there is such."""
        spec: ChannelSpec = self.spec()
        return self.destinations().get(destination) if destination else spec

    def recipients(self) -> Iterable[ChannelSpec | DestinationSpec]:
        """All of them."""
        return (self.spec(), *self.destinations().values())

    def channel_of(self, content: Content) -> str:
        """The channel by which it came or left, for the application."""
        return self.channel if isinstance(content, Status) or isinstance(self.spec(), ChannelSpec) else content.transport_name

    def until_look(self) -> float:
        """Seconds until it is looked for what is not noted."""
        return random.uniform(*(UNNOTED_AFTER if self.may_lack_notes() else UNLIKELY_AFTER))

    @property
    def prefers_quorum(self) -> bool:
        """Which kind the queues are to be of that hold what is on its way to the application (amqp/kinds.py). The process that
        consumes them decides; a further shard follows it.
        """
        return self.broker.prefers_quorum(self.spec() if self.shard else None)

    async def publish(self, queue: str, bodies: Sequence[bytes]) -> None:
        """These are in such a queue, named as a classic one, when this returns; if it is ours, it is made where there is none.

        Raises Unroutable for another channel's.
        """
        is_quorum, kinds = self.prefers_quorum, self.broker.kinds
        try:
            return await kinds.publish_surely(queue, bodies, is_quorum=is_quorum)
        except Unroutable:
            name = names.of_kind(queue, is_quorum)
            ours = {**names.incoming_queues(self.channel, is_quorum), **names.callback_queues(self.channel, is_quorum)}
            if name not in ours:
                raise
        await self.broker.surely(lambda: self.broker.declare({name: ours[name]}, remember=False, anew=True))
        await self.broker.publish_surely(name, bodies)

    def may_begin(self, delivery: Delivery, *, is_half: bool = False) -> bool:
        """False: our processes die of it, it is to be set aside. `is_half`: this is asked again before the rest of it."""
        return self.suspects.begin("delivery", delivery.body, is_half=is_half)

    async def set_aside(self, delivery: Delivery, why: str = WHY) -> None:
        """It is with the dead letters when this returns."""
        await self.bury(delivery.queue, delivery.body, why)
        delivery.ack_now()

    async def bury(self, queue: str, octets: bytes, why: str = WHY) -> None:
        log.error("set aside with the dead letters", why=why, queue=queue, octets=len(octets), message_id=id_in(octets))
        letter = DeadLetter(reason="failed", error=why, queue=queue, body=octets)
        await self.put_away(letter)
        self.suspects.set_aside()

    async def bury_unreadable(self, delivery: Delivery, error: str) -> None:
        """It is with the dead letters when this returns."""
        await dead_letters.bury_unreadable(
            self.broker, self.metrics, self.channel, delivery, error, is_quorum=self.prefers_quorum
        )

    async def put_away(self, letter: DeadLetter) -> None:
        """It is with the dead letters when this returns."""
        await dead_letters.bury(self.broker, self.metrics, self.channel, letter, is_quorum=self.prefers_quorum)
