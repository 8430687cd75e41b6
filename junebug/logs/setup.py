"""Who logs where: one line for people on stdout, JSON lines in files, secrets masked.

Everywhere else `structlog.stdlib.get_logger(__name__)` is used, with an event name and ids as fields.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import structlog

from junebug.config.declaration import Settings
from junebug.logs.channel_log import ChannelLog
from junebug.logs.redaction import Redactor

_NOISY = ("aio_pika", "aiormq", "aiohttp", "asyncio", "supervisor")
"""Libraries that report at ERROR, with a traceback, what we expect and handle (a broken link)."""


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
