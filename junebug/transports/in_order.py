"""InOrder: what a provider told and nobody has dealt with yet, one after the other, whatever is away meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from junebug.errors import Unavailable
from junebug.runtime.loop import end_task
from junebug.transports.base import TransportContext

MANY, FEW = 200, 50
"""That wait, at which no more is to be read from the provider, and some again."""
PAUSE = 1.0
"""Seconds until RabbitMQ or Redis, which was away, is asked again."""
DRAIN_TIMEOUT = 2.0
"""Seconds for what came in when the channel stops."""


class InOrder:
    """`on_full` is told whether so many wait that no more should be read."""

    def __init__(self, context: TransportContext, on_full: Callable[[bool], None]) -> None:
        self._context, self._on_full = context, on_full
        self._waiting: asyncio.Queue[Callable[[], Awaitable[None]]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = self._context.own("what came in", self._run())

    async def stop(self) -> None:
        """Nothing is put in any more: what waits has its moment."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_TIMEOUT):
                await self._waiting.join()
        if self._task:
            await end_task(self._task)

    @property
    def is_full(self) -> bool:
        return self._waiting.qsize() >= MANY

    def put(self, work: Callable[[], Awaitable[None]]) -> None:
        """`work` is called again when it raises Unavailable."""
        self._waiting.put_nowait(work)
        if self.is_full:
            self._on_full(True)

    async def _run(self) -> None:
        while True:
            work = await self._waiting.get()
            while True:
                try:
                    await work()
                    break
                except Unavailable as error:
                    self._context.log.warning("what came in waits", reason=str(error))
                    await asyncio.sleep(PAUSE)
            self._waiting.task_done()
            if self._waiting.qsize() == FEW:
                self._on_full(False)
