"""The order of one destination's calls: those of one key one after the other, as they came, others side by side. Pure.

Neighbour: lane.py. A key is an address, or the id of a message whose events these are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar


class Keyed(Protocol):
    @property
    def key(self) -> str: ...


J = TypeVar("J", bound=Keyed)


class Line(Generic[J]):
    """Jobs that stand in line for `room` places."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._count = 0
        self._ready: deque[tuple[int, J]] = deque()
        self._behind: dict[str, deque[tuple[int, J]]] = {}
        """Key -> what waits for the one of that key that is ready or under way."""
        self._under_way: dict[str, J] = {}

    def __bool__(self) -> bool:
        return bool(self._behind)

    def add(self, job: J) -> None:
        self._count += 1
        self._place(self._count, job)

    def _place(self, number: int, job: J) -> None:
        behind = self._behind.get(job.key)
        if behind is None:
            self._behind[job.key] = deque()
            self._ready.append((number, job))
        else:
            behind.append((number, job))

    def begin(self) -> J | None:
        """The next whose turn it is, if there is room; to be told when it is `done`."""
        if not self._ready or len(self._under_way) >= self._room:
            return None
        _, job = self._ready.popleft()
        self._under_way[job.key] = job
        return job

    def done(self, job: J) -> None:
        del self._under_way[job.key]
        behind = self._behind[job.key]
        if behind:
            self._ready.append(behind.popleft())
        else:
            del self._behind[job.key]

    def waiting(self) -> Iterator[J]:
        """What has not begun, in no order."""
        for _, job in self._ready:
            yield job
        for behind in self._behind.values():
            for _, job in behind:
                yield job

    def leave(self, leaves: Callable[[J], bool]) -> list[J]:
        """Take out those of them that have not begun, in the order in which they came."""
        everybody = sorted((*self._ready, *(entry for behind in self._behind.values() for entry in behind)), key=_number)
        self._ready.clear()
        self._behind = {key: deque() for key in self._under_way}
        left = []
        for number, job in everybody:
            if leaves(job):
                left.append(job)
            else:
                self._place(number, job)
        return left


def _number(entry: tuple[int, J]) -> int:
    return entry[0]
