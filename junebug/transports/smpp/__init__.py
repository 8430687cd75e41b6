"""Channel type `smpp`: an ESME that talks SMPP 3.4 (and 3.3, 5.0) to one SMSC. The light part: name, schema, secrets.

config.py parses what this schema let through; docs/channel-types.md is written from the descriptions here. The options
are those of Vumi's SmppTransceiverTransport, which Junebug 0.1 ran, and ours beside them.
"""

from typing import Any

from junebug.registry import ChannelType
from junebug.smpp.text.gsm_tables import LANGUAGES
from junebug.transports.options import TEN_YEARS, TLS_OPTIONS

WHOLE = r"^[0-9]+$"
DECIMAL = r"^[0-9]+(\.[0-9]+)?$"
"""Digits in a string do as well as a number, since they did for Vumi."""
LONGEST_CODEC = 40
"""Characters of its name."""


def _option(default: Any, description: str, **schema: Any) -> dict[str, Any]:
    """`default` None: there is none."""
    return schema | ({} if default is None else {"default": default}) | {"description": description}


def _whole(default: int | None, description: str, minimum: int = 0, maximum: int | None = None) -> dict[str, Any]:
    bounds = {"minimum": minimum} if maximum is None else {"minimum": minimum, "maximum": maximum}
    return _option(default, description, type=["integer", "string"], pattern=WHOLE, **bounds)


def _octet(default: int | None, description: str) -> dict[str, Any]:
    return _whole(default, description, maximum=255)


def _seconds(default: float, description: str, minimum: float = 0) -> dict[str, Any]:
    bounds = {"minimum": minimum, "maximum": TEN_YEARS}
    return _option(default, description, type=["number", "string"], pattern=DECIMAL, **bounds)


def _flag(default: bool, description: str) -> dict[str, Any]:
    return _option(default, description, type="boolean")


def _text(default: str | None, description: str, **schema: Any) -> dict[str, Any]:
    return _option(default, description, type="string", **schema)


def _c_string(default: str | None, description: str, longest: int) -> dict[str, Any]:
    """What stands in a PDU as it is: Latin-1 without a NUL."""
    return _text(default, description, maxLength=longest, pattern=r"^[\x01-\xff]*$")


def _map(description: str, values: dict[str, Any], keys: str | None = None) -> dict[str, Any]:
    """An object; `keys`: a pattern."""
    names = {"propertyNames": {"pattern": keys}} if keys else {}
    return _option(None, description, type="object", **names, additionalProperties=values)


def _group(default: Any, description: str, options: dict[str, Any], **schema: Any) -> dict[str, Any]:
    return _option(default, description, **{"type": "object", **schema}, properties=options, additionalProperties=False)


def _processor_config(options: dict[str, Any], **rules: Any) -> dict[str, Any]:
    return _group(None, f"May hold these options: {', '.join(options)}.", options, **rules)


def _vumi_class(*paths: str) -> dict[str, Any]:
    """A class path of the original's: only its default is there, as our built-in."""
    return _option(None, "Taken for the sake of an older Junebug's configs: what it names is built in.", enum=[*paths])


def _vumi_processor(name: str) -> dict[str, Any]:
    return _vumi_class(f"vumi.transports.smpp.processors.{name}", f"vumi.transports.smpp.processors.default.{name}")


DELIVERY_REPORT_OPTIONS: dict[str, Any] = {
    "delivery_report_regex": _text(
        None,
        "Regular expression searched for in a receipt's text, with the groups id and stat, and where there are such err, "
        "submit_date, done_date. RE2's syntax: Python's, without lookaround and backreferences; at most 1000 characters. "
        "What does not fit it is read as SMPP 3.4's appendix B, leniently, as it is by default.",
        minLength=1,
    ),
    "delivery_report_status_mapping": _map(
        "State of a receipt, in text (UNDELIV) or as a message_state (UNDELIVERABLE), to the event "
        "that it makes; over and above the default, which knows every state of the specification.",
        {"enum": ["delivered", "failed", "pending"]},
    ),
    "delivery_report_use_esm_class": _flag(
        True, "Whether esm_class tells what is a receipt. If not, whatever text fits the regex is one, unless it names a "
        "message that went to somebody else.",
    ),
}

