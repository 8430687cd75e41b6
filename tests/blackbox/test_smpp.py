"""Channel type smpp (COMPAT §5, issue 3), against an SMSC at the wire: binds, MT, receipts, MO, the link, statuses, logs."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.blackbox.conftest import Channels
from tests.blackbox.smsc import (
    BIND_RECEIVER,
    BIND_TRANSCEIVER,
    BIND_TRANSMITTER,
    DATA_SM,
    DELIVER_SM,
    DELIVERY_FAILURE,
    ENQUIRE_LINK,
    GENERIC_NACK,
    INVALID_DESTINATION,
    INVALID_PASSWORD,
    MESSAGE_PAYLOAD,
    MESSAGE_STATE,
    QUEUE_FULL,
    RECEIPT,
    RECEIPTED_MESSAGE_ID,
    RESPONSE,
    SAR_NUMBER,
    SAR_REFERENCE,
    SAR_TOTAL,
    THROTTLED,
    UDHI,
    UNBIND,
    SmscCommand,
    Submit,
    WireSmsc,
    data_sm_body,
    deliver_body,
    receipt_text,
    udh,
)
from tests.harness import Api, Channel, JunebugProcess, WebhookSink, gather_limited
from tests.polling import eventually
from tests.tables import rows

PASSWORD = "pa55wOrd-long-tail"
QUICK = {"initial_reconnect_delay": 0.1, "max_reconnect_delay": 0.5, "throttle_delay": 0.02, "retry_delay": 0.1}
TO, FROM = "+27820001111", "12345"


@pytest.fixture
async def smsc() -> AsyncIterator[WireSmsc]:
    async with WireSmsc() as server:
        yield server


def config_for(smsc_port: int, **config: Any) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": smsc_port, "system_id": "esme", "password": PASSWORD, **QUICK, **config}


async def smpp(channels: Channels, smsc_port: int, *, bound: bool = True, **config: Any) -> Channel:
    """A channel that binds there; it tells /status."""
    config = {**config_for(smsc_port), **config}
    channel = await channels.create("smpp", config, status_url=channels._sink.url("/status"))
    if bound:
        await until_status(channel, "bound")
    return channel


async def until_status(channel: Channel, type: str) -> dict[str, Any]:
    async def it_is() -> dict[str, Any] | None:
        component = await channel.component("smpp")
        return component if component.get("type") == type else None

    try:
        return dict(await eventually(it_is, what=f"status {type}"))
    except AssertionError as error:
        raise AssertionError(f"{error}: {await channel.status()}, {await channel.logs(n=20)}") from None


def told(sink: WebhookSink) -> list[tuple[str, str]]:
    """(level, type) of each status of component smpp that was posted."""
    return [(body["status"], body["type"]) for body in sink.bodies("/status") if body["component"] == "smpp"]


def events(sink: WebhookSink, message_id: str) -> list[str]:
    return [body["event_type"] for body in sink.bodies("/event") if body["message_id"] == message_id]


async def send(channel: Channel, sink: WebhookSink, content: str = "hello", **fields: Any) -> str:
    """The message's id; its events go to /event."""
    fields = {"to": TO, "from": FROM, "event_url": sink.url("/event"), **fields}
    return str((await channel.send(content=content, **fields))["message_id"])


async def until_events(sink: WebhookSink, message_id: str, *wanted: str) -> None:
    try:
        await eventually(lambda: events(sink, message_id) == list(wanted), what=f"events {wanted}")
    except AssertionError as error:
        raise AssertionError(f"{error}: {events(sink, message_id)}") from None


# --- the bind ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bind_mode", "command_id"),
    [("transceiver", BIND_TRANSCEIVER), ("transmitter", BIND_TRANSMITTER), ("receiver", BIND_RECEIVER)],
)
async def test_it_binds_as_configured_and_says_so(
    channels: Channels, sink: WebhookSink, smsc: WireSmsc, bind_mode: str, command_id: int
) -> None:
    channel = await smpp(
        channels, smsc.port, bind_mode=bind_mode, system_type="SMPP", interface_version="33", address_range="^27",
        addr_ton=1, addr_npi="1",
    )  # fmt: skip
    (bind,) = smsc.binds
    assert bind.command_id == command_id
    assert (bind.system_id, bind.password, bind.system_type) == ("esme", PASSWORD[:8], "SMPP")
    assert (bind.interface_version, bind.addr_ton, bind.addr_npi, bind.address_range) == (0x33, 1, 1, "^27")
    await eventually(lambda: told(sink) == [("down", "starting"), ("down", "binding"), ("ok", "bound")])
    if bind_mode == "receiver":
        message_id = await send(channel, sink)
        rejected = await channel.event(message_id, "rejected")
        assert "receiver" in rejected["event_details"]["reason"]


async def test_it_binds_where_the_twisted_endpoint_says(channels: Channels, smsc: WireSmsc) -> None:
    config = config_for(smsc.port, twisted_endpoint=f"tcp:host=127.0.0.1:port={smsc.port}")
    del config["host"], config["port"]
    channel = await channels.create("smpp", config)
    await until_status(channel, "bound")
    assert smsc.binds[0].interface_version == 0x34


async def test_a_wrong_password_is_named_and_tried_again_ever_more_seldom(
    channels: Channels, sink: WebhookSink, smsc: WireSmsc
) -> None:
    smsc.bind_status = INVALID_PASSWORD
    channel = await smpp(channels, smsc.port, bound=False, initial_reconnect_delay=0.2, max_reconnect_delay=30)
    refused = await until_status(channel, "bind_refused")
    assert refused["status"] == "down"
    assert refused["details"]["command_status"] == "ESME_RINVPASWD"
    assert "ESME_RINVPASWD" in refused["message"]
    await eventually(lambda: len(smsc.binds) >= 4)
    gaps = [later.at - earlier.at for earlier, later in itertools.pairwise(smsc.binds)]
    assert gaps[0] >= 0.15
    assert gaps[1] >= 0.25
    assert gaps[2] >= 0.5
    assert told(sink) == [("down", "starting"), ("down", "binding"), ("down", "bind_refused")]
    message_id = await send(channel, sink, "it waits")
    smsc.bind_status = 0
    await until_status(channel, "bound")
    await until_events(sink, message_id, "submitted")
    assert [submit.text for submit in smsc.submits] == ["it waits"]


