"""A channel's rate limit: at most `rate_limit_count` in any `rate_limit_window` seconds leave to the provider.

What exceeds it waits, in its order; nothing is refused. Neighbours: channel_worker.py applies the spec's present limit,
sender.py asks before each `send`, or the transport itself where a message may be several PDUs.
"""

from __future__ import annotations

import asyncio
from collections import deque

from junebug.errors import NotSent

MOST_REMEMBERED = 1000
"""Times kept of what left; of a larger count a share is allowed in the same share of the window."""


class Window:
    """Which of the last `count` left when. Pure: `now` is an argument, in seconds."""

    def __init__(self, count: int, seconds: float, now: float) -> None:
        """Takes it that as many as may left evenly until now: a restart is no way to a second burst."""
        share = max(1.0, count / MOST_REMEMBERED)
        self._count = int(count / share)
        self._seconds = seconds / share
        step = self._seconds / self._count
        self._left = deque((now - self._seconds + step * number for number in range(1, self._count + 1)), self._count)

    def wait(self, now: float) -> float:
        """Seconds until the next may leave; 0: now."""
        return max(0.0, self._left[0] + self._seconds - now)

    def leave(self, now: float) -> None:
        self._left.append(now)


class RateLimit:
    """Has callers wait for their turn; the limit may change at any time."""

    def __init__(self) -> None:
        self._limit: tuple[int, float] | None = None
        self._window: Window | None = None
        self._line = asyncio.Lock()
        self._changed = asyncio.Event()
        self._closed = False

    def set(self, count: int | None, seconds: float | None) -> None:
        """From now on this many in so many seconds; None or 0: no limit."""
        limit = (count, float(seconds)) if count and seconds else None
        if limit != self._limit:
            self._limit = limit
            self._window = Window(*limit, asyncio.get_running_loop().time()) if limit else None
            self._changed.set()

    async def permit(self) -> None:
        """Return when one more may leave. Raises NotSent when the channel stops meanwhile."""
        if self._window is None and not self._line.locked():
            return
        async with self._line:  # a fair lock: who came first goes first
            while self._window is not None and not self._closed:
                now = asyncio.get_running_loop().time()
                pause = self._window.wait(now)
                if pause <= 0:
                    return self._window.leave(now)
                self._changed.clear()
                try:
                    async with asyncio.timeout(pause):
                        await self._changed.wait()
                except TimeoutError:
                    pass
        if self._closed:
            raise NotSent("the channel is stopping")

    def close(self) -> None:
        """All that wait raise NotSent."""
        self._closed = True
        self._changed.set()