INBOUND_OPTIONS: dict[str, Any] = {
    "data_coding_overrides": _map(
        'data_coding of inbound messages to the codec they are really in, e.g. {"0": "latin-1"}: '
        "a Python codec, gsm0338 or ucs2.",
        {"type": "string", "minLength": 1, "maxLength": LONGEST_CODEC},
        keys=r"^([0-9]{1,3}|0x[0-9a-fA-F]{1,2})$",
    ),
    "allow_empty_messages": _flag(
        False, "Whether an inbound message without any text is given to the application (as an empty text)."
    ),
}

OUTBOUND_OPTIONS: dict[str, Any] = {
    "submit_sm_encoding": _text(
        None,
        "Codec of outbound texts: a Python codec, gsm0338 or ucs2. "
        "By default GSM 03.38 where the text fits it, UCS2 otherwise.",
        minLength=1,
        maxLength=LONGEST_CODEC,
    ),
    "submit_sm_data_coding": _octet(
        None, "data_coding of outbound messages; by default the one that goes with the encoding."
    ),
    "send_long_messages": _flag(False, "Send what exceeds 254 octets in the message_payload parameter."),
    "send_multipart_sar": _flag(False, "Send what exceeds one SMS in parts that bear the sar_* parameters."),
    "send_multipart_udh": _flag(
        False, "Send what exceeds one SMS in parts that begin with a user data header (the default of the three)."
    ),
    "multipart_sar_reference_rollover": _whole(
        0x10000, "References of parts count up to below this; a user data header carries the last 8 bits.", 2, 0x10000
    ),
}

_EXCLUSIVE = ("send_long_messages", "send_multipart_sar", "send_multipart_udh")
EXCLUSIVE: dict[str, Any] = {
    "allOf": [
        {
            "if": {"properties": {chosen: {"const": True}}, "required": [chosen]},
            "then": {"properties": {other: {"const": False} for other in _EXCLUSIVE if other != chosen}},
        }
        for chosen in _EXCLUSIVE
    ]
}
"""At most one way for long messages, said so that the error names an option."""

