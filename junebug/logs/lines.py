"""Lines of a log read backwards: through its rotated files, the newest first, while it is written and rotated.

A rotation meanwhile loses none and repeats none: a file is known by its inode and found again under its new name. Reading costs
in proportion to what is read, whatever the lines are. Blocking: to be called in a thread. Neighbours: files.py rotates; tail.py,
scan.py and message_index.py look for lines.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from junebug.logs.files import file_of, numbers_from, numbers_in

BLOCK = 64 * 1024
RESTS_EVERY, REST = 4, 0.0005
"""Blocks, and seconds: others want the processor, too."""
LONGEST_LINE = 1024 * 1024
"""Bytes; a longer one, which is none of ours, is passed over."""


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

    @property
    def is_over(self) -> bool:
        """Also when nothing had to be read meanwhile: others were asked."""
        return self.is_spent or time.monotonic() > self.ends

    def take(self, octets: int) -> bool:
        """Whether so many more may be read."""
        if self.read + octets > self.octets or time.monotonic() > self.ends:
            self.is_spent = True
            return False
        self.read += octets
        return True


class Part:
    """One of a log's files, as it was when it was opened. Closed, it is opened again for the next look: of thousands of logs not
    all can be open.
    """

    def __init__(self, log: Path, number: int) -> None:
        """Raises OSError."""
        self.log = log
        self._number = number
        self._descriptor: int | None = _open(log, number)
        status = os.fstat(self._descriptor)
        self.identity = _identity(status)
        self.size = status.st_size
        self.modified = status.st_mtime

    def read(self, octets: int, offset: int) -> bytes:
        """Nothing where it was removed meanwhile. Raises OSError."""
        while self._descriptor is None and (number := self.number()) is not None:
            try:
                self._descriptor = _open(self.log, number)
            except FileNotFoundError:
                continue
            if _identity(os.fstat(self._descriptor)) != self.identity:
                self.close()
        return b"" if self._descriptor is None else os.pread(self._descriptor, octets, offset)

    def number(self) -> int | None:
        """Its number at present, which rotations raise; None: it was removed. Raises OSError."""
        for number in numbers_from(self.log, self._number):
            try:
                is_it = _identity(os.stat(file_of(self.log, number))) == self.identity
            except FileNotFoundError:
                continue
            if is_it:
                self._number = number
                return number
        return None

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def parts_of(log: Path, numbers: Iterable[int] | None = None) -> Iterator[Part]:
    """The log's files, newest first, each open until the next is asked for. `numbers`: of those there are, where somebody has
    looked already; None: they are looked for. Raises OSError.
    """
    known = tuple(numbers_in(log.parent, {log.name}).get(log.name, ()) if numbers is None else numbers)
    part = _first_from(log, 0, known)
    while part:
        with closing(part):
            yield part
            part = _older(part, known)


def _older(part: Part, known: Iterable[int]) -> Part | None:
    """The one before it: what came next, if its own number was the same before and after."""
    while (number := part.number()) is not None:
        older = _first_from(part.log, number + 1, known)
        if part.number() == number:
            return older
        if older:
            older.close()
    return None


def _first_from(log: Path, first: int, known: Iterable[int]) -> Part | None:
    for number in chain(numbers_from(log, first), (each for each in known if each >= first)):
        try:
            return Part(log, number)
        except FileNotFoundError:
            continue  # it was rotated at this moment: it has the next number
    return None


def blocks_backwards(read: Callable[[int, int], bytes], end: int, budget: Budget | None = None) -> Iterator[bytes]:
    """Whole lines of a file up to `end`, those of the last block first, as far as the budget lasts. `read(octets, offset)`."""
    position, blocks = end, 0
    rest: list[bytes] = []
    """Of a line whose beginning is still to come, its pieces, the last one first; and so many bytes."""
    length = 0
    while position > 0:
        step = min(BLOCK, position)
        if budget and not budget.take(step):
            return
        position -= step
        if (blocks := blocks + 1) % RESTS_EVERY == 0:
            time.sleep(REST)
        data = read(step, position)
        cut = data.find(b"\n") + 1 if position else 0
        if position and not cut:
            length += len(data)
            rest.append(data)
            if length > LONGEST_LINE:
                rest.clear()
            continue
        if length > LONGEST_LINE:
            yield data[cut : data.rfind(b"\n") + 1]
        else:
            yield b"".join([data[cut:], *reversed(rest)])
        rest, length = [data[:cut]], cut


def log_blocks(log: Path, budget: Budget | None = None) -> Iterator[bytes]:
    """Whole lines of all its files, likewise. Raises OSError."""
    for part in parts_of(log):
        yield from blocks_backwards(part.read, part.size, budget)
        if budget and budget.is_spent:
            return


def lines_with(block: bytes, *needles: bytes) -> Iterator[bytes]:
    """Those of its lines that hold each of these, the last one first."""
    if all(needle in block for needle in needles):
        for line in reversed(block.split(b"\n")):
            if line and all(needle in line for needle in needles):
                yield line


def _open(log: Path, number: int) -> int:
    return os.open(file_of(log, number), os.O_RDONLY | os.O_CLOEXEC)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
