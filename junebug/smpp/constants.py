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

GENERIC_NACK: Final = 0x80000000
BIND_RECEIVER: Final = 0x00000001
BIND_RECEIVER_RESP: Final = 0x80000001
BIND_TRANSMITTER: Final = 0x00000002
BIND_TRANSMITTER_RESP: Final = 0x80000002
QUERY_SM: Final = 0x00000003
QUERY_SM_RESP: Final = 0x80000003
SUBMIT_SM: Final = 0x00000004
SUBMIT_SM_RESP: Final = 0x80000004
DELIVER_SM: Final = 0x00000005
DELIVER_SM_RESP: Final = 0x80000005
UNBIND: Final = 0x00000006
UNBIND_RESP: Final = 0x80000006
REPLACE_SM: Final = 0x00000007
REPLACE_SM_RESP: Final = 0x80000007
CANCEL_SM: Final = 0x00000008
CANCEL_SM_RESP: Final = 0x80000008
BIND_TRANSCEIVER: Final = 0x00000009
BIND_TRANSCEIVER_RESP: Final = 0x80000009
OUTBIND: Final = 0x0000000B
ENQUIRE_LINK: Final = 0x00000015
ENQUIRE_LINK_RESP: Final = 0x80000015
SUBMIT_MULTI: Final = 0x00000021
SUBMIT_MULTI_RESP: Final = 0x80000021
ALERT_NOTIFICATION: Final = 0x00000102
DATA_SM: Final = 0x00000103
DATA_SM_RESP: Final = 0x80000103

