"""Long messages: parts of the right size, cut where nobody sees it, with headers that say how they belong together."""

from __future__ import annotations

import pytest

from junebug.smpp import constants as c
from junebug.smpp.text.codecs import UnencodableText, decode_text, encode_text, national_languages
from junebug.smpp.text.gsm import unpack
from junebug.smpp.text.multipart import (
    BadUserDataHeader,
    Concatenation,
    TooManyParts,
    UserDataHeader,
    build_udh,
    concatenation_element,
    is_boundary,
    parse_sar,
    parse_udh,
    parts,
    sar_tlvs,
    split,
)
from tests.smpp.properties import given, st
from tests.tables import rows

FAMILY = "👨\u200d👩\u200d👧\u200d👦"


# --- sizes ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "one", "each", "each_wide", "unit"),
    [
        ("gsm0338", 160, 153, 152, 1),
        ("gsm0338-0-1", 155, 149, 148, 1),
        ("gsm0338-1-1", 152, 146, 145, 1),
        ("ucs2", 70, 67, 66, 2),
        ("latin-1", 140, 134, 133, 1),
        ("utf-8", 140, 134, 133, 1),
    ],
)
def test_the_sizes_that_every_phone_knows(encoding: str, one: int, each: int, each_wide: int, unit: int) -> None:
    assert len(parts("a" * one, encoding, 1)) == 1
    assert len(parts("a" * (one + 1), encoding, 1)) == 2
    for wide, size in ((False, each), (True, each_wide)):
        found = parts("a" * size * 3, encoding, 1, wide=wide)
        assert len(found) == 3
        assert {len(parse_udh(part.short_message)[1]) for part in found} == {size * unit}
        assert len(parts("a" * (size * 3 + 1), encoding, 1, wide=wide)) == 4


def test_one_part_has_no_header_and_may_be_empty() -> None:
    (part,) = parts("", "gsm0338", 1)
    assert (part.short_message, part.udhi, part.tlvs) == (b"", False, {})
    (part,) = parts("hi", "ucs2", 1, sar=True)
    assert (part.short_message, part.udhi, part.tlvs) == (b"\0h\0i", False, {})


def test_a_national_language_is_named_in_every_part() -> None:
    (part,) = parts("ğ", "gsm0338-1-0", 1)
    assert (part.short_message, part.udhi) == (b"\x03\x25\x01\x01\x0c", True)
    for sar in (False, True):
        for part in parts("ağ" * 200, "gsm0338-1-1", 1, sar=sar):
            header, _ = parse_udh(part.short_message)
            assert (header.locking_shift, header.single_shift, part.udhi) == (1, 1, True)
            assert (header.concatenation is None) is sar


def test_packed_parts_begin_at_a_septet() -> None:
    found = parts("a" * 200, "gsm0338-packed", 1)
    assert [len(part.short_message) for part in found] == [140, 48]
    assert b"".join(unpack(part.short_message[6:], 1) for part in found) == b"a" * 200


def test_255_parts_and_no_more() -> None:
    assert len(parts("a" * 153 * 255, "gsm0338", 1)) == 255
    with pytest.raises(TooManyParts, match="more than 255"):
        parts("a" * (153 * 255 + 1), "gsm0338", 1)


def test_what_the_encoding_does_not_have_is_told() -> None:
    with pytest.raises(UnencodableText):
        parts("a" * 200 + "日", "gsm0338", 1)


# --- cuts -----------------------------------------------------------------------------------------------------------------


def test_no_cut_through_an_escape_pair() -> None:
    found = split("a" * 152 + "€" + "b" * 10, "gsm0338", header=6)
    assert found == [b"a" * 152, b"\x1be" + b"b" * 10]
    assert [len(piece) for piece in split("€" * 153, "gsm0338", header=6)] == [152, 152, 2]


def test_no_cut_through_a_surrogate_pair() -> None:
    first, second = split("a" * 66 + "😀", "ucs2", header=6)
    assert (first.decode("utf-16-be"), second.decode("utf-16-be")) == ("a" * 66, "😀")


@rows(
    "cluster",
    [
        "e\u0301", FAMILY, "👍🏽", "🇿🇦", "❤\ufe0f", "नि", "क्ष", "각", "\u1112\u1161\u11ab", "\r\n",
        "🏴\U000e0067\U000e0062\U000e007f",
    ],
)
@rows("before", range(50, 68))
def test_no_cut_through_a_grapheme(cluster: str, before: int) -> None:
    pieces = [piece.decode("utf-16-be") for piece in split("a" * before + cluster + "b" * 20, "ucs2", header=6)]
    assert "".join(pieces) == "a" * before + cluster + "b" * 20
    assert any(cluster in piece for piece in pieces)


def test_flags_are_counted_in_pairs() -> None:
    flags = "🇿🇦🇩🇪🇫🇷"
    assert [is_boundary(flags, at) for at in range(1, 6)] == [False, True, False, True, False]


def test_a_grapheme_longer_than_a_part_is_cut_all_the_same() -> None:
    zalgo = "e" + "\u0301" * 200
    pieces = split(zalgo, "ucs2", header=6)
    assert b"".join(pieces).decode("utf-16-be") == zalgo
    assert len(pieces) == 3


