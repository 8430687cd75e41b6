"""The audit log as it is read. Neighbour: api/audit.py writes it, and says what is in it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from junebug.logs.lines import Budget, lines_with, log_blocks

NAME = "audit.log"
MOST_SEARCHED = 40_000_000
"""Bytes of it that are looked through for one message."""
SECONDS = 1.0
"""That this takes at the most."""


def find(path: Path, channel: str, message_id: str) -> dict[str, Any] | None:
    """The last change of this one message of a channel, as far as the newest lines go; blocking."""
    needle, budget = orjson.dumps(message_id), Budget(MOST_SEARCHED, SECONDS)
    with suppress(OSError):
        for line in (line for block in log_blocks(path, budget) for line in lines_with(block, needle)):
            if found := _line_about(line, channel, message_id):
                return found
    return None


def _line_about(line: bytes, channel: str, message_id: str) -> dict[str, Any] | None:
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    is_it = isinstance(found, dict) and (found.get("channel_id"), found.get("message_id")) == (channel, message_id)
    return found if is_it else None
