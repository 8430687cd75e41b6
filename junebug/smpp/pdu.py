"""SMPP PDUs: one dataclass a kind (SMPP 3.4 §4).

A dataclass is the declaration of its PDU: its own parameters, in order, are the mandatory ones as they stand on the wire,
each annotated with the field that writes and reads it (fields.py). codec.py turns one into bytes and back; constants.py
has the numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Final, TypeAlias

from junebug.smpp import constants as c
from junebug.smpp.fields import CString, DestAddress, Destinations, Failures, Octets, Sized, UnsuccessSme

Octet: TypeAlias = Annotated[int, Octets(1)]
ServiceType: TypeAlias = Annotated[str, CString(6, c.ESME_RINVSERTYP)]
SystemId: TypeAlias = Annotated[str, CString(16, c.ESME_RINVSYSID)]
Password: TypeAlias = Annotated[str, CString(9, c.ESME_RINVPASWD)]
Source: TypeAlias = Annotated[str, CString(21, c.ESME_RINVSRCADR)]
Destination: TypeAlias = Annotated[str, CString(21, c.ESME_RINVDSTADR)]
LongSource: TypeAlias = Annotated[str, CString(65, c.ESME_RINVSRCADR)]
LongDestination: TypeAlias = Annotated[str, CString(65, c.ESME_RINVDSTADR)]
MessageId: TypeAlias = Annotated[str, CString(65, c.ESME_RINVMSGID)]
Schedule: TypeAlias = Annotated[str, CString(17, c.ESME_RINVSCHED, time=True)]
Validity: TypeAlias = Annotated[str, CString(17, c.ESME_RINVEXPIRY, time=True)]
ShortMessage: TypeAlias = Annotated[bytes, Sized()]

# --- PDUs ---------------------------------------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class Pdu:
    """What every PDU has. Strings are Latin-1 on the wire, octet strings and TLV values bytes."""

    command_status: int = 0
    sequence_number: int = 0
    tlvs: dict[int, bytes] = field(default_factory=dict)
    """Optional parameters by tag; of a repeated tag the first. Unknown tags are kept."""
    raw: bytes = field(default=b"", compare=False, repr=False)
    """The frame as received; empty for a PDU of ours. May hold a password."""
    last_needed: ClassVar[str | None] = None
    """A request's body may end after this parameter; the rest keeps its defaults. A response's may be empty altogether."""
    bodiless_error: ClassVar[bool] = False
    """Whether its body, where it says nothing, is left out when command_status is not 0 (3.4 §4.1.2, §4.4.2): some peers
    mistake the NUL for garbage."""

    @property
    def command_id(self) -> int:
        raise NotImplementedError

    @property
    def command_name(self) -> str:
        """`submit_sm`, as the specification spells it."""
        return c.command_name(self.command_id)

    @property
    def status_name(self) -> str:
        """`ESME_ROK`, or hexadecimal for a vendor's own."""
        return c.status_name(self.command_status)


@dataclass(slots=True)
class Bind(Pdu):
    """bind_transmitter, bind_receiver or bind_transceiver, by `command_id`."""

    last_needed = "system_id"
    command_id: int = c.BIND_TRANSCEIVER
    system_id: SystemId = ""
    password: Password = field(default="", repr=False)
    system_type: Annotated[str, CString(13, c.ESME_RINVSYSTYP)] = ""
    interface_version: Octet = 0x34
    addr_ton: Octet = 0
    addr_npi: Octet = 0
    address_range: Annotated[str, CString(41)] = ""


@dataclass(slots=True)
class BindResp(Pdu):
    command_id: int = c.RESPONSE | c.BIND_TRANSCEIVER
    bodiless_error = True
    system_id: SystemId = ""


@dataclass(slots=True)
class Outbind(Pdu):
    command_id: ClassVar[int] = c.OUTBIND
    last_needed = "system_id"
    system_id: SystemId = ""
    password: Password = field(default="", repr=False)


@dataclass(slots=True)
class Unbind(Pdu):
    command_id: ClassVar[int] = c.UNBIND


