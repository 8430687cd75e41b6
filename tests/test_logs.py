"""The channel's log: what a line holds, what it never holds, how files rotate and how the newest are read."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import threading
import tracemalloc
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from junebug.config.declaration import Settings
from junebug.logs import writer
from junebug.logs.channel_log import ChannelLog
from junebug.logs.files import rotated_files
from junebug.logs.redaction import Redactor, redact_url
from junebug.logs.setup import setup_channel_logging, setup_process_logging
from junebug.logs.tail import tail
from junebug.registry import REDACTED
from tests.tables import rows


@pytest.fixture
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def here(tmp_path: Path) -> Settings:
    return Settings(logging_path=str(tmp_path / "made" / "logs"), log_rotate_size=2000, max_log_files=3)


def install(here: Settings, redactor: Redactor | None = None) -> ChannelLog:
    return setup_channel_logging(
        here.channel_log_path("c"),
        "c",
        redactor or Redactor(),
        rotate_size=here.log_rotate_size,
        max_files=here.max_log_files,
    )


def flush() -> None:
    """Wait until all that was logged is written."""
    for handler in logging.getLogger().handlers:
        handler.flush()


def newest(here: Settings, count: int, message_id: str | None = None) -> list[dict[str, Any]]:
    flush()
    return tail(here.channel_log_path("c"), count, message_id)


@pytest.mark.usefixtures("logging_as_before")
def test_an_entry_has_the_fields_of_the_spec_and_its_ids(here: Settings) -> None:
    install(here)
    structlog.stdlib.get_logger("x").warning("message sent", message_id="m1", to_addr="+27", channel_id="c")
    logging.getLogger("y").info("plain %s", "text")
    plain, entry = newest(here, 10)
    assert plain["message"] == "plain text"
    assert entry["timestamp"] <= plain["timestamp"]
    assert {key: value for key, value in entry.items() if key != "timestamp"} == {
        "logger": "c", "level": 30, "message": "message sent", "message_id": "m1", "to_addr": "+27"}  # fmt: skip
    assert isinstance(entry["timestamp"], float)


@pytest.mark.usefixtures("logging_as_before")
@pytest.mark.parametrize("bound", [False, True])
def test_lines_of_all_levels_come_in_order_with_what_is_bound(here: Settings, bound: bool) -> None:
    install(here, Redactor(["sesame"]))
    log = structlog.stdlib.get_logger("x")
    log = log.bind(message_id="m1") if bound else log
    log.debug("not shown")
    for number, level in enumerate(("info", "warning", "error", "exception", "critical")):
        getattr(log, level)("said %s", number, secret="open sesame", to="sesame")
        logging.getLogger("y").warning("sesame between")
    entries = newest(here, 10)[::-1]
    assert [entry["message"] for entry in entries[::2]] == [f"said {number}" for number in range(5)]
    assert [entry["level"] for entry in entries[::2]] == [20, 30, 40, 40, 50]
    assert {entry["message"] for entry in entries[1::2]} == {f"{REDACTED} between"}
    for entry in entries[::2]:
        assert (entry["secret"], entry["to"], entry.get("message_id")) == (f"open {REDACTED}", "sesame", "m1" if bound else None)


@pytest.mark.usefixtures("logging_as_before")
def test_a_secret_is_masked_in_what_was_said_before_it_was_one(here: Settings) -> None:
    redactor = Redactor()
    install(here, redactor)
    structlog.stdlib.get_logger().info("sesame")
    redactor.replace(["sesame"])
    structlog.stdlib.get_logger().info("sesame")
    assert [entry["message"] for entry in newest(here, 2)] == [REDACTED, "sesame"]


@pytest.mark.usefixtures("logging_as_before")
def test_an_exception_is_an_object(here: Settings) -> None:
    install(here, Redactor(["sesame"]))
    try:
        raise ValueError("Bad sesame")
    except ValueError as error:
        structlog.stdlib.get_logger().exception("failed")
        logging.getLogger("y").exception("failed")
        raised = error
    structlog.stdlib.get_logger().error("failed", exc_info=raised)
    for entry in newest(here, 10):
        assert entry["exception"]["class"] == "ValueError"
        assert entry["exception"]["instance"] == f"ValueError('Bad {REDACTED}')"
        assert any("test_logs.py" in line for line in entry["exception"]["stack"])
        assert "sesame" not in str(entry)


@pytest.mark.usefixtures("logging_as_before")
def test_the_newest_come_first_across_rotated_files(here: Settings) -> None:
    install(here)
    log = structlog.stdlib.get_logger()
    for number in range(60):
        log.info("entry", number=number, message_id=f"m{number % 2}")
    path = Path(here.logging_path) / "c"
    flush()
    assert [number for number, _ in rotated_files(path)] == [1, 2]
    assert all(each.stat().st_size <= 2000 for each in (path, *(rotated for _, rotated in rotated_files(path))))
    found = [entry["number"] for entry in newest(here, 1000)]
    assert found == list(range(59, 59 - len(found), -1))
    assert 20 < len(found) < 60
    assert [entry["number"] for entry in newest(here, 3)] == [59, 58, 57]
    assert [entry["number"] for entry in newest(here, 3, "m0")] == [58, 56, 54]
    assert newest(here, 0) == []
    assert tail(here.channel_log_path("nobody"), 5) == []


@pytest.mark.parametrize(("max_files", "left"), [(1, []), (2, [1]), (0, None)])
@pytest.mark.usefixtures("logging_as_before")
def test_as_many_files_are_kept_as_asked_for(here: Settings, max_files: int, left: list[int] | None) -> None:
    install(dataclasses.replace(here, max_log_files=max_files))
    for number in range(200):
        structlog.stdlib.get_logger().info("entry", number=number)
    flush()
    numbers = [number for number, _ in rotated_files(Path(here.logging_path) / "c")]
    assert numbers == left if left is not None else len(numbers) > 3
    if left is None:
        assert len(newest(here, 1000)) == 200


def test_lines_are_found_across_the_blocks_in_which_a_file_is_read(tmp_path: Path) -> None:
    lines = [f'{{"number": {number}, "pad": "{"x" * (number * 37 % 5000)}"}}' for number in range(500)]
    (tmp_path / "c").write_text("\n".join([*lines[:250], "", '{"cut off', *lines[250:]]) + "\n")
    assert [entry["number"] for entry in tail(tmp_path / "c", 1000)] == list(range(499, -1, -1))


@pytest.mark.usefixtures("logging_as_before")
def test_a_full_disk_loses_lines_never_the_channel(here: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    handler = install(here)
    log = structlog.stdlib.get_logger()
    log.info("before")
    flush()

    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.write", full)
        log.info("lost")
        flush()
    log.info("after")
    flush()
    assert handler.lost_lines == 1
    assert [entry["message"] for entry in newest(here, 5)] == ["after", "before"]


@pytest.mark.usefixtures("logging_as_before")
def test_a_line_cut_by_a_full_disk_takes_no_other_with_it(here: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    handler = install(here)
    log = structlog.stdlib.get_logger()
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr("os.write", lambda descriptor, data: write(descriptor, data[:10]))
        log.info("cut")
        flush()
    log.info("after")
    flush()
    assert handler.lost_lines == 1
    assert [entry["message"] for entry in newest(here, 5)] == ["after"]


@pytest.mark.usefixtures("logging_as_before")
def test_a_full_disk_does_not_stop_who_logs_to_the_logfile(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("JUNEBUG_DISABLE_LOGGING", "true")
    monkeypatch.setattr("junebug.logs.files.LOOK_INTERVAL", 0.0)
    full = setup_process_logging("api", "/dev/full", ())
    structlog.stdlib.get_logger().info("lost")
    full.close()
    logfile = tmp_path / "sub" / "log"
    logfile.parent.mkdir()
    kept = setup_process_logging("api", str(logfile), ())
    structlog.stdlib.get_logger().info("kept, too")
    kept.flush()
    logfile.parent.rename(tmp_path / "away")
    structlog.stdlib.get_logger().info("lost, too")
    kept.flush()
    (tmp_path / "away").rename(logfile.parent)
    structlog.stdlib.get_logger().info("kept")
    kept.close()
    events = [json.loads(line)["event"] for line in logfile.read_text().splitlines()]
    assert events == ["kept, too", "kept"]
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("logging_as_before")
def test_a_disk_that_hangs_keeps_nobody_waiting_and_what_is_too_much_is_counted(
    here: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines were written, and files rotated, on the event loop."""
    monkeypatch.setattr(writer, "MAX_WAITING", 10)
    handler, moves, write = install(here), threading.Event(), os.write

    def hang(descriptor: int, data: bytes) -> int:
        moves.wait(30)
        return write(descriptor, data)

    monkeypatch.setattr("os.write", hang)
    log = structlog.stdlib.get_logger()
    for number in range(100):
        log.info("entry", number=number)
    assert tail(here.channel_log_path("c"), 100) == []
    moves.set()
    log.info("after")
    found = [entry["number"] for entry in newest(here, 1000) if "number" in entry]
    assert found == sorted(found, reverse=True)
    assert len(found) >= 10
    assert len(newest(here, 1000)) + handler.lost_lines == 101


