"""The door: one public listener for all channels of HTTP types that have no port of their own.

A request goes to the channel that has its path, over the unix socket that its process listens on, and the answer back. A
channel that is down is answered for, in its provider's form; a path that nobody has is 404. Nothing is kept here.
Neighbours: routes.py knows the channels; supervisor/daemon.py runs it beside the API.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from socket import socket

import structlog
from aiohttp import ClientConnectionError, ClientConnectorError, ClientSession, ClientTimeout, UnixConnector, web
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDict
from yarl import URL

from junebug.config.declaration import Settings
from junebug.door.routes import Route, Routes, files_of
from junebug.logs.setup import setup_process_logging
from junebug.runtime.heartbeat import keep_beating
from junebug.runtime.http_server import HEAD_TIMEOUT, LARGEST_BODY, accept, first_octets, read_body
from junebug.runtime.loop import run_async
from junebug.runtime.service import EXIT_FAILED, ServiceLife, bounded

log = structlog.stdlib.get_logger("door")

_NOT_OURS = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
"""What a client of aiohttp's would add."""
LARGEST_ANSWER = 1024 * 1024
CONNECT_TIMEOUT = 2.0
COMING_BACK = 1.0
"""Seconds that a channel which does not listen gets: a restart takes no longer."""
LOOK_AGAIN = 0.05
MOST_CONNECTIONS = 5000
CLOSE_TIMEOUT = 3.0
_HOP_BY_HOP = frozenset((
    "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade", "content-length", "expect",
))  # fmt: skip
"""Of one connection alone (RFC 9110 7.6.1), or made anew."""


class Door:
    """Answers requests on listening sockets."""

    def __init__(self, directory: Path, sockets: Sequence[socket]) -> None:
        self._directory = directory
        self._routes = Routes(directory)
        self._sessions: dict[str, ClientSession] = {}
        self._server = web.Server(self._answer, access_log=None, handler_cancellation=True)  # who leaves here, leaves there
        self._listener = accept("door", sockets, self._server, MOST_CONNECTIONS)

    async def close(self, timeout: float) -> None:
        """What is under way gets so many seconds."""
        self._listener.close()
        self._server.pre_shutdown()
        await self._server.shutdown(timeout)
        await asyncio.gather(*(each.close() for each in self._sessions.values()))

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        route = self._routes.find(request.rel_url.raw_path)
        if route is None:
            return web.Response(status=404, text="Not Found\n")
        try:
            body = await read_body(request, LARGEST_BODY)
        except TimeoutError:
            return web.Response(status=408, text="Request Timeout\n")
        except (HttpProcessingError, web.RequestPayloadError):
            return web.Response(status=400, text="Bad Request\n")
        if body is None:
            return web.Response(status=413, text="Content Too Large\n")
        try:
            return await self._pass_on(request, body, route)
        except TimeoutError:
            log.warning("the channel did not answer", channel_id=route.channel)
            return web.Response(status=504, text="Gateway Timeout\n")
        except (ClientConnectionError, OSError, ValueError) as error:
            log.warning("the channel could not be asked", channel_id=route.channel, reason=type(error).__name__)
            return web.Response(
                status=503, body=route.unavailable_body.encode(),
                headers={"Retry-After": "1", "Content-Type": f"{route.content_type}; charset=utf-8"},
            )  # fmt: skip

    async def _pass_on(self, request: web.BaseRequest, body: bytes, route: Route) -> web.Response:
        """Raises TimeoutError, ClientConnectionError, OSError, ValueError."""
        url = URL(f"http://channel{request.rel_url.raw_path_qs}", encoded=True)
        headers = CIMultiDict((name, value) for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP)
        peer = request.protocol.peername
        if isinstance(peer, tuple):
            headers["X-Forwarded-For"] = ", ".join([*headers.popall("X-Forwarded-For", ()), peer[0]])
        headers.setdefault("X-Forwarded-Host", request.host)
        ends = asyncio.get_running_loop().time() + COMING_BACK
        while True:
            try:
                async with self._session(route).request(
                    request.method, url, headers=headers, data=body or None, allow_redirects=False,
                    timeout=ClientTimeout(total=route.timeout, sock_connect=CONNECT_TIMEOUT),
                ) as answer:  # fmt: skip
                    said = await first_octets(answer.content, LARGEST_ANSWER + 1)
                    if len(said) > LARGEST_ANSWER:
                        raise ValueError("the answer is too large")
                    kept = CIMultiDict((name, each) for name, each in answer.headers.items() if name.lower() not in _HOP_BY_HOP)
                    return web.Response(status=answer.status, body=said, headers=kept)
            except ClientConnectorError:  # nothing has left
                if asyncio.get_running_loop().time() >= ends:
                    raise
                await asyncio.sleep(LOOK_AGAIN)

    def _session(self, route: Route) -> ClientSession:
        """Of that channel; those of channels that are gone are left to the end."""
        if route.channel not in self._sessions:
            address, _ = files_of(self._directory, route.channel)
            connector = UnixConnector(path=str(address), limit=0, keepalive_timeout=HEAD_TIMEOUT / 2)
            self._sessions[route.channel] = ClientSession(
                connector=connector, auto_decompress=False, skip_auto_headers=_NOT_OURS
            )
        return self._sessions[route.channel]


def run(settings: Settings, sockets: Sequence[socket]) -> int:
    """Until SIGTERM or SIGINT; blocking. Returns the exit code: 0 = asked to stop."""
    logs = setup_process_logging("door", settings.logfile, settings.server_passwords, settings.sentry_dsn)
    try:
        return run_async(_run(settings, sockets))
    except Exception:
        log.exception("the shared HTTP listener failed")
        return EXIT_FAILED
    finally:
        logs.close()


async def _run(settings: Settings, sockets: Sequence[socket]) -> int:
    directory = settings.door
    assert directory
    life = ServiceLife()
    door: list[Door] = []

    async def start() -> None:
        door.append(Door(directory, sockets))

    async def stop() -> None:
        for each in door:
            await bounded("requests", each.close(CLOSE_TIMEOUT - 1), CLOSE_TIMEOUT)

    life.tasks.own("heartbeat", keep_beating())
    return await life.run(start, stop)
