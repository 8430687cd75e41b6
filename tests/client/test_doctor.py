"""`junebug doctor`: each check made to fail, on servers that really are so, and told with what to do."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import resource
import shutil
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis

from junebug.amqp import probe as probe_module
from junebug.amqp.probe import probe
from junebug.api.access import is_loopback
from junebug.api.sockets import bind
from junebug.client.doctor import channels, command, dangers, import_check, machine, ports, rabbitmq
from junebug.client.doctor import redis as doctor_redis
from junebug.client.doctor.command import Given, examine
from junebug.client.doctor.finding import Finding
from junebug.config.declaration import AmqpSettings, RedisSettings, Settings
from junebug.errors import StartupError
from junebug.stores import Stores
from junebug.stores.client import RedisClient
from junebug.stores.inspection import inspect
from tests.polling import eventually_blocking
from tests.proxy import between
from tests.servers import RabbitmqServer, RedisServer, free_port
from tests.tables import rows

CHANNELS = 3


def found(findings: Iterable[Finding], check: str) -> Finding:
    """The worst of that name."""
    order = {"failed": 0, "warning": 1, "ok": 2}
    of_check = [each for each in findings if each.check == check]
    assert of_check, f"nothing is said of {check}"
    return min(of_check, key=lambda each: order[each.level])


def assert_told(findings: Iterable[Finding], check: str, level: str, word: str = "") -> None:
    finding = found(findings, check)
    assert finding.level == level, finding
    assert word in finding.found + finding.advice, finding
    assert bool(finding.advice) == (level != "ok"), finding


# --- redis ------------------------------------------------------------------------------------------------------------


async def looked_at(port: int, db: int = 0) -> list[Finding]:
    settings = RedisSettings(host="127.0.0.1", port=port, db=db)
    client = RedisClient(settings, 5)
    try:
        return list(doctor_redis.judge(await inspect(client), settings, CHANNELS))
    finally:
        await client.close()


def broken_snapshots(link: Any, server: RedisServer) -> None:
    link.config_set("save", "3600 1")
    link.config_set("stop-writes-on-bgsave-error", "yes")
    link.config_set("appendonly", "no")
    directory = link.config_get("dir")["dir"]
    shutil.rmtree(directory)  # its own: gone while it runs
    link.bgsave()
    eventually_blocking(lambda: link.info("persistence")["rdb_last_bgsave_status"] == "err")
    os.makedirs(directory)


@rows(
    ("check", "level", "word", "spoil"),
    [
        ("redis persistence", "failed", "appendonly yes", lambda link: (link.config_set("appendonly", "no"))),
        ("redis persistence", "warning", "snapshots only",
         lambda link: (link.config_set("appendonly", "no"), link.config_set("save", "3600 1"))),
        ("redis memory", "failed", "maxmemory-policy noeviction",
         lambda link: (link.config_set("maxmemory", "1gb"), link.config_set("maxmemory-policy", "allkeys-lru"))),
        ("redis memory", "warning", "noeviction", lambda link: link.config_set("maxmemory-policy", "allkeys-lru")),
        ("redis memory", "warning", "raise maxmemory", lambda link: link.config_set("maxmemory", link.info()["used_memory"])),
        ("redis writes", "failed", "maxmemory", lambda link: link.config_set("maxmemory", "100kb")),
        ("redis writes", "failed", "replica", lambda link: link.replicaof("127.0.0.1", "1")),
        ("redis clients", "failed", "raise maxclients", lambda link: link.config_set("maxclients", "5")),
    ],
)  # fmt: skip
async def test_a_redis_that_is_not_as_it_should_be(
    own_redis: RedisServer, check: str, level: str, word: str, spoil: Callable[[Any], object]
) -> None:
    with redis.Redis(port=own_redis.port, decode_responses=True) as link:
        try:
            found = await looked_at(own_redis.port)
            assert {each.check for each in found if each.level != "ok"} <= {"redis latency"}  # that is the machine's load
            spoil(link)
            assert_told(await looked_at(own_redis.port), check, level, word)
        finally:
            for option, value in (("maxmemory", "0"), ("maxmemory-policy", "noeviction"), ("save", ""), ("appendonly", "yes"),
                                  ("maxclients", "10000")):  # fmt: skip
                link.config_set(option, value)
            link.replicaof("NO", "ONE")


async def test_a_redis_whose_snapshots_fail(own_redis: RedisServer) -> None:
    with redis.Redis(port=own_redis.port, decode_responses=True) as link:
        broken_snapshots(link, own_redis)
    findings = await looked_at(own_redis.port)
    assert_told(findings, "redis persistence", "failed", "stops to take writes")
    assert_told(findings, "redis writes", "failed", "MISCONF")


def later(seconds: int) -> Callable[[bytes], bytes]:
    """The answer to TIME, changed."""
    return lambda piece: re.sub(
        rb"^\*2\r\n\$10\r\n(\d{10})", lambda it: b"*2\r\n$10\r\n%d" % (int(it[1]) + seconds), piece
    )


@rows(
    ("check", "level", "word", "change", "delay"),
    [
        ("redis clock", "warning", "NTP", later(5), 0.0),
        ("redis clock", "failed", "behind", later(-100), 0.0),
        ("redis latency", "warning", "SLOWLOG", bytes, 0.02),
        ("redis latency", "failed", "ms", bytes, 0.11),
        ("redis", "failed", "6.2 or newer", lambda piece: re.sub(rb"redis_version:\d", b"redis_version:5", piece), 0.0),
    ],
)
async def test_a_redis_that_is_slow_late_or_old(
    redis_server_shared: RedisServer, check: str, level: str, word: str, change: Callable[[bytes], bytes], delay: float
) -> None:
    async with between(redis_server_shared.port, change, delay) as port:
        assert_told(await looked_at(port), check, level, word)


async def test_a_redis_before_6(redis_server_shared: RedisServer, short_dir: Path) -> None:
    """It does not know how redis-py says hello."""
    async with between(redis_server_shared.port, lambda piece: b"-ERR unknown command `HELLO`, with args\r\n") as port:
        texts = {"redis.host": "127.0.0.1", "redis.port": str(port), "amqp.port": str(free_port()), "data_dir": str(short_dir)}
        assert_told(await examine(Given(texts, {}, None)), "redis", "failed", "6.2 or newer")


# --- rabbitmq ---------------------------------------------------------------------------------------------------------


async def tried(settings: AmqpSettings, processes: int = CHANNELS, files: int | None = None) -> list[Finding]:
    return list(rabbitmq.judge(await probe(settings, 5), settings, processes, files))


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
async def test_a_rabbitmq_as_it_should_be(own_rabbitmq: RabbitmqServer, queue_type: str) -> None:
    findings = await tried(dataclasses.replace(own_rabbitmq.settings, queue_type=queue_type), files=1024)
    assert [each for each in findings if each.level != "ok"] == []
    assert own_rabbitmq.queues() == set()  # nothing is left


def limited(**limits: int) -> Callable[[RabbitmqServer], None]:
    def limit(server: RabbitmqServer) -> None:
        values = ", ".join(f'{{<<"{name.replace("_", "-")}">>, {value}}}' for name, value in limits.items())
        server._erlang(f'rabbit_vhost_limit:set(<<"{server.vhost}">>, [{values}], <<"test">>)')

    return limit


def permitted(configure: str, write: str, read: str) -> Callable[[RabbitmqServer], None]:
    def permit(server: RabbitmqServer) -> None:
        words = ", ".join(f'<<"{each}">>' for each in (configure, write, read))
        server._erlang(f'rabbit_auth_backend_internal:set_permissions(<<"guest">>, <<"{server.vhost}">>, {words}, <<"test">>)')

    return permit


def node(option: str, value: int) -> Callable[[RabbitmqServer], None]:
    return lambda server: server._erlang(f"application:set_env(rabbit, {option}, {value})") and None


async def test_a_rabbitmq_that_is_not_as_it_should_be(own_rabbitmq: RabbitmqServer) -> None:
    spoilt: tuple[tuple[str, str, str, Callable[[RabbitmqServer], object], Callable[[RabbitmqServer], object]], ...] = (
        ("rabbitmq use", "failed", "set_permissions", permitted("^$", ".*", ".*"), permitted(".*", ".*", ".*")),
        ("rabbitmq use", "failed", "cannot declare", permitted(".*", "^$", ".*"), permitted(".*", ".*", ".*")),
        ("rabbitmq use", "failed", "set_permissions", permitted(".*", ".*", "^$"), permitted(".*", ".*", ".*")),
        ("rabbitmq use", "failed", "list_vhost_limits", limited(max_queues=0), limited(max_queues=-1)),
        ("rabbitmq alarms", "failed", "memory", lambda it: it.alarm(True), lambda it: it.alarm(False)),
        ("rabbitmq limits", "warning", "channel_max", node("channel_max", 100), node("channel_max", 2047)),
        ("rabbitmq limits", "failed", "channel_max", node("channel_max", 8), node("channel_max", 2047)),
        ("rabbitmq limits", "warning", "frame_max", node("frame_max", 8192), node("frame_max", 131072)),
    )
    for check, level, word, spoil, mend in spoilt:
        spoil(own_rabbitmq)
        try:
            assert_told(await tried(own_rabbitmq.settings), check, level, word)
        finally:
            mend(own_rabbitmq)
    assert_told(await tried(own_rabbitmq.settings, 1000, 1024), "rabbitmq files", "failed", "LimitNOFILE")
    assert_told(await tried(own_rabbitmq.settings), "rabbitmq use", "ok")


async def test_a_rabbitmq_that_lets_two_consume_exclusively(
    own_rabbitmq: RabbitmqServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a quorum queue, which may be a vhost's default."""
    monkeypatch.setitem(probe_module.ARGUMENTS, "x-queue-type", "quorum")
    assert_told(await tried(own_rabbitmq.settings), "rabbitmq fence", "failed", "no classic queue")


