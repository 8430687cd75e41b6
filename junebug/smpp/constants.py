"""SMPP's numbers and their names, as plain ints (SMPP 3.4 §5, SMPP 5.0 §4.7): no enums, since peers send any value.

Every table goes both ways: a number that has no name is written in hexadecimal, and such text is read back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

MIN_PDU_LENGTH: Final = 16
MAX_PDU_LENGTH: Final = 70_000
"""Octets of a whole PDU: a header at least, a message_payload of 64 KB with everything around it at most."""
MAX_SEQUENCE_NUMBER: Final = 0x7FFFFFFF
RESPONSE: Final = 0x80000000
"""The bit that makes a command_id that of a response."""

# --- command_id (3.4 §5.1.2.1) -----------------------------------------------------------------------------------------

GENERIC_NACK: Final = RESPONSE
"""It answers what has no response of its own; that of QUERY_SM is RESPONSE | QUERY_SM."""
BIND_RECEIVER: Final = 0x00000001
BIND_TRANSMITTER: Final = 0x00000002
QUERY_SM: Final = 0x00000003
SUBMIT_SM: Final = 0x00000004
DELIVER_SM: Final = 0x00000005
UNBIND: Final = 0x00000006
REPLACE_SM: Final = 0x00000007
CANCEL_SM: Final = 0x00000008
BIND_TRANSCEIVER: Final = 0x00000009
OUTBIND: Final = 0x0000000B
ENQUIRE_LINK: Final = 0x00000015
SUBMIT_MULTI: Final = 0x00000021
ALERT_NOTIFICATION: Final = 0x00000102
DATA_SM: Final = 0x00000103

_REQUESTS: Final[Mapping[int, str]] = {
    0x1: "bind_receiver", 0x2: "bind_transmitter", 0x3: "query_sm", 0x4: "submit_sm", 0x5: "deliver_sm",
    0x6: "unbind", 0x7: "replace_sm", 0x8: "cancel_sm", 0x9: "bind_transceiver", 0xB: "outbind",
    0x15: "enquire_link", 0x21: "submit_multi", 0x102: "alert_notification", 0x103: "data_sm",
    # SMPP 5.0's cell broadcast, which we answer as unknown
    0x111: "broadcast_sm", 0x112: "query_broadcast_sm", 0x113: "cancel_broadcast_sm",
}  # fmt: skip
COMMAND_NAMES: Final[Mapping[int, str]] = {GENERIC_NACK: "generic_nack", **_REQUESTS} | {
    RESPONSE | command: f"{name}_resp" for command, name in _REQUESTS.items() if name not in ("outbind", "alert_notification")
}


def command_name(command_id: int) -> str:
    """`submit_sm` for 4; `0x00001234` for what has no name."""
    return COMMAND_NAMES.get(command_id) or f"0x{command_id:08x}"


# --- command_status (3.4 §5.1.3, 5.0 §4.7.6) ---------------------------------------------------------------------------

ESME_ROK: Final = 0x00000000
ESME_RINVMSGLEN: Final = 0x00000001
ESME_RINVCMDLEN: Final = 0x00000002
ESME_RINVCMDID: Final = 0x00000003
ESME_RINVBNDSTS: Final = 0x00000004
ESME_RALYBND: Final = 0x00000005
ESME_RSYSERR: Final = 0x00000008
ESME_RINVSRCADR: Final = 0x0000000A
ESME_RINVDSTADR: Final = 0x0000000B
ESME_RINVMSGID: Final = 0x0000000C
ESME_RBINDFAIL: Final = 0x0000000D
ESME_RINVPASWD: Final = 0x0000000E
ESME_RINVSYSID: Final = 0x0000000F
ESME_RCANCELFAIL: Final = 0x00000011
ESME_RREPLACEFAIL: Final = 0x00000013
ESME_RMSGQFUL: Final = 0x00000014
ESME_RINVSERTYP: Final = 0x00000015
ESME_RINVDLNAME: Final = 0x00000034
ESME_RINVDESTFLAG: Final = 0x00000040
ESME_RSUBMITFAIL: Final = 0x00000045
ESME_RINVSYSTYP: Final = 0x00000053
ESME_RTHROTTLED: Final = 0x00000058
ESME_RINVSCHED: Final = 0x00000061
ESME_RINVEXPIRY: Final = 0x00000062
ESME_RX_T_APPN: Final = 0x00000064
ESME_RQUERYFAIL: Final = 0x00000067
ESME_RINVPARLEN: Final = 0x000000C2
ESME_RDELIVERYFAILURE: Final = 0x000000FE

STATUS_NAMES: Final[Mapping[int, str]] = {
    0x00: "ESME_ROK", 0x01: "ESME_RINVMSGLEN", 0x02: "ESME_RINVCMDLEN", 0x03: "ESME_RINVCMDID",
    0x04: "ESME_RINVBNDSTS", 0x05: "ESME_RALYBND", 0x06: "ESME_RINVPRTFLG", 0x07: "ESME_RINVREGDLVFLG",
    0x08: "ESME_RSYSERR", 0x0A: "ESME_RINVSRCADR", 0x0B: "ESME_RINVDSTADR", 0x0C: "ESME_RINVMSGID",
    0x0D: "ESME_RBINDFAIL", 0x0E: "ESME_RINVPASWD", 0x0F: "ESME_RINVSYSID", 0x11: "ESME_RCANCELFAIL",
    0x13: "ESME_RREPLACEFAIL", 0x14: "ESME_RMSGQFUL", 0x15: "ESME_RINVSERTYP", 0x33: "ESME_RINVNUMDESTS",
    0x34: "ESME_RINVDLNAME", 0x40: "ESME_RINVDESTFLAG", 0x42: "ESME_RINVSUBREP", 0x43: "ESME_RINVESMCLASS",
    0x44: "ESME_RCNTSUBDL", 0x45: "ESME_RSUBMITFAIL", 0x48: "ESME_RINVSRCTON", 0x49: "ESME_RINVSRCNPI",
    0x50: "ESME_RINVDSTTON", 0x51: "ESME_RINVDSTNPI", 0x53: "ESME_RINVSYSTYP", 0x54: "ESME_RINVREPFLAG",
    0x55: "ESME_RINVNUMMSGS", 0x58: "ESME_RTHROTTLED", 0x61: "ESME_RINVSCHED", 0x62: "ESME_RINVEXPIRY",
    0x63: "ESME_RINVDFTMSGID", 0x64: "ESME_RX_T_APPN", 0x65: "ESME_RX_P_APPN", 0x66: "ESME_RX_R_APPN",
    0x67: "ESME_RQUERYFAIL", 0xC0: "ESME_RINVOPTPARSTREAM", 0xC1: "ESME_ROPTPARNOTALLWD", 0xC2: "ESME_RINVPARLEN",
    0xC3: "ESME_RMISSINGOPTPARAM", 0xC4: "ESME_RINVOPTPARAMVAL", 0xFE: "ESME_RDELIVERYFAILURE",
    0xFF: "ESME_RUNKNOWNERR",
    # SMPP 5.0
    0x100: "ESME_RSERTYPUNAUTH", 0x101: "ESME_RPROHIBITED", 0x102: "ESME_RSERTYPUNAVAIL",
    0x103: "ESME_RSERTYPDENIED", 0x104: "ESME_RINVDCS", 0x105: "ESME_RINVSRCADDRSUBUNIT",
    0x106: "ESME_RINVDSTADDRSUBUNIT", 0x107: "ESME_RINVBCASTFREQINT", 0x108: "ESME_RINVBCASTALIAS_NAME",
    0x109: "ESME_RINVBCASTAREAFMT", 0x10A: "ESME_RINVNUMBCAST_AREAS", 0x10B: "ESME_RINVBCASTCNTTYPE",
    0x10C: "ESME_RINVBCASTMSGCLASS", 0x10D: "ESME_RBCASTFAIL", 0x10E: "ESME_RBCASTQUERYFAIL",
    0x10F: "ESME_RBCASTCANCELFAIL", 0x110: "ESME_RINVBCAST_REP", 0x111: "ESME_RINVBCASTSRVGRP",
    0x112: "ESME_RINVBCASTCHANIND",
}  # fmt: skip

_STATUS_CODES: Final[Mapping[str, int]] = {name: code for code, name in STATUS_NAMES.items()} | {
    # what SMPP 5.0 renamed
    "ESME_RINVTLVSTREAM": 0xC0, "ESME_RTLVNOTALLWD": 0xC1, "ESME_RINVTLVLEN": 0xC2, "ESME_RMISSINGTLV": 0xC3,
    "ESME_RINVTLVVAL": 0xC4,
}  # fmt: skip


def status_name(command_status: int) -> str:
    """`ESME_RTHROTTLED` for 0x58; `0x00000400` for a vendor's own."""
    return STATUS_NAMES.get(command_status) or f"0x{command_status:08x}"


