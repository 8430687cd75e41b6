"""Messages found in the logs of many channels at once, newest first: what a search of the API reads.

The lines that tell of a message's way to the provider, or from it, say its addresses: they are looked for. Who writes them pays
nothing; the reader remembers when each file begins (`Begins`), and finds a time in a file by halving. Blocking; lines.py's
Budget bounds each question.
"""

from __future__ import annotations

import heapq
import re
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from junebug import names
from junebug.logs.files import LogsOf, logs_of, numbers_in
from junebug.logs.lines import BLOCK, Budget, Part, blocks_backwards, parts_of
from junebug.logs.scan import CLOCKS, entry_of, lines_about, timestamp_in

OUTBOUND, INBOUND = "outbound", "inbound"
ANCHORS = {
    "message sent": OUTBOUND, "message rejected": OUTBOUND, "message expired, not sent": OUTBOUND,
    "message cancelled, not sent": OUTBOUND, "inbound message received": INBOUND,
}  # fmt: skip
"""What a line says of a message's addresses -> which way that goes."""
_ANCHORS = {
    way: re.compile('"message": ?"(?:{})"'.format("|".join(word for word, of in ANCHORS.items() if way in (None, of))).encode())
    for way in (None, OUTBOUND, INBOUND)
}
MOST_FILES = 10_000
"""Of so many it is remembered when they begin."""
DELAY = 1.0
"""Seconds by which lines of a file may be out of order."""
MOST_TIMELESS = 64
"""Blocks of a file in a row without any time: it is no log."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which messages. Times in seconds since 1970, exclusive at the end; `at_end`: ids at exactly `until` that were given."""

    to_addr: str | None = None
    from_addr: str | None = None
    direction: str | None = None
    since: float = 0.0
    until: float = float("inf")
    at_end: frozenset[str] = frozenset()

    def fits(self, entry: dict[str, Any]) -> bool:
        if not self.since <= entry["timestamp"] <= self.until:
            return False
        if entry["timestamp"] == self.until and (not self.at_end or entry.get("message_id") in self.at_end):
            return False
        if self.direction not in (None, ANCHORS[entry["message"]]):
            return False
        given = ((self.to_addr, "to_addr"), (self.from_addr, "from_addr"))
        return all(wanted is None or is_same_address(wanted, entry.get(name)) for wanted, name in given)


@dataclass(frozen=True, slots=True)
class Hit:
    """A message of a channel, by the line that tells its addresses."""

    channel: str
    message_id: str
    direction: str
    timestamp: float
    to_addr: str | None
    from_addr: str | None
    word: str
    """What the line says."""


@dataclass
class Hits:
    """`reached`: all that is newer was looked at; `is_over`: there is nothing older."""

    found: list[Hit] = field(default_factory=list)
    reached: float = float("inf")
    is_over: bool = False


def is_same_address(wanted: str, address: object) -> bool:
    """A number is the same with and without its `+` (which a URL's query turns into a blank)."""
    return isinstance(address, str) and bare(address) == bare(wanted)


def bare(address: str) -> str:
    return address.strip().removeprefix("+")


class Begins:
    """When files of logs begin, as far as it is known; shared by threads."""

    def __init__(self, most: int = MOST_FILES) -> None:
        self._most = most
        self._known: OrderedDict[tuple[int, int, int], float] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, part: Part) -> float | None:
        """Of its first line that has a time."""
        key = (*part.identity, min(part.size, BLOCK))
        with self._lock:
            known = self._known.get(key)
        if known is None and (known := timestamp_in(part.read(BLOCK, 0))) is not None:
            with self._lock:
                self._known[key] = known
                if len(self._known) > self._most:
                    self._known.popitem(last=False)
        return known