async def test_an_smsc_that_does_not_answer_the_bind_is_given_up_on(channels: Channels, smsc: WireSmsc) -> None:
    answer, smsc._bind = smsc._bind, lambda link, frame: None  # type: ignore[method-assign]
    channel = await smpp(channels, smsc.port, bound=False, smpp_bind_timeout=0.3)
    await until_status(channel, "bind_timeout")
    smsc._bind = answer  # type: ignore[method-assign]
    await until_status(channel, "bound")


async def test_a_deleted_channel_unbinds(channels: Channels, smsc: WireSmsc) -> None:
    channel = await smpp(channels, smsc.port)
    await channel.delete()
    (link,) = smsc.links
    await link.ended()
    assert link.unbound


# --- MT ---------------------------------------------------------------------------------------------------------------


async def test_a_gsm_text_and_all_that_goes_with_it(channels: Channels, sink: WebhookSink, smsc: WireSmsc) -> None:
    channel = await smpp(channels, smsc.port, service_type="CMT", validity_period=3600)
    message_id = await send(channel, sink, "@£ è€{[]}~^|\\ Ω hello")
    await until_events(sink, message_id, "submitted")
    (submit,) = smsc.submits
    assert submit.data_coding == 0
    assert submit.short_message == (
        b"\x00\x01 \x04\x1be\x1b(\x1b<\x1b>\x1b)\x1b=\x1b\x14\x1b@\x1b/ \x15 hello"
    )
    assert submit.source == (0, 0, FROM)
    assert submit.destination == (0, 1, TO)
    assert (submit.esm_class, submit.registered_delivery, submit.service_type) == (0, 1, "CMT")
    assert (submit.validity, submit.tlvs) == ("000000010000000R", {})
    await send(
        channel, sink, "x", channel_data={"smpp": {"tlvs": {"0x1400": "hex:beef", "source_port": 5}, "priority_flag": 2}}
    )
    later = (await smsc.submitted(2))[1]
    assert later.tlvs == {0x1400: b"\xbe\xef", 0x020A: b"\0\5"}
    assert later.priority == 2


@pytest.mark.parametrize("content", ["Привет 😀", "漢字", "the ` is not in GSM 03.38"])
async def test_what_gsm_lacks_goes_as_ucs2(
    channels: Channels, sink: WebhookSink, smsc: WireSmsc, content: str
) -> None:
    channel = await smpp(channels, smsc.port)
    await send(channel, sink, content)
    (submit,) = await smsc.submitted()
    assert (submit.data_coding, submit.short_message) == (8, content.encode("utf-16-be"))


async def test_the_configured_encoding_and_numbering_are_used(
    channels: Channels, sink: WebhookSink, smsc: WireSmsc
) -> None:
    channel = await smpp(
        channels, smsc.port, ton_npi="auto", registered_delivery=False,
        submit_short_message_processor_config={"submit_sm_encoding": "latin-1", "submit_sm_data_coding": 3},
    )  # fmt: skip
    await send(channel, sink, "Grüße ¿", **{"from": "Junebug"})
    (submit,) = await smsc.submitted()
    assert (submit.data_coding, submit.short_message) == (3, "Grüße ¿".encode("latin-1"))
    assert (submit.source, submit.destination) == ((5, 0, "Junebug"), (1, 1, TO[1:]))
    assert submit.registered_delivery == 0
    refused = await send(channel, sink, "漢字")
    event = await channel.event(refused, "rejected")
    assert "encode" in event["event_details"]["reason"]


async def test_a_long_text_goes_in_parts_with_headers(
    channels: Channels, sink: WebhookSink, smsc: WireSmsc
) -> None:
    channel = await smpp(channels, smsc.port)
    text = "".join(f"word {n} € " for n in range(45))
    message_id = await send(channel, sink, text)
    await until_events(sink, message_id, "submitted")
    parts = smsc.submits
    assert len(parts) == 4
    header = {part.short_message[:6] for part in parts}
    reference = parts[0].short_message[3]
    assert header == {udh(reference, 4, number) for number in range(1, 5)}
    together = b"".join(part.short_message[6:] for part in parts)
    assert together.replace(b"\x1be", "€".encode()).decode() == text
    for part in parts:
        assert part.esm_class == UDHI
        assert len(part.short_message) - 6 <= 153
        assert not part.short_message.endswith(b"\x1b"), "an escape pair is cut"
    smsc.submits.clear()
    await send(channel, sink, "x" + "😀" * 60)
    parts = await smsc.submitted(2)
    assert "".join(part.short_message[6:].decode("utf-16-be") for part in parts) == "x" + "😀" * 60
    assert all(len(part.short_message) <= 140 for part in parts)
    assert parts[0].short_message[3] != reference


async def test_a_long_text_goes_in_sar_parts_where_told(
    channels: Channels, sink: WebhookSink, smsc: WireSmsc
) -> None:
    channel = await smpp(channels, smsc.port, send_multipart_sar=True)
    text = "0123456789" * 30
    message_id = await send(channel, sink, text)
    await until_events(sink, message_id, "submitted")
    parts = smsc.submits
    assert [part.tlvs[SAR_NUMBER] for part in parts] == [b"\1", b"\2"]
    assert {part.tlvs[SAR_TOTAL] for part in parts} == {b"\2"}
    assert len({part.tlvs[SAR_REFERENCE] for part in parts}) == 1
    assert all(len(part.tlvs[SAR_REFERENCE]) == 2 and part.esm_class == 0 for part in parts)
    assert "".join(part.text for part in parts) == text


