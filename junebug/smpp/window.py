"""Window: how many requests may be unanswered at a time, and when the next may leave: pace and throttling. Pure.

`now` is an argument, in seconds. transports/smpp/submit_scheduler.py asks one for each submit_sm.
"""

from __future__ import annotations

from junebug.runtime.backoff import least_pause

CATCH_UP = 0.05
"""Seconds of the pace that may be caught up on at once: timers are late by so much at times."""
LONGEST_INTERVAL = 1e8
"""Seconds: no timer takes an endless one."""
LONGEST_GROWTH = 50
"""Throttled again and again, the pause grows up to so many times throttle_delay ..."""
LONGEST_PAUSE = 5.0
"""... but not beyond so many seconds, unless throttle_delay itself is longer."""


class Window:
    """At most `size` requests are unanswered, `per_second` of them leave (0: as many as can).

    Throttled by the peer, one leaves alone after a pause; once it is taken, fewer at a time than before, then more again.
    """

    def __init__(self, size: int, per_second: float = 0.0, throttle_delay: float = 0.1) -> None:
        self._size = size
        self._interval = min(1 / per_second, LONGEST_INTERVAL) if per_second > 0 else 0.0
        self._throttle_delay = throttle_delay
        self._limit = float(size)
        self._next_at = 0.0
        self._paused_until = 0.0
        self._strikes = 0
        self._round = 0
        self.unanswered = 0

    @property
    def throttled(self) -> bool:
        """Whether the peer said "not so fast" and has taken nothing since."""
        return self._strikes > 0

    def wait(self, now: float) -> float | None:
        """Seconds until the next may leave, 0 for now; None: when one of those that left is answered."""
        if self.unanswered >= (1 if self.throttled else int(self._limit)):
            return None
        return max(0.0, self._paused_until - now, self._next_at - now if self._interval else 0.0)

    def leave(self, now: float) -> int:
        """One more leaves. Returns the round in which it does, for `taken`."""
        self.unanswered += 1
        if self._interval:
            self._next_at = max(self._next_at, now - CATCH_UP) + self._interval
        return self._round

    def taken(self, round: int) -> None:
        """Answered, with anything but "not so fast"; only what left after the last of those ends throttling."""
        self.unanswered -= 1
        if round == self._round:
            self._strikes = 0
            self._limit = min(self._size, self._limit + 1 / self._limit)

    def lost(self) -> None:
        """It will get no answer: the link is gone, or it took too long."""
        self.unanswered -= 1

    def throttle(self, now: float) -> None:
        """Answered "not so fast"; those that left at the same time will hear it, too, and count as one."""
        if now >= self._paused_until:
            self._strikes += 1
            self._round += 1
            self._limit = max(1.0, min(self._limit, self.unanswered) / 2)
            growth = min(2 ** (self._strikes - 1), LONGEST_GROWTH)
            longest = max(self._throttle_delay, LONGEST_PAUSE)
            self._paused_until = now + max(min(self._throttle_delay * growth, longest), least_pause(self._strikes))
        self.unanswered -= 1
