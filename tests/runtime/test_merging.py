"""Memory that Linux may merge: what is marked, by either call, here and in what is forked. That it is merged: bench/scale.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from junebug.runtime import merging

MARKED = """
import ctypes, os, re, sys
from junebug.runtime import merging

def marked():
    smaps = open("/proc/self/smaps").read()
    of_heap = smaps[smaps.index("[heap]"):]
    return "mg" in re.search("^VmFlags:(.*)$", of_heap, re.MULTILINE)[1].split()

before = marked()
{call}
if os.fork() == 0:
    print(before, marked())
    sys.stdout.flush()
    os._exit(0)
os.wait()
"""
CALLS = ["merging.allow()", "merging.mark_present(ctypes.CDLL(None, use_errno=True))"]


@pytest.mark.skipif(not merging.SWITCH.exists(), reason="a kernel without KSM")
@pytest.mark.parametrize("call", CALLS, ids=["prctl", "madvise"])
def test_what_is_forked_may_be_merged(call: str) -> None:
    program = [sys.executable, "-c", MARKED.format(call=call)]
    said = subprocess.run(program, capture_output=True, text=True, timeout=30, check=True)
    assert said.stdout.split() == ["False", "True"]


SAID = [("1\n", ""), ("0\n", "writes 1 to"), ("2\n", "writes 1 to"), (None, "cannot merge")]


@pytest.mark.parametrize(("written", "told"), SAID)
def test_why_nothing_is_merged_is_said(written: str | None, told: str, tmp_path: Path) -> None:
    switch = tmp_path / "run"
    if written:
        switch.write_text(written)
    assert told in merging.off(switch)
    assert bool(merging.off(switch)) == bool(told)


def test_a_kernel_that_cannot_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(merging, "_allow", refuse)
    assert merging.allow() == "this kernel cannot merge memory: Invalid argument"
