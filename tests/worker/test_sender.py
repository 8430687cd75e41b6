"""What the worker makes of each outcome of `Transport.send` (DESIGN §3)."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from junebug import names
from junebug.amqp.confirm_channel import ConfirmChannel
from junebug.amqp.outbound_queue import list_queued
from junebug.amqp.publisher import Publisher
from junebug.amqp.rpc import RpcClient
from junebug.errors import JunebugError, NotSent, Rejected, StoreUnavailable, UnknownOutcome
from junebug.logs.tail import tail
from junebug.model.acceptance import OVER_AMQP
from junebug.model.messages import UserMessage, format_timestamp, new_id
from junebug.model.spec import ChannelSpec
from junebug.stores.outbound import OutboundStore
from junebug.transports.base import Accepted, Report, Transport
from junebug.worker import commands
from tests.polling import eventually
from tests.worker.conftest import Bench
from tests.worker.scripted import ScriptedTransport


async def channel_of(bench: Bench, **config: Any) -> str:
    channel = await bench.channel("scripted", config)
    await bench.running(channel)
    return channel


async def test_an_accepted_message_is_submitted_with_the_providers_id(
    bench: Bench, scripted: type[ScriptedTransport]
) -> None:
    channel = await channel_of(bench)
    await bench.send(channel, "1", "x", bench.app.url())
    (event,) = await bench.app.wait(1)
    assert (event["event_type"], event["event_details"]) == ("submitted", {"sent_message_id": "id-x"})


async def test_a_rejected_message_is_final(bench: Bench, scripted: type[ScriptedTransport]) -> None:
    scripted.outcomes.append(Rejected("ESME_RINVDSTADR"))
    channel = await channel_of(bench)
    await bench.send(channel, "1", "x", bench.app.url())
    (event,) = await bench.app.wait(1)
    assert (event["event_type"], event["event_details"]) == ("rejected", {"reason": "ESME_RINVDSTADR"})
    assert scripted.sent == []


@pytest.mark.parametrize("retry_after", [0.05, 1.2])
async def test_what_was_not_sent_is_kept_and_sent_in_order(
    bench: Bench, scripted: type[ScriptedTransport], retry_after: float
) -> None:
    scripted.outcomes.extend([NotSent("throttled", retry_after), NotSent("throttled", retry_after)])
    channel = await channel_of(bench)
    for number in range(5):
        await bench.send(channel, "1", str(number), bench.app.url())
    events = await bench.app.wait(5, timeout=20)
    assert {event["event_type"] for event in events} == {"submitted"}
    assert scripted.sent == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("error", [NotSent("busy", 0), NotSent("busy", -1), UnknownOutcome("hung up")])
async def test_a_provider_that_takes_nothing_is_not_hammered_whatever_the_transport_says(
    bench: Bench, scripted: type[ScriptedTransport], error: JunebugError
) -> None:
    scripted.outcomes.extend([error] * 1000)
    channel = await channel_of(bench)
    await bench.send(channel, "1", "x", bench.app.url())
    await eventually(lambda: len(scripted.outcomes) < 1000)
    await asyncio.sleep(1)
    assert 1000 - 6 <= len(scripted.outcomes) < 1000 - 2


async def test_what_comes_behind_a_message_that_goes_back_does_not_pass_it(
    bench: Bench, scripted: type[ScriptedTransport]
) -> None:
    scripted.outcomes.append(NotSent("no bind", 1.2))
    scripted.window = 2
    try:
        channel = await bench.channel("scripted", {}, paused=True)
        await bench.running(channel)
        for number in range(40):
            await bench.send(channel, "1", str(number))
        await change(bench, channel, paused=False)
        await eventually(lambda: len(scripted.sent) == 40)
    finally:
        scripted.window = 1
    assert scripted.sent == [str(number) for number in range(40)]


async def test_a_message_on_which_the_channel_fails_is_rejected_also_when_it_was_in_its_queue_between(
    bench: Bench, scripted: type[ScriptedTransport]
) -> None:
    """Else one that breaks the bind each time would block the channel for ever."""
    scripted.outcomes.extend([ValueError("a bug"), NotSent("no bind", 1.1), ValueError("a bug"), ValueError("a bug")])
    channel = await channel_of(bench)
    await bench.send(channel, "1", "faulty", bench.app.url())
    (event,) = await bench.app.wait(1)
    assert event["event_details"] == {"reason": "The channel failed on this message, see its log"}
    assert (list(scripted.outcomes), scripted.sent) == ([], [])


async def test_what_is_being_sent_meanwhile_is_sent_once(bench: Bench, scripted: type[ScriptedTransport]) -> None:
    scripted.window = 5
    release = asyncio.Event()
    scripted.outcomes.extend([release, NotSent("throttled", 1.2), release, NotSent("throttled", 1.2)])
    try:
        channel = await channel_of(bench)
        for number in range(20):
            await bench.send(channel, "1", str(number), bench.app.url())

        async def under_way() -> bool:
            return len(scripted.outcomes) <= 2

        await eventually(under_way)
        asyncio.get_running_loop().call_later(0.3, release.set)
        events = await bench.app.wait(20, timeout=20)
        assert not scripted.outcomes
    finally:
        scripted.window = 1
    assert Counter(scripted.sent) == Counter(str(number) for number in range(20))
    assert len({event["message_id"] for event in events}) == len(events) == 20


async def test_a_rate_limit_holds_and_changes_at_once(bench: Bench, scripted: type[ScriptedTransport]) -> None:
    channel = await bench.channel("scripted", {}, rate_limit_count=1, rate_limit_window=3600)
    await bench.running(channel)
    for number in range(10):
        await bench.send(channel, "1", str(number), bench.app.url())
    old = await bench.stores.channels.get(channel)
    assert scripted.sent == []  # a channel that has just started may have sent its share before
    new = ChannelSpec.from_properties(channel, old.to_properties() | {"rate_limit_count": None})
    await bench.stores.channels.update(old, new, restart=False)
    await bench.app.wait(10)
    assert scripted.sent == [str(number) for number in range(10)]


async def change(bench: Bench, channel: str, **properties: Any) -> None:
    """As the API changes a running channel."""
    old = await bench.stores.channels.get(channel)
    new = ChannelSpec.from_properties(channel, old.to_properties() | properties)
    await bench.stores.channels.update(old, new, restart=False)


async def ask(bench: Bench, channel: str, question: str, **arguments: Any) -> dict[str, Any]:
    """As an API process asks."""
    asking = RpcClient(bench.broker)
    asking.start()
    try:
        return await asking.ask(channel, question, 20, **arguments)
    finally:
        await asking.stop()


async def queued(bench: Bench, channel: str) -> int:
    return sum((await bench.broker.queue_lengths(names.PLAIN.queues(channel))).values())


# --- urgency ----------------------------------------------------------------------------------------------------------


async def test_the_urgent_go_first_also_past_those_that_are_here_already(
    bench: Bench, scripted: type[ScriptedTransport]
) -> None:
    first = asyncio.Event()
    scripted.outcomes.append(first)
    channel = await channel_of(bench)
    for number in range(100):  # more than are taken from RabbitMQ at once
        await bench.send(channel, "1", f"bulk {number}")

    async def under_way() -> bool:
        return not scripted.outcomes

    await eventually(under_way)
    for priority in (2, 5, 3, 5):
        await bench.send(channel, "1", f"priority {priority}", priority=priority)

    async def have_come() -> bool:
        return (await ask(bench, channel, "look"))["held"]["5"] == 2

    await eventually(have_come)
    first.set()

    async def all_sent() -> bool:
        return len(scripted.sent) == 104

    await eventually(all_sent)
    assert scripted.sent[:6] == ["bulk 0", "priority 5", "priority 5", "priority 3", "priority 2", "bulk 1"]
    assert scripted.sent[5:] == [f"bulk {number}" for number in range(1, 100)]


@pytest.mark.parametrize("burst", [1, 4])
async def test_no_more_than_a_burst_is_begun_before_the_transport_is_asked_anew(
    bench: Bench, scripted: type[ScriptedTransport], monkeypatch: pytest.MonkeyPatch, burst: int
) -> None:
    begun, gate, go_on = list[str | None](), asyncio.Event(), asyncio.Event()

    async def ready(transport: Transport) -> None:
        await gate.wait()

    async def begin(transport: Transport, message: UserMessage) -> str:
        begun.append(message.content)
        gate.clear()
        await go_on.wait()
        return "id"

    monkeypatch.setattr(scripted, "ready", ready)
    monkeypatch.setattr(scripted, "window", 10)
    monkeypatch.setattr(scripted, "burst", burst)
    scripted.outcomes.extend([begin] * 10)
    channel = await channel_of(bench)
    for number in range(10):
        await bench.send(channel, "1", str(number), bench.app.url())
    for done in (0, burst):

        async def are_held(left: int = 10 - done) -> bool:
            return (await ask(bench, channel, "look"))["held"]["1"] == left

        await eventually(are_held)
        gate.set()
        await eventually(lambda: len(begun) >= done + burst)  # noqa: B023
        assert len(begun) == done + burst
    go_on.set()
    while len(scripted.sent) < 10:
        gate.set()
        await asyncio.sleep(0.01)
    assert scripted.sent == [str(number) for number in range(10)]
    assert len(await bench.app.wait(10)) == 10


async def test_under_a_rate_limit_the_next_to_leave_is_the_most_urgent(
    bench: Bench, scripted: type[ScriptedTransport]
) -> None:
    channel = await bench.channel("scripted", {}, rate_limit_count=1, rate_limit_window=3600)
    await bench.running(channel)
    await bench.send(channel, "1", "bulk")

    async def is_held() -> bool:
        return (await ask(bench, channel, "look"))["held"]["1"] == 1

    await eventually(is_held)
    await bench.send(channel, "1", "code", priority=5)

    async def both_are_held() -> bool:
        return (await ask(bench, channel, "look"))["held"]["5"] == 1

    await eventually(both_are_held)
    await change(bench, channel, rate_limit_count=None)

    async def both_sent() -> bool:
        return len(scripted.sent) == 2

    await eventually(both_sent)
    assert scripted.sent == ["code", "bulk"]


# --- validity ---------------------------------------------------------------------------------------------------------


async def test_a_message_whose_time_is_over_is_not_sent(bench: Bench, scripted: type[ScriptedTransport]) -> None:
    channel = await channel_of(bench)
    await bench.send(channel, "1", "late", bench.app.url(), expires_at="2026-01-01 00:00:00.000000")
    await bench.send(channel, "1", "in time", bench.app.url(), expires_at="2999-01-01 00:00:00.000000")
    told = {event["event_type"]: event["event_details"] for event in await bench.app.wait(2)}
    assert told["delivery_failed"] == {"reason": "expired"}
    assert scripted.sent == ["in time"]


async def test_a_message_may_expire_between_two_attempts(bench: Bench, scripted: type[ScriptedTransport]) -> None:
    soon = format_timestamp(datetime.now(UTC) + timedelta(seconds=1))
    scripted.outcomes.extend([NotSent("throttled", 0.1)] * 1000)
    channel = await channel_of(bench)
    await bench.send(channel, "1", "x", bench.app.url(), expires_at=soon)
    (event,) = await bench.app.wait(1, timeout=20)
    assert (event["event_type"], event["event_details"]) == ("delivery_failed", {"reason": "expired"})
    assert scripted.sent == []


async def test_expired_messages_take_nothing_of_the_rate(bench: Bench, scripted: type[ScriptedTransport]) -> None:
    channel = await bench.channel("scripted", {}, rate_limit_count=20, rate_limit_window=1)
    await bench.running(channel)
    for number in range(200):
        await bench.send(channel, "1", str(number), expires_at="2026-01-01 00:00:00.000000")
    await bench.send(channel, "1", "in time", bench.app.url())
    await bench.app.wait(1)
    assert scripted.sent == ["in time"]


# --- queue control ----------------------------------------------------------------------------------------------------


async def test_a_paused_channel_sends_nothing_until_it_is_resumed(
    bench: Bench, scripted: type[ScriptedTransport]
) -> None:
    release = asyncio.Event()
    scripted.outcomes.append(release)
    channel = await channel_of(bench)
    for number in range(10):
        await bench.send(channel, "1", str(number), bench.app.url())

    async def under_way() -> bool:
        return not scripted.outcomes

    await eventually(under_way)
    await change(bench, channel, paused=True)

    async def is_paused() -> bool:
        return (await bench.component(channel, "outbound")).get("type") == "paused"

    await eventually(is_paused)
    release.set()  # what is under way is finished
    await bench.app.wait(1)
    assert await queued(bench, channel) == 9
    assert (await ask(bench, channel, "look"))["paused"] is True
    assert await bench.stop(channel) == 0
    bench.start(channel)  # it is still paused after a restart
    await bench.running(channel)
    assert await queued(bench, channel) == 9
    await change(bench, channel, paused=None)
    await bench.app.wait(10)
    assert scripted.sent[1:] == [str(number) for number in range(1, 10)]

    async def is_resumed() -> bool:
        told = await bench.component(channel, "outbound")
        return (told["status"], told["type"]) == ("ok", "resumed")

    await eventually(is_resumed)  # it sends before it says so


async def test_a_channel_resumed_while_it_has_no_process_says_so(bench: Bench, scripted: type[ScriptedTransport]) -> None:
    channel = await channel_of(bench)
    await bench.running(channel)
    await change(bench, channel, paused=True)

    async def told(type: str) -> bool:
        return (await bench.component(channel, "outbound")).get("type") == type

    await eventually(lambda: told("paused"))
    assert await bench.stop(channel) == 0
    await change(bench, channel, paused=None)
    bench.start(channel)
    await eventually(lambda: told("resumed"))
    await bench.send(channel, "1", "hello")
    await eventually(lambda: scripted.sent == ["hello"])


async def test_what_is_here_already_is_listed_and_cancelled_with_the_rest(
    bench: Bench, scripted: type[ScriptedTransport]
) -> None:
    release = asyncio.Event()
    scripted.outcomes.append(release)
    channel = await channel_of(bench)
    ids = [await bench.send(channel, "1", str(number), bench.app.url()) for number in range(200)]

    async def under_way() -> bool:
        return (await ask(bench, channel, "look"))["sending"]["1"] == 1

    await eventually(under_way)
    page = (await ask(bench, channel, "list", offset=0, limit=3))["messages"]
    assert [entry["message"]["content"] for entry in page] == ["1", "2", "3"]
    assert await ask(bench, channel, "cancel", message_id=ids[7]) == {"cancelled": True}
    assert await ask(bench, channel, "cancel", message_id=ids[0]) == {"cancelled": False}  # it is being sent
    rest = await ask(bench, channel, "cancel_all")
    assert rest == {"cancelled": 198, "remaining": 0, "sending": 1}
    release.set()
    events = await bench.app.wait(200)
    assert sum(event["event_details"] == {"reason": "cancelled"} for event in events) == 199
    assert {event["message_id"] for event in events} == set(ids)
    assert len(scripted.sent) == 1
    await bench.send(channel, "1", "and on it goes", bench.app.url())
    await bench.app.wait(201)
    assert scripted.sent[1:] == ["and on it goes"]


async def test_sending_goes_on_in_order_while_somebody_goes_through_the_queue(
    bench: Bench, scripted: type[ScriptedTransport], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, sent = asyncio.Event(), asyncio.Event()

    async def slow(*given: Any, **options: Any) -> Any:
        begun.set()
        found = await list_queued(*given, **options)
        await sent.wait()
        return found

    monkeypatch.setattr(commands, "list_queued", slow)
    release = asyncio.Event()
    scripted.outcomes.append(release)
    channel = await channel_of(bench)
    for number in range(200):
        await bench.send(channel, "1", str(number))

    async def is_in_hand() -> bool:
        return (await ask(bench, channel, "look"))["held"]["1"] == 49

    await eventually(is_in_hand)
    listing = asyncio.create_task(ask(bench, channel, "list", offset=10, limit=100))
    await begun.wait()
    release.set()

    async def all_in_hand_is_sent() -> bool:
        return len(scripted.sent) == 50

    await eventually(all_in_hand_is_sent)
    sent.set()
    page = (await listing)["messages"]
    assert [entry["message"]["content"] for entry in page] == [str(number) for number in range(11, 111)]

    async def all_are_sent() -> bool:
        return len(scripted.sent) == 200

    await eventually(all_are_sent)
    assert scripted.sent == [str(number) for number in range(200)]


async def test_a_message_cancelled_while_no_worker_ran_is_rejected_when_its_turn_comes(
    bench: Bench, scripted: type[ScriptedTransport]
) -> None:
    channel = await channel_of(bench)
    assert await bench.stop(channel) == 0
    ids = [await bench.send(channel, "1", str(number), bench.app.url()) for number in range(3)]
    assert await bench.stores.cancellations.note(channel, ids[1], OVER_AMQP)
    bench.start(channel)
    events = await bench.app.wait(3)
    assert scripted.sent == ["0", "2"]
    assert {event["message_id"]: event["event_type"] for event in events} == {
        ids[0]: "submitted", ids[1]: "rejected", ids[2]: "submitted"
    }  # fmt: skip

    async def is_done() -> bool:  # kept for a while: a crash may bring the message once more
        return await bench.stores.cancellations.ids(channel) == {ids[1]}

    await eventually(is_done)


async def test_a_message_cancelled_while_the_link_was_lost_is_rejected_when_its_turn_comes(
    bench: Bench, scripted: type[ScriptedTransport]
) -> None:
    release = asyncio.Event()
    scripted.outcomes.append(release)
    channel = await channel_of(bench)
    first = await bench.send(channel, "1", "first", bench.app.url())
    await eventually(lambda: not scripted.outcomes)
    cancelled = await bench.send(channel, "1", "cancelled", bench.app.url())
    assert await bench.stores.cancellations.note(channel, cancelled, OVER_AMQP)
    await bench._workers[channel]._broker._connection.link.close()
    release.set()

    async def is_done() -> bool:
        return {event["message_id"] for event in bench.app.received} == {first, cancelled}

    await eventually(is_done)
    assert {event["event_type"] for event in bench.app.received if event["message_id"] == cancelled} == {"rejected"}
    assert "cancelled" not in scripted.sent


async def test_one_of_many_is_cancelled_without_going_through_them(
    bench: Bench, scripted: type[ScriptedTransport], monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = await channel_of(bench)
    await change(bench, channel, paused=True)

    async def is_paused() -> bool:
        return (await bench.component(channel, "outbound")).get("type") == "paused"

    await eventually(is_paused)
    ids = [await bench.send(channel, "1", str(number), bench.app.url()) for number in range(300)]
    monkeypatch.setattr("junebug.amqp.browse._browse", None)
    assert await bench.stores.cancellations.note(channel, ids[250], OVER_AMQP)
    assert await ask(bench, channel, "cancel", message_id=ids[250]) == {"cancelled": True}
    await change(bench, channel, paused=False)
    await bench.app.wait(300)
    assert scripted.sent == [str(number) for number in range(300) if number != 250]


async def test_a_rate_limit_does_not_hold_up_the_stop(bench: Bench, scripted: type[ScriptedTransport]) -> None:
    channel = await bench.channel("scripted", {}, rate_limit_count=1, rate_limit_window=3600)
    await bench.running(channel)
    for number in range(3):
        await bench.send(channel, "1", str(number))
    assert await asyncio.wait_for(bench.stop(channel), 3) == 0
    assert await bench.broker.queue_length(names.outbound_queue(channel)) == 3
    assert scripted.sent == []


async def test_a_transport_may_keep_its_acks_to_itself(bench: Bench, scripted: type[ScriptedTransport]) -> None:
    scripted.acks = False
    try:
        channel = await channel_of(bench)
        scripted.outcomes.extend(["id", Rejected("no")])
        await bench.send(channel, "1", "accepted", bench.app.url())
        await bench.send(channel, "1", "rejected", bench.app.url())
        (event,) = await bench.app.wait(1)
        assert event["event_type"] == "rejected"

        async def drained() -> bool:
            return await bench.broker.queue_length(names.outbound_queue(channel)) == 0

        await eventually(drained)
        assert len(bench.app.received) == 1
    finally:
        scripted.acks = True


# --- the order of its events --------------------------------------------------------------------------------------------


async def test_what_the_provider_said_at_once_comes_behind_submitted(
    bench: Bench, scripted: type[ScriptedTransport]
) -> None:
    noted = asyncio.Event()

    async def on_reported() -> None:
        noted.set()

    accepted = Accepted("id", (Report("pending"), Report("delivered", {"state": "DELIVRD"})), on_reported)
    scripted.outcomes.append(accepted)
    channel = await channel_of(bench)
    message_id = await bench.send(channel, "1", "x", bench.app.url())
    assert types(await bench.app.wait(3)) == ["submitted", "delivery_pending", "delivery_succeeded"]
    assert bench.app.received[2]["event_details"] == {"state": "DELIVRD"}
    await asyncio.wait_for(noted.wait(), 10)
    last = (await bench.stores.outbound.events(channel, message_id))[-1]
    assert last.api_type == "delivery_succeeded"


async def test_what_is_reported_is_noted_only_once_rabbitmq_has_it(
    bench: Bench, scripted: type[ScriptedTransport], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash between the two repeats the report; the other way round it was lost."""
    steps: list[str] = []
    publish = Publisher.publish_surely

    async def confirmed(self: Publisher, queue: str, bodies: Sequence[bytes], **options: Any) -> None:
        await publish(self, queue, bodies, **options)
        if queue.endswith(".event"):
            steps.append("confirmed")

    async def on_reported() -> None:
        steps.append("noted")

    monkeypatch.setattr(Publisher, "publish_surely", confirmed)
    scripted.outcomes.append(Accepted("id", (Report("delivered"),), on_reported))
    channel = await channel_of(bench)
    await bench.send(channel, "1", "x", bench.app.url())
    await eventually(lambda: len(steps) == 2)
    assert steps == ["confirmed", "noted"]


