"""SmppConfig: a channel's `config` as its transport uses it: parsed once, checked, frozen.

The JSON Schema in __init__.py has let it through; here strings become numbers and codecs, Vumi's three processor configs
and the top level become one. What a schema cannot see (a broken regular expression, a codec that does not exist, a number
in a string that is too large) raises TransportStartError naming the option; `check` tells the API of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from junebug.errors import InvalidChannelConfig, TransportStartError
from junebug.model.expressions import BadExpression
from junebug.runtime import backoff
from junebug.runtime.tls import TlsOptions
from junebug.smpp import constants as c
from junebug.smpp import receipt_text
from junebug.smpp.options import BindOptions, SessionOptions
from junebug.smpp.text import codecs
from junebug.transports import endpoints
from junebug.transports.smpp import CONFIG_SCHEMA, DECIMAL, WHOLE
from junebug.transports.smpp.receipts import STATUS_MAPPING, WithoutFlag

LongMessages = Literal["udh", "sar", "payload"]
StatusMeaning = Literal["throttled", "retry", "reject"]

LONGEST_PASSWORD = 8
_ARGUMENTS = ("host", "port", "timeout", "bindAddress")
ENDPOINTS = {"tcp": _ARGUMENTS, "ssl": (*_ARGUMENTS, "hostname"), "tls": _ARGUMENTS}
"""Certificates and the like stand in the option `tls`."""
_PROCESSOR_CONFIGS = tuple(
    f"{each}_processor_config" for each in ("delivery_report", "deliver_short_message", "submit_short_message")
)
_NUMBERS: Mapping[str, tuple[type[int | float], str]] = {WHOLE: (int, "a whole number"), DECIMAL: (float, "a number")}
"""Pattern of a number in a string -> (what it becomes, what it is called)."""

STATUS_MEANINGS: Mapping[int, StatusMeaning] = {
    c.ESME_RTHROTTLED: "throttled", c.ESME_RMSGQFUL: "throttled",
    # the SMSC's own trouble, or the bind's: the message is as good as before
    c.ESME_RSYSERR: "retry", c.ESME_RINVBNDSTS: "retry", c.ESME_RX_T_APPN: "retry",
}  # fmt: skip
"""What a command_status in answer to a submit_sm means; each that is not here rejects the message."""


@dataclass(frozen=True, slots=True)
class Numbering:
    """Type of number and numbering plan of an address (SMPP 3.4 §5.2.5, §5.2.6)."""

    ton: int
    npi: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SmppConfig:
    """Times are in seconds. What bears an option's name is that option as it was given, or its default."""

    bind: BindOptions
    binds: int
    window_size: int
    """submit_sm that may be unanswered at a time."""
    # sending
    service_type: str
    source: Numbering
    destination: Numbering
    guess_numbering: bool
    default_source_addr: str
    registered_delivery: int
    validity_period: int | None
    encoding: str | None
    data_coding: int | None
    national_language: str | None
    gsm_safe: bool
    long_messages: LongMessages
    reference_rollover: int
    mt_tps: float
    throttle_delay: float
    retry_delay: float
    status_meanings: Mapping[int, StatusMeaning]
    # receiving
    decoding_error: int
    codecs_of_data_codings: Mapping[int, str]
    allow_empty_messages: bool
    mo_multipart_timeout: float
    # receipts
    receipt_expression: Callable[[str], receipt_text.Fields] | None
    receipt_statuses: Mapping[str, str]
    receipt_use_esm_class: bool
    receipt_without_flag: WithoutFlag
    disable_ack: bool
    disable_delivery_report: bool
    parked_receipt_ttl: float
    sent_ttl: float
    final_ttl: float
    completed_multipart_ttl: float
    split_bind_prefix: str
    # the rest
    transport_type: str
    redact_content: bool
    shards: int = 1
    """Of the channel. window_size and mt_tps are this one's part."""

    @property
    def can_send(self) -> bool:
        return self.bind.bind_mode != "receiver"

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> SmppConfig:
        """Raises TransportStartError, whose message names the option."""
        option = _Options(config)
        encoding = option("submit_sm_encoding")
        return cls(
            **{each.name: option(each.name) for each in fields(cls) if each.name in CONFIG_SCHEMA["properties"]},
            bind=_bind(option),
            source=Numbering(option("source_addr_ton"), option("source_addr_npi")),
            destination=Numbering(option("dest_addr_ton"), option("dest_addr_npi")),
            guess_numbering=option("ton_npi") == "auto",
            encoding=_codec("submit_sm_encoding", encoding) if encoding else None,
            data_coding=option("submit_sm_data_coding"),
            national_language=option("gsm_national_language"),
            long_messages=_long_messages(option),
            reference_rollover=option("multipart_sar_reference_rollover"),
            status_meanings=_status_meanings(option("command_status_mapping") or {}),
            decoding_error=_status("deliver_sm_decoding_error", option("deliver_sm_decoding_error")),
            codecs_of_data_codings=_data_codings(option("data_coding_overrides") or {}),
            receipt_expression=_receipt_expression(option("delivery_report_regex")),
            receipt_statuses=_receipt_statuses(option("delivery_report_status_mapping") or {}),
            receipt_use_esm_class=option("delivery_report_use_esm_class"),
            parked_receipt_ttl=option("submit_sm_expiry"),
            sent_ttl=option("third_party_id_expiry"),
            final_ttl=option("final_dr_third_party_id_expiry"),
            completed_multipart_ttl=option("completed_multipart_info_expiry"),
        )

    def part(self, shard: int, shards: int) -> SmppConfig:
        """Of one shard: each has its binds, and together they have the window and the pace."""
        size = self.window_size // shards + (shard < self.window_size % shards)
        return replace(self, window_size=max(1, size), mt_tps=self.mt_tps / shards, shards=shards)


