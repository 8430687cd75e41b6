"""A backup as a file: gzip of JSON lines, written and read a line at a time.

    {"junebug_backup": 1, "made_at": "2026-11-27 08:30:00.000000", "junebug": "1.0.0"}
    {"key": ..., "type": ..., "expires_at": ..., "value": ...}         as stores/copies.py has them
    {"end": 12345, "sha256": "..."}                                    how many lines are before it, and their digest
"""

from __future__ import annotations

import gzip
import hashlib
import os
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import orjson

from junebug import __version__
from junebug.errors import StartupError
from junebug.model.messages import timestamp_now
from junebug.stores.copies import Part, is_part

VERSION = 1
STANDARD_OUTPUT = "-"
LONGEST_LINE = 64 * 2**20
"""Bytes; what Redis holds of one message or channel has a few thousand."""


@contextmanager
def new_backup(path: str) -> Iterator[Callable[[Part], None]]:
    """A function that writes a part. The file is there when all of it is on the disk, for its owner alone; `-` is the standard
    output. Raises StartupError.
    """
    if path == STANDARD_OUTPUT:
        if sys.stdout.isatty():
            raise StartupError("-: a backup is nothing for a terminal: redirect it into a file or a program that encrypts it")
        try:
            with _packed(sys.stdout.buffer) as write:
                yield write
            sys.stdout.flush()
        except OSError as error:
            sys.stderr.flush()
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter tries again at its end
            raise StartupError(f"the standard output cannot be written: {error.strerror or error}") from None
        return
    target, there = Path(path), StartupError(f"{path} is there already: name another file, or remove it")
    if target.exists():
        raise there
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            with _packed(file) as write:
                yield write
            file.flush()
            os.fsync(file.fileno())
        os.link(unfinished, target)  # unlike a rename it takes nobody's place
    except FileExistsError:
        raise there from None
    except OSError as error:
        raise StartupError(f"{path} cannot be written: {error.strerror or error}") from None
    finally:
        with suppress(OSError):
            unfinished.unlink()


@contextmanager
def _packed(file: IO[bytes]) -> Iterator[Callable[[Part], None]]:
    digest, count = hashlib.sha256(), 0

    def put(line: dict[str, Any]) -> None:
        nonlocal count
        text = _line(line)
        digest.update(text)
        packed.write(text)
        count += 1

    with gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=6) as packed:
        put({"junebug_backup": VERSION, "made_at": timestamp_now(), "junebug": __version__})
        yield put
        put({"end": count, "sha256": digest.hexdigest()})


def _line(line: dict[str, Any]) -> bytes:
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


class BackupFile:
    """One that is there. `parts` goes through it from the beginning, whenever it is called."""

    def __init__(self, path: str) -> None:
        """Raises StartupError, as all of its methods do: it is no backup, or of a newer Junebug."""
        self._path = path
        self.header = next(self._lines())

    def parts(self) -> Iterator[Part]:
        """Raises at the end when it is not as it was written: look before you use them."""
        lines, digest = self._lines(), hashlib.sha256()
        for number, line in enumerate(lines):
            if "end" in line:
                if line != {"end": number, "sha256": digest.hexdigest()} or next(lines, None) is not None:
                    raise self._wrong("its checksum is not that of what it holds")
                return
            digest.update(_line(line))
            if number and not is_part(line):
                raise self._wrong(f"line {number + 1} holds what no backup does")
            if number:
                yield line
        raise self._wrong("its end is missing")

    def _lines(self) -> Iterator[dict[str, Any]]:
        first = True
        try:
            with gzip.open(self._path, "rb") as file:
                while text := file.readline(LONGEST_LINE + 1):
                    line = orjson.loads(text) if len(text) <= LONGEST_LINE else None
                    if not isinstance(line, dict):
                        raise self._wrong("it holds what no backup does")
                    if first and not isinstance(line.get("junebug_backup"), int):
                        raise self._wrong("it does not begin as a backup does")
                    if first and line["junebug_backup"] > VERSION:
                        raise self._wrong(f"it is of a newer Junebug ({str(line.get('junebug'))[:20]}): restore it with that one")
                    first = False
                    yield line
        except (gzip.BadGzipFile, zlib.error):
            raise self._wrong("it is none of `junebug backup`, or damaged") from None
        except EOFError:
            raise self._wrong("its end is missing") from None
        except orjson.JSONDecodeError:
            raise self._wrong("it holds what no backup does") from None
        except OSError as error:
            raise StartupError(f"{self._path} cannot be read: {error.strerror or error}") from None
        if first:
            raise self._wrong("it is empty")

    def _wrong(self, why: str) -> StartupError:
        return StartupError(f"{self._path} is no whole backup: {why}. Nothing was restored")