async def test_a_long_text_goes_as_payload_where_told(channels: Channels, sink: WebhookSink, smsc: WireSmsc) -> None:
    channel = await smpp(channels, smsc.port, send_long_messages=True)
    text = "0123456789" * 100
    message_id = await send(channel, sink, text)
    await until_events(sink, message_id, "submitted")
    (submit,) = smsc.submits
    assert (submit.short_message, submit.tlvs) == (b"", {MESSAGE_PAYLOAD: text.encode()})
    await send(channel, sink, "short")
    assert (await smsc.submitted(2))[1].short_message == b"short"


@pytest.mark.parametrize("status", [THROTTLED, QUEUE_FULL])
async def test_throttled_messages_are_sent_again_in_order(
    channels: Channels, sink: WebhookSink, smsc: WireSmsc, status: int
) -> None:
    taken: list[str] = []
    calls = itertools.count(1)

    def every_third_is_too_fast(submit: Submit) -> None:
        if next(calls) % 3 == 0:
            submit.answer(status)
        else:
            taken.append(submit.text)
            smsc.accept(submit)

    smsc.on_submit = every_third_is_too_fast
    channel = await smpp(channels, smsc.port, window_size=1)
    contents = [f"number {n}" for n in range(12)]
    ids = [await send(channel, sink, content) for content in contents]
    for message_id in ids:
        await until_events(sink, message_id, "submitted")
    assert taken == contents
    await eventually(lambda: ("ok", "throttled_end") in told(sink))
    statuses = told(sink)[3:]
    assert statuses[::2] == [("degraded", "throttled")] * (len(statuses) // 2)
    assert statuses[1::2] == [("ok", "throttled_end")] * (len(statuses) // 2)


async def test_what_the_smsc_refuses_is_rejected_with_its_reason(
    channels: Channels, sink: WebhookSink, smsc: WireSmsc
) -> None:
    channel = await smpp(channels, smsc.port)
    smsc.refuse_first(1, INVALID_DESTINATION)
    refused, fine = await send(channel, sink, "one"), await send(channel, sink, "two")
    await until_events(sink, refused, "rejected")
    await until_events(sink, fine, "submitted")
    event = await channel.event(refused, "rejected")
    assert event["event_details"]["reason"] == "ESME_RINVDSTADR"
    smsc.refuse_first(1, INVALID_DESTINATION)
    long = await send(channel, sink, "0123456789" * 60)
    await until_events(sink, long, "rejected")
    smsc.refuse_first(1, 0x08)  # ESME_RSYSERR: its own trouble, which passes
    later = await send(channel, sink, "three")
    await until_events(sink, later, "submitted")
    await until_events(sink, long, "rejected")


async def test_no_more_than_the_window_waits_for_answers(
    channels: Channels, sink: WebhookSink, smsc: WireSmsc
) -> None:
    held: list[Submit] = []
    smsc.on_submit = held.append
    channel = await smpp(channels, smsc.port, window_size=5)
    ids = await gather_limited(10, (send(channel, sink, f"{n}") for n in range(15)))
    for _ in range(3):
        await eventually(lambda: len(held) == 5)
        assert smsc.receiver() is not None
        status = await smsc.deliver(TO, FROM, b"still heard")  # by then more would have come
        assert status == 0
        assert len(held) == 5
        for submit in [held.pop() for _ in range(5)]:  # answered in another order than asked
            smsc.accept(submit)
    for message_id in ids:
        await until_events(sink, message_id, "submitted")
    assert len(smsc.submits) == 15


async def test_mt_tps_counts_each_part(channels: Channels, sink: WebhookSink, smsc: WireSmsc) -> None:
    channel = await smpp(channels, smsc.port, mt_tps=0.001)
    await send(channel, sink, "0" * 600)
    await smsc.submitted(1)
    assert await smsc.deliver(TO, FROM, b"still heard") == 0  # by then more would have come
    assert len(smsc.submits) == 1


async def test_a_response_that_never_comes_is_an_unknown_outcome(
    channels: Channels, sink: WebhookSink, smsc: WireSmsc
) -> None:
    calls = itertools.count()
    smsc.on_submit = lambda submit: smsc.accept(submit) if next(calls) else None
    channel = await smpp(channels, smsc.port, response_timeout=1)
    message_id = await send(channel, sink, "resent")
    await until_events(sink, message_id, "submitted")
    assert [submit.text for submit in smsc.submits] == ["resent", "resent"]
    failing = await smpp(channels, smsc.port, response_timeout=0.5, on_unknown="fail")
    smsc.on_submit = lambda submit: None
    message_id = await send(failing, sink, "not resent")
    await until_events(sink, message_id, "rejected")
    assert [submit.text for submit in smsc.submits][2:] == ["not resent"]


# --- receipts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "event_type"),
    [
        ("DELIVRD", "delivery_succeeded"),
        ("ACCEPTD", "delivery_succeeded"),
        ("UNDELIV", "delivery_failed"),
        ("EXPIRED", "delivery_failed"),
        ("REJECTD", "delivery_failed"),
        ("DELETED", "delivery_failed"),
        ("ENROUTE", "delivery_pending"),
        ("UNKNOWN", "delivery_pending"),
    ],
)
async def test_a_receipt_becomes_the_event_that_it_means(
    receipts_channel: Channel, sink: WebhookSink, receipts_smsc: WireSmsc, state: str, event_type: str
) -> None:
    message_id = await send(receipts_channel, sink, state)
    submit = await eventually(lambda: next((each for each in receipts_smsc.submits if each.text == state), None))
    await until_events(sink, message_id, "submitted")
    assert await receipts_smsc.receipt(submit, state) == 0
    await until_events(sink, message_id, "submitted", event_type)
    details = (await receipts_channel.event(message_id, event_type))["event_details"]
    assert details["sent_message_id"] == submit.message_id
    assert details["state"] == state
    assert (details["submit_date"], details["done_date"], details["error_code"]) == ("1611232145", "1611232146", "000")
    assert await receipts_smsc.receipt(submit, state) == 0  # a repeat tells nothing new
    other = await send(receipts_channel, sink, f"after {state}")
    await until_events(sink, other, "submitted")
    await until_events(sink, message_id, "submitted", event_type)


@pytest.fixture(scope="module")
def receipts_ids() -> dict[str, Any]:
    return {}


@pytest.fixture
async def receipts_smsc(receipts_ids: dict[str, Any]) -> AsyncIterator[WireSmsc]:
    """At the same port for all tests of the channel below."""
    async with WireSmsc(receipts_ids.get("port", 0)) as server:
        receipts_ids["port"] = server.port
        server._ids = receipts_ids.setdefault("numbers", server._ids)
        yield server


@pytest.fixture
async def receipts_channel(jb: JunebugProcess, receipts_ids: dict[str, Any], receipts_smsc: WireSmsc) -> Channel:
    """One for several tests; its SMSC comes and goes."""
    if "channel" not in receipts_ids:
        body = {"type": "smpp", "config": config_for(receipts_smsc.port), "amqp_queue": "smpp-receipts"}
        answer = await jb.api.post("/channels/", body)
        assert answer.status == 201, answer
        receipts_ids["channel"] = answer.result
    channel = Channel(jb.api, receipts_ids["channel"])
    await receipts_smsc.bound()
    return channel


async def test_receipts_by_tlvs_alone_and_under_other_spellings_of_the_id(
    receipts_channel: Channel, sink: WebhookSink, receipts_smsc: WireSmsc
) -> None:
    smsc = receipts_smsc
    message_id = await send(receipts_channel, sink, "by tlvs")
    (submit,) = await smsc.submitted()
    await until_events(sink, message_id, "submitted")
    tlvs = {RECEIPTED_MESSAGE_ID: submit.message_id.upper().encode() + b"\0", MESSAGE_STATE: b"\5"}
    tlvs[0x0423] = b"\3\0\x1b"
    assert await smsc.deliver(TO, FROM, b"", RECEIPT, tlvs=tlvs) == 0
    details = (await receipts_channel.event(message_id, "delivery_failed"))["event_details"]
    assert (details["state"], details["network_error_code"]) == ("UNDELIVERABLE", 27)


@pytest.mark.parametrize(
    ("given", "returned"),
    [
        ("3735928559", "DEADBEEF"),  # decimal, and its receipt in hexadecimal
        ("0cafe123", "212853027"),  # the other way round
        ("abcdef01", "00000000ABCDEF01"),
        ("7e3b9a52-6c1d-4f0e-9b2a-d1c3e5f70819", "7E3B9A526C1D4F0E9B2AD1C3E5F70819"),
    ],
)
async def test_the_receipts_id_may_be_written_another_way(
    channels: Channels, sink: WebhookSink, smsc: WireSmsc, given: str, returned: str
) -> None:
    smsc.on_submit = lambda submit: submit.accept(given)
    channel = await smpp(channels, smsc.port)
    message_id = await send(channel, sink)
    (submit,) = await smsc.submitted()
    assert await smsc.receipt(submit, message_id=returned) == 0
    await until_events(sink, message_id, "submitted", "delivery_succeeded")


async def test_a_receipt_that_overtakes_the_response_is_matched(
    channels: Channels, sink: WebhookSink, smsc: WireSmsc
) -> None:
    held: list[Submit] = []
    smsc.on_submit = held.append
    channel = await smpp(channels, smsc.port)
    message_id = await send(channel, sink)
    await eventually(lambda: held)
    held[0].message_id = "id-overtaken"
    assert await smsc.receipt(held[0]) == 0
    assert events(sink, message_id) == []
    held[0].accept("id-overtaken")
    await until_events(sink, message_id, "submitted", "delivery_succeeded")


@pytest.mark.parametrize("receipt_first", [True, False])
async def test_submitted_comes_first_when_receipt_and_response_come_together(
    channels: Channels, sink: WebhookSink, smsc: WireSmsc, receipt_first: bool
) -> None:
    numbers = itertools.count()

    def respond_and_tell(submit: Submit) -> None:
        message_id = f"id-{next(numbers)}-m"
        if not receipt_first:
            submit.accept(message_id)
        body = deliver_body(submit.to, submit.source[2], receipt_text(message_id), RECEIPT)
        submit.link.begin(DELIVER_SM, body)  # in the same segment as the response
        if receipt_first:
            submit.accept(message_id)

    smsc.on_submit = respond_and_tell
    channel = await smpp(channels, smsc.port)
    ids = await gather_limited(10, (send(channel, sink, f"{n}") for n in range(100)))
    for message_id in ids:
        await until_events(sink, message_id, "submitted", "delivery_succeeded")
        message = await channel.message(message_id)
        assert message["last_event_type"] == "delivery_succeeded"
        assert [event["event_type"] for event in message["events"]] == ["submitted", "delivery_succeeded"]


async def test_submitted_comes_first_of_a_message_in_parts(channels: Channels, sink: WebhookSink, smsc: WireSmsc) -> None:
    held: list[Submit] = []
    smsc.on_submit = held.append
    channel = await smpp(channels, smsc.port)
    message_id = await send(channel, sink, "0123456789" * 40)
    await eventually(lambda: len(held) == 3)
    for number, part in enumerate(held[:2]):
        part.accept(f"id-{number}-m")
    assert await smsc.receipt(held[1], "UNDELIV") == 0
    assert await smsc.receipt(held[0]) == 0
    held[2].accept("id-2-m")
    assert await smsc.receipt(held[2]) == 0
    await until_events(sink, message_id, "submitted", "delivery_failed")


async def test_states_only_move_forward(channels: Channels, sink: WebhookSink, smsc: WireSmsc) -> None:
    channel = await smpp(channels, smsc.port)
    message_id = await send(channel, sink)
    (submit,) = await smsc.submitted()
    for state in ("ENROUTE", "ENROUTE", "DELIVRD", "ENROUTE", "UNDELIV", "DELIVRD"):
        assert await smsc.receipt(submit, state) == 0
    other = await send(channel, sink, "later")
    await until_events(sink, other, "submitted")
    await until_events(sink, message_id, "submitted", "delivery_pending", "delivery_succeeded")


async def test_a_message_in_parts_is_delivered_once_when_all_are(
    channels: Channels, sink: WebhookSink, smsc: WireSmsc
) -> None:
    channel = await smpp(channels, smsc.port)
    message_id = await send(channel, sink, "0123456789" * 40)
    await until_events(sink, message_id, "submitted")
    one, two, three = smsc.submits
    for part in (three, one, one):
        assert await smsc.receipt(part) == 0
    assert events(sink, message_id) == ["submitted"]
    assert await smsc.receipt(two) == 0
    await until_events(sink, message_id, "submitted", "delivery_succeeded")
    message_id = await send(channel, sink, "9876543210" * 40)
    await until_events(sink, message_id, "submitted")
    for part, state in zip(smsc.submits[3:], ("DELIVRD", "EXPIRED", "DELIVRD"), strict=True):
        assert await smsc.receipt(part, state) == 0
    await until_events(sink, message_id, "submitted", "delivery_failed")


async def test_a_strangers_receipt_is_acknowledged_and_harms_nothing(
    channels: Channels, sink: WebhookSink, smsc: WireSmsc
) -> None:
    channel = await smpp(channels, smsc.port)
    assert await smsc.deliver(TO, FROM, b"id:nobody-knows stat:DELIVRD err:000", RECEIPT) == 0
    assert await smsc.deliver(TO, FROM, b"this receipt says nothing", RECEIPT) == 0
    message_id = await send(channel, sink)
    await until_events(sink, message_id, "submitted")
    assert sink.bodies("/mo") == []


async def test_own_receipt_regex_and_mapping(channels: Channels, sink: WebhookSink, smsc: WireSmsc) -> None:
    channel = await smpp(
        channels, smsc.port,
        delivery_report_processor_config={
            "delivery_report_regex": r"MID=(?P<id>\S+) RC=(?P<stat>\S+)",
            "delivery_report_status_mapping": {"42": "failed"},
            "delivery_report_use_esm_class": False,
        },
    )  # fmt: skip
    message_id = await send(channel, sink)
    (submit,) = await smsc.submitted()
    await until_events(sink, message_id, "submitted")
    assert await smsc.deliver(TO, FROM, f"MID={submit.message_id} RC=42".encode()) == 0
    await until_events(sink, message_id, "submitted", "delivery_failed")


async def test_a_transmitter_and_a_receiver_share_what_was_sent(
    channels: Channels, sink: WebhookSink, smsc: WireSmsc
) -> None:
    sender, receiver = await asyncio.gather(
        smpp(channels, smsc.port, bind_mode="transmitter", split_bind_prefix="pair"),
        smpp(channels, smsc.port, bind_mode="receiver", split_bind_prefix="pair"),
    )
    message_id = await send(sender, sink)
    (submit,) = await smsc.submitted()
    await until_events(sink, message_id, "submitted")
    assert await smsc.receipt(submit) == 0
    await until_events(sink, message_id, "submitted", "delivery_succeeded")
    (event,) = [body for body in sink.bodies("/event") if body["event_type"] == "delivery_succeeded"]
    assert event["channel_id"] == sender.id != receiver.id


# --- MO ---------------------------------------------------------------------------------------------------------------


async def test_messages_from_phones_are_posted(channels: Channels, sink: WebhookSink, smsc: WireSmsc) -> None:
    channel = await smpp(
        channels, smsc.port, deliver_short_message_processor_config={"data_coding_overrides": {"1": "cp1251"}}
    )
    link = await smsc.bound()
    cases: list[tuple[bytes, int, dict[int, bytes], str]] = [
        (b"\x00\x01 \x1be hello", 0, {}, "@£ € hello"),
        ("Привет 😀".encode("utf-16-be"), 8, {}, "Привет 😀"),
        ("Grüße".encode("latin-1"), 3, {}, "Grüße"),
        ("текст".encode("cp1251"), 1, {}, "текст"),
        (b"", 0, {MESSAGE_PAYLOAD: b"long " * 100}, "long " * 100),
        (b"with a vendor's parameter", 0, {0x1401: b"\1\2"}, "with a vendor's parameter"),
    ]
    for data, data_coding, tlvs, content in cases:
        assert await smsc.deliver(TO, "8110", data, 0, data_coding, tlvs) == 0
        body = await sink.wait_content("/mo", content)
        assert (body["from"], body["to"], body["channel_id"]) == (TO, "8110", channel.id)
    assert body["channel_data"]["smpp"]["tlvs"] == {"0x1401": "0102"}
    answer = await link.request(DATA_SM, data_sm_body(TO, "8110", 0, {MESSAGE_PAYLOAD: b"by data sm"}))
    assert (answer.command_id, answer.status) == (DATA_SM | RESPONSE, 0)
    await sink.wait_content("/mo", "by data sm")
    assert len(sink.bodies("/mo")) == len(cases) + 1


async def test_parts_come_in_any_order_and_more_than_once(
    channels: Channels, sink: WebhookSink, smsc: WireSmsc
) -> None:
    await smpp(channels, smsc.port)
    texts = ["The first, ", "the second ", "and the third."]
    for number in (3, 1, 3, 1, 2, 2):
        data = udh(77, 3, number) + texts[number - 1].encode()
        assert await smsc.deliver(TO, "8110", data, UDHI) == 0
    await sink.wait_content("/mo", "".join(texts))
    whole = "Ж" * 69 + "😀"
    octets = whole.encode("utf-16-be")
    for number, part in ((2, octets[140:]), (1, octets[:140])):  # cut within the surrogate pair
        tlvs = {SAR_REFERENCE: b"\1\2", SAR_TOTAL: b"\2", SAR_NUMBER: bytes([number])}
        assert await smsc.deliver(TO, "8110", part, 0, 8, tlvs) == 0
    await sink.wait_content("/mo", whole)
    header = b"\x06\x08\x04\x12\x34\x02"  # 16-bit reference
    for number in (2, 1):
        assert await smsc.deliver(TO, "8110", header + bytes([number]) + f"part {number} ".encode(), UDHI) == 0
    await sink.wait_content("/mo", "part 1 part 2 ")
    assert await smsc.deliver(TO, "8110", b"the end") == 0
    await sink.wait_content("/mo", "the end")
    assert len(sink.bodies("/mo")) == 4


async def test_what_never_completes_is_delivered_flagged(
    channels: Channels, sink: WebhookSink, smsc: WireSmsc
) -> None:
    await smpp(channels, smsc.port, mo_multipart_timeout=1)
    assert await smsc.deliver(TO, "8110", udh(5, 3, 1) + b"one ", UDHI) == 0
    assert await smsc.deliver(TO, "8110", udh(5, 3, 3) + b"three", UDHI) == 0
    body = await sink.wait_for("/mo", lambda body: True)
    assert body["content"].startswith("one ")
    assert body["content"].endswith("three")
    assert body["channel_data"]["incomplete"] is True
    assert body["channel_data"]["smpp"]["missing_parts"] == [2]


async def test_what_cannot_be_decoded_is_refused_and_the_bind_lives(
    channels: Channels, sink: WebhookSink, smsc: WireSmsc
) -> None:
    await smpp(channels, smsc.port, data_coding_overrides={"9": "ascii"})
    link = await smsc.bound()
    assert await smsc.deliver(TO, "8110", b"\xff\xfe", 0, 9) == DELIVERY_FAILURE
    assert await smsc.deliver(TO, "8110", b"") == DELIVERY_FAILURE
    broken = await link.request(DELIVER_SM, b"\0\1\1no end")
    assert broken.status != 0
    unknown = await link.request(0x00000777)
    assert unknown.command_id == GENERIC_NACK
    assert unknown.status == 0x03  # ESME_RINVCMDID
    assert await smsc.deliver(TO, "8110", b"fine") == 0
    await sink.wait_content("/mo", "fine")
    assert len(sink.bodies("/mo")) == len(smsc.links) == 1


async def test_replies_go_back_to_who_wrote(channels: Channels, sink: WebhookSink, smsc: WireSmsc) -> None:
    channel = await smpp(channels, smsc.port)
    assert await smsc.deliver(TO, "8110", b"question") == 0
    question = await sink.wait_content("/mo", "question")
    await channel.send(content="answer", reply_to=question["message_id"])
    (submit,) = await smsc.submitted()
    assert (submit.source[2], submit.destination[2], submit.text) == ("8110", TO, "answer")


# --- the link ---------------------------------------------------------------------------------------------------------


async def test_enquire_link_is_answered_and_asked(channels: Channels, smsc: WireSmsc) -> None:
    await smpp(channels, smsc.port, smpp_enquire_link_interval=0.5)
    link = await smsc.bound()
    answer = await link.request(ENQUIRE_LINK)
    assert (answer.command_id, answer.status, answer.body) == (ENQUIRE_LINK | RESPONSE, 0, b"")
    await eventually(lambda: smsc.enquiries >= 3)
    assert len(smsc.links) == 1


async def test_a_silent_smsc_is_noticed(channels: Channels, sink: WebhookSink, smsc: WireSmsc) -> None:
    smsc.answers_enquiries = False
    channel = await smpp(channels, smsc.port, smpp_enquire_link_interval=0.3)
    await eventually(lambda: ("down", "connection_lost") in told(sink))
    smsc.answers_enquiries = True
    lost = next(body for body in sink.bodies("/status") if body["type"] == "connection_lost")
    assert lost["details"]["kind"] == "silent"
    await eventually(lambda: len(smsc.links) >= 2)
    await until_status(channel, "bound")


async def test_an_smsc_that_unbinds_is_bound_to_again(channels: Channels, sink: WebhookSink, smsc: WireSmsc) -> None:
    channel = await smpp(channels, smsc.port)
    link = await smsc.bound()
    answer = await link.request(UNBIND)
    assert (answer.command_id, answer.status) == (UNBIND | RESPONSE, 0)
    await link.ended()
    await smsc.bound()
    message_id = await send(channel, sink)
    await until_events(sink, message_id, "submitted")


async def test_a_stream_out_of_step_is_left_and_begun_anew(
    channels: Channels, sink: WebhookSink, smsc: WireSmsc
) -> None:
    channel = await smpp(channels, smsc.port)
    link = await smsc.bound()
    link.writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await link.ended()
    await smsc.bound()
    message_id = await send(channel, sink)
    await until_events(sink, message_id, "submitted")


async def test_what_comes_in_pieces_or_in_one_is_the_same(
    channels: Channels, sink: WebhookSink, smsc: WireSmsc
) -> None:
    await smpp(channels, smsc.port)
    link = await smsc.bound()
    body = deliver_body(TO, "8110", b"byte by byte")
    frame = (16 + len(body)).to_bytes(4, "big") + b"\0\0\0\5" + bytes(4) + b"\0\1\0\0" + body
    for byte in frame:
        link.writer.write(bytes([byte]))
        await asyncio.sleep(0)
    await sink.wait_content("/mo", "byte by byte")
    answers = [link.begin(DELIVER_SM, deliver_body(TO, "8110", f"at once {n}".encode())) for n in range(30)]
    assert {(await answer).status for answer in answers} == {0}
    await sink.wait("/mo", 31)


async def test_statuses_tell_changes_only(channels: Channels, sink: WebhookSink, smsc: WireSmsc) -> None:
    channel = await smpp(channels, smsc.port)
    port = smsc.port
    await smsc.stop()
    await until_status(channel, "connection_lost")
    message_id = await send(channel, sink, "sent while it was away")
    attempts = 0

    def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal attempts
        attempts += 1
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", port):
        await eventually(lambda: attempts >= 4)
        down = told(sink)[3:]
        await eventually(lambda: attempts >= 8)
        assert told(sink)[3:] == down  # the first attempts may be news, the others are not
    lost, binding = ("down", "connection_lost"), ("down", "binding")
    assert down[0] == lost
    assert set(down) <= {lost, binding}
    async with WireSmsc(port) as back:
        await until_status(channel, "bound")
        await until_events(sink, message_id, "submitted")
        assert [submit.text for submit in back.submits] == ["sent while it was away"]
        await eventually(lambda: told(sink)[-1] == ("ok", "bound"))
        assert [status for status in told(sink)[3 + len(down) :] if status not in (lost, binding)] == [("ok", "bound")]


async def test_an_smsc_that_leaves_mid_window_gets_the_unanswered_again(
    channels: Channels, sink: WebhookSink, smsc: WireSmsc
) -> None:
    def answer_even_ones(submit: Submit) -> None:
        if int(submit.text) % 2 == 0 or len(smsc.links) > 1:
            smsc.accept(submit)

    smsc.on_submit = answer_even_ones
    channel = await smpp(channels, smsc.port, window_size=20)
    ids = await gather_limited(10, (send(channel, sink, f"{n}") for n in range(20)))
    await smsc.submitted(20)
    for n in range(0, 20, 2):
        await eventually(lambda message_id=ids[n]: "submitted" in events(sink, message_id))
    (await smsc.bound()).writer.transport.abort()
    for message_id in ids:
        await until_events(sink, message_id, "submitted")
    assert Counter(int(submit.text) for submit in smsc.submits[20:]) == Counter(range(1, 20, 2))


# --- configuration ----------------------------------------------------------------------------------------------------


@rows(
    ("change", "field"),
    [
        ({"system_id": None}, "system_id"),
        ({"password": None}, "password"),
        ({"port": None}, "port"),
        ({"host": None}, "host"),
        ({"system_id": "much too long a name"}, "system_id"),
        ({"port": 70000}, "port"),
        ({"port": "smpp"}, "port"),
        ({"bind_mode": "trx"}, "bind_mode"),
        ({"window_size": 0}, "window_size"),
        ({"mt_tps": -1}, "mt_tps"),
        ({"interface_version": "35"}, "interface_version"),
        ({"twisted_endpoint": "unix:/tmp/x"}, "twisted_endpoint"),
        ({"send_multipart_sar": True, "send_multipart_udh": True}, "send_multipart"),
        ({"delivery_report_status_mapping": {"42": "perhaps"}}, "delivery_report_status_mapping"),
        ({"delivery_report_processor": "my.own.Processor"}, "delivery_report_processor"),
        ({"submit_short_message_processor_config": {"submit_sm_enc": "x"}}, "submit_short_message_processor_config"),
        ({"passwrod": "typing error"}, "passwrod"),
    ],
)
async def test_config_errors_name_the_field(api: Api, change: dict[str, Any], field: str) -> None:
    config = {name: value for name, value in {**config_for(2775), **change}.items() if value is not None}
    answer = await api.post("/channels/", {"type": "smpp", "config": config})
    assert answer.status == 400, answer
    assert field in str(answer.errors)
    assert PASSWORD not in str(answer.envelope)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"delivery_report_regex": "(?P<id>"}, "delivery_report_regex"),
        ({"submit_sm_encoding": "no-such-codec"}, "submit_sm_encoding"),
        ({"data_coding_overrides": {"3": "no-such-codec"}}, "data_coding_overrides"),
    ],
)
async def test_what_a_schema_cannot_see_is_named_as_well(
    channels: Channels, api: Api, change: dict[str, Any], field: str
) -> None:
    """A 400, or a status that names the option."""
    answer = await api.post("/channels/", {"type": "smpp", "config": config_for(1, **change), "amqp_queue": "q"})
    if answer.status == 400:
        assert field in str(answer.errors)
        return
    channel = Channel(api, answer.result)

    async def is_named() -> bool:
        return field in str(await channel.status())

    try:
        await eventually(is_named)
    finally:
        await channel.delete()


