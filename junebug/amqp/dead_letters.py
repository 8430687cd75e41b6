"""Dead letters are put where they are kept, on the channel's dead-letter queue, and counted."""

from __future__ import annotations

import structlog

from junebug import names
from junebug.amqp.broker import Broker
from junebug.amqp.frames import Delivery
from junebug.model.callbacks import DeadLetter
from junebug.model.messages import id_in
from junebug.runtime.families import GIVEN_UP
from junebug.runtime.metrics import Metrics

log = structlog.stdlib.get_logger("dead_letters")


async def bury(broker: Broker, metrics: Metrics, channel: str, letter: DeadLetter, *, is_quorum: bool) -> None:
    """RabbitMQ has it when this returns. `is_quorum`: which kind of queue is preferred."""
    await broker.kinds.publish_surely(names.dead_queue(channel), (letter.to_wire(),), is_quorum=is_quorum)
    metrics.of(channel)[GIVEN_UP.field(letter.reason)] += 1


async def bury_unreadable(
    broker: Broker, metrics: Metrics, channel: str, delivery: Delivery, error: str, *, is_quorum: bool
) -> None:
    """What came from a queue and is no message of ours: a dead letter instead."""
    told = {"channel_id": channel, "reason": error, "queue": delivery.queue, "message_id": id_in(delivery.body)}
    log.error("unreadable message: moved to the dead letters", **told)
    letter = DeadLetter(reason="unreadable", error=error, queue=delivery.queue, body=delivery.body)
    await bury(broker, metrics, channel, letter, is_quorum=is_quorum)
    delivery.ack()
