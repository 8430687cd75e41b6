"""The life of a process that serves: it starts, waits for the end, and stops in an order that is bounded in time.

Signals only set a flag. Neighbours: tasks.py owns the side tasks, heartbeat.py is one of them.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog

from junebug.runtime.loop import end_task
from junebug.runtime.tasks import TaskOwner

log = structlog.stdlib.get_logger(__name__)

EXIT_OK, EXIT_FAILED = 0, 1
START_END_TIMEOUT = 2.0
"""Seconds that what is still starting may take to notice that it is to end."""


class ServiceLife:
    """One process's life: `run` is all of it; `tasks` live and die with it."""

    def __init__(self) -> None:
        self.tasks = TaskOwner()
        self._asked = asyncio.Event()

    def stop(self) -> None:
        """Have `run` end, as SIGTERM does."""
        self._asked.set()

    @property
    def is_stopping(self) -> bool:
        return self._asked.is_set()

    async def run(
        self, start: Callable[[], Coroutine[Any, Any, int | None]], stop: Callable[[], Awaitable[None]]
    ) -> int:
        """Start, wait for SIGTERM, SIGINT, `stop()` or the death of an owned task, then stop. Returns the exit code.

        `start` may give an exit code, which ends the life at once; what it raises is raised. `stop` bounds itself, and is
        called however far `start` came.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self.stop)
        starting = asyncio.create_task(start(), name="start")
        asked = asyncio.create_task(self._asked.wait(), name="asked to stop")
        failed = asyncio.create_task(self.tasks.failure(), name="failure")
        try:
            await asyncio.wait([starting, asked, failed], return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                code = starting.result()
                if code is not None:
                    return code
                await asyncio.wait([asked, failed], return_when=asyncio.FIRST_COMPLETED)
            return EXIT_FAILED if failed.done() else EXIT_OK
        finally:
            await bounded("start", end_task(starting), START_END_TIMEOUT)
            await asyncio.gather(end_task(asked), end_task(failed))
            await stop()
            await self.tasks.end()


async def bounded(what: str, work: Awaitable[None], seconds: float) -> None:
    """A part's stop, which must neither outlast its share of time nor keep the others from theirs."""
    try:
        async with asyncio.timeout(seconds):
            await work
    except TimeoutError:
        log.warning("did not stop in time", part=what)
    except Exception:
        log.exception("stopping failed", part=what)