async def test_an_older_junebugs_config_is_taken(channels: Channels, smsc: WireSmsc) -> None:
    processors = "vumi.transports.smpp.processors"
    channel = await smpp(
        channels, smsc.port, port=str(smsc.port), codec_class="vumi.codecs.VumiCodec",
        delivery_report_processor=f"{processors}.DeliveryReportProcessor",
        deliver_short_message_processor=f"{processors}.DeliverShortMessageProcessor",
        submit_short_message_processor=f"{processors}.SubmitShortMessageProcessor",
        submit_short_message_processor_config={"send_multipart_udh": True},
        delivery_report_processor_config={"delivery_report_status_mapping": {"0": "delivered"}},
        deliver_short_message_processor_config={"data_coding_overrides": {"0": "utf-8"}},
    )  # fmt: skip
    assert (await channel.get())["config"]["port"] == str(smsc.port)


async def test_the_password_is_shown_nowhere(
    jb: JunebugProcess, channels: Channels, sink: WebhookSink, smsc: WireSmsc
) -> None:
    channel = await smpp(channels, smsc.port)
    message_id = await send(channel, sink)
    await until_events(sink, message_id, "submitted")
    smsc.bind_status = INVALID_PASSWORD
    (await smsc.bound()).writer.transport.abort()
    await until_status(channel, "bind_refused")
    for answer in (
        await channel.api.get(channel.path),
        await channel.api.get(f"{channel.path}/logs", params={"n": 100}),
        await channel.api.post(channel.path, {"label": "changed"}),
        await channel.api.post(channel.path, {"config": {"password": PASSWORD, "port": "x"}}),
    ):
        shows_no_password(str(answer.envelope))
    shows_no_password(str([each.body for each in sink.received]))
    shows_no_password(jb.output())
    logs = [path for path in Path(jb.directory).rglob("*") if path.is_file() and path.suffix != ".pid"]
    assert logs
    for path in logs:
        shows_no_password(path.read_bytes().decode("latin-1"))


