"""Pace: lines leave at once after a silence, then one each so many seconds. Servers count so, and throw out who is faster."""

from __future__ import annotations


class Pace:
    """`interval`: seconds a line; 0: no limit. `burst`: lines that may leave at once. Times are those of one clock, given."""

    def __init__(self, interval: float, burst: int) -> None:
        self._interval, self._room = interval, interval * (burst - 1)
        self._busy_until = 0.0

    def delay(self, now: float) -> float:
        """Seconds that the next line, which is counted now, has to wait."""
        begin = max(self._busy_until, now)
        self._busy_until = begin + self._interval
        return max(begin - now - self._room, 0.0)
