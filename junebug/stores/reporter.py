"""What a process of Junebug's own (the API's, the reconciler) counts is saved every few seconds, if there is anything new; and
how much memory and time processes take, while somebody looks.

Neighbours: metrics.py has both in Redis; a channel's or a router's worker saves by its own clock (worker/base.py).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress

import structlog

from junebug.errors import StoreUnavailable
from junebug.runtime.families import LOOP_LAG, LOST_LINES, RESTARTS
from junebug.runtime.identity import follows_death
from junebug.runtime.metrics import SAVE_EVERY, Metrics
from junebug.runtime.samples import SAMPLE_EVERY, Sample
from junebug.stores.metrics import MetricStore

log = structlog.stdlib.get_logger(__name__)


class Reporter:
    def __init__(
        self, metrics: Metrics, store: MetricStore, host: str, program: str, look: Callable[[], list[Sample]],
        lost_lines: Callable[[], int] = int,
    ) -> None:  # fmt: skip
        """`program`: what the process is called; `look`: blocking, what the processes take that it tells of; `lost_lines`: log
        lines of it that were lost so far.
        """
        self._metrics = metrics
        self._store = store
        self._host, self._program = host, program
        self._look = look
        self._lag = LOOP_LAG.observer(metrics.counts, program)
        self._log_field = LOST_LINES.field(program)
        self._lost_lines = lost_lines
        self._saving = asyncio.Lock()
        self._sample_at = 0.0
        metrics.quiet = frozenset(LOOP_LAG.fields(program))
        metrics.counts[RESTARTS.field(program)] += int(follows_death())

    async def run(self) -> None:
        """Until cancelled."""
        pause = random.uniform(0.1, SAVE_EVERY)  # processes that were started together save one after the other
        while True:
            ends = time.monotonic() + pause
            await asyncio.sleep(pause)
            self._lag(max(0.0, time.monotonic() - ends))
            pause = SAVE_EVERY
            try:
                await self.save()
                if time.monotonic() >= self._sample_at:
                    await self.save_samples()
            except StoreUnavailable:
                pass  # it is tried again
            except Exception:
                log.exception("what this process counts is not saved: trying again")

    async def save(self) -> None:
        """What is new. Raises StoreUnavailable."""
        self._metrics.reached(self._log_field, self._lost_lines())
        async with self._saving:
            if batch := self._metrics.taken():
                await self._store.save(self._metrics, batch)

    async def close(self) -> None:
        """The last time."""
        with suppress(StoreUnavailable):
            await self.save()

    async def save_samples(self) -> None:
        """Raises StoreUnavailable."""
        self._sample_at = time.monotonic() + SAMPLE_EVERY
        if await self._store.is_wanted():
            found = await asyncio.to_thread(self._look)
            await self._store.put_samples(self._host, self._program, found)
