"""How one parameter of a PDU stands on the wire: the fields that pdu.py's declarations are made of (SMPP 3.4 §3.1).

A field writes strictly, naming itself where the value is wrong, and reads tolerantly. Pure; codec.py walks over them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

from junebug.errors import JunebugError
from junebug.smpp import constants as c

LONGEST_TEXT = 255
"""Characters of a C-octet string that are still read, whatever the specification's size for it."""
_TIME = re.compile(rb"[0-9]{15}[-+R]")  # 3.4 §7.1.1: YYMMDDhhmmsstnnp


class EncodeError(JunebugError):
    """A PDU that the specification forbids to send. `field` names the parameter or TLV."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field


class BadBody(Exception):
    """What `decode` makes a DecodeError of."""

    def __init__(self, problem: str, command_status: int) -> None:
        super().__init__(problem)
        self.command_status = command_status


@dataclass(slots=True)
class SmeAddress:
    """What both lists of submit_multi and its response have."""

    dest_addr_ton: int = 0
    dest_addr_npi: int = 0
    destination_addr: str = ""

    def write(self, path: str) -> bytes:
        return (
            _OCTET.write(path + "dest_addr_ton", self.dest_addr_ton)
            + _OCTET.write(path + "dest_addr_npi", self.dest_addr_npi)
            + _ADDRESS.write(path + "destination_addr", self.destination_addr)
        )

    def read(self, frame: bytes, offset: int) -> int:
        """Fills itself; the offset after it."""
        self.dest_addr_ton, offset = _OCTET.read("dest_addr_ton", frame, offset)
        self.dest_addr_npi, offset = _OCTET.read("dest_addr_npi", frame, offset)
        self.destination_addr, offset = _ADDRESS.read("destination_addr", frame, offset)
        return offset


@dataclass(slots=True)
class DestAddress(SmeAddress):
    """A destination of submit_multi: an address, or a distribution list when `dl_name` is set."""

    dl_name: str = ""


@dataclass(slots=True)
class UnsuccessSme(SmeAddress):
    """A destination that submit_multi did not reach, and why (a command_status)."""

    error_status_code: int = 0


@dataclass(frozen=True, slots=True)
class CString:
    """C-octet string: text (Latin-1) that ends with a NUL. `size` is the most octets with its NUL."""

    size: int
    status: int = c.ESME_RINVCMDLEN
    """command_status that refuses one that is too long to be read."""
    time: bool = False
    """It is empty or a time of exactly 16 characters."""

    def write(self, name: str, value: str) -> bytes:
        try:
            octets = value.encode("latin-1")
        except UnicodeEncodeError:
            raise EncodeError(name, "has a character outside of Latin-1") from None
        except AttributeError:
            raise EncodeError(name, f"must be text, not {type(value).__name__}") from None
        if len(octets) >= self.size:
            raise EncodeError(name, f"is {len(octets)} octets long, {self.size - 1} at most")
        if 0 in octets:
            raise EncodeError(name, "holds a NUL")
        if self.time and octets and not _TIME.fullmatch(octets):
            raise EncodeError(name, "must be empty or YYMMDDhhmmsstnnp (16 characters)")
        return octets + b"\0"

    def read(self, name: str, frame: bytes, offset: int) -> tuple[str, int]:
        if offset >= len(frame):
            raise BadBody(f"the body ends before {name}", c.ESME_RINVCMDLEN)
        end = frame.find(0, offset)
        after = end + 1
        if end < 0:  # its NUL is missing: taken as it is when nothing follows, and reading on fails otherwise
            end = after = len(frame)
        if self.time and end - offset > 16 and _TIME.match(frame, offset):
            end = after = offset + 16  # some SMSCs take "fixed length" to mean no NUL
        if end - offset > LONGEST_TEXT:
            raise BadBody(f"{name} is {end - offset} octets long", self.status)
        return frame[offset:end].decode("latin-1"), after


@dataclass(frozen=True, slots=True)
class Octets:
    """Integer of `size` octets, big-endian."""

    size: int = 1

    def write(self, name: str, value: int) -> bytes:
        if not isinstance(value, int):
            raise EncodeError(name, f"must be an integer, not {type(value).__name__}")
        most = (1 << 8 * self.size) - 1
        if not 0 <= value <= most:
            raise EncodeError(name, f"is {value}, not in 0..{most}")
        return value.to_bytes(self.size, "big")

    def read(self, name: str, frame: bytes, offset: int) -> tuple[int, int]:
        after = offset + self.size
        if after > len(frame):
            raise BadBody(f"the body ends before {name}", c.ESME_RINVCMDLEN)
        return int.from_bytes(frame[offset:after], "big"), after


@dataclass(frozen=True, slots=True)
class Sized:
    """An octet that says how many follow (sm_length), then those."""

    most: int = 254

    def write(self, name: str, value: bytes) -> bytes:
        if not isinstance(value, bytes):
            raise EncodeError(name, f"must be bytes, not {type(value).__name__}")
        if len(value) > self.most:
            raise EncodeError(name, f"is {len(value)} octets long, {self.most} at most")
        return bytes((len(value),)) + value

    def read(self, name: str, frame: bytes, offset: int) -> tuple[bytes, int]:
        length, offset = _OCTET.read("sm_length", frame, offset)
        after = offset + length
        if after > len(frame):
            raise BadBody(f"sm_length is {length}, and {len(frame) - offset} octets follow", c.ESME_RINVMSGLEN)
        return frame[offset:after], after


@dataclass(frozen=True, slots=True)
class Destinations:
    """number_of_dests, then the dest_address(es) of submit_multi (3.4 §4.5.1.1)."""

    def write(self, name: str, value: list[DestAddress]) -> bytes:
        if not 1 <= len(value) <= 254:
            raise EncodeError("number_of_dests", f"is {len(value)}, not in 1..254")
        parts = [bytes((len(value),))]
        for number, destination in enumerate(value):
            path = f"{name}[{number}]."
            if destination.dl_name:
                parts += b"\2", _LIST.write(path + "dl_name", destination.dl_name)
            else:
                parts += b"\1", destination.write(path)
        return b"".join(parts)

    def read(self, name: str, frame: bytes, offset: int) -> tuple[list[DestAddress], int]:
        count, offset = _OCTET.read("number_of_dests", frame, offset)
        destinations = []
        for _ in range(count):
            flag, offset = _OCTET.read("dest_flag", frame, offset)
            destination = DestAddress()
            if flag == 1:
                offset = destination.read(frame, offset)
            elif flag == 2:
                destination.dl_name, offset = _LIST.read("dl_name", frame, offset)
            else:
                raise BadBody(f"dest_flag is {flag}", c.ESME_RINVDESTFLAG)
            destinations.append(destination)
        return destinations, offset


@dataclass(frozen=True, slots=True)
class Failures:
    """no_unsuccess, then the unsuccess_sme(s) of submit_multi_resp (3.4 §4.5.2.1)."""

    def write(self, name: str, value: list[UnsuccessSme]) -> bytes:
        parts = [_OCTET.write("no_unsuccess", len(value))]
        for number, failure in enumerate(value):
            path = f"{name}[{number}]."
            parts += failure.write(path), _STATUS.write(path + "error_status_code", failure.error_status_code)
        return b"".join(parts)

    def read(self, name: str, frame: bytes, offset: int) -> tuple[list[UnsuccessSme], int]:
        count, offset = _OCTET.read("no_unsuccess", frame, offset)
        failures = []
        for _ in range(count):
            failure = UnsuccessSme()
            offset = failure.read(frame, offset)
            failure.error_status_code, offset = _STATUS.read("error_status_code", frame, offset)
            failures.append(failure)
        return failures, offset


Field: TypeAlias = CString | Octets | Sized | Destinations | Failures
"""`write(name, value)` gives its octets, or raises EncodeError. `read(name, frame, offset)` gives the value at `offset` and
the offset after it, or raises BadBody."""

_OCTET, _STATUS = Octets(1), Octets(4)
_ADDRESS, _LIST = CString(21, c.ESME_RINVDSTADR), CString(21, c.ESME_RINVDLNAME)
