"""SmppConfig: a channel's `config` as its transport uses it: parsed once, checked, frozen.

The JSON Schema in __init__.py has let it through; here strings become numbers and codecs, Vumi's three processor configs
and the top level become one. What a schema cannot see (a broken regular expression, a codec that does not exist, a number
in a string that is too large) raises TransportStartError naming the option; `check` tells the API of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from junebug.errors import InvalidChannelConfig, TransportStartError
from junebug.smpp import constants as c
from junebug.smpp.options import BindMode, BindOptions, SessionOptions, TlsOptions
from junebug.smpp.text import codecs
from junebug.transports.smpp import CONFIG_SCHEMA
from junebug.transports.smpp.receipts import DEFAULT_REGEX, STATUS_MAPPING

LongMessages = Literal["udh", "sar", "payload"]
Number = TypeVar("Number", int, float)
StatusMeaning = Literal["throttled", "retry", "reject"]

LONGEST_PASSWORD = 8
_PROCESSOR_CONFIGS = (
    "delivery_report_processor_config",
    "deliver_short_message_processor_config",
    "submit_short_message_processor_config",
)

STATUS_MEANINGS: Mapping[int, StatusMeaning] = {
    c.ESME_RTHROTTLED: "throttled",
    c.ESME_RMSGQFUL: "throttled",
    # the SMSC's own trouble, or the bind's: the message is as good as before
    c.ESME_RSYSERR: "retry",
    c.ESME_RINVBNDSTS: "retry",
    c.ESME_RX_T_APPN: "retry",
}
"""What a command_status in answer to a submit_sm means; each that is not here rejects the message."""


@dataclass(frozen=True, slots=True)
class Numbering:
    """Type of number and numbering plan of an address (SMPP 3.4 §5.2.5, §5.2.6)."""

    ton: int
    npi: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SmppConfig:
    """Times are in seconds."""

    bind: BindOptions
    window_size: int
    """submit_sm that may be unanswered at a time."""
    # sending
    service_type: str = ""
    source: Numbering = Numbering(0, 0)
    destination: Numbering = Numbering(0, 1)
    guess_numbering: bool = False
    default_source_addr: str = ""
    registered_delivery: int = 1
    validity_period: int | None = None
    encoding: str | None = None
    data_coding: int | None = None
    national_language: str | None = None
    long_messages: LongMessages = "udh"
    reference_rollover: int = 0x10000
    mt_tps: float = 0.0
    throttle_delay: float = 0.1
    retry_delay: float = 1.0
    status_meanings: Mapping[int, StatusMeaning] = field(default_factory=lambda: STATUS_MEANINGS)
    # receiving
    decoding_error: int = c.ESME_RDELIVERYFAILURE
    data_coding_overrides: Mapping[int, str] = field(default_factory=dict)
    allow_empty_messages: bool = False
    mo_multipart_timeout: float = 3600.0
    # receipts
    receipt_regex: re.Pattern[str] = DEFAULT_REGEX
    receipt_statuses: Mapping[str, str] = field(default_factory=lambda: STATUS_MAPPING)
    receipt_use_esm_class: bool = True
    disable_ack: bool = False
    disable_delivery_report: bool = False
    parked_receipt_ttl: float = 86_400.0
    sent_ttl: float = 604_800.0
    final_ttl: float = 3600.0
    completed_multipart_ttl: float = 3600.0
    split_bind_prefix: str = ""
    # the rest
    transport_type: str = "sms"
    redact_content: bool = False

    @property
    def can_send(self) -> bool:
        return self.bind.bind_mode != "receiver"

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> SmppConfig:
        """Raises TransportStartError, whose message names the option."""
        options = dict(config)
        for name in _PROCESSOR_CONFIGS:
            options |= options.pop(name, None) or {}
        read = _Reader(options)
        registered = options.get("registered_delivery", True)
        mapping = options.get("delivery_report_status_mapping") or {}
        return cls(
            bind=_bind(read),
            window_size=read.whole("window_size", 50),
            service_type=read.text("service_type"),
            source=Numbering(read.whole("source_addr_ton", 0), read.whole("source_addr_npi", 0)),
            destination=Numbering(read.whole("dest_addr_ton", 0), read.whole("dest_addr_npi", 1)),
            guess_numbering=options.get("ton_npi") == "auto",
            default_source_addr=read.text("default_source_addr"),
            registered_delivery=int(registered),
            validity_period=read.whole("validity_period", 0) or None,
            encoding=read.codec("submit_sm_encoding"),
            data_coding=read.whole("submit_sm_data_coding", 0) if options.get("submit_sm_data_coding") is not None else None,
            national_language=options.get("gsm_national_language"),
            long_messages=_long_messages(options),
            reference_rollover=read.whole("multipart_sar_reference_rollover", 0x10000),
            mt_tps=read.seconds("mt_tps", 0),
            throttle_delay=read.seconds("throttle_delay", 0.1),
            retry_delay=read.seconds("retry_delay", 1),
            status_meanings=_status_meanings(options.get("command_status_mapping") or {}),
            decoding_error=_status("deliver_sm_decoding_error", read.text("deliver_sm_decoding_error", "ESME_RDELIVERYFAILURE")),
            data_coding_overrides=_data_codings(options.get("data_coding_overrides") or {}),
            allow_empty_messages=options.get("allow_empty_messages", False),
            mo_multipart_timeout=read.seconds("mo_multipart_timeout", 3600),
            receipt_regex=_receipt_regex(options.get("delivery_report_regex")),
            receipt_statuses={**STATUS_MAPPING, **{state.upper(): status for state, status in mapping.items()}},
            receipt_use_esm_class=options.get("delivery_report_use_esm_class", True),
            disable_ack=options.get("disable_ack", False),
            disable_delivery_report=options.get("disable_delivery_report", False),
            parked_receipt_ttl=read.seconds("submit_sm_expiry", 86_400),
            sent_ttl=read.seconds("third_party_id_expiry", 604_800),
            final_ttl=read.seconds("final_dr_third_party_id_expiry", 3600),
            completed_multipart_ttl=read.seconds("completed_multipart_info_expiry", 3600),
            split_bind_prefix=read.text("split_bind_prefix"),
            transport_type=read.text("transport_type") or "sms",
            redact_content=options.get("redact_content", False),
        )


def check(config: dict[str, Any]) -> None:
    """Raises InvalidChannelConfig for what the schema could not see."""
    try:
        SmppConfig.from_config(config)
    except TransportStartError as error:
        option, _, problem = str(error).partition(": ")
        raise InvalidChannelConfig([(f"config.{option}", problem)]) from None


class _Reader:
    """Options by name, of the type that is wanted; an option that is null counts as not given."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options = options

    def text(self, name: str, default: str = "") -> str:
        value = self.options.get(name)
        return default if value is None else str(value)

    def whole(self, name: str, default: int) -> int:
        value = self.options.get(name)
        try:
            return default if value is None else _within_bounds(name, int(value))
        except ValueError:
            raise TransportStartError(f"{name}: expected a whole number") from None

    def seconds(self, name: str, default: float) -> float:
        value = self.options.get(name)
        try:
            return default if value is None else _within_bounds(name, float(value))
        except ValueError:
            raise TransportStartError(f"{name}: expected a number") from None

    def codec(self, name: str) -> str | None:
        value = self.options.get(name)
        return None if value is None else _codec(name, value)


