"""The audit log: each change that was made through the API, by whom, from where and when, as JSON lines in `audit.log`.

middleware.py writes a line for each request that changes something; its handler says what by `tell`. Secrets come here masked.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson
import structlog
from aiohttp import web

from junebug.api.access import CALLER
from junebug.config.declaration import Settings
from junebug.logs.files import LogFile
from junebug.model.messages import timestamp_now

log = structlog.stdlib.get_logger("api")

NAME = "audit.log"
ROTATE_SIZE, MOST_FILES = 10_000_000, 20
"""Bytes; and how many files of it there are."""
MODE = 0o600
LONGEST_CHANGES = 100_000
"""Bytes of what was changed; of more only the names are told."""

CHANGES = web.RequestKey("changes", dict)
"""What a handler tells of its change."""


def tell(request: web.Request, **about: Any) -> None:
    """What was changed: ids of what is new, `changes`, ... Secrets in it are masked already."""
    request.setdefault(CHANGES, {}).update(about)


def changes(
    before: Mapping[str, Any], after: Mapping[str, Any], shown_before: Mapping[str, Any], shown: Mapping[str, Any]
) -> dict[str, Any]:
    """What of an object became what: name -> {"from": ..., "to": ...}, as it is shown; a new secret is a mask after a mask."""
    names: Iterable[str] = {name for name in (*before, *after) if before.get(name) != after.get(name)}
    return {name: {"from": shown_before.get(name), "to": shown.get(name)} for name in sorted(names)}


class AuditLog:
    """Shared by the API's processes: each line is written, and the file rotated, under a lock of all."""

    def __init__(self, settings: Settings) -> None:
        self._path = settings.log_dir / NAME

    def record(self, request: web.Request, status: int) -> None:
        """One line. A disk that takes none stops nobody: the API's own log tells, and has the line."""
        caller, route = request.get(CALLER), request.match_info.route.resource
        line = {
            "timestamp": timestamp_now(), "who": caller.name if caller else None, "from": request.remote,
            "action": f"{request.method} {route.canonical if route else request.path}", "status": status,
            **request.match_info, **request.get(CHANGES, {}),
        }  # fmt: skip
        if caller and caller.token:
            line["token_id"] = caller.token.id
        written = orjson.dumps(line, default=str)
        if len(written) > LONGEST_CHANGES:
            line["changes"] = sorted(line.get("changes", ()))
            written = orjson.dumps(line, default=str)
        if trouble := _append(self._path, written + b"\n"):
            log.error("the audit log takes nothing", reason=trouble, **line)


def _append(path: Path, line: bytes) -> str:
    """Why it could not be; empty: it was."""
    try:
        with open(os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, MODE), "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            file = LogFile(path, ROTATE_SIZE, MOST_FILES, MODE)
            file.write([line])
            file.close()
            return file.trouble
    except OSError as error:
        return error.strerror or str(error)
