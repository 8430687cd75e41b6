"""How far a CSV file was sent: what is kept beside it, so that a killed command goes on, and nothing goes out twice.

`FILE.sending.json` names the run and the rows that are done; `FILE.failed.csv` has the rows that were refused, with the reason.
Before a batch is sent the state is on disk; after its answer the failed rows are written, and then the state, in one step. A
batch that was cut off is sent again with the same Idempotency-Key, made of the run and of its first row: Junebug sends what
of it is not sent yet.
"""

from __future__ import annotations

import csv
import io
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from junebug.client.exits import Exit, Failure

FORMAT = 1
REMEMBERED = 40 * 3600.0
"""Seconds for which Junebug surely knows a key (its outbound_message_ttl is two days, unless it was changed)."""


@dataclass
class State:
    """`run`: makes keys. `digest`, `to`: of which content, sent how. `rows`: done. `failed_size`: bytes of the failed file."""

    run: str
    digest: str
    to: str
    batch_size: int
    rows: int = 0
    accepted: int = 0
    rejected: int = 0
    failed_size: int = 0
    is_finished: bool = False
    saved_at: float = 0.0
    format: int = FORMAT


@dataclass
class Sending:
    """A state on disk, and the file of failed rows. `is_new`: nothing of it was tried before this command."""

    path: Path
    failed_path: Path
    state: State
    is_new: bool

    @classmethod
    def of(cls, file: Path, new: State, again: bool) -> Self:
        """That of this file, or the `new` one. Raises Failure where going on could send a message twice."""
        path, failed = file.with_name(f"{file.name}.sending.json"), file.with_name(f"{file.name}.failed.csv")
        old = None if again else _read(path)
        if old is None:
            return cls(path, failed, new, True)
        anew = "; --again begins anew"
        if old.digest != new.digest:
            changed = "is not what it was when its sending began"
            raise Failure(f"{file} {changed}, of which {old.rows} rows are done{anew}", Exit.USAGE)
        if old.to != new.to:
            raise Failure(f"{file} began to be sent otherwise ({old.to}), and {old.rows} rows are done{anew}", Exit.USAGE)
        if not old.is_finished and time.time() - old.saved_at > REMEMBERED:
            raise Failure(
                f"{file} was begun so long ago that Junebug may not know any more whether rows {old.rows + 1} to"
                f" {old.rows + old.batch_size} are sent: look for them with `junebug messages`{anew}"
            )
        return cls(path, failed, old, False)

    def save(self) -> None:
        """On disk when this returns."""
        self.state.saved_at = time.time()
        _write(self.path, json.dumps(asdict(self.state)).encode())

    def begin(self) -> None:
        """Before the first batch: what a run that was cut off wrote after its last state is cut off, too."""
        if not self.failed_path.exists():
            self.state.failed_size = 0  # somebody took it away
        elif self.state.failed_size:
            os.truncate(self.failed_path, self.state.failed_size)
        else:
            self.failed_path.unlink()
        self.save()

    def done(self, rows: int, accepted: int, failed: Sequence[Sequence[str]], header: Sequence[str]) -> None:
        """These rows more are done; those that failed are given with their reasons."""
        if failed:
            text = io.StringIO()
            csv.writer(text).writerows(failed if self.state.failed_size else [header, *failed])
            with self.failed_path.open("ab") as file:
                file.write(text.getvalue().encode())
                file.flush()
                os.fsync(file.fileno())
                self.state.failed_size = file.tell()
        self.state.rows += rows
        self.state.accepted += accepted
        self.state.rejected += len(failed)
        self.save()

    def forget(self) -> None:
        """Nothing was sent, and nothing is to be gone on with."""
        self.path.unlink(missing_ok=True)


def _read(path: Path) -> State | None:
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
        if found["format"] != FORMAT:
            raise ValueError
        return State(**found)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise Failure(f"{path} is none of this command's files; --again begins anew, and sends all rows", Exit.USAGE) from None


def _write(path: Path, content: bytes) -> None:
    """All of it or nothing of it."""
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
