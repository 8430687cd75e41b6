"""A host that fails is probed by one destination, of whatever channel; the others look in Redis how that goes.

A look costs one trip to Redis: no AMQP channel, no socket. The looks of those who wait are spread over the time after a probe,
so they do not all come back at once. Not all wait for another's probe: who got through to the host while it failed for others
(another path of it is another application) probes for himself at first, and after OWN_PAUSES everybody does, once. Redis away:
everybody probes for himself.

Neighbours: destination.py has one and asks it before each probe; stores/circuits.py says what Redis keeps.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from junebug.errors import StoreUnavailable
from junebug.stores.circuits import CircuitStore, Watch

OWN_PAUSES = (120.0, 240.0, 300.0)
"""Seconds, up to a quarter more or less, between the probes of one who waits for another's; the last one repeats."""
SHORTEST_SPREAD, LONGEST_SPREAD = 1.0, 15.0
"""Seconds after a probe over which the looks are spread: as long as the pause before it, within these bounds."""
GRACE = 5.0
"""Seconds that a prober may be late."""


def spread(watch: Watch, share: float) -> float:
    """Seconds until the next look; `share`, 0 to 1: one's place among those who wait. Pure."""
    return max(watch.due_in, 0.0) + share * min(max(watch.pause, SHORTEST_SPREAD), LONGEST_SPREAD)


class SharedCircuit:
    def __init__(
        self, store: CircuitStore, destination: str, prober: str, call_timeout: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`prober`: the same after a restart; `call_timeout`: of one callback, in seconds (a probe may make two)."""
        self._store = store
        self._destination = destination
        self._prober = prober
        self._lease = 2 * call_timeout + GRACE
        self._clock = clock
        self._alive_at = float("-inf")
        self._fails_since: float | None = None
        self._own_probes = 0
        self._own_probe_at: float | None = None
        self._probes_for_all = False
        self.reason = ""
        """How the last probe of the other one failed."""

    def showed_life(self) -> None:
        """It answered to this one."""
        self._alive_at = self._clock()

    async def wait(self) -> float:
        """Seconds until it is to be asked again: somebody else probes. 0: probe now."""
        try:
            watch = await self._store.take(self._destination, self._prober, self._lease)
        except StoreUnavailable:
            watch = None
        self._probes_for_all = watch is None
        now = self._clock()
        if self._fails_since is None:
            self._fails_since = now
        if watch is None or self._knows_better(watch, now):
            return 0.0
        if self._own_probe_at is not None and self._own_probe_at <= now:
            self._own_probe_at = None
            return 0.0
        if self._own_probe_at is None:
            pause = OWN_PAUSES[min(self._own_probes, len(OWN_PAUSES) - 1)]
            self._own_probes += 1
            self._own_probe_at = now + pause * random.uniform(0.75, 1.25)
        self.reason = watch.reason
        return min(spread(watch, random.uniform(0.05, 1.0)), self._own_probe_at - now)

    def _knows_better(self, watch: Watch, now: float) -> bool:
        return self._alive_at > now - watch.age and now < (self._fails_since or now) + OWN_PAUSES[0]

    async def failed(self, pause: float, reason: str) -> None:
        """The probe failed; the next one comes in `pause` seconds."""
        if self._probes_for_all:
            await self._tell(self._store.failed(self._destination, self._prober, pause, self._lease, reason))

    async def over(self, *, works: bool) -> None:
        """Nothing is to be probed here any more: it works, or nobody is left to call."""
        if works:
            await self._tell(self._store.works(self._destination))
        elif self._probes_for_all:
            await self._tell(self._store.leave(self._destination, self._prober))
        self._probes_for_all = False
        self._fails_since, self._own_probes, self._own_probe_at = None, 0, None

    async def _tell(self, telling: Awaitable[None]) -> None:
        with suppress(StoreUnavailable):  # then nobody else can look either
            await telling
