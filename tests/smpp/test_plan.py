"""What the dry run tells of an MT (transports/smpp/plan.py) is what is sent (mt.py), and why it is so."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any

import pytest

from junebug.errors import Rejected
from junebug.model.messages import UserMessage
from junebug.model.plan import Plan
from junebug.registry import Registry
from junebug.smpp import constants as c
from junebug.smpp.pdu import SubmitSm
from junebug.smpp.text import codecs, gsm_safe, multipart
from junebug.transports.smpp import CHANNEL_TYPE, mt
from junebug.transports.smpp.config import SmppConfig
from junebug.transports.smpp.plan import plan
from tests.harness import THOROUGH
from tests.tables import rows

CONFIG = {"host": "h", "port": 1, "system_id": "me", "password": ""}
NOW = datetime(2026, 11, 27, tzinfo=UTC)
QUOTED = "\u201cHi\u201d \u2013 it\u2019s \u2026"


def message(content: str | None, smpp: dict[str, Any] | None = None, to: str = "27820001111") -> UserMessage:
    return UserMessage(to_addr=to, from_addr="8000", content=content, transport_name="c", helper_metadata={"smpp": smpp or {}})


def planned(content: str | None, smpp: dict[str, Any] | None = None, **options: Any) -> Plan:
    return plan({**CONFIG, **options}, message(content, smpp))


def said(pdu: SubmitSm, codec: str) -> str:
    """What a phone reads in one of our submit_sm."""
    octets = pdu.tlvs.get(c.MESSAGE_PAYLOAD, pdu.short_message)
    if pdu.esm_class & c.ESM_CLASS_UDHI:
        _, octets = multipart.parse_udh(octets)
    if codec.startswith(codecs.GSM):
        return codecs.alphabet(*codecs.national_languages(codec)).decode(octets)
    return octets.decode(codec)


def built(content: str, smpp: dict[str, Any], options: dict[str, Any], reference: int) -> tuple[list[SubmitSm], str | None]:
    """What is sent, and why nothing is."""
    try:
        return mt.build(message(content, smpp), SmppConfig.from_config({**CONFIG, **options}), reference, NOW), None
    except Rejected as error:
        return [], error.reason


WORDS = ("hello ", "€[]{}~|^\\", "\u201cquoted\u201d", "\u2013 dash \u2014", "it\u2019s", "\u2026", "\u00a0", "Привет ", "ığşç",
         "é", "\U0001f600", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\r\n", "e\u0301", "x" * 60, "\t", "का")  # fmt: skip
OPTIONS: tuple[dict[str, Any], ...] = (
    {}, {"gsm_safe": True}, {"send_multipart_sar": True}, {"send_long_messages": True}, {"gsm_national_language": "turkish"},
    {"submit_sm_encoding": "latin-1"}, {"submit_sm_encoding": "ucs2"}, {"submit_sm_data_coding": 3},
    {"submit_sm_encoding": "latin-1", "gsm_safe": True}, {"gsm_national_language": "turkish", "gsm_safe": True},
    {"send_multipart_sar": True, "gsm_safe": True},
)  # fmt: skip
OVERRIDES: tuple[dict[str, Any], ...] = ({}, {}, {}, {"encoding": "ucs2"}, {"encoding": "utf-8"}, {"data_coding": 240})


@pytest.mark.parametrize("seed", range(2))
def test_the_parts_that_are_told_are_those_that_are_sent(seed: int) -> None:
    chance = random.Random(seed)
    kinds = set()
    for _ in range(400 * THOROUGH):
        content = "".join(chance.choices(WORDS, k=chance.randrange(40)))
        options, smpp = chance.choice(OPTIONS), chance.choice(OVERRIDES)
        told = planned(content, smpp, **options)
        pdus, refusal = built(content, smpp, options, chance.randrange(65536))
        assert told.rejected == refusal
        if refusal is not None:
            assert told.parts == ()
            kinds.add("rejected")
            continue
        assert told.encoding is not None
        codec = codecs.codec_name(told.encoding.name)
        assert [said(pdu, codec) for pdu in pdus] == [part.content for part in told.parts]
        assert [len(pdu.tlvs.get(c.MESSAGE_PAYLOAD, pdu.short_message)) for pdu in pdus] == [part.octets for part in told.parts]
        assert {pdu.data_coding for pdu in pdus} == {told.encoding.data_coding}
        text = "".join(part.content for part in told.parts)
        assert text == (gsm_safe.safe(content) if told.replaced else content)
        assert [part.characters for part in told.parts] == [len(part.content) for part in told.parts]
        kinds |= {part.header for part in told.parts} | {told.encoding.name, "replaced" if told.replaced else ""}
        for each in told.encoding.forced_by:
            assert content[each.position] == each.character
            assert not codecs.fits(each.character, codecs.GSM)
        for replacement in (*told.replaced, *told.would_replace):
            assert {content[position] for position in replacement.positions} == {replacement.character}
        if told.would_replace:
            safe = planned(content, smpp, **options, gsm_safe=True)
            assert safe.replaced == told.would_replace
    assert {None, "udh", "sar", "payload", "gsm0338", "ucs2", "rejected", "replaced", "utf-8"} <= kinds


@rows(
    ("content", "options", "smpp", "name", "reason"),
    [
        ("Hi", {}, {}, "gsm0338", "GSM 03.38 has every character"),
        ("5 €", {}, {}, "gsm0338", "GSM 03.38 has every character; 1 of them take two places each"),
        (None, {}, {}, "gsm0338", "GSM 03.38 has every character"),
        ("ab\u201c", {}, {}, "ucs2", "GSM 03.38 has no U+201C (\u201c, at position 2)"),
        ("Приветы", {}, {}, "ucs2", "GSM 03.38 has no U+041F (П, at position 0), nor 6 more characters"),
        ("Hi", {"submit_sm_encoding": "ucs2"}, {}, "ucs2", "the channel's option submit_sm_encoding says so"),
        ("Hi", {}, {"encoding": "latin-1"}, "iso8859-1", "channel_data.smpp.encoding says so"),
        ("ş", {"gsm_national_language": "turkish"}, {}, "gsm0338-1-0", "the tables of turkish have what GSM 03.38 has not"),
        ("Hi", {}, {"data_coding": 4}, "gsm0338", "GSM 03.38 has every character; data_coding is set by channel_data"),
        (QUOTED, {"gsm_safe": True}, {}, "gsm0338", "GSM 03.38 has every character after the replacements of gsm_safe"),
        (QUOTED + "П", {"gsm_safe": True}, {}, "ucs2", "GSM 03.38 has no U+201C (\u201c, at position 0), nor 5 more characters"),
    ],
)
def test_why_it_is_encoded_so(content: str | None, options: Any, smpp: Any, name: str, reason: str) -> None:
    encoding = planned(content, smpp, **options).encoding
    assert encoding is not None
    assert encoding.name == name
    assert encoding.reason.startswith(reason)


def test_what_is_replaced_is_told_and_so_is_what_would_be() -> None:
    on, off = planned(QUOTED, gsm_safe=True), planned(QUOTED)
    assert ([part.content for part in on.parts], on.would_replace) == (['"Hi" - it\'s ...'], ())
    assert ([part.content for part in off.parts], off.replaced) == ([QUOTED], ())
    assert {(each.character, each.by, each.positions) for each in on.replaced} == {
        ("\u201c", '"', (0,)), ("\u201d", '"', (3,)), ("\u2013", "-", (5,)), ("\u2019", "'", (9,)), ("\u2026", "...", (12,)),
    }  # fmt: skip
    assert off.would_replace == on.replaced


def test_a_text_that_is_ucs2_anyway_stays_as_it_was_written() -> None:
    for option in (True, False):
        told = planned(QUOTED + " Привет", gsm_safe=option)
        assert (told.replaced, told.would_replace) == ((), ())
        assert told.parts[0].content == QUOTED + " Привет"


def test_gsm_safe_lets_a_text_into_a_configured_alphabet() -> None:
    assert "Cannot encode" in (planned(QUOTED, submit_sm_encoding="latin-1").rejected or "")
    (part,) = planned(QUOTED, submit_sm_encoding="latin-1", gsm_safe=True).parts
    assert part.content == gsm_safe.safe(QUOTED)


def test_each_replacement_is_in_gsm_and_what_it_replaces_is_not() -> None:
    for character, by in gsm_safe.REPLACEMENTS.items():
        assert codecs.fits(by, codecs.GSM), repr(character)
        assert not codecs.fits(character, codecs.GSM), repr(character)


@rows(
    ("options", "to", "reason"),
    [
        ({"bind_mode": "receiver"}, "27", "bind_mode"),
        ({}, "", "Invalid to_addr"),
        ({"submit_sm_encoding": "nonsense"}, "27", "config.submit_sm_encoding"),
    ],
)
def test_what_would_be_rejected_later_is_told(options: Any, to: str, reason: str) -> None:
    assert reason in (plan({**CONFIG, **options}, message("x", to=to)).rejected or "")


def test_the_pace_is_the_channels() -> None:
    assert (planned("x", mt_tps=5).pace, planned("x").pace) == (5.0, None)


def test_the_registry_finds_it_and_a_type_without_one_sends_as_it_is() -> None:
    registry = Registry([CHANNEL_TYPE])
    assert len(registry.plan("smpp", {**CONFIG}, message("x" * 161)).parts) == 2
    told = registry.plan("gone", {}, message("né"))
    assert (told.encoding, [(part.content, part.octets) for part in told.parts]) == (None, [("né", 3)])
