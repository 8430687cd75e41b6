"""Private Redis and RabbitMQ servers on free ports, as `jb --embedded` runs them. No test ever touches a system's."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from junebug.embedded import LOOPBACK, RABBITMQ_SCRIPT, ServerProgram, free_ports, rabbitmq_programs, redis_program

START_TIMEOUT = 60.0
RABBITMQCTL = (str(Path(RABBITMQ_SCRIPT).with_name("rabbitmqctl")), "--silent")


class Server:
    """A server with its data directory; it can be killed, frozen, emptied and started again on the same port."""

    host = LOOPBACK

    def __init__(self, port: int, directory: Path | None = None) -> None:
        self.port = port
        self.directory = directory or Path(tempfile.mkdtemp(prefix="junebug-test-"))
        self._processes: list[subprocess.Popen[bytes]] = []

    def programs(self) -> tuple[ServerProgram, ...]:
        raise NotImplementedError

    def start(self, *, wait: bool = True) -> Server:
        for program in self.programs():
            output = (self.directory / f"{program.name}.out").open("ab")
            self._processes.append(
                subprocess.Popen(
                    program.command,
                    env={**os.environ, **program.environment},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    cwd=self.directory,
                    start_new_session=True,
                )
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
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(number)

    def kill(self) -> None:
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGKILL)
        for process in self._processes:
            process.wait(10)
        self._processes.clear()

    def restart(self) -> None:
        self.kill()
        self.start()

    def destroy(self) -> None:
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


class RedisServer(Server):
    def programs(self) -> tuple[ServerProgram, ...]:
        program = redis_program(self.directory / "redis", self.port)
        # everysec may hold back a write while it syncs: a kill at that moment would lose what was acknowledged
        own = ("--databases", "10000", "--appendfsync", "always")
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
    def __init__(self, ports: tuple[int, int, int], directory: Path | None = None) -> None:
        super().__init__(ports[0], directory)
        self.ports = ports

    def programs(self) -> tuple[ServerProgram, ...]:
        return rabbitmq_programs(self.directory / "rabbitmq", *self.ports)

    def queues(self) -> set[str]:
        """Names of all queues that there are."""
        _, node = self.programs()
        command = (*RABBITMQCTL, "list_queues", "name")
        listed = subprocess.run(
            command, env={**os.environ, **node.environment}, capture_output=True, text=True, timeout=60, check=True
        )
        return set(listed.stdout.split())

    def answers(self) -> bool:
        """It sends Connection.Start to whoever says the protocol's header."""
        try:
            with socket.create_connection((self.host, self.port), 1) as link:
                link.sendall(b"AMQP\x00\x00\x09\x01")
                link.settimeout(2)
                return link.recv(16).startswith(b"\x01\x00\x00")
        except OSError:
            return False


def redis_server(directory: Path | None = None) -> RedisServer:
    return RedisServer(free_ports(1)[0], directory)


def rabbitmq_server(directory: Path | None = None) -> RabbitmqServer:
    first, second, third = free_ports(3)
    return RabbitmqServer((first, second, third), directory)
