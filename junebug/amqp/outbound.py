"""What waits to be sent: looked at, and cancelled.

Neighbours: worker/channel_worker.py does both for a channel that runs (the sender stands still meanwhile), api/queue.py
for one that does not.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import structlog

from junebug import names
from junebug.amqp.broker import Broker
from junebug.amqp.frames import Delivery
from junebug.errors import MalformedMessage
from junebug.model.callbacks import DeadLetter
from junebug.model.messages import UserMessage, rejected

log = structlog.stdlib.get_logger("outbound")

CANCELLED = "cancelled"
"""Reason of the event `rejected` that a cancelled message gets."""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """How many were `cancelled`; `remaining`: those that were left because the time was up."""

    cancelled: int
    remaining: int


def queues_of(channel: str, amqp_queue: str | None) -> list[str]:
    """Where messages of a channel wait to be sent, the most urgent first."""
    queues = list(names.outbound_queues(channel).values())
    return [*queues, names.outbound_queue(amqp_queue)] if amqp_queue else queues


async def list_queued(broker: Broker, channel: str, queues: Sequence[str], offset: int, limit: int) -> list[UserMessage]:
    """A page of what waits, in the order in which it is going to be sent. Raises QueueBusy, BrokerUnavailable."""
    found: list[UserMessage] = []
    skipped = 0

    async def visit(batch: Sequence[Delivery]) -> bool:
        nonlocal skipped
        for delivery in batch:
            if skipped < offset:
                skipped += 1
            elif len(found) < limit:
                try:
                    priority = names.priority_of(delivery.queue, delivery.priority)
                    found.append(UserMessage.from_wire(delivery.body, priority=priority))
                except MalformedMessage:
                    pass  # it is buried when its turn comes
        return len(found) < limit

    for queue in queues:
        if len(found) == limit:
            break
        most = offset - skipped + limit - len(found)
        await broker.browse(queue, visit, keeping=True, most=most, exclusive=is_own(channel, queue))
    return found


async def cancel_queued(
    broker: Broker, channel: str, queues: Sequence[str], message_ids: Collection[str] | None, seconds: float
) -> Cancelled:
    """Cancel these messages, or all (None), within about so many seconds: each gets the event `rejected`.

    Raises QueueBusy, BrokerUnavailable: what is not cancelled by then stays in its place.
    """
    ends = time.monotonic() + seconds
    wanted = None if message_ids is None else set(message_ids)
    cancelled = 0

    async def visit(batch: Sequence[Delivery]) -> bool:
        nonlocal cancelled
        chosen: list[Delivery] = []
        events: list[bytes] = []
        for delivery in batch:
            try:
                message = UserMessage.from_wire(delivery.body)
            except MalformedMessage as error:
                if wanted is None:
                    await _bury(broker, channel, delivery, error)
                continue
            if wanted is None or message.message_id in wanted:
                chosen.append(delivery)
                events.append(rejected(message, channel, CANCELLED).to_wire())
        if events:
            await broker.publish_many(names.event_queue(channel), events)
        for delivery in chosen:
            delivery.ack()
        cancelled += len(chosen)
        return time.monotonic() < ends and (wanted is None or cancelled < len(wanted))

    for queue in queues:
        if wanted is None or cancelled < len(wanted):
            await broker.browse(queue, visit, keeping=wanted is not None, exclusive=is_own(channel, queue))
    remaining = 0 if wanted is not None else sum((await broker.queue_lengths(queues)).values())
    log.info("messages cancelled", channel_id=channel, cancelled=cancelled, remaining=remaining)
    return Cancelled(cancelled, remaining)


def is_own(channel: str, queue: str) -> bool:
    """Not one that the application and other channels may use, too."""
    return queue.startswith(f"{channel}.")


async def _bury(broker: Broker, channel: str, delivery: Delivery, error: MalformedMessage) -> None:
    letter = DeadLetter(reason="unreadable", error=str(error), queue=delivery.queue, body=delivery.body)
    await broker.publish(names.dead_queue(channel), letter.to_wire())
    delivery.ack()
