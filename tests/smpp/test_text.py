"""Text in SMPP: alphabets to the letter, what cannot be said is told, and all comes back as it went."""

from __future__ import annotations

import pytest

from junebug.smpp.text import codecs
from junebug.smpp.text.codecs import (
    GSM,
    UCS2,
    UndecodableText,
    UnencodableText,
    choose_encoding,
    codec_name,
    codec_of,
    data_coding_of,
    decode_text,
    encode_text,
    fits,
)
from junebug.smpp.text.gsm import pack, unpack
from junebug.smpp.text.gsm_tables import LANGUAGES, LOCKING, SINGLE, UNDEFINED
from tests.smpp.properties import given, st
from tests.tables import rows

BASIC = "".join(character for character in LOCKING[0] if character != "\x1b")
EXTENDED = "\f^{}\\[~]|€"


# --- GSM 7 bit ------------------------------------------------------------------------------------------------------------


def test_the_basic_alphabet_letter_by_letter() -> None:
    """3GPP TS 23.038 §6.2.1, row by row."""
    lines = (
        "@£$¥èéùìòÇ\nØø\rÅå",
        "Δ_ΦΓΛΩΠΨΣΘΞ\x1bÆæßÉ",
        " !\"#¤%&'()*+,-./",
        "0123456789:;<=>?",
        "¡ABCDEFGHIJKLMNO",
        "PQRSTUVWXYZÄÖÑÜ§",
        "¿abcdefghijklmno",
        "pqrstuvwxyzäöñüà",
    )
    assert "".join(lines) == LOCKING[0]


def test_the_extension_is_escaped() -> None:
    assert encode_text(EXTENDED, "gsm0338") == b"\x1b\x0a\x1b\x14\x1b\x28\x1b\x29\x1b\x2f\x1b\x3c\x1b\x3d\x1b\x3e\x1b\x40\x1b\x65"
    assert encode_text("@a€", "gsm0338") == b"\0a\x1be"


@given(st.text(st.sampled_from(BASIC + EXTENDED), max_size=400))
def test_every_gsm_text_comes_back(message: str) -> None:
    assert decode_text(encode_text(message, GSM), 0) == message


@rows("language", LANGUAGES)
def test_every_letter_of_every_national_language_comes_back(language: str) -> None:
    number = LANGUAGES[language]
    locking = number if number in LOCKING else 0
    letters = [each for each in LOCKING[locking] if each not in (UNDEFINED, "\x1b")] + list(SINGLE[number].values())
    for letter in letters:
        octets = encode_text(letter, f"gsm0338-{locking}-{number}")
        assert decode_text(octets, 0, locking_shift=locking, single_shift=number) == letter
        assert decode_text(octets, 0, {0: f"gsm0338-{locking}-{number}"}) == letter
    assert len(LOCKING[locking]) == 128
    assert max(SINGLE[number]) < 128


def test_national_tables_hold_what_the_specification_prints() -> None:
    """Samples of 3GPP TS 23.038 Annex A: positions that a shifted table would move."""
    assert [LOCKING[LANGUAGES["turkish"]][at] for at in (0x04, 0x07, 0x1C, 0x40, 0x60)] == ["€", "\u0131", "Ş", "İ", "ç"]
    assert [LOCKING[LANGUAGES["portuguese"]][at] for at in (0x04, 0x15, 0x1A, 0x5B, 0x7D)] == ["ê", "∞", "|", "Ã", "`"]
    assert [LOCKING[LANGUAGES["hindi"]][at] for at in (0x00, 0x1C, 0x2C, 0x40, 0x60, 0x7F)] == ["ँ", "छ", ",", "ब", "ॐ", "ॿ"]
    assert [LOCKING[LANGUAGES["urdu"]][at] for at in (0x00, 0x2C, 0x60)] == ["\u0627", ",", "\u0654"]
    assert [LOCKING[LANGUAGES["tamil"]][at] for at in (0x00, 0x01, 0x3C, 0x7F)] == [UNDEFINED, "ஂ", "ன", "௹"]
    assert {at: SINGLE[LANGUAGES["spanish"]][at] for at in (0x09, 0x41, 0x75)} == {0x09: "ç", 0x41: "Á", 0x75: "ú"}
    assert [SINGLE[LANGUAGES["hindi"]][at] for at in (0x00, 0x19, 0x1C, 0x25, 0x2C, 0x3A, 0x65)] == list("@।०९\u0958ॱ€")


