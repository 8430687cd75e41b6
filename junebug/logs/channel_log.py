"""A channel's log file: `<logging_path>/<channel id>` (names.log_name), JSON lines (spec 1.7.1, "Logs"), rotated by size.

Neighbours: files.py has the file, writer.py the thread that writes it, tail.py reads it, setup.py installs it.
"""

from __future__ import annotations

import json
import logging
import time
import traceback
from pathlib import Path
from typing import Any

import orjson
import structlog

from junebug.logs.files import LogFile
from junebug.logs.redaction import UNMASKED, Redactor
from junebug.logs.sentry import Sentry, raised
from junebug.logs.writer import LogWriter, WrittenHandler

_LEVELS = {name.lower(): level for name, level in logging.getLevelNamesMapping().items()}
_OWN = frozenset(("exc_info", "stack_info", "logger", "level", "timestamp", "message", "channel_id", "exception"))
"""Names of a line's own."""


class ChannelLog(WrittenHandler):
    """A channel's log file: everything that its process logs, one JSON object a line (spec 1.7.1).

    `max_files` counts all files of the channel, the present one included; 0 keeps them all. A full or hanging disk loses
    lines, never the channel.
    """

    sentry: Sentry | None = None
    """Who is told of errors with a traceback, besides."""

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
        if self.sentry:
            self.sentry.close()
        super().close()

    def write(self, level: int, event: object, args: tuple[object, ...], fields: dict[str, Any]) -> None:
        """Have a line written. What a channel does for each message comes by here: it must cost next to nothing."""
        try:
            self.writer.put(self.sink, self._line(level, time.time(), event, args, fields))
            if level >= logging.ERROR and self.sentry:
                self.sentry.tell(fields.get("exc_info"), event, self._name, fields)
        except Exception:  # what cannot be logged must not cost what was to be told of
            traceback.print_exc()

    def line(self, record: logging.LogRecord) -> bytes:
        """Of a library's."""
        exc_info = record.exc_info and record.exc_info[1]
        if self.sentry and record.levelno >= logging.ERROR:
            self.sentry.tell(exc_info, f"error in {record.name}", record.name, {})  # its text may hold anything
        return self._line(record.levelno, record.created, record.getMessage(), (), {"exc_info": exc_info})

    def _line(self, level: int, timestamp: float, event: object, args: tuple[object, ...], fields: dict[str, Any]) -> bytes:
        if args and isinstance(event, str):
            event = event % args
        message = self._redactor.phrase(event if isinstance(event, str) else str(event))
        entry: dict[str, Any] = {"logger": self._name, "level": level, "timestamp": timestamp, "message": message}
        for key, value in fields.items():
            if key in UNMASKED:
                entry[key] = value
            elif key not in _OWN:
                entry.setdefault(key, self._redactor.value(value))
        if (exc_info := fields.get("exc_info")) and (error := raised(exc_info)) is not None:
            entry["exception"] = self._redactor.value(_exception(error))
        try:
            return orjson.dumps(entry) + b"\n"  # by OPT_APPEND_NEWLINE each of those that wait would keep 4 KiB
        except TypeError:  # half a surrogate pair, a number of more than 64 bits: rare, and to be logged all the same
            return json.dumps(entry, ensure_ascii=False, default=str).encode("utf-8", "replace") + b"\n"


def append_line(path: Path, name: str, level: int, message: str, fields: dict[str, Any]) -> None:
    """What another process has to say in a channel's log. Blocking; where it cannot be written it is lost."""
    entry = {"logger": name, "level": level, "timestamp": time.time(), "message": message, **fields}
    file = LogFile(path, mode=0o640)
    file.write([orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE)])
    file.close()


class ChannelLogger(structlog.stdlib.BoundLogger):
    """structlog's loggers in a channel's process: straight to its log, past the parts of `logging` that cost ten times that.

    Whoever logs for each message keeps one that is bound (`get_logger(...).bind()`): else it is made anew for each line.
    """

    _logger: Any

    def info(self, event: object = None, *args: object, **fields: Any) -> None:
        self._logger.write(logging.INFO, event, args, {**self._context, **fields} if self._context else fields)

    def _proxy_to_logger(self, method_name: str, event: object = None, *args: object, **fields: Any) -> None:
        level = _LEVELS.get(method_name, logging.ERROR)  # such as "exception"
        if level >= logging.INFO:
            self._logger.write(level, event, args, {**self._context, **fields})


def _exception(error: BaseException) -> dict[str, Any]:
    return {"class": type(error).__name__, "instance": repr(error), "stack": traceback.format_exception(error)}
