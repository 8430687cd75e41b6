"""PduReader: a stream of octets cut into PDUs, knowing nothing of them but their length. pdu.py reads what it yields."""

from __future__ import annotations

from junebug.errors import JunebugError
from junebug.smpp import constants as c


class BadLength(JunebugError):
    """A command_length outside 16..70,000: the stream has lost its frames, the session cannot go on."""

    def __init__(self, command_length: int, frames: list[bytes]) -> None:
        """`frames`: what was complete before it."""
        super().__init__(f"command_length {command_length} is not in {c.MIN_PDU_LENGTH}..{c.MAX_PDU_LENGTH}")
        self.command_length = command_length
        self.frames = frames


class PduReader:
    """Cuts a stream into frames. Keeps at most one unfinished PDU."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._wanted = 4
        """Octets at which a look at `_rest` is worth it: without it, a PDU in single octets would be quadratic."""

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that `data` completes. Raises BadLength: the stream is lost, and so is this reader.

        It carries the frames before the bad length in the same `data`.
        """
        rest = self._rest
        if rest:
            rest += data
            if len(rest) < self._wanted:
                return []
            data = bytes(rest)
            rest.clear()
        frames: list[bytes] = []
        offset, end = 0, len(data)
        self._wanted = 4
        while end - offset >= 4:
            length = int.from_bytes(data[offset : offset + 4], "big")
            if not c.MIN_PDU_LENGTH <= length <= c.MAX_PDU_LENGTH:
                raise BadLength(length, frames)
            after = offset + length
            if after > end:
                self._wanted = length
                break
            frames.append(data[offset:after])
            offset = after
        if offset < end:
            rest += data[offset:]
        return frames
