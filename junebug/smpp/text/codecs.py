"""What the octets of a short_message say: text to octets and back, by codec name and by data_coding. Pure.

Codec names are Python's, and besides: `gsm0338` (GSM 7 bit, a septet an octet, SMPP's usual default alphabet),
`gsm0338-packed` (eight septets in seven octets), `gsm0338-L-S` (with the locking shift table of national language L and
the single shift table of S, by number), `ucs2` (UTF-16 big-endian without a mark).
Neighbours: gsm.py (the alphabets), multipart.py (long texts).
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

from junebug.errors import JunebugError
from junebug.smpp import constants as c
from junebug.smpp.text.gsm import alphabet, pack, unpack
from junebug.smpp.text.gsm_tables import LANGUAGES, LOCKING, SINGLE

GSM: Final = "gsm0338"
GSM_PACKED: Final = "gsm0338-packed"
UCS2: Final = "utf-16-be"
_ALIASES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("gsm", "gsm7", "gsm-7", "gsm-7bit", "gsm03.38", "gsm-03.38", "gsm-0338", "gsm338"), GSM),
    **dict.fromkeys(("gsm-packed", "gsm7-packed", "gsm-7-packed"), GSM_PACKED),
    **dict.fromkeys(("ucs2", "ucs-2", "ucs2-be", "ucs-2-be", "ucs2be", "iso-10646-ucs-2"), UCS2),
}
_OF_HOST_NAMES: Final = ("idna", "punycode")
_NATIONAL = re.compile(r"gsm0338-(\d{1,2})-(\d{1,2})")

_CODECS_OF_DATA_CODINGS: Final[Mapping[int, str]] = {
    c.DATA_CODING_DEFAULT: GSM, 0x01: "ascii", 0x03: "iso8859-1", 0x05: "shift_jis", 0x06: "iso8859-5", 0x07: "iso8859-8",
    c.DATA_CODING_UCS2: UCS2, 0x0A: "iso2022_jp", 0x0D: "iso2022_jp_1", 0x0E: "euc_kr",
}  # fmt: skip
_DATA_CODINGS_OF_CODECS: Final[Mapping[str, int]] = {codec: coding for coding, codec in _CODECS_OF_DATA_CODINGS.items()}


class UnencodableText(JunebugError):
    """A character that the encoding does not have."""

    def __init__(self, encoding: str, character: str) -> None:
        super().__init__(f"{encoding} has no U+{ord(character):04X}")
        self.encoding = encoding
        self.character = character


class UndecodableText(JunebugError):
    """Octets that are no text in the alphabet they are said to be in, or an alphabet that we cannot tell."""


# --- names ----------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def codec_name(name: str) -> str:
    """One spelling for each codec. Raises LookupError for what is none that makes text of octets."""
    plain = name.strip().lower().replace("_", "-")
    plain = _ALIASES.get(plain, plain)
    if plain in (GSM, GSM_PACKED):
        return plain
    national = _NATIONAL.fullmatch(plain)
    if national:
        locking, single = map(int, national.groups())
        if locking in LOCKING and single in SINGLE:
            return f"{GSM}-{locking}-{single}" if locking or single else GSM
        raise LookupError(f"no such national language: {name}")
    try:
        known = codecs.lookup(plain)
        "".encode(known.name)  # refuses codecs such as hex, which are not of text
        if known.name in _OF_HOST_NAMES:
            raise LookupError(f"a codec of host names: {name}")
    except UnicodeError as error:
        raise LookupError(f"not a codec of text: {name}") from error
    except ValueError as error:  # a NUL in the name
        raise LookupError(f"not a codec: {name!r}") from error
    return known.name


def national_languages(codec: str) -> tuple[int, int]:
    """(locking, single) of a name from `codec_name`; (0, 0) for all that are not `gsm0338-L-S`."""
    national = _NATIONAL.fullmatch(codec)
    return (int(national[1]), int(national[2])) if national else (0, 0)


def data_coding_of(codec: str) -> int:
    """The data_coding that says this codec (SMPP 3.4 §5.2.19); 0, the SMSC's default, when none does."""
    return _DATA_CODINGS_OF_CODECS.get(codec_name(codec), c.DATA_CODING_DEFAULT)


@lru_cache(maxsize=256)
def codec_of(data_coding: int) -> str | None:
    """The codec of a data_coding; None for binary, compressed and reserved ones.

    From 0x10 on as 3GPP TS 23.038 §4 has it: that is what SMSCs pass on of message classes and waiting indications.
    """
    if data_coding < 0x10:
        return _CODECS_OF_DATA_CODINGS.get(data_coding)
    if data_coding < 0x80:
        compressed = data_coding & 0x20
        return None if compressed else (GSM, None, UCS2, None)[data_coding >> 2 & 3]
    if data_coding < 0xC0:
        return None
    if data_coding < 0xF0:
        return GSM if data_coding < 0xE0 else UCS2
    return None if data_coding & 0x04 else GSM


# --- text and octets ------------------------------------------------------------------------------------------------------


def encode_text(text: str, encoding: str) -> bytes:
    """Raises UnencodableText, and LookupError for an unknown encoding."""
    codec = codec_name(encoding)
    try:
        if not codec.startswith(GSM):
            return text.encode(codec)
        septets = alphabet(*national_languages(codec)).encode(text)
    except UnicodeEncodeError as error:
        raise UnencodableText(codec, error.object[error.start]) from None
    return pack(septets) if codec == GSM_PACKED else septets


