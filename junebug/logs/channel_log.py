"""A channel's log file: `<logging_path>/<channel id>`, JSON lines (spec 1.7.1, "Logs"), rotated by size.

Neighbours: files.py has the file, writer.py the thread that writes it, tail.py reads it, setup.py installs it.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from pathlib import Path
from typing import Any

import orjson

from junebug.logs.files import LogFile
from junebug.logs.redaction import Redactor
from junebug.logs.writer import LogWriter, WrittenHandler


class ChannelLog(WrittenHandler):
    """A channel's log file: everything that its process logs, one JSON object a line (spec 1.7.1).

    `max_files` counts all files of the channel, the present one included; 0 keeps them all. A full or hanging disk loses
    lines, never the channel.
    """

    def __init__(self, path: Path, name: str, rotate_size: int, max_files: int, redactor: Redactor) -> None:
        self._file = LogFile(path, rotate_size, max_files, 0o640)
        super().__init__(self._file, LogWriter())
        self._name = name
        self._redactor = redactor
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError:
            pass  # lines are lost until somebody makes it

    @property
    def lost_lines(self) -> int:
        return self.sink.lost_lines

    @property
    def trouble(self) -> str:
        """Why lines are lost at the moment; empty: they are not."""
        return self._file.trouble

    def close(self) -> None:
        """What was logged so far is written."""
        self.writer.close()
        super().close()

    def line(self, record: logging.LogRecord) -> bytes:
        entry = self._entry(record)
        try:
            return orjson.dumps(entry)
        except TypeError:  # half a surrogate pair, a number of more than 64 bits: rare, and to be logged all the same
            return json.dumps(entry, ensure_ascii=False).encode("utf-8", "replace")

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


def _raised(exc_info: Any) -> BaseException | None:
    """The exception that a logging call's `exc_info` stands for."""
    if isinstance(exc_info, BaseException):
        return exc_info
    if isinstance(exc_info, tuple):
        raised: BaseException | None = exc_info[1]
        return raised
    return sys.exc_info()[1] if exc_info else None


def _exception(error: BaseException) -> dict[str, Any]:
    return {"class": type(error).__name__, "instance": repr(error), "stack": traceback.format_exception(error)}
