"""A channel's `config`: what the schema refuses (a 400 that names the field), and what is made of the rest."""

from __future__ import annotations

from typing import Any

import pytest

from junebug.errors import InvalidChannelConfig, TransportStartError
from junebug.registry import Registry
from junebug.runtime.tls import TlsOptions
from junebug.smpp import constants as c
from junebug.transports.smpp import CHANNEL_TYPE
from junebug.transports.smpp.config import Numbering, Peer, SmppConfig, parse_endpoint
from tests.tables import rows

MINIMAL = {"host": "smsc.example.com", "port": 2775, "system_id": "me", "password": "sesame"}
PROCESSORS = "vumi.transports.smpp.processors"
REGISTRY = Registry([CHANNEL_TYPE])


def parse(**options: Any) -> SmppConfig:
    config = {**MINIMAL, **options}
    REGISTRY.validate_config("smpp", config)
    return SmppConfig.from_config(config)


def test_the_defaults_are_those_of_the_contract() -> None:
    config = parse()
    bind = config.bind
    assert (bind.host, bind.port, bind.system_id, bind.password) == ("smsc.example.com", 2775, "me", "sesame")
    assert (bind.system_type, bind.interface_version, bind.address_range) == ("", 0x34, "")
    assert (bind.bind_timeout, bind.initial_reconnect_delay, bind.bind_mode, bind.tls) == (30, 5, "transceiver", None)
    assert (config.window_size, bind.session.enquire_link_interval) == (50, 55)
    assert (config.source, config.destination, config.service_type) == (Numbering(0, 0), Numbering(0, 1), "")
    assert (config.registered_delivery, config.throttle_delay, config.mt_tps) == (1, 0.1, 0)
    assert config.decoding_error == c.ESME_RDELIVERYFAILURE
    assert (config.parked_receipt_ttl, config.sent_ttl, config.final_ttl) == (86400, 604800, 3600)
    assert (config.completed_multipart_ttl, config.reference_rollover, config.long_messages) == (3600, 65536, "udh")
    assert (config.disable_ack, config.disable_delivery_report, config.allow_empty_messages) == (False, False, False)
    assert config.receipt_use_esm_class


def test_each_default_of_the_schema_is_the_one_used() -> None:
    said = {
        name: schema["default"]
        for name, schema in CHANNEL_TYPE.config_schema["properties"].items()
        if "default" in schema
    }
    assert SmppConfig.from_config({**MINIMAL, **said}) == SmppConfig.from_config(MINIMAL)


def test_every_option_is_described() -> None:
    assert all(schema.get("description") for schema in CHANNEL_TYPE.config_schema["properties"].values())


@rows(
    ("endpoint", "expected"),
    [
        ("tcp:host=127.0.0.1:port=2775", Peer("127.0.0.1", 2775)),
        ("tcp:smsc.example.com:2775", Peer("smsc.example.com", 2775)),
        ("tcp:port=2775:host=smsc", Peer("smsc", 2775)),
        ("tcp:port=2775:host=smsc:timeout=30", Peer("smsc", 2775, timeout=30)),
        ("tcp:host=smsc:2775", Peer("smsc", 2775)),
        ("tcp:port=2775:smsc", Peer("smsc", 2775)),
        ("tcp:timeout=5:smsc:2775", Peer("smsc", 2775, timeout=5)),
        ("tcp:smsc:2775:bindAddress=10.0.0.1", Peer("smsc", 2775, local_host="10.0.0.1")),
        (r"tcp:bindAddress=\:\:1:port=2775:host=\:\:1", Peer("::1", 2775, local_host="::1")),
        ("tcp:host=[::1]:port=2775", Peer("::1", 2775)),
        (r"tcp:\:\:1:2775", Peer("::1", 2775)),
        (r"tcp:host=2001\:db8\:\:1:port=2775", Peer("2001:db8::1", 2775)),
        ("ssl:host=smsc:port=3550", Peer("smsc", 3550, "ssl")),
        ("ssl:10.0.0.1:3550:hostname=smsc.example.com", Peer("10.0.0.1", 3550, "ssl", server_name="smsc.example.com")),
        ("tls:smsc:3550", Peer("smsc", 3550, "tls")),
    ],
)
def test_endpoints_as_twisted_writes_them(endpoint: str, expected: Peer) -> None:
    assert parse_endpoint(endpoint) == expected
    config = {"twisted_endpoint": endpoint, "system_id": "me", "password": ""}
    REGISTRY.validate_config("smpp", config)
    bind = SmppConfig.from_config(config).bind
    assert (bind.host, bind.port, bind.local_host) == (expected.host, expected.port, expected.local_host)
    assert bind.connect_timeout == expected.timeout
    assert bind.tls == (TlsOptions(expected.server_name) if expected.scheme != "tcp" else None)


