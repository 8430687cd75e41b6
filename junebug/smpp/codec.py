"""PDUs to bytes and back (SMPP 3.4 §4). Pure: no socket, no clock.

`encode` refuses what the specification forbids and names the field; `decode` takes what real SMSCs send. The two kinds
that carry the traffic, submit_sm and deliver_sm, have a fast way through each; whatever is odd about one goes the general
way, which knows what to make of it. Neighbours: pdu.py (the declarations), framing.py (a stream cut into PDUs).
"""

from __future__ import annotations

import dataclasses
from struct import Struct
from struct import error as StructError
from typing import Final, get_type_hints

from junebug.errors import JunebugError
from junebug.smpp import constants as c
from junebug.smpp.fields import LONGEST_TEXT, BadBody, EncodeError, Field, Octets
from junebug.smpp.pdu import KINDS, Bind, BindResp, Pdu, ShortMessagePdu, UnknownPdu


class DecodeError(JunebugError):
    """A frame whose body makes no sense. The session lives: answer it with `command_status`."""

    def __init__(self, message: str, command_id: int, sequence_number: int, command_status: int) -> None:
        super().__init__(message)
        self.command_id = command_id
        self.sequence_number = sequence_number
        self.command_status = command_status


def _layout(kind: type[Pdu]) -> tuple[tuple[str, Field], ...]:
    hints = get_type_hints(kind, include_extras=True)
    return tuple(
        (each.name, hints[each.name].__metadata__[0])
        for each in dataclasses.fields(kind)
        if hasattr(hints[each.name], "__metadata__")  # the others are the header, the TLVs and our own
    )


_LAYOUTS: Final[dict[type[Pdu], tuple[tuple[str, Field], ...]]] = {kind: _layout(kind) for kind in KINDS.values()}

# --- encode ---------------------------------------------------------------------------------------------------------------

_HEADER = Struct(">4I")
_TLV = Struct(">HH")


def encode(pdu: Pdu) -> bytes:
    """The frame of a PDU. Raises EncodeError for what the specification forbids, naming the field."""
    if isinstance(pdu, ShortMessagePdu):
        frame = _encode_sm(pdu)
        if frame is not None:
            return frame
    parts = [b""]
    if isinstance(pdu, UnknownPdu):
        parts.append(pdu.body)
    elif not (pdu.command_status and pdu.bodiless_error and not pdu.tlvs and _is_blank(pdu)):
        parts += (field.write(name, getattr(pdu, name)) for name, field in _LAYOUTS[type(pdu)])
    if pdu.tlvs:
        _write_tlvs(pdu, parts)
    return _finish(pdu, parts)


_sm_structs: dict[tuple[int, int, int], Struct] = {}


def _encode_sm(pdu: ShortMessagePdu) -> bytes | None:
    """The fast way. None: something is wrong, or unusual; the general way tells.

    Everything up to sm_length is one struct, by the lengths of the three texts: "9s" of 8 octets writes their NUL too.
    """
    try:
        service_type, source_addr, destination_addr = pdu.service_type, pdu.source_addr, pdu.destination_addr
        schedule, validity = pdu.schedule_delivery_time, pdu.validity_period
        short_message, sequence_number = pdu.short_message, pdu.sequence_number
        if (
            pdu.tlvs
            or pdu.command_status
            or not 1 <= sequence_number <= c.MAX_SEQUENCE_NUMBER
            or schedule  # rare, and to be looked at closely
            or validity
            or len(short_message) > 254
            or "\0" in source_addr
            or "\0" in destination_addr
            or "\0" in service_type
        ):
            return None
        lengths = len(service_type), len(source_addr), len(destination_addr)
        struct = _sm_structs.get(lengths)
        if struct is None:
            if lengths[0] > 5 or lengths[1] > 20 or lengths[2] > 20:
                return None
            struct = Struct(">4I{}s2B{}s2B{}s10B".format(*(length + 1 for length in lengths)))
            _sm_structs[lengths] = struct  # 2,646 at most
        return (
            struct.pack(
                struct.size + len(short_message), pdu.command_id, 0, sequence_number, service_type.encode("latin-1"),
                pdu.source_addr_ton, pdu.source_addr_npi, source_addr.encode("latin-1"),
                pdu.dest_addr_ton, pdu.dest_addr_npi, destination_addr.encode("latin-1"),
                pdu.esm_class, pdu.protocol_id, pdu.priority_flag, 0, 0, pdu.registered_delivery,
                pdu.replace_if_present_flag, pdu.data_coding, pdu.sm_default_msg_id, len(short_message),
            )
            + short_message
        )
    except (StructError, UnicodeEncodeError, TypeError):
        return None


def _is_blank(pdu: Pdu) -> bool:
    return not any(getattr(pdu, name) for name, _ in _LAYOUTS[type(pdu)])


def _finish(pdu: Pdu, parts: list[bytes]) -> bytes:
    """Put the header into `parts[0]`."""
    command_id = pdu.command_id
    if command_id < c.RESPONSE:
        if not 1 <= pdu.sequence_number <= c.MAX_SEQUENCE_NUMBER:
            raise EncodeError("sequence_number", f"is {pdu.sequence_number}, not in 1..{c.MAX_SEQUENCE_NUMBER}")
        if pdu.command_status:
            raise EncodeError("command_status", "must be 0 in a request")
    length = 16 + sum(map(len, parts))
    if length > c.MAX_PDU_LENGTH:
        raise EncodeError("command_length", f"is {length}, {c.MAX_PDU_LENGTH} at most")
    try:
        parts[0] = _HEADER.pack(length, command_id, pdu.command_status, pdu.sequence_number)
    except StructError:
        # a response repeats its request's sequence_number, be it what the specification forbids
        for name in ("command_id", "command_status", "sequence_number"):
            Octets(4).write(name, getattr(pdu, name))
        raise
    return b"".join(parts)


