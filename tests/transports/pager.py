"""The other side of the example package's type: a paging provider."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from tests.polling import eventually
from tests.transports.kit import Provider
from tests.transports.running import Running

PACKAGE = Path(__file__).parent / "example_package"


def install_package(directory: Path) -> Path:
    """As `pip install` does, but to a directory of the test's own."""
    source = directory / "source"
    subprocess.run(["cp", "-r", PACKAGE, source], check=True)  # setuptools leaves its build there
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index")
    subprocess.run([*pip, "--target", directory / "installed", source], check=True, capture_output=True)
    return directory / "installed"


class PagerServer:
    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.port = 0
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Again on the same port."""
        self._server = await asyncio.start_server(self._client, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    def say(self, sender: str, text: str) -> None:
        for writer in self._writers:
            writer.write(json.dumps({"from": sender, "text": text}).encode() + b"\n")

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if json.loads(await reader.readline() or b"{}").get("login") == "sesame-of-the-pager":
            writer.write(b'{"welcome": true}\n')
            self._writers.add(writer)
        else:
            writer.write(b'{"welcome": false}\n')
        try:
            while line := await reader.readline():
                self.got.append(json.loads(line))
                refused = "!" in self.got[-1]["to"]
                answer = {"refused": self.got[-1]["id"], "why": "no such pager"} if refused else {"accepted": self.got[-1]["id"]}
                writer.write(json.dumps(answer).encode() + b"\n")
        except OSError:
            pass
        self._writers.discard(writer)
        writer.transport.abort()


class Pager(Provider):
    """Its `channel_type` is what the installed entry point names."""

    is_up = ("pager", "connected")
    person = "somebody"
    largest = 1000
    endless = (b'{"from": "', b"x" * 65_536)
    hostile = (b'{"welcome": true}\n[]\n{"accepted": {}}\n{"from": 5}\n' + b"[" * 50_000 + b"\n" + b"x" * 70_000,)

    async def __aenter__(self) -> Self:
        self.server = PagerServer()
        await self.server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.server.stop()

    def config(self) -> dict[str, Any]:
        return {
            "host": "127.0.0.1", "port": self.server.port, "password": "sesame-of-the-pager", "initial_reconnect_delay": 0.1,
            "max_reconnect_delay": 0.3,
        }  # fmt: skip

    def config_at(self, port: int, patience: float = 0.2) -> dict[str, Any]:
        return {**self.config(), "port": port, "timeout": patience}

    def refused(self) -> dict[str, Any]:
        return {**self.config(), "password": "a-wrong-password"}

    async def say(self, text: str, running: Running) -> None:
        self.server.say(self.person, text)

    async def hears(self, text: str, running: Running) -> None:
        await eventually(lambda: text in [each["text"] for each in self.server.got], what=repr(text))

    async def go(self) -> None:
        await self.server.stop()

    async def come_back(self) -> None:
        await self.server.start()
