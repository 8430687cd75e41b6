"""Time limits for thousands a second that hardly ever expire: one timer for all of the same length, where `asyncio.timeout` makes
and cancels one for each (2 instead of 7 us).
"""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType
from typing import Self

MOST_LENGTHS = 32
"""Of which something is kept, though nothing runs."""


class TimeLimits:
    """Of one event loop. `with limits(seconds): await ...` raises TimeoutError when that takes longer."""

    def __init__(self) -> None:
        self._lines: dict[float, _Line] = {}

    def __call__(self, seconds: float) -> TimeLimit:
        line = self._lines.get(seconds)
        if line is None:
            if len(self._lines) >= MOST_LENGTHS:
                self._lines = {length: each for length, each in self._lines.items() if each.is_used()}
            line = self._lines[seconds] = _Line(seconds)
        return TimeLimit(line)


class _Line:
    """Those that have the same length, and so expire in the order in which they began."""

    __slots__ = ("_running", "_timer", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._running: deque[TimeLimit] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def is_used(self) -> bool:
        return self._timer is not None

    def put(self, limit: TimeLimit, loop: asyncio.AbstractEventLoop) -> None:
        limit.ends = loop.time() + self.seconds
        running = self._running
        while running and running[0].task is None:
            running.popleft()
        running.append(limit)
        if self._timer is None:
            self._timer = loop.call_at(limit.ends, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now, running = loop.time(), self._running
        while running and (running[0].task is None or running[0].ends <= now):
            running.popleft().expire()
        self._timer = loop.call_at(running[0].ends, self._look, loop) if running else None


class TimeLimit:
    """Of the task that enters it, once. What ends it is a cancellation, told apart from others as `asyncio.timeout` does."""

    __slots__ = ("_before", "_line", "ends", "expired", "task")

    def __init__(self, line: _Line) -> None:
        self._line = line
        self.expired = False
        self.task: asyncio.Task[object] | None = None
        """While it runs."""
        self.ends = 0.0

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None
        self.task = task
        self._before = task.cancelling()
        self._line.put(self, loop)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        task, self.task = self.task, None
        if self.expired and task and task.uncancel() <= self._before and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def expire(self) -> None:
        if self.task is not None:
            self.expired = True
            self.task.cancel()
