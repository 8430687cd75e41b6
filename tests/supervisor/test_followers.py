"""Who follows a host's logs from another one: what is asked of supervisor/followers.py, and answered."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from junebug.errors import MalformedMessage, Overloaded
from junebug.logs.follow import Step
from junebug.logs.followed import places_from, places_json, steps_from
from junebug.supervisor import followers
from junebug.supervisor.followers import Answer, Followers
from junebug.supervisor.host_logs import _readable
from tests.tables import rows


@pytest.fixture
async def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Followers]:
    monkeypatch.setattr(followers, "WAIT", 0.3)
    made = Followers(tmp_path.joinpath)
    yield made
    made.end()


def log(directory: Path, *numbers: int, unit: str = "c") -> None:
    with (directory / unit).open("ab") as file:
        for n in numbers:
            file.write(orjson.dumps({"message": f"line {n}", "timestamp": time.time()}) + b"\n")


async def ask(made: Followers, number: int, *, follower: str = "f", **opened: Any) -> Answer:
    about = {"kinds": ["log"], "logs": ["c"], "since": None, "known": {}, "instead_of": "", **opened}
    asked = {"follower": follower, "number": number} | ({"open": about} if not number else {})
    answer: Answer = orjson.loads(orjson.dumps(await made.answer(orjson.loads(orjson.dumps(asked)))))
    return answer


def said(answer: Answer) -> list[Any]:
    return [orjson.loads(line)["message"] for _, _, _, _, line, _ in answer["steps"] if line]


async def test_a_shard_has_a_log_of_its_own(made: Followers, tmp_path: Path) -> None:
    assert said(await ask(made, 0, logs=["c", "c~1"])) == []
    log(tmp_path, 1, unit="c~1")
    found = list[Any]()
    for number in range(1, 100):  # each waits a moment
        if found := said(await ask(made, number)):
            break
    assert found == ["line 1"]


async def test_a_question_is_answered_with_what_came_since_and_asked_again_with_the_same(made: Followers, tmp_path: Path) -> None:
    log(tmp_path, 0)
    assert said(await ask(made, 0)) == []
    log(tmp_path, 1, 2)
    first = await ask(made, 1)
    assert said(first) == ["line 1", "line 2"]
    assert await ask(made, 1) == first  # its answer was lost
    began = time.monotonic()
    assert said(await ask(made, 2)) == []
    assert 0.25 < time.monotonic() - began < 30
    log(tmp_path, 3)
    assert said(await ask(made, 3)) == ["line 3"]
    begin = places_from({log: (mark, offset) for log, mark, offset, *_ in first["steps"][:1]})
    again = await ask(made, 0, follower="g", known=places_json(begin), instead_of="f")
    assert said(again) == ["line 2", "line 3"]
    (step, *_) = [step for step in steps_from(again, "b", lambda *_: None) if isinstance(step, Step)]
    assert (step.log, step.host, step.place.mark) == ("c", "b", begin["c"].mark)
    assert await ask(made, 4) == {"is_known": False}  # the other took its place


async def test_no_more_than_so_many_follow(made: Followers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(followers, "MOST", 2)
    for follower in ("f", "g"):
        await ask(made, 0, follower=follower)
    with pytest.raises(Overloaded):
        await ask(made, 0, follower="h")
    assert (await ask(made, 0, follower="h", instead_of="g"))["is_known"]


@rows("opened", [{"logs": ["../c"]}, {"logs": 7}, {"since": "yesterday"}, {"known": {"c": [1]}}, {"known": 7}, {"kinds": 1}])
async def test_what_cannot_be_read_is_refused(made: Followers, opened: dict[str, Any]) -> None:
    with pytest.raises(MalformedMessage), _readable():
        await ask(made, 0, **opened)