async def test_a_report_from_within_send_comes_behind_submitted(bench: Bench, scripted: type[ScriptedTransport]) -> None:
    async def report_and_accept(transport: Transport, message: UserMessage) -> str:
        await transport.context.delivery_report(message.message_id, "delivered")
        return "id"

    scripted.outcomes.append(report_and_accept)
    channel = await channel_of(bench)
    message_id = await bench.send(channel, "1", "x", bench.app.url())
    assert types(await bench.app.wait(2)) == ["submitted", "delivery_succeeded"]
    assert [each.event_type for each in await bench.stores.outbound.events(channel, message_id)] == ["ack", "delivery_report"]


async def test_a_report_while_a_message_is_in_hand_waits_for_submitted(
    bench: Bench, scripted: type[ScriptedTransport]
) -> None:
    """As a receipt that overtakes the response, or the ack on its way to RabbitMQ."""
    reports: list[asyncio.Task[None]] = []

    async def be_reported(transport: Transport, message: UserMessage) -> str:
        reports.append(asyncio.create_task(transport.context.delivery_report(message.message_id, "delivered")))
        await asyncio.sleep(0)
        return "id"

    scripted.outcomes.extend([be_reported] * 20)
    channel = await channel_of(bench)
    ids = [await bench.send(channel, "1", "x", bench.app.url()) for _ in range(20)]
    received = await bench.app.wait(40)
    await asyncio.gather(*reports)
    for message_id in ids:
        told = [event for event in received if event["message_id"] == message_id]
        assert types(told) == ["submitted", "delivery_succeeded"]
        last = (await bench.stores.outbound.events(channel, message_id))[-1]
        assert last.api_type == "delivery_succeeded"


