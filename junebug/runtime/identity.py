"""This process among all that there ever were, and whether it took the place of one that died."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

_id = ""
_follows_death = False


def process_id() -> str:
    """A name that no other process of any host has had."""
    global _id
    if not _id:
        _id = secrets.token_hex(8)
    return _id


def kept_host(data_dir: str) -> str:
    """The id of the host whose data_dir this is; empty: none has been kept there. Raises OSError, UnicodeDecodeError."""
    path = host_file(data_dir)
    return path.read_text().strip() if path.exists() else ""


def host_file(data_dir: str) -> Path:
    return Path(data_dir) / "host"


def follow_death() -> None:
    """Said by whoever forked it: the one before it ended unasked."""
    global _follows_death
    _follows_death = True


def follows_death() -> bool:
    return _follows_death


def _forget() -> None:
    global _id
    _id = ""


os.register_at_fork(after_in_child=_forget)
