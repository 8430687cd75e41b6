"""Which destinations fail at the moment, for the component `callbacks`: pure.

Neighbour: destinations.py tells it of each outcome.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

MOST = 1000


@dataclass(slots=True)
class CallbackHealth:
    """`memory`: seconds after which a failure counts no more when no other call was made since (nothing waits)."""

    memory: float
    _failing: dict[tuple[str, str], tuple[str, float]] = field(default_factory=dict)
    """(destination's kind, destination) -> reason and when."""

    def failed(self, kind: str, destination: str, reason: str, now: float) -> None:
        self._failing[kind, destination] = (reason, now)
        if len(self._failing) > MOST:
            del self._failing[next(iter(self._failing))]

    def worked(self, kind: str, destination: str) -> None:
        if self._failing:
            self._failing.pop((kind, destination), None)

    def forget(self, now: float, is_wanted: Callable[[str, str], bool]) -> None:
        """Drop what is long ago, and what is no destination (kind, destination) of the channel any more."""
        for key, (_, when) in list(self._failing.items()):
            if when + self.memory < now or not is_wanted(*key):
                del self._failing[key]

    def failing(self) -> dict[str, str]:
        """Kind -> reason; empty when all is well."""
        return {kind: reason for (kind, _), (reason, _) in self._failing.items()}
