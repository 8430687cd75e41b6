"""What a RabbitMQ is like for Junebug, tried once: a queue, a message through the exchange and back. Judged elsewhere."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pamqp import commands as amqp

from junebug import names
from junebug.amqp.broker import Broker
from junebug.amqp.connection import FAILURES, Link, refusal
from junebug.amqp.frames import Channel, Delivery, DeliveryChannel
from junebug.config.declaration import AmqpSettings
from junebug.errors import BrokerUnavailable

EXPIRES = 60_000
"""Milliseconds after which the queue is gone, whatever becomes of us."""
ARGUMENTS: dict[str, Any] = {"x-expires": EXPIRES}


@dataclass(frozen=True)
class BrokerFacts:
    """`refused`: what it did not let us do ("declare", "publish", "consume") -> why; what comes after it was not tried."""

    product: str
    version: str
    channel_max: int
    frame_max: int
    heartbeat: int
    """Seconds; RabbitMQ takes ours."""
    blocked: str = ""
    """Why it takes no messages (an alarm)."""
    is_fence: bool = True
    """Whether of two who consume a queue exclusively it refuses the second; of a quorum queue it serves one (not tried)."""
    refused: Mapping[str, str] = field(default_factory=dict)


async def probe(settings: AmqpSettings, timeout: float) -> BrokerFacts:
    """Raises StartupError: it cannot be reached, or lets us not in; the message names the setting to look at."""
    try:
        async with asyncio.timeout(timeout):
            link = await Link.open(settings, "junebug doctor")
    except FAILURES as error:
        raise refusal(error, settings) from None
    tune, about = link.connection_tune, link.server_properties
    layout = names.LAYOUTS[settings.queue_type == "quorum"]
    queue, arguments = layout.queue(str(uuid.uuid4())), {**layout.arguments, **ARGUMENTS}
    refused = await _declare(link, queue, arguments, timeout)
    is_fence = bool(refused) or layout.is_quorum or await _refuses_a_second(link, queue, timeout)
    await link.end()
    blocked, refused = ("", refused) if refused else await _round_trip(settings, queue, arguments, timeout)
    told = {name: str(about.get(name) or "") for name in ("product", "version")}
    return BrokerFacts(
        told["product"], told["version"], tune.channel_max or 65535, tune.frame_max or 0, tune.heartbeat or 0, blocked,
        is_fence, refused,
    )  # fmt: skip


async def _declare(link: Link, queue: str, arguments: dict[str, Any], timeout: float) -> dict[str, str]:
    """RabbitMQ's own reason; a Broker would try other ways first."""
    try:
        async with asyncio.timeout(timeout):
            channel = await Channel.open(link)
            await channel.ask(amqp.Queue.Declare(queue=queue, durable=True, arguments=arguments))
            channel.close_soon()
    except FAILURES as error:
        return {"declare": str(error) or f"it did not answer within {timeout:g} s"}
    return {}


async def _refuses_a_second(link: Link, queue: str, timeout: float) -> bool:
    """What it refuses altogether is told by the round trip."""
    try:
        async with asyncio.timeout(timeout):
            for _ in range(2):
                channel = await DeliveryChannel.open(link)
                await channel.consume(queue, exclusive=True)
    except FAILURES:
        return True
    return False


async def _round_trip(
    settings: AmqpSettings, queue: str, arguments: dict[str, Any], timeout: float
) -> tuple[str, dict[str, str]]:
    """Why it takes no messages, and what else it refuses."""
    states = [""]
    """Why it cannot be used, as it is told."""
    broker = Broker(settings, "junebug doctor", lambda usable, why: states.append("" if usable else why))
    step = "connect"
    seen: list[bytes] = []

    async def visit(batch: Sequence[Delivery]) -> bool:
        for each in batch:
            seen.append(each.body)
            each.ack()
        return True

    try:
        async with asyncio.timeout(timeout):
            broker.start()
            await broker.wait_connected(timeout)
            step = "declare"
            await broker.declare({queue: arguments}, bind=True, remember=False)
            step = "publish"
            await broker.publish(queue, b"{}")
            step = "consume"
            await broker.browse(queue, visit, keeping=False)
    except (BrokerUnavailable, TimeoutError) as error:
        if broker.blocked:
            return broker.blocked, {}
        return "", {step: states[-1] or str(error) or f"it did not answer within {timeout:g} s"}
    finally:
        with suppress(BrokerUnavailable, TimeoutError):
            async with asyncio.timeout(timeout):
                await broker.delete_queues([queue])
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await broker.close()
    return "", {} if seen else {"consume": "what was published did not come back"}
