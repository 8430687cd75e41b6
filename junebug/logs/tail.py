"""The newest lines of a channel's or router's log, read backwards across its rotated files."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson

from junebug.logs.lines import lines_with, log_blocks


def tail(log: Path, n: int, message_id: str | None = None, destination_id: str | None = None) -> list[dict[str, Any]]:
    """The last `n` entries of a channel's (shard's) or router's log, newest first, across its rotated files.

    With `message_id` only entries of that message, with `destination_id` those of that destination. Blocking: to be called in a
    thread.
    """
    about = {"message_id": message_id, "destination_id": destination_id}
    fields = {name: value for name, value in about.items() if value}
    wanted = [f'"{value}"'.encode() for value in fields.values()]
    entries: list[dict[str, Any]] = []
    with suppress(OSError):
        for line in (line for block in log_blocks(log) for line in lines_with(block, *wanted)):
            if len(entries) >= n:
                break
            try:
                entry = orjson.loads(line)
            except orjson.JSONDecodeError:
                continue  # the rest of a line that a full disk or a kill cut
            if all(entry.get(name) == value for name, value in fields.items()):
                entries.append(entry)
    return entries
