"""Errors told to Sentry, with the setting `sentry_dsn`: what was raised, where in the code, in which process and channel.

No text of an exception, no value of a variable and no field of a log line but ids goes there: any of them may hold a message or
an address. Without the setting nothing of Sentry's is loaded. Neighbours: setup.py and channel_log.py tell what they log with a
traceback.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from junebug import __version__
from junebug.errors import ConfigError
from junebug.logs.redaction import Redactor

if TYPE_CHECKING:
    import sentry_sdk

MOST_A_MINUTE = 30
"""Errors told by one process; what comes beyond is in its log alone."""
MOST_WAITING = 30
FLUSH_TIMEOUT = 1.0
"""Seconds that a process waits at its end for what is still to be sent."""
IDS = ("message_id", "router_id", "destination_id")
LONGEST_EVENT = 200


def check(dsn: str | None) -> None:
    """It can be used. Raises ConfigError."""
    if not dsn:
        return
    sdk = _sdk()
    try:
        sdk.utils.Dsn(dsn)
    except (sdk.utils.BadDsn, ValueError):
        raise ConfigError("sentry_dsn: expected a DSN as Sentry shows it: https://KEY@HOST/PROJECT") from None


def _sdk() -> Any:
    try:
        return importlib.import_module("sentry_sdk")
    except ImportError:
        advice = "install it with Junebug's extra: pip install 'junebug[sentry]'"
        raise ConfigError(f"sentry_dsn: Sentry's SDK is not installed; {advice}") from None


class Sentry:
    """Of one process, made after it was forked: it has a thread that sends."""

    def __init__(self, dsn: str, process: str, redactor: Redactor, channel: str = "") -> None:
        """Raises ConfigError."""
        check(dsn)
        self._sdk = _sdk()
        self._redactor = redactor
        self._tags = {"process": process} | ({"channel_id": channel} if channel else {})
        self._minute, self._told = 0, 0
        self._client: sentry_sdk.Client = self._sdk.Client(
            dsn=dsn, release=f"junebug@{__version__}", default_integrations=False, auto_enabling_integrations=False,
            include_local_variables=False, auto_session_tracking=False, send_client_reports=False,
            max_breadcrumbs=0, transport_queue_size=MOST_WAITING, shutdown_timeout=FLUSH_TIMEOUT, spotlight=False,
            propagate_traces=False, in_app_include=["junebug"],
        )  # fmt: skip

    def tell(self, exc_info: Any, event: object, logger: str, fields: Mapping[str, Any]) -> None:
        """Where there is an exception. `exc_info`: as a logging call has it; `event`: the constant text that was logged; of the
        `fields` ids alone are told.
        """
        if (error := raised(exc_info)) is None:
            return
        minute = int(time.monotonic() // 60)
        if minute != self._minute:
            self._minute, self._told = minute, 0
        self._told += 1
        if self._told > MOST_A_MINUTE:
            return
        try:
            told, hint = self._sdk.utils.event_from_exception(error, client_options=self._client.options)
            for exception in told.get("exception", {}).get("values", ()):
                exception["value"] = ""
                exception.get("mechanism", {}).pop("meta", None)
            _with_numbers(told, error)
            ids = {name: fields[name] for name in (*IDS, "channel_id") if isinstance(fields.get(name), str)}
            about = {"level": "error", "logger": logger, "logentry": {"message": str(event)[:LONGEST_EVENT]}}
            self._client.capture_event(self._redactor.value({**told, **about, "tags": {**self._tags, **ids}}), hint)
        except Exception:  # what cannot be told must not cost what was to be told of
            return

    def close(self) -> None:
        """What was told so far is sent, for a moment at the most."""
        self._client.close(timeout=FLUSH_TIMEOUT)


def _with_numbers(told: Any, error: BaseException) -> None:
    """What the system says of an OSError holds nobody's data."""
    values = told.get("exception", {}).get("values", ())
    if values and isinstance(error, OSError) and isinstance(error.errno, int):
        values[-1]["value"] = f"[Errno {error.errno}] {os.strerror(error.errno)}"


def raised(exc_info: Any) -> BaseException | None:
    """The exception that a logging call's `exc_info` stands for."""
    if isinstance(exc_info, BaseException):
        return exc_info
    if isinstance(exc_info, tuple):
        error: BaseException | None = exc_info[1]
        return error
    return sys.exc_info()[1] if exc_info else None