@rows(
    ("config", "field", "said"),
    [
        ({}, "twisted_endpoint", "either this, or host and port, is needed"),
        ({"port": 2775}, "twisted_endpoint", "either this, or host and port, is needed"),
        ({"host": "smsc"}, "port", "needed beside host"),
        ({"twisted_endpoint": "tcp:smsc"}, "twisted_endpoint", "port from 1 to 65535"),
        ({"twisted_endpoint": "tcp:smsc:99999"}, "twisted_endpoint", "port from 1 to 65535"),
        ({"twisted_endpoint": "tcp:port=2775"}, "twisted_endpoint", "host: expected"),
        ({"twisted_endpoint": "tcp::2775"}, "twisted_endpoint", "host: expected"),
        ({"twisted_endpoint": "unix:/tmp/x"}, "twisted_endpoint", "expected tcp:"),
        ({"twisted_endpoint": "tcp:smsc:2775:colour=red"}, "twisted_endpoint", "no argument 'colour'"),
        ({"twisted_endpoint": "ssl:smsc:2775:caCertsDir=/x"}, "twisted_endpoint", "no argument 'caCertsDir'"),
        ({"twisted_endpoint": "tcp:::1:2775"}, "twisted_endpoint", ""),
        ({"twisted_endpoint": "tcp:smsc:2775:timeout=soon"}, "twisted_endpoint", "timeout from 1"),
        ({"twisted_endpoint": "tcp:smsc:2775:bindAddress="}, "twisted_endpoint", "bindAddress: expected"),
        *(({"host": host, "port": 2775}, "host", "expected a host's") for host in (
            "a b", "smsc\n", "smsc:2775", "http://smsc", "a" * 64, "a..b", "\u00e9" * 80, "::g", "xn--\u00e9", "u@smsc", "[]",
        )),
        ({"twisted_endpoint": "tcp:host=a..b:port=1"}, "twisted_endpoint", "host: expected"),
        ({"twisted_endpoint": r"tcp:host=\:\:g:port=1"}, "twisted_endpoint", "host: expected"),
        ({"twisted_endpoint": "udp:x", "host": "smsc", "port": 2775}, "twisted_endpoint", "expected tcp:"),
    ],
)
def test_where_no_smsc_can_be_is_told(config: dict[str, Any], field: str, said: str) -> None:
    with pytest.raises(InvalidChannelConfig) as refused:
        REGISTRY.validate_config("smpp", {"system_id": "me", "password": "", **config})
    ((name, problem),) = refused.value.problems
    assert name == f"config.{field}"
    assert said in problem


def test_an_endpoint_instead_of_host_and_port() -> None:
    config = {"twisted_endpoint": "tcp:host=localhost:port=2775", "system_id": "me", "password": ""}
    REGISTRY.validate_config("smpp", config)
    assert SmppConfig.from_config(config).bind.port == 2775


def test_long_passwords_are_cut_for_the_wire() -> None:
    assert parse(password="0123456789").bind.password == "01234567"


