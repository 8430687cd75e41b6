"""`junebug send --csv` against a real Junebug: each row once, in its order, whenever it is killed."""

from __future__ import annotations

import csv
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from junebug.client import csv_state
from tests.client import conftest
from tests.client.running import TOKEN, Cli
from tests.forkserver import forkserver
from tests.harness import clean_environment, unique
from tests.polling import eventually_blocking
from tests.tables import rows

FLAGS = conftest.FLAGS
LARGEST_PAGE = 1000


class Crash(BaseException):
    """The process is gone."""


@pytest.fixture
def channel(cli: Cli) -> Iterator[str]:
    """One that takes messages and sends none."""
    words = ("channels", "create", "--type", "loopback", "--amqp-queue", unique("app"), "--character-limit", "50", "--json")
    id = str(cli(*words).good().json["id"])
    cli("channels", "pause", id).good()
    yield id
    cli("channels", "delete", id, "--yes").good()


def taken(cli: Cli, channel: str) -> list[dict[str, Any]]:
    """What waits in the channel, in its order."""
    from junebug.client.api import Api

    found: list[Any] = []
    with Api(cli.url, TOKEN) as api:
        while True:
            page = api.list_queued_messages(channel, limit=LARGEST_PAGE, offset=len(found))
            found += page["messages"]
            if len(found) >= page["total"]:
                return found


def write(path: Path, count: int, content: str = "text {}") -> list[str]:
    """A file of so many rows; their texts."""
    texts = [content.format(number) for number in range(count)]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["to", "content"], *[["+27", text] for text in texts]])
    return texts


def state_of(path: Path) -> dict[str, Any]:
    state = path.with_name(f"{path.name}.sending.json")
    return dict(json.loads(state.read_text())) if state.exists() else {}


def contents(messages: list[dict[str, Any]]) -> list[str]:
    return [each["content"] for each in messages]


