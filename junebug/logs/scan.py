"""Looking for lines in a channel's log, newest first, through files of any size: so much work for one question, and no more.

Blocking: to be called in a thread. A block is read and searched as octets, which takes a few microseconds at a time, so the
event loop beside it has its turn; only lines that may be wanted are parsed. Neighbours: lines.py reads, message_index.py finds
where a time begins, tail.py is for whoever wants the last lines only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from junebug.logs.lines import Budget, Part, blocks_backwards, lines_with, parts_of

CLOCKS = 60.0
"""Seconds by which a file's time may differ from those in it: clocks are set, and a line waits to be written."""

MOST_STATUSES = 100
BLOCKS_BEFORE = 16
"""Of a log that are read for the status that was so when a message came."""
_STATUS = b'"message":"status"'
_TIMESTAMP = re.compile(rb'"timestamp": ?([0-9]{1,11}(?:\.[0-9]{1,9})?)[,}]')


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


def timestamp_in(octets: bytes, begin: int = 0, end: int | None = None) -> float | None:
    """That of the first line in it."""
    found = _TIMESTAMP.search(octets, begin, len(octets) if end is None else end)
    return float(found[1]) if found else None


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
        for part in parts_of(path):
            if search.read(part):
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
        self._files = 0
        self._before = 0
        """Blocks that were read of the time before."""

    def found(self) -> Found:
        entries, is_whole = self._entries[: self._most], not self.trouble
        return Found(entries, self._oldest, is_whole, self.trouble, self._files, self._statuses)

    def read(self, part: Part) -> bool:
        """Whether that was enough. Raises OSError."""
        self._files += 1
        if part.modified < self._since - CLOCKS:
            self._oldest = min(self._since, self._since if self._oldest is None else self._oldest)
            return True
        if any(map(self._look_at, blocks_backwards(part.read, part.size, self._budget))):
            return True
        if self._budget.is_spent:
            self.trouble = f"only its newest {self._budget.read / 1_000_000:.0f} MB were read"
        return self._budget.is_spent

    def _look_at(self, block: bytes) -> bool:
        """Whether that was enough."""
        self._entries += _those_with(block, self._needle, self._name, self._value)
        if len(self._entries) >= self._most:
            self.trouble = f"of its lines only the newest {self._most} are shown"
            return True
        if self._since and len(self._statuses) < MOST_STATUSES:
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
    for line in lines_with(block, needle):
        if (entry := entry_of(line)) and entry.get(name) == value:
            yield entry
