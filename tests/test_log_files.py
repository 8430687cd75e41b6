"""Whose a log file is: ids may have dots and end in numbers, as names of rotated files do; each channel reads its own lines."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import orjson
import pytest

from junebug import names
from junebug.config.declaration import Settings
from junebug.logs import questions
from junebug.logs.channel_log import ChannelLog, append_line
from junebug.logs.files import LogsOf, file_of, numbers_in, take_over
from junebug.logs.follow import Follower, Line, Reader, Step
from junebug.logs.message_index import Wanted
from junebug.logs.questions import LogAnswers, found_of, hits_of, wanted_json
from junebug.logs.redaction import Redactor
from tests.polling import eventually_blocking
from tests.tables import rows

UNITS = ["c", "c.1", "c.1.1", "c.1.2", "c.2", "c~1", "c.1~1", "c.01", "c.0", "c.x", "c.", "c..1", "c.1.", "1.1", "c.100"]
BUDGET = (10_000_000, 5.0)


@pytest.fixture
def here(tmp_path: Path) -> Settings:
    return Settings(logging_path=str(tmp_path))


def test_no_file_is_of_two_logs(here: Settings) -> None:
    files = {unit: {file_of(here.channel_log_path(unit), number) for number in (*range(5), 100)} for unit in UNITS}
    for one, other in combinations(UNITS, 2):
        assert not files[one] & files[other], (one, other)


@rows(("unit", "name"), [
    ("c", "c"), ("c~1", "c~1"), ("c.x", "c.x"), ("c.1x", "c.1x"), ("c.0", "c.0"), ("c.01", "c.01"), ("c.", "c."), ("1", "1"),
    ("6a5c691e-140c-48b0-9f39-a53d4951d7fa", "6a5c691e-140c-48b0-9f39-a53d4951d7fa"),
    ("c.1", "c.1~0"), ("c.1.12", "c.1.12~0"), ("c..9", "c..9~0"), ("c.1~1", "c.1~1"),
])  # fmt: skip
def test_a_log_has_its_units_name_but_where_that_is_anothers_older_file(unit: str, name: str) -> None:
    assert names.log_name(unit) == name
    assert names.is_log_name(name)
    assert names.channel_of(name) == names.channel_of(unit)


@rows("text", ["c.1", "c~0", "c~1~0", "c~1.1", "c.1~0.1", "c~32", ".c", "c.1~1~0", "~0", ""])
def test_what_is_no_logs_name(text: str) -> None:
    assert not names.is_log_name(text)


def written(here: Settings, units: Sequence[str], lines: int = 12) -> None:
    """Each with a few rotated files."""
    logs = {unit: ChannelLog(here.channel_log_path(unit), unit, 400, 4, Redactor()) for unit in units}
    for number in range(lines):
        for unit, log in logs.items():
            log.write(logging.INFO, "message sent", (), {"message_id": "m", "to_addr": unit, "n": number})
            log.flush()
    for log in logs.values():
        log.close()


CHANNELS = [unit for unit in UNITS if names.is_channel_id(unit)]


def expected(channel: str) -> set[str]:
    return {channel} | ({f"{channel}~1"} & {*UNITS})


def of_tail(ask: Callable[..., Any], channel: str) -> list[Any]:
    return [entry["logger"] for entry in ask(questions.TAIL, log=channel, count=1000)["entries"]]


def about(ask: Callable[..., Any], channel: str) -> list[Any]:
    (found,) = found_of(ask(questions.ABOUT, logs=[channel], message_id="m", since=0.0, most=1000, budget=BUDGET))
    return [entry["logger"] for entry in found.entries]


def last_words(ask: Callable[..., Any], channel: str) -> list[Any]:
    (entries,) = ask(questions.LAST_WORDS, messages=[[[channel], "m", 0.0]], budget=BUDGET)["entries"]
    return [entry["logger"] for entry in entries]


def of_search(ask: Callable[..., Any], channel: str) -> list[Any]:
    wanted = [wanted_json(Wanted(to_addr=unit)) for unit in UNITS]  # of a message several lines are one hit
    answers = [ask(questions.SEARCH, channels=[channel], wanted=each, most=9, budget=BUDGET) for each in wanted]
    hits = [hit for answer in answers for hit in hits_of(answer).found]
    assert {hit.channel for hit in hits} == {channel}
    return [hit.to_addr for hit in hits]


def test_each_channel_reads_its_own_lines_whatever_the_others_are_called(here: Settings) -> None:
    written(here, UNITS)
    answers = LogAnswers(here.logging_path).answers()

    def ask(question: str, **about: Any) -> Any:
        return answers[question](orjson.loads(orjson.dumps(about)))

    for channel in CHANNELS:
        for way in (of_tail, about, last_words, of_search):
            assert {*way(ask, channel)} == expected(channel), (channel, way.__name__)
        assert len(of_tail(ask, channel)) > 2 * len(expected(channel))


def test_each_log_is_followed_alone(here: Settings) -> None:
    units = ["c", "c.1", "c.1.1", "c~1", "c.1~1"]
    found = defaultdict[str, set[str]](set)
    show = lambda _, line: Line("other", 0.0, lambda: line)  # noqa: E731
    follower = Follower(here.channel_log_path, show)
    reader = Reader(frozenset(["other"]), lambda: None, since=0.0)
    reader.logs = frozenset(units)
    written(here, units, 3)
    follower.follow(reader)
    try:
        written(here, units, 9)

        def read() -> bool:
            for step in reader.take(1_000_000):
                if isinstance(step, Step) and step.line:
                    found[step.log].add(str(orjson.loads(step.line.data)["to_addr"]))
            return found.keys() == {*units}

        eventually_blocking(read)
        time.sleep(0.3)  # nothing of another's comes afterwards
        read()
    finally:
        follower.leave(reader)
    assert found == {unit: {unit} for unit in units}


# --- logs of an older Junebug -----------------------------------------------------------------------------------------


def old(path: Path, logger: str, *numbers: int) -> None:
    for number in numbers:
        append_line(path, logger, 20, "old", {"n": number})


@rows(("files", "id", "left"), [
    ({"c.1": "c.1"}, "c.1", {"c.1~0": "c.1"}),
    ({"c.1": "c.1", "c.1.1": "c.1", "c.1.3": "c.1"}, "c.1", {"c.1~0": "c.1", "c.1~0.1": "c.1", "c.1~0.2": "c.1"}),
    ({"c": "c", "c.1": "c"}, "c.1", {"c": "c", "c.1": "c"}),
    ({"c": "c", "c.1": "c", "c.1.1": "c.1"}, "c.1", {"c": "c", "c.1": "c", "c.1~0": "c.1"}),
    ({"c.1": "c.1", "c.1.1": "c.1.1"}, "c.1", {"c.1~0": "c.1", "c.1.1": "c.1.1"}),
    ({"c.1": "c.1", "c.1~0": "c.1", "c.1~0.1": "c.1"}, "c.1", {"c.1~0": "c.1", "c.1~0.1": "c.1", "c.1~0.2": "c.1"}),
    ({"c.1": "c.1"}, "c", {"c.1": "c.1"}),
    ({"c": "c"}, "c", {"c": "c"}),
    ({"c.1~1": "c.1~1"}, "c.1", {"c.1~1": "c.1~1"}),
    ({}, "c.1", {}),
])  # fmt: skip
def test_the_logs_of_an_older_junebug_are_kept_under_names_of_their_own(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, str], id: str, left: dict[str, str]
) -> None:
    directory = tmp_path_factory.mktemp("logs")
    for name, logger in files.items():
        old(directory / name, logger, 1, 2)
    for _ in range(2):
        take_over(directory, [id, "c"])
        there = {path.name: orjson.loads(path.read_bytes().splitlines()[0])["logger"] for path in directory.iterdir()}
        assert there == left
    assert all(path.read_bytes().count(b"\n") == 2 for path in directory.iterdir())


def test_what_was_taken_over_is_older_than_what_is_there(here: Settings, tmp_path: Path) -> None:
    for number, name in ((0, "c.1.2"), (1, "c.1.1"), (2, "c.1")):
        old(tmp_path / name, "c.1", number)
    append_line(here.channel_log_path("c.1"), "c.1", 20, "new", {"n": 3})
    take_over(tmp_path, ["c.1"])
    assert [entry["n"] for entry in questions.newest(tmp_path, "c.1", 9)] == [3, 2, 1, 0]
    assert questions.newest(tmp_path, "c", 9) == []


@rows("content", [b"", b"\n", b"no JSON\n", b'["c.1"]\n', b'{"logger":"c.1', b'{"logger":7}\n', b"\xff\xfe"])
def test_what_is_no_log_is_left_where_it_is(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "c.1").write_bytes(content)
    take_over(tmp_path, ["c.1"])
    assert (tmp_path / "c.1").read_bytes() == content


def test_a_path_outside_is_not_looked_at(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    old(tmp_path / "c.1", "../c.1", 1)
    old(tmp_path / "logs" / "c.1", "../c.1", 1)
    take_over(tmp_path / "logs", ["../c.1"])
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("c*")} == {"c.1", "logs/c.1"}


def test_only_their_files_are_found_of_some(here: Settings, tmp_path: Path) -> None:
    written(here, UNITS)
    for channel in CHANNELS:
        assert {*numbers_in(tmp_path, LogsOf([channel]))} == {names.log_name(unit) for unit in expected(channel)}
