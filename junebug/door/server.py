"""HttpServer: a channel's side of HTTP: it listens on its own port, or behind the door that all share; who may ask is decided
here, and how much.

Neighbours: transports/http_rpc/transport.py answers; process.py is the shared listener. aiohttp speaks the protocol.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web

from junebug.door import routes
from junebug.door.routes import Route
from junebug.errors import TransportStartError
from junebug.runtime.http_server import accept
from junebug.runtime.listener import Listener, listening_sockets

log = structlog.stdlib.get_logger("http")

BACKLOG = 128
MOST_CONNECTIONS = 2000

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class HttpServer:
    """Answers GET and POST on some paths."""

    def __init__(self, config: Mapping[str, Any], handlers: Mapping[str, Handler], free: Sequence[str] = ()) -> None:
        """`handlers`: path -> who answers. What is `free` is answered to anybody, the others to who bears web_username and
        web_password.
        """
        self._handlers = {routes.path_of(path): handler for path, handler in handlers.items()}
        self._free = set(map(routes.path_of, free))
        self._realm = str(config.get("web_auth_domain") or "Junebug").replace('"', "'")
        user, password = config.get("web_username"), config.get("web_password")
        self._credentials = f"{user}:{password}".encode() if user and password else None
        self._server = web.Server(self._answer, access_log=None)
        self._listener: Listener | None = None

    def listen(self, host: str, port: int) -> None:
        """On a port of its own. Raises TransportStartError."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            sockets = listening_sockets(port, [(family, host)], BACKLOG)
        except OSError as error:
            why = os.strerror(error.errno).lower() if error.errno and error.errno > 0 else str(error)
            raise TransportStartError(f"web_port: cannot listen on {host}:{port}: {why}; choose another port") from None
        self._listener = accept("http", sockets, self._server, MOST_CONNECTIONS)

    def listen_behind(self, door: Path, route: Route) -> None:
        """Behind the shared listener. Raises TransportStartError."""
        for path in route.paths:
            if other := routes.owner(door, path, route.channel):
                raise TransportStartError(f"web_path: {path} is channel {other}'s; choose another path")
        address, _ = routes.files_of(door, route.channel)
        try:
            door.mkdir(parents=True, exist_ok=True, mode=0o700)
            address.unlink(missing_ok=True)  # of the process before: we alone run the channel
            listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listening.bind(str(address))
            listening.listen(BACKLOG)
            routes.write(door, route)
        except OSError as error:
            raise TransportStartError(f"cannot listen behind the shared port: {error.strerror or error}") from None
        self._listener = accept("http", [listening], self._server, MOST_CONNECTIONS)

    def close(self) -> None:
        """Accept no more; what is under way goes on."""
        if self._listener:
            self._listener.close()
            self._listener = None

    async def stop(self, timeout: float) -> None:
        """What is under way gets so many seconds."""
        self.close()
        self._server.pre_shutdown()
        await self._server.shutdown(timeout)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        path = routes.path_of(request.rel_url.raw_path)
        handler = self._handlers.get(path)
        if handler is None:
            return web.Response(status=404, text="Not Found\n")
        if request.method not in ("GET", "POST") and not (request.method == "HEAD" and path in self._free):
            return web.Response(status=405, text="Method Not Allowed\n", headers={"Allow": "GET, POST"})
        if path not in self._free and not self._may_ask(request):
            return web.Response(
                status=401, text="Unauthorized\n", headers={"WWW-Authenticate": f'Basic realm="{self._realm}"'}
            )
        try:
            return await handler(request)
        except OSError:
            raise  # the provider is gone
        except Exception:
            log.exception("a request failed")  # aiohttp's own logs are off: they show what was asked
            return web.Response(status=500, text="Internal Server Error\n")

    def _may_ask(self, request: web.BaseRequest) -> bool:
        if self._credentials is None:
            return True
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        try:
            credentials = base64.b64decode(given.strip(), validate=True) if scheme.lower() == "basic" else b""
        except (binascii.Error, ValueError):
            return False
        return hmac.compare_digest(credentials, self._credentials)