class MessageIndex:
    """One API process's."""

    def __init__(self, logging_path: str) -> None:
        self._directory = Path(logging_path)
        self._begins = Begins()

    def search(self, channels: Collection[str], wanted: Wanted, most: int, budget: Budget) -> Hits:
        """Up to `most` messages of these channels, newest first, each once."""
        hits = Hits(reached=wanted.until)
        seen: set[tuple[str, str]] = set()
        numbers: dict[str, list[int]] = {}
        with suppress(OSError):
            numbers = numbers_in(self._directory, LogsOf(channels))  # in one look at the directory
        walks = [self._walk(log, there, wanted, budget) for log, there in numbers.items()]
        for timestamp, _, hit in heapq.merge(*walks, key=lambda step: (-step[0], step[1])):
            if budget.is_spent or timestamp < wanted.since:
                hits.is_over = timestamp < wanted.since
                return hits
            hits.reached = min(hits.reached, timestamp)
            if hit and (hit.channel, hit.message_id) not in seen:
                seen.add((hit.channel, hit.message_id))
                hits.found.append(hit)
                if len(hits.found) >= most:
                    return hits
        hits.is_over = not budget.is_spent
        return hits

    def _walk(
        self, log: str, numbers: Sequence[int], wanted: Wanted, budget: Budget
    ) -> Iterator[tuple[float, str, Hit | None]]:
        """(time, log, what was found there), newest first; without a find: that all up to then was looked at. Nothing is
        read of a file before it is known that nothing newer is elsewhere. Of thousands of logs not all can be open: each is
        closed while others are read.
        """
        with suppress(OSError):
            for part in parts_of(self._directory / log, numbers):
                if part.modified < wanted.since - CLOCKS:
                    continue
                for step in self._walk_part(log, part, wanted, budget):
                    part.close()
                    yield step
                if budget.is_spent:
                    yield 0.0, log, None
                    return

    def _walk_part(self, log: str, part: Part, wanted: Wanted, budget: Budget) -> Iterator[tuple[float, str, Hit | None]]:
        yield min(part.modified, wanted.until), log, None
        is_newer = wanted.until < part.modified
        begins = self._begins.of(part) if is_newer else None
        if begins is not None and begins > wanted.until + CLOCKS:
            return
        needles = [orjson.dumps(bare(each))[1:] for each in (wanted.to_addr, wanted.from_addr) if each is not None]
        timeless = 0
        for block in blocks_backwards(part.read, _end_of(part, wanted.until) if is_newer else part.size, budget):
            if all(needle in block for needle in needles):
                for hit in _hits(block, names.channel_of(log), wanted):
                    yield hit.timestamp, log, hit
            first = timestamp_in(block)
            timeless = timeless + 1 if first is None else 0
            if first is not None:
                yield min(first, wanted.until), log, None
            if timeless > MOST_TIMELESS or (first is not None and first < wanted.since - CLOCKS):
                return

    def last_words(self, logs: Sequence[str], message_id: str, since: float, budget: Budget) -> list[dict[str, Any]]:
        """What these logs say of a message from then on, newest first."""
        entries: list[dict[str, Any]] = []
        for log in (each for id in logs for each in logs_of(self._directory, id)):
            entries += lines_about(log, "message_id", message_id, since, budget, 50).entries
        return sorted(entries, key=lambda entry: -float(entry["timestamp"]))


def _end_of(part: Part, until: float) -> int:
    """An offset behind all lines up to `until`, and not far behind."""
    low, high = 0, part.size
    while high - low > 4 * BLOCK:
        middle = (low + high) // 2
        when = timestamp_in(part.read(BLOCK, middle))
        if when is None:
            return part.size
        low, high = (low, middle) if when > until + DELAY else (middle, high)
    return min(part.size, high + BLOCK)


def _hits(block: bytes, channel: str, wanted: Wanted) -> list[Hit]:
    """Newest first."""
    found: list[Hit] = []
    for anchor in _ANCHORS[wanted.direction].finditer(block):
        begin, end = block.rfind(b"\n", 0, anchor.start()) + 1, block.find(b"\n", anchor.end())
        entry = entry_of(block[begin : end if end >= 0 else len(block)])
        if entry is None or entry["message"] not in ANCHORS or not wanted.fits(entry):
            continue
        message_id = entry.get("message_id")
        if isinstance(message_id, str):
            to_addr, from_addr = (each if isinstance(each := entry.get(name), str) else None for name in ("to_addr", "from_addr"))
            word, when = entry["message"], float(entry["timestamp"])
            found.append(Hit(channel, message_id, ANCHORS[word], when, to_addr, from_addr, word))
    return found[::-1]
