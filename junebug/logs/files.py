"""A log's file and the older ones beside it: appended to, rotated by size, opened anew when somebody moves it away.

Blocking: writer.py calls it from its thread. A full disk loses lines, and stops nobody.
"""

from __future__ import annotations

import itertools
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import orjson

from junebug import names

LOOK_INTERVAL = 0.1
"""Seconds: a log that was moved away still gets the lines of as long."""
LONGEST_FIRST_LINE = 1024 * 1024
"""Bytes of it that are read, to tell whose a file is."""


class LogFile:
    """Lines go to `path`, and what was there to `path.1`, `path.2` ... when `rotate_size` bytes would be exceeded.

    `max_files` counts all of them, the present one included; 0 keeps them all. `rotate_size` 0: they are never rotated.
    """

    def __init__(self, path: Path, rotate_size: int = 0, max_files: int = 0, mode: int = 0o666) -> None:
        self._path = path
        self._rotate_size = rotate_size
        self._max_files = max_files
        self._mode = mode
        self._descriptor: int | None = None
        self._size = 0
        self._look_at = 0.0
        self.lost_lines = 0
        self.trouble = ""
        """Why the last lines could not be written; empty: they were."""

    def write(self, lines: list[bytes]) -> None:
        """Append them, each with its line end; those that cannot be written are counted."""
        chunk: list[bytes] = []
        room = self._room()
        if self._rotate_size and sum(map(len, lines)) > room:
            for line in lines:
                if chunk and len(line) > room:
                    self._append(chunk)
                    chunk, room = [], self._room()
                chunk.append(line)
                room -= len(line)
            lines = chunk
        self._append(lines)

    def open(self) -> None:
        """Raises OSError."""
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, self._mode)
        self._size = os.fstat(self._descriptor).st_size
        if self._size and os.pread(self._descriptor, 1, self._size - 1) != b"\n":
            # a full disk or a kill cut the last line: it must not take the next one with it
            self._size += os.write(self._descriptor, b"\n")

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _room(self) -> int:
        try:
            if time.monotonic() >= self._look_at and self._was_moved():
                self.close()
            if self._descriptor is None:
                self.open()
        except OSError:
            return self._rotate_size  # it is tried again, and counted, by _append
        return self._rotate_size - self._size if self._size else self._rotate_size

    def _was_moved(self) -> bool:
        if self._descriptor is None:
            return False
        self._look_at = time.monotonic() + LOOK_INTERVAL
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            return True
        ours = os.fstat(self._descriptor)
        return (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino)

    def _append(self, lines: list[bytes]) -> None:
        written = 0
        try:
            if self._descriptor is None:
                self.open()
            if self._rotate_size and self._size and self._size + len(lines[0]) > self._rotate_size:
                self._rotate()
            assert self._descriptor is not None
            data = b"".join(lines)
            written = os.write(self._descriptor, data)
            self._size += written
            if written == len(data):
                self.trouble = ""
                return
            self.trouble = "the disk is full"
        except OSError as error:
            self.trouble = f"{self._path}: {error.strerror or error}"
        self.close()
        for line in lines:
            written -= len(line)
            self.lost_lines += written < 0

    def _rotate(self) -> None:
        self.close()
        for number, rotated in reversed(rotated_files(self._path)):
            if self._max_files and number + 1 >= self._max_files:
                rotated.unlink(missing_ok=True)
            else:
                rotated.rename(file_of(self._path, number + 1))
        if self._max_files == 1:
            self._path.unlink(missing_ok=True)
        else:
            self._path.rename(file_of(self._path, 1))
        self.open()


def file_of(log: Path, number: int) -> Path:
    """A log's file by its number: 0 is the present one, and the higher, the older."""
    return log.with_name(f"{log.name}.{number}") if number else log


def numbers_in(directory: Path, logs: Container[str]) -> dict[str, list[int]]:
    """Log's name -> numbers of its files, the newest first, for each of these that has any there. Raises OSError."""
    found = defaultdict[str, list[int]](list)
    for name in os.listdir(directory) if os.path.exists(directory) else ():
        if name in logs:
            found[name].append(0)
        log, _, suffix = name.rpartition(".")
        if log in logs and suffix.isdecimal() and (number := int(suffix)) and str(number) == suffix:
            found[log].append(number)
    return {log: sorted(numbers) for log, numbers in found.items()}


def numbers_from(log: Path, first: int = 0) -> Iterator[int]:
    """Numbers of its files from that one on, as far as they follow each other; each is looked for when it is asked for.

    While a log is rotated one is missing at a time. A rotation moves the oldest first, so at any moment their order is right.
    """
    missing = 0
    for number in itertools.count(first):
        missing = 0 if os.path.exists(file_of(log, number)) else missing + 1
        if missing == 2:
            return
        if not missing:
            yield number


def rotated_files(log: Path) -> list[tuple[int, Path]]:
    """The log's older files as (number, path), newest (lowest number) first. Raises OSError."""
    return [(number, file_of(log, number)) for number in numbers_in(log.parent, {log.name}).get(log.name, ()) if number]


def logs_of(directory: Path, id: str) -> list[Path]:
    """A channel's or router's log, and those of the channel's further shards that are there."""
    first, *further = (directory / names.log_name(unit) for unit in names.units(id, names.MOST_SHARDS))
    return [first, *(log for log in further if os.path.exists(log))]


class LogsOf(Container[str]):
    """Names of the logs of these channels and routers, and of their shards."""

    def __init__(self, ids: Iterable[str]) -> None:
        self._ids = frozenset(ids)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and names.channel_of(name) in self._ids and names.is_log_name(name)


def take_over(directory: Path, ids: Iterable[str]) -> None:
    """Give their names to logs that have those of an older Junebug: `c.1`, `c.1.1` ..., which are of older files of others now.

    A file is its own by its first line. It becomes older than what there is under the right name.
    """
    logs = {id: name for id in ids if (name := names.log_name(id)) != id and names.is_channel_id(id)}
    with suppress(OSError):
        found = numbers_in(directory, {*logs, *logs.values()}) if logs else {}
        for id, name in logs.items():
            number = max(found.get(name, ()), default=-1) + 1
            for old in found.get(id, ()):
                if _logger_of(file := file_of(directory / id, old)) == id:
                    file.rename(file_of(directory / name, number))
                    number += 1


def is_old_log(file: Path) -> bool:
    """Whether a file is no older one of some log, but another channel's log that is still to be taken over."""
    try:
        return _logger_of(file) == file.name
    except OSError:
        return False


def _logger_of(path: Path) -> object:
    """Whose lines are there, as the first one says. Raises OSError."""
    with path.open("rb") as file:
        try:
            return orjson.loads(file.readline(LONGEST_FIRST_LINE)).get("logger")
        except (orjson.JSONDecodeError, AttributeError):
            return None


def trouble_in(directory: Path) -> str:
    """Why nothing can be written there; empty: it can."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory, buffering=0) as probe:
            probe.write(b"x")
    except OSError as error:
        return error.strerror or str(error)
    return ""
