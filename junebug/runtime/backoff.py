"""Pauses between attempts: one rule for everybody who tries again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

JITTER = 0.2
SHORTEST_GROWTH = 0.1
MOST_DOUBLINGS = 32
"""Who fails for a week must not overflow a float."""


class Backoff:
    """Seconds before the next attempt: exactly `first`, then about twice as long each time, at most `longest`.

    All but the first are jittered, so that many who failed together do not come back together.
    """

    def __init__(self, first: float, longest: float, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._first = first
        self._longest = longest
        self._uniform = uniform
        self._failures = 0

    def next(self) -> float:
        """The pause after one more failure."""
        delay = self._first
        if self._failures:
            grown = max(self._first, SHORTEST_GROWTH) * 2 ** min(self._failures, MOST_DOUBLINGS)
            delay = min(grown, self._longest) * self._uniform(1 - JITTER, 1)
        self._failures += 1
        return min(delay, self._longest)

    def reset(self) -> None:
        """It worked: the next failure is the first one."""
        self._failures = 0

    async def pause(self) -> None:
        """Sleep for `next()` seconds."""
        await asyncio.sleep(self.next())
