"""RabbitMQ is killed while callbacks wait or are drained: each arrives, repeats are no more than what was in hand."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace

from junebug import names
from junebug.config.declaration import AmqpSettings
from junebug.model.messages import event_of
from junebug.worker.callbacks import delay_queues
from junebug.worker.callbacks.forwarder import PREFETCH
from tests.polling import eventually
from tests.servers import RabbitmqServer
from tests.worker.conftest import Bench
from tests.worker.test_forwarder import DELAYS, Host, all_wait, loopback, mo, receive

COUNT = 400
SETTLING = delay_queues.SETTLING


@pytest.fixture(autouse=True)
def settling(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delay_queues, "SETTLING", SETTLING)


@pytest.fixture
def amqp_settings(own_rabbitmq: RabbitmqServer) -> AmqpSettings:
    return own_rabbitmq.settings


@asynccontextmanager
async def a_host() -> AsyncIterator[Host]:
    """Dead until it is started."""
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


async def send_events(bench: Bench, channel: str, url: str) -> None:
    """As of so many messages, whose contents the host is told as `content`."""
    events = [
        replace(
            event_of(mo(str(n)), channel, "ack", sent_message_id="1"),
            event_url=url,
            transport_metadata={"content": str(n)},
        )
        for n in range(COUNT)
    ]
    await bench.put(names.event_queue(channel), *[event.to_wire() for event in events])


async def all_told(host: Host) -> None:
    async def all_there() -> bool:
        return len({body["event_details"]["content"] for body in host.received}) == COUNT

    await eventually(all_there, 60)


async def test_a_killed_rabbitmq_loses_no_message_that_waits_and_no_event_in_a_backlog(
    bench: Bench, own_rabbitmq: RabbitmqServer
) -> None:
    bench.settings = dataclasses.replace(bench.settings, callback_retry_delays=DELAYS)
    async with a_host() as for_messages, a_host() as for_events:
        receiving = await loopback(bench, mo_url=for_messages.url())
        await receive(bench, receiving, *(mo(str(n), f"+{n}") for n in range(COUNT)))
        sending = await loopback(bench)
        await send_events(bench, sending, for_events.url())
        await all_wait(bench, receiving, COUNT)
        await all_wait(bench, sending, 100, "backlog")
        await restart(own_rabbitmq)
        await for_messages.start()
        await for_events.start()
        await all_arrive(for_messages)
        await all_told(for_events)
        in_hand = PREFETCH + bench.settings.callback_concurrency  # the kill may come between a call and an ack
        assert len(for_messages.received) <= COUNT + in_hand


async def test_a_queue_that_was_made_a_moment_before_the_kill_holds_up_nobody_and_what_was_being_called_is_not_lost(
    bench: Bench, own_rabbitmq: RabbitmqServer
) -> None:
    """RabbitMQ 3.10 may keep the queue's name only: it then confirms nothing, for ever."""
    bench.settings = dataclasses.replace(bench.settings, callback_retry_delays=DELAYS, callback_concurrency=5)
    async with a_host() as failing, a_host() as slow:
        for host in (failing, slow):
            await host.start()
        slow.going_on.clear()
        sending = await loopback(bench)
        await send_events(bench, sending, slow.url())
        await slow.wait(5)
        await all_wait(bench, sending, 100, "backlog")  # it is slow
        receiving = await loopback(bench, mo_url=failing.url())
        failing.statuses = {str(n): 500 for n in range(0, COUNT, 2)}

        async def noted() -> bool:
            return bool(await bench.stores.delay_queues.noted(receiving))

        slow.going_on.set()
        await slow.wait(COUNT // 4)
        slow.going_on.clear()
        await receive(bench, receiving, *(mo(str(n), f"+{n}") for n in range(COUNT)))
        await eventually(noted)
        slow.going_on.set()
        assert len(slow.received) < COUNT
        await restart(own_rabbitmq)
        failing.statuses = {}
        await all_told(slow)
        await all_arrive(failing)
