"""Looking for a message's lines, and for messages, in logs of any size and state (logs/scan.py, logs/message_index.py)."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson

from junebug.logs import message_index, scan
from junebug.logs.lines import BLOCK, Budget
from junebug.logs.message_index import MessageIndex, Wanted
from junebug.logs.scan import lines_about
from tests.tables import rows

PLENTY = 10**9


def budget(octets: int = PLENTY, seconds: float = 30.0) -> Budget:
    return Budget(octets, seconds)


def line(timestamp: float, message: str = "message sent", **fields: Any) -> bytes:
    return orjson.dumps({"logger": "c", "level": 20, "timestamp": timestamp, "message": message, **fields}) + b"\n"


def write(path: Path, *files: Iterable[bytes]) -> Path:
    """The log's files, the newest first; each was written when its last line was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for number, lines in enumerate(files):
        file = path if number == 0 else path.with_name(f"{path.name}.{number}")
        written = list(lines)
        file.write_bytes(b"".join(written))
        stamps = [when for each in written if (when := scan.timestamp_in(each)) is not None]
        if stamps:
            os.utime(file, (stamps[-1], stamps[-1]))
    return path


def about(path: Path, message_id: str, since: float = 0.0, given: Budget | None = None, most: int = 100) -> scan.Found:
    return lines_about(path, "message_id", message_id, since, given or budget(), most)


# --- one message's lines --------------------------------------------------------------------------------------------------


def test_they_are_found_newest_first_across_files_and_no_others(tmp_path: Path) -> None:
    path = write(
        tmp_path / "c",
        [line(5, "e", message_id="m"), line(6, "f", message_id="other")],
        [line(3, "c", message_id="m"), line(4, "d", message_id="mm")],
        [line(1, "a", message_id="m"), line(2, "b", to_addr="m")],
    )
    found = about(path, "m")
    assert [entry["message"] for entry in found.entries] == ["e", "c", "a"]
    assert (found.oldest, found.is_whole, found.trouble) == (1, True, "")


@rows(
    "hostile",
    [
        b'{"logger":"c","level":20,"timestamp":7,"message":"x","message_id":"m"',  # torn
        b'"timestamp":7,"message":"x","message_id":"m"}\n',
        b'{"timestamp":7,"message":"x","content":"\\"message_id\\":\\"m\\""}\n',  # a content that says so
        b'{"timestamp":7,"message":"x","nested":{"message_id":"m"}}\n',
        b'{"timestamp":7,"message":"x","text":"m","message_id":"other"}\n',
        b'{"timestamp":"7","message":"x","message_id":"m"}\n',
        b'{"timestamp":true,"message":"x","message_id":"m"}\n',
        b'{"timestamp":7,"message":null,"message_id":"m"}\n',
        b'["message_id","m"]\n',
        b'"m"\n',
        b'{"message_id":"m"}\n',
        b"\x00" * 1000 + b'"m"\n',
        b'\xff\xfe"m"\n',
        b"\n\n\n",
        b'"m"' * 100_000 + b"\n",
        b"x" * 2_000_000 + b'"m"\n',
    ],
)
def test_what_only_looks_like_one_is_none(tmp_path: Path, hostile: bytes) -> None:
    path = write(tmp_path / "c", [line(1, "a", message_id="m"), hostile])
    assert [entry["message"] for entry in about(path, "m").entries] == ["a"]
    assert [hit.message_id for hit in searched(tmp_path).found] == []


def test_an_id_that_json_writes_otherwise_is_found(tmp_path: Path) -> None:
    for message_id in ('say "x"\\', "häßlich", "\u2028", "0"):
        path = write(tmp_path / "c", [line(1, "a", message_id=message_id)])
        assert len(about(path, message_id).entries) == 1


def test_lines_longer_than_a_block_and_across_blocks(tmp_path: Path) -> None:
    lines = [line(n, f"{n}", message_id="m", text="x" * random.randrange(3 * BLOCK)) for n in range(20)]
    found = about(write(tmp_path / "c", lines), "m")
    assert [entry["message"] for entry in found.entries] == [str(n) for n in reversed(range(20))]