def _write_tlvs(pdu: Pdu, parts: list[bytes]) -> None:
    for tag, value in pdu.tlvs.items():
        name = c.tlv_name(tag)
        if not 1 <= tag <= 0xFFFF:
            raise EncodeError(name, "a tag must be in 0x0001..0xffff")
        if not isinstance(value, bytes):
            raise EncodeError(name, f"must be bytes, not {type(value).__name__}")
        least, most = c.TLV_SIZES.get(tag, (0, 0xFFFF))
        if not least <= len(value) <= most:
            raise EncodeError(name, f"is {len(value)} octets long, not {least}..{most}")
        parts += _TLV.pack(tag, len(value)), value
    if c.MESSAGE_PAYLOAD in pdu.tlvs and getattr(pdu, "short_message", None):
        raise EncodeError("message_payload", "must not be sent beside a short_message")  # 3.4 §5.3.2.32


# --- decode ---------------------------------------------------------------------------------------------------------------


def decode(frame: bytes) -> Pdu:
    """The PDU of a frame from PduReader: an UnknownPdu for a command_id we do not know.

    Raises DecodeError where the body cannot mean anything. Taken as well: no NUL at the end of the body, times without
    one, C-octet strings longer than they may be, missing parameters at the end, missing bodies of responses, octets
    that nothing accounts for.
    """
    if len(frame) < c.MIN_PDU_LENGTH:
        raise DecodeError(f"a PDU of {len(frame)} octets", 0, 0, c.ESME_RINVCMDLEN)
    _, command_id, command_status, sequence_number = _HEADER.unpack_from(frame)
    kind = KINDS.get(command_id, UnknownPdu)
    pdu = kind(command_status=command_status, sequence_number=sequence_number, raw=frame)
    try:
        if isinstance(pdu, ShortMessagePdu):
            end = _read_sm(pdu, frame) or _read_body(pdu, frame)
        elif isinstance(pdu, UnknownPdu):
            pdu.command_id, pdu.body, end = command_id, frame[16:], len(frame)
        else:
            if isinstance(pdu, Bind | BindResp):
                pdu.command_id = command_id
            end = _read_body(pdu, frame)
        if end < len(frame):
            pdu.tlvs = _read_tlvs(frame, end)
    except BadBody as error:
        message = f"{c.command_name(command_id)}: {error}"
        raise DecodeError(message, command_id, sequence_number, error.command_status) from None
    return pdu


def _read_sm(pdu: ShortMessagePdu, frame: bytes) -> int:
    """The fast way: the offset after short_message, or 0 when something is odd; the general way tells what it means."""
    find = frame.find
    # where the NULs of service_type, source_addr, destination_addr, schedule_delivery_time and validity_period are
    service = find(0, 16)
    source = find(0, service + 3)
    destination = find(0, source + 3)
    schedule = find(0, destination + 4)
    validity = find(0, schedule + 1)
    if (
        not 15 < service < source < destination < schedule < validity < len(frame) - 5  # find says -1
        or schedule > destination + 20
        or validity > schedule + 17
        or validity > 16 + LONGEST_TEXT
    ):
        return 0
    end = validity + 6 + frame[validity + 5]
    if end > len(frame):
        return 0
    text = frame[:validity].decode("latin-1")
    pdu.service_type = text[16:service]
    pdu.source_addr_ton = frame[service + 1]
    pdu.source_addr_npi = frame[service + 2]
    pdu.source_addr = text[service + 3 : source]
    pdu.dest_addr_ton = frame[source + 1]
    pdu.dest_addr_npi = frame[source + 2]
    pdu.destination_addr = text[source + 3 : destination]
    pdu.esm_class = frame[destination + 1]
    pdu.protocol_id = frame[destination + 2]
    pdu.priority_flag = frame[destination + 3]
    pdu.schedule_delivery_time = text[destination + 4 : schedule]
    pdu.validity_period = text[schedule + 1 : validity]
    pdu.registered_delivery = frame[validity + 1]
    pdu.replace_if_present_flag = frame[validity + 2]
    pdu.data_coding = frame[validity + 3]
    pdu.sm_default_msg_id = frame[validity + 4]
    pdu.short_message = frame[validity + 6 : end]
    return end


def _read_body(pdu: Pdu, frame: bytes) -> int:
    offset, end = 16, len(frame)
    needed = None if pdu.command_id >= c.RESPONSE else pdu.last_needed
    for name, field in _LAYOUTS[type(pdu)]:
        if offset == end and needed is None:
            break
        value, offset = field.read(name, frame, offset)
        setattr(pdu, name, value)
        if name == needed:
            needed = None
    return offset


def _read_tlvs(frame: bytes, offset: int) -> dict[int, bytes]:
    tlvs: dict[int, bytes] = {}
    end = len(frame)
    while end - offset >= 4:
        tag, length = _TLV.unpack_from(frame, offset)
        if tag == 0:  # no tag, but padding, such as a NUL after short_message: the stream goes on after it
            offset += 1
            continue
        offset += 4
        if length > end - offset:
            if tag in c.TLV_NAMES:
                problem = f"{c.tlv_name(tag)} is said to be {length} octets long, and {end - offset} follow"
                raise BadBody(problem, c.ESME_RINVPARLEN)
            break  # octets that nothing accounts for
        if tag not in tlvs:
            tlvs[tag] = frame[offset : offset + length]
        offset += length
    return tlvs
