"""Dead letters are put where they are kept: on the channel's dead-letter queue."""

from __future__ import annotations

from junebug import names
from junebug.amqp.broker import Broker
from junebug.amqp.frames import Delivery
from junebug.model.callbacks import DeadLetter


async def bury(broker: Broker, channel: str, letter: DeadLetter) -> None:
    """RabbitMQ has it when this returns."""
    await broker.publish_surely(names.dead_queue(channel), (letter.to_wire(),))


async def bury_unreadable(broker: Broker, channel: str, delivery: Delivery, error: str) -> None:
    """What came from a queue and is no message of ours: a dead letter instead."""
    letter = DeadLetter(reason="unreadable", error=error, queue=delivery.queue, body=delivery.body)
    await bury(broker, channel, letter)
    delivery.ack()