@dataclass(slots=True)
class UnbindResp(Pdu):
    command_id: ClassVar[int] = c.RESPONSE | c.UNBIND


@dataclass(slots=True)
class GenericNack(Pdu):
    command_id: ClassVar[int] = c.GENERIC_NACK


@dataclass(slots=True)
class EnquireLink(Pdu):
    command_id: ClassVar[int] = c.ENQUIRE_LINK


@dataclass(slots=True)
class EnquireLinkResp(Pdu):
    command_id: ClassVar[int] = c.RESPONSE | c.ENQUIRE_LINK


@dataclass(slots=True)
class ShortMessagePdu(Pdu):
    """The parameters that submit_sm and deliver_sm have in common: all."""

    last_needed = "data_coding"
    service_type: ServiceType = ""
    source_addr_ton: Octet = 0
    source_addr_npi: Octet = 0
    source_addr: Source = ""
    dest_addr_ton: Octet = 0
    dest_addr_npi: Octet = 0
    destination_addr: Destination = ""
    esm_class: Octet = 0
    protocol_id: Octet = 0
    priority_flag: Octet = 0
    schedule_delivery_time: Schedule = ""
    validity_period: Validity = ""
    registered_delivery: Octet = 0
    replace_if_present_flag: Octet = 0
    data_coding: Octet = 0
    sm_default_msg_id: Octet = 0
    short_message: ShortMessage = b""


@dataclass(slots=True)
class SubmitSm(ShortMessagePdu):
    command_id: ClassVar[int] = c.SUBMIT_SM


@dataclass(slots=True)
class DeliverSm(ShortMessagePdu):
    """An MO or a receipt."""

    command_id: ClassVar[int] = c.DELIVER_SM


@dataclass(slots=True)
class SubmitSmResp(Pdu):
    command_id: ClassVar[int] = c.RESPONSE | c.SUBMIT_SM
    bodiless_error = True
    message_id: MessageId = ""


@dataclass(slots=True)
class DeliverSmResp(Pdu):
    command_id: ClassVar[int] = c.RESPONSE | c.DELIVER_SM
    message_id: MessageId = ""


@dataclass(slots=True)
class SubmitMulti(Pdu):
    command_id: ClassVar[int] = c.SUBMIT_MULTI
    last_needed = "data_coding"
    service_type: ServiceType = ""
    source_addr_ton: Octet = 0
    source_addr_npi: Octet = 0
    source_addr: Source = ""
    dest_addresses: Annotated[list[DestAddress], Destinations()] = field(default_factory=list)
    esm_class: Octet = 0
    protocol_id: Octet = 0
    priority_flag: Octet = 0
    schedule_delivery_time: Schedule = ""
    validity_period: Validity = ""
    registered_delivery: Octet = 0
    replace_if_present_flag: Octet = 0
    data_coding: Octet = 0
    sm_default_msg_id: Octet = 0
    short_message: ShortMessage = b""


@dataclass(slots=True)
class SubmitMultiResp(Pdu):
    command_id: ClassVar[int] = c.RESPONSE | c.SUBMIT_MULTI
    bodiless_error = True
    message_id: MessageId = ""
    unsuccess_smes: Annotated[list[UnsuccessSme], Failures()] = field(default_factory=list)


@dataclass(slots=True)
class DataSm(Pdu):
    command_id: ClassVar[int] = c.DATA_SM
    last_needed = "destination_addr"
    service_type: ServiceType = ""
    source_addr_ton: Octet = 0
    source_addr_npi: Octet = 0
    source_addr: LongSource = ""
    dest_addr_ton: Octet = 0
    dest_addr_npi: Octet = 0
    destination_addr: LongDestination = ""
    esm_class: Octet = 0
    registered_delivery: Octet = 0
    data_coding: Octet = 0


@dataclass(slots=True)
class DataSmResp(Pdu):
    command_id: ClassVar[int] = c.RESPONSE | c.DATA_SM
    bodiless_error = True
    message_id: MessageId = ""


@dataclass(slots=True)
class QuerySm(Pdu):
    command_id: ClassVar[int] = c.QUERY_SM
    last_needed = "message_id"
    message_id: MessageId = ""
    source_addr_ton: Octet = 0
    source_addr_npi: Octet = 0
    source_addr: Source = ""


