"""Suspects: what a worker was busy with when it died, so that nothing kills a channel for ever.

Whatever comes from others (a delivery, a PDU) is noted when it is begun with, in a file that is mapped into memory: that costs
no system call, and is still there after a SIGKILL. The note goes as soon as the event loop goes on, so it names what crashed
the process or hung its loop, hardly ever what merely waited when somebody killed it. What two processes in a row died of is
not begun again: it is set aside, as a dead letter.

Neighbours: outbound/sender.py, callbacks/forwarder.py, callbacks/attempts.py, statuses.py and the transports begin; process.py
opens it.
"""

from __future__ import annotations

import asyncio
import hashlib
import mmap
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from struct import Struct

import structlog

log = structlog.stdlib.get_logger(__name__)

DEATHS = 2
WHY = "the channel's process died of it twice"
_DIGEST = 16
_ENTRY = _DIGEST + 1
_PAGE = 4096
"""The first holds what was begun with, its length before it (what is longer: its digest); the second those that died before."""
_LENGTH = Struct("<I")
_NOTHING = bytes(_LENGTH.size)


class Suspects:
    """One process's. Without a file (a disk that is full or read-only) nobody is suspected."""

    def __init__(self, on_set_aside: Callable[[], None] = lambda: None) -> None:
        self.set_aside = on_set_aside
        """To be called when something was."""
        self._file: mmap.mmap | None = None
        self._deaths: Counter[bytes] = Counter()
        self._going: asyncio.Handle | None = None
        self._begun = b""
        """Digest of what was begun with, where one of its kind may have died."""

    def open(self, path: Path) -> None:
        """`path`: where the channel's last process left its note."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(file, 0, 2 * _PAGE)  # a page that the disk has no room for would kill us
                self._file = mmap.mmap(file, 2 * _PAGE)
            finally:
                os.close(file)
        except OSError as error:
            log.warning("what kills this process cannot be noted", reason=str(error))
            return
        for at in range(_PAGE, 2 * _PAGE - _ENTRY, _ENTRY):
            entry = self._file[at : at + _ENTRY]
            if entry[_DIGEST]:
                self._deaths[entry[:_DIGEST]] = entry[_DIGEST]
        (length,) = _LENGTH.unpack_from(self._file)
        if 0 < length <= _PAGE - _LENGTH.size:
            last = _digest(self._file[_LENGTH.size : _LENGTH.size + length])
            self._deaths[last] += 1
            log.error("the last process of this channel died over something that it had begun with", deaths=self._deaths[last])
        self._write()

    def close(self) -> None:
        """The process ends in good order."""
        if self._file:
            self._file[:_PAGE] = bytes(_PAGE)  # no text of a message stays on the disk
            self._file.close()
            self._file = None

    def begin(self, kind: str, octets: bytes) -> bool:
        """Before what is done with them at one go. False: they are to be set aside."""
        if self._file is None:
            return True
        note = kind.encode() + octets
        if len(note) > _PAGE - _LENGTH.size:
            note = _digest(note)
        if self._deaths:
            self._begun = _digest(note)
            if self._deaths[self._begun] >= DEATHS:
                return False
        self._file[: _LENGTH.size + len(note)] = _LENGTH.pack(len(note)) + note
        if self._going is None:
            self._going = asyncio.get_running_loop().call_soon(self._survived)
        return True

    def _survived(self) -> None:
        self._going = None
        if self._file is None:
            return
        if self._deaths and self._deaths.pop(self._begun, 0):
            self._write()
        self._file[: len(_NOTHING)] = _NOTHING

    def _write(self) -> None:
        """Those that two processes died of, and the last ones that one did."""
        assert self._file
        room = _PAGE // _ENTRY - 1
        kept = sorted(self._deaths.items(), key=lambda each: min(each[1], DEATHS))[-room:]
        entries = b"".join(digest + bytes((min(deaths, 255),)) for digest, deaths in kept)
        self._file[:] = bytes(_PAGE) + entries.ljust(_PAGE, b"\0")


def _digest(note: bytes) -> bytes:
    return hashlib.blake2s(note, digest_size=_DIGEST).digest()
