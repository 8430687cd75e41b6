"""Posts the reconciler's statuses to their URLs: of a channel that is stopped, refused or in a crash loop no worker can.

Neighbours: reconciler.py has put them into the store, cli.py hands over what posts one (worker/statuses.py's).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from junebug.config.declaration import Settings
from junebug.model.messages import Status
from junebug.model.spec import ChannelSpec

log = structlog.stdlib.get_logger("reconciler")

NotifyStatus = Callable[[Settings, ChannelSpec, Status], Coroutine[Any, Any, None]]

MAX_POSTS_OF_CHANNEL = 20
MAX_POSTING = 20
"""Posts to status URLs under way at the same time."""
MAX_CHANNELS_POSTING = 1_000


class StatusPosts:
    """Posts statuses to their URLs: each channel's in order, bounded, a dead URL in nobody else's way."""

    def __init__(self, settings: Settings, notify: NotifyStatus | None) -> None:
        self._settings = settings
        self._notify = notify
        self._waiting: dict[str, deque[tuple[ChannelSpec, Status]]] = {}
        self._new = asyncio.Event()
        self._fresh: list[str] = []
        self._slots = asyncio.Semaphore(MAX_POSTING)

    def put(self, spec: ChannelSpec, status: Status) -> None:
        """Post it soon; the oldest of too many is given up (the store holds the present state)."""
        channel = status.channel_id
        if self._notify is None:
            return
        if channel not in self._waiting:
            if len(self._waiting) >= MAX_CHANNELS_POSTING:
                log.error("status given up", channel_id=channel, type=status.type)
                return
            self._waiting[channel] = deque(maxlen=MAX_POSTS_OF_CHANNEL)
            self._fresh.append(channel)
            self._new.set()
        self._waiting[channel].append((spec, status))

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self._new.wait()
                self._new.clear()
                fresh, self._fresh = self._fresh, []
                for channel in fresh:
                    tasks.create_task(self._post_all(channel))

    async def _post_all(self, channel: str) -> None:
        waiting = self._waiting[channel]
        while waiting:
            spec, status = waiting.popleft()
            async with self._slots:
                await self._post(spec, status)
        del self._waiting[channel]

    async def _post(self, spec: ChannelSpec, status: Status) -> None:
        assert self._notify is not None
        try:
            await self._notify(self._settings, spec, status)
        except Exception:
            log.exception("posting a status failed", channel_id=status.channel_id)