def _within_bounds(name: str, value: Number) -> Number:
    """The schema's bounds, which it does not apply to digits in a string."""
    schema = CONFIG_SCHEMA["properties"][name]
    least, most = schema.get("minimum", 0), schema.get("maximum")
    if value < least or (most is not None and value > most):
        wanted = f"{least} to {most}" if most is not None else f"{least} or more"
        raise TransportStartError(f"{name}: expected {wanted}, got {value}")
    return value


def _codec(option: str, name: str) -> str:
    try:
        return codecs.codec_name(name)
    except LookupError:
        raise TransportStartError(f"{option}: there is no codec {name!r}") from None


def _bind(read: _Reader) -> BindOptions:
    host, port, scheme = _address(read)
    bind_mode: BindMode = read.options.get("bind_mode", "transceiver")
    return BindOptions(
        host=host,
        port=port,
        system_id=read.text("system_id"),
        password=read.text("password")[:LONGEST_PASSWORD],
        system_type=read.text("system_type"),
        interface_version=int(read.text("interface_version", "34"), 16),
        address_range=read.text("address_range"),
        addr_ton=read.whole("addr_ton", 0),
        addr_npi=read.whole("addr_npi", 0),
        bind_mode=bind_mode,
        bind_timeout=read.seconds("smpp_bind_timeout", 30),
        initial_reconnect_delay=read.seconds("initial_reconnect_delay", 5),
        max_reconnect_delay=read.seconds("max_reconnect_delay", 60),
        session=SessionOptions(
            response_timeout=read.seconds("response_timeout", 60),
            enquire_link_interval=read.seconds("smpp_enquire_link_interval", 55) or None,
        ),
        tls=_tls(read.options.get("tls"), scheme),
    )


