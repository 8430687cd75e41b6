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
import functools
import mmap
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from struct import Struct

import structlog

from junebug.runtime.mapped_file import map_file

log = structlog.stdlib.get_logger(__name__)

DEATHS = 2
WHY = "the channel's process died of it twice"
_NOTE = Struct(">IIII")
_DIGEST = _NOTE.size
_ENTRY = _DIGEST + 1
_SIZE = 4096
_NOTHING = bytes(_DIGEST)


@functools.cache
def _number_of(kind: str) -> int:
    return zlib.crc32(kind.encode())


class Suspects:
    """One process's. Without a file (a disk that is full or read-only) nobody is suspected."""

    def __init__(self, on_set_aside: Callable[[], None] = lambda: None) -> None:
        self.set_aside = on_set_aside
        """To be called when something was."""
        self._file: mmap.mmap | None = None
        self._deaths: Counter[bytes] = Counter()
        self._going: asyncio.Handle | None = None
        self._is_half = False

    def open(self, path: Path) -> None:
        """`path`: where the channel's last process left its note."""
        try:
            self._file = map_file(path, _SIZE)
        except OSError as error:
            log.warning("what kills this process cannot be noted", reason=str(error))
            return
        for at in range(_DIGEST, _SIZE - _ENTRY, _ENTRY):
            entry = self._file[at : at + _ENTRY]
            if entry[_DIGEST]:
                self._deaths[entry[:_DIGEST]] = entry[_DIGEST]
        if (last := self._file[:_DIGEST]) != _NOTHING:
            self._deaths[last] += 1
            log.error("the last process of this channel died over something that it had begun with", deaths=self._deaths[last])
        self._write()

    def close(self) -> None:
        """The process ends in good order."""
        if self._file:
            self._file[:_DIGEST] = _NOTHING
            self._file.close()
            self._file = None

    def begin(self, kind: str, octets: bytes, *, is_half: bool = False) -> bool:
        """Before what is done with them at one go. False: they are to be set aside. `is_half`: they are begun once more, and
        have not been survived before.
        """
        if self._file is None:
            return True
        # no cryptography: each message pays for it, and who could find two that are alike sends both himself
        digest = _NOTE.pack(zlib.crc32(octets), zlib.adler32(octets), len(octets), _number_of(kind))
        if self._deaths and self._deaths[digest] >= DEATHS:
            return False
        self._file[:_DIGEST] = digest
        self._is_half = is_half
        if self._going is None:
            self._going = asyncio.get_running_loop().call_soon(self._survived)
        return True

    def _survived(self) -> None:
        self._going = None
        if self._file is None:
            return
        if self._deaths and not self._is_half and self._deaths.pop(self._file[:_DIGEST], 0):
            self._write()
        self._file[:_DIGEST] = _NOTHING

    def _write(self) -> None:
        """Those that two processes died of, and the last ones that one did."""
        assert self._file
        room = (_SIZE - _DIGEST) // _ENTRY - 1
        kept = sorted(self._deaths.items(), key=lambda each: min(each[1], DEATHS))[-room:]
        entries = b"".join(digest + bytes((min(deaths, 255),)) for digest, deaths in kept)
        self._file[_DIGEST:] = entries.ljust(_SIZE - _DIGEST, b"\0")
        self._file[:_DIGEST] = _NOTHING
