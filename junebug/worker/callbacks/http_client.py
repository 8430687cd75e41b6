"""POSTs over HTTP/1.1 that nothing which a server answers can break, fill or hold: see answer.py, which reads it.

Connections are kept for the next call of the same host. Redirects and what an answer means are webhook.py's affair.
"""

from __future__ import annotations

import asyncio
import functools
import os
import socket
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from aiohappyeyeballs import AddrInfoType, start_connection

from junebug.model.urls import CONTROL, HttpUrl
from junebug.runtime.loop import is_transport_gone
from junebug.worker.callbacks.answer import Answer
from junebug.worker.callbacks.targets import Targets

DRAIN_TIMEOUT = 1.0
"""Seconds that an answer's body may take, once its head is there: so long its connection is worth it."""
IDLE_TIMEOUT = 15.0
MOST_IDLE = 100
"""Connections that wait for another call, of all hosts."""
ADDRESS_TTL, MOST_HOSTS = 10.0, 100
NEXT_ADDRESS = 0.25
"""Seconds after which a host's next address is tried beside the one before it (RFC 8305)."""


class NoAnswer(ConnectionError):
    """What came was none."""


class HttpClient:
    """Of one process."""

    def __init__(self, targets: Targets) -> None:
        self._targets = targets
        self._idle: dict[_Connection, str] = {}
        """-> its origin; the one that was used last comes last."""
        self._found: dict[tuple[str, int], tuple[float, Sequence[AddrInfoType]]] = {}
        """Host and port -> until when these are its addresses."""
        self._sweep: asyncio.TimerHandle | None = None

    def close(self) -> None:
        if self._sweep:
            self._sweep.cancel()
        for connection in list(self._idle):
            connection.close()

    async def post(self, url: HttpUrl, headers: Mapping[str, str], body: bytes, ends: float) -> Answer:
        """The answer, with a status. `ends`: of the loop's clock.

        Raises TimeoutError, OSError, ValueError for a header that cannot be sent, and Refused for where no call may go.
        """
        request = _head(url, {**headers, "Content-Length": str(len(body))}) + body
        answer = None
        if connection := self._take(url.origin):
            try:
                answer = await connection.ask(request, ends)
            except NoAnswer:
                pass  # it was closed, or spoilt, while nobody looked: that says nothing of this call
        if answer is None:
            async with asyncio.timeout_at(ends):
                connection = await self._connect(url)
            answer = await connection.ask(request, ends)
        if connection and answer.can_go_on:
            self._keep(connection, url.origin)
        return answer

    async def _connect(self, url: HttpUrl) -> _Connection:
        """Raises OSError, which names the host, and Refused."""
        loop = asyncio.get_running_loop()
        tls = tls_context() if url.scheme == "https" else None
        try:
            found = await self._targets.permitted(url.host, await self._addresses(url.host, url.port), url.port)
            sock = await start_connection(found, happy_eyeballs_delay=NEXT_ADDRESS, interleave=1, loop=loop)
            try:
                _, connection = await loop.create_connection(
                    lambda: _Connection(self._forget), sock=sock, ssl=tls, server_hostname=url.host.rstrip(".") if tls else None
                )
            except BaseException:
                sock.close()
                raise
        except OSError as error:
            self._found.pop((url.host, url.port), None)
            says_it = isinstance(error, (ssl.SSLError, socket.gaierror))
            why = os.strerror(error.errno) if error.errno and not says_it else error.strerror or error
            raise ConnectionError(f"cannot connect to {url.authority}: {why}") from None
        return connection

    async def _addresses(self, host: str, port: int) -> Sequence[AddrInfoType]:
        """As DNS says, or said lately: a server that closes each connection does not have it asked for each call."""
        now = time.monotonic()
        known = self._found.get((host, port))
        if known and known[0] > now:
            return known[1]
        if ":" in host or not host.strip("0123456789."):  # no need to have a thread say it
            return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
        if len(self._found) >= MOST_HOSTS:
            self._found.clear()
        self._found[host, port] = (now + ADDRESS_TTL, found)
        return found

    def _take(self, origin: str) -> _Connection | None:
        found = next((each for each, its in reversed(self._idle.items()) if its == origin), None)
        if found:
            del self._idle[found]
        return found

    def _forget(self, connection: _Connection) -> None:
        self._idle.pop(connection, None)

    def _keep(self, connection: _Connection, origin: str) -> None:
        if connection.is_open:
            self._idle[connection] = origin
            connection.idle_since = time.monotonic()
            if self._sweep is None:
                self._sweep = asyncio.get_running_loop().call_later(IDLE_TIMEOUT, self._close_idle)
            if len(self._idle) > MOST_IDLE:
                next(iter(self._idle)).close()

    def _close_idle(self) -> None:
        """One timer for all: a connection is closed after one to two IDLE_TIMEOUTs."""
        now, self._sweep = time.monotonic(), None
        for connection in [each for each in self._idle if each.idle_since <= now - IDLE_TIMEOUT]:
            connection.close()
        if self._idle:
            self._sweep = asyncio.get_running_loop().call_later(IDLE_TIMEOUT, self._close_idle)


