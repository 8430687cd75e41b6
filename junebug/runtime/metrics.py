"""What a process counts: plain numbers by text, a few additions a message; no lock, no object a message.

What was counted since the last time is taken as a Batch, a few seconds apart, and added to Redis' sums (stores/metrics.py). So a
process that ends takes nothing with it but what it counted since. Neighbour: families.py declares what may be counted, and makes
the texts.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from junebug.runtime.identity import process_id

SAVE_EVERY = 2.5
"""Seconds between two batches at the least."""
SAY_AGAIN = 86_400.0
"""Seconds after which something is written though nothing changed: what Redis holds of it lives on."""
PRECISION = 1_000_000
"""A sum of seconds is kept in whole microseconds: whole numbers add up."""
MOST_OWNERS = 10_000
OF_SHARD = "@"
"""Behind a gauge's field, before the number of the shard that has it, from 1 on."""

Counts = defaultdict[str, int]
"""Field (families.Family.field) -> how often since the last batch."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What is to be added. `number`: one more than that of the batch before; the same when it is tried again."""

    process: str
    number: int
    counts: Mapping[str, Mapping[str, int]]
    """Owner ("" is Junebug itself, else a channel or a router) -> field -> how many more."""
    owner: str
    gauges: Mapping[str, float]
    """Of this owner: field -> what it is now."""


@dataclass(slots=True)
class Metrics:
    """Of one process, which counts for `owner` (a channel's or a router's id; "": Junebug) and at times for others."""

    owner: str = ""
    quiet: frozenset[str] = frozenset()
    """Fields that are no reason for a batch: they go with the next one."""
    shard: int = 0
    """Of its owner: each has gauges of its own."""
    counts: Counts = field(default_factory=lambda: defaultdict(int))
    gauges: list[Callable[[], Mapping[str, float]]] = field(default_factory=list)
    """Asked whether there is a batch to make: field -> what it is now; of what is 0 nothing need be said."""
    _of_others: dict[str, Counts] = field(default_factory=dict)
    _totals: dict[str, int] = field(default_factory=dict)
    """What `reached` was last given."""
    _present: dict[str, float] = field(default_factory=dict)
    """The gauges as they were when the last batch was made; `_told`: of the last that was saved."""
    _told: dict[str, float] = field(default_factory=dict)
    _numbers: count[int] = field(default_factory=lambda: count(1))
    _unsaved: Batch | None = None
    _next_at: float = 0.0
    _again_at: float = 0.0

    def of(self, owner: str) -> Counts:
        """What this process counts for this owner, itself or another. To be asked for each time."""
        if owner == self.owner:
            return self.counts
        found = self._of_others.get(owner)
        if found is None:
            if len(self._of_others) >= MOST_OWNERS:
                self._of_others.clear()  # Redis is away, and somebody makes channels by the thousand
            found = self._of_others[owner] = defaultdict(int)
        return found

    def reached(self, name: str, total: int) -> None:
        """Of what is counted elsewhere, since this process began."""
        if more := total - self._totals.get(name, 0):
            self.counts[name] += more
            self._totals[name] = total

    def due(self, now: float | None = None) -> Batch | None:
        """What is to be saved; None: nothing yet, or nothing new. Until `saved` it is the same one."""
        now = time.monotonic() if now is None else now
        return self.taken(now) if now >= self._next_at else None

    def taken(self, now: float | None = None) -> Batch | None:
        """The same, at once."""
        now = time.monotonic() if now is None else now
        if self._unsaved is None:
            present: dict[str, float] = {}
            for ask in self.gauges:
                if found := ask():
                    present |= found
            if self.shard:
                present = {f"{name}{OF_SHARD}{self.shard}": value for name, value in present.items()}
            is_news = present != self._told or self._of_others or not self.quiet.issuperset(self.counts)
            if not is_news and now < self._again_at:
                return None
            gauges = {name: value for name, value in present.items() if self._told.get(name) != value}
            gauges |= dict.fromkeys(self._told.keys() - present.keys(), 0)
            self._present = present
            counts: dict[str, Mapping[str, int]] = {**self._of_others, self.owner: self.counts}
            self.counts, self._of_others = _emptied(self.counts, counts, self.owner), {}
            self._unsaved = Batch(process_id(), next(self._numbers), counts, self.owner, gauges)
        self._next_at = now + SAVE_EVERY
        return self._unsaved

    def saved(self, batch: Batch) -> None:
        """Redis has it."""
        if batch is self._unsaved:
            self._unsaved = None
            self._told = self._present
            self._again_at = time.monotonic() + SAY_AGAIN


def _emptied(counts: Counts, taken: dict[str, Mapping[str, int]], owner: str) -> Counts:
    """The very same object, as those who count hold it, with nothing in it; what was in it is in `taken`."""
    taken[owner] = dict(counts)
    counts.clear()
    return counts


Observer = Callable[[float], None]
"""Is told of seconds."""


def observer(counts: Counts, bounds: Sequence[float], fields: Sequence[str], sum_field: str) -> Observer:
    """Counts them by how many they were. `fields`: of each bound, and of what is beyond."""

    def observe(seconds: float) -> None:
        counts[fields[bisect_left(bounds, seconds)]] += 1
        counts[sum_field] += int(seconds * PRECISION)

    return observe