def test_processor_configs_and_the_top_level_are_one() -> None:
    config = parse(
        delivery_report_processor_config={"delivery_report_status_mapping": {"UNDELIV": "pending", "ODD": "failed"}},
        deliver_short_message_processor_config={"data_coding_overrides": {"0": "latin-1", "0x04": "utf-8"}},
        submit_short_message_processor_config={"submit_sm_encoding": "UTF-8", "submit_sm_data_coding": "7"},
        send_multipart_sar=True,
        allow_empty_messages=True,
    )
    assert config.receipt_statuses["UNDELIV"] == "pending"
    assert config.receipt_statuses["ODD"] == "failed"
    assert config.receipt_statuses["DELIVRD"] == "delivered"
    assert config.codecs_of_data_codings == {0: "iso8859-1", 4: "utf-8"}
    assert (config.encoding, config.data_coding, config.long_messages) == ("utf-8", 7, "sar")
    assert config.allow_empty_messages


def test_numbers_may_be_strings() -> None:
    config = parse(port="2776", source_addr_ton="5", throttle_delay="0.5", interface_version=50)
    assert (config.bind.port, config.source.ton, config.throttle_delay) == (2776, 5, 0.5)
    assert config.bind.interface_version == 0x50


def test_vumis_own_class_paths_are_taken() -> None:
    parse(
        codec_class="vumi.codecs.VumiCodec",
        delivery_report_processor=f"{PROCESSORS}.DeliveryReportProcessor",
        deliver_short_message_processor=f"{PROCESSORS}.default.DeliverShortMessageProcessor",
        submit_short_message_processor=f"{PROCESSORS}.SubmitShortMessageProcessor",
        redis_manager={"FAKE_REDIS": "yes"},
    )


def test_what_a_status_means_can_be_changed() -> None:
    config = parse(command_status_mapping={"ESME_RSUBMITFAIL": "retry", "0x500": "throttled", "ESME_RTHROTTLED": "reject"})
    assert config.status_meanings[c.ESME_RSUBMITFAIL] == "retry"
    assert config.status_meanings[0x500] == "throttled"
    assert config.status_meanings[c.ESME_RTHROTTLED] == "reject"
    assert config.status_meanings[c.ESME_RMSGQFUL] == "throttled"


def test_tls_options() -> None:
    assert parse(tls=True).bind.tls is not None
    assert parse(tls=False).bind.tls is None
    tls = parse(tls={"server_name": "smsc", "verify": False}).bind.tls
    assert tls is not None
    assert (tls.server_name, tls.verify) == ("smsc", False)


@rows(
    ("options", "field"),
    [
        ({"port": 0}, "config.port"),
        ({"port": "x"}, "config.port"),
        ({"prot": 2775}, "prot"),
        ({"bind_mode": "sender"}, "config.bind_mode"),
        ({"window_size": 0}, "config.window_size"),
        ({"interface_version": "35"}, "config.interface_version"),
        ({"system_id": "0123456789abcdef"}, "config.system_id"),
        ({"delivery_report_processor": "mine.Processor"}, "config.delivery_report_processor"),
        ({"codec_class": "mine.Codec"}, "config.codec_class"),
        ({"data_coding_overrides": {"zero": "latin-1"}}, "config.data_coding_overrides"),
        ({"delivery_report_status_mapping": {"X": "gone"}}, "config.delivery_report_status_mapping.X"),
        ({"send_multipart_sar": True, "send_multipart_udh": True}, "config.send_multipart_udh"),
        ({"send_long_messages": True, "send_multipart_sar": True}, "config.send_multipart_sar"),
        (
            {"submit_short_message_processor_config": {"send_long_messages": True, "send_multipart_udh": True}},
            "config.submit_short_message_processor_config.send_multipart_udh",
        ),
        ({"deliver_sm_decoding_error": "broken"}, "config.deliver_sm_decoding_error"),
        ({"command_status_mapping": {"ESME_RSYSERR": "ignore"}}, "config.command_status_mapping.ESME_RSYSERR"),
        ({"tls": {"cafile": "x"}}, "config.tls"),
        ({"receipt_without_flag": "always"}, "config.receipt_without_flag"),
        ({"third_party_id_expiry": 1e300}, "config.third_party_id_expiry"),
        ({"third_party_id_expiry": "9" * 400}, "config.third_party_id_expiry"),
        ({"third_party_id_expiry": "9" * 5000}, "config.third_party_id_expiry"),
        ({"validity_period": 2**63}, "config.validity_period"),
        ({"mt_tps": "9" * 400}, "config.mt_tps"),
        ({"window_size": "9" * 5000}, "config.window_size"),
        ({"window_size": "²"}, "config.window_size"),
        ({"window_size": "٣"}, "config.window_size"),
        ({"system_id": "a\0b"}, "config.system_id"),
        ({"password": "geheim€"}, "config.password"),
        ({"default_source_addr": "Ð\u0430"}, "config.default_source_addr"),
        ({"service_type": "٣"}, "config.service_type"),
        ({"submit_sm_encoding": "x" * 10**6}, "config.submit_sm_encoding"),
        ({"submit_sm_encoding": "a\0b"}, "config.submit_sm_encoding"),
        ({"data_coding_overrides": {"0": "x" * 10**6}}, "config.data_coding_overrides.0"),
        ({"twisted_endpoint": "tcp:host=a:port=1:" + ":" * 10**5}, "config.twisted_endpoint"),
        ({"delivery_report_regex": ["id"]}, "config.delivery_report_regex"),
    ],
)
def test_what_is_wrong_is_named(options: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidChannelConfig) as refused:
        REGISTRY.validate_config("smpp", {**MINIMAL, **options})
    assert any(field in f"{name}: {message}" for name, message in refused.value.problems)
    assert len(str(refused.value.problems)) < 1000


