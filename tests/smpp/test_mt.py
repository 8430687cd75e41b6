"""A message becomes submit_sm: alphabet, parts, addresses, times, what channel_data asks for."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from junebug.errors import InvalidBody, MessageTooLong, Rejected
from junebug.model.messages import UserMessage
from junebug.registry import Registry
from junebug.smpp import constants as c
from junebug.smpp.codec import encode
from junebug.smpp.fields import EncodeError
from junebug.smpp.pdu import SubmitSm
from junebug.smpp.text import codecs, multipart
from junebug.transports.smpp import CHANNEL_DATA_SCHEMA, CHANNEL_TYPE, mt
from junebug.transports.smpp.config import Numbering, SmppConfig
from tests.polling import takes_less
from tests.tables import rows

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def build(content: str | None, *, to: str | None = "27820001111", sender: str | None = "8000", **given: Any) -> list[SubmitSm]:
    """`given`: the channel's options; `smpp` is the message's."""
    helper_metadata = {"smpp": given.pop("smpp")} if "smpp" in given else {}
    expires_at = given.pop("expires_at", None)
    config = SmppConfig.from_config({"host": "h", "port": 1, "system_id": "me", "password": "", **given})
    message = UserMessage(
        to_addr=to, from_addr=sender, content=content, transport_name="c", helper_metadata=helper_metadata,
        expires_at=expires_at,
    )  # fmt: skip
    pdus = mt.build(message, config, 0x1234, NOW)
    for pdu in pdus:
        pdu.sequence_number = 1
        encode(pdu)
    return pdus


def one(content: str | None, **given: Any) -> SubmitSm:
    (pdu,) = build(content, **given)
    return pdu


def test_the_alphabet_is_the_one_that_fits() -> None:
    assert (one("Hi @£€").short_message, one("Hi").data_coding) == (b"Hi \0\x01\x1be", 0)
    pdu = one("Привет")
    assert (pdu.short_message, pdu.data_coding) == ("Привет".encode("utf-16-be"), 8)


def test_a_configured_alphabet_is_kept_to() -> None:
    pdu = one("né", submit_sm_encoding="latin-1")
    assert (pdu.short_message, pdu.data_coding) == (b"n\xe9", 3)
    pdu = one("né", submit_sm_encoding="utf-8", submit_sm_data_coding=0)
    assert (pdu.short_message, pdu.data_coding) == ("né".encode(), 0)
    with pytest.raises(Rejected, match="Cannot encode"):
        build("Привет", submit_sm_encoding="latin-1")


def test_national_tables_where_configured() -> None:
    pdu = one("\u0131\u015f\u0131k", gsm_national_language="turkish")
    assert pdu.data_coding == 0
    assert pdu.esm_class == c.ESM_CLASS_UDHI


def test_no_content_is_an_empty_text() -> None:
    assert one(None).short_message == b""


def test_long_texts_get_a_user_data_header() -> None:
    pdus = build("x" * 161)
    assert [len(pdu.short_message) for pdu in pdus] == [6 + 153, 6 + 8]
    assert all(pdu.esm_class == c.ESM_CLASS_UDHI for pdu in pdus)
    assert [pdu.short_message[:6].hex() for pdu in pdus] == ["050003340201", "050003340202"]


def test_long_texts_as_sar() -> None:
    pdus = build("x" * 161, send_multipart_sar=True)
    assert [pdu.esm_class for pdu in pdus] == [0, 0]
    assert [pdu.tlvs for pdu in pdus] == [multipart.sar_tlvs(multipart.Concatenation(0x1234, 2, n)) for n in (1, 2)]


def test_long_texts_as_payload() -> None:
    assert one("x" * 254, send_long_messages=True).short_message == b"x" * 254
    pdu = one("x" * 255, send_long_messages=True)
    assert (pdu.short_message, pdu.tlvs[c.MESSAGE_PAYLOAD]) == (b"", b"x" * 255)


def test_what_255_parts_cannot_hold_is_refused() -> None:
    with pytest.raises(Rejected, match="Message too long"):
        build("x" * 153 * 256)


@rows("given", [{}, {"send_multipart_sar": True}, {"send_long_messages": True}])
@rows(
    "letter",
    ["x", "{", "é", "ж", "\U0001f1e6", "👍", "👍\U0001f3fd", "\u0301", "\u200d", "क्ष", "\u1100", "\r\n", "\0", "\ud800"],
)
@rows(
    "encoding", [None, "gsm0338", "gsm0338-packed", "gsm0338-1-1", "ucs2", "utf-8", "utf-7", "iso2022_jp", "unicode-escape"]
)
def test_a_text_of_any_length_is_cut_or_refused_in_little_time(
    given: dict[str, Any], letter: str, encoding: str | None
) -> None:
    config = {**CONFIG, **given}
    parsed = SmppConfig.from_config(config)
    smpp = {"encoding": encoding} if encoding else {}
    for length in (30_000, 1_000_000):
        message = message_with(smpp, letter * (length // len(letter)))

        def is_too_long(message: UserMessage = message) -> bool:
            try:
                mt.check(config, message)
            except MessageTooLong:
                return True
            return False

        def refusal(message: UserMessage = message) -> str:
            try:
                mt.build(message, parsed, 1, NOW)
            except Rejected as error:
                return error.reason
            return ""

        too_long, reason = is_too_long(), refusal()
        assert takes_less(0.1, is_too_long)
        assert too_long or length == 30_000
        assert takes_less(0.2, lambda: (is_too_long(), refusal()))
        assert reason.startswith("Message too long: " if too_long else ("Cannot encode", ""))


def test_a_payload_of_ones_own_is_refused_beside_a_content_and_taken_without_one() -> None:
    payload = {"tlvs": {"message_payload": "hex:00"}}
    with pytest.raises(Rejected, match=r"channel_data\.smpp\.tlvs\.message_payload"):
        mt.check(CONFIG, message_with(payload, "Hi"))
    mt.check(CONFIG, message_with(payload, ""))


def test_what_surely_is_short_enough_is() -> None:
    cluster = "\U0001f469" + "\U0001f3fd" * 17  # a little over half of a part: one to each
    for encoding in ("ucs2", "utf-8", "utf-32-be", "utf-7", "unicode-escape", "gsm0338-packed", "iso2022_jp"):
        text = (cluster * mt.SURELY_SHORT)[: mt.SURELY_SHORT]
        text = text if codecs.fits(text, encoding) else "\u3042" * mt.SURELY_SHORT
        if codecs.fits(text, encoding):
            assert len(multipart.parts(text, encoding, 1)) <= multipart.MAX_PARTS


def test_addresses_stand_as_configured() -> None:
    pdu = one("Hi", to="+27820001111", source_addr_ton=5, dest_addr_npi=9)
    assert (pdu.source_addr_ton, pdu.source_addr_npi, pdu.source_addr) == (5, 0, "8000")
    assert (pdu.dest_addr_ton, pdu.dest_addr_npi, pdu.destination_addr) == (0, 9, "+27820001111")


@rows(
    ("address", "ton", "npi", "written"),
    [
        ("+27820001111", 1, 1, "27820001111"),
        ("0027820001111", 1, 1, "27820001111"),
        ("+27 82 000 1111", 1, 1, "27820001111"),
        ("27820001111", 1, 1, "27820001111"),
        ("0820001111", 2, 1, "0820001111"),
        ("8000", 3, 0, "8000"),
        ("Junebug", 5, 0, "Junebug"),
        ("My Shop 24", 5, 0, "My Shop 24"),
        ("24/7", 5, 0, "24/7"),
        ("", 0, 0, ""),
        # as URIs
        ("tel:+27820001111", 1, 1, "27820001111"),
        ("TEL:+27-82-000-1111", 1, 1, "27820001111"),
        ("tel: 0820001111", 2, 1, "0820001111"),
        ("tel:8000", 3, 0, "8000"),
        ("tel://+27820001111", 1, 1, "27820001111"),
        ("tel:%2B27%2082%20000%201111", 1, 1, "27820001111"),
        ("smsto:+27820001111", 1, 1, "27820001111"),
        ("+27 (0)82 000 1111", 1, 1, "27820001111"),
        ("0027(0)82.000-1111", 1, 1, "27820001111"),
        ("(0)82 000 1111", 2, 1, "0820001111"),
        ("tel:+27820001111;ext=12", 1, 1, "27820001111"),
        ("tel:863-1234;phone-context=+1-914-555", 1, 1, "19145558631234"),
        ("tel:8000;phone-context=example.com", 3, 0, "8000"),
        ("tel:*120*1#", 3, 0, "*120*1#"),
        ("sms:+27820001111", 1, 1, "27820001111"),
        ("tel:Junebug", 5, 0, "Junebug"),
        # with blanks
        (" +27820001111\n", 1, 1, "27820001111"),
        ("27 82 000 11 11", 1, 1, "27820001111"),
        ("+27\t82\t0001111", 1, 1, "27820001111"),
        ("+27\u00a082\u202f000\u00a01111", 1, 1, "27820001111"),
        ("\u202a+27 82\u2011000\u20111111\u202c", 1, 1, "27820001111"),
        ("082 000 1111", 2, 1, "0820001111"),
        ("80 00", 3, 0, "8000"),
        # USSD
        ("*120*8864#", 3, 0, "*120*8864#"),
        ("*120*8864*27820001111#", 3, 0, "*120*8864*27820001111#"),
        ("*#06#", 3, 0, "*#06#"),
        ("#31#27820001111", 3, 0, "#31#27820001111"),
        ("**21*1#", 3, 0, "**21*1#"),
        ("* 120 #", 3, 0, "*120#"),
        ("*", 5, 0, "*"),
        ("+", 5, 0, "+"),
        (":", 5, 0, ":"),
    ],
)
def test_type_and_plan_can_be_guessed(address: str, ton: int, npi: int, written: str) -> None:
    assert mt.guess_numbering(address) == (Numbering(ton, npi), written)


def test_guessing_is_an_option() -> None:
    pdu = one("Hi", to="+27820001111", sender="Junebug", ton_npi="auto")
    assert (pdu.source_addr_ton, pdu.dest_addr_ton, pdu.destination_addr) == (5, 1, "27820001111")


def test_a_sender_for_those_that_have_none() -> None:
    assert one("Hi", sender=None).source_addr == ""
    assert one("Hi", sender=None, default_source_addr="1234").source_addr == "1234"


@pytest.mark.parametrize("to", [None, "", "ж", "1\x002"])
def test_addresses_that_cannot_be_are_refused(to: str | None) -> None:
    with pytest.raises(Rejected) as refused:
        build("Hi", to=to)
    assert refused.value.reason == f"Invalid to_addr: {to}"


def test_receipts_are_asked_for() -> None:
    assert one("Hi").registered_delivery == 1
    assert one("Hi", registered_delivery=False).registered_delivery == 0
    assert one("Hi", registered_delivery=17).registered_delivery == 17
    assert one("Hi", smpp={"registered_delivery": False}).registered_delivery == 0


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0, "000000000000000R"),
        (90, "000000000130000R"),
        (86_400, "000001000000000R"),
        (86_400 * 45, "000115000000000R"),
        (86_400 * 364, "001134000000000R"),
        (86_400 * 366, "010001000000000R"),
    ],
)
def test_times_from_now(seconds: int, written: str) -> None:
    assert mt.relative_time(seconds) == written


def test_what_a_single_message_may_ask_for() -> None:
    pdu = one(
        "Hi",
        validity_period=60,
        smpp={
            "service_type": "WAP",
            "validity_period": 3600,
            "schedule_delivery_time": "241123120000000+",
            "priority_flag": 2,
            "data_coding": 0xF0,
            "dest_addr_ton": 1,
            "tlvs": {"0x1401": "hex:0a0b", "source_port": 9200, "5122": "text", "sms_signal": 1},
        },
    )
    assert (pdu.service_type, pdu.validity_period) == ("WAP", "000000010000000R")
    assert pdu.schedule_delivery_time == "241123120000000+"
    assert (pdu.priority_flag, pdu.data_coding, pdu.dest_addr_ton) == (2, 0xF0, 1)
    ports, signal = c.tlv_tag("source_port"), c.tlv_tag("sms_signal")
    assert pdu.tlvs == {0x1401: b"\x0a\x0b", ports: b"\x23\xf0", 5122: b"text", signal: b"\0\1"}
    assert one("Hi", validity_period=60).validity_period == "000000000100000R"


REGISTRY = Registry([CHANNEL_TYPE])
CONFIG = {"host": "h", "port": 1, "system_id": "me", "password": ""}


def message_with(smpp: Any, content: str = "Hi") -> UserMessage:
    return UserMessage(
        to_addr="27820001111", from_addr="8000", content=content, transport_name="c", helper_metadata={"smpp": smpp}
    )


@rows(
    ("asked", "reason"),
    [
        ("fast", "channel_data.smpp: "),
        (["encoding"], "channel_data.smpp: "),
        (1, "channel_data.smpp: "),
        ({"speed": 1}, "channel_data.smpp: Additional properties are not allowed ('speed'"),
        ({"priority_flag": "high"}, "channel_data.smpp.priority_flag: "),
        ({"priority_flag": True}, "channel_data.smpp.priority_flag: "),
        ({"priority_flag": 1.5}, "channel_data.smpp.priority_flag: "),
        ({"priority_flag": 256}, "channel_data.smpp.priority_flag: "),
        ({"data_coding": -1}, "channel_data.smpp.data_coding: "),
        ({"dest_addr_ton": {}}, "channel_data.smpp.dest_addr_ton: "),
        ({"registered_delivery": "yes"}, "channel_data.smpp.registered_delivery: "),
        ({"service_type": []}, "channel_data.smpp.service_type: "),
        ({"service_type": 5}, "channel_data.smpp.service_type: "),
        ({"service_type": "toolong"}, "channel_data.smpp.service_type: "),
        ({"service_type": "\0"}, "channel_data.smpp.service_type: "),
        ({"service_type": "ж"}, "channel_data.smpp.service_type: "),
        ({"validity_period": "tomorrow"}, "channel_data.smpp.validity_period: "),
        ({"validity_period": "²"}, "channel_data.smpp.validity_period: "),
        ({"validity_period": "١٢"}, "channel_data.smpp.validity_period: "),
        ({"validity_period": ""}, "channel_data.smpp.validity_period: "),
        ({"validity_period": "9" * 5000}, "channel_data.smpp.validity_period: "),
        ({"validity_period": -1}, "channel_data.smpp.validity_period: "),
        ({"validity_period": 0.5}, "channel_data.smpp.validity_period: "),
        ({"validity_period": [60]}, "channel_data.smpp.validity_period: "),
        ({"schedule_delivery_time": True}, "channel_data.smpp.schedule_delivery_time: "),
        ({"schedule_delivery_time": "241123120000000+\n"}, "channel_data.smpp.schedule_delivery_time: "),
        ({"encoding": 8}, "channel_data.smpp.encoding: "),
        ({"encoding": ["ucs2"]}, "channel_data.smpp.encoding: "),
        ({"encoding": ""}, "channel_data.smpp.encoding: "),
        ({"encoding": "x" * 100_000}, "channel_data.smpp.encoding: "),
        ({"encoding": "klingon"}, "channel_data.smpp.encoding: there is no codec"),
        ({"encoding": "hex"}, "channel_data.smpp.encoding: there is no codec"),
        ({"encoding": "idna"}, "channel_data.smpp.encoding: there is no codec"),
        ({"encoding": "punycode"}, "channel_data.smpp.encoding: there is no codec"),
        ({"encoding": "gsm0338-99-99"}, "channel_data.smpp.encoding: there is no codec"),
        ({"encoding": "ucs2\0"}, "channel_data.smpp.encoding: there is no codec"),
        ({"encoding": "²"}, "channel_data.smpp.encoding: there is no codec"),
        ({"tlvs": []}, "channel_data.smpp.tlvs: "),
        ({"tlvs": "x"}, "channel_data.smpp.tlvs: "),
        ({"tlvs": {"odd": 1}}, "channel_data.smpp.tlvs.odd: "),
        ({"tlvs": {"²": 1}}, "channel_data.smpp.tlvs.²: "),
        ({"tlvs": {"0x1401": "hex:xy"}}, "channel_data.smpp.tlvs.0x1401: "),
        ({"tlvs": {"0x1401": "ж"}}, "channel_data.smpp.tlvs.0x1401: "),
        ({"tlvs": {"0x1401": "x" * 70_000}}, "channel_data.smpp.tlvs.0x1401: "),
        ({"tlvs": {"0x1401": None}}, "channel_data.smpp.tlvs.0x1401: "),
        ({"tlvs": {"0x1401": -1}}, "channel_data.smpp.tlvs.0x1401: "),
        ({"tlvs": {"0x1401": [1]}}, "channel_data.smpp.tlvs.0x1401: "),
        ({"tlvs": {"0x1401": 1.5}}, "channel_data.smpp.tlvs.0x1401: "),
        ({"tlvs": {"source_port": "abc"}}, "channel_data.smpp.tlvs.source_port: "),
        ({"tlvs": {"source_port": 70_000}}, "channel_data.smpp.tlvs.source_port: "),
    ],
)
def test_an_option_that_cannot_be_is_named_and_its_value_is_not_repeated(asked: Any, reason: str) -> None:
    with pytest.raises(InvalidBody) as refused:
        REGISTRY.check_message("smpp", CONFIG, message_with(asked))
    (error,) = refused.value.errors()
    assert error["message"].startswith(reason)
    assert error["schema_path"][:2] == ["properties", "channel_data"]
    assert len(error["message"]) < 500


ODD_VALUES = (
    None, True, False, 0, 1, -1, 255, 256, 1.0, 1.5, 1e300, 2**63, "", "0", "1", "60", "²", "٣", "x", "ж", "\0",
    "hex:", "hex:0", "ucs2", "gsm0338-packed", "261124120500000+", "9" * 400, "x" * 100_000, [], [1], ["ucs2"],
    {}, {"0x1401": 1}, {"": 1}, {"0x1401": 1e300}, {"0x1401": 2**64}, {"message_payload": "x"}, {"sar_msg_ref_num": 1},
)  # fmt: skip


@rows("name", [*CHANNEL_DATA_SCHEMA["properties"]["smpp"]["properties"], "unknown"])
@rows("long_messages", ["send_multipart_udh", "send_multipart_sar", "send_long_messages"])
def test_whatever_an_option_is_it_is_sent_or_refused_with_a_reason(name: str, long_messages: str) -> None:
    config = {**CONFIG, long_messages: True}
    parsed = SmppConfig.from_config(config)
    for value in ODD_VALUES:
        for content in ("", "Hi", "é" * 400, "\ud800"):
            message = message_with({name: value}, content)
            try:
                REGISTRY.check_message("smpp", config, message)
            except InvalidBody:
                continue
            try:
                for pdu in mt.build(message, parsed, 1, NOW):
                    pdu.sequence_number = 1
                    encode(pdu)
            except (Rejected, EncodeError):
                pass


IN_TEN_MINUTES = "2026-11-24 12:10:00.000000"


@pytest.mark.parametrize(
    ("configured", "asked", "validity_period"),
    [
        (None, {}, "000000001000000R"),
        (3600, {}, "000000001000000R"),
        (60, {}, "000000000100000R"),
        (None, {"validity_period": 30}, "000000000030000R"),
        (None, {"validity_period": "261124120500000+"}, "261124120500000+"),
    ],
)
def test_the_smsc_is_told_when_a_message_expires(
    configured: int | None, asked: dict[str, Any], validity_period: str
) -> None:
    (pdu,) = build("Hi", smpp=asked, expires_at=IN_TEN_MINUTES, validity_period=configured)
    assert pdu.validity_period == validity_period
