"""Long messages: a text cut into parts, and the headers that say so: UDH (3GPP TS 23.040 §9.2.3.24) or SAR TLVs. Pure.

No cut goes through an escape pair, a surrogate pair or, where a part can hold it, a grapheme cluster. Neighbour:
codecs.py (octets of a text).
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from junebug.errors import JunebugError
from junebug.smpp import constants as c
from junebug.smpp.text.codecs import GSM, GSM_PACKED, codec_name, encode_text, national_languages
from junebug.smpp.text.gsm import pack

MAX_OCTETS: Final = 140
"""Octets of user data in one short message, its header included: 160 septets, 70 UCS2 characters."""
MAX_PARTS: Final = 255
MOST_CHARACTERS: Final = MAX_PARTS * MAX_OCTETS * 8 // 7
"""That these can hold, in whatever alphabet."""

IEI_CONCATENATED: Final = 0x00
IEI_CONCATENATED_16: Final = 0x08
IEI_SINGLE_SHIFT: Final = 0x24
IEI_LOCKING_SHIFT: Final = 0x25


class TooManyParts(JunebugError):
    """A text that 255 short messages cannot hold."""


class BadUserDataHeader(JunebugError):
    """Octets that are said to begin with a user data header, and do not."""


@dataclass(frozen=True, slots=True)
class Concatenation:
    """Which part of which message: `number` of `total`, from 1; `reference` is 8 or 16 bits."""

    reference: int
    total: int
    number: int


@dataclass(frozen=True, slots=True)
class UserDataHeader:
    """Information elements as they stood; what they mean, by property."""

    elements: tuple[tuple[int, bytes], ...] = ()

    def element(self, identifier: int) -> bytes | None:
        """Data of the last element of a kind: that one counts (§9.2.3.24)."""
        return next((data for iei, data in reversed(self.elements) if iei == identifier), None)

    @property
    def concatenation(self) -> Concatenation | None:
        """None as well when it makes no sense, as the specification wants."""
        for identifier, data in reversed(self.elements):
            if identifier == IEI_CONCATENATED and len(data) == 3:
                return _concatenation(data[0], data[1], data[2])
            if identifier == IEI_CONCATENATED_16 and len(data) == 4:
                return _concatenation(int.from_bytes(data[:2], "big"), data[2], data[3])
        return None

    @property
    def locking_shift(self) -> int:
        """National language of the locking shift table, 0 for none."""
        return (self.element(IEI_LOCKING_SHIFT) or b"\0")[0]

    @property
    def single_shift(self) -> int:
        """National language of the single shift table, 0 for none."""
        return (self.element(IEI_SINGLE_SHIFT) or b"\0")[0]


def _concatenation(reference: int, total: int, number: int) -> Concatenation | None:
    return Concatenation(reference, total, number) if 1 <= number <= total <= MAX_PARTS else None


# --- headers --------------------------------------------------------------------------------------------------------------


def build_udh(elements: Iterable[tuple[int, bytes]]) -> bytes:
    """The header with its length octet; empty without elements."""
    body = b"".join(bytes((identifier, len(data))) + data for identifier, data in elements)
    return bytes((len(body),)) + body if body else b""


def parse_udh(data: bytes) -> tuple[UserDataHeader, bytes]:
    """The header at the beginning of a short_message, and what follows it. Raises BadUserDataHeader."""
    if not data:
        raise BadUserDataHeader("no octet for a user data header")
    end = data[0] + 1
    if end > len(data):
        raise BadUserDataHeader(f"a user data header of {end} octets in {len(data)}")
    elements = []
    offset = 1
    while offset < end:
        if offset + 2 > end or offset + 2 + data[offset + 1] > end:
            raise BadUserDataHeader("an information element is longer than its header")
        after = offset + 2 + data[offset + 1]
        elements.append((data[offset], data[offset + 2 : after]))
        offset = after
    return UserDataHeader(tuple(elements)), data[end:]


def concatenation_element(part: Concatenation, *, wide: bool = False) -> tuple[int, bytes]:
    """`wide`: with a reference of 16 bits. The reference is taken modulo its width."""
    if wide:
        return IEI_CONCATENATED_16, (part.reference & 0xFFFF).to_bytes(2, "big") + bytes((part.total, part.number))
    return IEI_CONCATENATED, bytes((part.reference & 0xFF, part.total, part.number))


@functools.lru_cache(maxsize=256)
def language_elements(encoding: str) -> Sequence[tuple[int, bytes]]:
    """What the header has to say of a `gsm0338-L-S`; nothing of other encodings."""
    shifts = zip((IEI_LOCKING_SHIFT, IEI_SINGLE_SHIFT), national_languages(codec_name(encoding)), strict=True)
    return tuple((identifier, bytes((language,))) for identifier, language in shifts if language)


def sar_tlvs(part: Concatenation) -> dict[int, bytes]:
    """The same as optional parameters (SMPP 3.4 §5.3.2.22-24)."""
    return {
        c.SAR_MSG_REF_NUM: (part.reference & 0xFFFF).to_bytes(2, "big"),
        c.SAR_TOTAL_SEGMENTS: bytes((part.total,)),
        c.SAR_SEGMENT_SEQNUM: bytes((part.number,)),
    }


def parse_sar(tlvs: Mapping[int, bytes]) -> Concatenation | None:
    """None without all three, or when they make no sense. Integers of any width are read."""
    values = [tlvs.get(tag) for tag in (c.SAR_MSG_REF_NUM, c.SAR_TOTAL_SEGMENTS, c.SAR_SEGMENT_SEQNUM)]
    return None if None in values else _concatenation(*(int.from_bytes(value or b"", "big") for value in values))


# --- parts ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Part:
    """One PDU's share, and what it says. `udhi`: `short_message` begins with a user data header, so esm_class has to say so."""

    short_message: bytes
    udhi: bool = False
    tlvs: dict[int, bytes] = field(default_factory=dict)
    text: str = ""


