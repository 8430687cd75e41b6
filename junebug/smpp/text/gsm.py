"""The GSM 7 bit alphabet: text to septets and back, septets packed into octets (3GPP TS 23.038 §6). Pure.

A septet stands in an octet of its own, as SMPP carries them, unless `pack` is called. Tables: gsm_tables.py.
"""

from __future__ import annotations

import codecs
import re
from functools import lru_cache
from typing import Final

from junebug.smpp.text.gsm_tables import LOCKING, SINGLE, UNDEFINED

ESCAPE: Final = 0x1B
_CHUNK = re.compile(rb"\x1b[\x00-\xff]?|[^\x1b]+")


class _Septets(dict[int, str]):
    """Code point -> its septets as characters, for str.translate."""

    def __missing__(self, code_point: int) -> str:
        raise UnicodeEncodeError("gsm0338", chr(code_point), 0, 1, "character is not in this alphabet")


class Alphabet:
    """A basic alphabet (locking shift) with an extension (single shift)."""

    def __init__(self, locking: int, single: int) -> None:
        """National language identifiers, 0 for the default."""
        basic, extension = LOCKING.get(locking, LOCKING[0]), SINGLE.get(single, SINGLE[0])
        self._septets = _Septets()
        for position, character in extension.items():
            self._septets.setdefault(ord(character), chr(ESCAPE) + chr(position))
        for position, character in enumerate(basic):
            if position != ESCAPE and character != UNDEFINED:
                self._septets[ord(character)] = chr(position)
        # An empty position is displayed as a space, an unknown character after an escape as that of the basic alphabet.
        self._characters = basic.replace(UNDEFINED, " ")
        self._escaped = dict(enumerate(self._characters)) | dict(extension) | {ESCAPE: " "}

    def encode(self, text: str) -> bytes:
        """Septets in octets. Raises UnicodeEncodeError holding the first character that does not fit."""
        return text.translate(self._septets).encode("latin-1")

    def decode(self, septets: bytes, errors: str = "strict") -> str:
        """Raises UnicodeDecodeError for octets over 0x7F, which are no septets."""
        if ESCAPE not in septets:
            return codecs.charmap_decode(septets, errors, self._characters)[0]
        text = []
        for chunk in _CHUNK.findall(septets):
            if chunk[0] != ESCAPE:
                text.append(codecs.charmap_decode(chunk, errors, self._characters)[0])
            elif len(chunk) == 1:
                text.append(" ")
            else:
                character = self._escaped.get(chunk[1])
                text.append(character or codecs.charmap_decode(chunk[1:], errors, self._characters)[0])
        return "".join(text)


@lru_cache(maxsize=256)
def alphabet(locking: int = 0, single: int = 0) -> Alphabet:
    """The alphabet of two national language identifiers; unknown ones mean the default."""
    return Alphabet(locking, single)


def pack(septets: bytes, fill_bits: int = 0) -> bytes:
    """Eight septets in seven octets (§6.1.2.1), after `fill_bits` zero bits that follow a user data header.

    Seven bits left over at the end hold a CR, lest they be read as an @ (§6.1.2.3.1, since SMPP tells octets only).
    """
    spare = -(fill_bits + 7 * len(septets)) % 8
    if spare == 7 or (spare == 0 and septets.endswith(b"\r")):
        septets += b"\r"
    octets = bytearray()
    bits, count = 0, fill_bits
    for septet in septets:
        bits |= septet << count
        count += 7
        if count >= 8:
            octets.append(bits & 0xFF)
            bits >>= 8
            count -= 8
    if count:
        octets.append(bits)
    return bytes(octets)


def unpack(octets: bytes, fill_bits: int = 0) -> bytes:
    """The other way."""
    septets = bytearray()
    bits, count = 0, -fill_bits
    for octet in octets:
        bits |= octet << count if count >= 0 else octet >> -count
        count += 8
        while count >= 7:
            septets.append(bits & 0x7F)
            bits >>= 7
            count -= 7
    end = (fill_bits + 7 * len(septets)) % 8
    if (end == 0 and septets.endswith(b"\r")) or (end == 7 and septets.endswith(b"\r\r")):
        del septets[-1]
    return bytes(septets)
