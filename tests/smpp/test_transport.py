"""A channel of type smpp between RabbitMQ, Redis and a simulated SMSC: what goes out, what comes back, what is said of it."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from junebug import names
from junebug.logs.redaction import Redactor
from junebug.logs.setup import setup_channel_logging
from junebug.logs.tail import tail
from junebug.model.identity import Identity, identity_of
from junebug.model.messages import UserMessage, format_timestamp
from junebug.model.spec import ChannelSpec
from junebug.runtime.service import EXIT_FAILED
from junebug.smpp import bind
from junebug.smpp import constants as c
from junebug.smpp.pdu import DeliverSm, SubmitSm
from junebug.smpp.simulator.messages import receipt_of
from junebug.smpp.simulator.smsc import Smsc, SmscOptions
from junebug.transports.smpp import transport
from junebug.transports.smpp.pdu_line import show
from junebug.transports.smpp.transport import SmppTransport
from junebug.worker.outbound.rate_limit import Window
from tests.polling import eventually
from tests.worker.conftest import Bench

TO = "27820001111"
LONG = "".join(f"{number:04}" for number in range(100))
OPTIONS = SmscOptions(port=0, system_id="me", password="sesame", receipt_delay=0.05, retry_delay=0.1)


@pytest.fixture
async def smsc() -> AsyncIterator[Smsc]:
    async with Smsc(OPTIONS) as smsc:
        yield smsc


def configure(smsc: Smsc, **options: Any) -> None:
    smsc.options = dataclasses.replace(smsc.options, **options)


async def channel(bench: Bench, smsc: Smsc, *, wait: bool = True, **options: Any) -> str:
    """A channel that is bound."""
    config = {
        "host": "127.0.0.1",
        "port": smsc.port,
        "system_id": "me",
        "password": "sesame",
        "initial_reconnect_delay": 0.1,
        "max_reconnect_delay": 0.5,
        **options,
    }
    created = await bench.channel("smpp", config)
    await bench.running(created)
    if wait:
        await status(bench, created, "bound")
    return created


async def status(bench: Bench, channel: str, type: str) -> dict[str, Any]:
    async def reached() -> dict[str, Any] | None:
        component = await bench.component(channel, "smpp")
        return component if component.get("type") == type else None

    found: dict[str, Any] = await eventually(reached)
    return found


async def send(bench: Bench, channel: str, content: str, to: str = TO, **fields: Any) -> str:
    return await bench.send(channel, to, content, bench.app.url("/event"), **fields)


def events(bench: Bench, message_id: str) -> list[dict[str, Any]]:
    return [each for each in bench.app.received if each["message_id"] == message_id and "event_type" in each]


async def event(bench: Bench, message_id: str, event_type: str) -> dict[str, Any]:
    async def come() -> dict[str, Any] | None:
        return next((each for each in events(bench, message_id) if each["event_type"] == event_type), None)

    found: dict[str, Any] = await eventually(come)
    return found


async def inbound(bench: Bench, count: int = 1) -> list[dict[str, Any]]:
    async def come() -> list[dict[str, Any]]:
        found = [each for each in bench.app.received if "content" in each]
        return found if len(found) >= count else []

    found: list[dict[str, Any]] = await eventually(come)
    return found


# --- out ------------------------------------------------------------------------------------------------------------------


async def test_a_message_is_submitted_accepted_and_delivered(bench: Bench, smsc: Smsc) -> None:
    created = await channel(bench, smsc)
    message_id = await send(bench, created, "Hello @ €")
    submitted = await event(bench, message_id, "submitted")
    delivered = await event(bench, message_id, "delivery_succeeded")
    (message,) = smsc.messages.values()
    assert isinstance(message.pdu, SubmitSm)
    assert (message.content, message.destination_addr, message.pdu.registered_delivery) == ("Hello @ €", TO, 1)
    assert submitted["event_details"] == {"sent_message_id": message.message_id}
    assert delivered["event_details"]["sent_message_id"] == message.message_id
    assert delivered["event_details"]["error_code"] == "000"
    assert delivered["event_details"]["done_date"]


async def test_a_long_one_is_one_message(bench: Bench, smsc: Smsc) -> None:
    created = await channel(bench, smsc)
    message_id = await send(bench, created, LONG)
    delivered = await event(bench, message_id, "delivery_succeeded")
    assert "".join(message.content for message in smsc.messages.values()) == LONG
    assert delivered["event_details"]["parts"] == 3
    assert [each["event_type"] for each in events(bench, message_id)] == ["submitted", "delivery_succeeded"]
    assert events(bench, message_id)[0]["event_details"]["sent_message_id"] == ",".join(smsc.messages)


async def test_a_message_that_expires_in_the_line_is_not_submitted(bench: Bench, smsc: Smsc) -> None:
    created = await channel(bench, smsc, mt_tps=1)
    soon = format_timestamp(datetime.now(UTC) + timedelta(seconds=0.5))
    await send(bench, created, LONG)  # three parts, so two seconds before the next may leave
    message_id = await send(bench, created, "late", expires_at=soon)
    told = await event(bench, message_id, "delivery_failed")
    assert told["event_details"] == {"reason": "expired"}
    assert "late" not in [message.content for message in smsc.messages.values()]


async def test_an_urgent_message_overtakes_those_that_the_smsc_makes_wait(bench: Bench, smsc: Smsc) -> None:
    created = await channel(bench, smsc, mt_tps=1, window_size=1)
    for number in range(20):
        await send(bench, created, f"bulk {number}")
    await send(bench, created, "code", priority=5)

    def contents() -> list[str]:
        return [message.content for message in smsc.messages.values()]

    await eventually(_async(lambda: "code" in contents()), 30)
    before = contents()[: contents().index("code")]
    assert len(before) < 20
    assert before == [f"bulk {number}" for number in range(len(before))]


async def test_order_is_kept(bench: Bench, smsc: Smsc) -> None:
    created = await channel(bench, smsc, registered_delivery=False)
    contents = [f"{number}" if number % 5 else LONG for number in range(100)]
    ids = [await send(bench, created, content) for content in contents]
    await event(bench, ids[-1], "submitted")
    assert "".join(message.content for message in smsc.messages.values()) == "".join(contents)


@pytest.mark.parametrize("window", [1, 10])
async def test_throttling_loses_nothing(bench: Bench, smsc: Smsc, window: int) -> None:
    configure(smsc, throttle_every=4)
    created = await channel(bench, smsc, throttle_delay=0.02, window_size=window, registered_delivery=False)
    ids = [await send(bench, created, f"{number}") for number in range(30)]
    for message_id in ids:
        await event(bench, message_id, "submitted")
    contents = [message.content for message in smsc.messages.values()]
    assert Counter(contents) == Counter(f"{number}" for number in range(30))
    if window == 1:
        assert contents == [f"{number}" for number in range(30)]
    assert len(bench.app.received) == 30
    assert (await bench.component(created, "smpp"))["type"] in ("throttled", "throttled_end")


async def nothing_more_leaves(bench: Bench, smsc: Smsc, submitted: int) -> None:
    """While a message from a phone is taken and given to the application; by then more would have come."""
    smsc.mo(TO, "8000", "still heard")
    await inbound(bench)
    await eventually(_async(lambda: smsc.counts["mos_acknowledged"]))
    assert len(smsc.messages) == submitted


async def test_a_rate_is_kept_to(bench: Bench, smsc: Smsc) -> None:
    created = await channel(bench, smsc, mt_tps=0.001, registered_delivery=False)
    await event(bench, await send(bench, created, "first"), "submitted")
    await send(bench, created, "second")
    await nothing_more_leaves(bench, smsc, 1)


async def test_a_rate_limit_counts_parts(bench: Bench, smsc: Smsc) -> None:
    created = await channel(bench, smsc, registered_delivery=False)
    old = await bench.stores.channels.get(created)
    limited = ChannelSpec.from_properties(
        created, old.to_properties() | {"rate_limit_count": 4, "rate_limit_window": 3600, "label": "limited"}
    )
    await bench.stores.channels.update(old, limited, restart=False)
    rate_limit = bench._workers[created]._rate_limit

    async def applied() -> bool:
        return rate_limit._limit == (4, 3600)

    await eventually(applied)
    hour_ago = asyncio.get_running_loop().time() - 3600
    rate_limit._window = Window(4, 3600, hour_ago)  # nothing has left since: four may
    await event(bench, await send(bench, created, LONG), "submitted")
    await send(bench, created, LONG)
    await nothing_more_leaves(bench, smsc, 3)  # of the second message's three parts but one may leave


async def test_a_refusal_is_final_and_named(bench: Bench, smsc: Smsc) -> None:
    configure(smsc, refuse_every=1, refuse_status=c.ESME_RINVDSTADR)
    created = await channel(bench, smsc)
    message_id = await send(bench, created, LONG)
    rejected = await event(bench, message_id, "rejected")
    assert rejected["event_details"] == {"reason": "ESME_RINVDSTADR"}
    assert (await status(bench, created, "bound"))["status"] == "ok"
    assert len(events(bench, message_id)) == 1


async def test_what_cannot_be_sent_is_rejected(bench: Bench, smsc: Smsc) -> None:
    created = await channel(bench, smsc)
    too_long = await send(bench, created, "Hi", to="1" * 30)
    assert "destination_addr" in (await event(bench, too_long, "rejected"))["event_details"]["reason"]
    odd = await send(bench, created, "Hi", to="ж")
    assert (await event(bench, odd, "rejected"))["event_details"]["reason"] == "Invalid to_addr: ж"


@pytest.mark.parametrize(
    ("smpp", "field"),
    [
        ({"encoding": 8}, "channel_data.smpp.encoding: "),
        ({"encoding": ["ucs2"]}, "channel_data.smpp.encoding: "),
        ({"validity_period": "²"}, "channel_data.smpp.validity_period: "),
        ({"service_type": []}, "channel_data.smpp.service_type: "),
        ({"tlvs": {"0x1401": "hex:0"}}, "channel_data.smpp.tlvs.0x1401: "),
        ("fast", "channel_data.smpp: "),
    ],
)
async def test_channel_data_that_cannot_be_rejects_a_message_that_came_over_amqp_with_the_reason(
    bench: Bench, smsc: Smsc, capsys: pytest.CaptureFixture[str], smpp: Any, field: str
) -> None:
    created = await channel(bench, smsc)
    message_id = await send(bench, created, "Hi", helper_metadata={"smpp": smpp})
    rejected = await event(bench, message_id, "rejected")
    assert rejected["event_details"]["reason"].startswith(field)
    assert "Traceback" not in capsys.readouterr().out
    assert smsc.messages == {}


async def test_an_id_that_comes_again_is_the_same_message_or_is_sent(
    bench: Bench, smsc: Smsc, capsys: pytest.CaptureFixture[str]
) -> None:
    created = await channel(bench, smsc)
    message_id = "1" * 32
    for number, (content, to, smpp) in enumerate([
        ("one", TO, {}), ("one", TO, {}), ("two", TO, {}), ("two", "27820002222", {}), ("two", TO, {"service_type": "WAP"}),
        ("one", TO, {}),
    ]):  # fmt: skip
        await send(bench, created, content, to, message_id=message_id, helper_metadata={"smpp": smpp} if smpp else {})

        async def is_submitted(times: int = number + 1) -> bool:
            return [each["event_type"] for each in events(bench, message_id)].count("submitted") == times

        await eventually(is_submitted)
    assert [message.content for message in smsc.messages.values()] == ["one", "two", "two", "two"]
    assert capsys.readouterr().out.count("accepted before: it is not sent again, but its event is") == 2


async def test_a_temporary_refusal_is_tried_again(bench: Bench, smsc: Smsc) -> None:
    configure(smsc, refuse_every=4, refuse_status=c.ESME_RX_T_APPN)
    created = await channel(bench, smsc, retry_delay=0.05)
    ids = [await send(bench, created, f"{number}") for number in range(6)]
    for message_id in ids:
        await event(bench, message_id, "submitted")
    assert len(smsc.messages) == 6


async def test_and_rejected_in_the_end(bench: Bench, smsc: Smsc) -> None:
    configure(smsc, refuse_every=1, refuse_status=c.ESME_RX_T_APPN)
    created = await channel(bench, smsc, retry_delay=0.05)
    message_id = await send(bench, created, "Hi")
    assert (await event(bench, message_id, "rejected"))["event_details"]["reason"] == "ESME_RX_T_APPN"


async def test_a_lost_link_loses_no_message(bench: Bench, smsc: Smsc) -> None:
    configure(smsc, drop_every=7)
    created = await channel(bench, smsc, window_size=4)
    contents = [f"{number}" for number in range(30)]
    ids = [await send(bench, created, content) for content in contents]
    for message_id in ids:
        await event(bench, message_id, "delivery_succeeded")
    assert {message.content for message in smsc.messages.values()} == set(contents)
    for message_id in ids:
        assert [each["event_type"] for each in events(bench, message_id)].count("submitted") == 1


async def test_several_binds_share_what_is_sent_and_keep_each_phones_order(bench: Bench, smsc: Smsc) -> None:
    created = await channel(bench, smsc, binds=4, window_size=10)
    assert smsc.counts["binds"] == 4
    phones = [f"+2782000{number:04}" for number in range(12)]
    used: dict[str, set[int]] = {}
    accept = smsc._accept

    def accepted(client: Any, pdu: Any) -> Any:
        used.setdefault(pdu.destination_addr, set()).add(id(client))
        return accept(client, pdu)

    smsc._accept = accepted  # type: ignore[method-assign]
    ids = [await send(bench, created, f"{number}", to=phones[number % 12]) for number in range(60)]
    for message_id in ids:
        await event(bench, message_id, "delivery_succeeded")
    assert {len(clients) for clients in used.values()} == {1}
    assert len(set.union(*used.values())) > 1
    for place in range(12):
        contents = [message.content for message in smsc.messages.values() if message.destination_addr == phones[place]]
        assert contents == [str(number) for number in range(place, 60, 12)]


async def test_of_several_binds_a_lost_one_is_a_degraded_status_and_costs_nothing(bench: Bench, smsc: Smsc) -> None:
    created = await channel(bench, smsc, binds=3, initial_reconnect_delay=2, max_reconnect_delay=2)
    smsc.clients[0].session.abort()
    lost = await status(bench, created, "binds_missing")
    assert (lost["status"], lost["details"]["bound"], lost["details"]["binds"]) == ("degraded", 2, 3)
    ids = [await send(bench, created, f"{number}", to=f"+2782000000{number}") for number in range(10)]
    for message_id in ids:
        await event(bench, message_id, "delivery_succeeded")
    assert (await status(bench, created, "bound"))["details"]["bound"] == 3
    smsc.drop_connections()
    assert (await status(bench, created, "connection_lost"))["status"] == "down"
    await event(bench, await send(bench, created, "waits for a bind"), "delivery_succeeded")
    await status(bench, created, "bound")
    assert await bench.stop(created) == 0
    assert smsc.clients == []
    told = [each["type"] for each in bench.app.received if each.get("component") == "smpp"]
    assert told.count("unbinding") <= 1


async def test_an_unknown_outcome_can_be_a_rejection(bench: Bench, smsc: Smsc) -> None:
    configure(smsc, silent_every=1)
    created = await channel(bench, smsc, on_unknown="fail", response_timeout=0.3)
    message_id = await send(bench, created, "Hi")
    assert "Outcome unknown" in (await event(bench, message_id, "rejected"))["event_details"]["reason"]


async def test_messages_wait_for_the_smsc(bench: Bench, smsc: Smsc) -> None:
    created = await channel(bench, smsc)
    await smsc.stop()
    await status(bench, created, "connection_lost")
    ids = [await send(bench, created, f"{number}") for number in range(5)]
    assert (await bench.component(created, "smpp"))["status"] == "down"
    await smsc.start()
    for message_id in ids:
        await event(bench, message_id, "submitted")
    assert [message.content for message in smsc.messages.values()] == ["0", "1", "2", "3", "4"]


async def test_for_long_they_wait_in_their_queue(
    bench: Bench, smsc: Smsc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SmppTransport, "bind_patience", 0.3)
    monkeypatch.setattr(SmppTransport, "shortest_pause", 1.1)
    created = await channel(bench, smsc)
    await smsc.stop()
    await status(bench, created, "connection_lost")
    ids = [await send(bench, created, f"{number}") for number in range(20)]

    async def back() -> bool:
        return await bench.broker.queue_length(names.outbound_queue(created)) == 20

    await eventually(back)
    await smsc.start()
    for message_id in ids:
        await event(bench, message_id, "submitted")
    assert [message.content for message in smsc.messages.values()] == [f"{number}" for number in range(20)]
    assert len([each for each in bench.app.received if each["event_type"] == "submitted"]) == 20


async def test_a_receiver_sends_nothing(bench: Bench, smsc: Smsc) -> None:
    created = await channel(bench, smsc, bind_mode="receiver")
    message_id = await send(bench, created, "Hi")
    assert "receiver" in (await event(bench, message_id, "rejected"))["event_details"]["reason"]


async def test_what_was_accepted_of_a_message_under_way_is_not_forgotten_for_others(
    bench: Bench, smsc: Smsc, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Part 2 of 3 is refused for now; until it is tried again, more others are sent than are remembered."""
    monkeypatch.setattr(transport, "MAX_REMEMBERED", 3)
    refused: list[str] = []
    status = smsc._status

    def refuse_once(pdu: Any) -> int:
        text = bytes(pdu.short_message)
        if b"\x03\x02" in text[3:6] and not refused:
            refused.append("")
            return c.ESME_RX_T_APPN
        return status(pdu)

    monkeypatch.setattr(smsc, "_status", refuse_once)
    created = await channel(bench, smsc, retry_delay=0.9, window_size=5)
    message_id = await send(bench, created, LONG)
    await eventually(_async(lambda: refused))
    others = [await send(bench, created, f"{number}") for number in range(10)]
    for other in others:
        await event(bench, other, "submitted")
    await event(bench, message_id, "submitted")
    parts = [message.content for message in smsc.messages.values() if len(message.content) > 2]
    assert len(parts) == 3
    assert {*parts} == {LONG[:153], LONG[153:306], LONG[306:]}


