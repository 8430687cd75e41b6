"""What RabbitMQ sends, cut into frames as it arrives: those of a channel go straight to it, many a read.

aiormq reads a frame with three awaits and makes an object of each: 24 us a message, this 2 (bench/). It keeps what is of the
connection itself: the handshake, heartbeats, alarms, the end. So it is given this in the place of asyncio's reader, and sees
of it the octets of channel 0 alone. Neighbours: connection.py has the Link, frames.py and confirm_channel.py the channels.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from struct import Struct
from typing import Protocol

READ_SIZE = 256 * 1024
LARGEST_FRAME = 1 << 20
"""Octets: RabbitMQ sends frames of at most 128 KB (frame_max)."""
_FRAME_KINDS = frozenset((1, 2, 3, 8))
FRAME_END = 0xCE
_HEADER = Struct(">BHI")


class OnLink(Protocol):
    """What a Link knows of a channel."""

    def on_frame(self, kind: int, frame: bytes) -> None:
        """One that is for it: its kind, and all of its octets."""

    def lost(self) -> None: ...


class FrameReader:
    """In the place of a StreamReader."""

    def __init__(self, stream: asyncio.StreamReader, on_frame: Callable[[int, int, bytes], None]) -> None:
        """`on_frame(number, kind, frame)` gets each frame of a channel, with its header and its end."""
        self._stream = stream
        self._on_frame = on_frame
        self._rest = b""
        """The beginning of a frame."""
        self._of_connection = bytearray()
        self.heard = 0.0
        """When something came last, by the loop's clock."""

    def at_eof(self) -> bool:
        return not self._of_connection and self._stream.at_eof()

    async def readexactly(self, count: int) -> bytes:
        """Of what is the connection's own. Raises IncompleteReadError, ConnectionError."""
        while len(self._of_connection) < count:
            data = await self._stream.read(READ_SIZE)
            if not data:
                raise asyncio.IncompleteReadError(bytes(self._of_connection), count)
            self._take(data)
        octets = bytes(self._of_connection[:count])
        del self._of_connection[:count]
        return octets

    async def read(self, count: int = -1) -> bytes:
        """What is left of the connection's own."""
        octets = bytes(self._of_connection)
        self._of_connection.clear()
        return octets

    def _take(self, data: bytes) -> None:
        self.heard = asyncio.get_running_loop().time()
        if self._rest:
            data = self._rest + data
        at, length = 0, len(data)
        while length - at >= 7:
            kind, number, size = _HEADER.unpack_from(data, at)
            if kind not in _FRAME_KINDS:  # no AMQP, or another version's header: aiormq says so
                self._of_connection += data[at:]
                at = length
                break
            end = at + 8 + size
            if size > LARGEST_FRAME:
                raise ConnectionError(f"RabbitMQ sent a frame of {size} octets")
            if end > length:
                break
            if data[end - 1] != FRAME_END:
                raise ConnectionError("RabbitMQ sent a frame without its end")
            if number:
                self._on_frame(number, kind, data[at:end])
            else:
                self._of_connection += data[at:end]
            at = end
        self._rest = data[at:]