async def test_a_rabbitmq_that_is_old(own_rabbitmq: RabbitmqServer) -> None:
    version = (await probe(own_rabbitmq.settings, 5)).version.encode()
    old = b"3.09." + b"9" * (len(version) - 5)
    async with between(own_rabbitmq.port, lambda piece: piece.replace(version, old)) as port:
        settings = dataclasses.replace(own_rabbitmq.settings, port=port)
        assert_told(await tried(settings), "rabbitmq", "failed", "3.10 or newer")


async def test_a_rabbitmq_that_lets_nobody_in(own_rabbitmq: RabbitmqServer) -> None:
    fine = own_rabbitmq.settings
    for change, word in (
        ({"password": "wrong"}, "amqp.username, amqp.password"), ({"vhost": "nowhere"}, "amqp.vhost"),
        ({"port": free_port()}, "amqp.hostname, amqp.port"),
    ):  # fmt: skip
        with pytest.raises(StartupError, match=word):
            await probe(dataclasses.replace(fine, **change), 5)
    limited(max_connections=0)(own_rabbitmq)
    with pytest.raises(StartupError, match="limit"):
        await probe(fine, 5)


async def test_each_host_of_rabbitmq_is_looked_at(own_rabbitmq: RabbitmqServer, short_dir: Path) -> None:
    there, away = f"127.0.0.1:{own_rabbitmq.port}", f"127.0.0.1:{free_port()}"
    texts = {"redis.port": str(free_port()), "data_dir": str(short_dir), "amqp.vhost": own_rabbitmq.vhost}
    for hosts, level in ((f"{away},{there}", "warning"), (away, "failed")):
        findings = await examine(Given({**texts, "amqp.hosts": hosts}, {}, None))
        assert_told([each for each in findings if each.level != "ok"], "rabbitmq", level, away)
    findings = await examine(Given({**texts, "amqp.hosts": f"{there},localhost:{own_rabbitmq.port}"}, {}, None))
    told = [each.found for each in findings if each.check == "rabbitmq"]
    assert [each.split(", ")[0].split(" at ")[1] for each in told] == [there, f"localhost:{own_rabbitmq.port}"]


