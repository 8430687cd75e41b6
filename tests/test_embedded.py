"""The embedded servers: ports, and what is said when a binary is missing."""

from __future__ import annotations

import json
import resource
import socket
import stat
from pathlib import Path

import pytest

from junebug import embedded, erlang_modules
from junebug.amqp.broker import Broker, check
from junebug.config.declaration import AmqpSettings, Settings
from junebug.config.load import load
from junebug.errors import StartupError
from tests.servers import RabbitmqServer


def test_ports_are_kept_between_runs_while_they_are_free(tmp_path: Path) -> None:
    settings = Settings(data_dir=str(tmp_path))
    first, _ = embedded.embed(settings)
    second, programs = embedded.embed(settings)
    assert (first.redis, first.amqp) == (second.redis, second.amqp)
    assert [program.name for program in programs] == ["redis", "epmd", "rabbitmq"]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", first.redis.port))
        taken.listen()
        third, _ = embedded.embed(settings)
    assert third.redis.port != first.redis.port
    assert third.amqp.port == first.amqp.port


def test_a_spoilt_memory_of_ports_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "embedded-ports.json").write_text(json.dumps({"redis": "x", "amqp": 10**6, "dist": -1}))
    settings, _ = embedded.embed(Settings(data_dir=str(tmp_path)))
    assert embedded.PORTS[0] <= settings.redis.port < embedded.PORTS[1]


def test_the_settings_of_other_servers_do_not_reach_the_embedded_ones(tmp_path: Path) -> None:
    elsewhere = {"redis.host": "elsewhere", "redis.password": "x", "amqp.hostname": "elsewhere", "amqp.vhost": "/v"}
    settings, _ = embedded.embed(load({"data_dir": str(tmp_path), **elsewhere}))
    assert settings.redis.host == "127.0.0.1"
    assert (settings.amqp.hostname, settings.amqp.vhost, settings.amqp.username) == ("127.0.0.1", "/", "junebug")
    passwords = {settings.redis.password, settings.amqp.password}
    assert len(passwords) == 2
    assert all(password and len(password) == 64 for password in passwords)


def test_passwords_are_kept_are_nobody_elses_and_stand_on_no_command_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    settings, programs = embedded.embed(Settings(data_dir=str(tmp_path)))
    secrets = (settings.redis.password or "", settings.amqp.password or "")
    again, _ = embedded.embed(Settings(data_dir=str(tmp_path)))
    assert (again.redis.password, again.amqp.password) == secrets
    assert embedded.running(Settings(data_dir=str(tmp_path))) == again
    assert not any(secret in word for program in programs for word in (*program.command, *program.environment.values())
                   for secret in secrets)  # fmt: skip
    holding = [path for path in tmp_path.rglob("*") if path.is_file() and any(each in path.read_text() for each in secrets)]
    assert {path.name for path in holding} == {"embedded-passwords.json", "redis.conf"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in holding} == {0o600}
    assert stat.S_IMODE((tmp_path / "rabbitmq" / "definitions.json").stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"redis": 1}', '{"redis": "", "amqp": "x"}'])
def test_spoilt_passwords_are_made_anew(tmp_path: Path, text: str) -> None:
    (tmp_path / "embedded-passwords.json").write_text(text)
    settings, _ = embedded.embed(Settings(data_dir=str(tmp_path)))
    assert len(settings.redis.password or "") == len(settings.amqp.password or "") == 64
    assert embedded.running(Settings(data_dir=str(tmp_path))).redis == settings.redis


def test_where_no_embedded_jb_has_run_none_is_found(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="data_dir"):
        embedded.running(Settings(data_dir=str(tmp_path)))


async def test_a_rabbitmq_that_had_guest_has_it_no_more(tmp_path: Path) -> None:
    """Of a Junebug that left it: what is in its queues stays."""
    ports = embedded.free_ports(3)
    server = RabbitmqServer((ports[0], ports[1], ports[2]), tmp_path)
    try:
        server.start()
        broker = Broker(AmqpSettings(port=server.port), "before")
        broker.start()
        await broker.wait_connected(20)
        await broker.declare({"kept": {}})
        await broker.publish("kept", b"{}")
        await broker.close()
        server.stop()  # as the older Junebug did: killed in its first seconds RabbitMQ 3.10 may lose the queue itself
        server.password = "a password"
        server.start()
        await check(AmqpSettings(port=server.port, username="junebug", password="a password"), 20)
        with pytest.raises(StartupError, match="amqp"):
            await check(AmqpSettings(port=server.port), 20)
        broker = Broker(AmqpSettings(port=server.port, username="junebug", password="a password"), "after")
        broker.start()
        await broker.wait_connected(20)
        assert await broker.queue_length("kept") == 1
        await broker.close()
    finally:
        server.kill()


@pytest.mark.parametrize(("missing", "package"), [("redis-server", "redis-server"), ("epmd", "rabbitmq-server")])
def test_a_missing_server_is_named_with_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str, package: str
) -> None:
    found = embedded.shutil.which
    monkeypatch.setattr(embedded.shutil, "which", lambda name: None if name == missing else found(name))
    with pytest.raises(StartupError, match=f"apt-get install {package}"):
        embedded.embed(Settings(data_dir=str(tmp_path)))


def test_rabbitmq_is_started_with_what_it_needs_alone_and_loads_that_at_once(tmp_path: Path) -> None:
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "rabbit-0.1").symlink_to(tmp_path / "no_more")
    for _ in range(2):
        environment = erlang_modules.boot_environment(embedded.RABBITMQ_SCRIPT, plugins)
        assert environment["RABBITMQ_PLUGINS_DIR"] == str(plugins)
        needed = {each.name.partition("-")[0] for each in plugins.iterdir()}
        assert {"rabbit", "rabbit_common", "ra", "ranch"} <= needed
        assert not {"rabbitmq_management", "rabbit-0.1", "rabbit-0"} & needed
        assert all((each / "ebin").is_dir() for each in plugins.iterdir())
        first, *modules, _, last = environment["RABBITMQ_BOOT_MODULE"].split()
        assert (first, last) == ("code", "rabbit")
        assert {"ensure_modules_loaded", "rabbit_channel", "mnesia", "gen_server"} <= set(modules)


def test_a_rabbitmq_that_is_laid_out_otherwise_starts_as_it_does(tmp_path: Path) -> None:
    assert erlang_modules.boot_environment(str(tmp_path / "opt" / "sbin" / "rabbitmq-server"), tmp_path / "plugins") == {}
    assert not (tmp_path / "plugins").exists()


def test_free_ports_are_different_and_not_the_kernels() -> None:
    ports = embedded.free_ports(400)
    assert len(set(ports)) == 400
    assert all(embedded.PORTS[0] <= port < embedded.PORTS[1] for port in ports)


def test_the_descriptor_limit_of_a_server_is_found(rabbitmq: RabbitmqServer) -> None:
    assert embedded.descriptor_limit(rabbitmq.port) == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    (nobody,) = embedded.free_ports(1)
    assert embedded.descriptor_limit(nobody) is None