def status_code(name: str | int) -> int:
    """The other way: an ESME_ name (3.4's or 5.0's), a number, or one as text ("88", "0x58"). Raises ValueError."""
    if isinstance(name, str):
        code = _STATUS_CODES.get(name.strip().upper())
        if code is not None:
            return code
    return _number(name, 0xFFFFFFFF, "a command_status")


# --- TLV tags (3.4 §5.3.2, 5.0 §4.8.4) ---------------------------------------------------------------------------------

RECEIPTED_MESSAGE_ID: Final = 0x001E
SAR_MSG_REF_NUM: Final = 0x020C
SAR_TOTAL_SEGMENTS: Final = 0x020E
SAR_SEGMENT_SEQNUM: Final = 0x020F
SC_INTERFACE_VERSION: Final = 0x0210
NETWORK_ERROR_CODE: Final = 0x0423
MESSAGE_PAYLOAD: Final = 0x0424
MESSAGE_STATE: Final = 0x0427

_TLVS: Final[tuple[tuple[int, str, int, int], ...]] = (
    # tag, name, least and most octets of its value (where 3.4 and 5.0 differ: what either allows)
    (0x0005, "dest_addr_subunit", 1, 1), (0x0006, "dest_network_type", 1, 1), (0x0007, "dest_bearer_type", 1, 1),
    (0x0008, "dest_telematics_id", 1, 2), (0x000D, "source_addr_subunit", 1, 1),
    (0x000E, "source_network_type", 1, 1), (0x000F, "source_bearer_type", 1, 1),
    (0x0010, "source_telematics_id", 1, 2), (0x0017, "qos_time_to_live", 4, 4), (0x0019, "payload_type", 1, 1),
    (0x001D, "additional_status_info_text", 1, 256), (0x001E, "receipted_message_id", 1, 65),
    (0x0030, "ms_msg_wait_facilities", 1, 1), (0x0201, "privacy_indicator", 1, 1),
    (0x0202, "source_subaddress", 2, 23), (0x0203, "dest_subaddress", 2, 23),
    (0x0204, "user_message_reference", 2, 2), (0x0205, "user_response_code", 1, 1), (0x020A, "source_port", 2, 2),
    (0x020B, "destination_port", 2, 2), (0x020C, "sar_msg_ref_num", 2, 2), (0x020D, "language_indicator", 1, 1),
    (0x020E, "sar_total_segments", 1, 1), (0x020F, "sar_segment_seqnum", 1, 1),
    (0x0210, "sc_interface_version", 1, 1), (0x0302, "callback_num_pres_ind", 1, 1),
    (0x0303, "callback_num_atag", 0, 65), (0x0304, "number_of_messages", 1, 1), (0x0381, "callback_num", 4, 19),
    (0x0420, "dpf_result", 1, 1), (0x0421, "set_dpf", 1, 1), (0x0422, "ms_availability_status", 1, 1),
    (0x0423, "network_error_code", 3, 3), (0x0424, "message_payload", 0, 65535),
    (0x0425, "delivery_failure_reason", 1, 1), (0x0426, "more_messages_to_send", 1, 1),
    (0x0427, "message_state", 1, 1), (0x0428, "congestion_state", 1, 1), (0x0501, "ussd_service_op", 1, 1),
    (0x0600, "broadcast_channel_indicator", 1, 1), (0x0601, "broadcast_content_type", 3, 3),
    (0x0602, "broadcast_content_type_info", 1, 255), (0x0603, "broadcast_message_class", 1, 1),
    (0x0604, "broadcast_rep_num", 2, 2), (0x0605, "broadcast_frequency_interval", 3, 3),
    (0x0606, "broadcast_area_identifier", 1, 255), (0x0607, "broadcast_error_status", 4, 4),
    (0x0608, "broadcast_area_success", 1, 1), (0x0609, "broadcast_end_time", 1, 17),
    (0x060A, "broadcast_service_group", 1, 255), (0x060B, "billing_identification", 1, 1024),
    (0x060D, "source_network_id", 1, 65), (0x060E, "dest_network_id", 1, 65), (0x060F, "source_node_id", 6, 6),
    (0x0610, "dest_node_id", 6, 6), (0x0611, "dest_addr_np_resolution", 1, 1),
    (0x0612, "dest_addr_np_information", 1, 10), (0x0613, "dest_addr_np_country", 1, 5),
    (0x1201, "display_time", 1, 1), (0x1203, "sms_signal", 2, 2), (0x1204, "ms_validity", 1, 4),
    (0x130C, "alert_on_message_delivery", 0, 1), (0x1380, "its_reply_type", 1, 1),
    (0x1383, "its_session_info", 2, 2),
)  # fmt: skip

