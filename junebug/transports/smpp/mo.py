"""MO: what a deliver_sm or data_sm says: addresses, octets and their coding, and which part of what it is. Pure.

Neighbours: smpp/text (what octets mean, user data headers), reassembly.py (parts to a whole), receipts.py
(those that are receipts).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from junebug.smpp import constants as c
from junebug.smpp.pdu import DataSm, DeliverSm, SubmitSm
from junebug.smpp.text import codecs, multipart

Carrier = DeliverSm | DataSm | SubmitSm
"""PDUs that carry a text; ours are read for the log."""
REPLACEMENT = "\ufffd"
_TOLD_OTHERWISE = frozenset((c.MESSAGE_PAYLOAD, c.SAR_MSG_REF_NUM, c.SAR_TOTAL_SEGMENTS, c.SAR_SEGMENT_SEQNUM))


@dataclass(frozen=True, slots=True)
class Octets:
    """A text as it came, with the shift tables that its user data header names."""

    data: bytes
    data_coding: int
    locking_shift: int = 0
    single_shift: int = 0
    fill_bits: int = 0
    """Between a user data header and septets that are packed: these begin at a multiple of seven bits."""

    @property
    def coding(self) -> tuple[int, int, int]:
        return self.data_coding, self.locking_shift, self.single_shift


@dataclass(frozen=True, slots=True)
class Inbound:
    """One PDU's."""

    source_addr: str
    destination_addr: str
    octets: Octets
    part: multipart.Concatenation | None = None
    tlvs: Mapping[int, bytes] = field(default_factory=dict)

    def parameters(self) -> dict[str, str]:
        """The optional parameters that nothing else tells of, in hexadecimal."""
        return {c.tlv_name(tag): value.hex() for tag, value in self.tlvs.items() if tag not in _TOLD_OTHERWISE}


def payload(pdu: Carrier) -> bytes:
    """The octets of the message, header included: the short_message, or message_payload where that says nothing."""
    short_message = b"" if isinstance(pdu, DataSm) else pdu.short_message
    return short_message if short_message.strip(b"\0 \t\r\n") else pdu.tlvs.get(c.MESSAGE_PAYLOAD) or short_message


def receipt_text(inbound: Inbound) -> str:
    """What a receipt says: ASCII almost always, whatever its data_coding claims."""
    data = inbound.octets.data
    if inbound.octets.data_coding == c.DATA_CODING_UCS2 and (b"\0" in data[:2] or data[:2] in codecs.UTF_16_MARKS):
        return codecs.decode_text(data, c.DATA_CODING_UCS2, errors="replace")
    return data.decode("latin-1")


def read(pdu: Carrier) -> Inbound:
    """Never raises: a header that makes no sense is part of the text."""
    octets = whole = payload(pdu)
    header = multipart.UserDataHeader()
    if pdu.esm_class & c.ESM_CLASS_UDHI:
        try:
            header, octets = multipart.parse_udh(octets)
        except multipart.BadUserDataHeader:
            pass
    part = header.concatenation or multipart.parse_sar(pdu.tlvs)
    fill_bits = (len(octets) - len(whole)) * 8 % 7
    told = Octets(octets, pdu.data_coding, header.locking_shift, header.single_shift, fill_bits)
    return Inbound(pdu.source_addr, pdu.destination_addr, told, part if part and part.total > 1 else None, pdu.tlvs)


def decode(parts: Iterable[Octets], overrides: Mapping[int, str]) -> str:
    """The text of a message's parts, together where they are alike, since one may end within a character.

    What cannot be decoded shows as replacement characters. Raises codecs.UndecodableText for a data_coding of no text.
    """
    return "".join(
        codecs.decode_parts(
            [each.data for each in alike], coding[0], overrides, shifts=coding[1:],
            fill_bits=[each.fill_bits for each in alike], errors="replace",
        )
        for coding, alike in ((key, list(group)) for key, group in itertools.groupby(parts, key=lambda each: each.coding))
    )


def decode_anyway(parts: Iterable[Octets], overrides: Mapping[int, str]) -> str:
    """The same of what is no text as well."""
    try:
        return decode(parts, overrides)
    except codecs.UndecodableText:
        return REPLACEMENT


def is_unreadable(text: str, *, is_part: bool = False) -> bool:
    """Whether no character of it could be decoded; of a part, one may be half of a character."""
    lost = text.count(REPLACEMENT)
    return lost > is_part and not text.replace(REPLACEMENT, "").strip()
