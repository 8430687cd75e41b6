"""A channel's log file: `<logging_path>/<channel id>`, JSON lines (spec 1.7.1, "Logs"), rotated by size.

Neighbours: tail.py reads it, setup.py installs it.
"""

from __future__ import annotations

import errno
import json
import logging
import logging.handlers
import os
import sys
import traceback
from pathlib import Path
from typing import Any

import orjson

from junebug.logs.redaction import Redactor


class ChannelLog(logging.Handler):
    """A channel's log file: everything that its process logs, one JSON object a line (spec 1.7.1).

    `max_files` counts all files of the channel, the present one included; 0 keeps them all. A full disk loses lines,
    never the channel.
    """

    def __init__(self, path: Path, name: str, rotate_size: int, max_files: int, redactor: Redactor) -> None:
        super().__init__(logging.DEBUG)
        self._path = path
        self._name = name
        self._rotate_size = rotate_size
        self._max_files = max_files
        self._redactor = redactor
        self._descriptor: int | None = None
        self._size = 0
        self.lost_lines = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._write(_json(self._entry(record)) + b"\n")
        except OSError:
            self.lost_lines += 1
            self._close_file()
        except Exception:
            self.handleError(record)

    def _entry(self, record: logging.LogRecord) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(record.msg, dict):  # structlog's
            fields = {key: value for key, value in record.msg.items() if not key.startswith("_")}
            message = str(fields.pop("event", ""))
            error = _raised(fields.pop("exc_info", None)) or error
            for own in ("stack_info", "level", "logger", "timestamp", "channel_id"):
                fields.pop(own, None)
        else:
            message = record.getMessage()
        entry: dict[str, Any] = {
            "logger": self._name,
            "level": record.levelno,
            "timestamp": record.created,
            "message": self._redactor.text(message),
        }
        for key, value in fields.items():
            entry.setdefault(key, self._redactor.value(value))
        if error is not None:
            entry["exception"] = self._redactor.value(_exception(error))
        return entry

    def _write(self, line: bytes) -> None:
        if self._descriptor is None:
            self._open()
        if self._size and self._size + len(line) > self._rotate_size:
            self._rotate()
        assert self._descriptor is not None
        written = os.write(self._descriptor, line)
        self._size += written
        if written < len(line):
            raise OSError(errno.ENOSPC, "the disk is full")

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        self._size = os.fstat(self._descriptor).st_size
        if self._size and os.pread(self._descriptor, 1, self._size - 1) != b"\n":
            # a full disk or a kill cut the last line: it must not take the next one with it
            self._size += os.write(self._descriptor, b"\n")

    def _rotate(self) -> None:
        self._close_file()
        numbers = sorted((number for number, _ in rotated_files(self._path)), reverse=True)
        for number in numbers:
            rotated = self._path.with_name(f"{self._path.name}.{number}")
            if self._max_files and number + 1 >= self._max_files:
                rotated.unlink(missing_ok=True)
            else:
                rotated.rename(self._path.with_name(f"{self._path.name}.{number + 1}"))
        if self._max_files == 1:
            self._path.unlink(missing_ok=True)
        else:
            self._path.rename(self._path.with_name(f"{self._path.name}.1"))
        self._open()

    def _close_file(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def close(self) -> None:
        self._close_file()
        super().close()


def rotated_files(path: Path) -> list[tuple[int, Path]]:
    """The channel's older files as (number, path), newest (lowest number) first."""
    found = []
    for each in path.parent.glob(f"{path.name}.*") if path.parent.is_dir() else ():
        suffix = each.name[len(path.name) + 1 :]
        if suffix.isdigit():
            found.append((int(suffix), each))
    return sorted(found)


def _json(entry: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(entry)
    except TypeError:  # half a surrogate pair, a number of more than 64 bits: rare, and to be logged all the same
        return json.dumps(entry, ensure_ascii=False).encode("utf-8", "replace")


def _raised(exc_info: Any) -> BaseException | None:
    """The exception that a logging call's `exc_info` stands for."""
    if isinstance(exc_info, BaseException):
        return exc_info
    if isinstance(exc_info, tuple):
        raised: BaseException | None = exc_info[1]
        return raised
    return sys.exc_info()[1] if exc_info else None


def _exception(error: BaseException) -> dict[str, Any]:
    return {
        "class": type(error).__name__,
        "instance": repr(error),
        "stack": traceback.format_exception(error),
    }
