"""What others write costs time in proportion to its length: a megabyte is done, or refused, within 50 milliseconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from junebug.errors import JunebugError
from junebug.logs.redaction import LONGEST_TEXT, REDACTED, Redactor
from junebug.model import templates
from junebug.model.messages import UserMessage
from junebug.smpp.text import codecs, gsm
from junebug.transports.smpp import mt
from junebug.transports.smpp.config import SmppConfig
from junebug.transports.telnet.protocol import LineReader, format_text
from junebug.transports.telnet.transport import READ_SIZE
from tests.tables import rows

LIMIT = 0.05
MEGABYTE = 1_000_000
SMPP: dict[str, Any] = {"host": "h", "port": 1, "system_id": "me", "password": ""}
REDACTOR = Redactor(["secret", "a" * 200 + "b", "abab" * 50 + "c"])


def of(pattern: str) -> str:
    """A megabyte of it."""
    return (pattern * (MEGABYTE // len(pattern.encode("utf-8", "surrogatepass")) + 1))[:MEGABYTE]


def check(template: str) -> None:
    templates.check(template, templates.MO_VARIABLES)


def fill_in(text: str) -> None:
    templates.expand("http://h/{+content}/x/{content}", {"content": text[: templates.LONGEST_VALUE // 4]})


def check_message(content: str, **options: Any) -> None:
    mt.check({**SMPP, **options}, UserMessage(to_addr="1", from_addr=None, content=content, transport_name="c"))


def build(to_addr: str, **options: Any) -> None:
    message = UserMessage(to_addr=to_addr, from_addr=to_addr, content="Hi", transport_name="c")
    mt.build(message, SmppConfig.from_config({**SMPP, **options}), 1, datetime.now(UTC))


ROWS: list[tuple[Callable[[Any], Any], list[Any]]] = [
    (REDACTOR.text, ["a", "ab", "secret", "://", "http://u", "@", "://@", "Token ", "Basic\t", "Bearer x ", "Token", " ", "ж"]),
    (REDACTOR.value, ["a", "Token "]),
    (format_text, ["x", "\n", "\r\n", "\x85", "\u2028", "ж", "\xff"]),
    (check, ["http://h/", "{", "{a", "a,", "{a,", "{content}", "{a*,", "}", "http://"]),
    (fill_in, ["a", "/", ".", "..", "%2e", "%20", "%20.", " ", ";", "%", "\\"]),
    (lambda text: check("http://h/{" + text), ["a", "a,", "a*,", "a:1,"]),
    (check_message, ["x", "é", "\U0001f1e6", "e\u0301", "\u200d", "👍🏽", "क्ष", "\r\n", "{", "\0", "\ud800"]),
    (lambda text: check_message(text, send_long_messages=True), ["x", "ж", "\U0001f1e6"]),
    (lambda text: check_message(text, gsm_national_language="turkish"), ["x", "ı", "ж"]),
    (lambda text: build(text, ton_npi="auto"), ["1", "+1", " ", "-", "tel:", "tel:1;", ";phone-context=", "*", "#1", "00", "x"]),
]


@rows(("work", "text"), [(work, of(pattern)) for work, patterns in ROWS for pattern in patterns])
def test_a_megabyte_is_done_or_refused_in_little_time(work: Callable[[str], Any], text: str) -> None:
    assert quickest(lambda: work(text)) < LIMIT


LONG = [b"\x1b", b"x", b"\x1be", b"\x1b\x1b", b"\0", b"\xd8\0", b"\r"]


@rows("octets", LONG)
@rows("data_coding", [0, 1, 3, 5, 8, 10, 13, 14])
def test_the_longest_payload_is_decoded_in_little_time(octets: bytes, data_coding: int) -> None:
    payload = (octets * 0xFFFF)[:0xFFFF]
    assert quickest(lambda: codecs.decode_text(payload, data_coding, errors="replace")) < LIMIT


@rows("octets", LONG)
def test_the_longest_payload_is_packed_in_little_time(octets: bytes) -> None:
    payload = (octets * 0xFFFF)[:0xFFFF]
    assert quickest(lambda: gsm.unpack(payload)) < LIMIT
    assert quickest(lambda: gsm.pack(bytes(octet & 0x7F for octet in payload))) < LIMIT


@pytest.mark.parametrize("octets", [b"x", b"\n", b"\r", b"\r\0", b"\xff", b"\xff\xf1", b"\xff\xfa", b"\xff\xfb\x01", b"\0"])
def test_what_one_read_of_a_telnet_client_brings_is_lines_in_little_time(octets: bytes) -> None:
    reader, data = LineReader(), octets * READ_SIZE
    for _ in range(5):
        reader.feed(data)  # it keeps no more of an unfinished line than the longest one
    assert quickest(lambda: list(reader.feed(data[:READ_SIZE]))) < LIMIT


def test_of_what_is_too_long_for_a_log_the_beginning_is_shown_and_no_part_of_a_secret() -> None:
    secret = "s3cr3t" * 40
    redactor = Redactor([secret])
    for before in range(LONGEST_TEXT - 2 * len(secret), LONGEST_TEXT + 10, 7):
        shown = redactor.text("." * before + secret + "x" * MEGABYTE)
        assert len(shown) < LONGEST_TEXT
        assert "s3cr3t" not in shown
    assert redactor.text("." * 10 + secret) == "." * 10 + REDACTED


def quickest(work: Callable[[], Any]) -> float:
    """Seconds of the quickest of three: others use this machine, too."""
    taken = []
    for _ in range(3):
        began = time.process_time()
        try:
            work()
        except (JunebugError, ValueError):
            pass
        taken.append(time.process_time() - began)
    return min(taken)