async def test_a_send_that_never_returns_is_an_unknown_outcome(
    bench: Bench, scripted: type[ScriptedTransport], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scripted, "send_timeout", 0.2)
    scripted.outcomes.append(asyncio.Event())
    channel = await channel_of(bench, on_unknown="fail")
    await bench.send(channel, "1", "x", bench.app.url())
    (event,) = await bench.app.wait(1)
    assert event["event_details"] == {"reason": "Outcome unknown: the channel did nothing with it for 0.2 seconds"}


def types(received: list[dict[str, Any]]) -> list[str]:
    return [event["event_type"] for event in received]


async def test_an_unknown_outcome_is_sent_again(bench: Bench, scripted: type[ScriptedTransport]) -> None:
    scripted.outcomes.append(UnknownOutcome("the link died"))
    channel = await channel_of(bench)
    await bench.send(channel, "1", "x", bench.app.url())
    assert (await bench.app.wait(1))[0]["event_type"] == "submitted"
    assert scripted.sent == ["x"]


async def test_an_unknown_outcome_fails_where_the_channel_says_so(
    bench: Bench, scripted: type[ScriptedTransport]
) -> None:
    scripted.outcomes.append(UnknownOutcome("the link died"))
    channel = await channel_of(bench, on_unknown="fail")
    await bench.send(channel, "1", "x", bench.app.url())
    (event,) = await bench.app.wait(1)
    assert event["event_details"] == {"reason": "Outcome unknown: the link died"}


