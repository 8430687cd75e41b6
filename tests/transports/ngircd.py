"""A real IRC server, Debian's ngircd, with a configuration of its own on a free port; and somebody at a client."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
from typing import Any, Self

import pytest
from irctokens.line import Line, tokenise

from junebug.embedded import ServerProgram
from tests.polling import DEADLINE
from tests.servers import Server, free_port

PASSWORD = "sesame-of-the-network"
CONFIG = """
[Global]
Name = irc.example.net
Info = A server of the tests
Listen = 127.0.0.1
Ports = {port}
Password = {password}
MotdPhrase = "Hello"
MaxNickLength = 20
[Limits]
MaxConnections = 0
MaxConnectionsIP = 0
MaxPenaltyTime = 0
PingTimeout = 120
PongTimeout = 20
[Options]
DNS = no
Ident = no
PAM = no
[SSL]
CertFile = {directory}/server.pem
KeyFile = {directory}/server.key
Ports = {tls_port}
"""


class Ngircd(Server):
    def __init__(self) -> None:
        self.program = shutil.which("ngircd") or "/usr/sbin/ngircd"
        if not shutil.which(self.program):
            pytest.fail("there is no ngircd: etc/install-system-packages tests installs it")
        super().__init__(free_port())
        self.tls_port = free_port()
        certificate = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "server.key",
                       "-subj", "/CN=irc", "-addext", "subjectAltName=DNS:irc.example.net", "-out", "server.pem")  # fmt: skip
        subprocess.run(("openssl", *certificate), cwd=self.directory, check=True, capture_output=True)
        (self.directory / "ngircd.conf").write_text(
            CONFIG.format(port=self.port, tls_port=self.tls_port, password=PASSWORD, directory=self.directory)
        )
        for path in (self.directory, *self.directory.iterdir()):
            path.chmod(0o755 if path.is_dir() else 0o644)  # it gives up being root

    def programs(self) -> tuple[ServerProgram, ...]:
        command = (self.program, "--nodaemon", "--config", str(self.directory / "ngircd.conf"))
        return (ServerProgram("ngircd", command, {}, priority=0),)

    def answers(self) -> bool:
        try:
            with socket.create_connection((self.host, self.port), 1):
                return True
        except OSError:
            return False

    def config(self, **more: Any) -> dict[str, Any]:
        """Of a channel whose nickname is bot."""
        return {
            "network": self.host, "port": self.port, "nickname": "bot", "password": PASSWORD, "line_interval": 0,
            "initial_reconnect_delay": 0.1, "max_reconnect_delay": 0.5, **more,
        }  # fmt: skip


class Person:
    """Somebody at a client, logged in."""

    def __init__(self, server: Ngircd, nickname: str) -> None:
        self._server, self.nickname = server, nickname
        self.seen: list[Line] = []

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection(self._server.host, self._server.port)
        self.write(f"PASS {PASSWORD}", f"NICK {self.nickname}", f"USER {self.nickname} 0 * :{self.nickname}")
        await self.sees("001")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.transport.abort()

    def write(self, *lines: str) -> None:
        self._writer.write("".join(f"{line}\r\n" for line in lines).encode("utf-8", "surrogateescape"))

    async def sees(self, command: str, *parameters: str) -> Line:
        """The next line of that command whose parameters end so; those before it are in `seen`."""
        async with asyncio.timeout(DEADLINE):
            while True:
                octets = await self._reader.readuntil(b"\n")
                assert len(octets) <= 512, octets
                line = tokenise(octets.rstrip(b"\r\n"))
                self.seen.append(line)
                if line.command == "PING":
                    self.write(f"PONG :{line.params[-1]}")
                if line.command == command and (not parameters or tuple(line.params[-len(parameters) :]) == parameters):
                    return line

    async def join(self, channel: str) -> None:
        self.write(f"JOIN {channel}")
        await self.sees("JOIN", channel)