def test_each_row_is_a_message_and_a_flag_holds_where_a_row_says_nothing(cli: Cli, channel: str, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text('\ufeffTo;Content;from;priority\n+1;"two\nlines";111;\n\n+2;second;;5\n+3;"semi;colon";;\n', encoding="utf-8")
    ran = cli("send", "--channel", channel, "--csv", str(file), "--from", "222", "--json").good()
    assert ran.json == {"file": str(file), "rows": 3, "accepted": 3, "rejected": 0, "failed_file": None}
    assert [(each["to"], each["from"], each["content"], each["priority"]) for each in taken(cli, channel)] == [
        ("+2", "222", "second", 5), ("+1", "111", "two\nlines", 1), ("+3", "222", "semi;colon", 1),
    ]  # fmt: skip
    again = cli("send", "--channel", channel, "--csv", str(file), "--from", "222").good()
    assert "was sent already" in again.err
    assert len(taken(cli, channel)) == 3
    cli("send", "--channel", channel, "--csv", str(file), "--again").good()
    assert len(taken(cli, channel)) == 6


def test_what_is_refused_is_in_a_file_that_can_be_sent(cli: Cli, channel: str, tmp_path: Path) -> None:
    file, failed = tmp_path / "a.csv", tmp_path / "a.csv.failed.csv"
    long = "long " * 20
    lines = [
        "to,content,priority,validity,channel_data", "+1,good,,,", f"+2,{long},,,", "+3,odd,high,,", "+4,late,,soon,",
        "+5,x,,,{", '+6,good,1,60,"{""a"": 1}"', "+7,too,,,,many",
    ]  # fmt: skip
    file.write_text("\n".join(lines))
    ran = cli("send", "--channel", channel, "--csv", str(file), "--batch-size", "3", "--json")
    assert (ran.code, ran.json["accepted"], ran.json["rejected"]) == (1, 2, 5)
    kept = [*csv.reader(failed.open(newline=""))]
    assert kept[0] == ["to", "content", "priority", "validity", "channel_data", "error"]
    assert [row[0] for row in kept[1:]] == ["+2", "+3", "+4", "+5", "+7"]
    for row, reason in zip(kept[1:], ("50", "priority", "validity", "channel_data", "6 fields"), strict=True):
        assert reason in row[-1], row
    with failed.open("w", newline="") as repaired:
        csv.writer(repaired).writerows([kept[0], ["+2", "shorter", "", "", "", "said before"]])
    cli("send", "--channel", channel, "--csv", str(failed)).good()
    assert contents(taken(cli, channel)) == ["good", "good", "shorter"]


def test_a_command_that_is_killed_goes_on_without_a_loss_or_a_repeat(cli: Cli, channel: str, tmp_path: Path) -> None:
    file = tmp_path / "many.csv"
    texts = write(file, 1000)
    environment = clean_environment(JUNEBUG_URL=cli.url, JUNEBUG_TOKEN=TOKEN)
    words = ("send", "--channel", channel, "--csv", str(file), "--batch-size", "5")
    for kill in range(1, 3):
        before = state_of(file).get("rows", 0)
        process = forkserver().start(
            "junebug", words, cwd=tmp_path, env=environment, stdout=tmp_path / f"out{kill}", stderr=tmp_path / f"err{kill}"
        )
        enough = before + random.randint(1, 100)
        eventually_blocking(lambda enough=enough: state_of(file).get("rows", 0) >= enough)  # type: ignore[misc]
        process.kill()
        process.wait(10)
    assert 0 < state_of(file)["rows"] < len(texts)
    assert "going on" in cli(*words).good().err
    assert contents(taken(cli, channel)) == texts


@rows("step", ["before the answer", "before the failed rows", "before the state"])
def test_a_crash_between_any_two_steps_sends_nothing_twice(
    cli: Cli, channel: str, tmp_path: Path, step: str
) -> None:
    """With a process that is gone at just that moment, of the second batch."""
    file, count = tmp_path / f"{step}.csv", len(taken(cli, channel))
    lines = ["to,content", *(f"+{number},{'good' if number % 3 else 'long ' * 20}" for number in range(30))]
    file.write_text("\n".join(lines))
    words = ("send", "--channel", channel, "--csv", str(file), "--batch-size", "10")
    with pytest.MonkeyPatch.context() as patch:
        _crash(patch, step)
        with pytest.raises(Crash):
            cli(*words)
    assert state_of(file)["rows"] == 10
    assert cli(*words, "--json").json["accepted"] == 20
    assert len(taken(cli, channel)) - count == 20
    failed = [*csv.reader(file.with_name(f"{file.name}.failed.csv").open(newline=""))]
    assert [row[0] for row in failed] == ["to", *(f"+{number}" for number in range(0, 30, 3))]


def _crash(patch: pytest.MonkeyPatch, step: str) -> None:
    """At this step of the second batch."""
    from junebug.client.api import Api

    calls = {"sent": 0, "done": 0}
    send, done, save = Api.send_messages, csv_state.Sending.done, csv_state.Sending.save

    def sent(*arguments: Any, **named: Any) -> Any:
        calls["sent"] += 1
        answer = send(*arguments, **named)
        if step == "before the answer" and calls["sent"] == 2:
            raise Crash
        return answer

    def doing(self: Any, *arguments: Any) -> None:
        calls["done"] += 1
        if step == "before the failed rows" and calls["done"] == 2:
            raise Crash
        done(self, *arguments)

    def saving(self: Any) -> None:
        if step == "before the state" and calls["done"] == 2:
            raise Crash
        save(self)

    patch.setattr(Api, "send_messages", sent)
    patch.setattr(csv_state.Sending, "done", doing)
    patch.setattr(csv_state.Sending, "save", saving)


def test_what_was_begun_goes_on_as_it_began_or_not_at_all(cli: Cli, channel: str, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    write(file, 30)
    words = ("send", "--channel", channel, "--csv", str(file))
    with pytest.MonkeyPatch.context() as patch:
        _crash(patch, "before the state")
        with pytest.raises(Crash):
            cli(*words, "--batch-size", "10")
    for more, told in ((("--from", "1"), "otherwise"), (("--channel", unique("other")), "otherwise")):
        cli(*words, *more).failed(2, told, "10 rows are done", "--again")
    write(file, 31)
    cli(*words).failed(2, "is not what it was", "10 rows are done", "--again")
    write(file, 30)
    state = file.with_name("a.csv.sending.json")
    kept = json.loads(state.read_text())
    state.write_text(json.dumps({**kept, "saved_at": kept["saved_at"] - csv_state.REMEMBERED - 60}))
    cli(*words).failed(1, "so long ago", "rows 11 to 20", "--again")
    state.write_text("nonsense")
    cli(*words).failed(2, "a.csv.sending.json")
    state.write_text(json.dumps(kept))
    cli(*words).good()
    assert len(taken(cli, channel)) == 30


def test_flags_in_another_order_go_on_under_the_same_keys(cli: Cli, channel: str, tmp_path: Path) -> None:
    """Also in the batch that was cut off: what is sent again differs in its octets only, which the API looks through."""
    file = tmp_path / "a.csv"
    write(file, 20)
    flags = [("--channel-data", each) for each in ("b.y=1", "a=2", "b.x=3")]
    words = ("send", "--channel", channel, "--csv", str(file), "--batch-size", "10")
    with pytest.MonkeyPatch.context() as patch:
        _crash(patch, "before the state")
        with pytest.raises(Crash):
            cli(*words, *(word for flag in flags for word in flag))
    assert cli(*words, *(word for flag in flags[::-1] for word in flag), "--json").good().json["accepted"] == 20
    assert len(taken(cli, channel)) == 20


@rows(
    ["content", "told"],
    [
        (b"", "it is empty"),
        (b"to,content,mobile\n", "'mobile' is unknown"),
        (b"to,to,content\n", "'to' is there twice"),
        (b"to\n1\n", "no column is named content"),
        (b"to,content\n1,\xff\n", "line 2 is not UTF-8"),
        (b'to,content\n1,"open\n', "is no CSV"),
        (b"to,content\n1," + b"x" * 1_100_000, "line 2 is too long"),
    ],
)
def test_a_file_that_is_no_list_of_messages_is_told_and_nothing_sent(
    cli: Cli, channel: str, tmp_path: Path, content: bytes, told: str
) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(content)
    cli("send", "--channel", channel, "--csv", str(file)).failed(2, told)
    assert {path.name for path in tmp_path.iterdir()} == {"a.csv"}
    assert taken(cli, channel) == []


def test_a_file_that_is_not_there_or_being_sent_is_told(cli: Cli, channel: str, tmp_path: Path) -> None:
    import fcntl

    file = tmp_path / "a.csv"
    cli("send", "--channel", channel, "--csv", str(file)).failed(2, "No such file")
    cli("send", "--channel", channel, "--csv", str(tmp_path)).failed(2, "directory")
    write(file, 1)
    with file.open("rb") as busy:
        fcntl.flock(busy, fcntl.LOCK_EX)
        cli("send", "--channel", channel, "--csv", str(file)).failed(1, "another command sends it")
    cli("send", "--channel", unique("nobody"), "--csv", str(file)).failed(3, "no channel")
    assert not file.with_name("a.csv.sending.json").exists()


def test_files_are_for_their_owner(cli: Cli, channel: str, tmp_path: Path) -> None:
    """The failed rows, and the state, are as readable as the umask says, and no more."""
    file = tmp_path / "a.csv"
    file.write_text("to,content\n1," + "x" * 60 + "\n")
    before = os.umask(0o077)
    try:
        assert cli("send", "--channel", channel, "--csv", str(file)).code == 1
    finally:
        os.umask(before)
    for name in ("a.csv.sending.json", "a.csv.failed.csv"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
