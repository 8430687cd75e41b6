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


K = TypeVar("K", bound=Keyed)


class KeyedQueue(Generic[K]):
    """What waits for one of `room` places."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._count = 0
        self._waiting: dict[str, deque[tuple[int, K]]] = {}
        """Key -> what has not begun, with the number of its coming; also what is held, before all else of its key."""
        self._ready: deque[str] = deque()
        """Keys whose first may begin."""
        self._under_way: dict[str, tuple[int, K]] = {}
        self._held: set[str] = set()
        """Keys that stand still."""

    def __bool__(self) -> bool:
        return bool(self._waiting or self._under_way)

    def __iter__(self) -> Iterator[K]:
        """What has not begun, in no order."""
        return (item for waiting in self._waiting.values() for _, item in waiting)

    def add(self, item: K) -> None:
        """It comes last."""
        self._count += 1
        waiting = self._waiting.setdefault(item.key, deque())
        waiting.append((self._count, item))
        if len(waiting) == 1 and item.key not in self._under_way:
            self._ready.append(item.key)

    def begin(self) -> K | None:
        """The next whose turn it is, if there is room: under way until it is `done` or `hold` is called."""
        if not self._ready or len(self._under_way) >= self._room:
            return None
        key = self._ready.popleft()
        entry = self._under_way[key] = self._pop(key)
        return entry[1]

    def done(self, item: K) -> None:
        """It makes room, and the next of its key may begin."""
        del self._under_way[item.key]
        self._go_on(item.key)

    def hold(self, item: K) -> None:
        """It makes room, but stays the first of its key, which stands still until `release` or `leave`."""
        self._waiting.setdefault(item.key, deque()).appendleft(self._under_way.pop(item.key))
        self._held.add(item.key)

    def release(self, item: K) -> None:
        """What was held leaves: the next of its key may begin."""
        self._held.discard(item.key)
        self._pop(item.key)
        self._go_on(item.key)

    def leave(self, leaves: Callable[[K], bool]) -> list[K]:
        """Take out those of them that are not under way, in the order in which they came; a held one frees its key."""
        entries = sorted((entry for waiting in self._waiting.values() for entry in waiting), key=lambda entry: entry[0])
        held, self._held = self._held, set()
        first_of = {key: waiting[0][1] for key, waiting in self._waiting.items()}
        left = [item for _, item in entries if leaves(item)]
        gone = set(map(id, left))
        self._waiting.clear()
        self._ready.clear()
        for number, item in entries:
            if id(item) not in gone:
                waiting = self._waiting.setdefault(item.key, deque())
                waiting.append((number, item))
                if item.key in held and item is first_of[item.key]:
                    self._held.add(item.key)
                elif len(waiting) == 1 and item.key not in self._under_way:
                    self._ready.append(item.key)
        return left

    def _pop(self, key: str) -> tuple[int, K]:
        waiting = self._waiting[key]
        entry = waiting.popleft()
        if not waiting:
            del self._waiting[key]
        return entry

    def _go_on(self, key: str) -> None:
        if key in self._waiting:
            self._ready.append(key)
