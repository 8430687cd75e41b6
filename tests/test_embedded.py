"""The embedded servers: ports, and what is said when a binary is missing."""

from __future__ import annotations

import json
import resource
import socket
from pathlib import Path

import pytest

from junebug import embedded
from junebug.config.declaration import Settings
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
    assert (settings.redis.host, settings.redis.password) == ("127.0.0.1", None)
    assert (settings.amqp.hostname, settings.amqp.vhost, settings.amqp.username) == ("127.0.0.1", "/", "guest")


@pytest.mark.parametrize(("missing", "package"), [("redis-server", "redis-server"), ("epmd", "rabbitmq-server")])
def test_a_missing_server_is_named_with_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str, package: str
) -> None:
    found = embedded.shutil.which
    monkeypatch.setattr(embedded.shutil, "which", lambda name: None if name == missing else found(name))
    with pytest.raises(StartupError, match=f"apt-get install {package}"):
        embedded.embed(Settings(data_dir=str(tmp_path)))


def test_free_ports_are_different_and_not_the_kernels() -> None:
    ports = embedded.free_ports(400)
    assert len(set(ports)) == 400
    assert all(embedded.PORTS[0] <= port < embedded.PORTS[1] for port in ports)


def test_the_descriptor_limit_of_a_server_is_found(rabbitmq: RabbitmqServer) -> None:
    assert embedded.descriptor_limit(rabbitmq.port) == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    (nobody,) = embedded.free_ports(1)
    assert embedded.descriptor_limit(nobody) is None
