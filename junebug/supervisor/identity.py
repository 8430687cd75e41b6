"""Who this host is among those that share Redis and RabbitMQ.

Its id is the setting `host`, or one that is made once and kept in data_dir. Its place says which data_dir on which running
machine that is: whoever holds that data_dir's lock knows that a Junebug of the same place before it is over, processes and all.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path

from junebug import names
from junebug.config.declaration import Settings
from junebug.errors import StartupError
from junebug.runtime.identity import host_file, kept_host

LONGEST_NAME = 60


@dataclass(frozen=True, slots=True)
class Identity:
    id: str
    place: str
    name: str
    """Of the machine, for people."""


def identity(settings: Settings, lock: int) -> Identity:
    """`lock`: the descriptor of data_dir's lock file, which this process holds. Raises StartupError."""
    name = socket.gethostname()[:LONGEST_NAME]
    file = os.fstat(lock)
    id = settings.host or _kept(settings.data_dir, name)
    return Identity(id, f"{_boot()}:{file.st_dev}:{file.st_ino}", name)


def _kept(data_dir: str, name: str) -> str:
    path = host_file(data_dir)
    try:
        kept = kept_host(data_dir)
        if not names.is_channel_id(kept):
            kept = f"{re.sub('[^0-9A-Za-z.-]', '-', name).strip('.-') or 'host'}-{secrets.token_hex(3)}"
            path.write_text(f"{kept}\n")
    except (OSError, UnicodeDecodeError) as error:
        raise StartupError(f"data_dir: cannot keep this host's id in {path}: {error}") from None
    return kept


def _boot() -> str:
    """Another one after each start of the machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return socket.gethostname()
