"""A `jb` between servers of its own, as the benchmark needs it: started, asked over HTTP, looked at through /proc."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Self

import orjson

from junebug.embedded import free_ports, rabbitmq_programs, redis_program

TIMEOUT = 120.0
POLL = 0.005
PATIENCE = 5


class Servers:
    """A private Redis and RabbitMQ."""

    def __enter__(self) -> Self:
        self.directory = Path(tempfile.mkdtemp(prefix="jb-bench-"))
        self.redis_port, self.amqp_port, dist, epmd = free_ports(4)
        programs = (
            redis_program(self.directory / "redis", self.redis_port),
            *rabbitmq_programs(self.directory / "rabbitmq", self.amqp_port, dist, epmd),
        )
        quiet = subprocess.DEVNULL
        self._processes = {
            each.name: subprocess.Popen(
                each.command, env={**os.environ, **each.environment}, stdin=quiet, stdout=quiet, stderr=quiet
            )
            for each in programs
        }
        deadline = time.monotonic() + TIMEOUT
        while not (_listens(self.redis_port) and _listens(self.amqp_port)):
            if time.monotonic() > deadline:
                raise TimeoutError("Redis or RabbitMQ did not start")
            time.sleep(0.1)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait(30)
        shutil.rmtree(self.directory, ignore_errors=True)

    def processes(self) -> dict[str, list[int]]:
        """Name -> pid, as Junebug.processes has it."""
        return {name: [process.pid] for name, process in self._processes.items()}


class Junebug:
    """`jb` running; its process titles tell which process is which."""

    def __init__(self, servers: Servers, *flags: str, command: str = "jb") -> None:
        (self.port,) = free_ports(1)
        self._directory = servers.directory
        self._command = [
            str(Path(sys.executable).parent / command),
            *("--interface", "127.0.0.1", "--port", str(self.port)),
            *("--redis-port", str(servers.redis_port), "--amqp-port", str(servers.amqp_port)),
            *("--data-dir", str(servers.directory / "var"), "--logging-path", str(servers.directory / "logs")),
            *flags,
        ]

    async def __aenter__(self) -> Self:
        with (self._directory / "jb.out").open("ab") as output:
            self._process = subprocess.Popen(self._command, stdout=output, stderr=output)
        await self.listening([self.port])
        return self

    @property
    def pid(self) -> int:
        """Of the command itself."""
        return self._process.pid

    async def __aexit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(self._process.wait, TIMEOUT)

    # --- over HTTP ----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        connection = Connection(*await asyncio.open_connection("127.0.0.1", self.port))
        yield connection
        connection.close()

    async def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        async with self.connection() as connection:
            for _ in range(PATIENCE):
                status, answer = await connection.request(method, path, body)
                if status != 503:
                    break  # else RabbitMQ is busy making queues: as a client would, we ask again
        if status >= 300:
            raise RuntimeError(f"{method} {path}: {status} {answer!r}")
        return dict(orjson.loads(answer))

    async def settled(self, channel: str) -> None:
        """Until its worker says that it runs."""
        await _until(lambda: self._runs(channel))

    async def _runs(self, channel: str) -> bool:
        found = (await self.call("GET", f"/channels/{channel}"))["result"]["status"]["components"].get("worker", {})
        pids = self.processes().get(f"channel:{channel}")
        return found.get("type") == "running" and pids == [found["details"].get("pid")]

    # --- from outside -------------------------------------------------------------------------------------------------

    async def listening(self, ports: list[int]) -> None:
        """Seen from the kernel: who connected to look would be a phone."""
        waiting = set(ports)

        async def all_listen() -> bool:
            return waiting <= _listening_ports()

        await _until(all_listen)

    async def gone(self, pid: int) -> None:
        async def is_gone() -> bool:
            return not Path(f"/proc/{pid}").exists()  # reaped: before that, a thread of it may still hold its port

        await _until(is_gone)

    async def idle(self) -> None:
        """Until its processes use hardly any processor time."""

        async def is_idle() -> bool:
            before = self._cpu()
            await asyncio.sleep(1.0)
            return self._cpu() - before < 0.2

        await _until(is_idle)

    def _cpu(self) -> float:
        used = 0.0
        for pids in self.processes().values():
            for pid in pids:
                with suppress(OSError):
                    used += cpu_seconds(pid)
        return used

    def processes(self) -> dict[str, list[int]]:
        """Title without `junebug: ` -> pids, of this jb and its children."""
        found: dict[str, list[int]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and (title := _title(int(entry.name))).startswith("junebug: "):
                pid = int(entry.name)
                if self._process.pid in (pid, _parent(pid)):
                    found.setdefault(title.removeprefix("junebug: "), []).append(pid)
        return found

    def pss(self, pids: list[int]) -> int:
        """Proportional set size in bytes."""
        total = 0
        for pid in pids:
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        return total


class Connection:
    """A kept-alive HTTP/1.1 connection that costs the load generator as little as can be."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def request(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, bytes]:
        data = orjson.dumps(body) if body is not None else b""
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n"
        self._writer.write(head.encode() + data)
        headers = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), TIMEOUT)
        length = next(int(line[15:]) for line in headers.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        return int(headers[9:12]), await self._reader.readexactly(length)

    def close(self) -> None:
        self._writer.close()


def cpu_seconds(pid: int) -> float:
    """That the process has used. Raises OSError when it is gone."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _listening_ports() -> set[int]:
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return {int(local.rpartition(":")[2], 16) for _, local, _, state, *_ in map(str.split, lines) if state == "0A"}


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").strip().decode(errors="replace")
    except OSError:
        return ""


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


async def _until(check: Any) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not await check():
        if time.monotonic() > deadline:
            raise TimeoutError("the benchmark waited too long; is the machine busy?")
        await asyncio.sleep(POLL)