def test_odd_escapes_are_read_as_the_specification_wants() -> None:
    assert decode_text(b"a\x1bxb", 0) == "axb"  # no such extension: the basic character
    assert decode_text(b"a\x1b", 0) == "a "
    assert decode_text(b"\x1b\x1bb", 0) == " b"
    assert decode_text(b"\x1be\x1be", 0) == "€€"
    assert decode_text(b"\x0c", 0, {0: "gsm0338-11-0"}) == " "  # an empty position


def test_octets_are_no_septets() -> None:
    for octets in (b"caf\xe9", b"\x1b\xe9", b"\x1be\x80"):
        with pytest.raises(UndecodableText, match="gsm0338"):
            decode_text(octets, 0)
        assert decode_text(octets, 0, errors="replace").endswith("�")


def test_packed_septets() -> None:
    assert pack(b"hellohello").hex() == "e8329bfd4697d9ec37"
    assert encode_text("hellohello", "gsm0338-packed").hex() == "e8329bfd4697d9ec37"
    assert decode_text(bytes.fromhex("e8329bfd4697d9ec37"), 0, {0: "gsm7-packed"}) == "hellohello"
    assert len(pack(b"x" * 160)) == 140


@given(st.binary(max_size=170).map(lambda octets: bytes(octet & 0x7F for octet in octets)), st.integers(0, 6))
def test_what_is_packed_is_unpacked(septets: bytes, fill_bits: int) -> None:
    if not septets.endswith(b"\r\r"):  # of two CRs at the end, one may be padding
        assert unpack(pack(septets, fill_bits), fill_bits) == septets


# --- names and data codings -----------------------------------------------------------------------------------------------


@rows(
    ("name", "canonical"),
    [
        ("gsm0338", "gsm0338"), ("GSM_0338", "gsm0338"), ("gsm03.38", "gsm0338"), ("gsm-7", "gsm0338"),
        ("gsm0338-packed", "gsm0338-packed"), ("gsm0338-1-0", "gsm0338-1-0"), ("gsm0338-0-0", "gsm0338"),
        ("ucs2", "utf-16-be"), ("UCS-2", "utf-16-be"), ("utf-16be", "utf-16-be"), ("UTF_16_BE", "utf-16-be"),
        ("latin-1", "iso8859-1"), ("latin1", "iso8859-1"), ("utf8", "utf-8"), ("cp1256", "cp1256"), ("ascii", "ascii"),
    ],
)  # fmt: skip
def test_one_spelling_for_each_codec(name: str, canonical: str) -> None:
    assert codec_name(name) == canonical


@pytest.mark.parametrize("name", ["klingon", "", "hex", "rot13", "base64", "gsm0338-2-0", "gsm0338-0-14", "a\0b", "ünicode"])
def test_what_is_no_codec_of_text_is_refused(name: str) -> None:
    with pytest.raises(LookupError):
        codec_name(name)
    with pytest.raises(LookupError):
        decode_text(b"hi", 0, {0: name or "  "})


@rows(
    ("data_coding", "codec"),
    [
        (0, "gsm0338"), (1, "ascii"), (2, None), (3, "iso8859-1"), (4, None), (6, "iso8859-5"), (7, "iso8859-8"),
        (8, "utf-16-be"), (9, None), (14, "euc_kr"),
        (0x10, "gsm0338"), (0x11, "gsm0338"), (0x14, None), (0x18, "utf-16-be"), (0x1C, None), (0x20, None),
        (0x48, "utf-16-be"), (0x80, None), (0xBF, None), (0xC8, "gsm0338"), (0xD0, "gsm0338"), (0xE0, "utf-16-be"),
        (0xF0, "gsm0338"), (0xF1, "gsm0338"), (0xF4, None), (0xFF, None),
    ],
)  # fmt: skip
def test_the_codec_of_a_data_coding(data_coding: int, codec: str | None) -> None:
    assert codec_of(data_coding) == codec
    if codec is None:
        with pytest.raises(UndecodableText, match=f"0x{data_coding:02x}"):
            decode_text(b"hi", data_coding)
        assert decode_text(b"hi", data_coding, {data_coding: "latin-1"}) == "hi"


