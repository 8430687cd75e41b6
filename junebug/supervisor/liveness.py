"""Whose event loop hangs: what heartbeats say, and for how long. Pure.

Neighbours: runtime/heartbeat.py has the heartbeats; the reconciler watches the channels, and supervisord itself
(processes/warm_fork.py) the reconciler and the API.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

STARTING_GRACE = 30.0
"""Seconds that a new process may take to its first heartbeat (200 of them share two cores)."""
CONFIRM = 2.0
"""Seconds that a silent process is watched before it is called hung."""
LONGEST_GAP = 8.0
"""Seconds between two looks after which it was us who slept (a suspended machine, a stopped process)."""


@dataclass(frozen=True, slots=True)
class Pulse:
    """A process and the last sign of life of its event loop. Times are seconds since the epoch."""

    name: str
    pid: int
    spawned_at: float
    beaten_at: float
    """0: never."""

    def silence(self, now: float) -> float:
        return now - max(self.spawned_at, self.beaten_at)

    @property
    def has_beaten(self) -> bool:
        """Whether this process, not the one before it, has shown life."""
        return self.beaten_at >= self.spawned_at


class SilenceWatch:
    """Says which processes hang: late now, late at each look for CONFIRM seconds, and we ourselves were not away.

    The last condition keeps a machine that slept from having all its processes killed when it wakes.
    """

    def __init__(self, timeout: float, starting_grace: float = STARTING_GRACE) -> None:
        self._timeout = timeout
        self._starting_grace = max(timeout, starting_grace)
        self._suspects: dict[str, tuple[int, float]] = {}
        self._last_look: float | None = None

    @property
    def is_suspicious(self) -> bool:
        """Whether to look again soon."""
        return bool(self._suspects)

    def look(self, now: float, pulses: Iterable[Pulse]) -> list[Pulse]:
        """The hung ones; to be called every few seconds, with everybody's pulse."""
        if self._last_look is None or not 0 <= now - self._last_look <= LONGEST_GAP:
            self._suspects.clear()
        self._last_look = now
        before, self._suspects = self._suspects, {}
        hung: list[Pulse] = []
        late = [each for each in pulses if each.silence(now) > (self._timeout if each.has_beaten else self._starting_grace)]
        for pulse in late:
            pid, since = before.get(pulse.name, (pulse.pid, now))
            if pid != pulse.pid:
                since = now
            if now - since >= CONFIRM:
                hung.append(pulse)
            else:
                self._suspects[pulse.name] = (pulse.pid, since)
        return hung
