"""What waits to be sent: a page of it, and all of it cancelled.

Neighbours: worker/commands.py does both for a channel that runs, api/handlers/queue.py for one that does not. One single
message is cancelled by a note that the sender looks at (stores/cancellations.py).
"""

from __future__ import annotations

import time
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import structlog

from junebug import names
from junebug.amqp.broker import Broker
from junebug.amqp.dead_letters import bury_unreadable
from junebug.amqp.frames import Delivery
from junebug.errors import MalformedMessage
from junebug.model.messages import UserMessage, cancelled
from junebug.model.spec import ChannelSpec
from junebug.runtime.families import MESSAGES
from junebug.runtime.metrics import Metrics

T = TypeVar("T")

log = structlog.stdlib.get_logger("outbound")

_CANCELLED = MESSAGES.field("outbound", "cancelled")


@dataclass(frozen=True, slots=True)
class Cancelled:
    """How many were `cancelled`; `remaining`: those that were left because the time was up."""

    cancelled: int
    remaining: int


def queues_of(
    spec: ChannelSpec, layout: names.Layout, priorities: Container[int] = names.PRIORITIES, shard: int = 0, shards: int = 1
) -> list[str]:
    """Where messages of a channel (or for this shard of it) wait to be sent: in queues of this layout, and of all that are
    noted, before. The most urgent first, of each priority the oldest layout. Some may not be there (yet).
    """
    layouts = list(dict.fromkeys((*map(names.layout_of, spec.layouts), layout)))
    wanted = [priority for priority in reversed(names.PRIORITIES) if priority in priorities]
    queues = [queue for each in wanted for one in layouts for queue in one.queues(spec.id, (each,), shard, shards)]
    if spec.amqp_queue and names.is_amqp_queue(spec.amqp_queue) and not shard:
        queues.append(names.outbound_queue(spec.amqp_queue))
    return queues


def by_queue(
    layout: names.Layout, channel: str, messages: Iterable[tuple[T, UserMessage]]
) -> dict[str, list[tuple[T, UserMessage]]]:
    """Where each of these messages (and what is given with it) is to wait; those of one queue in their order."""
    found: dict[str, list[tuple[T, UserMessage]]] = {}
    for each in messages:
        found.setdefault(layout.queue(channel, each[1].priority, each[1].to_addr), []).append(each)
    return found


async def list_queued(
    broker: Broker, channel: str, queues: Sequence[str], offset: int, limit: int, *,
    in_hand: Iterable[Delivery] = (), cancelled: Container[str] = (),
) -> list[UserMessage]:  # fmt: skip
    """A page of what waits, in the order in which it is going to be sent; less what is `cancelled`.

    `in_hand`: what the sender has taken and not begun, in its order. Raises QueueBusy, BrokerUnavailable.
    """
    found: list[Delivery] = []
    skipped = 0
    held = [(names.priority_of(delivery.queue, delivery.priority), delivery) for delivery in in_hand]

    async def visit(batch: Sequence[Delivery]) -> bool:
        found.extend(batch)
        return len(found) < limit

    for queue in queues:
        priority = names.priority_of(queue, names.LOWEST_PRIORITY)
        for entry in [entry for entry in held if entry[0] >= priority]:  # it leaves before what is still in the queue
            held.remove(entry)
            if skipped < offset:
                skipped += 1
            elif len(found) < limit:
                found.append(entry[1])
        if len(found) >= limit:
            break
        skip = offset - skipped
        most = skip + limit - len(found)
        before = len(found)
        seen = await broker.browse(queue, visit, keeping=True, most=most, skip=skip, exclusive=is_own(channel, queue))
        skipped += seen - (len(found) - before)
    return [message for message in map(_readable, found) if message and message.message_id not in cancelled]


async def cancel_all(
    broker: Broker, metrics: Metrics, channel: str, queues: Sequence[str], seconds: float, *, is_quorum: bool
) -> Cancelled:
    """Cancel all that is in the queues, within about so many seconds: each gets the event `rejected`, and is counted.
    `is_quorum`: which kind of event queue is preferred (kinds.py).

    Raises QueueBusy, BrokerUnavailable: what is not cancelled by then stays in its place.
    """
    ends = time.monotonic() + seconds
    done = 0

    async def visit(batch: Sequence[Delivery]) -> bool:
        nonlocal done
        readable: list[Delivery] = []
        events: list[bytes] = []
        for delivery in batch:
            try:
                message = UserMessage.from_wire(delivery.body)
            except MalformedMessage as error:
                await bury_unreadable(broker, metrics, channel, delivery, str(error), is_quorum=is_quorum)
                continue
            readable.append(delivery)
            events.append(cancelled(message, channel).to_wire())
        await broker.kinds.publish(names.event_queue(channel), events, is_quorum=is_quorum)
        for delivery in readable:
            delivery.ack()
        done += len(readable)
        metrics.of(channel)[_CANCELLED] += len(readable)
        return time.monotonic() < ends

    for queue in queues:
        await broker.browse(queue, visit, keeping=False, exclusive=is_own(channel, queue))
    remaining = sum((await broker.queue_lengths(queues)).values())
    log.info("messages cancelled", channel_id=channel, cancelled=done, remaining=remaining)
    return Cancelled(done, remaining)


def is_own(channel: str, queue: str) -> bool:
    """Not one that the application and other channels may use, too."""
    return queue.startswith(f"{channel}.")


def _readable(delivery: Delivery) -> UserMessage | None:
    """None for what is buried when its turn comes."""
    try:
        return UserMessage.from_wire(delivery.body, priority=names.priority_of(delivery.queue, delivery.priority))
    except MalformedMessage:
        return None
