"""What processes have alike is kept once, where Linux merges memory (KSM: docs/operations.md, Limits).

Channels are forked from one process and start alike: of the pages that each has come to have for itself, most hold the same
octets as its siblings' (docs/performance.md). See prctl(2), PR_SET_MEMORY_MERGE, and madvise(2), MADV_MERGEABLE.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

SWITCH = Path("/sys/kernel/mm/ksm/run")
PR_SET_MEMORY_MERGE = 67
"""Since Linux 6.4."""


def off(switch: Path = SWITCH) -> str:
    """Why Linux merges nothing, and what to do; empty: it does."""
    try:
        is_on = switch.read_text().strip() == "1"
    except OSError as error:
        return f"this kernel cannot merge memory ({switch}: {error.strerror})"
    return "" if is_on else f"Linux merges no memory on this machine until root writes 1 to {switch}"


def allow() -> str:
    """For all that this process has, and what it forks from now on. Why it comes to nothing, if so, and what to do."""
    try:
        _allow()
    except OSError as error:
        return f"this kernel cannot merge memory: {error.strerror}"
    return off()


def _allow() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0) != 0:
        mark_present(libc)


def mark_present(libc: ctypes.CDLL) -> None:
    """On older kernels: what is there now, here and after a fork, not what comes. Raises OSError."""
    for start, end in _private():
        if libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), mmap.MADV_MERGEABLE) != 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))


def _private() -> Iterator[tuple[int, int]]:
    """Addresses of memory that is this process' own and written."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        addresses, rights, *_ = line.split(maxsplit=2)
        if rights == "rw-p":
            start, end = addresses.split("-")
            yield int(start, 16), int(end, 16)