def check(config: dict[str, Any]) -> None:
    """Raises InvalidChannelConfig for what the schema could not see."""
    try:
        SmppConfig.from_config(config)
    except TransportStartError as error:
        option, _, problem = str(error).partition(": ")
        raise InvalidChannelConfig([(f"config.{option}", problem)]) from None


class _Options:
    """Options by name, Vumi's processor configs among them, as the schema has them."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._given = dict(config)
        for name in _PROCESSOR_CONFIGS:
            self._given |= self._given.pop(name, None) or {}

    def __call__(self, name: str) -> Any:
        """The default where it is not given, null or empty. Digits in a string become the number that is wanted."""
        schema, value = CONFIG_SCHEMA["properties"][name], self._given.get(name)
        if value is None or value == "":
            return schema.get("default", value)
        kind, wanted = _NUMBERS.get(schema.get("pattern"), (None, ""))
        if kind is None:
            return value
        try:
            return _within_bounds(name, schema, kind(value))
        except ValueError:
            raise TransportStartError(f"{name}: expected {wanted}") from None


def _within_bounds(name: str, schema: Mapping[str, Any], value: float) -> float:
    """The schema's bounds, which it does not apply to digits in a string."""
    least, most = schema["minimum"], schema.get("maximum")
    if value < least or (most is not None and value > most):
        wanted = f"{least} to {most}" if most is not None else f"{least} or more"
        raise TransportStartError(f"{name}: expected {wanted}, got {value}")
    return value


def _codec(option: str, name: str) -> str:
    try:
        return codecs.codec_name(name)
    except LookupError:
        raise TransportStartError(f"{option}: there is no codec {name!r}") from None


def _bind(option: _Options) -> BindOptions:
    same = ("system_id", "system_type", "address_range", "addr_ton", "addr_npi", "bind_mode", "initial_reconnect_delay",
            "max_reconnect_delay")  # fmt: skip
    peer = _peer(option)
    return BindOptions(
        **{name: option(name) for name in same},
        host=peer.host,
        port=peer.port,
        local_host=peer.local_host,
        password=option("password")[:LONGEST_PASSWORD],
        interface_version=int(str(option("interface_version")), 16),
        bind_timeout=option("smpp_bind_timeout"),
        connect_timeout=peer.timeout,
        session=SessionOptions(option("response_timeout"), _interval(option("smpp_enquire_link_interval"))),
        tls=_tls(option("tls"), peer),
    )


