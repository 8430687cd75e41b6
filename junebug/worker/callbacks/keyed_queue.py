"""The order of one destination's calls: those of one key one after the other, as they came, others side by side. Pure.

Neighbour: destination.py. A key is an address, or the id of a message whose events these are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar


class Keyed(Protocol):
    @property
    def key(self) -> str: ...

    @property
    def number(self) -> int:
        """Rises with each that comes."""


K = TypeVar("K", bound=Keyed)


class KeyedQueue(Generic[K]):
    """What waits for one of `room` places."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._waiting: dict[str, deque[K]] = {}
        self._ready: deque[str] = deque()
        """Keys whose first may begin."""
        self._under_way: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._waiting or self._under_way)

    def __iter__(self) -> Iterator[K]:
        """What has not begun, in no order."""
        return (item for waiting in self._waiting.values() for item in waiting)

    def add(self, item: K) -> None:
        """It comes last."""
        waiting = self._waiting.setdefault(item.key, deque())
        waiting.append(item)
        if len(waiting) == 1 and item.key not in self._under_way:
            self._ready.append(item.key)

    def begin(self) -> K | None:
        """The next whose turn it is, if there is room: under way until it is `done`."""
        if not self._ready or len(self._under_way) >= self._room:
            return None
        key = self._ready.popleft()
        self._under_way.add(key)
        item = self._waiting[key].popleft()
        if not self._waiting[key]:
            del self._waiting[key]
        return item

    def done(self, item: K) -> None:
        """It makes room, and the next of its key may begin."""
        self._under_way.discard(item.key)
        if item.key in self._waiting:
            self._ready.append(item.key)

    def leave(self, leaves: Callable[[K], bool]) -> list[K]:
        """Take out those of them that are not under way, in the order in which they came."""
        everybody = sorted(self, key=lambda item: item.number)
        self._waiting.clear()
        self._ready.clear()
        left = []
        for item in everybody:
            if leaves(item):
                left.append(item)
            else:
                self.add(item)
        return left