@pytest.mark.parametrize("depth", [260, 900])
@pytest.mark.parametrize("option", ["delivery_report_regex", "data_coding_overrides", "tls", "transport_name"])
def test_what_is_nested_deep_is_refused(option: str, depth: int) -> None:
    nested: Any = {}
    for _ in range(depth):
        nested = [nested]
    with pytest.raises(InvalidChannelConfig, match="(?i)config: .*recursion limit"):
        REGISTRY.validate_config("smpp", {**MINIMAL, option: nested})


@pytest.mark.parametrize("missing", ["host", "port", "system_id", "password"])
def test_what_is_missing_is_named(missing: str) -> None:
    config = {name: value for name, value in MINIMAL.items() if name != missing}
    with pytest.raises(InvalidChannelConfig, match=missing):
        REGISTRY.validate_config("smpp", config)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delivery_report_regex": "id:(?P<id>"}, "delivery_report_regex: "),
        ({"delivery_report_regex": "id:(?P<id>.)"}, "delivery_report_regex: it has no group named stat"),
        ({"submit_sm_encoding": "klingon"}, "submit_sm_encoding: there is no codec 'klingon'"),
        ({"data_coding_overrides": {"0": "hex"}}, "data_coding_overrides: there is no codec 'hex'"),
        ({"command_status_mapping": {"ESME_RODD": "retry"}}, "command_status_mapping: "),
        ({"window_size": "0"}, "window_size: expected 1 to 10000, got 0"),
        ({"port": "99999"}, "port: expected 1 to 65535, got 99999"),
        ({"multipart_sar_reference_rollover": "0"}, "multipart_sar_reference_rollover: expected 2 to 65536, got 0"),
        ({"response_timeout": "0"}, "response_timeout: expected 0.01 to 315360000, got 0.0"),
        ({"source_addr_ton": "999"}, "source_addr_ton: expected 0 to 255, got 999"),
        (
            {"send_multipart_sar": True, "submit_short_message_processor_config": {"send_long_messages": True}},
            "send_long_messages and send_multipart_sar: choose one",
        ),
    ],
)
def test_what_no_schema_sees_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TransportStartError, match="^" + message.replace("(", r"\(")):
        SmppConfig.from_config({**MINIMAL, **options})
    with pytest.raises(InvalidChannelConfig) as error:
        REGISTRY.validate_config("smpp", {**MINIMAL, **options})
    assert error.value.errors()[0]["message"].startswith(f"config.{message.partition(': ')[0]}: ")