async def test_what_is_in_flight_is_not_forgotten_for_those_that_wait(
    bench: Bench, smsc: Smsc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "MAX_REMEMBERED", 3)
    created = await channel(bench, smsc)
    smpp: Any = bench._workers[created]._transport

    def begin(text: str) -> Identity:
        message = UserMessage(to_addr=TO, from_addr=None, content=text, transport_name=created)
        identity = identity_of(message)
        smpp._begin(message, identity)
        return identity

    in_flight = begin("in flight")
    for number in range(100):
        smpp._unfinished[begin(str(number))].in_send = False
    assert in_flight in smpp._unfinished
    assert len(smpp._unfinished) <= 3 + smpp.window


async def test_a_message_that_waits_for_the_bind_goes_back_at_a_stop(
    bench: Bench, smsc: Smsc, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once. The stop would wait for what is being sent for longer than this test does."""
    monkeypatch.setattr(SmppTransport, "bind_patience", 600.0)
    bench.settings = dataclasses.replace(bench.settings, stop_timeout=600.0)
    configure(smsc, silent_every=1)
    # no attempt meanwhile, which would notice the stop, too
    created = await channel(bench, smsc, initial_reconnect_delay=300.0, max_reconnect_delay=300.0)
    await send(bench, created, "waits")
    await eventually(_async(lambda: smsc.counts["unanswered"]))
    await smsc.stop()
    await status(bench, created, "connection_lost")
    log = setup_channel_logging(
        bench.settings.channel_log_path("under-test"), "under-test", Redactor(), rotate_size=1_000_000, max_files=2
    )
    try:
        assert await bench.stop(created) == 0
    finally:
        log.close()
    assert await bench.broker.queue_length(names.outbound_queue(created)) == 1
    said = {each["message"] for each in tail(bench.settings.channel_log_path("under-test"), 100)}
    assert "not sent, kept" in said
    assert "messages were still being sent at the stop and will be sent again" not in said


@pytest.mark.parametrize(
    ("owner", "keeper"),
    [(bind.PersistentBind, "_keep"), (transport.SmppTransport, "_tell_statuses"), (transport.Inbound, "sweep_forever")],
)
async def test_a_keeper_that_dies_of_a_bug_ends_its_process(
    bench: Bench, smsc: Smsc, monkeypatch: pytest.MonkeyPatch, owner: type[Any], keeper: str
) -> None:
    """It was half alive: a channel that never binds again."""

    async def fail(self: Any) -> None:
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr(owner, keeper, fail)
    config = {"host": "127.0.0.1", "port": smsc.port, "system_id": "me", "password": "sesame"}
    created = await bench.channel("smpp", config)
    assert await asyncio.wait_for(bench.workers[created], 30) == EXIT_FAILED


# --- receipts -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"receipt_form": "text"},
        {"receipt_form": "tlv"},
        {"early_receipts": True, "receipt_delay": 0.0},
        {"duplicate_receipts": True},
        {"message_ids": "hex", "receipt_ids": "decimal"},
        {"message_ids": "hex", "receipt_ids": "upper"},
        {"message_ids": "decimal", "receipt_ids": "hex"},
        {"message_ids": "decimal", "receipt_ids": "padded"},
        {"message_ids": "uuid", "receipt_ids": "upper"},
    ],
    ids=lambda options: " ".join(map(str, options.values())),
)
async def test_each_receipt_finds_its_message(bench: Bench, smsc: Smsc, options: dict[str, Any]) -> None:
    configure(smsc, receipt_status=("DELIVRD", "UNDELIV"), **options)
    created = await channel(bench, smsc)
    ids = [await send(bench, created, f"{number}") for number in range(20)]
    for number, message_id in enumerate(ids):
        await event(bench, message_id, "delivery_failed" if number % 2 else "delivery_succeeded")
    assert len(bench.app.received) == 40
    for number, message_id in enumerate(ids):
        final = "delivery_failed" if number % 2 else "delivery_succeeded"
        assert [each["event_type"] for each in events(bench, message_id)] == ["submitted", final]


async def test_no_delivery_events_where_none_are_wanted(bench: Bench, smsc: Smsc) -> None:
    created = await channel(bench, smsc, disable_delivery_report=True)
    message_id = await send(bench, created, "Hi")
    await event(bench, message_id, "submitted")
    await eventually(_async(lambda: smsc.counts["receipts_acknowledged"]))
    assert len(events(bench, message_id)) == 1


async def test_a_pair_of_binds(bench: Bench, smsc: Smsc) -> None:
    transmitter = await channel(bench, smsc, bind_mode="transmitter", split_bind_prefix="pair")
    await channel(bench, smsc, bind_mode="receiver", split_bind_prefix="pair")
    message_id = await send(bench, transmitter, "Hi")
    assert (await event(bench, message_id, "delivery_succeeded"))["channel_id"] == transmitter


async def test_what_only_looks_like_a_receipt_is_a_message(bench: Bench, smsc: Smsc) -> None:
    await channel(bench, smsc)
    text = "id:4711 sub:001 dlvrd:001 submit date:2411231200 done date:2411231200 stat:DELIVRD err:000 text:Hi"
    smsc.mo(TO, "8000", text)
    assert (await inbound(bench))[0]["content"] == text


@pytest.mark.parametrize("early", [True, False])
async def test_receipts_without_a_flag_find_their_messages(
    bench: Bench, smsc: Smsc, early: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unflagged(*args: Any) -> DeliverSm:
        return dataclasses.replace(receipt_of(*args), esm_class=0)

    monkeypatch.setattr("junebug.smpp.simulator.smsc.receipt_of", unflagged)
    configure(smsc, receipt_form="text", early_receipts=early, receipt_delay=0.0)
    created = await channel(bench, smsc)
    ids = [await send(bench, created, f"{number}") for number in range(20)]
    for message_id in ids:
        await event(bench, message_id, "delivery_succeeded")
        assert [each["event_type"] for each in events(bench, message_id)] == ["submitted", "delivery_succeeded"]
    assert [each for each in bench.app.received if "content" in each] == []


@pytest.mark.parametrize("use_esm_class", [True, False])
async def test_a_stranger_does_not_write_receipts(bench: Bench, smsc: Smsc, use_esm_class: bool) -> None:
    configure(smsc, receipts=False)
    created = await channel(bench, smsc, delivery_report_use_esm_class=use_esm_class)
    message_id = await send(bench, created, "Hi")
    await event(bench, message_id, "submitted")
    (provider_id,) = smsc.messages
    smsc.mo("27830009999", "8000", f"hello id:{provider_id} stat:UNDELIV")
    assert (await inbound(bench))[0]["content"] == f"hello id:{provider_id} stat:UNDELIV"
    smsc.mo("0820001111", "8000", f"stat:DELIVRD err: done date:24-11-23 12:00:01 x:y id:{provider_id}")
    delivered = await event(bench, message_id, "delivery_succeeded")
    assert delivered["event_details"]["done_date"] == "24-11-23 12:00:01"
    assert len(await inbound(bench)) == 1


async def test_no_text_is_a_receipt_where_none_may_be(bench: Bench, smsc: Smsc) -> None:
    configure(smsc, receipts=False)
    created = await channel(bench, smsc, receipt_without_flag="never")
    message_id = await send(bench, created, "Hi")
    await event(bench, message_id, "submitted")
    text = f"id:{next(iter(smsc.messages))} stat:DELIVRD"
    smsc.mo(TO, "8000", text)
    assert (await inbound(bench))[0]["content"] == text
    assert len(events(bench, message_id)) == 1


# --- in -------------------------------------------------------------------------------------------------------------------


async def test_a_message_reaches_the_application(bench: Bench, smsc: Smsc) -> None:
    created = await channel(bench, smsc)
    smsc.mo(TO, "8000", "Привет")
    (message,) = await inbound(bench)
    assert (message["from"], message["to"], message["content"]) == (TO, "8000", "Привет")
    assert (message["channel_id"], message["channel_data"]) == (created, {})
    await eventually(_async(lambda: smsc.counts["mos_acknowledged"]))


async def test_so_does_a_long_one(bench: Bench, smsc: Smsc) -> None:
    await channel(bench, smsc)
    smsc.mo(TO, "8000", LONG)
    (message,) = await inbound(bench)
    assert message["content"] == LONG


async def test_what_never_completes_is_flagged(bench: Bench, smsc: Smsc) -> None:
    await channel(bench, smsc, mo_multipart_timeout=1)
    pdu = DeliverSm(source_addr=TO, destination_addr="8000", short_message=b"\5\0\3\7\2\1Half", esm_class=0x40)
    smsc.deliver(pdu)
    (message,) = await inbound(bench)
    assert message["content"] == "Half"
    assert message["channel_data"] == {"incomplete": True, "smpp": {"parts": 2, "missing_parts": [2]}}


@pytest.mark.parametrize(
    ("data_coding", "octets", "content"),
    [
        (8, "\ufeffHi".encode("utf-16-le"), "Hi"),
        (8, b"\0H\0i\0", "Hi"),
        (8, b"\0H\0i\xd8\x3d", "Hi\ufffd"),
        (0, b"caf\xe9", "caf\ufffd"),
        (0, b"\xd0\x9f\xd1\x80", None),
        (8, b"\xdc\x00\xdc\x00", None),
        (4, b"Hi", None),
    ],
)
async def test_one_octet_never_costs_a_text_alone_or_in_parts(
    bench: Bench, smsc: Smsc, data_coding: int, octets: bytes, content: str | None
) -> None:
    await channel(bench, smsc)
    smsc.deliver(DeliverSm(source_addr=TO, destination_addr="1", short_message=octets, data_coding=data_coding))
    for number in (1, 2):
        header = b"\5\0\3\7\2" + bytes((number,))
        smsc.deliver(
            DeliverSm(source_addr=TO, destination_addr="2", short_message=header + octets, esm_class=0x40,
                      data_coding=data_coding, tlvs={0x1400 + number: b"\1"})
        )  # fmt: skip
    if content is None:
        await eventually(_async(lambda: smsc.counts["mos_refused"] == 3))
        assert bench.app.received == []
        return
    messages = {message["to"]: message for message in await inbound(bench, 2)}
    assert (messages["1"]["content"], messages["2"]["content"]) == (content, content * 2)
    assert messages["2"]["channel_data"] == {"smpp": {"tlvs": {"0x1401": "01", "0x1402": "01"}}}


async def test_parameters_of_what_never_completes_are_told(bench: Bench, smsc: Smsc) -> None:
    await channel(bench, smsc, mo_multipart_timeout=1)
    short_message, tlvs = b"\5\0\3\7\2\1Half", {0x1401: b"\1"}
    smsc.deliver(DeliverSm(source_addr=TO, destination_addr="8000", short_message=short_message, esm_class=0x40, tlvs=tlvs))
    (message,) = await inbound(bench)
    told = {"parts": 2, "missing_parts": [2], "tlvs": {"0x1401": "01"}}
    assert message["channel_data"] == {"incomplete": True, "smpp": told}


async def test_what_cannot_be_decoded_is_refused(bench: Bench, smsc: Smsc) -> None:
    await channel(bench, smsc)
    smsc.deliver(DeliverSm(source_addr=TO, destination_addr="8000", short_message=b"\xd8", data_coding=8))
    smsc.deliver(DeliverSm(source_addr=TO, destination_addr="8000", short_message=b""))
    await eventually(_async(lambda: smsc.counts["mos_refused"] == 2))
    assert bench.app.received == []


async def test_an_override_decodes_it(bench: Bench, smsc: Smsc) -> None:
    await channel(bench, smsc, data_coding_overrides={"4": "utf-8"}, allow_empty_messages=True)
    smsc.deliver(DeliverSm(source_addr=TO, destination_addr="8000", short_message="né".encode(), data_coding=4))
    smsc.deliver(DeliverSm(source_addr=TO, destination_addr="8000", short_message=b""))
    assert [message["content"] for message in await inbound(bench, 2)] == ["né", ""]


# --- what is said of it ---------------------------------------------------------------------------------------------------


async def test_a_wrong_password_is_named_and_not_shown(bench: Bench, smsc: Smsc) -> None:
    created = await channel(bench, smsc, wait=False, password="wr0ngone")
    refused = await status(bench, created, "bind_refused")
    assert refused["status"] == "down"
    assert refused["details"]["command_status"] in ("ESME_RINVPASWD", "ESME_RBINDFAIL")
    assert "wr0ngone" not in str(refused)


async def test_an_smsc_that_is_not_there_is_waited_for(bench: Bench, smsc: Smsc) -> None:
    await smsc.stop()
    created = await channel(bench, smsc, wait=False)
    lost = await status(bench, created, "connection_lost")
    assert "cannot connect" in lost["message"]
    await smsc.start()
    await status(bench, created, "bound")


async def test_attempts_that_fail_alike_are_said_once(bench: Bench, smsc: Smsc) -> None:
    created = str(
        await bench.channel(
            "smpp",
            {"host": "127.0.0.1", "port": smsc.port, "system_id": "me", "password": "no", "initial_reconnect_delay": 0.05,
             "max_reconnect_delay": 0.1},
            status_url=bench.app.url("/status"),
        )
    )  # fmt: skip
    await eventually(_async(lambda: smsc.counts["connections"] >= 5))
    await status(bench, created, "bind_refused")
    told = [each["type"] for each in bench.app.received if each.get("component") == "smpp"]
    assert told.count("bind_refused") == 1
    assert set(told) <= {"starting", "binding", "bind_refused"}


@pytest.mark.parametrize("redact", [False, True])
async def test_the_log_shows_one_messages_whole_life_and_no_secret(bench: Bench, smsc: Smsc, redact: bool) -> None:
    log = setup_channel_logging(
        bench.settings.channel_log_path("under-test"), "under-test", Redactor(), rotate_size=1_000_000, max_files=5
    )
    try:
        created = await channel(bench, smsc, redact_content=redact)
        message_id = await send(bench, created, "a secret word")
        await event(bench, message_id, "delivery_succeeded")
        smsc.mo(TO, "8000", "another secret word")
        (message,) = await inbound(bench)
        await bench.stop(created)
    finally:
        log.close()
    def told(message_id: str | None = None) -> list[dict[str, Any]]:
        entries = tail(bench.settings.channel_log_path("under-test"), 1000, message_id)
        return [shown for each in reversed(entries) if "pdu" in (shown := show({}, each))]

    assert [each["pdu"] for each in told(message_id)] == ["submit_sm", "submit_sm_resp", "deliver_sm", "deliver_sm_resp"]
    assert [each["pdu"] for each in told(message["message_id"])] == ["deliver_sm", "deliver_sm_resp"]
    assert {"bind_transceiver", "bind_transceiver_resp", "unbind", "unbind_resp"} <= {each["pdu"] for each in told()}
    assert all(each["hex"] for each in told())
    shown = str([*tail(bench.settings.channel_log_path("under-test"), 1000), *told()])
    assert "sesame" not in shown
    assert b"sesame".hex() not in shown
    assert ("secret word" in shown) is not redact
    assert (b"secret word".hex() in shown) is not redact


async def test_it_unbinds_at_the_end(bench: Bench, smsc: Smsc) -> None:
    created = await channel(bench, smsc)
    assert await bench.stop(created) == 0
    assert smsc.clients == []
    component = await bench.component(created, "smpp")
    assert (component["status"], component["type"]) == ("down", "unbinding")


async def test_nothing_is_left_without_a_ttl(bench: Bench, smsc: Smsc) -> None:
    created = await channel(bench, smsc)
    message_id = await send(bench, created, LONG)
    await event(bench, message_id, "delivery_succeeded")
    (keys,) = await bench.stores._redis.run(("KEYS", names.transport_key(created, "*")))
    ttls = await bench.stores._redis.run(*(("TTL", key) for key in keys))
    assert keys
    assert all(ttl > 0 for ttl in ttls)


def _async(check: Any) -> Any:
    async def asked() -> Any:
        return check()

    return asked