def fits(text: str, encoding: str) -> bool:
    """Whether the encoding has every character of the text."""
    try:
        encode_text(text, encoding)
    except UnencodableText:
        return False
    return True


def decode_text(
    data: bytes,
    data_coding: int,
    overrides: Mapping[int, str] | None = None,
    *,
    locking_shift: int = 0,
    single_shift: int = 0,
    errors: str = "strict",
) -> str:
    """What a short_message (or payload) without its user data header says.

    `overrides`: data_coding -> codec name, before the specification's. `locking_shift` and `single_shift`: national
    languages from the user data header. `errors="replace"` for what has to be shown although it is broken.
    Raises UndecodableText, and LookupError for an unknown codec in `overrides`.
    """
    shifts = (locking_shift, single_shift)
    return decode_parts((data,), data_coding, overrides, shifts=shifts, errors=errors)


def decode_parts(
    parts: Sequence[bytes],
    data_coding: int,
    overrides: Mapping[int, str] | None = None,
    *,
    shifts: tuple[int, int] = (0, 0),
    fill_bits: Sequence[int] = (),
    errors: str = "strict",
) -> str:
    """The same of a message in parts, which may end within a character. A NUL counted at a part's end is no text.

    `fill_bits` of each part: before its septets, where they are packed.
    """
    override = overrides.get(data_coding) if overrides else None
    codec = codec_name(override) if override else codec_of(data_coding)
    if codec is None:
        raise UndecodableText(f"data_coding 0x{data_coding:02x} is not of a text that can be told")
    try:
        if codec.startswith(GSM):  # its NUL is an @
            data = b"".join(map(unpack, parts, fill_bits or [0] * len(parts)) if codec == GSM_PACKED else parts)
            return alphabet(*(shifts if any(shifts) else national_languages(codec))).decode(data, errors)
        if codec.startswith("utf-16"):
            text = _decode_utf_16(parts, UCS2 if codec == UCS2 else "utf-16-le", errors)
        elif codec.startswith("utf-32"):
            text = b"".join(parts).decode(codec, errors)
        else:
            text = b"".join(part.rstrip(b"\0") for part in parts).decode(codec, errors)
            text = _HALVES.sub("\ufffd", text)  # of surrogate pairs, as utf-7 can say them: no other encoding has them
    except UnicodeDecodeError as error:
        raise UndecodableText(f"not {codec} (data_coding 0x{data_coding:02x}): {error.reason}") from None
    return text.removeprefix("\ufeff").rstrip("\0")


def _decode_utf_16(parts: Sequence[bytes], order: str, errors: str) -> str:
    """An odd part ends within a character, or with a NUL that is counted: this where all end so, and else make no text."""
    odd = [part for part in parts if len(part) % 2]
    if all(part.endswith(b"\0") for part in odd) and (
        not odd or len(odd) % 2 or _NO_TEXT.search(_join_utf_16(parts, order, "replace"))
    ):
        parts = [part[: len(part.rstrip(b"\0")) + 1 & ~1] for part in parts]
    return _join_utf_16(parts, order, errors)


def _join_utf_16(parts: Sequence[bytes], order: str, errors: str) -> str:
    """In this byte order, or in that of a mark with which a part begins, from there on."""
    text, octets = "", bytearray()
    for part in parts:
        mark = None if len(octets) % 2 else UTF_16_MARKS.get(part[:2])
        if mark and mark != order:
            text += octets.decode(order, errors)
            octets.clear()
            order = mark
        octets += part[2:] if mark else part
    return text + octets.decode(order, errors)


_HALVES: Final = re.compile("[\ud800-\udfff]")
_NO_TEXT: Final = re.compile("[\0-\x08\x0e-\x1f\ufffd]")
UTF_16_MARKS: Final[Mapping[bytes, str]] = {codecs.BOM_UTF16_BE: UCS2, codecs.BOM_UTF16_LE: "utf-16-le"}


def choose_encoding(text: str, language: str | None = None) -> tuple[str, int]:
    """(encoding, data_coding) that carries the text in the fewest octets: GSM, GSM with the tables of `language`
    (a name of gsm_tables.LANGUAGES; phones have to know them), or UCS2.

    Raises UnencodableText for what no encoding has: half a surrogate pair. LookupError for an unknown language.
    """
    if fits(text, GSM):
        return GSM, c.DATA_CODING_DEFAULT
    if language is not None:
        number = LANGUAGES[language]
        locking = number if number in LOCKING else 0
        # a locking shift costs three octets of header and saves one for each letter
        candidates = [f"{GSM}-{pair[0]}-{pair[1]}" for pair in ((0, number), (locking, 0), (locking, number)) if any(pair)]
        possible = [codec for codec in candidates if fits(text, codec)]
        if possible:
            return min(possible, key=lambda codec: _cost(text, codec)), c.DATA_CODING_DEFAULT
    encode_text(text, UCS2)
    return UCS2, c.DATA_CODING_UCS2


def _cost(text: str, codec: str) -> int:
    """Septets, with those of the header that names the languages."""
    return len(encode_text(text, codec)) + 4 * sum(map(bool, national_languages(codec)))
