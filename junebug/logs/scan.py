"""Looking for lines in a channel's log, newest first, through files of any size: so much work for one question, and no more.

Blocking: to be called in a thread. A block is read and searched as octets, which takes a few microseconds at a time, so the
event loop beside it has its turn; only lines that may be wanted are parsed. Neighbours: message_index.py finds where a time
begins, tail.py is for whoever wants the last lines only.
"""

from __future__ import annotations

import functools
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from junebug.logs.files import rotated_files

BLOCK = 64 * 1024
RESTS_EVERY, REST = 4, 0.0005
"""Blocks, and seconds: others want the processor, too."""
LONGEST_LINE = 1024 * 1024
"""Bytes; of a longer one, which is none of ours, a part is lost."""
CLOCKS = 60.0
"""Seconds by which a file's time may differ from those in it: clocks are set, and a line waits to be written."""

MOST_STATUSES = 100
BLOCKS_BEFORE = 16
"""Of a log that are read for the status that was so when a message came."""
_STATUS = b'"message":"status"'
_TIMESTAMP = re.compile(rb'"timestamp": ?([0-9]{1,11}(?:\.[0-9]{1,9})?)[,}]')


@dataclass
class Budget:
    """How much may be read for one question."""

    octets: int
    seconds: float
    ends: float = field(init=False)
    read: int = 0
    is_spent: bool = False

    def __post_init__(self) -> None:
        self.ends = time.monotonic() + self.seconds

    def take(self, octets: int) -> bool:
        """Whether so many more may be read."""
        if self.read + octets > self.octets or time.monotonic() > self.ends:
            self.is_spent = True
            return False
        self.read += octets
        return True


@dataclass(frozen=True, slots=True)
class Found:
    """Lines, newest first, and what else is to be known of the search."""

    entries: list[dict[str, Any]]
    oldest: float | None
    """Time of the first line that was looked at, or could have been; None: there is no log here."""
    is_whole: bool
    """False: not all that there is was read."""
    trouble: str = ""
    """Why nothing, or not all, could be read."""
    files: int = 0
    """How many were looked at."""
    statuses: list[dict[str, Any]] = field(default_factory=list)
    """What the log's process said of itself meanwhile, newest first; and the last before."""


def log_files(path: Path) -> Iterator[Path]:
    """The log's files, newest first; those that are there at this moment."""
    if path.exists():
        yield path
    for _, rotated in rotated_files(path):
        yield rotated


def timestamp_in(octets: bytes, begin: int = 0, end: int | None = None) -> float | None:
    """That of the first line in it."""
    found = _TIMESTAMP.search(octets, begin, len(octets) if end is None else end)
    return float(found[1]) if found else None


def blocks_backwards(read: Callable[[int, int], bytes], end: int, budget: Budget) -> Iterator[bytes]:
    """Whole lines of a file up to `end`, those of the last block first, as far as the budget lasts. `read(octets, offset)`."""
    position, rest, blocks = end, b"", 0
    while position > 0:
        step = min(BLOCK, position)
        if not budget.take(step):
            return
        position -= step
        if (blocks := blocks + 1) % RESTS_EVERY == 0:
            time.sleep(REST)
        data = read(step, position) + rest
        cut = data.find(b"\n") + 1 if position else 0
        if position and not cut:
            rest = data if len(data) <= LONGEST_LINE else b""
            continue
        rest = data[:cut]
        yield data[cut:]


def entry_of(line: bytes) -> dict[str, Any] | None:
    """None: it is cut off, or none of ours."""
    try:
        entry = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(entry, dict) or not isinstance(entry.get("message"), str):
        return None
    timestamp = entry.get("timestamp")
    return entry if isinstance(timestamp, int | float) and not isinstance(timestamp, bool) else None


def lines_about(path: Path, name: str, value: str, since: float, budget: Budget, most: int) -> Found:
    """The newest `most` lines whose field `name` is `value`, from `since` (seconds since 1970) on."""
    search = _Lines(name, value, since, budget, most)
    try:
        for file in log_files(path):
            if search.read(file):
                break
    except OSError as error:
        search.trouble = f"it cannot be read: {error.strerror or error}"
    return search.found()


class _Lines:
    """One such question, file by file."""

    def __init__(self, name: str, value: str, since: float, budget: Budget, most: int) -> None:
        self.trouble = ""
        self._name, self._value, self._needle = name, value, orjson.dumps(value)
        self._since = since
        self._budget = budget
        self._most = most
        self._entries: list[dict[str, Any]] = []
        self._statuses: list[dict[str, Any]] = []
        self._oldest: float | None = None
        self._seen: set[tuple[int, int]] = set()
        self._before = 0
        """Blocks that were read of the time before."""

    def found(self) -> Found:
        entries, is_whole = self._entries[: self._most], not self.trouble
        return Found(entries, self._oldest, is_whole, self.trouble, len(self._seen), self._statuses)

    def read(self, file: Path) -> bool:
        """Whether that was enough. Raises OSError."""
        try:
            descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False  # rotated away meanwhile
        try:
            status = os.fstat(descriptor)
            if (status.st_dev, status.st_ino) in self._seen:
                return False  # it was rotated while it was read
            self._seen.add((status.st_dev, status.st_ino))
            if status.st_mtime < self._since - CLOCKS:
                self._oldest = min(self._since, self._since if self._oldest is None else self._oldest)
                return True
            blocks = blocks_backwards(functools.partial(os.pread, descriptor), status.st_size, self._budget)
            if any(map(self._look_at, blocks)):
                return True
        finally:
            os.close(descriptor)
        if self._budget.is_spent:
            self.trouble = f"only its newest {self._budget.read / 1_000_000:.0f} MB were read"
        return self._budget.is_spent

    def _look_at(self, block: bytes) -> bool:
        """Whether that was enough."""
        if self._needle in block:
            self._entries += _those_with(block, self._needle, self._name, self._value)
            if len(self._entries) >= self._most:
                self.trouble = f"of its lines only the newest {self._most} are shown"
                return True
        if self._since and _STATUS in block and len(self._statuses) < MOST_STATUSES:
            self._statuses += _those_with(block, _STATUS, "message", "status")
        begins = timestamp_in(block)
        if begins is None:
            return False
        self._oldest = begins
        if begins >= self._since - CLOCKS:
            return False
        self._before += 1
        is_known = not self._since or any(each["timestamp"] < self._since for each in self._statuses)
        return is_known or self._before > BLOCKS_BEFORE


def _those_with(block: bytes, needle: bytes, name: str, value: str) -> Iterator[dict[str, Any]]:
    for line in reversed(block.split(b"\n")):
        if needle in line and (entry := entry_of(line)) and entry.get(name) == value:
            yield entry