COMMAND_NAMES: Final[Mapping[int, str]] = {
    GENERIC_NACK: "generic_nack",
    BIND_RECEIVER: "bind_receiver",
    BIND_RECEIVER_RESP: "bind_receiver_resp",
    BIND_TRANSMITTER: "bind_transmitter",
    BIND_TRANSMITTER_RESP: "bind_transmitter_resp",
    QUERY_SM: "query_sm",
    QUERY_SM_RESP: "query_sm_resp",
    SUBMIT_SM: "submit_sm",
    SUBMIT_SM_RESP: "submit_sm_resp",
    DELIVER_SM: "deliver_sm",
    DELIVER_SM_RESP: "deliver_sm_resp",
    UNBIND: "unbind",
    UNBIND_RESP: "unbind_resp",
    REPLACE_SM: "replace_sm",
    REPLACE_SM_RESP: "replace_sm_resp",
    CANCEL_SM: "cancel_sm",
    CANCEL_SM_RESP: "cancel_sm_resp",
    BIND_TRANSCEIVER: "bind_transceiver",
    BIND_TRANSCEIVER_RESP: "bind_transceiver_resp",
    OUTBIND: "outbind",
    ENQUIRE_LINK: "enquire_link",
    ENQUIRE_LINK_RESP: "enquire_link_resp",
    SUBMIT_MULTI: "submit_multi",
    SUBMIT_MULTI_RESP: "submit_multi_resp",
    ALERT_NOTIFICATION: "alert_notification",
    DATA_SM: "data_sm",
    DATA_SM_RESP: "data_sm_resp",
    # SMPP 5.0's cell broadcast, which we answer as unknown
    0x00000111: "broadcast_sm",
    0x80000111: "broadcast_sm_resp",
    0x00000112: "query_broadcast_sm",
    0x80000112: "query_broadcast_sm_resp",
    0x00000113: "cancel_broadcast_sm",
    0x80000113: "cancel_broadcast_sm_resp",
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
ESME_RINVPRTFLG: Final = 0x00000006
ESME_RINVREGDLVFLG: Final = 0x00000007
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
ESME_RINVNUMDESTS: Final = 0x00000033
ESME_RINVDLNAME: Final = 0x00000034
ESME_RINVDESTFLAG: Final = 0x00000040
ESME_RINVSUBREP: Final = 0x00000042
ESME_RINVESMCLASS: Final = 0x00000043
ESME_RCNTSUBDL: Final = 0x00000044
ESME_RSUBMITFAIL: Final = 0x00000045
ESME_RINVSRCTON: Final = 0x00000048
ESME_RINVSRCNPI: Final = 0x00000049
ESME_RINVDSTTON: Final = 0x00000050
ESME_RINVDSTNPI: Final = 0x00000051
ESME_RINVSYSTYP: Final = 0x00000053
ESME_RINVREPFLAG: Final = 0x00000054
ESME_RINVNUMMSGS: Final = 0x00000055
ESME_RTHROTTLED: Final = 0x00000058
ESME_RINVSCHED: Final = 0x00000061
ESME_RINVEXPIRY: Final = 0x00000062
ESME_RINVDFTMSGID: Final = 0x00000063
ESME_RX_T_APPN: Final = 0x00000064
ESME_RX_P_APPN: Final = 0x00000065
ESME_RX_R_APPN: Final = 0x00000066
ESME_RQUERYFAIL: Final = 0x00000067
ESME_RINVOPTPARSTREAM: Final = 0x000000C0
ESME_ROPTPARNOTALLWD: Final = 0x000000C1
ESME_RINVPARLEN: Final = 0x000000C2
ESME_RMISSINGOPTPARAM: Final = 0x000000C3
ESME_RINVOPTPARAMVAL: Final = 0x000000C4
ESME_RDELIVERYFAILURE: Final = 0x000000FE
ESME_RUNKNOWNERR: Final = 0x000000FF
# SMPP 5.0
ESME_RSERTYPUNAUTH: Final = 0x00000100
ESME_RPROHIBITED: Final = 0x00000101
ESME_RSERTYPUNAVAIL: Final = 0x00000102
ESME_RSERTYPDENIED: Final = 0x00000103
ESME_RINVDCS: Final = 0x00000104
ESME_RINVSRCADDRSUBUNIT: Final = 0x00000105
ESME_RINVDSTADDRSUBUNIT: Final = 0x00000106
ESME_RINVBCASTFREQINT: Final = 0x00000107
ESME_RINVBCASTALIAS_NAME: Final = 0x00000108
ESME_RINVBCASTAREAFMT: Final = 0x00000109
ESME_RINVNUMBCAST_AREAS: Final = 0x0000010A
ESME_RINVBCASTCNTTYPE: Final = 0x0000010B
ESME_RINVBCASTMSGCLASS: Final = 0x0000010C
ESME_RBCASTFAIL: Final = 0x0000010D
ESME_RBCASTQUERYFAIL: Final = 0x0000010E
ESME_RBCASTCANCELFAIL: Final = 0x0000010F
ESME_RINVBCAST_REP: Final = 0x00000110
ESME_RINVBCASTSRVGRP: Final = 0x00000111
ESME_RINVBCASTCHANIND: Final = 0x00000112

STATUS_NAMES: Final[Mapping[int, str]] = {
    value: name for name, value in list(globals().items()) if name.startswith("ESME_")
}

_STATUS_CODES: Final[Mapping[str, int]] = {name: code for code, name in STATUS_NAMES.items()} | {
    # what SMPP 5.0 renamed
    "ESME_RINVTLVSTREAM": ESME_RINVOPTPARSTREAM,
    "ESME_RTLVNOTALLWD": ESME_ROPTPARNOTALLWD,
    "ESME_RINVTLVLEN": ESME_RINVPARLEN,
    "ESME_RMISSINGTLV": ESME_RMISSINGOPTPARAM,
    "ESME_RINVTLVVAL": ESME_RINVOPTPARAMVAL,
}


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

DEST_ADDR_SUBUNIT: Final = 0x0005
DEST_NETWORK_TYPE: Final = 0x0006
DEST_BEARER_TYPE: Final = 0x0007
DEST_TELEMATICS_ID: Final = 0x0008
SOURCE_ADDR_SUBUNIT: Final = 0x000D
SOURCE_NETWORK_TYPE: Final = 0x000E
SOURCE_BEARER_TYPE: Final = 0x000F
SOURCE_TELEMATICS_ID: Final = 0x0010
QOS_TIME_TO_LIVE: Final = 0x0017
PAYLOAD_TYPE: Final = 0x0019
ADDITIONAL_STATUS_INFO_TEXT: Final = 0x001D
RECEIPTED_MESSAGE_ID: Final = 0x001E
MS_MSG_WAIT_FACILITIES: Final = 0x0030
PRIVACY_INDICATOR: Final = 0x0201
SOURCE_SUBADDRESS: Final = 0x0202
DEST_SUBADDRESS: Final = 0x0203
USER_MESSAGE_REFERENCE: Final = 0x0204
USER_RESPONSE_CODE: Final = 0x0205
SOURCE_PORT: Final = 0x020A
DESTINATION_PORT: Final = 0x020B
SAR_MSG_REF_NUM: Final = 0x020C
LANGUAGE_INDICATOR: Final = 0x020D
SAR_TOTAL_SEGMENTS: Final = 0x020E
SAR_SEGMENT_SEQNUM: Final = 0x020F
SC_INTERFACE_VERSION: Final = 0x0210
CALLBACK_NUM_PRES_IND: Final = 0x0302
CALLBACK_NUM_ATAG: Final = 0x0303
NUMBER_OF_MESSAGES: Final = 0x0304
CALLBACK_NUM: Final = 0x0381
DPF_RESULT: Final = 0x0420
SET_DPF: Final = 0x0421
MS_AVAILABILITY_STATUS: Final = 0x0422
NETWORK_ERROR_CODE: Final = 0x0423
MESSAGE_PAYLOAD: Final = 0x0424
DELIVERY_FAILURE_REASON: Final = 0x0425
MORE_MESSAGES_TO_SEND: Final = 0x0426
MESSAGE_STATE: Final = 0x0427
CONGESTION_STATE: Final = 0x0428
USSD_SERVICE_OP: Final = 0x0501
BILLING_IDENTIFICATION: Final = 0x060B
SOURCE_NETWORK_ID: Final = 0x060D
DEST_NETWORK_ID: Final = 0x060E
SOURCE_NODE_ID: Final = 0x060F
DEST_NODE_ID: Final = 0x0610
DEST_ADDR_NP_RESOLUTION: Final = 0x0611
DEST_ADDR_NP_INFORMATION: Final = 0x0612
DEST_ADDR_NP_COUNTRY: Final = 0x0613
DISPLAY_TIME: Final = 0x1201
SMS_SIGNAL: Final = 0x1203
MS_VALIDITY: Final = 0x1204
ALERT_ON_MESSAGE_DELIVERY: Final = 0x130C
ITS_REPLY_TYPE: Final = 0x1380
ITS_SESSION_INFO: Final = 0x1383

_TLVS: Final[tuple[tuple[int, str, int, int], ...]] = (
    # tag, name, least and most octets of its value (where 3.4 and 5.0 differ: what either allows)
    (DEST_ADDR_SUBUNIT, "dest_addr_subunit", 1, 1),
    (DEST_NETWORK_TYPE, "dest_network_type", 1, 1),
    (DEST_BEARER_TYPE, "dest_bearer_type", 1, 1),
    (DEST_TELEMATICS_ID, "dest_telematics_id", 1, 2),
    (SOURCE_ADDR_SUBUNIT, "source_addr_subunit", 1, 1),
    (SOURCE_NETWORK_TYPE, "source_network_type", 1, 1),
    (SOURCE_BEARER_TYPE, "source_bearer_type", 1, 1),
    (SOURCE_TELEMATICS_ID, "source_telematics_id", 1, 2),
    (QOS_TIME_TO_LIVE, "qos_time_to_live", 4, 4),
    (PAYLOAD_TYPE, "payload_type", 1, 1),
    (ADDITIONAL_STATUS_INFO_TEXT, "additional_status_info_text", 1, 256),
    (RECEIPTED_MESSAGE_ID, "receipted_message_id", 1, 65),
    (MS_MSG_WAIT_FACILITIES, "ms_msg_wait_facilities", 1, 1),
    (PRIVACY_INDICATOR, "privacy_indicator", 1, 1),
    (SOURCE_SUBADDRESS, "source_subaddress", 2, 23),
    (DEST_SUBADDRESS, "dest_subaddress", 2, 23),
    (USER_MESSAGE_REFERENCE, "user_message_reference", 2, 2),
    (USER_RESPONSE_CODE, "user_response_code", 1, 1),
    (SOURCE_PORT, "source_port", 2, 2),
    (DESTINATION_PORT, "destination_port", 2, 2),
    (SAR_MSG_REF_NUM, "sar_msg_ref_num", 2, 2),
    (LANGUAGE_INDICATOR, "language_indicator", 1, 1),
    (SAR_TOTAL_SEGMENTS, "sar_total_segments", 1, 1),
    (SAR_SEGMENT_SEQNUM, "sar_segment_seqnum", 1, 1),
    (SC_INTERFACE_VERSION, "sc_interface_version", 1, 1),
    (CALLBACK_NUM_PRES_IND, "callback_num_pres_ind", 1, 1),
    (CALLBACK_NUM_ATAG, "callback_num_atag", 0, 65),
    (NUMBER_OF_MESSAGES, "number_of_messages", 1, 1),
    (CALLBACK_NUM, "callback_num", 4, 19),
    (DPF_RESULT, "dpf_result", 1, 1),
    (SET_DPF, "set_dpf", 1, 1),
    (MS_AVAILABILITY_STATUS, "ms_availability_status", 1, 1),
    (NETWORK_ERROR_CODE, "network_error_code", 3, 3),
    (MESSAGE_PAYLOAD, "message_payload", 0, 65535),
    (DELIVERY_FAILURE_REASON, "delivery_failure_reason", 1, 1),
    (MORE_MESSAGES_TO_SEND, "more_messages_to_send", 1, 1),
    (MESSAGE_STATE, "message_state", 1, 1),
    (CONGESTION_STATE, "congestion_state", 1, 1),
    (USSD_SERVICE_OP, "ussd_service_op", 1, 1),
    (0x0600, "broadcast_channel_indicator", 1, 1),
    (0x0601, "broadcast_content_type", 3, 3),
    (0x0602, "broadcast_content_type_info", 1, 255),
    (0x0603, "broadcast_message_class", 1, 1),
    (0x0604, "broadcast_rep_num", 2, 2),
    (0x0605, "broadcast_frequency_interval", 3, 3),
    (0x0606, "broadcast_area_identifier", 1, 255),
    (0x0607, "broadcast_error_status", 4, 4),
    (0x0608, "broadcast_area_success", 1, 1),
    (0x0609, "broadcast_end_time", 1, 17),
    (0x060A, "broadcast_service_group", 1, 255),
    (BILLING_IDENTIFICATION, "billing_identification", 1, 1024),
    (SOURCE_NETWORK_ID, "source_network_id", 1, 65),
    (DEST_NETWORK_ID, "dest_network_id", 1, 65),
    (SOURCE_NODE_ID, "source_node_id", 6, 6),
    (DEST_NODE_ID, "dest_node_id", 6, 6),
    (DEST_ADDR_NP_RESOLUTION, "dest_addr_np_resolution", 1, 1),
    (DEST_ADDR_NP_INFORMATION, "dest_addr_np_information", 1, 10),
    (DEST_ADDR_NP_COUNTRY, "dest_addr_np_country", 1, 5),
    (DISPLAY_TIME, "display_time", 1, 1),
    (SMS_SIGNAL, "sms_signal", 2, 2),
    (MS_VALIDITY, "ms_validity", 1, 4),
    (ALERT_ON_MESSAGE_DELIVERY, "alert_on_message_delivery", 0, 1),
    (ITS_REPLY_TYPE, "its_reply_type", 1, 1),
    (ITS_SESSION_INFO, "its_session_info", 2, 2),
)

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

ESM_CLASS_MODE_MASK: Final = 0x03
ESM_CLASS_DATAGRAM: Final = 0x01
ESM_CLASS_TRANSACTION: Final = 0x02
ESM_CLASS_STORE_AND_FORWARD: Final = 0x03
ESM_CLASS_TYPE_MASK: Final = 0x3C
ESM_CLASS_DELIVERY_RECEIPT: Final = 0x04
ESM_CLASS_DELIVERY_ACK: Final = 0x08
ESM_CLASS_USER_ACK: Final = 0x10
ESM_CLASS_CONVERSATION_ABORT: Final = 0x18
ESM_CLASS_INTERMEDIATE: Final = 0x20
ESM_CLASS_UDHI: Final = 0x40
"""short_message (or message_payload) begins with a user data header."""
ESM_CLASS_REPLY_PATH: Final = 0x80

# --- registered_delivery (3.4 §5.2.17) ---------------------------------------------------------------------------------

REGISTERED_DELIVERY_NONE: Final = 0x00
REGISTERED_DELIVERY_FINAL: Final = 0x01
REGISTERED_DELIVERY_FAILURE: Final = 0x02
REGISTERED_DELIVERY_SUCCESS: Final = 0x03  # SMPP 5.0
REGISTERED_DELIVERY_INTERMEDIATE: Final = 0x10

# --- data_coding (3.4 §5.2.19) -----------------------------------------------------------------------------------------

DATA_CODING_DEFAULT: Final = 0x00
DATA_CODING_ASCII: Final = 0x01
DATA_CODING_BINARY_ALIAS: Final = 0x02
DATA_CODING_LATIN1: Final = 0x03
DATA_CODING_BINARY: Final = 0x04
DATA_CODING_JIS: Final = 0x05
DATA_CODING_CYRILLIC: Final = 0x06
DATA_CODING_HEBREW: Final = 0x07
DATA_CODING_UCS2: Final = 0x08
DATA_CODING_PICTOGRAM: Final = 0x09
DATA_CODING_ISO_2022_JP: Final = 0x0A
DATA_CODING_EXTENDED_KANJI_JIS: Final = 0x0D
DATA_CODING_KS_C_5601: Final = 0x0E

# --- type of number, numbering plan (3.4 §5.2.5, §5.2.6) ---------------------------------------------------------------

TON_UNKNOWN: Final = 0
TON_INTERNATIONAL: Final = 1
TON_NATIONAL: Final = 2
TON_NETWORK_SPECIFIC: Final = 3
TON_SUBSCRIBER: Final = 4
TON_ALPHANUMERIC: Final = 5
TON_ABBREVIATED: Final = 6

NPI_UNKNOWN: Final = 0
NPI_ISDN: Final = 1
NPI_DATA: Final = 3
NPI_TELEX: Final = 4
NPI_LAND_MOBILE: Final = 6
NPI_NATIONAL: Final = 8
NPI_PRIVATE: Final = 9
NPI_ERMES: Final = 10
NPI_INTERNET: Final = 14
NPI_WAP: Final = 18

# --- message_state (3.4 §5.2.28, 5.0 §4.7.15) --------------------------------------------------------------------------

STATE_SCHEDULED: Final = 0
STATE_ENROUTE: Final = 1
STATE_DELIVERED: Final = 2
STATE_EXPIRED: Final = 3
STATE_DELETED: Final = 4
STATE_UNDELIVERABLE: Final = 5
STATE_ACCEPTED: Final = 6
STATE_UNKNOWN: Final = 7
STATE_REJECTED: Final = 8
STATE_SKIPPED: Final = 9

MESSAGE_STATE_NAMES: Final[Mapping[int, str]] = {
    STATE_SCHEDULED: "SCHEDULED",
    STATE_ENROUTE: "ENROUTE",
    STATE_DELIVERED: "DELIVERED",
    STATE_EXPIRED: "EXPIRED",
    STATE_DELETED: "DELETED",
    STATE_UNDELIVERABLE: "UNDELIVERABLE",
    STATE_ACCEPTED: "ACCEPTED",
    STATE_UNKNOWN: "UNKNOWN",
    STATE_REJECTED: "REJECTED",
    STATE_SKIPPED: "SKIPPED",
}
RECEIPT_STATES: Final[Mapping[int, str]] = {
    # the same as a receipt's text abbreviates them (3.4 Appendix B)
    STATE_SCHEDULED: "SCHEDLD",
    STATE_ENROUTE: "ENROUTE",
    STATE_DELIVERED: "DELIVRD",
    STATE_EXPIRED: "EXPIRED",
    STATE_DELETED: "DELETED",
    STATE_UNDELIVERABLE: "UNDELIV",
    STATE_ACCEPTED: "ACCEPTD",
    STATE_UNKNOWN: "UNKNOWN",
    STATE_REJECTED: "REJECTD",
    STATE_SKIPPED: "SKIPPED",
}
