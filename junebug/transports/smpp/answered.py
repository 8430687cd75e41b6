"""What an SMSC answers, and which binds there are: for the metrics. Neighbour: transport.py tells of each answer."""

from __future__ import annotations

from junebug.runtime import families
from junebug.runtime.metrics import Metrics
from junebug.smpp import constants as c

_STATUSES = {status: families.RESPONSES.field(name) for status, name in c.STATUS_NAMES.items()}
_OTHER = families.RESPONSES.field(families.OTHER)
_THROTTLINGS, _THROTTLED = families.THROTTLINGS.field(), families.THROTTLED.field()
_BOUND, _MISSING = (families.BINDS.field(state) for state in ("bound", "missing"))


class Answered:
    """Of one channel. `bound`: binds that it has."""

    def __init__(self, metrics: Metrics, binds: int) -> None:
        self._counts = metrics.counts
        self._binds = binds
        self._took = families.RESPONSE_SECONDS.observer(metrics.counts)
        self.bound = 0
        self.is_throttled = False
        metrics.gauges.append(self._gauges)

    def __call__(self, status: int, seconds: float) -> None:
        """A submit_sm was answered so, after so many seconds."""
        self._counts[_STATUSES.get(status, _OTHER)] += 1
        self._took(seconds)

    def throttled(self) -> None:
        """The answer said that we are too fast."""
        self._counts[_THROTTLINGS] += 1

    def _gauges(self) -> dict[str, float]:
        return {_BOUND: self.bound, _MISSING: self._binds - self.bound, _THROTTLED: self.is_throttled + 0}
