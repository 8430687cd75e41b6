"""Follower: one thread that reads on in the logs of channels and routers for all who follow them, as long as anybody does.

The files are the buffer. A reader has a bounded number of lines ahead of it and the rest is read when it has taken some, so a
slow one costs no memory; those who are at the same place share what is read and made of it. Neighbours: places.py reads on from
a place; api/handlers/stream.py is who follows.
"""

from __future__ import annotations

import heapq
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog

from junebug.logs import places
from junebug.logs.places import Place

log = structlog.stdlib.get_logger(__name__)

INTERVAL, LONGEST_INTERVAL = 0.1, 2.0
"""Seconds between two looks at the files; longer, where there are so many that looking takes long."""
SHARE = 0.02
"""Of the time, that may be spent looking."""
MOST_AHEAD = 256 * 1024
"""Bytes of lines that a reader has ahead of it, and a piece more."""
A_STEP = 200
"""Bytes that a step is counted for beside its line."""
PIECES = 16
"""That are read for a reader in one look: others wait for theirs."""
LINES_AT_A_TIME = 16
"""After so many lines the thread lets the event loop have the interpreter, if that wants it."""
SETTLED = 10.0
"""Seconds after which a line is surely in its file."""
SAY_COMPLETE = 1.0


class Line:
    """One of a log. `data` is made when somebody wants it, once for all of them."""

    __slots__ = ("_data", "_make", "kind", "timestamp")

    def __init__(self, kind: str, timestamp: float, make: Callable[[], bytes]) -> None:
        self.kind = kind
        self.timestamp = timestamp
        self._make: Callable[[], bytes] | None = make
        self._data = b""

    @property
    def data(self) -> bytes:
        self.make()
        return self._data

    def make(self) -> None:
        if self._make is not None:
            self._data, self._make = self._make(), None


@dataclass(frozen=True, slots=True)
class Step:
    """A log was read up to that place, at that time. `line`: what stands before it, None where nobody wants it; `is_lost`: lines
    before it are gone; `host`: where that is, empty: here.
    """

    log: str
    place: Place
    at: float
    line: Line | None = None
    is_lost: bool = False
    host: str = ""

    @property
    def size(self) -> int:
        return A_STEP + len(self.line.data) if self.line else A_STEP


@dataclass(frozen=True, slots=True)
class Complete:
    """All that was in the files at that time came before this."""

    at: float
    size = 0


Show = Callable[[str, bytes], Line | None]
"""What a line of that log says; None: nothing, it was cut."""


class Reader:
    """Somebody who follows logs. Made and read by the event loop, filled by the Follower's thread."""

    def __init__(
        self, kinds: frozenset[str], wake: Callable[[], None], since: float | None = None,
        known: Mapping[str, Place] | None = None,
    ) -> None:  # fmt: skip
        """`wake` is called by the thread when there is something. `since`: begin behind what was logged up to then, None: now;
        but in the logs that are `known`, there.
        """
        self.logs: frozenset[str] = frozenset()
        """Those that it follows; may be set anew. A new one is read from `since` on, or from when this was made."""
        self._kinds = kinds
        self._wake = wake
        self._known = dict(known or {})
        self._since = since
        self.made_at = time.time()
        self._is_new = True
        self._places: dict[str, Place] = {}
        self._behind: dict[str, None] = {}
        """Logs that have more; the one that was read last comes last."""
        self._steps: deque[Step | Complete] = deque()
        self._given = self._taken = 0
        """Bytes."""
        self._lines_given = self._lines_taken = 0
        self._complete_at = 0.0

    # --- the event loop's side ----------------------------------------------------------------------------------------

    def take(self, most: int) -> list[Step | Complete]:
        """What came next: about `most` bytes of it."""
        found: list[Step | Complete] = []
        size = 0
        while self._steps and size < most:
            step = self._steps.popleft()
            found.append(step)
            size += step.size
            self._lines_taken += isinstance(step, Step) and step.line is not None
        self._taken += size
        return found

    @property
    def waiting(self) -> int:
        """Lines that it has not taken."""
        return self._lines_given - self._lines_taken

    # --- the thread's side --------------------------------------------------------------------------------------------

    @property
    def has_room(self) -> bool:
        return self._given - self._taken < MOST_AHEAD

    @property
    def is_hungry(self) -> bool:
        """Whether there is more for it, and room."""
        return bool(self._behind) and self.has_room

    def fill(self, read: Callable[[str, Place], _Read], path_of: Callable[[str], Path], changed: set[str], now: float) -> None:
        """One look at its logs, of which these have `changed`."""
        logs = self.logs
        for each in self._places.keys() - logs:
            del self._places[each]
            self._behind.pop(each, None)
        steps: dict[str, list[Step]] = {}
        for each in sorted(logs - self._places.keys()):
            steps[each] = self._begin(each, path_of(each))
            self._behind[each] = None
        self._is_new = False
        self._behind |= dict.fromkeys(sorted(changed & logs))
        size, room = 0, MOST_AHEAD - (self._given - self._taken)
        for _ in range(max(PIECES, len(self._behind))):
            if not self._behind or size >= room:
                break
            each = next(iter(self._behind))
            found = read(each, self._places[each])
            some = [step for step in found.steps if step.line is None or step.line.kind in self._kinds]
            if found.steps and (not some or some[-1] is not found.steps[-1]):
                some.append(Step(each, found.place, found.at))
            steps.setdefault(each, []).extend(some)
            size += sum(step.size for step in some)
            self._places[each] = found.place
            del self._behind[each]
            if not found.is_end:
                self._behind[each] = None
        self._give(list(heapq.merge(*steps.values(), key=_time)), now)

    def _give(self, steps: list[Step], now: float) -> None:
        """In the order of their times; that of each log's lines stays as it was."""
        self._given += sum(step.size for step in steps)
        self._lines_given += sum(step.line is not None for step in steps)
        self._steps.extend(steps)
        is_news = bool(steps)
        if not self._behind and (steps or now - self._complete_at >= SAY_COMPLETE):
            self._complete_at, is_news = now, True
            self._steps.append(Complete(now))
        if is_news:
            self._wake()

    def _begin(self, each: str, path: Path) -> list[Step]:
        """Where to begin with a log, and, where that is not to be told by the time, the step that tells it."""
        if (known := self._known.pop(each, None)) is not None:
            self._places[each] = known
            return []
        if self._since is not None or not self._is_new:
            self._places[each] = places.behind(path, self.made_at if self._since is None else self._since)
            return []
        self._places[each] = place = places.end_of(path)
        now = time.time()
        return [Step(each, place, now)] if place.mark and _written_at(path) > now - SETTLED else []


