"""What a fleet is simulated on (fleet.py): an event loop whose time goes on when everybody waits; Redis, as far as leases go; a
supervisord.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from junebug.errors import HostTaken
from junebug.stores.leases import HostEntry, Lease, Turn
from junebug.supervisor.reconcile import Running

START = 1_700_000_000
"""Seconds since 1970."""
STOP_TIMEOUT = 5.0


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
        until, there, before = self.hosts.get(host.id, (0.0, "", host))
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
        if now >= until or before != host or not self.changes:
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
            id: replace(entry, drained=id in self.drained) for id, entry in living.items()
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


@dataclass
class Process:
    fence: int
    until: float
    """Seconds of its host's clock: then the kernel kills it. Where that is renewed supervisord has started it again."""
    alone: bool
    gone_at: float | None = None
    """When it was asked to stop, and will be gone."""
    is_bound: bool = False


class SimulatedSupervisor:
    """supervisord of one host, as `SupervisorClient` has it."""

    def __init__(self, host: Any) -> None:
        self._host = host
        self.processes: dict[str, Process] = {}
        self._granted = (0.0, False)

    def running(self) -> dict[str, Running]:
        now = self._host.fleet.loop.time()
        for id in [id for id, process in self.processes.items() if process.gone_at is not None and process.gone_at <= now]:
            del self.processes[id]
        return {id: Running("STOPPING" if each.gone_at else "RUNNING", pid=1) for id, each in self.processes.items()}

    def lease(self, until: float, alone: bool = False, lost: Iterable[str] = ()) -> None:
        kept = {*lost}
        for id, process in self.processes.items():
            if id not in kept:
                process.until, process.alone = until, alone
        self._granted = until, alone

    def start(self, ids: Iterable[str], launches: Callable[[str], tuple[int, bool]]) -> None:
        for id in ids:
            self.processes[id] = Process(launches(id)[0], *self._granted)

    def remove(self, ids: Iterable[str]) -> None:
        fleet = self._host.fleet
        for id in sorted(ids):
            if (process := self.processes.get(id)) and process.gone_at is None:
                process.gone_at = fleet.loop.time() + fleet.dice.choice([0.1, 0.3, STOP_TIMEOUT])
