"""Consuming quorum queues with a single active consumer (names.is_quorum says which are).

RabbitMQ serves another as soon as this one is cancelled, whatever it has in hand, and puts what is given back behind what was
given back before: so all goes back together, or nothing. Exclusive consumers it does not know there.

Neighbours: consumer.py is for all others; browse.py gives back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar, Required, TypedDict, Unpack

from junebug import names
from junebug.amqp.browse import give_back
from junebug.amqp.connection import FAILURES, Connection
from junebug.amqp.consumer import Consumer
from junebug.amqp.frames import Delivery, DeliveryChannel
from junebug.amqp.topology import Topology
from junebug.runtime.loop import end_task
from junebug.runtime.tasks import TaskOwner


@dataclass(eq=False)
class QuorumConsumer(Consumer):
    """What is in hand goes back with the first `halt`, too."""

    in_turn: ClassVar = True

    def __post_init__(self, queue: str | Sequence[str], halted: bool) -> None:
        self._returned: dict[str, bool] = {}
        """Queue -> whether what came last had been given back before."""
        super().__post_init__(queue, halted)
        self._taker = self._take

    async def _put_back(self, channel: DeliveryChannel) -> None:
        self._not_begun()
        await self._give_all_back(channel)

    async def stop_deliveries(self) -> None:
        """It stays the one that is served: else another is before what is in hand is done with."""
        if self._channel and self._channel.usable:
            self._channel.on_delivery = self._note

    async def cancel(self) -> None:
        async with self._switching:  # cut off while it begins, the channel would close, and give back in whatever order
            await end_task(self._keeper)
            if self._channel and self._channel.usable:
                await self._give_all_back(self._channel)
        await super().cancel()

    async def _give_all_back(self, channel: DeliveryChannel) -> None:
        """The channel is done with then: consuming there again could cost the whole connection."""
        self.consuming.clear()
        channel.on_delivery = self._note
        with suppress(*FAILURES):
            await give_back(channel, self.queues, [queue for queue, was_returned in self._returned.items() if was_returned])
        await self._close_channel()

    async def _ask_for(self, channel: DeliveryChannel, *queues: str) -> None:
        if not self.consuming.is_set():
            self._returned.clear()
        await channel.consume(*queues, exclusive=False)

    def _take(self, delivery: Delivery) -> None:
        self._note(delivery)
        self.on_delivery(delivery)

    def _note(self, delivery: Delivery) -> None:
        self._returned[delivery.queue] = delivery.redelivered


class Options(TypedDict, total=False):
    """Of a Consumer."""

    prefetch: Required[int]
    exclusive: bool
    temporary: bool
    halted: bool
    on_lost: Callable[[], None] | None
    on_begun: Callable[[], None] | None


def consume(
    connection: Connection, topology: Topology, tasks: TaskOwner, all_consumers: set[Consumer], queue: str | Sequence[str],
    on_delivery: Callable[[Delivery], None], **options: Unpack[Options],
) -> Consumer:  # fmt: skip
    """Of several queues all are of one kind."""
    kind = QuorumConsumer if names.is_quorum(queue if isinstance(queue, str) else queue[0]) else Consumer
    return kind(connection, topology, tasks, all_consumers, queue, on_delivery, **options)