@dataclass(slots=True)
class QuerySmResp(Pdu):
    command_id: ClassVar[int] = c.RESPONSE | c.QUERY_SM
    message_id: MessageId = ""
    final_date: Annotated[str, CString(17, time=True)] = ""
    message_state: Octet = 0
    error_code: Octet = 0


@dataclass(slots=True)
class CancelSm(Pdu):
    command_id: ClassVar[int] = c.CANCEL_SM
    last_needed = "message_id"
    service_type: ServiceType = ""
    message_id: MessageId = ""
    source_addr_ton: Octet = 0
    source_addr_npi: Octet = 0
    source_addr: Source = ""
    dest_addr_ton: Octet = 0
    dest_addr_npi: Octet = 0
    destination_addr: Destination = ""


@dataclass(slots=True)
class CancelSmResp(Pdu):
    command_id: ClassVar[int] = c.RESPONSE | c.CANCEL_SM


@dataclass(slots=True)
class ReplaceSm(Pdu):
    command_id: ClassVar[int] = c.REPLACE_SM
    last_needed = "message_id"
    message_id: MessageId = ""
    source_addr_ton: Octet = 0
    source_addr_npi: Octet = 0
    source_addr: Source = ""
    schedule_delivery_time: Schedule = ""
    validity_period: Validity = ""
    registered_delivery: Octet = 0
    sm_default_msg_id: Octet = 0
    short_message: ShortMessage = b""


@dataclass(slots=True)
class ReplaceSmResp(Pdu):
    command_id: ClassVar[int] = c.RESPONSE | c.REPLACE_SM


@dataclass(slots=True)
class AlertNotification(Pdu):
    command_id: ClassVar[int] = c.ALERT_NOTIFICATION
    last_needed = "source_addr"
    source_addr_ton: Octet = 0
    source_addr_npi: Octet = 0
    source_addr: LongSource = ""
    esme_addr_ton: Octet = 0
    esme_addr_npi: Octet = 0
    esme_addr: Annotated[str, CString(65)] = ""


@dataclass(slots=True)
class UnknownPdu(Pdu):
    """A command_id that is none of the above. To be answered with generic_nack, ESME_RINVCMDID."""

    command_id: int = 0
    body: bytes = b""


# --- tables made of the declarations -------------------------------------------------------------------------------------

BINDS: Final = (c.BIND_RECEIVER, c.BIND_TRANSMITTER, c.BIND_TRANSCEIVER)

KINDS: Final[dict[int, type[Pdu]]] = {
    **dict.fromkeys(BINDS, Bind),
    **{command_id | c.RESPONSE: BindResp for command_id in BINDS},
    **{
        kind.command_id: kind
        for kind in (
            Outbind, Unbind, UnbindResp, GenericNack, EnquireLink, EnquireLinkResp, SubmitSm, SubmitSmResp, DeliverSm,
            DeliverSmResp, SubmitMulti, SubmitMultiResp, DataSm, DataSmResp, QuerySm, QuerySmResp, CancelSm, CancelSmResp,
            ReplaceSm, ReplaceSmResp, AlertNotification,
        )
    },
}  # fmt: skip
"""The dataclass of every command_id that we know."""


def response_to(command_id: int, sequence_number: int, command_status: int) -> Pdu:
    """The response to a request of that command_id, its own parameters empty; generic_nack where there is none."""
    kind = KINDS.get(command_id | c.RESPONSE, GenericNack)
    pdu = BindResp(command_id=command_id | c.RESPONSE) if kind is BindResp else kind()
    pdu.sequence_number = sequence_number
    pdu.command_status = command_status
    return pdu


def may_answer(response_id: int, request_id: int) -> bool:
    """Whether this kind of response may answer that kind of request; binds are not told apart (some SMSCs do not)."""
    if response_id == c.GENERIC_NACK or response_id == request_id | c.RESPONSE:
        return True
    return response_id & ~c.RESPONSE in BINDS and request_id in BINDS
