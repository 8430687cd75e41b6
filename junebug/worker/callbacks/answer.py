"""What an HTTP/1 server answers, octet for octet (RFC 9112), pure: of it the status counts, and three headers.

An answer comes from outside and may be anything. So nothing of it is kept but its line under way, nothing is decoded, and
no fault behind the status line takes the status away. Neighbour: http_client.py feeds it.
"""

from __future__ import annotations

import re
from collections.abc import Generator

LONGEST = 64 * 1024
"""Octets of an answer that are read, head and body."""

_STATUS = re.compile(rb"HTTP/(\d{1,3})(?:\.(\d{1,3}))?[ \t]+(\d{3})(?!\d).*", re.DOTALL)
_HEAD = re.compile(rb"HTTP/1\.([01]) ([2-5]\d\d)(?:[ \r][^\n]*)?\n((?:[!#-.0-9A-Z^-z|~][^\n]*\n)*)\r?\n")
"""A whole head as nearly all write it, which is read at one go; others line by line."""
_READ = (b"connection", b"content-length", b"location", b"retry-after", b"transfer-encoding")
_FIELD = re.compile(rb"^(%b)[^\S\n]*:([^\n]*)" % b"|".join(_READ), re.I | re.M)
_LENGTH = re.compile(rb"[0-9]{1,18}")

Steps = Generator[None, None, None]


class Answer:
    """One answer, as far as it has come."""

    def __init__(self) -> None:
        self.status: int | None = None
        """None until its status line is there."""
        self.octets = 0
        self.is_head_over = False
        self.is_over = False
        """There is nothing more to wait for: it has ended, it is none, or it is too long."""
        self.can_go_on = False
        """It has ended where it said, and its connection can carry another one."""
        self._headers: dict[bytes, list[bytes]] = {}
        self._buffer = bytearray()
        self._steps = self._read()
        next(self._steps)

    def header(self, name: str) -> str:
        """`location` or `retry-after`; empty when there is none."""
        values = self._headers.get(name.encode())
        return values[0].decode(errors="replace") if values else ""

    def feed(self, data: bytes) -> None:
        if self.is_over:
            self.can_go_on = False  # more than it said
            return
        self.octets += len(data)
        self._buffer += data
        next(self._steps, None)
        if self.octets > LONGEST:
            self.end()

    def end(self) -> None:
        """No more is read. A status line that is cut off is one all the same."""
        if self.status is None and not self.is_over:
            self._buffer += b"\n"
            next(self._steps, None)
        self.is_over, self.can_go_on = True, False

    # --- in the order in which it comes -----------------------------------------------------------------------------------

    def _read(self) -> Steps:
        yield
        keeps_alive = yield from self._read_head()
        if self.status is not None:
            self.is_head_over = True
            ends = yield from self._read_body()
            self.can_go_on = keeps_alive and ends and not self._buffer
        self.is_over = True

    def _read_head(self) -> Generator[None, None, bool]:
        """Whether the connection stays open behind the answer."""
        if found := _HEAD.match(self._buffer):
            minor, status, lines = found.groups()
            del self._buffer[: found.end()]
            self.status = int(status)
            for name, value in _FIELD.findall(lines):
                self._headers.setdefault(name.lower(), []).append(value.strip())
            return self._keeps_alive(1, int(minor))
        while True:
            while not (line := (yield from self._line())):
                pass
            found = _STATUS.fullmatch(line)
            if not found:
                return False
            status = int(found[3])
            is_interim = 100 <= status < 200 and status != 101
            if not is_interim:
                self.status = status
            while line := (yield from self._line()):
                name, _, value = line.partition(b":")
                name = name.rstrip().lower()
                if name in _READ and not is_interim:
                    self._headers.setdefault(name, []).append(value.strip())
            if not is_interim:
                break
        return self._keeps_alive(int(found[1]), int(found[2] or 0))

    def _keeps_alive(self, *version: int) -> bool:
        options = self._joined(b"connection").lower().replace(b" ", b"").split(b",")
        return b"close" not in options and (version >= (1, 1) or b"keep-alive" in options)

    def _read_body(self) -> Generator[None, None, bool]:
        """Whether it ends before the connection does."""
        if self.status in (204, 304):
            return True
        coding, length = self._joined(b"transfer-encoding"), self._joined(b"content-length")
        if coding.lower() == b"chunked" and not length:
            return (yield from self._skip_chunks())
        if not coding and _LENGTH.fullmatch(length):
            yield from self._skip(int(length))
            return True
        while True:
            self._buffer.clear()
            yield

    def _joined(self, name: bytes) -> bytes:
        return b",".join(self._headers.get(name, ()))

    def _skip_chunks(self) -> Generator[None, None, bool]:
        while True:
            size = re.match(rb"[0-9A-Fa-f]{1,15}(?![0-9A-Fa-f])", (yield from self._line()))
            if not size:
                return False
            if not int(size[0], 16):
                break
            yield from self._skip(int(size[0], 16))
            if (yield from self._line()):
                return False
        while (yield from self._line()):
            pass
        return True

    def _line(self) -> Generator[None, None, bytes]:
        seen = 0
        while (end := self._buffer.find(b"\n", seen)) < 0:
            seen = len(self._buffer)
            yield
        line = bytes(self._buffer[:end]).rstrip()
        del self._buffer[: end + 1]
        return line

    def _skip(self, octets: int) -> Steps:
        while octets > len(self._buffer):
            octets -= len(self._buffer)
            self._buffer.clear()
            yield
        del self._buffer[:octets]
