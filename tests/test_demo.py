"""`make demo` shows what it is to show, ends by itself, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.test_packaging import ROOT

DEMO = [sys.executable, str(ROOT / "docs" / "demo.py")]
DEADLINE = 90.0


def posted(output: str, path: str) -> list[dict[str, Any]]:
    """The bodies that Junebug POSTed there, as printed."""
    found = re.findall(rf"^Junebug POSTs to {path}:\n(  \{{\n.*?^  \}})$", output, re.MULTILINE | re.DOTALL)
    return [json.loads(text) for text in found]


def running(directory: Path) -> list[str]:
    """Command lines of processes that have this directory as theirs, or an argument in it."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if str(directory) in line or (entry / "cwd").readlink().is_relative_to(directory):
                found.append(line)
        except OSError:
            continue
    return found


@pytest.mark.timeout(180)
def test_the_demo_shows_a_message_its_events_and_an_answer(short_dir: Path) -> None:
    done = subprocess.run(
        DEMO, env={**os.environ, "TMPDIR": str(short_dir)}, capture_output=True, text=True, timeout=DEADLINE
    )
    assert done.returncode == 0, done.stdout + done.stderr
    submitted, delivered = posted(done.stdout, "/event")
    assert submitted["event_type"] == "submitted"
    assert delivered["event_type"] == "delivery_succeeded"
    assert delivered["message_id"] == submitted["message_id"]
    assert delivered["event_details"]["state"] == "DELIVERED"
    (inbound,) = posted(done.stdout, "/mo")
    assert (inbound["from"], inbound["to"], inbound["content"]) == ("+27820001111", "12345", "Hello from a phone")
    assert "  out submit_sm\n  in  submit_sm_resp\n  in  deliver_sm\n  out deliver_sm_resp\n" in done.stdout
    assert "To go on by hand" in done.stdout
    assert not done.stderr
    assert not list(short_dir.iterdir())
    assert not running(short_dir)


@pytest.mark.timeout(180)
def test_the_demo_ends_in_good_order_when_interrupted_at_its_start(short_dir: Path) -> None:
    output = short_dir / "output"
    with output.open("w") as file:
        demo = subprocess.Popen(DEMO, env={**os.environ, "TMPDIR": str(short_dir)}, stdout=file, stderr=file)
    try:
        deadline = time.monotonic() + DEADLINE
        while not any("redis-server" in line for line in running(short_dir)):
            assert time.monotonic() < deadline, output.read_text()
            assert demo.poll() is None, output.read_text()
            time.sleep(0.05)
        demo.send_signal(signal.SIGINT)
        assert demo.wait(DEADLINE) == 130, output.read_text()
    finally:
        demo.kill()
        demo.wait()
    assert "Traceback" not in output.read_text()
    assert list(short_dir.iterdir()) == [output]
    assert not running(short_dir)
