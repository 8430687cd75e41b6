"""Logging: one line for people on stdout, JSON lines in files, secrets masked, the newest read first.

A channel's process writes `<logging_path>/<channel id>` (spec 1.7.1, "Logs"), rotated by size; the API reads it with
`tail`. Everywhere else `structlog.stdlib.get_logger(__name__)` is used, with an event name and ids as fields.
"""

from __future__ import annotations

import errno
import json
import logging
import logging.handlers
import os
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import structlog

if TYPE_CHECKING:
    from junebug.config import Settings

REDACTED = "********"
"""What stands for a secret wherever one would be shown."""
_USERINFO = re.compile(r"(?<=://)[^/@\s\"'?#]*@")
_AUTHORIZATION = re.compile(r"\b(Token|Basic|Bearer)\s+[^\s\"',}]+")
SHORTEST_MASKED = 3
"""Secrets shorter than this are not searched for in texts: masking each `1` would hide the log, not the secret."""
TAIL_BLOCK = 64 * 1024
LONGEST_LINE = 1024 * 1024
_NOISY = ("aio_pika", "aiormq", "aiohttp", "asyncio", "supervisor")
"""Libraries that report at ERROR, with a traceback, what we expect and handle (a broken link)."""


def redact_url(text: str) -> str:
    """The text with the userinfo of every URL in it masked."""
    return _USERINFO.sub(f"{REDACTED}@", text)


class Redactor:
    """Masks known secrets, URL userinfo and Authorization values in anything that is about to be logged."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self.replace(secrets)

    def replace(self, secrets: Iterable[str]) -> None:
        """Know these secrets from now on (and no others)."""
        known = sorted({s for s in secrets if len(s) >= SHORTEST_MASKED}, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, known))) if known else None

    def text(self, text: str) -> str:
        if self._pattern:
            text = self._pattern.sub(REDACTED, text)
        if "://" in text:
            text = _USERINFO.sub(f"{REDACTED}@", text)
        if " " in text:
            text = _AUTHORIZATION.sub(rf"\1 {REDACTED}", text)
        return text

    def value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {key: self.value(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.value(item) for item in value]
        if value is None or isinstance(value, (bool, int, float)):
            return value
        return self.text(str(value))


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


class _LogFile(logging.handlers.WatchedFileHandler):
    """The settings' logfile: a full disk loses lines, and neither stops anybody nor fills standard error instead."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except OSError:
            pass  # it was renamed, and cannot be made anew yet

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def rotated_files(path: Path) -> list[tuple[int, Path]]:
    """The channel's older files as (number, path), newest (lowest number) first."""
    found = []
    for each in path.parent.glob(f"{path.name}.*") if path.parent.is_dir() else ():
        suffix = each.name[len(path.name) + 1 :]
        if suffix.isdigit():
            found.append((int(suffix), each))
    return sorted(found)


def tail(logging_path: str, channel: str, n: int, message_id: str | None = None) -> list[dict[str, Any]]:
    """The last `n` entries of a channel's log, newest first, across its rotated files.

    With `message_id` only entries of that message. Blocking: to be called in a thread.
    """
    path = Path(logging_path) / channel
    wanted = f'"{message_id}"'.encode() if message_id else b""
    entries: list[dict[str, Any]] = []
    for each in [path, *(rotated for _, rotated in rotated_files(path))]:
        for line in _lines_backwards(each):
            if len(entries) >= n:
                return entries
            if wanted not in line:
                continue
            try:
                entry = orjson.loads(line)
            except orjson.JSONDecodeError:
                continue  # the rest of a line that a full disk or a kill cut
            if not message_id or entry.get("message_id") == message_id:
                entries.append(entry)
    return entries


def _lines_backwards(path: Path) -> Iterator[bytes]:
    try:
        file = path.open("rb")
    except OSError:
        return
    with file:
        position = file.seek(0, os.SEEK_END)
        rest = b""
        while position > 0:
            step = min(TAIL_BLOCK, position)
            position -= step
            file.seek(position)
            *lines, last = (file.read(step) + rest).split(b"\n")[::-1]
            yield from filter(None, lines)
            rest = last if len(last) <= LONGEST_LINE else b""
        if rest:
            yield rest


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


def setup_channel_logging(settings: Settings, channel: str, redactor: Redactor) -> ChannelLog:
    """Everything that this process logs goes to the channel's file; warnings of no channel go nowhere else."""
    handler = ChannelLog(
        Path(settings.logging_path) / channel, channel, settings.log_rotate_size, settings.max_log_files, redactor
    )
    _install([handler])
    return handler


def setup_process_logging(settings: Settings, process: str) -> None:
    """Log to stdout for people (unless JUNEBUG_DISABLE_LOGGING) and, as JSON lines, to the settings' logfile."""
    redactor = Redactor(filter(None, (settings.redis.password, settings.amqp.password)))
    shared: list[structlog.typing.Processor] = [_Redact(redactor), structlog.processors.TimeStamper("%Y-%m-%d %H:%M:%S")]
    handlers: list[logging.Handler] = []
    if not logging_disabled():
        stdout = logging.StreamHandler(sys.stdout)
        stdout.setFormatter(_formatter(shared, structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0)))
        handlers.append(stdout)
    if settings.logfile:
        logfile = _LogFile(settings.logfile, encoding="utf-8")
        logfile.setFormatter(_formatter(shared, structlog.processors.JSONRenderer()))
        handlers.append(logfile)
    _install(handlers or [logging.NullHandler()])
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(process=process)


def logging_disabled() -> bool:
    """Whether JUNEBUG_DISABLE_LOGGING (spec 1.3) asks for silence on the command line."""
    return os.environ.get("JUNEBUG_DISABLE_LOGGING", "").strip().lower() in ("1", "true", "yes", "on")


class _Redact:
    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor

    def __call__(self, _: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        for key, value in event.items():
            if not key.startswith("_") and key != "exc_info":
                event[key] = self._redactor.value(value)
        return event


def _formatter(
    shared: list[structlog.typing.Processor], renderer: structlog.typing.Processor
) -> structlog.stdlib.ProcessorFormatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.add_log_level],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            *shared,
            renderer,
        ],
    )


def silence_libraries() -> None:
    """What they would report is reported, in one line, by the part of ours that uses them."""
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


def _install(handlers: list[logging.Handler]) -> None:
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(logging.INFO)
    silence_libraries()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_log_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