def parts(text: str, encoding: str, reference: int, *, sar: bool = False, wide: bool = False) -> list[Part]:
    """The PDUs of a text: one, or as many as it takes with a UDH each (or SAR TLVs, of which the SMSC makes a UDH).

    `wide`: a reference of 16 bits in the UDH. Raises UnencodableText, TooManyParts, LookupError.
    """
    codec = codec_name(encoding)
    languages = language_elements(codec)
    header = build_udh(languages)
    if len(text) <= capacity(codec, len(header)):
        whole = cut(text, codec, header=len(header))
        if len(whole) == 1:
            return [Part(header + whole[0][1], bool(header), text=text)]
    sample = concatenation_element(Concatenation(0, 1, 1), wide=wide and not sar)
    pieces = cut(text, codec, header=len(build_udh([sample, *languages])))
    result = []
    for number, (said, piece) in enumerate(pieces, 1):
        part = Concatenation(reference, len(pieces), number)
        if sar:
            result.append(Part(header + piece, bool(header), sar_tlvs(part), said))
        else:
            udh = build_udh([concatenation_element(part, wide=wide), *languages])
            result.append(Part(udh + piece, True, text=said))
    return result


def split(text: str, encoding: str, *, header: int = 0) -> list[bytes]:
    """The octets of each part. Raises what `cut` does."""
    return [octets for _, octets in cut(text, encoding, header=header)]


def cut(text: str, encoding: str, *, header: int = 0) -> list[tuple[str, bytes]]:
    """(text, octets) of each part, without its header of `header` octets. At least one part, be it empty.

    Linear, and done at the latest with the last part that there may be. Raises UnencodableText, TooManyParts, and
    LookupError for an unknown encoding.
    """
    codec = codec_name(encoding)
    room = capacity(codec, header)
    plain = GSM if codec == GSM_PACKED else codec
    unit = 2 if codec.startswith("utf-16") else 4 if codec.startswith("utf-32") else 1
    result: list[tuple[str, bytes]] = []
    start = 0
    while True:
        if len(text) - start > (MAX_PARTS - len(result)) * (room // unit):
            raise TooManyParts(f"more than {MAX_PARTS} parts")
        end = min(len(text), start + room // unit)
        octets = encode_text(text[start:end], plain)
        while len(octets) > room:
            # every character too many takes an octet at least, and ten at most (\U0001f600)
            end = max(start + 1, end - max(1, (len(octets) - room) // 10))
            octets = encode_text(text[start:end], plain)
        if end < len(text):
            boundary = end
            while boundary > start and not is_boundary(text, boundary, start):
                boundary -= 1
            if start < boundary < end:
                end = boundary
                octets = encode_text(text[start:end], plain)
        # septets begin at a multiple of seven bits of the user data
        result.append((text[start:end], pack(octets, -header * 8 % 7) if codec == GSM_PACKED else octets))
        start = end
        if start >= len(text):
            return result


def capacity(encoding: str, header: int = 0) -> int:
    """Octets of text (septets of a GSM text) in a short message whose header is `header` octets long."""
    codec = codec_name(encoding)
    room = MAX_OCTETS - header
    if codec.startswith(GSM):  # counted in septets
        return room * 8 // 7
    return room // 2 * 2 if codec.startswith("utf-16") else room


def is_boundary(text: str, index: int, start: int = 0) -> bool:
    """Whether a grapheme cluster begins at text[index] (UAX #29, in the main; Indic conjuncts, too), if one does at `start`."""
    before, after = text[index - 1], text[index]
    if after < "\u0300":
        return not (before == "\r" and after == "\n")
    if (
        before == "\u200d"  # zero width joiner
        or after in "\u200c\u200d"
        or unicodedata.category(after) in ("Mn", "Mc", "Me")
        or "\U0001f3fb" <= after <= "\U0001f3ff"  # skin tones
        or "\U000e0020" <= after <= "\U000e007f"  # tags, in flags of regions
        or unicodedata.combining(before) == 9  # a virama joins two consonants
    ):
        return False
    if "\U0001f1e6" <= after <= "\U0001f1ff":  # letters in pairs are flags
        first = index
        while first > start and "\U0001f1e6" <= text[first - 1] <= "\U0001f1ff":
            first -= 1
        return (index - first) % 2 == 0
    return not (_is_jamo(before) and "\u1160" <= after <= "\u11ff")  # a syllable written in its letters


def _is_jamo(character: str) -> bool:
    return "\u1100" <= character <= "\u11ff" or "\uac00" <= character <= "\ud7a3"
