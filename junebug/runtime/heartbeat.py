"""A process's sign of life: a number in shared memory that its event loop writes, so that whoever watches sees a loop that
hangs. No file and no system call: neither a disk nor a thousand channels stand in its way.

The parent makes `Heartbeats` and gives each child a `Heartbeat` of its own; the child says before anything else which one
is its (`adopt`), and then `beat`s. Beside it lies what the parent tells the child: until when its lease lasts.
Neighbours: supervisor/liveness.py tells from it who is silent; fence.py is how the child keeps to its lease.
"""

from __future__ import annotations

import asyncio
import mmap
import struct
import time
from collections.abc import Sequence

INTERVAL = 1.0
_TIME = struct.Struct("d")
_PLACE = 4 * _TIME.size
"""Of one process: beaten at, lease until, whether only RabbitMQ guards it, and room."""


class Heartbeats:
    """Of one parent. They are in memory that it shares with whoever it forks; a page has those of hundreds."""

    def __init__(self) -> None:
        self._free: list[tuple[mmap.mmap, int]] = []

    def add(self) -> Heartbeat:
        if not self._free:
            page = mmap.mmap(-1, mmap.PAGESIZE)  # anonymous, and shared with forks
            self._free = [(page, place) for place in range(0, mmap.PAGESIZE, _PLACE)]
        return Heartbeat(*self._free.pop())

    def remove(self, heartbeat: Heartbeat) -> None:
        """Its process is gone; the next one's may be in the same place."""
        self._free.append((heartbeat._page, heartbeat._place))


class Heartbeat:
    """One process's. The clock is the one that all processes have in common: seconds since the epoch."""

    def __init__(self, page: mmap.mmap, place: int) -> None:
        self._page, self._place = page, place
        self.clear()
        self.lease(0.0)

    def clear(self) -> None:
        """Before the process is forked: what the last one wrote is not its."""
        _TIME.pack_into(self._page, self._place, 0.0)

    def beat(self) -> None:
        _TIME.pack_into(self._page, self._place, time.time())

    @property
    def at(self) -> float:
        """Of the last beat; 0: there was none."""
        return float(_TIME.unpack_from(self._page, self._place)[0])

    def lease(self, until: float, alone: bool = False) -> None:
        """The parent tells the child until when it may work (seconds of fence.now). `alone`: Redis is away, nobody else is known:
        only while it is connected to RabbitMQ.
        """
        _TIME.pack_into(self._page, self._place + 2 * _TIME.size, alone)
        _TIME.pack_into(self._page, self._place + _TIME.size, until)

    def shared(self) -> Sequence[float]:
        """What `lease` says, as two doubles that the child reads."""
        first = self._place // _TIME.size + 1
        return memoryview(self._page).cast("d")[first : first + 2]


_own: Heartbeat | None = None


def adopt(heartbeat: Heartbeat) -> None:
    """This process, which was just forked, beats there."""
    global _own
    _own = heartbeat


def beat() -> None:
    """This process lives. Nothing, where nobody watches it."""
    if _own is not None:
        _own.beat()


async def keep_beating() -> None:
    """Until cancelled."""
    while True:
        beat()
        await asyncio.sleep(INTERVAL)
