"""GET /events/stream: what channels and routers log, as they do: statuses, events, messages and everything else, as
Server-Sent Events (https://html.spec.whatwg.org/multipage/server-sent-events.html).

Neighbours: logs/follow.py reads this host's logs for all streams of this process, stream_sources.py puts those of other hosts to
them, log_views.py shows their lines, stream_ids.py says how far a client got.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import structlog
from aiohttp import web

from junebug import names
from junebug.api.access import CALLER, Guard, access
from junebug.api.host_follower import Item, Missing
from junebug.api.http import endless
from junebug.api.log_views import LogViews
from junebug.api.other_hosts import OtherHosts
from junebug.api.stream_ids import Progress, read_id
from junebug.api.stream_sources import StreamSources
from junebug.errors import ApiUsageError, ChannelNotFound, JunebugError, NotAllowed, Overloaded, Unavailable
from junebug.logs.follow import Complete, Follower
from junebug.model.access import READ
from junebug.model.log_kinds import KINDS
from junebug.runtime.loop import end_task
from junebug.stores import Stores

log = structlog.stdlib.get_logger("api")

HEARTBEAT = 15.0
"""Seconds without an event after which a client is shown that we are there."""
REFRESH = 2.0
"""Seconds until new channels are looked for, and whether the token is still good."""
SLOW = 15.0
"""Seconds in which a client has to take what was written for it; then it is cut off."""
LAST_WORD = 5.0
"""Seconds that it gets to read so."""
BEGIN_TIMEOUT, END_TIMEOUT = 10.0, 1.0
"""Seconds in which the first look at the logs is taken, and in which all streams end at the stop."""
MOST_STREAMS = 100
"""At the same time, in a process; and a quarter of its connections at the most."""
BATCH = 32 * 1024
RETRY = 2000
"""Milliseconds that a browser waits before it connects again."""
HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx's: else it holds events back
}
SLOW_CLIENT = "the client took nothing for so long that it is cut off: it may connect again with the last id"
DELETED = "older files of this log were deleted before they were read"


class EventStream:
    """The handler, and all its streams."""

    def __init__(
        self, stores: Stores, guard: Guard, views: LogViews, others: OtherHosts, path_of: Callable[[str], Path],
        max_connections: int,
    ) -> None:  # fmt: skip
        self._stores = stores
        self._others = others
        self._guard = guard
        self._views = views
        self.follower = Follower(path_of, views.show)
        self._most = max(1, min(MOST_STREAMS, max_connections // 4))
        self._open: set[_Stream] = set()
        self._is_closing = False

    @endless
    @access(READ, filters=True)
    async def get(self, request: web.Request) -> web.StreamResponse:
        kinds, asked = _kinds(request), _ids(request)
        since, known = _last_id(request)
        logs = await self._logs(request, asked)
        if request.method == "HEAD":
            return web.Response(headers=HEADERS)
        if len(self._open) >= self._most or self._is_closing:
            raise Overloaded(f"{self._most} streams are open here already, and no more are kept at a time")
        stream = _Stream(request, Progress(since or 0.0, known), self._others.host)
        stream.sources = StreamSources(self._others, self._views.show, kinds, since, known, logs, stream.wake)
        self._open.add(stream)
        try:
            await stream.sources.look(logs)
            self.follower.follow(stream.sources.reader)
            await stream.begin()
            looking = asyncio.create_task(self._look_forever(request, stream, asked), name="stream")
            try:
                await stream.run(self.follower.hurry)
            finally:
                await end_task(looking)
        except ConnectionError:
            pass  # the client is gone
        finally:
            self.follower.leave(stream.sources.reader)
            self._open.discard(stream)
            stream.over.set_result(None)
            await stream.sources.end()
        return stream.response

    async def close(self, _: web.Application) -> None:
        """For `on_shutdown`: every stream ends."""
        self._is_closing = True
        for stream in self._open:
            stream.end()
        if self._open:
            await asyncio.wait([stream.over for stream in self._open], timeout=END_TIMEOUT)
        for stream in self._open:
            stream.cut()

    async def _look_forever(self, request: web.Request, stream: _Stream, asked: Sequence[str]) -> None:
        """For new logs; the stream ends when its client is gone, or its token is good no more."""
        try:
            while request.transport is not None and not request.transport.is_closing():
                await asyncio.sleep(REFRESH)
                with suppress(Unavailable, ChannelNotFound):
                    await self._guard.admit(request, self.get)
                    await stream.sources.look(await self._logs(request, asked))
        except JunebugError:
            pass
        except Exception:
            log.exception("a stream ends: its logs cannot be looked for")
        stream.end()

    async def _logs(self, request: web.Request, asked: Sequence[str]) -> frozenset[str]:
        """Ids of those that the caller sees, or `asked` for. Raises NotAllowed, ChannelNotFound, StoreUnavailable."""
        caller = request[CALLER]
        for id in asked:
            if caller.token and not caller.token.is_for((id,)):
                raise NotAllowed(f"The API token {caller.name!r} is for other channels, or routers, only")
        channels, routers = await asyncio.gather(self._stores.channels.ids(), self._stores.routers.ids())
        if not asked:
            return await self._views.prepare(caller.sees(channels), caller.sees(routers))
        ids = {"channel": {*asked} & {*channels}, "router": {*asked} & {*routers}}
        for id in asked:
            if id not in ids["channel"] | ids["router"]:
                raise ChannelNotFound(f"There is no channel, or router, with id {id[:100]!r}")
        return await self._views.prepare(ids["channel"], ids["router"])


class _Stream:
    """One client's."""

    sources: StreamSources

    def __init__(self, request: web.Request, progress: Progress, host: str) -> None:
        """`host`: this one."""
        self._request = request
        self._progress = progress
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._is_ending = False
        self.over = self._loop.create_future()
        self.response = web.StreamResponse(headers=HEADERS)
        self.response.force_close()

    def wake(self) -> None:
        """In any thread."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._news.set)

    def end(self) -> None:
        self._is_ending = True
        self._news.set()

    def cut(self) -> None:
        if self._request.transport:
            self._request.transport.abort()

    async def begin(self) -> None:
        """The answer begins once it is clear from where on it tells. Raises Unavailable when that takes too long."""
        try:
            async with asyncio.timeout(BEGIN_TIMEOUT):
                while not self.sources.is_begun:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise Unavailable("The logs cannot be read at the moment") from None
        self._news.set()
        steps = self.sources.take(BATCH)
        await self.response.prepare(self._request)
        begin = f"retry: {RETRY}\n\n".encode()
        await self.response.write(begin + self._events(steps) + self._last_id())

    async def run(self, hurry: Callable[[], None]) -> None:
        """Until the client is gone, or too slow, or `end` was called. Raises ConnectionError."""
        said_at = self._loop.time()
        while not self._is_ending:
            now = self._loop.time()
            self._news.clear()
            had_room = self.sources.reader.has_room
            text = self._events(self.sources.take(BATCH))
            if not had_room:
                hurry()
            if not text and now - said_at >= HEARTBEAT:
                text = b":\n" + self._last_id()
            if text:
                said_at = now
                if not await self._written(text):
                    return
                await asyncio.sleep(0)  # others have their turn, however much there is
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, said_at + HEARTBEAT - self._loop.time())):
                        await self._news.wait()

    def _events(self, steps: Sequence[Item]) -> bytes:
        told = []
        for step in steps:
            if isinstance(step, Complete):
                self._progress.complete(step.at)
                continue
            if isinstance(step, Missing):
                told.append(_lost(step.reason, channel_id=None, left_out=None))
                continue
            if step.is_lost:
                told.append(_lost(DELETED, channel_id=names.channel_of(step.log), left_out=None))
            self._progress.read(step.log, step.place, step.at, step.host or self._host)
            if step.line:
                told.append(b"id: %b\nevent: %b\ndata: %b\n\n" % (
                    self._progress.id.encode(), step.line.kind.encode(), step.line.data))  # fmt: skip
        return b"".join(told)

    def _last_id(self) -> bytes:
        """A client takes it, and shows nothing."""
        return f"id: {self._progress.id}\n\n".encode()

    async def _written(self, text: bytes) -> bool:
        """Whether the client takes it in time; else it is told how many events it does not get, and cut off."""
        try:
            async with asyncio.timeout(SLOW):
                await self.response.write(text)
            return True
        except TimeoutError:
            pass
        log.warning("a client of /events/stream is too slow: cut off", address=self._request.remote)
        try:
            async with asyncio.timeout(LAST_WORD):
                await self.response.write(_lost(SLOW_CLIENT, channel_id=None, left_out=self.sources.waiting))
                await self.response.write_eof()
        except TimeoutError:
            self.cut()
        return False


def _lost(reason: str, **more: Any) -> bytes:
    return b"event: lost\ndata: %b\n\n" % orjson.dumps({"kind": "lost", **more, "reason": reason})


# --- what a request asks for ------------------------------------------------------------------------------------------


def _kinds(request: web.Request) -> frozenset[str]:
    """Raises ApiUsageError."""
    asked = _list(request, "kind")
    for kind in asked:
        if kind not in KINDS:
            raise ApiUsageError(f"kind: expected some of {', '.join(KINDS)}, got {kind[:50]!r}")
    return frozenset(asked or KINDS)


def _ids(request: web.Request) -> list[str]:
    """Raises ApiUsageError, and ChannelNotFound for what can be none."""
    asked = _list(request, "channel_id")
    for id in asked:
        if not names.is_channel_id(id):
            raise ChannelNotFound(f"There is no channel, or router, with id {id[:100]!r}")
    return asked


def _list(request: web.Request, name: str) -> list[str]:
    """Given with commas, or again and again. Raises ApiUsageError."""
    given = request.query.getall(name, [])
    found = [each.strip() for text in given for each in text.split(",") if each.strip()]
    if given and not found:
        raise ApiUsageError(f"{name}: expected a list with commas, got nothing; leave it out for all")
    return list(dict.fromkeys(found))


def _last_id(request: web.Request) -> tuple[float | None, dict[bytes, Any]]:
    """(since, known): as an id says; None: from now on. The header goes first: a browser sends it when it connects again.

    Raises ApiUsageError.
    """
    text = request.headers.get("Last-Event-ID") or request.query.get("last_event_id")
    return read_id(text) if text else (None, {})