TLV_NAMES: Final[Mapping[int, str]] = {tag: name for tag, name, _, _ in _TLVS}
TLV_TAGS: Final[Mapping[str, int]] = {name: tag for tag, name, _, _ in _TLVS}
TLV_SIZES: Final[Mapping[int, tuple[int, int]]] = {tag: (least, most) for tag, _, least, most in _TLVS}


def tlv_name(tag: int) -> str:
    """`message_payload` for 0x0424; `0x1401` for a vendor's own."""
    return TLV_NAMES.get(tag) or f"0x{tag:04x}"


def tlv_tag(name: str | int) -> int:
    """The other way: a name, a number, or one as text ("5121", "0x1401"). Raises ValueError."""
    if isinstance(name, str):
        tag = TLV_TAGS.get(name.strip().lower())
        if tag is not None:
            return tag
    return _number(name, 0xFFFF, "a TLV tag")


def _number(value: str | int, most: int, what: str) -> int:
    try:
        number = int(value, 0) if isinstance(value, str) else value
    except ValueError:
        number = -1
    if not 0 <= number <= most:
        raise ValueError(f"{value!r} is not {what}")
    return number


# --- esm_class (3.4 §5.2.12) -------------------------------------------------------------------------------------------

ESM_CLASS_TYPE_MASK: Final = 0x3C
ESM_CLASS_DELIVERY_RECEIPT: Final = 0x04
ESM_CLASS_INTERMEDIATE: Final = 0x20
ESM_CLASS_UDHI: Final = 0x40
"""short_message (or message_payload) begins with a user data header."""

# --- data_coding (3.4 §5.2.19) -----------------------------------------------------------------------------------------

DATA_CODING_DEFAULT: Final = 0x00
DATA_CODING_UCS2: Final = 0x08

# --- type of number, numbering plan (3.4 §5.2.5, §5.2.6) ---------------------------------------------------------------

TON_UNKNOWN: Final = 0
TON_INTERNATIONAL: Final = 1
TON_NATIONAL: Final = 2
TON_NETWORK_SPECIFIC: Final = 3
TON_ALPHANUMERIC: Final = 5

NPI_UNKNOWN: Final = 0
NPI_ISDN: Final = 1

# --- message_state (3.4 §5.2.28, 5.0 §4.7.15) --------------------------------------------------------------------------

MESSAGE_STATE_NAMES: Final[Mapping[int, str]] = dict(enumerate((
    "SCHEDULED", "ENROUTE", "DELIVERED", "EXPIRED", "DELETED", "UNDELIVERABLE", "ACCEPTED", "UNKNOWN", "REJECTED",
    "SKIPPED",
)))  # fmt: skip
"""SCHEDULED and SKIPPED are 5.0's."""
