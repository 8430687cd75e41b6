"""MO: what a deliver_sm or data_sm says: addresses, octets and their coding, and which part of what it is. Pure.

Neighbours: smpp/text (what octets mean, user data headers), reassembly.py (parts to a whole), receipts.py
(those that are receipts).
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

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

    def metadata(self) -> dict[str, Any]:
        """For channel_data: the optional parameters that nothing else tells of, in hexadecimal."""
        told = {c.tlv_name(tag): value.hex() for tag, value in self.tlvs.items() if tag not in _TOLD_OTHERWISE}
        return {"smpp": {"tlvs": told}} if told else {}


def payload(pdu: Carrier) -> bytes:
    """The octets of the message, header included: the short_message, or message_payload where that is empty."""
    short_message = b"" if isinstance(pdu, DataSm) else pdu.short_message
    return short_message or pdu.tlvs.get(c.MESSAGE_PAYLOAD, b"")


def receipt_text(pdu: Carrier) -> str:
    """What a receipt says: ASCII almost always, whatever its data_coding claims."""
    octets = payload(pdu)
    if pdu.data_coding == c.DATA_CODING_UCS2 and b"\0" in octets[:2]:
        return octets.decode("utf-16-be", "replace")
    return octets.decode("latin-1")


def read(pdu: Carrier) -> Inbound:
    """Never raises: a header that makes no sense is part of the text."""
    octets = payload(pdu)
    header = multipart.UserDataHeader()
    if pdu.esm_class & c.ESM_CLASS_UDHI:
        try:
            header, octets = multipart.parse_udh(octets)
        except multipart.BadUserDataHeader:
            pass
    part = header.concatenation or multipart.parse_sar(pdu.tlvs)
    told = Octets(octets, pdu.data_coding, header.locking_shift, header.single_shift)
    return Inbound(pdu.source_addr, pdu.destination_addr, told, part if part and part.total > 1 else None, pdu.tlvs)


def decode(octets: Octets, overrides: Mapping[int, str], errors: str = "strict") -> str:
    """Raises codecs.UndecodableText; with errors="replace" only for a data_coding that is of no text."""
    return codecs.decode_text(
        octets.data, octets.data_coding, overrides,
        locking_shift=octets.locking_shift, single_shift=octets.single_shift, errors=errors,
    )  # fmt: skip


def decode_whole(parts: Collection[Octets], overrides: Mapping[int, str]) -> str:
    """The text of a message in parts: together where they are alike, since a part may end within a character."""
    codings = {each.coding for each in parts}
    if len(codings) == 1:
        with contextlib.suppress(codecs.UndecodableText):
            return decode(Octets(b"".join(each.data for each in parts), *codings.pop()), overrides)
    return "".join(decode_anyway(each, overrides) for each in parts)


def decode_anyway(octets: Octets, overrides: Mapping[int, str]) -> str:
    """What cannot be decoded shows as replacement characters."""
    try:
        return decode(octets, overrides, errors="replace")
    except codecs.UndecodableText:
        return REPLACEMENT