CONFIG_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        # --- where and who
        "host": _text(None, "The SMSC's host name or address.", minLength=1, maxLength=255),
        "port": _whole(None, "The SMSC's port, beside host.", 1, 65535),
        "twisted_endpoint": _text(
            None, "Instead of host and port, as Twisted writes it: tcp:host=smsc.example.com:port=2775; "
            "timeout=... and bindAddress=... may follow.", maxLength=500,
        ),
        "system_id": _c_string(None, "The user name to bind with.", 15),
        "password": _c_string(None, "The password to bind with; SMPP carries its first 8 characters.", 255),
        "system_type": _c_string("", "system_type of the bind.", 12),
        "interface_version": _option(
            "34", "SMPP's version as the bind states it: 33, 34 or 50.", type=["string", "integer"],
            enum=["33", "34", "50", 33, 34, 50],
        ),
        "address_range": _c_string("", "address_range of the bind.", 40),
        "addr_ton": _octet(0, "Type of number of address_range."),
        "addr_npi": _octet(0, "Numbering plan of address_range."),
        "bind_mode": _option(
            "transceiver", "Which bind to make; a transmitter receives nothing, a receiver sends nothing.",
            enum=["transceiver", "transmitter", "receiver"],
        ),
        "binds": _whole(
            1, "So many binds of this account, at the same time. window_size and mt_tps hold for all of them together.", 1, 32
        ),
        "split_bind_prefix": _text(
            "", "Two channels, a transmitter and a receiver, that have the same word here share the ids of "
            "what was sent: a receipt that reaches the receiver becomes an event of the channel that sent.",
        ),
        "tls": _group(False, "Talk TLS: true, or an object with options.", TLS_OPTIONS, type=["boolean", "object"]),
        # --- the link
        "smpp_bind_timeout": _seconds(30, "How long to wait for the connection, and then for the bind's answer."),
        "smpp_enquire_link_interval": _seconds(
            55, "Silence of so many seconds (at least 0.1) is ended with an enquire_link; 0: never ask."
        ),
        "initial_reconnect_delay": _seconds(5, "Pause before the first attempt to connect again; later ones grow."),
        "max_reconnect_delay": _seconds(60, "The longest such pause."),
        "window_size": _whole(50, "Requests that may wait for their responses at the same time.", 1, 10_000),
        "response_timeout": _seconds(
            60, "How long to wait for a response before the outcome counts as unknown.", minimum=0.01
        ),
        "on_unknown": _option(
            "resend", "A message of which nobody knows whether it arrived: send it again (it may arrive twice), "
            "or report it as rejected (it may have arrived).", enum=["resend", "fail"],
        ),
        # --- sending
        "service_type": _c_string("", "service_type of outbound messages.", 5),
        "source_addr_ton": _octet(0, "Type of number of the from address."),
        "source_addr_npi": _octet(0, "Numbering plan of the from address."),
        "dest_addr_ton": _octet(0, "Type of number of the to address."),
        "dest_addr_npi": _octet(1, "Numbering plan of the to address."),
        "ton_npi": _option(
            "configured", "auto: guess type and plan from each address (+27... international, a name alphanumeric, "
            "few digits a short code); the four options above then count for nothing.", enum=["configured", "auto"],
        ),
        "default_source_addr": _c_string("", "The from address of messages that have none.", 20),
        "registered_delivery": _option(
            True, "Whether to ask for receipts; a number is sent as it is.", type=["boolean", "integer"], minimum=0,
            maximum=255,
        ),
        "validity_period": _whole(
            None, "Seconds after which the SMSC gives up on a message; by default it decides itself.", 1, TEN_YEARS
        ),
        "gsm_national_language": _option(
            None, "Also use this language's shift tables of GSM 03.38 (3GPP TS 23.038) before UCS2.", enum=[*LANGUAGES]
        ),
        "gsm_safe": _flag(
            False, "Replace typographic quotes, dashes, dots, blanks and the like where the text then fits GSM 03.38, and need "
            "not be sent as UCS2.",
        ),
        "mt_tps": _seconds(0, "At most so many submit_sm a second, each part counted; 0: no limit."),
        "throttle_delay": _seconds(0.1, "Pause before sending again after ESME_RTHROTTLED or ESME_RMSGQFUL."),
        "command_status_mapping": _map(
            "What a command_status (ESME_ name or number) in answer to a submit_sm means: throttled (pause, "
            "try again in order), retry (try again later), reject (for good); over and above the default.",
            {"enum": ["throttled", "retry", "reject"]},
            keys=r"^(ESME_R[A-Z_]+|[0-9]+|0x[0-9a-fA-F]{1,8})$",
        ),
        "retry_delay": _seconds(1, "Pause before sending again after another command_status that is temporary.", 0.01),
        **OUTBOUND_OPTIONS,
        "submit_short_message_processor_config": _processor_config(OUTBOUND_OPTIONS, **EXCLUSIVE),
        # --- receiving
        "deliver_sm_decoding_error": _text(
            "ESME_RDELIVERYFAILURE", "command_status that answers a message of which no character can be decoded.",
            pattern=r"^ESME_R[A-Z_]+$",
        ),
        "mo_multipart_timeout": _seconds(
            3600, "How long to wait for the missing parts of an inbound message before it is delivered without them.", 1
        ),
        **INBOUND_OPTIONS,
        "deliver_short_message_processor_config": _processor_config(INBOUND_OPTIONS),
        # --- receipts and events
        **DELIVERY_REPORT_OPTIONS,
        "delivery_report_processor_config": _processor_config(DELIVERY_REPORT_OPTIONS),
        "receipt_without_flag": _option(
            "matching", "What only by its text is a receipt, as any phone can write it: matching: it is one if it names a "
            "message of ours and comes from whom that went to; never: it is a message.", enum=["never", "matching"],
        ),
        "disable_ack": _flag(False, "No submitted events."),
        "disable_delivery_report": _flag(False, "No delivery events."),
        "submit_sm_expiry": _seconds(86_400, "How long a receipt that came before its submit_sm_resp is kept; at most 3600.", 1),
        "third_party_id_expiry": _seconds(604_800, "How long receipts of a message are waited for.", 1),
        "final_dr_third_party_id_expiry": _seconds(3600, "The same after a final receipt (to know it from a repeat).", 1),
        "completed_multipart_info_expiry": _seconds(3600, "The same after the final receipts of all of its parts.", 1),
        # --- the rest
        "transport_type": _text("sms", "transport_type of messages on AMQP."),
        "redact_content": _flag(False, "Keep the texts of messages out of the channel's log."),
        "codec_class": _vumi_class("vumi.codecs.VumiCodec", "vumi.codecs.vumi_codecs.VumiCodec"),
        "delivery_report_processor": _vumi_processor("DeliveryReportProcessor"),
        "deliver_short_message_processor": _vumi_processor("DeliverShortMessageProcessor"),
        "submit_short_message_processor": _vumi_processor("SubmitShortMessageProcessor"),
        **{
            name: _option(None, "Vumi's own; taken and not used.")
            for name in ("transport_name", "redis_manager", "worker_name", "publish_status")
        },
    },
    "required": ["system_id", "password"],
    **EXCLUSIVE,
    "additionalProperties": False,
}