def _address(read: _Reader) -> tuple[str, int, str]:
    """(host, port, scheme); `host` and `port` count for more than the endpoint."""
    if read.options.get("host"):
        return read.text("host"), read.whole("port", 0), "tcp"
    return parse_endpoint(read.text("twisted_endpoint"))


def parse_endpoint(endpoint: str) -> tuple[str, int, str]:
    """Twisted's description of a client: `tcp:host=smsc:port=2775` or `tcp:smsc:2775` -> (host, port, scheme)."""
    scheme, *parts = re.split(r":(?![^\[]*\])", endpoint)  # not at the colons of an [IPv6] address
    named = dict(part.split("=", 1) for part in parts if "=" in part)
    unnamed = [part for part in parts if "=" not in part]
    host = named.get("host") or (unnamed.pop(0) if unnamed else "")
    port = named.get("port") or (unnamed.pop(0) if unnamed else "")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise TransportStartError(f"twisted_endpoint: expected tcp:host=...:port=..., got {endpoint!r}")
    return host.strip("[]"), int(port), scheme


def _tls(tls: bool | dict[str, Any] | None, scheme: str) -> TlsOptions | None:
    if isinstance(tls, dict):
        return TlsOptions(**tls)
    return TlsOptions() if tls or scheme in ("ssl", "tls") else None


def _long_messages(options: Mapping[str, Any]) -> LongMessages:
    ways: tuple[tuple[str, LongMessages], ...] = (
        ("send_long_messages", "payload"),
        ("send_multipart_sar", "sar"),
        ("send_multipart_udh", "udh"),
    )
    chosen = [(name, way) for name, way in ways if options.get(name)]
    if len(chosen) > 1:
        raise TransportStartError(f"{' and '.join(name for name, _ in chosen)}: choose one of them")
    return chosen[0][1] if chosen else "udh"


def _status(option: str, name: str) -> int:
    try:
        return c.status_code(name)
    except ValueError as error:
        raise TransportStartError(f"{option}: {error}") from None


def _status_meanings(mapping: Mapping[str, StatusMeaning]) -> Mapping[int, StatusMeaning]:
    own = {_status("command_status_mapping", name): meaning for name, meaning in mapping.items()}
    return {**STATUS_MEANINGS, **own}


def _data_codings(overrides: Mapping[str, str]) -> dict[int, str]:
    """JSON's keys are strings."""
    codings = {int(key, 16 if key.lower().startswith("0x") else 10): name for key, name in overrides.items()}
    return {coding: _codec("data_coding_overrides", name) for coding, name in codings.items()}


def _receipt_regex(pattern: str | None) -> re.Pattern[str]:
    if pattern is None:
        return DEFAULT_REGEX
    try:
        regex = re.compile(pattern, re.DOTALL)
    except re.error as error:
        raise TransportStartError(f"delivery_report_regex: {error}") from None
    missing = {"id", "stat"} - regex.groupindex.keys()
    if missing:
        raise TransportStartError(f"delivery_report_regex: it has no group named {' or '.join(sorted(missing))}")
    return regex
