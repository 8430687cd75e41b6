"""A CSV file read as messages, a row at a time: a million rows take no more memory than ten.

The first row names the columns: fields of a message. UTF-8; commas, semicolons or tabs, whichever the first row has most of.
"""

from __future__ import annotations

import csv
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from junebug.client.exits import Exit, Failure
from junebug.client.values import Json

COLUMNS = ("to", "from", "group", "reply_to", "content", "event_url", "event_auth_token", "priority", "expires_at", "validity",
           "channel_data")  # fmt: skip
ERROR = "error"
"""A column that is not read: a file of failed rows can be sent as it is."""
BATCH_CHARACTERS, OVERHEAD = 3 * 1024 * 1024, 100
"""In a request, at the most, and of each message besides its values: Junebug takes 16 MB."""
BLOCK = 1024 * 1024


@dataclass
class Batch:
    """Rows that go out together. `messages`: index in `rows` -> the message; a row without one has a reason."""

    first: int
    rows: list[list[str]] = field(default_factory=list)
    messages: dict[int, Json] = field(default_factory=dict)
    reasons: dict[int, str] = field(default_factory=dict)
    size: int = 0


class Rows:
    """An open file. Nobody else sends it meanwhile."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._file = file
        self._path = path
        self._stat = os.fstat(file.fileno())
        self.digest = _digest(file)
        file.seek(0)
        head = file.readline(BLOCK).decode("utf-8-sig", "replace")
        self._delimiter = max(",;\t", key=head.count)
        self.header = [name.strip().lower() for name in next(self._read(), [])]
        if not self.header:
            raise Failure(f"{path}: it is empty", Exit.USAGE)
        unknown = [name for name in self.header if name not in (*COLUMNS, ERROR)]
        twice = [name for name in self.header if self.header.count(name) > 1]
        if unknown or twice:
            what = f"{twice[0]!r} is there twice" if twice else f"{unknown[0][:50]!r} is unknown"
            raise Failure(f"{path}: its first row names the columns, and {what}; there are {', '.join(COLUMNS)}", Exit.USAGE)

    def count(self) -> int:
        return sum(1 for _ in self._read()) - 1

    def batches(self, after: int, size: int, defaults: Json) -> Iterator[Batch]:
        """Of the rows after the first `after`; how they are cut depends on nothing else."""
        batch, own = Batch(0), len(json.dumps(defaults))
        for number, row in enumerate(self._read()):
            if number <= after:  # the header is one, too
                continue
            if not batch.rows:
                batch = Batch(number)
            self._add(batch, row, defaults)
            if len(batch.rows) >= size or batch.size + own * len(batch.rows) >= BATCH_CHARACTERS:
                yield batch
                batch = Batch(0)
        if batch.rows:
            yield batch

    def failed_header(self) -> list[str]:
        return [*(name for name in self.header if name != ERROR), ERROR]

    def failed(self, row: Sequence[str], reason: str) -> list[str]:
        kept = [value for name, value in zip(self.header, row, strict=False) if name != ERROR]
        return [*kept, *[""] * (len(self.failed_header()) - 1 - len(kept)), reason]

    def check_unchanged(self) -> None:
        now = os.fstat(self._file.fileno())
        if (now.st_size, now.st_mtime_ns) != (self._stat.st_size, self._stat.st_mtime_ns):
            raise Failure(f"{self._path} was changed while it was sent: what is sent of it is noted, nothing more was")

    def _add(self, batch: Batch, row: list[str], defaults: Json) -> None:
        index = len(batch.rows)
        batch.rows.append(row)
        if len(row) > len(self.header):
            batch.reasons[index] = f"it has {len(row)} fields, and there are {len(self.header)} columns"
            return
        given = {name: _value(name, text) for name, text in zip(self.header, row, strict=False) if text != "" and name != ERROR}
        batch.messages[index] = defaults | given
        batch.size += sum(map(len, row)) + OVERHEAD

    def _read(self) -> Iterator[list[str]]:
        """All rows but empty ones; the header is one, too."""
        self._file.seek(0)
        read = csv.reader(self._lines(), delimiter=self._delimiter, strict=True)
        try:
            yield from filter(None, read)
        except csv.Error as error:
            raise Failure(f"{self._path}: line {read.line_num} is no CSV: {error}", Exit.USAGE) from None

    def _lines(self) -> Iterator[str]:
        number = 0
        while line := self._file.readline(BLOCK):
            number += 1
            if len(line) == BLOCK:
                raise Failure(f"{self._path}: line {number} is too long", Exit.USAGE)
            try:
                yield line.decode("utf-8" if number > 1 else "utf-8-sig")
            except UnicodeDecodeError:
                raise Failure(f"{self._path}: line {number} is not UTF-8: save it as UTF-8", Exit.USAGE) from None


@contextmanager
def opened(path: Path) -> Iterator[Rows]:
    """Raises Failure where there is none, it is none, or another command sends it."""
    try:
        with path.open("rb") as file:
            if not path.is_file():
                raise Failure(f"{path}: it is no file", Exit.USAGE)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Failure(f"{path}: another command sends it at this moment") from None
            yield Rows(file, path)
    except OSError as error:
        is_wrong = isinstance(error, FileNotFoundError | IsADirectoryError)
        raise Failure(f"{error.filename or path}: {error.strerror}", Exit.USAGE if is_wrong else Exit.FAILED) from None


def _value(name: str, text: str) -> Any:
    """As the API wants it; what it cannot be is left for the API to refuse."""
    if name in ("validity", "channel_data"):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text
    return text


def _digest(file: IO[bytes]) -> str:
    found = hashlib.sha256()
    while block := file.read(BLOCK):
        found.update(block)
    return found.hexdigest()