@rows(
    ("pattern", "problem"),
    [
        ("(?<=x)", "lookbehind ((?<=) is not supported"),
        ("(?<!x)", "lookbehind ((?<!) is not supported"),
        ("(?=x)", "lookahead ((?=) is not supported"),
        ("(?!x)", "lookahead ((?!) is not supported"),
        (r"\1", r"backreference (\1) is not supported"),
        ("(?P=id)", "backreference to a group by name ((?P) is not supported"),
        ("(?(1)a|b)", "conditional ((?() is not supported"),
        ("(?>a)", "atomic group ((?>) is not supported"),
        ("a*+", "possessive repetition (*+) is not supported"),
        ("(" * 3000 + ")" * 3000, "it is longer than 1000 characters"),
        ("(" * 400, "missing ): "),
        ("a{99999999999999}", "it repeats something more than 1000 times"),
        ("a{,99999999999999}", "it repeats something more than 1000 times"),
        ("a{1,1001}", "it repeats something more than 1000 times"),
        ("(a{100}){100}", "invalid repetition size"),
        (r"\w{900}", "its repetitions make it too large"),
        ("[z-a]", "invalid character class range"),
        ("a**", "bad repetition operator: **"),
        ("\\", "trailing \\"),
    ],
)  # fmt: skip
def test_an_expression_that_cannot_be_used_is_refused_with_why(pattern: str, problem: str) -> None:
    options = {"delivery_report_regex": f"(?P<id>.)(?P<stat>.){pattern}"}
    for given in (options, {"delivery_report_processor_config": options}):
        with pytest.raises(InvalidChannelConfig) as error:
            REGISTRY.validate_config("smpp", {**MINIMAL, **given})
        (told,) = error.value.errors()
        assert told["message"].startswith(f"config.delivery_report_regex: {problem}")
        assert len(told["message"]) < 300


@pytest.mark.parametrize(
    "pattern",
    [r"id:(?P<id>\S{,65}).* stat:(?P<stat>[A-Z]{5,7})\Z", r"(?i)(?P<id>\d+)[{,9}](?P<stat>\w+)", "(?P<id>é)(?P<stat>.)"],
)
def test_other_expressions_are_taken(pattern: str) -> None:
    assert parse(delivery_report_regex=pattern).receipt_expression


def test_half_a_surrogate_pair_in_an_expression_is_refused() -> None:
    with pytest.raises(TransportStartError, match="^delivery_report_regex: it holds half a surrogate pair"):
        SmppConfig.from_config({**MINIMAL, "delivery_report_regex": "(?P<id>.)(?P<stat>.)\ud800"})


def test_secrets_are_declared() -> None:
    config = {**MINIMAL, "tls": {"key_passphrase": "open"}}
    shown = str(REGISTRY.redact("smpp", config))
    assert "sesame" not in shown
    assert "open" not in shown
    assert "sesame" not in repr(SmppConfig.from_config(config))


def test_an_option_that_is_null_counts_as_not_given() -> None:
    assert parse(service_type=None, tls=None, delivery_report_processor_config=None) == parse()
    with pytest.raises(InvalidChannelConfig):
        parse(password=None)


@pytest.mark.parametrize(("window", "tps", "shards", "windows"), [
    (50, 0, 1, [50]), (50, 30, 4, [13, 13, 12, 12]), (2, 1, 3, [1, 1, 1]),
])  # fmt: skip
def test_shards_have_the_window_and_the_pace_together(window: int, tps: float, shards: int, windows: list[int]) -> None:
    whole = SmppConfig.from_config({**MINIMAL, "window_size": window, "mt_tps": tps, "binds": 3})
    parts = [whole.part(shard, shards) for shard in range(shards)]
    assert [part.window_size for part in parts] == windows
    assert sum(part.mt_tps for part in parts) == pytest.approx(tps)
    assert {part.binds for part in parts} == {3}
