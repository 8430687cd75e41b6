"""`junebug doctor --import-check`: a Redis and a config file as Junebug 0.1 and 0.2 left them, channel by channel."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from junebug.client.doctor import import_check, old_junebug
from junebug.client.doctor.finding import Finding
from junebug.config.declaration import RedisSettings
from junebug.registry import Registry
from tests.harness import ROOT, run_command
from tests.servers import free_port
from tests.tables import rows

TELNET = {"twisted_endpoint": "tcp:9001"}
SMPP = {
    "twisted_endpoint": "tcp:host=smsc.example:port=2775", "system_id": "me", "password": "hunter2-hunter2",
    "submit_short_message_processor_config": {
        "submit_sm_encoding": "latin-1", "submit_sm_data_coding": 3, "send_multipart_udh": True,
    },
}  # fmt: skip
VUMI = "vumi.transports.smpp.smpp_transport"


@pytest.fixture
def old(redis_settings: RedisSettings) -> Iterator[redis.Redis]:
    with redis.Redis(port=redis_settings.port, db=redis_settings.db, decode_responses=True) as link:
        yield link
        link.flushdb()


def keep(old: redis.Redis, id: str, properties: Any, prefix: str = "") -> None:
    """As Junebug 0.1.11 did."""
    old.sadd(f"{prefix}channels", id)
    old.set(f"{prefix}{id}:properties", properties if isinstance(properties, str) else json.dumps({"id": id, **properties}))


def everything(old: redis.Redis) -> dict[str, tuple[str, int, str]]:
    """Key -> its type, its TTL, and the digest of its value."""
    dumped = "return redis.sha1hex(redis.call('DUMP', KEYS[1]))"
    found = old.keys()
    return {key: (old.type(key), old.ttl(key), old.eval(dumped, 1, key)) for key in found}


async def checked(old: redis.Redis, directory: Path, config: str = "", **given: Any) -> list[Finding]:
    """Nothing in Redis has changed afterwards."""
    (directory / "old.yaml").write_text(config)
    where = old.connection_pool.connection_kwargs
    texts = {"redis.host": "127.0.0.1", "redis.port": str(where["port"]), "redis.db": str(where["db"]), **given}
    before = everything(old)
    findings = await import_check.examine(texts, {}, str(directory / "old.yaml"), 5)
    assert everything(old) == before
    for each in findings:
        assert bool(each.advice) == (each.level != "ok"), each
        assert "hunter2" not in each.found + each.advice
    return findings


def of(findings: list[Finding], check: str) -> list[tuple[str, str]]:
    return [(each.level, f"{each.found} -> {each.advice}") for each in findings if each.check == check]


@rows(
    ("properties", "level", "word"),
    [
        ({"type": "telnet", "config": TELNET, "mo_url": "http://app.example/"}, "warning", "session_event: close"),
        ({"type": "smpp", "config": SMPP}, "warning", "receipts of what the old Junebug sent"),
        ({"type": "smpp", "config": {**SMPP, "submit_short_message_processor_config": {}}}, "warning", "UTF-8"),
        ({"type": "smpp", "config": {**SMPP, "middleware": []}}, "warning", "Vumi's middleware is not run"),
        ({"type": "smpp", "config": {**SMPP, "redis_manager": {}, "transport_name": "x"}}, "warning", "receipts"),
        ({"type": "smpp", "config": {**SMPP, "codec_class": "my.Codec"}}, "failed", "codec_class"),
        ({"type": "smpp", "config": {"system_id": "me"}}, "failed", "password"),
        ({"type": "dmark", "config": {"web_path": "/d", "web_port": 80}}, "warning", "CAP_NET_BIND_SERVICE"),
        ({"type": "dmark", "config": {"web_path": "/d", "web_port": 8080}}, "failed", "the API"),
        ({"type": "vas2nets", "config": {}}, "failed", "no such type here"),
        ({"config": {}}, "failed", "no such type here"),
        ({"type": "telnet", "config": TELNET, "amqp_queue": "app"}, "warning", "app.inbound"),
        ({"type": "telnet", "config": TELNET, "amqp_queue": "amq.x"}, "failed", "no queue can have the name"),
        ({"type": "telnet", "config": TELNET, "mo_url": "http://169.254.169.254/"}, "failed", "callback_deny"),
        ({"type": "telnet", "config": TELNET, "status_url": "http://localhost:8080/x"}, "failed", "own API"),
        ({"type": "telnet", "config": TELNET, "colour": "red"}, "warning", "'colour'"),
        ({"type": "telnet", "config": {**TELNET, "prompt": "?"}}, "warning", "config.prompt"),
        ("{broken", "failed", "no properties"), ("[]", "failed", "no properties"),
        ({"type": "irc", "config": {"network": "irc.example", "nickname": "jb"}}, "ok", "works as before"),
    ],
)  # fmt: skip
async def test_a_channel(old: redis.Redis, short_dir: Path, properties: Any, level: str, word: str) -> None:
    old.flushdb()
    keep(old, "6a5c691e", properties)
    findings = await checked(old, short_dir)
    found = of(findings, "channel 6a5c691e")
    assert [level for each, text in found if each == level and word in text] == [level], found
    assert of(findings, "settings") == [("ok", "the config file is read as it is -> ")]


async def test_channels_that_stand_in_each_others_way(old: redis.Redis, short_dir: Path) -> None:
    for id in ("a", "b"):
        keep(old, id, {"type": "telnet", "label": "the lobby", "config": TELNET, "amqp_queue": "app"})
    keep(old, "no/id", {"type": "telnet", "config": TELNET})
    findings = await checked(old, short_dir)
    assert not [text for level, text in of(findings, "channel a") if level == "failed"]
    second = of(findings, "channel b")
    assert any(level == "failed" and "port 9001 is also that of channel a" in text for level, text in second)
    assert any("amqp_queue 'app' is also that of channel a" in text for _, text in second)
    assert all("the lobby" in text for _, text in second)
    assert of(findings, "channel no/id")[0][0] == "failed"
    assert of(findings, "channels")[0][1].endswith("holds 3 channels -> ")


@rows(
    ("config", "check", "level", "word"),
    [
        ("rabbitmq_management_interface: rabbitmq:15672", "setting rabbitmq_management_interface", "failed", "take it out"),
        ("redis: {key_prefix: jb}", "setting redis.key_prefix", "failed", "RENAME"),
        ("prot: 8080", "setting prot", "failed", "no such setting"), ("port: eighty", "setting port", "failed", "correct it"),
        ("interface: 0.0.0.0", "setting interface", "warning", "tokens create"),
        ("plugins: [{type: junebug.plugins.nginx.NginxPlugin}]", "plugin 1", "ok", "is here, too"),
        ("plugins: [{type: junebug.plugins.nginx.NginxPlugin, colour: red}]", "plugin 1", "failed", "colour"),
        ("plugins: [{type: our.twisted.Plugin}]", "plugin 1", "failed", "without Twisted"),
        ("plugins: [{type: junebug.plugin.JunebugPlugin}]", "plugin 1", "warning", "Deferred"),
        (f"channels: {{old_smpp: {VUMI}.SmppTransceiverTransport}}", "channel type old_smpp", "failed", "type smpp"),
        ("channels: {own: our.Transport}", "channel type own", "failed", "docs/channel-types.md"),
        ("a: [", "config file", "failed", "YAML"), ("- a", "config file", "failed", "expected settings"),
    ],
)  # fmt: skip
async def test_the_config_file(old: redis.Redis, short_dir: Path, config: str, check: str, level: str, word: str) -> None:
    keep(old, "c", {"type": "irc", "config": {"network": "irc.example", "nickname": "jb"}})
    findings = await checked(old, short_dir, config)
    found = of(findings, check)
    assert [each for each, text in found if word in text] == [level], findings
    if check.startswith(("setting", "plugin", "channel type")) and "key_prefix" not in check:
        assert of(findings, "channel c")[0][0] == "ok"  # the rest is looked at all the same


async def test_a_redis_whose_keys_have_a_prefix(old: redis.Redis, short_dir: Path) -> None:
    keep(old, "c", {"type": "no_such", "config": {}}, "jb:")
    findings = await checked(old, short_dir, "redis: {key_prefix: jb}")
    assert of(findings, "channel c")[0][0] == "failed"


async def test_a_type_of_a_class_that_is_not_here(old: redis.Redis, short_dir: Path) -> None:
    keep(old, "c", {"type": "old_smpp", "config": SMPP})
    findings = await checked(old, short_dir, f"channels: {{old_smpp: {VUMI}.SmppTransceiverTransport}}")
    assert "POST /channels/c with type smpp" in of(findings, "channel c")[0][1]


async def test_routers_of_0_2_are_to_be_made_anew(old: redis.Redis, short_dir: Path) -> None:
    old.sadd("routers", "old", "ours", "lost")
    old.hset("routers:old", "type", "from_address")
    old.set("ours:properties", "{}")
    findings = await checked(old, short_dir)
    assert [of(findings, f"router {id}")[0][0] for id in ("old", "ours", "lost")] == ["failed", "ok", "failed"]
    assert "SREM routers old" in of(findings, "router old")[0][1]


async def test_a_redis_that_is_not_the_old_ones(old: redis.Redis, short_dir: Path) -> None:
    assert of(await checked(old, short_dir), "channels")[0][0] == "warning"
    old.set("channels", "text")
    assert of(await checked(old, short_dir), "channels")[0][0] == "failed"
    away = await checked(old, short_dir, **{"redis.port": str(free_port())})
    assert of(away, "redis")[0][0] == "failed"


def test_the_tables_name_types_that_there_are() -> None:
    types = Registry.from_settings({})
    for name in [*(each.partition(",")[0] for each in old_junebug.CLASSES.values()), *old_junebug.NOTES]:
        assert name in types or name.startswith("none"), name
    for name, notes in old_junebug.NOTES.items():
        for options, _, _ in notes:
            assert set(options) <= types.get(name).config_schema["properties"].keys()


def test_at_the_command_line(old: redis.Redis, short_dir: Path, redis_settings: RedisSettings) -> None:
    keep(old, "c", {"type": "no_such", "config": {}})
    (short_dir / "old.yaml").write_text(json.dumps({"redis": {"port": redis_settings.port, "db": redis_settings.db}, "old": 1}))
    done = run_command("junebug", "doctor", "--import-check", "--config", "old.yaml", "--redis-host", "127.0.0.1", cwd=short_dir)
    assert (done.returncode, done.stderr) == (1, "")
    assert "setting old" in done.stdout
    assert "channel c" in done.stdout
    done = run_command("junebug", "doctor", "--import-check", "--json", "--config", "old.yaml", cwd=short_dir)
    assert json.loads(done.stdout)["result"] == "failed"


def test_the_docs_name_what_is_said() -> None:
    text = (ROOT / "docs" / "upgrading.md").read_text()
    for name in old_junebug.SETTINGS:
        assert f"`{name}`" in text
    for notes in old_junebug.NOTES.values():
        for _, what, _ in notes:
            assert what.split(";")[0].split(",")[0] in text, what