def test_what_is_older_than_the_message_is_not_read(tmp_path: Path) -> None:
    filler = [line(10_000 + n, "x", text="y" * 500) for n in range(2000)]
    path = write(tmp_path / "c", [line(100_000, "a", message_id="m")], filler, [line(1, "old", message_id="m")])
    given = budget()
    found = about(path, "m", since=100_000, given=given)
    assert [entry["message"] for entry in found.entries] == ["a"]
    assert found.is_whole
    assert given.read < 1000


def test_how_the_channel_did_meanwhile_and_before_is_found_too(tmp_path: Path) -> None:
    path = write(tmp_path / "c", [
        line(1, "status", component="smpp", status="down"), *(line(2 + n, "x", text="y" * 500) for n in range(500)),
        line(9_000, "a", message_id="m"), line(9_001, "status", component="smpp", status="ok"),
    ])  # fmt: skip
    found = about(path, "m", since=9_000)
    assert [entry["status"] for entry in found.statuses] == ["ok", "down"]


def test_a_log_too_large_is_said_to_be_read_in_part(tmp_path: Path) -> None:
    path = write(tmp_path / "c", [line(1, "a", message_id="m"), *(line(n, "x", text="y" * 900) for n in range(2, 300))])
    found = about(path, "m", given=budget(100_000))
    assert (found.entries, found.is_whole) == ([], False)
    assert "only its newest" in found.trouble
    assert not about(path, "m", given=budget(seconds=0.0)).is_whole


def test_no_more_lines_than_asked_for(tmp_path: Path) -> None:
    found = about(write(tmp_path / "c", [line(n, message_id="m") for n in range(50)]), "m", most=10)
    assert [entry["timestamp"] for entry in found.entries] == list(reversed(range(40, 50)))
    assert "only the newest 10" in found.trouble


def test_no_log_and_one_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    assert about(tmp_path / "none", "m") == scan.Found([], None, True)
    (tmp_path / "dir").mkdir()
    assert "cannot be read" in about(tmp_path / "dir", "m").trouble


