"""Who owns a task: one that fails is logged at once and ends its owner, so that nobody lives on as half of himself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from junebug.runtime.loop import end_task

log = structlog.stdlib.get_logger(__name__)

Own = Callable[[str, Coroutine[Any, Any, Any]], asyncio.Task[Any]]
"""TaskOwner.own, as it is given to others."""


class TaskOwner:
    """Side tasks that live and die with their owner, who waits for `failure()` beside his own work.

    An owner may be owned in his turn: `above.own("broker", broker.tasks.failure())`.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._error: BaseException | None = None
        self._failed = asyncio.Event()

    def own(self, name: str, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run it beside the others. It may end, or be cancelled; what it raises ends the owner."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)
        return task

    def _on_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        log.error("side task died", task=task.get_name(), exc_info=error)
        self._error = self._error or error
        self._failed.set()

    async def failure(self) -> None:
        """Wait until a task has failed, and raise what it raised first."""
        await self._failed.wait()
        assert self._error is not None
        raise self._error

    async def end(self) -> None:
        """Cancel those that still run, and wait for their end."""
        await asyncio.gather(*map(end_task, self._tasks))
