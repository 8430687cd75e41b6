"""The API as a process: its sockets, its announcement, its end."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from junebug.api.sockets import bind
from junebug.config.declaration import Settings
from junebug.errors import StartupError

PROGRAM = """
import mmap, os, sys
from junebug.api.app import run
from junebug.api.sockets import bind
from junebug.config.declaration import AmqpSettings, RedisSettings, Settings
redis_port, amqp_port, directory, process = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
from junebug.runtime.heartbeat import Heartbeat, adopt
os.makedirs(directory, exist_ok=True)
beats = open(directory + "/beats", "w+b")
beats.truncate(mmap.PAGESIZE)
adopt(Heartbeat(mmap.mmap(beats.fileno(), mmap.PAGESIZE), 0))
settings = Settings(interface="127.0.0.1", port=0, redis=RedisSettings(port=redis_port),
                    amqp=AmqpSettings(port=amqp_port), data_dir=directory, logging_path=directory)
sys.exit(run(settings, bind(settings), process))
"""


def test_localhost_is_both_loopbacks_on_one_port() -> None:
    sockets = bind(Settings(interface="localhost", port=0))
    try:
        assert sockets[0].getsockname()[0] == "127.0.0.1"
        assert len({each.getsockname()[1] for each in sockets}) == 1
        for each in sockets:
            socket.create_connection(each.getsockname()[:2], 1).close()
    finally:
        for each in sockets:
            each.close()


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        for interface in ("localhost", "127.0.0.1"):
            with pytest.raises(StartupError, match=f"^port: {port} on {interface} is in use: .* --port"):
                bind(Settings(interface=interface, port=port))


def test_a_port_in_use_on_the_other_loopback_is_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    if not socket.has_ipv6 or not Path("/proc/net/if_inet6").exists():
        pytest.skip("no IPv6 here")
    with socket.socket(socket.AF_INET6) as other:
        other.bind(("::1", 0))
        other.listen()
        with pytest.raises(StartupError, match="in use"):
            bind(Settings(interface="localhost", port=other.getsockname()[1]))


@pytest.mark.parametrize("interface", ["192.0.2.1", "no.such.host.invalid", "a" * 100])
def test_an_interface_that_is_not_ours_is_named(interface: str) -> None:
    with pytest.raises(StartupError, match="^interface"):
        bind(Settings(interface=interface, port=0))


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout
        process.stdout.close()


def start(
    processes: list[subprocess.Popen[str]], settings: Settings, process: str = "api", redis_port: int | None = None
) -> subprocess.Popen[str]:
    arguments = [str(redis_port or settings.redis.port), str(settings.amqp.port), settings.data_dir, process]
    environment = {**os.environ, "JUNEBUG_DISABLE_LOGGING": "true"}
    processes.append(
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *arguments], stdout=subprocess.PIPE, text=True, env=environment
        )
    )
    return processes[-1]


def announced_port(process: subprocess.Popen[str]) -> int:
    assert process.stdout
    line = process.stdout.readline()
    assert line.startswith("Junebug is listening on http://127.0.0.1:"), line
    return int(line.rpartition(":")[2])


def last_beat(settings: Settings) -> float:
    beats = Path(settings.data_dir) / "beats"
    return float(struct.unpack("d", beats.read_bytes()[:8])[0]) if beats.exists() and beats.stat().st_size else 0.0


def status_of(port: int, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_announces_itself_answers_beats_and_ends_when_told(
    processes: list[subprocess.Popen[str]], settings: Settings, number: signal.Signals
) -> None:
    process = start(processes, settings)
    port = announced_port(process)
    assert status_of(port, "/health") == 200
    assert time.time() - last_beat(settings) < 5
    idle = socket.create_connection(("127.0.0.1", port))
    process.send_signal(number)
    assert process.wait(10) == 0
    idle.close()
    assert process.stdout
    assert process.stdout.read() == ""  # announced once


def test_only_the_first_of_several_announces_itself(
    processes: list[subprocess.Popen[str]], settings: Settings
) -> None:
    process = start(processes, settings, "api:2")
    deadline = time.monotonic() + 20
    while not last_beat(settings) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.terminate()
    assert process.wait(10) == 0
    assert process.stdout
    assert process.stdout.read() == ""


def test_without_redis_it_listens_anyway(processes: list[subprocess.Popen[str]], settings: Settings) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound, not listening: refused
        process = start(processes, settings, redis_port=nobody.getsockname()[1])
        port = announced_port(process)
        assert status_of(port, "/health") == 503
        assert status_of(port, "/channels/") == 503
        process.terminate()
        assert process.wait(10) == 0