def test_a_hundred_megabytes_are_gone_through_in_a_moment(tmp_path: Path) -> None:
    filler = b"".join(line(10 + n / 1000, "PDU", hex="00" * 100, message_id=f"{n:032x}") for n in range(3000))
    path = tmp_path / "c"
    with path.open("wb") as file:
        file.write(line(1, "a", message_id="m"))
        for _ in range(100_000_000 // len(filler)):
            file.write(filler)
    began = time.process_time()
    assert len(about(path, "m").entries) == 1
    assert time.process_time() - began < 3
    given = budget(64_000_000, 5.0)
    hits = searched(tmp_path, Wanted(to_addr="+27"), given=given)
    assert (hits.found, hits.is_over) == ([], False)
    assert hits.reached >= 10


# --- messages -------------------------------------------------------------------------------------------------------------


def searched(
    directory: Path, wanted: Wanted | None = None, channels: Iterable[str] = ("c",), most: int = 100, given: Budget | None = None
) -> message_index.Hits:
    return MessageIndex(str(directory)).search(list(channels), wanted or Wanted(), most, given or budget())


def sent(timestamp: float, message_id: str, to: str = "+27820001111", **fields: Any) -> bytes:
    return line(timestamp, message_id=message_id, to_addr=to, **{"from_addr": "12345", **fields})


def ids(hits: message_index.Hits) -> list[str]:
    return [hit.message_id for hit in hits.found]


def three_channels(directory: Path) -> None:
    """30 messages, one a second, in turn; each channel has three files."""
    for start, channel in enumerate("abc"):
        numbers = list(range(start, 30, 3))
        write(directory / channel, *(
            [sent(1000.0 + n, f"m{n}", f"+27{n}") for n in part] for part in (numbers[7:], numbers[3:7], numbers[:3])
        ))  # fmt: skip


def test_messages_of_many_channels_come_newest_first(tmp_path: Path) -> None:
    three_channels(tmp_path)
    hits = searched(tmp_path, channels="abc")
    assert ids(hits) == [f"m{n}" for n in reversed(range(30))]
    assert hits.is_over
    assert ids(searched(tmp_path, channels="b", most=2)) == ["m28", "m25"]


def test_pages_have_each_message_once(tmp_path: Path) -> None:
    three_channels(tmp_path)
    found: list[str] = []
    wanted = Wanted()
    while True:
        hits = searched(tmp_path, wanted, "abc", most=4)
        found += ids(hits)
        if hits.is_over:
            break
        at_end = frozenset(hit.message_id for hit in hits.found if hit.timestamp == hits.reached)
        wanted = Wanted(until=hits.reached, at_end=at_end)
    assert found == [f"m{n}" for n in reversed(range(30))]


@rows(
    ("wanted", "expected"),
    [
        (Wanted(to_addr="+2717"), ["m17"]),
        (Wanted(to_addr="2717"), ["m17"]),
        (Wanted(to_addr=" 2717"), ["m17"]),
        (Wanted(to_addr="271"), ["m1"]),
        (Wanted(to_addr="717"), []),
        (Wanted(to_addr="+2717", from_addr="12345"), ["m17"]),
        (Wanted(to_addr="+2717", from_addr="1"), []),
        (Wanted(direction="inbound"), []),
        (Wanted(since=1027.0), ["m29", "m28", "m27"]),
        (Wanted(until=1002.5), ["m2", "m1", "m0"]),
        (Wanted(since=1004.0, until=1006.5), ["m6", "m5", "m4"]),
        (Wanted(since=2000.0), []),
        (Wanted(until=10.0), []),
    ],
)
def test_only_those_that_are_wanted(tmp_path: Path, wanted: Wanted, expected: list[str]) -> None:
    three_channels(tmp_path)
    hits = searched(tmp_path, wanted, "abc")
    assert (ids(hits), hits.is_over) == (expected, True)


def test_each_kind_of_line_that_says_addresses_tells_of_a_message(tmp_path: Path) -> None:
    write(tmp_path / "c", [
        sent(1, "a"), sent(2, "b", message="message rejected"), sent(3, "c", message="message expired, not sent"),
        sent(4, "d", message="inbound message received"), sent(5, "e", message="forwarded"), sent(6, "a"),
        line(7, message_id=7, to_addr="x"), line(8, message_id="f", to_addr=7, from_addr=None),
    ])  # fmt: skip
    hits = searched(tmp_path)
    assert [(hit.message_id, hit.direction, hit.to_addr) for hit in hits.found] == [
        ("f", "outbound", None), ("a", "outbound", "+27820001111"), ("d", "inbound", "+27820001111"),
        ("c", "outbound", "+27820001111"), ("b", "outbound", "+27820001111"),
    ]  # fmt: skip


def test_little_is_read_of_a_large_log_when_the_time_is_known(tmp_path: Path) -> None:
    write(tmp_path / "c", [sent(float(n), f"m{n}", text="y" * 900) for n in range(8000)])
    given = budget()
    hits = searched(tmp_path, Wanted(since=5000.0, until=5010.0), given=given)
    assert ids(hits) == [f"m{n}" for n in range(5010, 4999, -1)][1:]
    assert given.read < 20 * BLOCK


def test_what_is_cut_off_by_the_budget_goes_on_where_it_ended(tmp_path: Path) -> None:
    write(tmp_path / "c", [sent(float(n), f"m{n}", text="y" * 900) for n in range(3000)])
    wanted, found, requests = Wanted(to_addr="+27820001111"), list[str](), 0
    while True:
        hits = searched(tmp_path, wanted, most=10_000, given=budget(8 * BLOCK))
        requests += 1
        assert requests < 100
        found += ids(hits)
        if hits.is_over:
            break
        at_end = frozenset(hit.message_id for hit in hits.found if hit.timestamp == hits.reached)
        wanted = Wanted(to_addr="+27820001111", until=hits.reached, at_end=at_end)
    assert found == [f"m{n}" for n in reversed(range(3000))]
    assert requests > 5


def test_a_file_without_any_time_does_not_stop_it(tmp_path: Path) -> None:
    (tmp_path / "c").write_bytes(b"nonsense\n" * 1_000_000)
    write(tmp_path / "d", [sent(1, "m")])
    assert ids(searched(tmp_path, channels="cd")) == ["m"]


def test_of_a_thousand_channels_few_files_are_open_and_read(tmp_path: Path) -> None:
    for n in range(1000):
        write(tmp_path / f"c{n}", [sent(1000.0 + n, f"m{n}", text="y" * 2000)])
    given = budget()
    hits = searched(tmp_path, channels=[f"c{n}" for n in range(1000)], most=5, given=given)
    assert ids(hits) == [f"m{n}" for n in range(999, 994, -1)]
    assert given.read < 20_000
