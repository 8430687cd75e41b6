"""When a session is to ask whether its peer lives, and when a link is to try again. Pure: `now` is an argument.

session.py and link.py own one each and keep the clock.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Literal

JITTER = 0.2
SHORTEST_GROWTH = 0.1


class Liveness:
    """A peer from which nothing came for `interval` seconds is asked (enquire_link); silent for `timeout` more it is dead.

    Any PDU counts as life. An interval of None or 0: nobody asks.
    """

    def __init__(self, interval: float | None, timeout: float, now: float) -> None:
        self._interval = interval or None
        self._timeout = timeout
        self._heard = now
        self._asked: float | None = None

    def heard(self, now: float) -> None:
        self._heard = now
        self._asked = None

    def check(self, now: float) -> Literal["ask", "dead"] | None:
        """What is due. After "ask" the question counts as asked."""
        deadline = self.deadline()
        if deadline is None or now < deadline:
            return None
        if self._asked is not None:
            return "dead"
        self._asked = now
        return "ask"

    def deadline(self) -> float | None:
        """When `check` has something to say next."""
        if self._asked is not None:
            return self._asked + self._timeout
        return None if self._interval is None else self._heard + self._interval


class Backoff:
    """Seconds before the next attempt: exactly `first`, then about twice as long each time, at most `longest`."""

    def __init__(self, first: float, longest: float, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._first = first
        self._longest = longest
        self._uniform = uniform
        self._failures = 0

    def next(self) -> float:
        delay = self._first
        if self._failures:
            # the exponent is capped: a SMSC that is away for a week must not overflow a float
            grown = max(self._first, SHORTEST_GROWTH) * 2 ** min(self._failures, 32)
            delay = min(grown, self._longest) * self._uniform(1 - JITTER, 1)
        self._failures += 1
        return min(delay, self._longest)

    def reset(self) -> None:
        self._failures = 0
