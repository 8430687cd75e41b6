"""The newest lines of a channel's or router's log, read backwards across its rotated files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from junebug.logs.files import rotated_files

TAIL_BLOCK = 64 * 1024
LONGEST_LINE = 1024 * 1024


def tail(
    logging_path: str, channel: str, n: int, message_id: str | None = None, destination_id: str | None = None
) -> list[dict[str, Any]]:
    """The last `n` entries of a channel's or router's log, newest first, across its rotated files.

    With `message_id` only entries of that message, with `destination_id` those of that destination. Blocking: to be called in a
    thread.
    """
    path = Path(logging_path) / channel
    about = {"message_id": message_id, "destination_id": destination_id}
    fields = {name: value for name, value in about.items() if value}
    wanted = [f'"{value}"'.encode() for value in fields.values()]
    entries: list[dict[str, Any]] = []
    for each in [path, *(rotated for _, rotated in rotated_files(path))]:
        for line in _lines_backwards(each):
            if len(entries) >= n:
                return entries
            if not all(each in line for each in wanted):
                continue
            try:
                entry = orjson.loads(line)
            except orjson.JSONDecodeError:
                continue  # the rest of a line that a full disk or a kill cut
            if all(entry.get(name) == value for name, value in fields.items()):
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
