"""Channel type `smpp`: an ESME that talks SMPP 3.4 (and 3.3, 5.0) to one SMSC. The light part: name, schema, secrets.

config.py parses what this schema let through; docs/channel-types.md is written from the descriptions here. The options
are those of Vumi's SmppTransceiverTransport, which Junebug 0.1 ran, and ours beside them.
"""

from typing import Any

from junebug.registry import ChannelType

WHOLE = r"^[0-9]+$"
DECIMAL = r"^[0-9]+(\.[0-9]+)?$"


NATIONAL_LANGUAGES = (
    "turkish", "spanish", "portuguese", "bengali", "gujarati", "hindi", "kannada", "malayalam", "oriya", "punjabi", "tamil",
    "telugu", "urdu",
)  # fmt: skip
"""Those with shift tables of their own, in the order of their identifiers, from 1 (3GPP TS 23.038 §6.2.1.2.4)."""


def _whole(default: int | None, description: str, minimum: int = 0, maximum: int | None = None) -> dict[str, Any]:
    """An integer; digits in a string do as well, since they did for Vumi."""
    schema: dict[str, Any] = {"type": ["integer", "string"], "pattern": WHOLE, "minimum": minimum}
    if maximum is not None:
        schema["maximum"] = maximum
    return {**schema, **({} if default is None else {"default": default}), "description": description}


def _seconds(default: float, description: str, minimum: float = 0) -> dict[str, Any]:
    return {
        "type": ["number", "string"],
        "pattern": DECIMAL,
        "minimum": minimum,
        "default": default,
        "description": description,
    }


def _flag(default: bool, description: str) -> dict[str, Any]:
    return {"type": "boolean", "default": default, "description": description}


def _text(default: str | None, longest: int, description: str) -> dict[str, Any]:
    schema = {"type": "string", "maxLength": longest, "description": description}
    return schema if default is None else {**schema, "default": default}


def _vumi_class(name: str) -> dict[str, Any]:
    """A class path of the original's: only its default is there, as our built-in."""
    module = "vumi.transports.smpp.processors"
    return {
        "enum": [f"{module}.{name}", f"{module}.default.{name}"],
        "description": "Taken for the sake of an older Junebug's configs: what it names is built in.",
    }


DELIVERY_REPORT_OPTIONS: dict[str, Any] = {
    "delivery_report_regex": {
        "type": "string",
        "minLength": 1,
        "description": "Python regular expression searched for in a receipt's text, with the groups id and stat, "
        "and where there are such err, submit_date, done_date, text. By default SMPP 3.4's appendix B, read leniently.",
    },
    "delivery_report_status_mapping": {
        "type": "object",
        "additionalProperties": {"enum": ["delivered", "failed", "pending"]},
        "description": "State of a receipt, in text (UNDELIV) or as a message_state (UNDELIVERABLE), to the event "
        "that it makes; over and above the default, which knows every state of the specification.",
    },
    "delivery_report_use_esm_class": _flag(
        True, "Whether esm_class tells what is a receipt. If not, whatever text fits the regex is one."
    ),
}

INBOUND_OPTIONS: dict[str, Any] = {
    "data_coding_overrides": {
        "type": "object",
        "propertyNames": {"pattern": r"^([0-9]{1,3}|0x[0-9a-fA-F]{1,2})$"},
        "additionalProperties": {"type": "string", "minLength": 1},
        "description": 'data_coding of inbound messages to the codec they are really in, e.g. {"0": "latin-1"}: '
        "a Python codec, gsm0338 or ucs2.",
    },
    "allow_empty_messages": _flag(
        False, "Whether an inbound message without any text is given to the application (as an empty text)."
    ),
}

