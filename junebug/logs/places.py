"""Places in a log: where somebody has read to, and reading on from there, through the files that a rotation has moved on.

A file is told by its first line, which bears the moment in which it was written: a name passes to the next file, and an inode
number to a file of another time. Neighbours: files.py rotates, follow.py reads on and on, lines.py reads backwards. Blocking.
"""

from __future__ import annotations

import os
import re
import zlib
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from junebug.logs.files import file_of, numbers_from
from junebug.logs.lines import BLOCK, LONGEST_LINE

PIECE = 64 * 1024
"""Bytes that are read at a time."""
MARK = 256
"""Bytes of a first line that tell a file: the log's name and the time are in them."""
_TIMESTAMP = re.compile(rb'"timestamp":\s*([0-9.]{1,30}(?:[eE][+-]?[0-9]{1,3})?)')


@dataclass(frozen=True, slots=True)
class Place:
    """Behind so many bytes of a log's file. `mark` 0: before the first line that there will be."""

    mark: int = 0
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Piece:
    """Whole lines, each with the place behind it; the place behind all that was read; whether there is no more now, and whether
    something before it is gone: its file was deleted.
    """

    lines: list[tuple[bytes, Place]]
    place: Place
    is_end: bool
    is_lost: bool = False


def end_of(path: Path) -> Place:
    """Behind the last whole line."""
    for number in numbers_from(path):
        with closing(_File(path, number)) as file:
            if file.mark:
                return Place(file.mark, file.last_line_end())
    return Place()


def behind(path: Path, timestamp: float) -> Place:
    """Behind the lines of up to that moment, in seconds of the epoch, where the clock was not set back meanwhile."""
    oldest = Place()
    for number in numbers_from(path):
        with closing(_File(path, number)) as file:
            if not file.mark:
                continue
            first = file.first_timestamp()
            if first is not None and first <= timestamp:
                return Place(file.mark, file.offset_behind(timestamp))
            oldest = Place(file.mark, 0)
    return oldest


def read_on(path: Path, place: Place, most: int = PIECE) -> Piece:
    """Some lines from there on: about `most` bytes, but one at least where there is one."""
    number, is_lost = _number_of(path, place.mark), False
    if number is None:
        is_lost = bool(place.mark)
        if (number := _oldest(path)) is None:
            return Piece([], Place(), True, is_lost)
        place = Place()
    while True:
        with closing(_File(path, number)) as file:
            if file.mark != place.mark and place.mark:
                return Piece([], place, False, is_lost)  # moved on at this moment: it is looked for again
            place = Place(file.mark, place.offset)
            if place.offset > file.size:
                place = Place(file.mark, 0)  # it was cut
            before, (lines, place) = place, file.lines(place, most)
            if place != before or file.mark == 0:
                return Piece(lines, place, number == 0 and place.offset == file.size, is_lost)
            if number == 0:
                return Piece([], place, True, is_lost)
            with closing(_File(path, number - 1)) as newer, closing(_File(path, number)) as again:
                if not newer.mark or again.mark != place.mark:  # empty yet; or a rotation goes on
                    return Piece([], place, not newer.mark, is_lost)
                place = Place(newer.mark, 0)
        number -= 1


def timestamp_in(line: bytes) -> float | None:
    """That of a line, or of its beginning."""
    found = _TIMESTAMP.search(line, 0, 1000)
    try:
        return float(found[1]) if found else None
    except ValueError:
        return None


def _number_of(path: Path, mark: int) -> int | None:
    """0: the present file; None: it is gone."""
    for number in numbers_from(path) if mark else ():
        with closing(_File(path, number)) as file:
            if file.mark == mark:
                return number
    return None


def _oldest(path: Path) -> int | None:
    oldest = None
    for number in numbers_from(path):
        with closing(_File(path, number)) as file:
            oldest = number if file.mark else oldest
    return oldest


class _File:
    """One of a log's; one that is not there has no line, and the mark 0."""

    def __init__(self, path: Path, number: int) -> None:
        self.mark = self.size = 0
        try:
            self._descriptor = os.open(file_of(path, number), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._descriptor = -1
            return
        self.size = os.fstat(self._descriptor).st_size
        beginning = self.read(0, MARK)
        first_line = beginning[: beginning.find(b"\n") + 1] or beginning
        if first_line.endswith(b"\n") or len(first_line) == MARK:
            self.mark = zlib.crc32(first_line) or 1

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def read(self, offset: int, most: int) -> bytes:
        try:
            return os.pread(self._descriptor, most, offset) if self._descriptor >= 0 else b""
        except OSError:
            return b""

    def lines(self, place: Place, most: int) -> tuple[list[tuple[bytes, Place]], Place]:
        """The whole lines from there on, and the place behind them. What is longer than any line is passed over."""
        data = self.read(place.offset, most)
        if len(data) == most and b"\n" not in data:
            data = self.read(place.offset, LONGEST_LINE)
            if len(data) == LONGEST_LINE and b"\n" not in data:
                return [], Place(place.mark, place.offset + len(data))
        found, offset = [], place.offset
        for line in data.split(b"\n")[:-1]:
            offset += len(line) + 1
            found.append((line, Place(place.mark, offset)))
        return found, Place(place.mark, offset)

    def first_timestamp(self) -> float | None:
        """Of the first line that has one: a line may have been cut."""
        lines, _ = self.lines(Place(), PIECE)
        return next((found for line, _ in lines if (found := timestamp_in(line)) is not None), None)

    def last_line_end(self) -> int:
        position = self.size
        while position > 0:
            step = min(BLOCK, position)
            position -= step
            if (at := self.read(position, step).rfind(b"\n")) >= 0:
                return position + at + 1
        return 0

    def offset_behind(self, timestamp: float) -> int:
        """Halving the file, then line by line."""
        low, high = 0, self.size
        while high - low > PIECE:
            middle = (low + high) // 2
            start = self._line_behind(middle, high)
            found = None if start is None else timestamp_in(self.read(start, MARK))
            if start is None or found is None or found > timestamp:
                high = middle
            else:
                low = start
        place, behind = Place(0, low), low
        while True:
            lines, place = self.lines(place, PIECE)
            for line, each in lines:
                found = timestamp_in(line)
                if found is not None and found > timestamp:
                    return behind
                behind = each.offset
            if not lines:
                return behind

    def _line_behind(self, offset: int, end: int) -> int | None:
        """Where the first line begins that does so behind `offset`."""
        while offset < end:
            block = self.read(offset, BLOCK)
            if (at := block.find(b"\n")) >= 0:
                return offset + at + 1 if offset + at + 1 < end else None
            if not block:
                return None
            offset += len(block)
        return None
