"""RabbitMQ is killed while callbacks wait or are drained: each arrives, repeats are no more than what was in hand."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator

import pytest

from junebug import names
from junebug.config.declaration import AmqpSettings
from junebug.worker.callbacks.forwarder import PREFETCH
from tests.servers import RabbitmqServer
from tests.worker.conftest import Bench, eventually
from tests.worker.test_forwarder import DELAYS, Host, all_wait, loopback, mo, receive

COUNT = 400


@pytest.fixture
def amqp_settings(own_rabbitmq: RabbitmqServer) -> AmqpSettings:
    return own_rabbitmq.settings


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    host = Host()
    yield host
    host.going_on.set()
    await host.stop()


async def restart(server: RabbitmqServer) -> None:
    await asyncio.to_thread(server.restart)


async def all_arrive(host: Host) -> None:
    async def all_there() -> bool:
        return len(set(host.contents())) == COUNT

    await eventually(all_there, 60)


async def test_a_killed_rabbitmq_loses_nothing_that_waits(bench: Bench, host: Host, own_rabbitmq: RabbitmqServer) -> None:
    bench.settings = dataclasses.replace(bench.settings, callback_retry_delays=DELAYS)
    channel = await loopback(bench, mo_url=host.url())
    await receive(bench, channel, *(mo(str(n), f"+{n}") for n in range(COUNT)))
    await all_wait(bench, channel, COUNT - 60)
    await restart(own_rabbitmq)
    await host.start()
    await all_arrive(host)
    in_hand = PREFETCH + bench.settings.callback_concurrency  # the kill may come between a confirm and an ack
    assert len(host.received) <= COUNT + in_hand


async def test_a_queue_that_was_made_a_moment_before_the_kill_holds_up_nobody(
    bench: Bench, host: Host, own_rabbitmq: RabbitmqServer
) -> None:
    """RabbitMQ 3.10 may keep its name only: it then confirms nothing, for ever."""
    bench.settings = dataclasses.replace(bench.settings, callback_retry_delays=DELAYS)
    channel = await loopback(bench, mo_url=host.url())
    await receive(bench, channel, *(mo(str(n), f"+{n}") for n in range(COUNT)))

    async def noted() -> bool:
        return bool(await bench.stores.delay_queues.noted(channel))

    await eventually(noted)
    await restart(own_rabbitmq)
    await host.start()
    await all_arrive(host)


async def test_a_rabbitmq_killed_in_the_midst_of_it_loses_nothing(
    bench: Bench, host: Host, own_rabbitmq: RabbitmqServer
) -> None:
    bench.settings = dataclasses.replace(bench.settings, callback_retry_delays=DELAYS, callback_concurrency=5)
    await host.start()
    host.going_on.clear()
    channel = await loopback(bench, mo_url=host.url())
    await receive(bench, channel, *(mo(str(n), f"+{n}") for n in range(COUNT)))
    await host.wait(5)

    async def spilled() -> bool:
        return await bench.broker.queue_length(names.inbound_queue(channel)) == 0

    await eventually(spilled)
    host.going_on.set()
    await host.wait(COUNT // 4)
    await restart(own_rabbitmq)
    await all_arrive(host)
