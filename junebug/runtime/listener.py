"""Accepting connections, no more of them than the process can bear: what comes beyond is told so and logged, not reset.

Neighbours: api/app.py and transports/telnet/ accept so. The event loops' own servers let descriptors run out, and then
reset whoever comes, in silence.
"""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import cast

import structlog

from junebug.runtime.tasks import TaskOwner

log = structlog.stdlib.get_logger(__name__)

AT_ONCE = 100
"""Connections that are accepted in one turn of the loop."""
MOST_RESERVED = 500
"""Descriptors that are kept for what else the process opens; a quarter, where there are few."""
LINGER = 1.0
"""Seconds that one who is refused gets to read why; when such have half of what is reserved, the next must read it at once."""
READ_FIRST = 64 * 1024
REFUSALS_TOLD = 10.0
"""Seconds between two lines of the log about refusals."""
PAUSE = 0.5
"""Seconds until the next try when the system lets nothing be accepted."""
FEW_FILES = "this process may open no more files: raise its limit (LimitNOFILE, ulimit -n)"
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

Factory = Callable[[Callable[[], None]], asyncio.Protocol]
"""Is given what the protocol has to call when its connection is over."""


class Listener:
    """Accepts on listening sockets, which it closes in the end."""

    def __init__(
        self, what: str, sockets: Sequence[socket.socket], factory: Factory, most: int, refusal: Callable[[bytes], bytes],
        *, is_asked_first: bool,
    ) -> None:  # fmt: skip
        """`what` names it in the log. `most`: connections at a time; `refusal`: what one more is told, by what it has
        said; that is waited for where it `is_asked_first`.
        """
        self._what = what
        self._sockets = sockets
        self._factory = factory
        self._most = most
        self._refusal = refusal
        self._is_asked_first = is_asked_first
        self._loop = asyncio.get_running_loop()
        self._tasks = TaskOwner()
        self._open: set[object] = set()
        self._lingering = 0
        self._refused = 0
        self._told_at = -REFUSALS_TOLD
        for each in sockets:
            each.setblocking(False)
            self._watch(each)

    @property
    def connections(self) -> int:
        return len(self._open)

    def close(self) -> None:
        """Accept no more; the connections that there are go on."""
        for each in self._sockets:
            self._loop.remove_reader(each)
            each.close()

    def _accept(self, listening: socket.socket) -> None:
        limit, reserved = descriptors()
        for _ in range(AT_ONCE):
            try:
                connection, _ = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionError):
                return
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                return self._pause(listening, error)
            connection.setblocking(False)
            if len(self._open) >= self._most:
                self._refuse(connection, reserved, f"there are {self._most} connections already")
            elif connection.fileno() >= limit - reserved:  # a new one gets the lowest number that is free
                self._refuse(connection, reserved, FEW_FILES)
            else:
                self._take(connection)

    def _take(self, connection: socket.socket) -> None:
        mark = object()
        self._open.add(mark)

        def over() -> None:
            self._open.discard(mark)

        self._begin(connection, lambda: self._factory(over), over)

    def _begin(self, connection: socket.socket, make: Callable[[], asyncio.Protocol], over: Callable[[], None]) -> None:
        async def begin() -> None:
            try:
                await self._loop.connect_accepted_socket(make, connection)
            except OSError:  # it is gone again
                over()
                connection.close()

        self._tasks.own("connection", begin())

    # --- refusing -----------------------------------------------------------------------------------------------------

    def _refuse(self, connection: socket.socket, reserved: int, why: str) -> None:
        self._tell(why)
        if self._lingering >= reserved // 2:
            return self._cut_off(connection)
        self._lingering += 1

        def over() -> None:
            self._lingering -= 1

        self._begin(connection, lambda: _Refused(self._refusal, self._is_asked_first, over), over)

    def _cut_off(self, connection: socket.socket) -> None:
        with suppress(OSError):
            connection.send(self._refusal(b""))
            connection.shutdown(socket.SHUT_WR)
            connection.recv(READ_FIRST)  # what it has said and nobody has read would reset it before it reads
        connection.close()

    def _pause(self, listening: socket.socket, error: OSError) -> None:
        """There is no descriptor to accept with: who comes waits a moment."""
        self._tell(f"{os.strerror(error.errno or 0)}: {FEW_FILES}")
        self._loop.remove_reader(listening)
        self._loop.call_later(PAUSE, self._watch, listening)

    def _watch(self, listening: socket.socket) -> None:
        if listening.fileno() >= 0:
            self._loop.add_reader(listening, self._accept, listening)

    def _tell(self, why: str) -> None:
        self._refused += 1
        now = self._loop.time()
        if now - self._told_at >= REFUSALS_TOLD:
            log.warning("connections are refused", what=self._what, refused=self._refused, reason=why)
            self._told_at, self._refused = now, 0


class _Refused(asyncio.Protocol):
    """Tells one that is too many, and lets it read that."""

    def __init__(self, refusal: Callable[[bytes], bytes], is_asked_first: bool, over: Callable[[], None]) -> None:
        self._refusal = refusal
        self._is_asked_first = is_asked_first
        self._over = over
        self._transport: asyncio.Transport | None = None
        self._end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class
        self._end = asyncio.get_running_loop().call_later(LINGER, self._transport.abort)
        if not self._is_asked_first:
            self._tell(b"")

    def data_received(self, data: bytes) -> None:
        if self._is_asked_first:
            self._is_asked_first = False
            self._tell(data)

    def _tell(self, said: bytes) -> None:
        assert self._transport
        self._transport.write(self._refusal(said))
        self._transport.write_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._end:
            self._end.cancel()
        self._over()


def descriptors() -> tuple[int, int]:
    """How many this process may open, and how many of them are not for connections."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = 1 << 30 if limit == resource.RLIM_INFINITY else limit
    return limit, min(MOST_RESERVED, limit // 4)


def listening_sockets(
    port: int, addresses: Sequence[tuple[socket.AddressFamily, str]], backlog: int
) -> list[socket.socket]:
    """Bound to each address, all on one port; port 0 is a free one. Raises OSError."""
    sockets: list[socket.socket] = []
    dual = len(addresses) == 1 and addresses[0][0] == socket.AF_INET6 and socket.has_dualstack_ipv6()
    try:
        for family, address in addresses:
            try:
                one = socket.create_server((address, port), family=family, backlog=backlog, dualstack_ipv6=dual)
            except OSError as error:
                if sockets and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    continue  # no IPv6 here: the first one will do
                raise
            sockets.append(one)
            one.setblocking(False)
            port = one.getsockname()[1]
    except BaseException:
        for each in sockets:
            each.close()
        raise
    return sockets
