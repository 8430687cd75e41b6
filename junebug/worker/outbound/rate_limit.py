"""A channel's rate limit: at most `rate_limit_count` in any `rate_limit_window` seconds leave to the provider.

What exceeds it waits, in its order; nothing is refused. Neighbours: worker/process.py applies the spec's present limit,
sender.py asks before each `send`, or the transport itself where a message may be several PDUs.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque

from junebug.errors import NotSent

MOST_REMEMBERED = 1000
"""Times kept of what left; of a larger count a share is allowed in the same share of the window."""


def shared(count: int | None, seconds: float | None, shard: int, shards: int) -> tuple[int | None, float | None]:
    """A shard's part of the channel's limit: the parts together are it. Less than one in `seconds` is one in longer ones."""
    if not count or not seconds or shards == 1:
        return count, seconds
    if count < shards:
        return 1, seconds * shards / count
    return count // shards + (shard < count % shards), seconds


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
    """Has callers wait for their turn, the most urgent first; the limit may change at any time."""

    def __init__(self) -> None:
        self._limit: tuple[int, float] | None = None
        self._window: Window | None = None
        self._line: list[tuple[int, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def set(self, count: int | None, seconds: float | None) -> None:
        """From now on this many in so many seconds; None or 0: no limit."""
        limit = (count, float(seconds)) if count and seconds else None
        if limit != self._limit:
            self._limit = limit
            self._window = Window(*limit, asyncio.get_running_loop().time()) if limit else None
            self._let_pass()

    async def permit(self, priority: int) -> None:
        """Return when one more may leave. Raises NotSent when the channel stops meanwhile."""
        if self._window is None:
            return
        if self._closed:
            raise NotSent("the channel is stopping")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._line, (-priority, next(self._numbers), turn))
        self._let_pass()
        await turn

    def close(self) -> None:
        """All that wait raise NotSent."""
        self._closed = True
        if self._timer:
            self._timer.cancel()
        line, self._line = self._line, []
        for _, _, turn in line:
            if not turn.done():
                turn.set_exception(NotSent("the channel is stopping"))

    def _let_pass(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        while self._line:
            turn = self._line[0][2]
            if not turn.done():  # else whoever waited was cancelled
                if self._window is not None:
                    now = asyncio.get_running_loop().time()
                    pause = self._window.wait(now)
                    if pause > 0:
                        self._timer = asyncio.get_running_loop().call_later(pause, self._let_pass)
                        return
                    self._window.leave(now)
                turn.set_result(None)
            heapq.heappop(self._line)
