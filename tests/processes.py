"""Processes as /proc shows them: any of them may end while it is looked at, and is then none."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path


def is_alive(pid: int) -> bool:
    """Zombies, which wait for their new parent, are not."""
    return _is_alive(status(pid))


def is_free(port: int) -> bool:
    """Nobody listens there: of a process that is a zombie already a thread may still hold it for a moment."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def status(pid: int) -> dict[str, str]:
    """As `proc(5)` has it: State, PPid and so on; empty: it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def children(pid: int) -> dict[int, str]:
    """pid -> title of every living process below this one."""
    seen = {number: status(number) for number in map(int, filter(str.isdigit, os.listdir("/proc")))}
    parents = {number: int(each["PPid"]) for number, each in seen.items() if _is_alive(each)}
    found: dict[int, str] = {}
    new = {pid}
    while new:
        new = {number for number, parent in parents.items() if parent in new and number not in found}
        found |= {number: title(number) for number in new}
    return found


def _is_alive(status: Mapping[str, str]) -> bool:
    return bool(status) and not status["State"].startswith("Z")