async def test_a_message_on_which_the_transport_fails_blocks_nobody_for_ever(
    bench: Bench, scripted: type[ScriptedTransport]
) -> None:
    scripted.outcomes.extend([ValueError("a bug")] * 3)
    channel = await channel_of(bench)
    await bench.send(channel, "1", "bad", bench.app.url())
    await bench.send(channel, "1", "good", bench.app.url())
    first, second = await bench.app.wait(2, timeout=20)
    assert (first["event_type"], second["event_type"]) == ("rejected", "submitted")
    (failure, *_) = [entry for entry in tail(bench.settings.channel_log_path(channel), 100) if "exception" in entry] or [{}]
    assert not failure or failure["exception"]["class"] == "ValueError"


async def test_a_send_under_way_at_a_stop_is_finished(bench: Bench, scripted: type[ScriptedTransport]) -> None:
    release = asyncio.Event()
    scripted.outcomes.append(release)
    channel = await channel_of(bench)
    message_id = await bench.send(channel, "1", "slow")
    await bench.send(channel, "1", "next")

    async def under_way() -> bool:
        return not scripted.outcomes

    await eventually(under_way)
    stopping = asyncio.create_task(bench.stop(channel))
    asyncio.get_running_loop().call_later(0.3, release.set)
    assert await stopping == 0
    assert scripted.sent == ["slow"]
    queued = [await bench.broker.queue_length(queue(channel)) for queue in (names.outbound_queue, names.event_queue)]
    events = await bench.stores.outbound.events(channel, message_id)
    assert queued[0] == 1
    assert (queued[1], len(events)) in [(1, 0), (0, 1), (1, 1)]  # both: the forwarder stopped before it took it off its queue


