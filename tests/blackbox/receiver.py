"""An application that fails: its URLs /mo, /event and /status, every way in which they can fail, and what it has got.

It knows what it has taken (stored, as an application does) and what of that it could tell: where the answer got lost,
or Junebug had hung up before it read it (its callback_timeout was over, on a machine under load), that may send it again.
Whatever it has told it should see once only.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, Self

from aiohttp import web

from tests.harness import free_port

WAYS = ("dead", "hanging", "slow", "500", "503", "half-way", "10 MB", "400")
"""Nobody listens; no answer at all; answers after 0.2 to 1.4 s; 500; 503 with Retry-After; the connection closed half-way
through the status line; a 200 of 10 MB; 400 twice to each.
"""
REFUSALS = 2
BLOCK = b"x" * 65536
HUGE = 160 * len(BLOCK)

Key = tuple[str, ...]
"""("mo", content) or ("event", message_id, event_type)."""


class Receiver:
    """`async with Receiver() as application`. What is counted are MOs with a content, and events."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.host = host
        self.port = free_port()
        self.way = ""
        """How it fails at present; empty: it works."""
        self.taken: Counter[Key] = Counter()
        self.senders: set[str] = set()
        """Of MOs, those of a session's beginning too."""
        self.said: dict[str, list[str]] = {}
        """Sender -> what it said, in the order in which it came here first."""
        self.details: dict[Key, dict[str, Any]] = {}
        """Event -> its event_details, where there are any."""
        self.failed = 0
        """Calls that it knows to have failed."""
        self.untold = 0
        """Calls that it took, but could not surely tell so."""
        self.needless = 0
        """Calls for what it had taken and told before."""
        self._told: dict[str, asyncio.Transport | None] = {}
        """What it has told by which connection; None: surely."""
        self._refused: Counter[str] = Counter()
        self._changed = asyncio.Event()
        self._runner: web.ServerRunner | None = None

    async def __aenter__(self) -> Self:
        await self._start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._changed.set()
        await self._stop()

    def url(self, path: str) -> str:
        return f"http://{self.host}:{self.port}{path}"

    @asynccontextmanager
    async def failing(self, way: str) -> AsyncIterator[None]:
        """Fail in this way for as long as the block lasts."""
        self.way = way
        if way == "dead":
            await self._stop()
        try:
            yield
        finally:
            self.way = ""
            self._changed.set()
            self._changed = asyncio.Event()
            if way == "dead":
                await self._start()

    def missing(self, owed: Iterable[Key]) -> list[Key]:
        return [key for key in owed if key not in self.taken]

    @property
    def repeats(self) -> int:
        """Calls that it took and that it had taken before."""
        return self.taken.total() - len(self.taken)

    async def _start(self) -> None:
        self._runner = web.ServerRunner(web.Server(self._handle, access_log=None), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, self.host, self.port, reuse_address=True).start()

    async def _stop(self) -> None:
        if self._runner:
            for identity in self._told:
                if self._heard(identity):
                    self._told[identity] = None
            await self._runner.cleanup()
            self._runner = None

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = json.loads(await request.read())
        key = self._key(request.path, body)
        identity = request.headers.get("Webhook-Id") or repr(key or body)
        way = self.way
        if way == "hanging":
            self.failed += 1
            await self._changed.wait()
            return _cut(request)
        if way in ("500", "503") or (way == "400" and self._refused[identity] < REFUSALS):
            self.failed += 1
            self._refused[identity] += 1
            return web.Response(status=int(way), headers={"Retry-After": "1"} if way == "503" else {})
        self._take(key, body, identity)
        self.untold += 1
        if way == "half-way":
            assert request.transport
            request.transport.write(b"HTTP/1.1 2")
            return _cut(request)
        if way == "slow":
            await asyncio.sleep(random.uniform(0.2, 1.4))
        connection = request.transport
        await _answer(request, HUGE if way == "10 MB" else 0)
        if connection:
            self.untold -= 1
            self._told[identity] = connection
        return web.Response()

    def _heard(self, identity: str) -> bool:
        """Whether what it told was read: who gives up a call hangs up, who has its answer keeps the connection."""
        connection = self._told[identity]
        return connection is None or not connection.is_closing()

    def _key(self, path: str, body: dict[str, Any]) -> Key | None:
        if path == "/event":
            return ("event", body["message_id"], body["event_type"])
        if path == "/mo":
            self.senders.add(body["from"])
            if body["content"] is not None:
                return ("mo", body["content"])
        return None

    def _take(self, key: Key | None, body: dict[str, Any], identity: str) -> None:
        if identity in self._told:
            if self._heard(identity):
                self.needless += 1
            else:
                self.untold += 1
        if key is None:
            return
        self.taken[key] += 1
        if self.taken[key] == 1:
            if key[0] == "mo":
                self.said.setdefault(body["from"], []).append(body["content"])
            elif body["event_details"]:
                self.details[key] = body["event_details"]


async def _answer(request: web.BaseRequest, size: int) -> None:
    """200 with so many bytes, on the wire when this returns (or the other side has had enough)."""
    response = web.StreamResponse(headers={"Content-Length": str(size)})
    try:
        await response.prepare(request)
        for _ in range(size // len(BLOCK)):
            await response.write(BLOCK)
        await response.write_eof()
    except ConnectionError:
        pass


def _cut(request: web.BaseRequest) -> web.Response:
    if request.transport:
        request.transport.abort()
    return web.Response()
