"""`ps` shows no secret that was given on a command line, of any command and in any form."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from junebug.runtime import title
from tests.test_packaging import ROOT, entry_points

SECRET = "hunter2-s3cret"
PLUGIN = json.dumps({"type": "tests.event_target.Nothing", "token": SECRET})
FORMS = [
    ["--redis-password", SECRET],
    [f"--redis-password={SECRET}"],
    ["-redispass", SECRET],
    ["--amqp-password", SECRET],
    ["-amqppass", SECRET],
    ["--callback-secret", SECRET],
    ["--plugin", PLUGIN],
    [f"--plugin={PLUGIN}"],
    ["-pl", PLUGIN],
    ["--amqp-host", f"amqp://user:{SECRET}@host/"],
    ["--redis-password", SECRET, "--amqp-password", f"{SECRET}-and-more"],
]


@pytest.mark.parametrize("arguments", FORMS)
def test_each_form_is_masked(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(title.setproctitle, "setproctitle", shown.append)
    monkeypatch.setattr(sys, "argv", ["jb", "--port", "8080", *arguments])
    title.hide_secrets([SECRET, None, "", PLUGIN, f"{SECRET}-and-more"])
    assert len(shown) == 1
    assert SECRET not in shown[0]
    assert shown[0].startswith("jb --port 8080 ")


def test_a_command_line_without_secrets_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(title.setproctitle, "setproctitle", lambda _: pytest.fail("changed"))
    monkeypatch.setattr(sys, "argv", ["jb", "--port", "8080"])
    title.hide_secrets([None, ""])


@pytest.fixture
def silent() -> Iterator[str]:
    """The port of a server that says nothing: a command waits for it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield str(listening.getsockname()[1])


OURS = entry_points("console_scripts")


@pytest.mark.parametrize("command", OURS)
def test_no_command_shows_its_secrets(command: str, silent: str, tmp_path: Path) -> None:
    module, _, name = OURS[command].partition(":")
    if command == "junebug-smsc":
        arguments = ["--port", "0", "--system-id", "x", "--password", SECRET]
    else:
        arguments = ["--port", "0", "--redis-host", "127.0.0.1", "--redis-port", silent, "--redis-password", SECRET]
        arguments += ["channel"] if command == "junebug-worker" else []
    if command == "junebug":
        arguments = ["tokens", "list", *arguments]
    code = f"import sys; sys.argv[0] = {command!r}; import {module}; {module}.{name}()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        ends = time.monotonic() + 20
        while not (shown := Path(f"/proc/{process.pid}/cmdline").read_text()).startswith(command):
            assert time.monotonic() < ends, shown
            assert process.poll() is None
            time.sleep(0.05)
        assert SECRET not in shown
    finally:
        process.kill()
        process.wait()
