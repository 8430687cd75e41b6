"""Private Redis and RabbitMQ servers on free ports, as `jb --embedded` runs them. No test ever touches a system's."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from junebug.config.declaration import AmqpSettings
from junebug.embedded import LOOPBACK, ServerProgram, free_ports, rabbitmq_programs, redis_program
from tests.forkserver import Forked, forkserver

PORTS = (10_000, 20_000)
"""`jb --embedded` chooses others for its servers."""
MEMORY = Path("/dev/shm")
ROOM = 4 * 2**30
"""Bytes that must be free there for the servers to keep their data in memory: they are killed, the machine is not."""
START_TIMEOUT = 120.0
STOP_TIMEOUT = 10.0


class Server:
    """A server with its data directory; it can be killed, frozen, emptied and started again on the same port."""

    host = LOOPBACK

    def __init__(self, port: int, directory: Path | None = None) -> None:
        self.port = port
        in_memory = MEMORY if MEMORY.exists() and shutil.disk_usage(MEMORY).free >= ROOM else None
        self.directory = directory or Path(tempfile.mkdtemp(prefix="junebug-test-", dir=in_memory))
        self._processes: list[Forked] = []

    def programs(self) -> tuple[ServerProgram, ...]:
        raise NotImplementedError

    def start(self, *, wait: bool = True) -> Server:
        for program in self.programs():
            output = self.directory / f"{program.name}.out"
            path, *arguments = program.command
            environment = {**os.environ, **program.environment}
            self._processes.append(
                forkserver().start(path, arguments, cwd=self.directory, env=environment, stdout=output, stderr=output)
            )
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while not self.answers():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{type(self).__name__} on port {self.port} did not start: see {self.directory}")
            time.sleep(0.05)

    def answers(self) -> bool:
        raise NotImplementedError

    def signal(self, number: int) -> None:
        """SIGSTOP has stopped it when this returns: a thread goes on until the scheduler comes to it."""
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(number)
        if number == signal.SIGSTOP:
            deadline = time.monotonic() + STOP_TIMEOUT
            while not all(_is_stopped(process.pid) for process in self._processes):
                assert time.monotonic() < deadline, f"{type(self).__name__} does not stop"
                time.sleep(0.001)

    def kill(self) -> None:
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGKILL)
        for process in self._processes:
            process.wait(STOP_TIMEOUT)
        self._processes.clear()

    def stop(self) -> None:
        """In good order."""
        for process in reversed(self._processes):
            process.terminate()
            process.wait(START_TIMEOUT)
        self._processes.clear()

    def heal(self) -> None:
        """It answers when this returns, whatever was done to it."""
        self.signal(signal.SIGCONT)
        if not self.answers():
            self.restart()

    def restart(self) -> None:
        self.kill()
        self.start()

    def destroy(self) -> None:
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


def _is_stopped(pid: int) -> bool:
    """Whether every thread of the process is."""
    try:
        stats = [(task / "stat").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return False  # a thread that ended meanwhile
    return all(stat.rpartition(")")[2].split()[0] in "TZ" for stat in stats)


class RedisServer(Server):
    def programs(self) -> tuple[ServerProgram, ...]:
        program = redis_program(self.directory / "redis", self.port)
        # everysec may hold back a write while it syncs: a kill at that moment would lose what was acknowledged
        # and a replica is given the data at once, not five seconds later, when others might want it, too
        own = ("--databases", "10000", "--appendfsync", "always", "--repl-diskless-sync-delay", "0")
        return (ServerProgram("redis", (*program.command, *own), program.environment, priority=0),)

    def answers(self) -> bool:
        try:
            with socket.create_connection((self.host, self.port), 1) as link:
                link.sendall(b"PING\r\n")
                link.settimeout(1)
                return link.recv(16).startswith(b"+PONG")
        except OSError:
            return False


class RabbitmqServer(Server):
    """`vhost`: the one that whoever uses the server now is to use."""

    vhost = "/"
    password = ""
    """As rabbitmq_programs has it."""

    def __init__(self, ports: tuple[int, int, int], directory: Path | None = None) -> None:
        super().__init__(ports[0], directory)
        self.ports = ports

    def programs(self) -> tuple[ServerProgram, ...]:
        return rabbitmq_programs(self.directory / "rabbitmq", *self.ports, self.password)

    @property
    def settings(self) -> AmqpSettings:
        return AmqpSettings(hostname=self.host, port=self.port, vhost=self.vhost)

    @contextmanager
    def own_vhost(self) -> Iterator[None]:
        """Inside, the server may be killed and frozen; nothing is left of what is done there."""
        self.vhost = f"test-{uuid.uuid4().hex[:8]}"
        self._erlang(f'rabbit_vhost:add(<<"{self.vhost}">>, <<"test">>)')
        all = ", ".join(['<<".*">>'] * 3)
        self._erlang(
            f'rabbit_auth_backend_internal:set_permissions(<<"guest">>, <<"{self.vhost}">>, {all}, <<"test">>)'
        )
        try:
            yield
        finally:
            self.heal()
            self._erlang(f'rabbit_vhost:delete(<<"{self.vhost}">>, <<"test">>)')
            self.vhost = "/"

    def queues(self) -> set[str]:
        """Names of all queues of the vhost."""
        listed = f'[binary_to_list(element(4, Q)) || Q <- rabbit_amqqueue:list_names(<<"{self.vhost}">>)]'
        return set(re.findall(r'"([^"]+)"', self._erlang(listed)))

    def alarm(self, on: bool) -> None:
        """It is short of memory, or no more: it reads nothing from connections that publish."""
        self._erlang(f"vm_memory_monitor:set_vm_memory_high_watermark({0.000001 if on else 0.9:f})")

    def _erlang(self, expression: str) -> str:
        """The value of an expression, evaluated there. (rabbitmqctl does the same with a second of CPU.)"""
        _, node = self.programs()
        cookie = (self.directory / "rabbitmq" / ".erlang.cookie").read_text()
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            done = subprocess.run(
                ("erl_call", "-c", cookie, "-n", node.environment["RABBITMQ_NODENAME"], "-e"),
                env={**os.environ, **node.environment},
                input=f"{expression}.\n",
                capture_output=True,
                text=True,
                timeout=60,
            )
            if done.returncode == 0 or time.monotonic() > deadline:  # a node that is busy lets nobody in for a moment
                break
            time.sleep(0.1)
        assert done.stdout.startswith("{ok, "), (expression, done.stdout, done.stderr)
        return done.stdout

    def answers(self) -> bool:
        """It sends Connection.Start to whoever says the protocol's header."""
        try:
            with socket.create_connection((self.host, self.port), 1) as link:
                link.sendall(b"AMQP\x00\x00\x09\x01")
                link.settimeout(2)
                return link.recv(16).startswith(b"\x01\x00\x00")
        except OSError:
            return False


_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_given_ports: set[int] = set()


def free_port() -> int:
    """A loopback port that nobody listens on, and that no other test, server of the tests or `jb --embedded` is given, in this
    process or another of xdist's.

    Some time passes until somebody listens on it: chance alone would give one twice in every tenth run.
    """
    while True:
        (port,) = free_ports(1, PORTS)
        if port % _WORKERS == _WORKER and port not in _given_ports:
            _given_ports.add(port)
            return port


def redis_server(directory: Path | None = None) -> RedisServer:
    return RedisServer(free_port(), directory)


def rabbitmq_server(directory: Path | None = None) -> RabbitmqServer:
    first, second, third = free_port(), free_port(), free_port()
    return RabbitmqServer((first, second, third), directory)