def events_told(monkeypatch: pytest.MonkeyPatch, channel: str) -> list[bytes]:
    """What is published from now on to the channel's queue of events."""
    told: list[bytes] = []
    publish = ConfirmChannel.publish

    async def noted(self: ConfirmChannel, exchange: str, routing_key: str, bodies: Sequence[bytes], *more: Any) -> None:
        if routing_key == names.event_queue(channel):
            told.extend(bodies)
        await publish(self, exchange, routing_key, bodies, *more)

    monkeypatch.setattr(ConfirmChannel, "publish", noted)
    return told


async def reported(self: ScriptedTransport, message: UserMessage) -> str:
    """Its receipt comes a moment after it."""
    report = self.context.delivery_report(message.message_id, "delivered")
    asyncio.get_running_loop().call_later(0.01, lambda: asyncio.create_task(report))
    return "id"


async def has_events(bench: Bench, channel: str, message_id: str) -> None:
    async def both() -> bool:
        events = await bench.stores.outbound.events(channel, message_id)
        return [event.event_type for event in events] == ["ack", "delivery_report"]

    await eventually(both)


@pytest.mark.parametrize("amqp_queue", [None, "app"])
async def test_events_that_nobody_is_told_of_are_only_kept(
    bench: Bench, scripted: type[ScriptedTransport], monkeypatch: pytest.MonkeyPatch, amqp_queue: str | None
) -> None:
    scripted.outcomes.append(reported)
    app_queue = amqp_queue and f"{amqp_queue}-{new_id()}"
    channel = await bench.channel("scripted", {}, amqp_queue=app_queue)
    await bench.running(channel)
    told = events_told(monkeypatch, channel)
    await has_events(bench, channel, await bench.send(channel, "1", "x"))
    assert len(told) == (2 if amqp_queue else 0)
    if app_queue:
        await bench.broker.delete_queues([names.event_queue(app_queue), names.outbound_queue(app_queue)])

    async def counted() -> bool:
        rates = await bench.stores.rates.rates(channel)
        return rates["submitted"] > 0 and rates["delivery_succeeded"] > 0

    await eventually(counted)


