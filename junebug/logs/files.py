"""A log's file and the older ones beside it: appended to, rotated by size, opened anew when somebody moves it away.

Blocking: writer.py calls it from its thread. A full disk loses lines, and stops nobody.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

LOOK_INTERVAL = 0.1
"""Seconds: a log that was moved away still gets the lines of as long."""


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
                rotated.rename(self._path.with_name(f"{self._path.name}.{number + 1}"))
        if self._max_files == 1:
            self._path.unlink(missing_ok=True)
        else:
            self._path.rename(self._path.with_name(f"{self._path.name}.1"))
        self.open()


def rotated_files(path: Path) -> list[tuple[int, Path]]:
    """The log's older files as (number, path), newest (lowest number) first."""
    found = []
    for each in path.parent.glob(f"{path.name}.*"):
        suffix = each.name[len(path.name) + 1 :]
        if suffix.isdigit():
            found.append((int(suffix), each))
    return sorted(found)


def trouble_in(directory: Path) -> str:
    """Why nothing can be written there; empty: it can."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory, buffering=0) as probe:
            probe.write(b"x")
    except OSError as error:
        return error.strerror or str(error)
    return ""