def shows_no_password(text: str) -> None:
    short = PASSWORD[:8]
    for shown in (PASSWORD, short, short.encode().hex()):
        assert shown not in text


async def test_a_new_mo_url_leaves_the_bind_alone(channels: Channels, sink: WebhookSink, smsc: WireSmsc) -> None:
    channel = await smpp(channels, smsc.port)
    pid = await channel.pid()
    await channel.modify(mo_url=sink.url("/other"), label="changed")
    assert await smsc.deliver(TO, "8110", b"to the other") == 0
    await sink.wait_content("/other", "to the other")
    assert await channel.pid() == pid
    assert len(smsc.links) == 1
    await channel.modify(config=config_for(smsc.port, system_id="another"))
    await eventually(lambda: len(smsc.binds) == 2)
    assert smsc.binds[1].system_id == "another"
    assert smsc.links[0].unbound


# --- logs -------------------------------------------------------------------------------------------------------------


async def test_the_log_shows_a_messages_whole_life(channels: Channels, sink: WebhookSink, smsc: WireSmsc) -> None:
    channel = await smpp(channels, smsc.port)
    message_id = await send(channel, sink, "its life")
    (submit,) = await smsc.submitted()
    await until_events(sink, message_id, "submitted")
    assert await smsc.receipt(submit) == 0
    await until_events(sink, message_id, "submitted", "delivery_succeeded")

    async def whole() -> list[dict[str, Any]] | None:
        lines = [line for line in await channel.logs(message_id=message_id, n=100) if "pdu" in line]
        return lines if len(lines) >= 4 else None

    lines = list(reversed(await eventually(whole)))  # the newest comes first
    assert [(line["direction"], line["pdu"]) for line in lines] == [
        ("out", "submit_sm"), ("in", "submit_sm_resp"), ("in", "deliver_sm"), ("out", "deliver_sm_resp"),
    ]  # fmt: skip
    assert lines[0]["content"] == "its life"
    assert b"its life".hex() in lines[0]["hex"]
    assert lines[1]["smsc_message_id"] == submit.message_id
    assert lines[1]["command_status"] == lines[3]["command_status"] == "ESME_ROK"
    assert "stat:DELIVRD" in lines[2]["content"]
    assert await smsc.deliver(TO, "8110", b"from a phone") == 0
    mo = await sink.wait_content("/mo", "from a phone")

    async def mo_lines() -> bool:
        lines = await channel.logs(message_id=mo["message_id"], n=100)
        return {"deliver_sm", "deliver_sm_resp"} <= {line.get("pdu") for line in lines}

    await eventually(mo_lines)


