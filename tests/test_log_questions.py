"""Questions about logs as they travel between hosts, and what comes of the answers of several."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from junebug.errors import MalformedMessage
from junebug.logs import questions
from junebug.logs.message_index import OUTBOUND, Hit, Hits, Wanted
from junebug.logs.questions import LogAnswers, found_of, hits_of, merged_entries, merged_found, merged_hits, wanted_json
from tests.tables import rows

BUDGET = (10_000_000, 5.0)


def sent(number: int, **more: Any) -> dict[str, Any]:
    about = {"message_id": f"m{number}", "to_addr": f"+27{number}", **more}
    return {"timestamp": 1000.0 + number, "message": "message sent", **about}


@pytest.fixture
def ask(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """As another host does it: through JSON and back. The log of `c` has five messages."""
    (tmp_path / "c").write_bytes(b"".join(orjson.dumps(sent(number)) + b"\n" for number in range(5)))
    answers = LogAnswers(str(tmp_path)).answers()

    def ask(question: str, **about: Any) -> dict[str, Any]:
        answer: dict[str, Any] = orjson.loads(orjson.dumps(answers[question](orjson.loads(orjson.dumps(about)))))
        return answer

    return ask


def test_what_is_asked_is_what_is_answered(ask: Callable[..., dict[str, Any]]) -> None:
    assert ask(questions.TAIL, log="c", count=2, message_id=None)["entries"] == [sent(4), sent(3)]
    assert ask(questions.TAIL, log="c", count=9, message_id="m1", destination_id=None)["entries"] == [sent(1)]
    found, none = found_of(ask(questions.ABOUT, logs=["c", "d"], message_id="m2", since=0.0, most=5, budget=BUDGET))
    assert (found.entries, found.oldest, found.files) == ([sent(2)], 1000.0, 1)
    assert (none.entries, none.oldest) == ([], None)
    assert ask(questions.LAST_WORDS, messages=[[["c", "d"], "m2", 1002.0], [["d"], "m1", 0.0]], budget=BUDGET) == {
        "entries": [[sent(2)], []]
    }
    hits = hits_of(ask(questions.SEARCH, channels=["c"], wanted=wanted_json(Wanted(until=1003.5)), most=2, budget=BUDGET))
    assert [hit.message_id for hit in hits.found] == ["m3", "m2"]
    assert not hits.is_over
    hits = hits_of(ask(questions.SEARCH, channels=["c"], wanted=wanted_json(Wanted(to_addr="271")), most=9, budget=BUDGET))
    assert hits.found == [Hit("c", "m1", OUTBOUND, 1001.0, "+271", None, "message sent")]
    assert hits.is_over


def test_an_answer_is_bounded(tmp_path: Path, ask: Callable[..., dict[str, Any]]) -> None:
    long = "x" * 900_000
    (tmp_path / "c").write_bytes(b"".join(orjson.dumps(sent(1, text=long, n=number)) + b"\n" for number in range(9)))
    assert [each["n"] for each in ask(questions.TAIL, log="c", count=9)["entries"]] == [8, 7, 6, 5]
    (found,) = found_of(ask(questions.ABOUT, logs=["c"], message_id="m1", since=0.0, most=9, budget=BUDGET))
    assert (len(found.entries), found.is_whole) == (4, False)
    assert found.trouble == "of its lines only the newest 4 are shown"


@rows("log", ["../c", "", "a/b", 7, None])
def test_only_logs_are_read(ask: Callable[..., dict[str, Any]], log: Any) -> None:
    with pytest.raises(MalformedMessage, match="log: expected the id"):
        ask(questions.TAIL, log=log, count=1)


def test_parts_of_a_log_become_one() -> None:
    one, two = [sent(5), sent(3), sent(1)], [sent(4), sent(3)]
    assert merged_entries([one, two]) == [sent(5), sent(4), sent(3), sent(1)]
    assert merged_entries([one, two], 2) == [sent(5), sent(4)]
    assert merged_entries([one], 1) == [sent(5)]
    nowhere = questions.Found([], None, True)
    found = merged_found([nowhere, questions.Found(two, 3.0, False, "cut", 2, [sent(2)]), questions.Found(one, 1.0, True)])
    assert found == questions.Found([sent(5), sent(4), sent(3), sent(1)], 1.0, False, "cut", 2, [sent(2)])
    assert merged_found([nowhere, nowhere]).oldest is None


def hits(*numbers: int, reached: float = math.inf, is_over: bool = False) -> Hits:
    return Hits([Hit("c", f"m{number}", OUTBOUND, float(number), None, None, "") for number in numbers], reached, is_over)


@rows(("parts", "most", "found", "reached", "is_over"), [
    ([hits(9, 7, reached=7, is_over=True), hits(8, 6, reached=6, is_over=True)], 9, [9, 8, 7, 6], 6, True),
    ([hits(9, 7, reached=7), hits(8, 6, 2, reached=2)], 9, [9, 8, 7], 7, False),
    ([hits(9, 7, reached=7), hits(8, 2, reached=2, is_over=True)], 9, [9, 8, 7], 7, False),
    ([hits(9, 7, reached=7, is_over=True), hits(8, 6, reached=6, is_over=True)], 3, [9, 8, 7], 7, False),
    ([hits(9, reached=9), hits(9, reached=9)], 2, [9], 9, False),
    ([hits(is_over=True), hits(is_over=True)], 2, [], math.inf, True),
])  # fmt: skip
def test_what_several_have_found_goes_as_far_as_all_of_them(
    parts: list[Hits], most: int, found: list[int], reached: float, is_over: bool
) -> None:
    """What one of them has not looked at yet comes with the next page, in its order."""
    merged = merged_hits(parts, most)
    assert [hit.timestamp for hit in merged.found] == found
    assert (merged.reached, merged.is_over) == (reached, is_over)


def test_what_shards_have_logged_is_one_log(tmp_path: Path, ask: Callable[..., dict[str, Any]]) -> None:
    logs = {
        "c~1": [sent(1, message_id="m2"), sent(6)], "c~1.1": [sent(0, to_addr="+8")], "c~31": [sent(5)],
        "c.1": [], "c1": [sent(7)], "c~1.log": [sent(8)], "d~1": [sent(9)],
    }  # fmt: skip
    for log, lines in logs.items():
        (tmp_path / log).write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    assert ask(questions.TAIL, log="c", count=3)["entries"] == [sent(6), sent(5), sent(4)]
    assert len(ask(questions.TAIL, log="c", count=99)["entries"]) == 9
    (found,) = found_of(ask(questions.ABOUT, logs=["c"], message_id="m2", since=0.0, most=5, budget=BUDGET))
    assert found.entries == [sent(2), sent(1, message_id="m2")]
    assert ask(questions.LAST_WORDS, messages=[[["c"], "m2", 0.0]], budget=BUDGET)["entries"] == [found.entries]
    hits = hits_of(ask(questions.SEARCH, channels=["c"], wanted=wanted_json(Wanted()), most=99, budget=BUDGET))
    assert [hit.message_id for hit in hits.found] == ["m6", "m5", "m4", "m3", "m2", "m1", "m0"]
    assert {hit.channel for hit in hits.found} == {"c"}
    assert hits.is_over