@given(
    st.text(st.sampled_from("ab€{\r\né日ก็😀👍🏽🇿🇦\u0301\u200d\ufe0fनक्ष"), max_size=600),
    st.sampled_from(("ucs2", "utf-8", "utf-16-le", "gb18030", "utf-32-be")),
    st.integers(0, 12),
)
def test_parts_joined_are_the_text(message: str, encoding: str, header: int) -> None:
    pieces = split(message, encoding, header=header)
    assert all(len(piece) <= 140 - header for piece in pieces)
    assert "".join(piece.decode(encoding.replace("ucs2", "utf-16-be")) for piece in pieces) == message
    assert b"" not in pieces or pieces == [b""]


@given(
    st.text(st.sampled_from("abc€{~@ğşİ\r\nçà"), max_size=1500), st.booleans(), st.booleans(), st.integers(0, 0xFFFF)
)
def test_a_text_goes_out_and_comes_back(message: str, sar: bool, wide: bool, reference: int) -> None:
    encoding = "gsm0338-1-1"
    found = parts(message, encoding, reference, sar=sar, wide=wide)
    texts = []
    for number, part in enumerate(found, 1):
        header, octets = parse_udh(part.short_message)
        whole = parse_sar(part.tlvs) if sar else header.concatenation
        if len(found) > 1:
            expected = reference if sar or wide else reference & 0xFF
            assert whole == Concatenation(expected, len(found), number)
        assert len(part.short_message) <= 254
        locking, single = header.locking_shift, header.single_shift
        assert (locking, single) == national_languages(encoding)
        texts.append(decode_text(octets, 0, locking_shift=locking, single_shift=single))
    assert "".join(texts) == message
    if len(found) == 1:
        assert len(encode_text(message, encoding)) <= 152


# --- headers --------------------------------------------------------------------------------------------------------------


def test_the_header_octet_by_octet() -> None:
    part = Concatenation(0x1234, 3, 2)
    assert build_udh([concatenation_element(part)]) == b"\x05\x00\x03\x34\x03\x02"
    assert build_udh([concatenation_element(part, wide=True)]) == b"\x06\x08\x04\x12\x34\x03\x02"
    assert build_udh([]) == b""
    assert sar_tlvs(part) == {0x020C: b"\x12\x34", 0x020E: b"\x03", 0x020F: b"\x02"}


def test_a_header_is_read() -> None:
    header, rest = parse_udh(b"\x0b\x05\x04\x15\x81\x00\x00\x00\x03\x2a\x02\x01text")
    assert rest == b"text"
    assert header.concatenation == Concatenation(0x2A, 2, 1)
    assert header.element(0x05) == b"\x15\x81\x00\x00"
    assert (header.locking_shift, header.single_shift) == (0, 0)
    assert parse_udh(b"\x06\x24\x01\x01\x25\x01\x03")[0] == UserDataHeader(((0x24, b"\x01"), (0x25, b"\x03")))
    assert parse_udh(b"\0text") == (UserDataHeader(), b"text")


def test_of_a_repeated_element_the_last_counts() -> None:
    header, _ = parse_udh(b"\x0a\x00\x03\x01\x02\x01\x00\x03\x09\x02\x02")
    assert header.concatenation == Concatenation(9, 2, 2)


@pytest.mark.parametrize("element", [b"\0\3\1\2\3", b"\0\3\1\2\0", b"\0\3\1\0\0", b"\0\2\1\2", b"\x08\4\0\1\2\3"])
def test_a_part_that_cannot_be_is_no_part(element: bytes) -> None:
    assert parse_udh(bytes((len(element),)) + element)[0].concatenation is None


@pytest.mark.parametrize("data", [b"", b"\x05", b"\x05\0\3\1\2", b"\x01\0", b"\x03\0\3\1text"])
def test_what_is_no_header_is_told(data: bytes) -> None:
    with pytest.raises(BadUserDataHeader):
        parse_udh(data)


@given(st.binary(max_size=60))
def test_no_header_breaks_the_parser(data: bytes) -> None:
    try:
        header, rest = parse_udh(data)
    except BadUserDataHeader:
        return
    assert data.endswith(rest)
    assert header.locking_shift + header.single_shift >= 0
    assert header.concatenation is None or header.concatenation.number >= 1


@pytest.mark.parametrize(
    "tlvs",
    [
        {},
        {c.SAR_MSG_REF_NUM: b"\0\1", c.SAR_TOTAL_SEGMENTS: b"\2"},
        {c.SAR_MSG_REF_NUM: b"\0\1", c.SAR_TOTAL_SEGMENTS: b"\2", c.SAR_SEGMENT_SEQNUM: b"\3"},
        {c.SAR_MSG_REF_NUM: b"\0\1", c.SAR_TOTAL_SEGMENTS: b"\0", c.SAR_SEGMENT_SEQNUM: b"\0"},
        {c.SAR_MSG_REF_NUM: b"\0\1", c.SAR_TOTAL_SEGMENTS: b"", c.SAR_SEGMENT_SEQNUM: b"\1"},
        {c.SAR_MSG_REF_NUM: b"\0\1", c.SAR_TOTAL_SEGMENTS: b"\1\0\0", c.SAR_SEGMENT_SEQNUM: b"\1"},
    ],
)
def test_sar_that_makes_no_sense_is_no_sar(tlvs: dict[int, bytes]) -> None:
    assert parse_sar(tlvs) is None


def test_sar_of_other_widths_is_read() -> None:
    tlvs = {c.SAR_MSG_REF_NUM: b"\7", c.SAR_TOTAL_SEGMENTS: b"\0\2", c.SAR_SEGMENT_SEQNUM: b"\0\1"}
    assert parse_sar(tlvs) == Concatenation(7, 2, 1)
