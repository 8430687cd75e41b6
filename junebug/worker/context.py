"""What the parts of one channel's, or one router's, worker have in common."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from junebug.amqp import dead_letters
from junebug.amqp.broker import Broker
from junebug.amqp.frames import Delivery
from junebug.config.declaration import Settings
from junebug.model.callbacks import DeadLetter
from junebug.model.messages import Content, Status, id_in
from junebug.model.routing import DestinationSpec
from junebug.model.spec import ChannelSpec
from junebug.runtime.metrics import Metrics
from junebug.stores import Stores
from junebug.worker.suspects import WHY, Suspects

log = structlog.stdlib.get_logger("worker")


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
        await dead_letters.bury(self.broker, self.metrics, self.channel, letter)
        self.suspects.set_aside()

    async def bury_unreadable(self, delivery: Delivery, error: str) -> None:
        """It is with the dead letters when this returns."""
        await dead_letters.bury_unreadable(self.broker, self.metrics, self.channel, delivery, error)
