"""A backup as a file: written whole and for its owner alone, and read only when it is so."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from junebug.client.backup_file import BackupFile, new_backup
from junebug.errors import StartupError
from tests.tables import rows

HEADER = {"junebug_backup": 1, "made_at": "x", "junebug": "1.0.0"}
PART = {"key": "channels", "type": "set", "expires_at": None, "value": ["\u4f60", "b"]}


def written(path: Path, parts: Iterable[dict[str, Any]]) -> bytes:
    path.unlink(missing_ok=True)
    with new_backup(str(path)) as write:
        for part in parts:
            write(part)
    return path.read_bytes()


def backup_of(*lines: dict[str, Any] | str) -> bytes:
    return gzip.compress("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines).encode())


def test_what_is_written_is_read(tmp_path: Path) -> None:
    written(tmp_path / "b", [PART] * 1000)
    file = BackupFile(str(tmp_path / "b"))
    assert list(file.parts()) == list(file.parts()) == [PART] * 1000
    assert file.header["junebug_backup"] == 1
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_nothing_is_left_of_one_that_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        written(tmp_path / "b", ({"part": 1 // number} for number in (1, 0)))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "b").write_text("mine")
    with pytest.raises(StartupError, match="there already"), new_backup(str(tmp_path / "b")):
        pass
    with pytest.raises(StartupError, match="cannot be written"), new_backup(str(tmp_path / "no" / "b")):
        pass
    assert (tmp_path / "b").read_text() == "mine"


@rows(
    ("content", "word"),
    [
        (None, "No such file"), (b"", "empty"), (b"channels", "none of `junebug backup`"), (gzip.compress(b"\x00"), "no backup"),
        (backup_of("[]"), "no backup"), (backup_of({"a": 1}), "begin"), (backup_of(HEADER), "its end is missing"),
        (backup_of({**HEADER, "junebug_backup": 2}), "newer Junebug"),
        (backup_of(HEADER, {"key": "x"}, {"end": 2, "sha256": ""}), "line 2"),
        (backup_of(HEADER, {"end": 1, "sha256": "0" * 64}), "checksum"), ("torn", "its end is missing"),
        ("changed", "whole backup"), ("longer", "whole backup"), ("cut", "its end is missing"),
    ],
)  # fmt: skip
def test_what_is_no_whole_backup_is_told(tmp_path: Path, content: bytes | str | None, word: str) -> None:
    file = tmp_path / "x.gz"
    if isinstance(content, str):
        whole = written(file, [PART])
        middle = len(whole) // 2
        lines = gzip.decompress(whole).splitlines(keepends=True)
        damaged = {"torn": whole[:-30], "changed": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
                   "longer": whole + whole, "cut": gzip.compress(b"".join(lines[:-1]))}  # fmt: skip
        content = damaged[content]
    file.unlink(missing_ok=True)
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(StartupError, match=word):
        list(BackupFile(str(file)).parts())
