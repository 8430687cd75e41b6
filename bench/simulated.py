"""What a fleet is simulated on (fleet.py): an event loop whose time goes on when everybody waits; Redis, as far as leases go."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from junebug.errors import HostTaken
from junebug.stores.leases import HostEntry, Lease, Turn

START = 1_700_000_000
"""Seconds since 1970."""


class SimulatedLoop(asyncio.BaseEventLoop):
    """What is to be done at the same time is done in order; a thread's work is done at once."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._selector = self

    def time(self) -> float:
        return self._now

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("everybody waits for ever")
        self._now += timeout
        return []

    def _process_events(self, events: list[Any]) -> None: ...

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:  # type: ignore[override]
        done = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:
            done.set_exception(error)
        return done


@dataclass
class SimulatedRedis:
    """What the script in stores/leases.py does; tests/stores/test_leases.py holds it to that. `now`: by its own clock."""

    hosts: dict[str, tuple[float, str, HostEntry]] = field(default_factory=dict)
    """Id -> living until, place, what it says of itself."""
    leases: dict[str, Lease] = field(default_factory=dict)
    changes: list[tuple[str, str, Lease | None]] = field(default_factory=list)
    """Its own id, a channel's, and its lease."""
    fence: int = 0
    settling_until: float = 0.0
    drained: set[str] = field(default_factory=set)
    marks: Iterator[int] = field(default_factory=lambda: iter(range(1, 1 << 62)))
    commands: int = 0

    def turn(
        self, now: float, host: HostEntry, place: str, ttl: float, *, seen: str = "", newest: int = 0, alone: bool = True,
        hosts: Mapping[str, HostEntry] | None = None, release: Mapping[str, int] | None = None,
        claim: Mapping[str, int] | None = None,
    ) -> Turn:  # fmt: skip
        self.commands += 1
        until, there, _ = self.hosts.get(host.id, (0.0, "", host))
        if now < until and there != place:
            raise HostTaken("another's")
        self.hosts[host.id] = (now + ttl, place, host)
        self.fence = max(self.fence, int(self.changes[-1][0].partition("-")[0]) if self.changes else 0)
        if self.fence < newest:
            self.fence = newest
            self._step(now)
            self._change("", None)
            if not alone:
                self.settling_until = now + ttl
        if now >= until or not self.changes:
            self._step(now)
            self._change("", None)
        for lease in (release or {}).items():
            self._release(now, host.id, *lease)
        living = {id: entry for id, (until, _, entry) in self.hosts.items() if now < until}
        for id, number in (claim or {}).items():
            by = self.leases.get(id)
            if (by and (by[0] == host.id or by[0] in living)) or (not number and now < self.settling_until):
                continue
            self._step(now)
            self._change(id, (host.id, number if number and not by else self.fence))
        known = next((at for at in reversed(range(len(self.changes))) if self.changes[at][0] == seen), None)
        told = {} if known is None else {id: lease for _, id, lease in self.changes[known + 1 :] if id}
        entries = {
            id: HostEntry(id, entry.capacity, entry.labels, id in self.drained, name=entry.name) for id, entry in living.items()
        }
        return Turn(self.fence, self.changes[-1][0], entries, dict(self.leases) if known is None else None, told)

    def leave(self, now: float, host: str, release: Mapping[str, int]) -> None:
        for lease in release.items():
            self._release(now, host, *lease)
        self.hosts.pop(host, None)

    def _release(self, now: float, host: str, id: str, fence: int) -> None:
        if self.leases.get(id) == (host, fence):
            self._step(now)
            self._change(id, None)

    def _step(self, now: float) -> None:
        self.fence = max(self.fence + 1, START + int(now))

    def _change(self, id: str, lease: Lease | None) -> None:
        self.changes.append((f"{self.fence}-{next(self.marks)}", id, lease))
        if lease:
            self.leases[id] = lease
        else:
            self.leases.pop(id, None)

    def copied(self) -> SimulatedRedis:
        marks, self.marks = self.marks, iter(())
        found = copy.deepcopy(self)
        found.marks = self.marks = marks
        return found

    def emptied(self) -> SimulatedRedis:
        return SimulatedRedis(marks=self.marks, commands=self.commands)
