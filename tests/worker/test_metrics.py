"""What a worker counts, as it stands in Redis once it has ended; and that at rest it writes nothing."""

from __future__ import annotations

from typing import Any

import pytest

from junebug import names
from junebug.errors import Rejected
from junebug.logs.redaction import Redactor
from junebug.model.messages import UserMessage
from junebug.model.spec import Launch
from junebug.runtime.families import CALLBACKS, GIVEN_UP, LOST_LINES, MESSAGES, REPORTS
from junebug.transports.base import Accepted, Report
from junebug.worker.process import ChannelWorker
from tests.polling import eventually
from tests.worker.conftest import Bench
from tests.worker.scripted import ScriptedTransport

OUTCOMES = [
    ("accepted", MESSAGES.field("outbound", "submitted")),
    (Rejected("no"), MESSAGES.field("outbound", "rejected")),
    (Rejected("cancelled"), MESSAGES.field("outbound", "rejected")),  # the provider's word, not ours
    ("late", MESSAGES.field("outbound", "expired")),
    (Accepted("id", (Report("delivered"), Report("pending"))), MESSAGES.field("outbound", "submitted")),
]


async def counted(bench: Bench, id: str) -> dict[str, int]:
    """What was counted of it, but how punctual its clock was."""
    (found,) = await bench.stores._redis.run(("HGETALL", names.channel_metrics(id)))
    slow = ("event_loop", "callback_duration")
    return {name: int(value) for name, value in found.items() if not name.startswith(slow) and value != "0"}


async def test_each_outcome_is_counted_and_survives_the_worker(bench: Bench, scripted: type[ScriptedTransport]) -> None:
    channel = await bench.channel("scripted", {})
    await bench.running(channel)
    for outcome, _ in OUTCOMES:
        expires: dict[str, Any] = {"expires_at": "2026-01-01 00:00:00.000000"} if outcome == "late" else {}
        if outcome != "late":
            scripted.outcomes.append(outcome)
        await bench.send(channel, "1", "x", **expires)
    await bench.send(channel, "1", "told", bench.app.url())
    await bench.send(channel, "1", "nobody may be told", "http://169.254.169.254/")
    await bench.broker.publish(names.outbound_queue(channel), b"nonsense")
    inbound = UserMessage(to_addr="1", from_addr="2", content="hello", transport_name=channel)
    await bench.put(names.inbound_queue(channel), inbound.to_wire())
    await bench.app.wait(2)
    await eventually(lambda: bench.length(names.dead_queue(channel)))
    await eventually(lambda: _has(bench, channel, 2))
    await bench.stop(channel)
    assert await counted(bench, channel) == {
        MESSAGES.field("outbound", "submitted"): 4, MESSAGES.field("outbound", "rejected"): 2,
        MESSAGES.field("outbound", "expired"): 1, MESSAGES.field("inbound", "delivered"): 1,
        REPORTS.field("delivered"): 1, REPORTS.field("pending"): 1,
        CALLBACKS.field("event_url", "ok"): 1, CALLBACKS.field("event_url", "no_answer"): 1, CALLBACKS.field("mo_url", "ok"): 1,
        GIVEN_UP.field("refused"): 1, GIVEN_UP.field("unreadable"): 1,
    }  # fmt: skip


async def _has(bench: Bench, channel: str, letters: int) -> bool:
    return await bench.length(names.dead_queue(channel)) == letters


async def test_what_a_router_gives_and_drops(bench: Bench) -> None:
    channel = await bench.channel("loopback", {}, mo_url=None)
    destinations = {"one": {"config": {"regular_expression": "^1"}, "mo_url": bench.app.url()}}
    router = await bench.router("from_address", {"channel": channel}, destinations)
    await bench.running(router)
    for to_addr in ("1", "1", "2"):
        message = UserMessage(to_addr=to_addr, from_addr="9", content="x", transport_name=channel)
        await bench.put(names.inbound_queue(channel), message.to_wire())
    await bench.app.wait(2)
    await eventually(lambda: _is_empty(bench, channel))
    await bench.stop(router)
    assert await counted(bench, router) == {
        MESSAGES.field("inbound", "delivered"): 2, MESSAGES.field("inbound", "dropped"): 1, CALLBACKS.field("mo_url", "ok"): 2,
    }  # fmt: skip


async def test_what_a_destination_sends_and_nobody_can_read_is_counted(bench: Bench) -> None:
    channel = await bench.channel("loopback", {}, mo_url=None)
    destinations = {"one": {"config": {"regular_expression": "^1"}, "amqp_queue": f"app-{channel}"}}
    router = await bench.router("from_address", {"channel": channel}, destinations)
    await bench.running(router)
    await bench.broker.publish(names.outbound_queue(f"app-{channel}"), b"nonsense")
    await eventually(lambda: _has(bench, router, 1))
    await bench.stop(router)
    assert await counted(bench, router) == {GIVEN_UP.field("unreadable"): 1}


async def test_what_is_cancelled_and_what_nobody_can_read_of_it_is_counted(bench: Bench) -> None:
    channel = await bench.channel("loopback", {}, paused=True)
    await bench.running(channel)
    await bench.send(channel, "1", "x")
    await bench.broker.publish(names.outbound_queue(channel), b"nonsense")
    assert (await bench.asking.ask(channel, "cancel_all", 10.0))["cancelled"] == 1
    await bench.stop(channel)
    assert await counted(bench, channel) == {MESSAGES.field("outbound", "cancelled"): 1, GIVEN_UP.field("unreadable"): 1}


async def _is_empty(bench: Bench, channel: str) -> bool:
    return not await bench.length(names.inbound_queue(channel))


async def test_a_channel_that_rests_writes_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[Any] = []
    save = bench.stores.metrics.__class__.save

    async def watched(self: Any, *arguments: Any) -> None:
        saved.append(arguments[1])
        await save(self, *arguments)

    monkeypatch.setattr(bench.stores.metrics.__class__, "save", watched)
    channel = await bench.channel("loopback", {})
    await bench.running(channel)
    worker = bench._workers[channel]
    assert isinstance(worker, ChannelWorker)
    await eventually(lambda: len(saved) == 1, what="the first batch, which says that it is there")
    for _ in range(50):
        worker._metrics._next_at = 0.0
        worker._go_by_the_clock()
    assert len(saved) == 1
    assert worker._saving_metrics is None
    await bench.send(channel, "1", "x")
    await eventually(lambda: worker._metrics.counts[MESSAGES.field("outbound", "submitted")])
    worker._metrics._next_at = 0.0
    worker._go_by_the_clock()
    await eventually(lambda: len(saved) == 2)
    assert saved[1].counts[channel][MESSAGES.field("outbound", "submitted")] == 1


class _Log:
    trouble, lost_lines = "", 0


async def test_lost_log_lines_are_counted(bench: Bench) -> None:
    channel = await bench.channel("loopback", {})
    log: Any = _Log()
    worker = ChannelWorker(bench.settings, channel, Launch(), Redactor(), log)
    for lines in (0, 3, 3, 10):
        log.lost_lines = lines
        worker._tell_log(log)
    assert worker._metrics.counts[LOST_LINES.field("worker")] == 10
