"""What processes that answer HTTP from outside have in common: connections that bear no silence, bodies of bounded size.

aiohttp speaks the protocol, listener.py accepts. Neighbours: door/process.py and door/server.py; the API's own
answers are all in its envelope, so it has its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from socket import socket

from aiohttp import StreamReader, web

from junebug.runtime.listener import Listener

HEAD_TIMEOUT = 30.0
"""Seconds in which a connection must have brought a whole request's head, or the next one's."""
BODY_TIMEOUT = 15.0
LARGEST_BODY = 64 * 1024
"""Of a provider's request; in the door, too: it holds those of thousands of connections."""
LINGERING_TIME = 2.0
READ_BUFFER = 64 * 1024
_REFUSED = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"


class Connection(web.RequestHandler):
    """One."""

    __slots__ = ("_over", "on_lost")

    def __init__(self, server: web.Server, over: Callable[[], None]) -> None:
        """`over` is called when the connection is."""
        super().__init__(
            server, loop=asyncio.get_running_loop(), access_log=None,  # type: ignore[arg-type]
            keepalive_timeout=HEAD_TIMEOUT, lingering_time=LINGERING_TIME, read_bufsize=READ_BUFFER,
        )  # fmt: skip
        self._over = over
        self.on_lost: Callable[[], None] | None = None
        """To be called when the peer goes away while its request is answered."""

    def connection_lost(self, exc: BaseException | None) -> None:
        if self.on_lost:
            self.on_lost()
        self._over()
        super().connection_lost(exc)


def accept(what: str, sockets: Sequence[socket], server: web.Server, most: int) -> Listener:
    """Have `server` answer on the listening sockets; `most` connections at a time, what comes beyond is told 503."""
    return Listener(what, sockets, lambda over: Connection(server, over), most, lambda _: _REFUSED, is_asked_first=True)


async def read_body(request: web.BaseRequest, largest: int) -> bytes | None:
    """None when it has more than `largest` octets.

    Raises TimeoutError when it does not come in time, and aiohttp's errors for what is broken.
    """
    if (request.content_length or 0) > largest:
        return None
    async with asyncio.timeout(BODY_TIMEOUT):
        body = await first_octets(request.content, largest + 1)
    return body if len(body) <= largest else None


async def first_octets(content: StreamReader, most: int) -> bytes:
    """What comes, until it ends or so much is there."""
    body = bytearray()
    while len(body) < most and (part := await content.read(most - len(body))):
        body += part
    return bytes(body)
