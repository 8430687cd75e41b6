"""The telnet line protocol without its socket: bytes in, lines out (RFC 854, as far as a line needs it), and where to listen."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from junebug.errors import InvalidChannelConfig
from junebug.transports import endpoints

IAC, DONT, SB, SE = 255, 254, 250, 240
_FIRST_NEGOTIATION = 251  # WILL; WONT, DO and DONT follow
BACKLOG, LARGEST_BACKLOG = 100, 65535
"""Connections that wait to be accepted."""
ENDPOINTS = dict.fromkeys(("tcp", "tcp6"), ("port", "interface", "backlog"))
_RUNS = re.compile(rb"[^\xff\r\n\0]+|[\xff\r\n\0]")
"""Text as a whole; what may mean something else, octet by octet."""
LONGEST_LINE = 64 * 1024
"""A longer line is cut here: a peer that never ends a line must not fill the memory."""


class LineReader:
    """Feed it what the socket gave; it yields complete lines, IAC sequences stripped, decoded as UTF-8.

    A line ends with CR LF, LF or CR NUL (CR alone is taken for text until what follows it is known).
    """

    def __init__(self) -> None:
        self._line = bytearray()
        self._state = "text"
        self._after_return = False

    def feed(self, data: bytes) -> Iterator[str]:
        for run in _RUNS.findall(data):
            while run and self._state != "text" and self._state != "subnegotiation":
                self._command(run[0])
                run = run[1:]
            if not run:
                continue
            if run[0] == IAC:
                self._state = "iac" if self._state == "text" else "subnegotiation iac"
            elif self._state == "subnegotiation":
                continue
            elif run[0] in b"\r\n\0":
                yield from self._end(run)
            else:
                self._append(run)

    def _command(self, byte: int) -> None:
        """The octet that follows an IAC or a command's."""
        if self._state == "iac":
            self._after_iac(byte)
        elif self._state == "option":
            self._state = "text"
        else:
            self._state = "text" if byte == SE else "subnegotiation"

    def _after_iac(self, byte: int) -> None:
        self._state = "text"
        if byte == IAC:  # an escaped 255
            self._append(b"\xff")
        elif byte == SB:
            self._state = "subnegotiation"
        elif _FIRST_NEGOTIATION <= byte <= DONT:
            self._state = "option"

    def _end(self, end: bytes) -> Iterator[str]:
        """One of CR, LF and NUL."""
        after_return = self._after_return
        self._after_return = False
        if end == b"\n" or (after_return and end == b"\0"):
            yield self._end_line()
        elif end == b"\r":
            self._append(b"\r" * after_return)
            self._after_return = True

    def _append(self, text: bytes) -> None:
        if self._after_return:  # it was text
            self._after_return = False
            text = b"\r" + text
        self._line += text[: LONGEST_LINE - len(self._line)]

    def _end_line(self) -> str:
        line = self._line.decode("utf-8", "replace")
        self._line.clear()
        return line


def format_text(content: str | None) -> bytes:
    """What a client is shown of an outbound message: its lines, each ended."""
    lines = (content or "").splitlines() or [""]
    return ("\n".join(lines) + "\n").encode("utf-8", "replace").replace(b"\xff", b"\xff\xff")


def parse_endpoint(config: Mapping[str, Any]) -> tuple[str, int, int]:
    """(host, port, backlog) to listen on, from `twisted_endpoint` or `telnet_host` and `telnet_port`. Raises ValueError."""
    description = config.get("twisted_endpoint")
    if description:
        try:
            kind, arguments = endpoints.parse(description, ENDPOINTS)
            host = endpoints.host(arguments, "interface", "::" if kind == "tcp6" else "0.0.0.0")
            port = endpoints.number(arguments, "port", 1, 65535)
            return host, port, endpoints.number(arguments, "backlog", 1, LARGEST_BACKLOG, BACKLOG)
        except ValueError as error:
            raise ValueError(f"twisted_endpoint: {error}") from None
    if "telnet_port" not in config:
        raise ValueError("twisted_endpoint: either this or telnet_port is needed")
    return endpoints.host(config, "telnet_host", "0.0.0.0"), config["telnet_port"], BACKLOG


def check(config: dict[str, Any]) -> None:
    """Raises InvalidChannelConfig for what the schema could not see."""
    try:
        parse_endpoint(config)
    except ValueError as error:
        option, _, problem = str(error).partition(": ")
        raise InvalidChannelConfig([(f"config.{option}", problem)]) from None