# --- the machine ------------------------------------------------------------------------------------------------------


def test_versions_that_are_too_old() -> None:
    assert machine.versions((3, 11), "4.3.0").level == "ok"
    assert_told([machine.versions((3, 10), "4.3.0")], "versions", "failed", "Python 3.11")
    assert_told([machine.versions((3, 12), "4.2.5")], "versions", "failed", "supervisor 4.3")
    assert_told([machine.versions((3, 12), "")], "versions", "failed", "none")
    assert machine.installed_versions().level == "ok"


def test_a_clock_that_nothing_sets() -> None:
    assert_told([machine.clock(5)], "clock", "warning", "NTP")
    assert machine.clock(0).level == machine.clock(-1).level == "ok"
    assert machine.clock_state() in range(-1, 6)


@pytest.fixture
def there(short_dir: Path) -> Settings:
    """Settings of a Junebug that has run."""
    settings = Settings(data_dir=str(short_dir / "var"), logging_path=str(short_dir / "logs"))
    for directory in (settings.run_dir, settings.log_dir, short_dir / "logs", short_dir / "var" / "redis"):
        directory.mkdir(parents=True, mode=0o700)
    return settings


def test_disks_that_are_full_or_no_place_to_write(there: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {each.level for each in machine.disks(there)} == {"ok"}
    file = Path(there.data_dir) / "file"
    file.touch()
    unusable = dataclasses.replace(there, logging_path=str(file / "logs"))
    assert_told(machine.disks(unusable), "disk of logging_path", "failed", "chown")
    for little, least, level in ((2**60, 0, "warning"), (2**60, 2**60, "failed")):
        monkeypatch.setattr(machine, "LITTLE", little)
        monkeypatch.setattr(machine, "TOO_LITTLE", least)
        assert_told(machine.disks(there), "disk of data_dir", level, "free it")
    monkeypatch.setattr(machine, "LITTLE", 0)
    monkeypatch.setattr(machine, "TOO_LITTLE", 0)
    monkeypatch.setattr(machine, "FEW_INODES", 2**60)
    assert_told(machine.disks(there), "disk of logging_path", "warning", "log lines are lost")


def test_secret_files_that_others_may_read(there: Settings) -> None:
    assert {each.level for each in machine.files(there)} == {"ok"}
    for name in machine.SECRET_FILES:
        path = Path(there.data_dir) / name
        if path.suffix:
            path.parent.mkdir(exist_ok=True)
            path.touch(0o600)
        before = path.stat().st_mode if path.exists() else 0
        if not before:
            continue
        path.chmod(0o644)
        assert_told(machine.files(there), "files", "failed", name)
        path.chmod(before & 0o777)
    assert {each.level for each in machine.files(there)} == {"ok"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_files_of_another_user(there: Settings) -> None:
    started_as_root = Path(there.logging_path) / "channel"
    started_as_root.touch()
    os.chown(started_as_root, 12345, -1)
    assert_told(machine.files(there), "owner", "failed", "chown")
    for path in (Path(there.data_dir), there.run_dir, there.log_dir, Path(there.logging_path), Path(there.data_dir) / "redis"):
        os.chown(path, 12345, -1)
    assert_told(machine.files(there), "owner", "warning", "sudo -u")


def test_memory_that_is_to_be_merged(there: Settings, tmp_path: Path) -> None:
    switch = tmp_path / "run"
    assert machine.memory(there, switch).level == "ok"
    there = dataclasses.replace(there, merge_memory=True)
    assert_told([machine.memory(there, switch)], "memory", "warning", f"echo 1 > {switch}")
    for written, level in (("0\n", "warning"), ("2\n", "warning"), ("1\n", "ok")):
        switch.write_text(written)
        assert machine.memory(there, switch).level == level


def test_too_few_descriptors(there: Settings) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    there = dataclasses.replace(there, port=free_port())
    assert machine.descriptors(there, 3).level == "ok"
    assert_told([machine.descriptors(there, hard)], "open files", "failed", "LimitNOFILE")
    assert_told([machine.descriptors(dataclasses.replace(there, max_connections=hard), 1)], "open files", "failed")


async def test_ports_that_others_have(there: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        taken = dataclasses.replace(there, interface="127.0.0.1", port=port)
        door = dataclasses.replace(there.http_types, port=port, interface="127.0.0.1")
        other.settimeout(0.01)
        start = time.monotonic()
        assert_told(ports.check(taken), "port", "failed", "ss -ltnp")
        assert time.monotonic() - start < ports.TIMEOUT + 5
        assert_told(ports.check(dataclasses.replace(there, port=0, http_types=door)), "http_types.port", "failed", "ss -ltnp")
    assert_told(ports.check(taken), "port", "ok", "free")
    assert_told(ports.check(dataclasses.replace(taken, interface="192.0.2.1")), "port", "failed", "no address of this machine")


# --- settings ---------------------------------------------------------------------------------------------------------


@rows(
    ("changed", "tokens", "check", "level", "word"),
    [
        ({}, 0, "access", "ok", "this machine alone"), ({"interface": "0.0.0.0"}, 1, "access", "ok", "needs an API token"),
        ({"interface": "0.0.0.0"}, 0, "access", "failed", "junebug tokens create"),
        ({"interface": ""}, 0, "access", "failed", "junebug tokens create"),
        ({"require_auth": True}, 0, "access", "failed", "admin_token"),
        ({"interface": "::", "admin_token": "x" * 30}, 0, "access", "ok", ""),
        ({"interface": "0.0.0.0"}, None, "access", "ok", ""),
        ({"interface": "0.0.0.0", "no_auth": True}, 5, "access", "warning", "may do everything"),
        ({"no_auth": True}, 5, "access", "ok", ""),
        ({"callback_allow": ["0.0.0.0/0"]}, 0, "callbacks", "warning", "0.0.0.0/0"),
        ({"callback_allow": ["::/0"]}, 0, "callbacks", "warning", "::/0"),
        ({"callback_allow": ["169.254.169.254/32"]}, 0, "callbacks", "warning", "169.254.0.0/16"),
        ({"callback_deny": []}, 0, "callbacks", "warning", "169.254.0.0/16"),
        ({"callback_deny": ["0.0.0.0/0", "::/0"], "callback_allow": ["10.0.0.0/8"]}, 0, "callbacks", "ok", ""),
        ({"allowed_hosts": ["*"]}, 0, "allowed_hosts", "warning", "name the hosts"),
    ],
)  # fmt: skip
def test_settings_that_are_dangerous(changed: dict[str, Any], tokens: int | None, check: str, level: str, word: str) -> None:
    assert_told(dangers.check(Settings(**changed), tokens), check, level, word)


@rows(
    ("interface", "expected"),
    [
        ("localhost", True), ("127.0.0.1", True), ("127.8.0.1", True), ("::1", True), ("::ffff:127.0.0.1", True),
        ("::ffff:7f08:1", True), ("", False), ("0.0.0.0", False), ("::", False), ("::ffff:0.0.0.0", False),
        ("192.0.2.1", False), ("::ffff:192.0.2.1", False), ("fe80::1", False), ("no.such.host.invalid", False),
        ("a" * 100, False),
    ],
)  # fmt: skip
def test_an_interface_that_only_this_machine_reaches(interface: str, expected: bool) -> None:
    """The doctor, the import check and the API once it listens there say the same."""
    assert dangers.is_loopback(interface) is expected
    told = [each.check for each in import_check._of_config(Settings(interface=interface))]
    assert told == ([] if expected else ["setting interface"])
    with ExitStack() as closed:
        try:
            sockets = [closed.enter_context(each) for each in bind(Settings(interface=interface, port=0))]
        except StartupError:
            assert not expected  # it is no address of this machine
        else:
            assert is_loopback(sockets) is expected


@rows(
    ("mode", "text", "level", "word"),
    [
        (0o644, "admin_token: a-secret-of-twenty-letters", "failed", "chmod o="),
        (0o604, "redis: {password: x}", "failed", "redis.password"),
        (0o640, "admin_token: a-secret-of-twenty-letters", "ok", ""), (0o644, "port: 8080", "ok", "no secrets"),
        (0o644, "amqp: {password: guest}", "ok", "no secrets"),
    ],
)  # fmt: skip
async def test_a_config_file_with_secrets(short_dir: Path, mode: int, text: str, level: str, word: str) -> None:
    path = short_dir / "junebug.yaml"
    path.write_text(text)
    path.chmod(mode)
    assert_told(dangers.config_file(str(path), command.read_file(str(path))), "config file", level, word)


async def test_settings_that_nothing_starts_with(short_dir: Path) -> None:
    path = short_dir / "junebug.yaml"
    wrong = {"prot: 8080": "unknown setting", "port: x": "port", "a: [": "YAML", "plugins: [{type: no.Such}]": "no.Such"}
    for text, word in wrong.items():
        path.write_text(text)
        assert_told(await examine(Given({}, {}, str(path))), "settings", "failed", word)
    nowhere = {"embedded": "true", "data_dir": str(short_dir)}
    assert_told(await examine(Given(nowhere, {}, None)), "embedded", "failed", "jb --embedded")


# --- channels ---------------------------------------------------------------------------------------------------------


@pytest.fixture
async def stores(settings: Settings) -> AsyncIterator[Stores]:
    opened = Stores(settings, 5)
    yield opened
    await opened.close()


async def test_channels_that_are_down_or_can_never_run(
    settings: Settings, stores: Stores, redis_server_shared: RedisServer
) -> None:
    assert_told(await channels.check(settings, stores), "channels", "ok", "none yet")
    specs = {
        "fine": {"type": "loopback", "config": {}},
        "gone": {"type": "vumi_thing", "config": {}},
        "wrong": {"type": "smpp", "config": {"system_id": "me"}},
        "no/id": {"type": "loopback", "config": {}},
        "down": {"type": "telnet", "label": "the lobby", "config": {"twisted_endpoint": "tcp:9001"}},
        "slow": {"type": "loopback", "config": {}},
    }
    routers = {
        "lost": {"type": "from_address", "config": {"channel": "nowhere"}},
        "strange": {"type": "no_such_router", "config": {}},
    }
    expected = {
        "channel gone": ("failed", "there is no such channel type"),
        "channel wrong": ("failed", "password"),
        "channel no/id": ("failed", "its id"),
        "channel down": ("failed", "Port 9001 is taken"),
        "channel slow": ("warning", "replay them"),
        "router lost": ("failed", "nowhere"),
        "router strange": ("failed", "no such router type"),
    }
    with redis.Redis(port=redis_server_shared.port, db=settings.redis.db) as link:
        link.sadd("channels", *specs)
        link.sadd("routers", *routers)
        for id, spec in {**specs, **routers}.items():
            link.set(f"{id}:properties", json.dumps(spec))
        down = {"status": "down", "type": "cannot_start", "message": "Port 9001 is taken", "component": "telnet", "details": {}}
        link.hset("down:status", "telnet", json.dumps(down))
        slow = {"status": "degraded", "type": "failing", "message": "no", "component": "callbacks", "details": {}}
        link.hset("slow:status", "callbacks", json.dumps(slow))
    findings = await channels.check(settings, stores)
    for check, (level, word) in expected.items():
        assert_told(findings, check, level, word)
    assert_told(findings, "supervisor", "warning", "data_dir")
    assert {each.check for each in findings} == {*expected, "supervisor"}


# --- all of it --------------------------------------------------------------------------------------------------------


async def test_with_dead_servers_all_the_rest_is_told(monkeypatch: pytest.MonkeyPatch, short_dir: Path) -> None:
    texts = {"redis.host": "127.0.0.1", "redis.port": str(free_port()), "amqp.port": str(free_port()), "data_dir": str(short_dir)}
    findings = await examine(Given(texts, {}, None))
    assert_told(findings, "redis", "failed", "start Redis, or correct redis.host, redis.port")
    assert_told(findings, "rabbitmq", "failed", "start RabbitMQ")
    assert_told(findings, "channels", "failed", "see the line on Redis")
    assert {each.check for each in findings} > {"versions", "settings", "port", "clock", "files", "open files"}


async def test_servers_that_hang_are_not_waited_for_for_long(monkeypatch: pytest.MonkeyPatch, short_dir: Path) -> None:
    monkeypatch.setattr(command, "REDIS_TIMEOUT", 0.3)
    monkeypatch.setattr(command, "AMQP_TIMEOUT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = str(deaf.getsockname()[1])
        texts = {"redis.host": "127.0.0.1", "redis.port": port, "amqp.port": port, "data_dir": str(short_dir)}
        began = time.monotonic()
        findings = await examine(Given(texts, {}, None))
        assert time.monotonic() - began < 20
    assert_told(findings, "redis", "failed", "did not answer within 0.3 s")
    assert_told(findings, "rabbitmq", "failed", "does not answer")


async def test_embedded_servers_are_those_of_the_jb_that_runs(
    own_redis: RedisServer, rabbitmq: RabbitmqServer, short_dir: Path
) -> None:
    (short_dir / "embedded-ports.json").write_text(json.dumps({"redis": own_redis.port, "amqp": rabbitmq.port}))
    for password, level, word in (("p" * 32, "ok", str(own_redis.port)), ("q" * 32, "failed", "redis.password")):
        (short_dir / "embedded-passwords.json").write_text(json.dumps({"redis": password, "amqp": "r" * 32}))
        with redis.Redis(port=own_redis.port) as link:
            if level == "ok":
                link.config_set("requirepass", password)
        findings = await examine(Given({"embedded": "true", "data_dir": str(short_dir), "port": str(free_port())}, {}, None))
        assert_told(findings, "redis", level, word)
        assert_told(findings, "rabbitmq", "failed", "amqp.username")  # it has no such user
        assert_told(findings, "files", "failed", "embedded-passwords.json")


async def test_a_check_that_fails_itself_hides_none_of_the_others(monkeypatch: pytest.MonkeyPatch, short_dir: Path) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(dangers, "check", lambda *_: (broken() for _ in "x"))
    texts = {"redis.port": str(free_port()), "redis.host": "127.0.0.1", "amqp.port": str(free_port()), "data_dir": str(short_dir)}
    findings = await examine(Given(texts, {}, None))
    assert any(each.level == "failed" and "ZeroDivisionError" in each.found for each in findings)
    assert "open files" in {each.check for each in findings}
