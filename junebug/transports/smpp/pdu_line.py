"""A PDU as a line of the channel's log: kept as octets, in hexadecimal, and shown with what they say. Pure.

Neighbours: pdu_log.py writes the lines, the API shows them (`show`, named in CHANNEL_TYPE).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from junebug.errors import TransportStartError
from junebug.logs.redaction import REDACTED
from junebug.smpp import constants as c
from junebug.smpp.codec import DecodeError, decode
from junebug.smpp.pdu import KINDS, Pdu, UnknownPdu
from junebug.transports.smpp import mo
from junebug.transports.smpp.config import SmppConfig

MESSAGE = "PDU"
_NOT_SHOWN = frozenset(("tlvs", "raw", "command_id", "command_status", "sequence_number", "short_message", "password"))
_SHOWN = {
    kind: [(each.name, each.default) for each in dataclasses.fields(kind) if each.name not in _NOT_SHOWN]
    for kind in (*KINDS.values(), UnknownPdu)
}
"""(name, default) of the parameters of each kind of PDU that are shown where they are not the default."""
_RENAMED = {"message_id": "smsc_message_id"}
"""message_id is ours in each line of the log."""


def show(config: Mapping[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
    """A line of the log with what its PDU says, by the channel's config; any other line as it is. Never raises."""
    octets = entry.get("hex")
    if entry.get("message") != MESSAGE or "pdu" in entry or not isinstance(octets, str):
        return entry
    try:
        overrides = SmppConfig.from_config(config).codecs_of_data_codings
    except TransportStartError:
        overrides = {}
    try:
        said = describe(decode(bytes.fromhex(octets)), overrides)
    except (DecodeError, ValueError):
        return entry
    return {**{name: value for name, value in entry.items() if name != "hex"}, **said, "hex": octets}


def describe(pdu: Pdu, overrides: Mapping[int, str], *, redact: bool = False) -> dict[str, Any]:
    """Its name, its parameters and its text; the text is masked if it is to be `redact`ed."""
    said: dict[str, Any] = {"pdu": pdu.command_name, "sequence_number": pdu.sequence_number}
    if pdu.command_id & c.RESPONSE:
        said["command_status"] = pdu.status_name
    for name, default in _SHOWN[type(pdu)]:
        value = getattr(pdu, name)
        if value != default:
            said[_RENAMED.get(name, name)] = value if isinstance(value, int | str) else repr(value)
    if isinstance(pdu, mo.Carrier):
        said["content"] = REDACTED if redact else mo.decode_anyway([mo.read(pdu).octets], overrides)
    tlvs = {
        c.tlv_name(tag): REDACTED if tag == c.MESSAGE_PAYLOAD and redact else value.hex() for tag, value in pdu.tlvs.items()
    }
    return {**said, "tlvs": tlvs} if tlvs else said