def test_every_codec_that_a_data_coding_names_exists() -> None:
    for data_coding in range(256):
        codec = codec_of(data_coding)
        if codec:
            assert codec_name(codec) == codec
            if data_coding < 0x10:
                assert data_coding_of(codec) == data_coding
    assert data_coding_of("utf-8") == 0


# --- other alphabets ------------------------------------------------------------------------------------------------------


def test_ucs2() -> None:
    assert encode_text("a😀", "ucs2") == b"\0a\xd8\x3d\xde\x00"
    assert decode_text(b"\0a\xd8\x3d\xde\x00", 8) == "a😀"
    assert decode_text(b"\xfe\xff\0a", 8) == "a"  # some send a mark
    for marked in (b"\xff\xfea\0", b"\0a\0", b"\0a\0\0", b"\xff\xfea\0\0"):  # little-endian; a NUL that is counted
        assert decode_text(marked, 8) == "a"
    for broken in (b"\0a\1", b"\xd8\x3d", b"\xde\x00\0a"):
        with pytest.raises(UndecodableText, match="utf-16-be"):
            decode_text(broken, 8)


def test_overrides_come_first() -> None:
    assert decode_text("é".encode(), 0, {0: "utf-8"}) == "é"
    assert decode_text(b"\xe9", 0, {0: "latin-1", 8: "ascii"}) == "é"
    with pytest.raises(UndecodableText):
        decode_text(b"\0a\xff", 8, {8: "ascii"})


@pytest.mark.parametrize(
    ("message", "encoding", "character"), [("a日", "gsm", "日"), ("aé", "ascii", "é"), ("\x1b", "gsm", "\x1b")]
)
def test_the_character_that_does_not_fit_is_told(message: str, encoding: str, character: str) -> None:
    assert not fits(message, encoding)
    with pytest.raises(UnencodableText, match=f"{ord(character):04X}") as caught:
        encode_text(message, encoding)
    assert caught.value.character == character


# --- the choice -----------------------------------------------------------------------------------------------------------


@rows(
    ("message", "language", "chosen"),
    [
        ("", None, ("gsm0338", 0)),
        ("hello", None, ("gsm0338", 0)),
        ("où? {€}", None, ("gsm0338", 0)),
        ("日本", None, (UCS2, 8)),
        ("ç", None, (UCS2, 8)),
        ("hello", "turkish", ("gsm0338", 0)),
        ("ağaç", "turkish", ("gsm0338-1-0", 0)),
        ("è ğ", "turkish", ("gsm0338-0-1", 0)),
        ("ğğğğğğ", "turkish", ("gsm0338-1-0", 0)),
        ("día", "spanish", ("gsm0338-0-2", 0)),
        ("日本 ğ", "turkish", (UCS2, 8)),
        ("नमस्ते", "hindi", ("gsm0338-6-0", 0)),
        ("नमस्ते ABC", "hindi", ("gsm0338-6-6", 0)),
    ],
)
def test_the_encoding_that_is_chosen(message: str, language: str | None, chosen: tuple[str, int]) -> None:
    assert choose_encoding(message, language) == chosen


def test_half_a_surrogate_pair_has_no_encoding() -> None:
    with pytest.raises(UnencodableText, match="D83D"):
        choose_encoding("\ud83d")


def test_an_unknown_language_is_refused() -> None:
    with pytest.raises(LookupError, match="elvish"):
        choose_encoding("ğ", "elvish")


@given(st.text(max_size=200), st.sampled_from((None, *LANGUAGES)))
def test_whatever_is_chosen_comes_back(message: str, language: str | None) -> None:
    message = message.removeprefix("\ufeff")  # the one character that UCS2 does not bring back: a mark at the beginning
    encoding, data_coding = choose_encoding(message, language)
    locking, single = codecs.national_languages(encoding)
    octets = encode_text(message, encoding)
    assert decode_text(octets, data_coding, locking_shift=locking, single_shift=single) == message
