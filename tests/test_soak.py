"""`make soak` knows growth when it sees it; and where there is time (THOROUGH), it runs and prints what it is to print."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench.soak import growth
from tests.harness import ROOT, THOROUGH

MB = 1_000_000


@pytest.mark.skipif(THOROUGH == 1, reason="a minute, most of it waiting: `make soak` runs it, or JUNEBUG_TEST_THOROUGH=2")
@pytest.mark.timeout(240)
def test_a_short_soak_loses_nothing_and_prints_its_tables(short_dir: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench.soak", "--seconds", "15"],
        cwd=ROOT, env={**os.environ, "TMPDIR": str(short_dir)}, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    header = next(line for line in done.stdout.splitlines() if line.split()[:1] == ["seconds"])
    assert {"api:1", "reconciler", "loopback", "telnet", "smpp", "redis", "rabbitmq"} <= set(header.split()), header
    assert any("supervisor" in name for name in header.split()), header
    assert len(re.findall(r"^ +\d+( +[\d.-]+)+$", done.stdout, re.MULTILINE)) > 10
    for type in ("loopback", "telnet", "smpp"):
        sent, _, _, owed, received, _ = re.search(rf"^ +{type}" + r" +(\d+)" * 6, done.stdout, re.MULTILINE).groups()
        assert 0 < int(sent) <= int(owed) == int(received)
    assert "Growth is not judged" in done.stdout
    assert not done.stderr
    assert not list(short_dir.iterdir())


def test_the_soak_tells_its_options() -> None:
    done = subprocess.run([sys.executable, "-m", "bench.soak", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--seconds" in done.stdout


@pytest.mark.parametrize(
    ("process", "megabytes", "grows"),
    [
        ("api:1", [20, 30, 30, 30, 30, 30, 35, 35], True),
        ("api:1", [20, 30, 30, 30, 30, 30, 34, 34], False),  # a seventh
        ("api:1", [1, 2, 2, 2, 2, 2, 4.9, 4.9], False),  # three megabytes at the most
        ("api:1", [10, 20, 30, 30, 30, 30, 30, 30], False),  # warming up
        ("redis", [10, 10, 10, 20, 30, 40, 50, 60], False),  # not ours
    ],
)
def test_growth_is_that_of_the_last_quarter_over_the_second(process: str, megabytes: list[float], grows: bool) -> None:
    samples = [{process: round(each * MB)} for each in megabytes]
    assert bool(growth(samples)) is grows


def test_a_process_that_was_just_killed_has_no_figure() -> None:
    samples = [{}, {}, {"smpp": 10 * MB}, {}, {}, {}, {"smpp": 20 * MB}, {}]
    assert growth(samples) == {"smpp": (10 * MB, 20 * MB)}
    assert growth([{}]) == growth([]) == {}