def _time(step: Step) -> float:
    return step.line.timestamp if step.line else 0.0


def _written_at(path: Path) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0


@dataclass(frozen=True, slots=True)
class _Read:
    steps: list[Step]
    place: Place
    is_end: bool
    at: float


class Follower:
    """Of one process; `follow` and `leave` are called by its event loop."""

    def __init__(self, path_of: Callable[[str], Path], show: Show) -> None:
        self._path_of = path_of
        self._show = show
        self._readers: list[Reader] = []
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._seen: dict[str, tuple[int, int, int]] = {}
        """Log -> what its file was when it was looked at last."""

    @property
    def is_running(self) -> bool:
        """Whether there is a thread."""
        return self._thread is not None

    def follow(self, reader: Reader) -> None:
        with self._lock:
            self._readers.append(reader)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="log follower", daemon=True)
                self._thread.start()
        self._wake.set()

    def leave(self, reader: Reader) -> None:
        """It is given nothing any more; with the last one the thread ends."""
        with self._lock:
            self._readers = [each for each in self._readers if each is not reader]
        self._wake.set()

    def hurry(self) -> None:
        """A reader has room again, or other logs."""
        self._wake.set()

    def _run(self) -> None:
        while True:
            with self._lock:
                readers = self._readers
                if not readers:
                    self._thread = None
                    self._seen.clear()
                    return
            self._wake.clear()
            now, began = time.time(), time.monotonic()
            try:
                changed = self._look({each for reader in readers for each in reader.logs})
                looked = time.monotonic() - began
                self._serve(readers, changed, now)
            except Exception:  # one log must not end the view of all others
                log.exception("following logs failed: trying again")
                looked = LONGEST_INTERVAL
            if not any(reader.is_hungry for reader in readers):
                self._wake.wait(min(max(INTERVAL, looked / SHARE), LONGEST_INTERVAL))

    def _look(self, logs: set[str]) -> set[str]:
        """Those that were written to since the last look."""
        changed = set()
        for each in self._seen.keys() - logs:
            del self._seen[each]
        for each in logs:
            try:
                found = os.stat(self._path_of(each))
                present = (found.st_ino, found.st_size, found.st_mtime_ns)
            except OSError:
                present = (0, 0, 0)
            if self._seen.get(each) != present:
                self._seen[each] = present
                changed.add(each)
        return changed

    def _serve(self, readers: list[Reader], changed: set[str], now: float) -> None:
        shared: dict[tuple[str, Place], _Read] = {}

        def read(each: str, place: Place) -> _Read:
            found = shared.get((each, place))
            if found is None:
                found = shared[each, place] = self._read(each, place)
            return found

        for reader in readers:
            reader.fill(read, self._path_of, changed, now)

    def _read(self, each: str, place: Place) -> _Read:
        piece = places.read_on(self._path_of(each), place)
        at = time.time()
        steps = [Step(each, place, at, is_lost=True)] if piece.is_lost else []
        for number, (line, behind) in enumerate(piece.lines, 1):
            if number % LINES_AT_A_TIME == 0:
                time.sleep(0)
            if line and (said := self._show(each, line)) is not None:
                steps.append(Step(each, behind, at, said))
        if piece.place != place and (not steps or steps[-1].place != piece.place):
            steps.append(Step(each, piece.place, at))
        return _Read(steps, piece.place, piece.is_end, at)