@dataclass(frozen=True)
class Peer:
    """Whom to connect to."""

    host: str
    port: int
    scheme: str = "tcp"
    timeout: float | None = None
    local_host: str | None = None
    server_name: str | None = None


def _peer(option: _Options) -> Peer:
    """`host` and `port` count for more than the endpoint."""
    host, port, endpoint = option("host"), option("port"), option("twisted_endpoint")
    peer = parse_endpoint(endpoint) if endpoint else None
    if host and port is None:
        raise TransportStartError("port: it is needed beside host")
    if host:
        try:
            return Peer(endpoints.host({"host": host}, "host"), port)
        except ValueError as error:
            raise TransportStartError(str(error)) from None
    if peer is None:
        raise TransportStartError("twisted_endpoint: either this, or host and port, is needed")
    return peer


def parse_endpoint(description: str) -> Peer:
    """Twisted's description of a client: `tcp:host=smsc:port=2775` or `tcp:smsc:2775`."""
    try:
        scheme, arguments = endpoints.parse(description, ENDPOINTS)
        timeout = endpoints.number(arguments, "timeout", 1, 3600) if "timeout" in arguments else None
        local_host = endpoints.host(arguments, "bindAddress") if "bindAddress" in arguments else None
        host, port = endpoints.host(arguments, "host"), endpoints.number(arguments, "port", 1, 65535)
    except ValueError as error:
        raise TransportStartError(f"twisted_endpoint: {error}") from None
    return Peer(host, port, scheme, timeout, local_host, arguments.get("hostname"))


def _tls(tls: bool | dict[str, Any] | None, peer: Peer) -> TlsOptions | None:
    if isinstance(tls, dict):
        return TlsOptions(**{"server_name": peer.server_name, **tls})
    return TlsOptions(peer.server_name) if tls or peer.scheme in ("ssl", "tls") else None


def _interval(seconds: float) -> float | None:
    return max(seconds, backoff.SHORTEST) if seconds else None


def _long_messages(option: _Options) -> LongMessages:
    ways: dict[str, LongMessages] = {"send_long_messages": "payload", "send_multipart_sar": "sar", "send_multipart_udh": "udh"}
    chosen = [name for name in ways if option(name)]
    if len(chosen) > 1:
        raise TransportStartError(f"{' and '.join(chosen)}: choose one of them")
    return ways[chosen[0]] if chosen else "udh"


def _status(option: str, name: str) -> int:
    try:
        return c.status_code(name)
    except ValueError as error:
        raise TransportStartError(f"{option}: {error}") from None


def _status_meanings(mapping: Mapping[str, StatusMeaning]) -> Mapping[int, StatusMeaning]:
    own = {_status("command_status_mapping", name): meaning for name, meaning in mapping.items()}
    return {**STATUS_MEANINGS, **own}


def _receipt_statuses(mapping: Mapping[str, str]) -> Mapping[str, str]:
    return {**STATUS_MAPPING, **{state.upper(): status for state, status in mapping.items()}}


def _data_codings(overrides: Mapping[str, str]) -> dict[int, str]:
    """JSON's keys are strings."""
    codings = {int(key, 16 if key.lower().startswith("0x") else 10): name for key, name in overrides.items()}
    return {coding: _codec("data_coding_overrides", name) for coding, name in codings.items()}


def _receipt_expression(pattern: str | None) -> Callable[[str], receipt_text.Fields] | None:
    try:
        return receipt_text.expression(pattern) if pattern is not None else None
    except BadExpression as error:
        raise TransportStartError(f"delivery_report_regex: {error}") from None
