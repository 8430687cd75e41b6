"""A file that is mapped into memory: what is written there costs no system call, and is still there after a SIGKILL."""

from __future__ import annotations

import mmap
import os
from pathlib import Path


def map_file(path: Path, size: int) -> mmap.mmap:
    """`size` octets of it, nobody else's to read; made where there is none. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(file, 0, size)  # a page that the disk has no room for would kill us
        return mmap.mmap(file, size)
    finally:
        os.close(file)
