"""Which destinations fail at the moment, for the component `callbacks`. Neighbour: attempts.py tells it of each outcome."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

MOST = 1000
INTERVAL = 10.0


class CallbackHealth:
    """Tells when other kinds of destinations fail than before."""

    def __init__(
        self, memory: float, on_change: Callable[[dict[str, str]], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`memory`: seconds after which a failure counts no more when no other call was made since (nothing waits).

        `on_change` is given kind -> reason; nothing when all is well.
        """
        self._memory = memory
        self._on_change = on_change
        self._clock = clock
        self._failing: dict[tuple[str, str], tuple[str, float]] = {}
        """(destination's kind, destination) -> reason and when."""
        self._told: dict[str, str] = {}
        self._timer: asyncio.TimerHandle | None = None

    def failed(self, kind: str, destination: str, reason: str) -> None:
        self._failing[kind, destination] = (reason, self._clock())
        if len(self._failing) > MOST:
            del self._failing[next(iter(self._failing))]
        self._tell()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(INTERVAL, self._age)

    def worked(self, kind: str, destination: str) -> None:
        if (kind, destination) in self._failing:
            del self._failing[kind, destination]
            self._tell()

    def forget(self, is_wanted: Callable[[str, str], bool] = lambda kind, destination: True) -> None:
        """Drop what is long ago, and what is no destination (kind, destination) of the channel any more."""
        for key, (_, when) in list(self._failing.items()):
            if when + self._memory < self._clock() or not is_wanted(*key):
                del self._failing[key]
        self._tell()

    def _age(self) -> None:
        self._timer = None
        self.forget()
        if self._failing:
            self._timer = asyncio.get_running_loop().call_later(INTERVAL, self._age)

    def _tell(self) -> None:
        failing = {kind: reason for (kind, _), (reason, _) in self._failing.items()}
        if failing.keys() != self._told.keys():
            self._told = failing
            self._on_change(failing)

    def close(self) -> None:
        if self._timer:
            self._timer.cancel()
