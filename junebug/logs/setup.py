"""Who logs where: one line for people on stdout, JSON lines in files, secrets masked.

Everywhere else `structlog.stdlib.get_logger(__name__)` is used, with an event name and ids as fields.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, MutableMapping
from pathlib import Path
from typing import Any

import structlog

from junebug.logs.channel_log import ChannelLog, ChannelLogger
from junebug.logs.files import LogFile
from junebug.logs.redaction import Redactor, escape_controls
from junebug.logs.sentry import Sentry
from junebug.logs.writer import LogWriter, Sink, WrittenHandler

_NOISY = ("aiormq", "aiohttp", "asyncio", "oauthlib", "slixmpp", "supervisor", "tweepy")
"""Libraries that report at ERROR, with a traceback, what we expect and handle (a broken link)."""


class _Stdout:
    """The standard output, for people."""

    lost_lines = 0

    def write(self, lines: Iterable[bytes]) -> None:
        try:
            sys.stdout.write(b"".join(lines).decode("utf-8", "replace"))
            sys.stdout.flush()
        except (OSError, ValueError):
            self.lost_lines += 1


def setup_channel_logging(
    path: Path, channel: str, redactor: Redactor, *, rotate_size: int, max_files: int, sentry_dsn: str | None = None
) -> ChannelLog:
    """Everything that this process logs goes to the channel's file; warnings of no channel go nowhere else.

    To be closed at the end: what was logged is then written.
    """
    handler = ChannelLog(path, channel, rotate_size, max_files, redactor)
    if sentry_dsn:
        handler.sentry = Sentry(sentry_dsn, "channel", redactor, channel)
    _install([handler])
    structlog.configure(
        processors=[], wrapper_class=ChannelLogger, logger_factory=lambda *args: handler, cache_logger_on_first_use=False
    )
    return handler


def setup_process_logging(
    process: str, logfile: str | None, secrets: Iterable[str], sentry_dsn: str | None = None
) -> LogWriter:
    """Log to stdout for people (unless JUNEBUG_DISABLE_LOGGING) and, as JSON lines, to `logfile`.

    To be closed at the end: what was logged is then written. While the file cannot be written, its lines are lost.
    """
    redactor = Redactor(secrets)
    shared: list[structlog.typing.Processor] = [
        _Redact(redactor),
        structlog.processors.TimeStamper("%Y-%m-%d %H:%M:%S"),
    ]
    writer = LogWriter()
    sinks: list[tuple[Sink, structlog.typing.Processor]] = []
    if not logging_disabled():
        plain = structlog.dev.plain_traceback  # with rich installed the default shows variables, secret ones too
        for_people = structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0, exception_formatter=plain)
        sinks.append((_Stdout(), _one_line(for_people)))
    trouble = ""
    if logfile:
        file = LogFile(Path(logfile))
        try:
            file.open()
        except OSError as error:
            trouble = error.strerror or str(error)
        sinks.append((file, structlog.processors.JSONRenderer()))
    handlers: list[logging.Handler] = []
    for sink, renderer in sinks:
        handlers.append(WrittenHandler(sink, writer))
        handlers[-1].setFormatter(_formatter(shared, renderer))
    if sentry_dsn:
        sentry = Sentry(sentry_dsn, process, redactor)
        writer.on_close = sentry.close
        handlers.append(_Told(sentry))
    _install(handlers or [logging.NullHandler()])
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
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(process=process)
    if trouble:
        structlog.stdlib.get_logger(__name__).warning("the log file cannot be written", logfile=logfile, reason=trouble)
    return writer


def logging_disabled() -> bool:
    """Whether JUNEBUG_DISABLE_LOGGING (spec 1.3) asks for silence on the command line."""
    return os.environ.get("JUNEBUG_DISABLE_LOGGING", "").strip().lower() in ("1", "true", "yes", "on")


def _one_line(render: structlog.typing.Processor) -> structlog.typing.Processor:
    """The renderer with nothing in its lines that a terminal obeys; a stack trace's lines are indented, so as to be none of
    the log's own.
    """

    def escaped(logger: Any, name: str, event: MutableMapping[str, Any]) -> Any:
        for key, value in event.items():
            if isinstance(value, str) and not key.startswith("_"):
                lines = [f"    {line}" for line in value.split("\n")] if key == "exception" else [value]
                event[key] = "\n".join(map(escape_controls, lines))
        return render(logger, name, event)

    return escaped


class _Redact:
    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor

    def __call__(self, _: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        for key, value in event.items():
            if not key.startswith("_") and key != "exc_info":
                event[key] = self._redactor.value(value)
        return event


class _Told(logging.Handler):
    """What is logged with a traceback, to Sentry."""

    def __init__(self, sentry: Sentry) -> None:
        super().__init__(logging.ERROR)
        self._sentry = sentry

    def emit(self, record: logging.LogRecord) -> None:
        if isinstance(record.msg, dict):  # of structlog's
            fields = record.msg
            self._sentry.tell(fields.get("exc_info"), fields.get("event"), record.name, fields)
        else:
            self._sentry.tell(record.exc_info, f"error in {record.name}", record.name, {})  # its text may hold anything


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
        _set_level(logging.getLogger(name), logging.CRITICAL + 1)


def _set_level(logger: logging.Logger, level: int) -> None:
    """Each change goes through all loggers that there are, whose memory a fork shares."""
    if logger.level != level:
        logger.setLevel(level)


def _install(handlers: list[logging.Handler]) -> None:
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    for handler in handlers:
        root.addHandler(handler)
    _set_level(root, logging.INFO)
    silence_libraries()