OUTBOUND_OPTIONS: dict[str, Any] = {
    "submit_sm_encoding": {
        "type": "string",
        "minLength": 1,
        "description": "Codec of outbound texts: a Python codec, gsm0338 or ucs2. "
        "By default GSM 03.38 where the text fits it, UCS2 otherwise.",
    },
    "submit_sm_data_coding": _whole(
        None, "data_coding of outbound messages; by default the one that goes with the encoding.", maximum=255
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


def _processor_config(options: dict[str, Any], **rules: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": options,
        "additionalProperties": False,
        "description": f"May hold these options: {', '.join(options)}.",
        **rules,
    }


_IGNORED = "Vumi's own; taken and not used."

CONFIG_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        # --- where and who
        "host": {"type": "string", "minLength": 1, "description": "The SMSC's host name or address."},
        "port": _whole(None, "The SMSC's port, beside host.", 1, 65535),
        "twisted_endpoint": {
            "type": "string",
            "pattern": r"^(tcp|ssl|tls):(host=)?(\[[0-9a-fA-F:.]+\]|[^:\[\]]+):(port=)?[0-9]{1,5}(:.*)?$",
            "description": "Instead of host and port: tcp:host=smsc.example.com:port=2775.",
        },
        "system_id": _text(None, 15, "The user name to bind with."),
        "password": _text(None, 255, "The password to bind with; SMPP carries its first 8 characters."),
        "system_type": _text("", 12, "system_type of the bind."),
        "interface_version": {
            "type": ["string", "integer"],
            "enum": ["33", "34", "50", 33, 34, 50],
            "default": "34",
            "description": "SMPP's version as the bind states it: 33, 34 or 50.",
        },
        "address_range": _text("", 40, "address_range of the bind."),
        "addr_ton": _whole(0, "Type of number of address_range.", maximum=255),
        "addr_npi": _whole(0, "Numbering plan of address_range.", maximum=255),
        "bind_mode": {
            "enum": ["transceiver", "transmitter", "receiver"],
            "default": "transceiver",
            "description": "Which bind to make; a transmitter receives nothing, a receiver sends nothing.",
        },
        "split_bind_prefix": {
            "type": "string",
            "default": "",
            "description": "Two channels, a transmitter and a receiver, that have the same word here share the ids of "
            "what was sent: a receipt that reaches the receiver becomes an event of the channel that sent.",
        },
        "tls": {
            "type": ["boolean", "object"],
            "properties": {
                "server_name": {
                    "type": "string",
                    "description": "Name to ask for (SNI) and to find in the certificate, where it is not the host's.",
                },
                "ca_file": {"type": "string", "description": "PEM file of the authorities to trust; else the system's."},
                "certificate_file": {"type": "string", "description": "PEM file of our certificate."},
                "key_file": {"type": "string", "description": "PEM file of its key, where not in certificate_file."},
                "key_passphrase": {"type": "string", "description": "What key_file is encrypted with."},
                "verify": _flag(True, "Whether the SMSC's certificate must be trusted and fit its name."),
            },
            "additionalProperties": False,
            "default": False,
            "description": "Talk TLS: true, or an object with options.",
        },
        # --- the link
        "smpp_bind_timeout": _seconds(30, "How long to wait for the connection, and then for the bind's answer."),
        "smpp_enquire_link_interval": _seconds(
            55, "Silence of so many seconds is ended with an enquire_link; 0: never ask."
        ),
        "initial_reconnect_delay": _seconds(5, "Pause before the first attempt to connect again; later ones grow."),
        "max_reconnect_delay": _seconds(60, "The longest such pause."),
        "window_size": _whole(50, "Requests that may wait for their responses at the same time.", 1, 10_000),
        "response_timeout": _seconds(
            60, "How long to wait for a response before the outcome counts as unknown.", minimum=0.01
        ),
        "on_unknown": {
            "enum": ["resend", "fail"],
            "default": "resend",
            "description": "A message of which nobody knows whether it arrived: send it again (it may arrive twice), "
            "or report it as rejected (it may have arrived).",
        },
        # --- sending
        "service_type": _text("", 5, "service_type of outbound messages."),
        "source_addr_ton": _whole(0, "Type of number of the from address.", maximum=255),
        "source_addr_npi": _whole(0, "Numbering plan of the from address.", maximum=255),
        "dest_addr_ton": _whole(0, "Type of number of the to address.", maximum=255),
        "dest_addr_npi": _whole(1, "Numbering plan of the to address.", maximum=255),
        "ton_npi": {
            "enum": ["configured", "auto"],
            "default": "configured",
            "description": "auto: guess type and plan from each address (+27... international, a name alphanumeric, "
            "few digits a short code); the four options above then count for nothing.",
        },
        "default_source_addr": _text("", 20, "The from address of messages that have none."),
        "registered_delivery": {
            "type": ["boolean", "integer"],
            "minimum": 0,
            "maximum": 255,
            "default": True,
            "description": "Whether to ask for receipts; a number is sent as it is.",
        },
        "validity_period": _whole(
            None, "Seconds after which the SMSC gives up on a message; by default it decides itself.", 1
        ),
        "gsm_national_language": {
            "enum": [*NATIONAL_LANGUAGES],
            "description": "Also use this language's shift tables of GSM 03.38 (3GPP TS 23.038) before UCS2.",
        },
        "mt_tps": _seconds(0, "At most so many submit_sm a second, each part counted; 0: no limit."),
        "throttle_delay": _seconds(0.1, "Pause before sending again after ESME_RTHROTTLED or ESME_RMSGQFUL."),
        "command_status_mapping": {
            "type": "object",
            "propertyNames": {"pattern": r"^(ESME_R[A-Z_]+|[0-9]+|0x[0-9a-fA-F]{1,8})$"},
            "additionalProperties": {"enum": ["throttled", "retry", "reject"]},
            "description": "What a command_status (ESME_ name or number) in answer to a submit_sm means: throttled (pause, "
            "try again in order), retry (try again later), reject (for good); over and above the default.",
        },
        "retry_delay": _seconds(1, "Pause before sending again after another command_status that is temporary.", 0.01),
        **OUTBOUND_OPTIONS,
        "submit_short_message_processor_config": _processor_config(OUTBOUND_OPTIONS, **EXCLUSIVE),
        # --- receiving
        "deliver_sm_decoding_error": {
            "type": "string",
            "pattern": r"^ESME_R[A-Z_]+$",
            "default": "ESME_RDELIVERYFAILURE",
            "description": "command_status that answers a message whose text cannot be decoded.",
        },
        "mo_multipart_timeout": _seconds(
            3600, "How long to wait for the missing parts of an inbound message before it is delivered without them.", 1
        ),
        **INBOUND_OPTIONS,
        "deliver_short_message_processor_config": _processor_config(INBOUND_OPTIONS),
        # --- receipts and events
        **DELIVERY_REPORT_OPTIONS,
        "delivery_report_processor_config": _processor_config(DELIVERY_REPORT_OPTIONS),
        "disable_ack": _flag(False, "No submitted events."),
        "disable_delivery_report": _flag(False, "No delivery events."),
        "submit_sm_expiry": _seconds(86_400, "How long a receipt that came before its submit_sm_resp is kept; at most 3600.", 1),
        "third_party_id_expiry": _seconds(604_800, "How long receipts of a message are waited for.", 1),
        "final_dr_third_party_id_expiry": _seconds(3600, "The same after a final receipt (to know it from a repeat).", 1),
        "completed_multipart_info_expiry": _seconds(3600, "The same after the final receipts of all of its parts.", 1),
        # --- the rest
        "transport_type": {"type": "string", "default": "sms", "description": "transport_type of messages on AMQP."},
        "redact_content": _flag(False, "Keep the texts of messages out of the channel's log."),
        "codec_class": {
            "enum": ["vumi.codecs.VumiCodec", "vumi.codecs.vumi_codecs.VumiCodec"],
            "description": "Taken for the sake of an older Junebug's configs: what it names is built in.",
        },
        "delivery_report_processor": _vumi_class("DeliveryReportProcessor"),
        "deliver_short_message_processor": _vumi_class("DeliverShortMessageProcessor"),
        "submit_short_message_processor": _vumi_class("SubmitShortMessageProcessor"),
        "transport_name": {"description": _IGNORED},
        "redis_manager": {"description": _IGNORED},
        "worker_name": {"description": _IGNORED},
        "publish_status": {"description": _IGNORED},
    },
    "required": ["system_id", "password"],
    # not anyOf: its error would not name the field that is missing
    "if": {"required": ["twisted_endpoint"]},
    "else": {"required": ["host", "port"]},
    **EXCLUSIVE,
    "additionalProperties": False,
}

CHANNEL_TYPE = ChannelType(
    name="smpp",
    transport="junebug.transports.smpp.transport:SmppTransport",
    config_schema=CONFIG_SCHEMA,
    secrets=("password", "tls.key_passphrase"),
    check="junebug.transports.smpp.config:check",
)
