"""Whether a destination is called at all: a host that fails is left alone and asked now and then. Pure.

Neighbour: destination.py has one and tells it of every outcome. Times are seconds of any clock that does not jump.

    closed --5 callbacks failed, none went well between; or one did, and nobody has shown life since--> open
    open --an answer that shows life--> closed;  open --probe failed--> open, the next probe later
"""

from __future__ import annotations

from collections.abc import Sequence

from junebug.runtime.backoff import least_pause

FAILURES = 5
LONGEST_PAUSE = 30.0
"""A host that works again is found within this time, unless it said itself how long to wait (Retry-After)."""


class CircuitBreaker:
    def __init__(self, delays: Sequence[float]) -> None:
        """`delays`: pauses before each probe; the last one repeats."""
        self._delays = delays
        self._failed: set[str] = set()
        self._probes = 0
        self.is_open = False
        self.probe_at = 0.0
        self.reason = ""
        """How the last call failed."""

    def failed(self, now: float, callback_id: str, reason: str, retry_after: float | None = None) -> bool:
        """A call failed for a cause that may lie with the host; whether that opened the circuit.

        Counted are callbacks, not calls: one that the application cannot bear says nothing of the others.
        """
        self.reason = reason
        if self.is_open:
            return False
        self._failed.add(callback_id)
        if len(self._failed) < FAILURES:
            return False
        self.is_open = True
        self._probes = 0
        self._schedule(now, retry_after)
        return True

    def probe_failed(self, now: float, reason: str, retry_after: float | None = None) -> None:
        self.reason = reason
        self._probes += 1
        self._schedule(now, retry_after)

    def answered(self) -> bool:
        """The host took a callback, or refused it like somebody who lives; whether that closed the circuit."""
        was_open, self.is_open = self.is_open, False
        self._failed.clear()
        return was_open

    def suspect(self, now: float) -> None:
        """It may be failing: ask before anything else."""
        self.is_open = True
        self._probes = 0
        self.probe_at = now

    def _schedule(self, now: float, retry_after: float | None) -> None:
        pause = min(self._delays[min(self._probes, len(self._delays) - 1)], LONGEST_PAUSE)
        pause = max(pause, least_pause(self._probes + 1))
        self.probe_at = now + max(pause, retry_after or 0.0)
