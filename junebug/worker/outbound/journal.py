"""Journal: what the provider has accepted, until RabbitMQ knows it. So that is not sent again when it is delivered again, as all
is that RabbitMQ has no acknowledgement of when a link to it, or this process, ends.

It is a file that is mapped into memory, as that of suspects.py: a note costs no system call, and is still there after a SIGKILL.
It goes with a machine that loses its power, and stays on a host that loses the channel: then messages are repeated.

The file has two halves, each with its number and then notes, one behind the other, up to one without length. When one is full the
other, which has what is older, is begun anew. A half is room for some hundred notes, and for more than a window of the channel's.

Neighbours: sender.py asks, outcomes.py notes.
"""

from __future__ import annotations

import asyncio
import mmap
import os
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from struct import Struct
from typing import NamedTuple

import structlog

from junebug.model.identity import Identity
from junebug.runtime.mapped_file import map_file

log = structlog.stdlib.get_logger("sender")

MOST_REMEMBERED = 10_000
PATIENCE = 5.0
"""Seconds that reports wait, in all, for the messages that the last process left."""
_HALF, _ROOM = 32_768, 256
"""Octets of a half, at the least; and for each message of the window."""
_NUMBER, _LENGTH, _NOTE = Struct(">Q"), Struct(">H"), Struct(">HBIB")
"""A note: its length, whether RabbitMQ holds what became of the message, the sum and the length of its id; then this, and the
provider's.
"""
_TOLD = _LENGTH.size
"""Where in a note that is."""

class Noted(NamedTuple):
    provider_id: str | None
    position: int | None
    """Of its note, while there is one."""
    is_left: bool = False
    """It was the last process that sent it."""


class Journal:
    """One process's. Where the disk is full or read-only, it holds for as long as the process lives."""

    def __init__(self, path: Path, window: int) -> None:
        """What the last process of this channel left there is known, and nothing is written before the first note."""
        self._path = path
        self._half = -(-max(_HALF, window * _ROOM) // mmap.PAGESIZE) * mmap.PAGESIZE
        self._file: mmap.mmap | None = None
        self._is_hopeless = False
        self._at, self._number = 0, 0
        """Where the next note goes: its half is of this number, and its parity's."""
        self._known: OrderedDict[Identity, Noted] = OrderedDict()
        self._left: dict[Identity, Noted] = {}
        self._untold: set[str] = set()
        """Ids of messages of which RabbitMQ may hold nothing yet."""
        self._begun = asyncio.Event()
        self._patience_ends: float | None = None
        self._take_over()

    def find(self, identity: Identity) -> Noted | None:
        """What is known of this message, if it was accepted."""
        return self._known.get(identity) or self._left.get(identity)

    def note(self, identity: Identity, provider_id: str | None) -> int | None:
        """It was accepted. Returns the note's position; None where there is no file."""
        position = self._write(identity, provider_id) if not self._is_hopeless else None
        self._known[identity] = Noted(provider_id, position)
        if len(self._known) > MOST_REMEMBERED:
            self._known.popitem(last=False)
        return position

    def told(self, position: int) -> None:
        """RabbitMQ holds what became of it."""
        number, at = divmod(position, self._half)
        if self._file and number > self._number - 2:
            self._file[number % 2 * self._half + at + _TOLD] = 1

    def begin(self, message_id: str) -> None:
        """It is in hand (again): what is reported of it finds it."""
        if message_id in self._untold:
            self._untold.discard(message_id)
            self._begun.set()
            self._begun.clear()

    async def begun(self, message_id: str) -> None:
        """When what the last process left without telling of it is in hand, or late: a report comes behind its ack."""
        if message_id not in self._untold:
            return
        self._patience_ends = self._patience_ends or asyncio.get_running_loop().time() + PATIENCE
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self._patience_ends):
                while message_id in self._untold:
                    await self._begun.wait()
        self._untold.discard(message_id)

    def left(self) -> list[str]:
        """Ids of messages that the last process sent."""
        return [message_id for message_id, _ in self._left]

    # --- the file -----------------------------------------------------------------------------------------------------

    def _write(self, identity: Identity, provider_id: str | None, is_told: int = 0) -> int | None:
        if self._file is None and not self._open():
            return None
        assert self._file
        id, other = identity[0].encode(), (provider_id or "").encode()
        length = _NOTE.size + len(id) + len(other)
        if len(id) > 0xFF or _NUMBER.size + length + _LENGTH.size > self._half:
            return None
        if self._at + length + _LENGTH.size > self._half:
            self._begin_half()
        at = self._number % 2 * self._half + self._at
        note = _NOTE.pack(0, is_told, identity[1], len(id)) + id + other + bytes(_LENGTH.size)
        self._file[at : at + len(note)] = note
        self._file[at : at + _LENGTH.size] = _LENGTH.pack(length)  # a process that is killed leaves no half of a note
        position = self._number * self._half + self._at
        self._at += length
        return position

    def _begin_half(self) -> None:
        assert self._file
        self._number += 1
        at = self._number % 2 * self._half
        self._at = _NUMBER.size
        self._file[at : at + _NUMBER.size + _LENGTH.size] = _NUMBER.pack(self._number) + bytes(_LENGTH.size)

    def _open(self) -> bool:
        """A new one, with what was left in the one before."""
        try:
            new = self._path.with_name(f".{self._path.name}")
            new.unlink(missing_ok=True)
            self._file = map_file(new, 2 * self._half)
            self._begin_half()
            for identity, noted in self._left.items():
                position = self._write(identity, noted.provider_id, is_told=identity[0] not in self._untold)
                self._left[identity] = noted._replace(position=position)
            os.replace(new, self._path)
        except OSError as error:
            log.warning("what was accepted cannot be noted: it is sent again if this process is killed", reason=str(error))
            self._file, self._is_hopeless = None, True
        return self._file is not None

    def _take_over(self) -> None:
        try:
            octets = self._path.read_bytes()
        except OSError:
            return
        half = len(octets) // 2
        halves = sorted((octets[:half], octets[half:]), key=lambda each: each[: _NUMBER.size])
        for identity, provider_id, is_told in (note for each in halves for note in _notes(each)):
            self._left.pop(identity, None)
            self._left[identity] = Noted(provider_id, None, is_left=True)
            if is_told:
                self._untold.discard(identity[0])
            else:
                self._untold.add(identity[0])


def _notes(half: bytes) -> Iterator[tuple[Identity, str | None, int]]:
    at = _NUMBER.size
    while at + _NOTE.size <= len(half):
        length, is_told, crc, of_id = _NOTE.unpack_from(half, at)
        if length < _NOTE.size + of_id or at + length > len(half):
            return
        ids = half[at + _NOTE.size : at + length]
        yield (ids[:of_id].decode(errors="replace"), crc), ids[of_id:].decode(errors="replace") or None, is_told
        at += length
