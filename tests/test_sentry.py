"""Errors told to Sentry: what arrives there, what never does, and what is loaded without the setting."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from junebug.errors import ConfigError
from junebug.logs import sentry
from junebug.logs.redaction import Redactor
from junebug.logs.setup import setup_channel_logging, setup_process_logging
from tests.harness import run_command
from tests.sentry_server import FakeSentry
from tests.tables import rows
from tests.test_logs import logging_as_before

__all__ = ["logging_as_before"]
SECRET, ADDRESS, CONTENT = "hunter2-hunter2", "+27831234567", "Your code is 1234"


@pytest.fixture
def fake() -> Iterator[FakeSentry]:
    with FakeSentry() as server:
        yield server


def fail() -> None:
    to, content = ADDRESS, CONTENT
    try:
        raise ValueError(f"{to} got {content!r}")
    except ValueError as error:
        raise RuntimeError(f"{SECRET}: {to} {content}") from error


def log_failure(**fields: object) -> None:
    try:
        fail()
    except RuntimeError:
        structlog.stdlib.get_logger("junebug.somewhere").exception("send failed", to=ADDRESS, content=CONTENT, **fields)


def assert_told_without_contents(fake: FakeSentry, **tags: str) -> None:
    (event,) = fake.events
    inner, outer = event["exception"]["values"]
    assert (inner["type"], outer["type"]) == ("ValueError", "RuntimeError")
    assert [frame["function"] for frame in outer["stacktrace"]["frames"]] == ["log_failure", "fail"]
    assert event["logentry"]["message"] == "send failed"
    assert event["level"] == "error"
    assert event["release"].startswith("junebug@")
    assert event["tags"] == tags
    sent = "".join(fake.raw)
    for never in (SECRET, ADDRESS, CONTENT, '"vars"'):
        assert never not in sent
    assert {value["value"] for value in (inner, outer)} == {""}
    assert "/api/42/envelope/" in sent


def test_of_a_channels_process(fake: FakeSentry, tmp_path: Path, logging_as_before: None) -> None:
    log = setup_channel_logging(
        tmp_path / "c", "c", Redactor([SECRET]), rotate_size=10_000, max_files=1, sentry_dsn=fake.dsn
    )
    log_failure(message_id="m1")
    structlog.stdlib.get_logger().error("no traceback")
    log.close()
    assert_told_without_contents(fake, process="channel", channel_id="c", message_id="m1")
    assert len((tmp_path / "c").read_text().splitlines()) == 2  # the log has both


def test_of_another_process(fake: FakeSentry, logging_as_before: None, tmp_path: Path) -> None:
    logs = setup_process_logging("api:1", str(tmp_path / "log"), [SECRET], fake.dsn)
    log_failure(channel_id="c")
    logging.getLogger("library").error("no traceback of %s", ADDRESS)
    logs.close()
    assert_told_without_contents(fake, process="api:1", channel_id="c")


@rows("process", ["api", "channel"])
def test_of_a_librarys_line_only_its_logger_is_told(process: str, tmp_path: Path, logging_as_before: None) -> None:
    with FakeSentry() as fake:
        if process == "api":
            close = setup_process_logging("api", None, [], fake.dsn).close
        else:
            close = setup_channel_logging(
                tmp_path / "c", "c", Redactor(), rotate_size=10_000, max_files=1, sentry_dsn=fake.dsn
            ).close  # fmt: skip
        try:
            fail()
        except RuntimeError:
            logging.getLogger("library").exception("could not send %s", ADDRESS)
        close()
        (event,) = fake.events
        assert event["logentry"]["message"] == "error in library"


def test_what_the_system_says_is_told(fake: FakeSentry) -> None:
    told = sentry.Sentry(fake.dsn, "api", Redactor())
    told.tell(FileNotFoundError(2, "?", f"/{ADDRESS}"), "x", "x", {})
    told.close()
    assert fake.events[0]["exception"]["values"][-1]["value"] == "[Errno 2] No such file or directory"
    assert ADDRESS not in "".join(fake.raw)


def test_a_storm_of_errors_is_cut(fake: FakeSentry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentry, "MOST_A_MINUTE", 3)
    told = sentry.Sentry(fake.dsn, "api", Redactor())
    for _ in range(100):
        told.tell(RuntimeError(), "x", "x", {})
    told.close()
    assert 3 <= len(fake.events) <= 6  # the minute may end meanwhile


def test_a_sentry_that_is_away_keeps_nobody(tmp_path: Path) -> None:
    told = sentry.Sentry("http://0123456789abcdef@127.0.0.1:1/42", "api", Redactor())
    began = time.monotonic()
    told.tell(RuntimeError(), "x", "x", {})
    told.tell(None, "x", "x", {})
    told.tell("not one", "x", "x", {})
    told.close()
    assert time.monotonic() - began < sentry.FLUSH_TIMEOUT + 5


@rows("dsn", ["sentry.example", "https://sentry.example/42", "https://key@sentry.example/", "x" * 1000])
def test_what_is_no_dsn(dsn: str) -> None:
    with pytest.raises(ConfigError, match="^sentry_dsn: expected a DSN"):
        sentry.check(dsn)


def test_without_the_setting_nothing_of_it_is_loaded() -> None:
    program = (
        "import sys, junebug.cli, junebug.worker.process\n"
        "from junebug.logs.setup import setup_process_logging\n"
        "setup_process_logging('api', None, [])\n"
        "junebug.settings_command.read_settings({}, {}, None)\n"
        "assert 'sentry_sdk' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_without_the_sdk_it_is_said_how_to_get_it(short_dir: Path) -> None:
    """Its place is taken by one that cannot be imported."""
    (short_dir / "sentry_sdk.py").write_text("raise ImportError")
    path = {"PYTHONPATH": str(short_dir)}
    done = run_command("jb", "--sentry-dsn", "https://key@sentry.example/42", cwd=short_dir, environment=path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "sentry_dsn: " in line
    assert "pip install 'junebug[sentry]'" in line
    assert "key@" not in line
    wrong = run_command("jb", "--sentry-dsn", "secret", cwd=short_dir)
    assert (wrong.returncode, "secret" in wrong.stderr) == (2, False)