SMPP_TIME = r"^[0-9]{15}[-+R]$"
"""YYMMDDhhmmsstnnp (3.4 §7.1.1)."""


def _given(*types: str, **rules: Any) -> dict[str, Any]:
    """What a message may say or leave out."""
    return {"type": [*types, "null"], **rules}


_NUMBER = _given("integer", minimum=0, maximum=255)
_TIME = _given("integer", "string", minimum=0, pattern=f"^[0-9]{{1,10}}$|{SMPP_TIME}")

CHANNEL_DATA_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "smpp": _given("object", additionalProperties=False, properties={
            **dict.fromkeys(
                ("protocol_id", "priority_flag", "data_coding", "source_addr_ton", "source_addr_npi", "dest_addr_ton",
                 "dest_addr_npi"), _NUMBER,
            ),
            "registered_delivery": _NUMBER | {"type": ["boolean", "integer", "null"]},
            "service_type": _given("string", pattern="^[ -~]{0,5}$"),
            "validity_period": _TIME,
            "schedule_delivery_time": _TIME,
            "encoding": _given("string", minLength=1, maxLength=40),
            "tlvs": _given("object", additionalProperties={"type": ["string", "integer", "boolean"], "minimum": 0}),
        }),
    },
}  # fmt: skip
"""How a single message overrides the channel: `channel_data.smpp` (docs/smpp.md)."""

CHANNEL_TYPE = ChannelType(
    name="smpp",
    transport="junebug.transports.smpp.transport:SmppTransport",
    config_schema=CONFIG_SCHEMA,
    secrets=("password", "tls.key_passphrase"),
    check="junebug.transports.smpp.config:check",
    channel_data_schema=CHANNEL_DATA_SCHEMA,
    check_message="junebug.transports.smpp.mt:check",
    show_log="junebug.transports.smpp.pdu_line:show",
    plan="junebug.transports.smpp.plan:plan",
    shardable=True,
)
