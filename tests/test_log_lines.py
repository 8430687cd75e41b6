"""Logs read backwards while they are written and rotated (logs/lines.py), and by each who does so."""

from __future__ import annotations

import os
import threading
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from junebug.logs.files import LogFile, rotated_files
from junebug.logs.lines import BLOCK, LONGEST_LINE, Budget, blocks_backwards, lines_with, log_blocks
from junebug.logs.message_index import MessageIndex, Wanted
from junebug.logs.scan import entry_of, lines_about
from junebug.logs.tail import tail
from tests.tables import rows

FILES, LINES = 4, 300
"""Of a log, and of each file: of about three blocks."""
MESSAGES = [f"m{n}" for n in reversed(range(FILES * LINES))]


def entry(number: int) -> bytes:
    return orjson.dumps({
        "message": "message sent", "timestamp": 1000 + number, "message_id": f"m{number}", "to_addr": "+27", "of": "all",
        "channel_id": "c", "pad": "x" * 500,
    }) + b"\n"  # fmt: skip


def written(directory: Path, name: str = "c") -> Path:
    """A log of FILES files."""
    for number in range(FILES):
        first = (FILES - 1 - number) * LINES
        file = directory / (f"{name}.{number}" if number else name)
        file.write_bytes(b"".join(map(entry, range(first, first + LINES))))
        os.utime(file, (1000 + first + LINES - 1,) * 2)
    return directory / name


def rotate(log: Path) -> None:
    """As LogFile does. What is written then is newer than the question."""
    file = LogFile(log, 1)
    file.write([entry(10**6)])
    file.close()


@pytest.fixture
def rotated_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, int], None]:
    """Have the log rotated when so many blocks of it were read, and after as many more."""

    def install(log: Path, blocks: int) -> None:
        pread, read = os.pread, [0]

        def counted(descriptor: int, octets: int, offset: int) -> bytes:
            data = pread(descriptor, octets, offset)
            if octets > 1:  # not LogFile's
                read[0] += 1
                if read[0] % blocks == 0:
                    rotate(log)
            return data

        monkeypatch.setattr(os, "pread", counted)

    return install


def ids(entries: list[dict[str, Any]]) -> list[str]:
    return [each["message_id"] for each in entries if each["timestamp"] < 10**6]


def tailed(log: Path) -> list[str]:
    return ids(tail(log, 10_000, destination_id=None))


def scanned(log: Path) -> list[str]:
    return ids(lines_about(log, "of", "all", 0.0, Budget(10**9, 30.0), 10_000).entries)


def searched(log: Path) -> list[str]:
    hits = MessageIndex(str(log.parent)).search(["c"], Wanted(to_addr="+27"), 10_000, Budget(10**9, 30.0))
    return [hit.message_id for hit in hits.found if hit.timestamp < 10**6]


@pytest.mark.parametrize("read", [tailed, scanned, searched])
@pytest.mark.parametrize("blocks", [1, 2, 3, 5])
def test_a_rotation_meanwhile_loses_none_and_repeats_none(
    tmp_path: Path, rotated_after: Callable[[Path, int], None], read: Callable[[Path], list[str]], blocks: int
) -> None:
    log = written(tmp_path)
    rotated_after(log, blocks)
    assert read(log) == MESSAGES
    assert len(rotated_files(log)) > FILES


def test_while_a_writer_rotates_all_the_time_each_line_comes_once_and_in_order(tmp_path: Path) -> None:
    log, is_over, number = tmp_path / "c", threading.Event(), [0]

    def write() -> None:
        file = LogFile(log, 5_000, 30)
        while not is_over.is_set():
            file.write([entry(number[0])])
            number[0] += 1
            if len(rotated_files(log)) > 30:
                for _, rotated in rotated_files(log)[15:]:
                    rotated.unlink()
        file.close()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        looks, until = 0, time.monotonic() + 3
        while looks < 100 and time.monotonic() < until:
            before = number[0]
            lines = (line for block in log_blocks(log) for line in lines_with(block))
            found = [int(each["message_id"][1:]) for line in lines if (each := entry_of(line))]  # one may be half written
            assert found == list(range(found[0], found[0] - len(found), -1)) if found else before < 2
            assert not found or found[0] >= before - 1
            looks += 1
    finally:
        is_over.set()
        thread.join()
    assert looks


def blocks_of(text: bytes) -> bytes:
    return b"".join([*blocks_backwards(lambda octets, offset: text[offset : offset + octets], len(text))][::-1])


@rows("end", [b"\n", b""])
@rows("around", [0, 1, 7, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK])
def test_a_line_too_long_is_passed_over_and_no_other(end: bytes, around: int) -> None:
    before, after = b"a" * around + b"\n", b"b" * around + b"\n"
    assert blocks_of(before + b"x" * (LONGEST_LINE + 2 * BLOCK) + end) == before
    assert blocks_of(b"x" * (LONGEST_LINE + 2 * BLOCK) + b"\n" + after) == after
    assert blocks_of(before + b"x" * (LONGEST_LINE + 2 * BLOCK) + b"\n" + after) == before + after
    assert blocks_of(before + b"x" * (LONGEST_LINE // 2) + b"\n" + after) == before + b"x" * (LONGEST_LINE // 2) + b"\n" + after


@rows("end", [b"\n", b""])
def test_a_line_without_end_costs_its_length_and_no_memory(tmp_path: Path, end: bytes) -> None:
    """It was held whole, and copied with each block."""
    size = 100 * LONGEST_LINE
    with (tmp_path / "c").open("wb") as file:
        file.write(entry(1))
        file.truncate(size)
        file.seek(size)
        file.write(end)
    tracemalloc.start()
    try:
        assert tailed(tmp_path / "c") == scanned(tmp_path / "c") == ["m1"]
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 4 * LONGEST_LINE


def test_what_has_no_number_of_a_rotation_is_none_of_its_files(tmp_path: Path) -> None:
    """`.²` ended whoever looked."""
    log = written(tmp_path)
    for name in ("c.²", "c.٣", "c.07", "c.0", "c.", "c.-1", "c.1x", "d.9"):
        (tmp_path / name).write_bytes(entry(10**6))
    assert [number for number, _ in rotated_files(log)] == [*range(1, FILES)]
    assert tailed(log) == scanned(log) == searched(log) == MESSAGES


def test_a_gap_in_the_numbers_ends_nothing(tmp_path: Path) -> None:
    log = written(tmp_path)
    for number in (1, 2):
        log.with_name(f"c.{number}").unlink()
    log.with_name("c.3").rename(log.with_name("c.9"))
    expected = MESSAGES[:LINES] + MESSAGES[-LINES:]
    assert tailed(log) == scanned(log) == searched(log) == expected