async def test_while_redis_is_away_events_of_all_messages_wait_on_rabbitmq(
    bench: Bench, scripted: type[ScriptedTransport], monkeypatch: pytest.MonkeyPatch
) -> None:
    add_events = OutboundStore.add_events
    failures = 1

    async def away(self: OutboundStore, *args: Any) -> Any:
        nonlocal failures
        if failures:
            failures -= 1
            raise StoreUnavailable("a test says so")
        return await add_events(self, *args)

    monkeypatch.setattr(OutboundStore, "add_events", away)
    scripted.outcomes.append(reported)
    channel = await channel_of(bench)
    told = events_told(monkeypatch, channel)
    await has_events(bench, channel, await bench.send(channel, "1", "x"))
    assert len(told) == 2


async def test_a_send_that_never_ends_does_not_hold_up_the_stop(
    bench: Bench, scripted: type[ScriptedTransport]
) -> None:
    bench.settings = dataclasses.replace(bench.settings, stop_timeout=2.0)
    scripted.outcomes.append(asyncio.Event())
    channel = await channel_of(bench)
    await bench.send(channel, "1", "stuck")

    async def under_way() -> bool:
        return not scripted.outcomes

    await eventually(under_way)
    assert await bench.stop(channel) == 0
    assert await bench.broker.queue_length(names.outbound_queue(channel)) == 1


async def test_what_was_not_sent_does_not_hold_up_the_stop(bench: Bench, scripted: type[ScriptedTransport]) -> None:
    """It is back in its queue. The stop would wait for what is being sent for longer than this test does."""
    bench.settings = dataclasses.replace(bench.settings, stop_timeout=600.0)
    scripted.outcomes.append(NotSent("no bind", 3600))
    channel = await channel_of(bench)
    await bench.send(channel, "1", "waits")

    async def is_back() -> bool:
        return await queued(bench, channel) == 1 and (await ask(bench, channel, "look"))["sending"]["1"] == 0

    await eventually(is_back)
    assert await bench.stop(channel) == 0
    assert await queued(bench, channel) == 1


async def test_a_transport_that_cannot_start_says_so_without_its_secret(
    bench: Bench, scripted: type[ScriptedTransport]
) -> None:
    channel = await bench.channel("scripted", {"password": "sesame", "log_password": True})
    assert await asyncio.wait_for(bench.workers[channel], 10) == 1
    status = await bench.component(channel, "scripted")
    assert (status["status"], status["type"]) == ("down", "cannot_start")
    assert "sesame" not in str(status)
    assert "wrong password" in status["message"]
