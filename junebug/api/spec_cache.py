"""The channels' specs as the handlers need them: at hand, never older than a second, and changed by one at a time.

A miss goes to Redis and only what exists is kept, so a channel can be used the moment its 201 is out, through whichever
API process. A change made through this process is seen by it at once, another's when it is told.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

import structlog
from aiohttp import web

from junebug.api import views
from junebug.errors import ChannelChanged, JunebugError
from junebug.model.spec import ChannelSpec
from junebug.runtime.loop import end_task
from junebug.stores.channels import ChannelStore

log = structlog.stdlib.get_logger("api")

MAX_AGE = 1.0
MAX_SPECS = 10_000
LISTEN_AGAIN = 1.0
UPDATE_ATTEMPTS = 100
"""Each of so many callers who change a channel at the same time gets through."""

T = TypeVar("T")


async def until_unchanged(attempt: Callable[[], Awaitable[T]], changed: type[JunebugError]) -> T:
    """The outcome of `attempt`, which reads, and writes where nobody else did meanwhile: else it raises `changed`, and so does
    this when others were faster too often.
    """
    for _ in range(UPDATE_ATTEMPTS - 1):
        with suppress(changed):
            return await attempt()
    return await attempt()


class SpecCache:
    """Channel id -> spec."""

    def __init__(self, store: ChannelStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._known: dict[str, tuple[ChannelSpec, float]] = {}
        self._changes = 0

    async def get(self, channel: str) -> ChannelSpec:
        """The spec, where it is at hand that one. Raises ChannelNotFound, StoreUnavailable."""
        spec, ends = self._known.get(channel, (None, 0.0))
        return spec if spec and self._clock() < ends else await self.fetch(channel)

    def at_hand(self, channel: str) -> ChannelSpec | None:
        """The spec, where it is, or was lately: for who learns otherwise that it has changed."""
        return self._known[channel][0] if channel in self._known else None

    async def fetch(self, channel: str) -> ChannelSpec:
        """The spec as Redis has it now. Raises ChannelNotFound, StoreUnavailable."""
        before, changes = self._clock(), self._changes
        spec = await self._store.get(channel)
        if changes == self._changes:  # else what was read may be older than what somebody wrote meanwhile
            if len(self._known) >= MAX_SPECS:
                self._known.clear()
            self._known[channel] = (spec, before + MAX_AGE)
        return spec

    async def change(
        self, channel: str, change: Callable[[ChannelSpec], ChannelSpec]
    ) -> tuple[ChannelSpec, ChannelSpec]:
        """Store `change(spec)`; the spec before, and as it is stored now: the same object where nothing changes.

        Whoever changes the channel at the same time loses nothing by it. Raises ChannelNotFound, StoreUnavailable, what
        `change` raises, and ChannelChanged when others were faster too often.
        """

        async def attempt() -> tuple[ChannelSpec, ChannelSpec]:
            old = await self._store.get(channel)
            new = change(old)
            if not views.is_changed(old, new):
                return old, old
            stored = await self._store.update(old, new, restart=views.needs_restart(old, new))
            self.drop(channel)
            return old, stored

        return await until_unchanged(attempt, ChannelChanged)

    def drop(self, channel: str) -> None:
        """It was changed or deleted, by this process or another; "": any of them may have been."""
        self._changes += 1
        if channel:
            self._known.pop(channel, None)
        else:
            self._known.clear()

    async def listening(self, _: web.Application) -> AsyncIterator[None]:
        """For `cleanup_ctx`: hear of other processes' changes while the application runs."""
        task = asyncio.create_task(self._listen_forever(), name="changes")
        yield
        await end_task(task)

    async def _listen_forever(self) -> None:
        while True:
            try:
                async for channel in self._store.all_changes():
                    self.drop(channel)
            except Exception:
                log.exception("listening for changed channels failed: trying again")
            self.drop("")
            await asyncio.sleep(LISTEN_AGAIN)
