"""Sessions of one channel: which request begins one, which goes on with it, and when one is over that nobody ended.

They are kept in Redis, too, so that a restart of the channel ends none; while Redis is away they live in memory alone.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, replace
from typing import Literal

import orjson
import structlog

from junebug.errors import StoreUnavailable
from junebug.stores.transport import TransportStore

log = structlog.stdlib.get_logger("sessions")

MOST = 50_000
"""Of a channel at a time; with one more the oldest is over."""
_KEY = "sessions"


@dataclass(frozen=True, slots=True)
class Session:
    """Between whom; `until`: seconds since 1970."""

    id: str
    to_addr: str | None
    from_addr: str | None
    until: float


class Sessions:
    """`await load()` first."""

    def __init__(self, store: TransportStore, timeout: float, on_timeout: Callable[[Session], Awaitable[None]]) -> None:
        """`timeout`: seconds without a request after which a session is over; `on_timeout` is told of it then."""
        self._store = store
        self._timeout = timeout
        self._on_timeout = on_timeout
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        """The one that lasts longest comes last."""

    def __len__(self) -> int:
        return len(self._sessions)

    async def load(self) -> None:
        """Those that an earlier process left."""
        try:
            (found,) = await self._store.fields(_KEY)
        except StoreUnavailable as error:
            log.warning("sessions of before are not known", reason=str(error))
            return
        latest = time.time() + self._timeout  # it may have been longer before
        loaded = (Session(**orjson.loads(each)) for each in found.values())
        known = sorted((replace(each, until=min(each.until, latest)) for each in loaded), key=lambda session: session.until)
        self._sessions = OrderedDict((session.id, session) for session in known)

    async def heard(self, id: str, to_addr: str | None, from_addr: str | None) -> Literal["new", "resume"]:
        """A request of this session came: does it begin it?"""
        before, now = self._sessions.pop(id, None), time.time()
        session = self._sessions[id] = Session(id, to_addr, from_addr, now + self._timeout)
        if before and before.until < now:  # what comes meanwhile is of the new one
            await self._over(before)
            before = None
        await self._keep(session)
        if len(self._sessions) > MOST:
            await self._over(self._sessions.popitem(last=False)[1])
        return "resume" if before else "new"

    async def end(self, id: str) -> bool:
        """The application or the provider ends it. False: there is none."""
        if self._sessions.pop(id, None) is None:
            return False
        await self._forget(id)
        return True

    async def watch(self) -> None:
        """End those that are silent, until cancelled."""
        while True:
            await asyncio.sleep(min(max(self._timeout / 20, 0.05), 5.0))
            now = time.time()
            while self._sessions and next(iter(self._sessions.values())).until < now:
                await self._over(self._sessions.popitem(last=False)[1])

    async def _over(self, session: Session) -> None:
        await self._on_timeout(session)
        await self._forget(session.id)

    async def _keep(self, session: Session) -> None:
        try:
            fields = {session.id: orjson.dumps(asdict(session)).decode()}
            await self._store.put_fields(_KEY, fields, self._timeout + 60)
        except StoreUnavailable as error:
            log.warning("a session is kept in memory only", reason=str(error))

    async def _forget(self, id: str) -> None:
        try:
            await self._store.remove_fields(_KEY, id)
        except StoreUnavailable as error:
            log.warning("a session that is over is still in Redis", reason=str(error))
