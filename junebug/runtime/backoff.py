"""Pauses between attempts: one rule for everybody who tries again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

JITTER = 0.2
SHORTEST = 0.1
SHORTEST_GROWN = 1.0
MOST_DOUBLINGS = 32
"""Who fails for a week must not overflow a float."""


def least_pause(failures: int) -> float:
    """Seconds that anybody waits after so many failures in a row, whatever the configuration says: no peer is hammered."""
    doublings = min(max(failures - 1, 0), MOST_DOUBLINGS)
    return min(SHORTEST * 2.0**doublings, SHORTEST_GROWN)


class Backoff:
    """Seconds before the next attempt: exactly `first`, then about twice as long each time, at most `longest`; and never
    less than `least_pause`.

    All but the first are jittered, so that many who failed together do not come back together.
    """

    def __init__(self, first: float, longest: float, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._first = first
        self._longest = longest
        self._uniform = uniform
        self._failures = 0

    def next(self) -> float:
        """The pause after one more failure."""
        self._failures += 1
        delay = min(self._first, self._longest)
        if self._failures > 1:
            grown = max(self._first, SHORTEST) * 2 ** min(self._failures - 1, MOST_DOUBLINGS)
            delay = min(grown, self._longest) * self._uniform(1 - JITTER, 1)
        return max(delay, least_pause(self._failures))

    def reset(self) -> None:
        """It worked: the next failure is the first one."""
        self._failures = 0

    async def pause(self) -> None:
        """Sleep for `next()` seconds."""
        await asyncio.sleep(self.next())