async def test_contents_stay_out_of_the_log_where_told(channels: Channels, sink: WebhookSink, smsc: WireSmsc) -> None:
    channel = await smpp(channels, smsc.port, redact_content=True)
    message_id = await send(channel, sink, "nobody's business")
    await until_events(sink, message_id, "submitted")
    assert await smsc.deliver(TO, "8110", b"nor is this nobody") == 0
    await sink.wait_content("/mo", "nor is this nobody")
    lines = await eventually(lambda: channel.logs(n=100))
    assert {"submit_sm", "deliver_sm"} <= {line.get("pdu") for line in lines}
    assert "nobody" not in str(lines)
    assert b"nobody".hex() not in str(lines)


# --- our own simulator ------------------------------------------------------------------------------------------------


async def test_junebug_smsc_from_the_outside(channels: Channels, sink: WebhookSink, short_dir: Path) -> None:
    arguments = ("--system-id", "esme", "--password", PASSWORD[:8], "--throttle-every", "4", "--message-ids", "decimal",
                 "--receipt-ids", "hex", "--receipt-delay", "0.1", "--duplicate-receipts")  # fmt: skip
    async with SmscCommand(short_dir, *arguments) as smsc:
        channel = await smpp(channels, smsc.port)
        contents = [f"number {n}" for n in range(10)] + ["lang " * 60, "€ 漢字"]
        ids = [await send(channel, sink, content) for content in contents]
        for message_id in ids:
            await until_events(sink, message_id, "submitted", "delivery_succeeded")
        taken = await smsc.get("/messages")
        assert len(taken) == 13
        assert {message["content"] for message in taken} >= {*contents[:10], "€ 漢字"}
        await smsc.post("/mo", **{"from": TO, "to": "8110", "content": "lange Nachricht " * 20})
        await sink.wait_content("/mo", "lange Nachricht " * 20)
        await smsc.post("/drop")
        message_id = await send(channel, sink, "after the drop")
        await until_events(sink, message_id, "submitted", "delivery_succeeded")
        assert PASSWORD[:8] not in smsc.output
        wrong = await smpp(channels, smsc.port, bound=False, system_id="nobody")
        assert (await until_status(wrong, "bind_refused"))["details"]["command_status"].startswith("ESME_R")


async def test_junebug_smsc_with_early_receipts_that_drops_and_is_silent(
    channels: Channels, sink: WebhookSink, short_dir: Path
) -> None:
    arguments = ("--early-receipts", "--receipt-form", "tlv", "--drop-every", "9", "--silent-every", "7",
                 "--refuse-every", "10", "--refuse-status", "ESME_RINVDSTADR", "--receipt-status", "DELIVRD,UNDELIV")  # fmt: skip
    async with SmscCommand(short_dir, *arguments) as smsc:
        channel = await smpp(channels, smsc.port, response_timeout=1)
        began = time.monotonic()
        ids = await gather_limited(10, (send(channel, sink, f"number {n}") for n in range(40)))
        final = {"delivery_succeeded", "delivery_failed", "rejected"}
        for message_id in ids:
            await eventually(lambda message_id=message_id: final & set(events(sink, message_id)[-1:]), 40)
        assert {tuple(events(sink, message_id)) for message_id in ids} <= {
            ("submitted", "delivery_succeeded"), ("submitted", "delivery_failed"), ("rejected",),
        }  # fmt: skip
        print(f"\n40 messages past a bad SMSC in {time.monotonic() - began:.1f} s: {await smsc.get('/')}")
