"""What a process takes of the machine: memory and processor time, from /proc.

Blocking, and the proportional memory (PSS) costs the kernel a look at each page: to be asked for in a thread, and of a few
processes at a time.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

SAMPLE_EVERY = 15.0
"""Seconds."""
_PAGE, _TICKS = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")
_TITLE = "junebug: "
_SMAPS = "smaps_rollup"
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Sample:
    """`cpu`: seconds since it was started; memory in bytes. `proportional`: 0, where it is not known (yet)."""

    host: str
    process: str
    started_at: float
    cpu: float
    resident: int
    proportional: int


def sample(host: str, pid: int, process: str = "", proportional: int | None = None) -> Sample | None:
    """Of this process, named `process`, or as its title says; None: it is gone. `proportional`: as it is known already."""
    try:
        base = _PROC / str(pid)
        fields = (base / "stat").read_text().rpartition(")")[2].split()  # from the third on (proc(5))
        name = process or _name(base)
    except (OSError, ValueError):
        return None
    if proportional is None:
        proportional = _proportional(base)
    cpu = (int(fields[11]) + int(fields[12])) / _TICKS
    return Sample(host, name, _booted_at() + int(fields[19]) / _TICKS, cpu, int(fields[21]) * _PAGE, proportional)


def children(pid: int) -> list[int]:
    """Of this process, which has one thread."""
    try:
        return [int(each) for each in (_PROC / f"{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _name(base: Path) -> str:
    title = (base / "cmdline").read_bytes().rstrip(b"\0 ").decode("utf-8", "replace")
    return title.removeprefix(_TITLE) if title.startswith(_TITLE) else (base / "comm").read_text().strip()


def _proportional(base: Path) -> int:
    try:
        lines = (base / _SMAPS).read_text().splitlines()
    except OSError:  # it is another user's
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def _booted_at() -> float:
    return round(time.time() - time.clock_gettime(time.CLOCK_BOOTTIME), 2)