@pytest.mark.usefixtures("logging_as_before")
def test_a_line_that_waits_keeps_no_more_than_its_text(here: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """It kept 4 KiB, and a channel whose disk hung 80 MB."""
    handler, moves, write = install(here), threading.Event(), os.write
    monkeypatch.setattr("os.write", lambda descriptor, data: moves.wait(30) and write(descriptor, data))
    log = structlog.stdlib.get_logger()
    tracemalloc.start()
    try:
        for number in range(1000):
            log.info("entry", number=number)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        moves.set()
    flush()
    assert (handler.lost_lines, len(newest(here, 2000)) > 0) == (0, True)
    assert kept < 1000 * 512


@pytest.mark.usefixtures("logging_as_before")
def test_files_are_rotated_where_lines_are_written(here: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    install(here)
    rename, threads = Path.rename, []

    def observed(path: Path, target: Path) -> Path:
        threads.append(threading.current_thread().name)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", observed)
    for number in range(100):
        structlog.stdlib.get_logger().info("entry", number=number)
    flush()
    assert set(threads) == {"log writer"}


@pytest.mark.usefixtures("logging_as_before")
def test_no_thread_is_there_before_the_first_line_and_none_after_the_end(here: Settings) -> None:
    """The supervisor forks: it must never have had one."""

    before = set(threading.enumerate())
    handler = install(here)
    assert set(threading.enumerate()) == before
    structlog.stdlib.get_logger().info("the last words")
    (thread,) = set(threading.enumerate()) - before
    handler.close()
    assert [entry["message"] for entry in tail(here.channel_log_path("c"), 5)] == ["the last words"]
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.usefixtures("logging_as_before")
def test_a_log_that_was_moved_away_is_begun_anew(here: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("junebug.logs.files.LOOK_INTERVAL", 0.0)
    install(here)
    structlog.stdlib.get_logger().info("old")
    flush()
    path = here.channel_log_path("c")
    path.rename(path.with_name("elsewhere"))
    structlog.stdlib.get_logger().info("new")
    assert [entry["message"] for entry in newest(here, 5)] == ["new"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("password is sesame, ok", f"password is {REDACTED}, ok"),
        ({"a": ["open-sesame", 5]}, {"a": [f"open-{REDACTED}", 5]}),
        ("see http://me:pass@host/x and amqp://a@b", f"see http://{REDACTED}@host/x and amqp://{REDACTED}@b"),
        ("Authorization: Token abc", f"Authorization: Token {REDACTED}"),
        (ValueError("sesame"), REDACTED),
        (5, 5),
        (None, None),
    ],
)
def test_secrets_are_masked_wherever_they_turn_up(value: Any, expected: Any) -> None:
    assert Redactor(["sesame", "s", ""]).value(value) == expected


def test_a_longer_secret_is_masked_before_one_that_it_contains() -> None:
    assert Redactor(["abc", "abcdef"]).text("xabcdefx") == f"x{REDACTED}x"


def test_userinfo_is_masked_only_where_there_is_some() -> None:
    assert redact_url("http://host/a@b") == "http://host/a@b"
    assert redact_url("http://u:p%40@host:1/") == f"http://{REDACTED}@host:1/"


def test_a_bad_record_hurts_nobody(here: Settings) -> None:
    handler = ChannelLog(Path(here.logging_path) / "c", "c", 1000, 2, Redactor())
    handler.write(20, "odd \ud800", (), {"what": object(), "n": 2**80, "message_id": object()})
    handler.write(20, "%s and %s", ("too few",), {})
    handler.handle(logging.LogRecord("x", 20, "f", 1, "%s and %s", ("too few",), None))
    handler.close()
    (entry,) = tail(here.channel_log_path("c"), 1)
    assert (entry["message"], entry["n"]) == ("odd ?", 2**80)


# --- what is told of it -----------------------------------------------------------------------------------------------


HOSTILE = ["\x1b[2J", "\x1b]0;title\x07", "\r[forged]", "a\n2026-01-01 [info] forged", "\x9b31m", "\x00", "\x7f", "\u2028x",
           "\u202egnirts", "\u2066x", "\x08\x08", "\v", "\f", "\x85"]  # fmt: skip
WAYS: list[Callable[[str], object]] = [
    lambda text: structlog.stdlib.get_logger().info("event", value=text),
    lambda text: structlog.stdlib.get_logger().info(text),
    lambda text: structlog.stdlib.get_logger().info("event", value=[text, {text: text}]),
    lambda text: logging.getLogger("a library").warning("said %s", text),
    lambda text: structlog.stdlib.get_logger().error("event", exc_info=ValueError(text)),
]


@pytest.mark.usefixtures("logging_as_before")
@rows("way", WAYS)
@rows("text", HOSTILE)
def test_no_foreign_text_moves_the_cursor_or_forges_a_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, way: Callable[[str], object], text: str
) -> None:
    monkeypatch.delenv("JUNEBUG_DISABLE_LOGGING", raising=False)
    logs = setup_process_logging("api", None, ())
    way(text)
    logs.close()
    shown = capsys.readouterr().out
    assert not [each for each in shown if unicodedata.category(each) in ("Cc", "Cf", "Zl", "Zp") and each != "\n"], shown
    assert len([line for line in shown.splitlines() if line and not line.startswith("    ")]) == 1, shown


@pytest.mark.usefixtures("logging_as_before")
def test_text_of_any_language_is_shown_as_it_is(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JUNEBUG_DISABLE_LOGGING", raising=False)
    logs = setup_process_logging("api", None, ())
    structlog.stdlib.get_logger().info("é日本😀ש")
    logs.close()
    assert "é日本😀ש" in capsys.readouterr().out


@pytest.mark.usefixtures("logging_as_before")
@pytest.mark.parametrize("logfile", ["/dev/full/x", "/proc/x", "/"])
def test_a_log_file_that_cannot_be_written_is_a_warning(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, logfile: str
) -> None:
    monkeypatch.delenv("JUNEBUG_DISABLE_LOGGING", raising=False)
    logs = setup_process_logging("api", logfile, ())
    structlog.stdlib.get_logger().info("goes on")
    logs.close()
    shown = capsys.readouterr().out
    assert "the log file cannot be written" in shown
    assert f"logfile={logfile} " in shown
    assert "goes on" in shown


@pytest.mark.usefixtures("logging_as_before")
def test_a_channels_log_says_why_it_loses_lines_until_it_does_not(here: Settings) -> None:
    directory = Path(here.logging_path)
    directory.parent.mkdir()
    directory.write_text("a file where the directory should be")
    handler = install(here)
    structlog.stdlib.get_logger().info("lost")
    flush()
    assert handler.trouble.endswith("Not a directory")
    assert handler.lost_lines == 1
    directory.unlink()
    directory.mkdir()
    structlog.stdlib.get_logger().info("kept")
    assert [entry["message"] for entry in newest(here, 5)] == ["kept"]
    assert handler.trouble == ""