class _Connection(asyncio.Protocol):
    """One call at a time."""

    is_open = False
    idle_since = 0.0
    _ends = 0.0
    """When the call under way is over, by the loop's clock."""
    _is_draining = False
    """The head of its answer is there."""

    def __init__(self, on_lost: Callable[[_Connection], None]) -> None:
        self._on_lost = on_lost
        self._transport: asyncio.Transport
        self._answer: Answer | None = None
        """Of the call under way."""
        self._is_answered: asyncio.Future[None]
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's for TLS is none by name
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        if self._answer is None:
            return self.close()  # nobody asked
        self._answer.feed(data)
        self._look(self._answer)

    def connection_lost(self, error: Exception | None) -> None:
        self.close()
        if self._answer:
            self._answer.end()
            self._look(self._answer)

    async def ask(self, request: bytes, ends: float) -> Answer:
        """Raises NoAnswer, TimeoutError."""
        loop = asyncio.get_running_loop()
        answer = self._answer = Answer()
        self._is_answered = loop.create_future()
        try:
            if not self.is_open:
                answer.end()
            else:
                self._write(request)
                self._ends, self._is_draining = ends, False
                self._timer = loop.call_at(ends, self._stop_waiting)
                await self._is_answered
        finally:
            self._cancel_timer()
            self._answer = None
            if not (answer.can_go_on and self.is_open and self._transport.get_write_buffer_size() == 0):
                answer.can_go_on = False
                self.close()
        if answer.status is None:
            if not answer.is_over:
                raise TimeoutError
            raise NoAnswer("the answer is no HTTP" if answer.octets else "the connection was closed without an answer")
        return answer

    def _cancel_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        if self.is_open:
            self.is_open = False
            self._cancel_timer()
            self._on_lost(self)
            self._transport.abort()

    def _write(self, request: bytes) -> None:
        try:
            self._transport.write(request)
        except RuntimeError as error:
            if not is_transport_gone(error):
                raise
            raise NoAnswer("the connection was closed without an answer") from None

    def _look(self, answer: Answer) -> None:
        if answer.is_over:
            self._stop_waiting()
        elif answer.is_head_over and not self._is_draining:
            self._is_draining = True
            loop = asyncio.get_running_loop()
            ends = min(self._ends, loop.time() + DRAIN_TIMEOUT)
            self._cancel_timer()
            self._timer = loop.call_at(ends, self._stop_waiting)

    def _stop_waiting(self) -> None:
        if not self._is_answered.done():
            self._is_answered.set_result(None)


def _head(url: HttpUrl, headers: Mapping[str, str]) -> bytes:
    """Raises ValueError."""
    lines = [f"POST {url.target} HTTP/1.1", f"Host: {url.authority}"]
    lines += [f"{name}: {text}" for name, text in headers.items()]
    if not "".join(lines).isprintable():  # a third of what the expression costs, which a line of another alphabet may pass
        for line in filter(CONTROL.search, lines):
            raise ValueError(f"{line.partition(':')[0]} holds a control character")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


@functools.cache  # before the fork: its certificates are loaded once, into memory that all share
def tls_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
