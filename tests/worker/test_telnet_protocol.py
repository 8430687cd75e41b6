"""The telnet line protocol (RFC 854): what is a line, what is stripped, where to listen."""

from __future__ import annotations

from typing import Any

import pytest

from junebug.transports.telnet.protocol import LONGEST_LINE, LineReader, format_text, parse_endpoint

LINES = [
    (b"Hi\r\n", ["Hi"]),
    (b"Hi\n", ["Hi"]),
    (b"Hi\r\0there\r\n", ["Hi", "there"]),
    (b"a\rb\n", ["a\rb"]),
    (b"KEEP Case \r\n", ["KEEP Case "]),
    (b"\r\n\r\n", ["", ""]),
    (b"\xff\xfb\x01Hi\xff\xfd\x03 you\n", ["Hi you"]),
    (b"\xff\xfa\x18\x00xterm\xff\xf0after\n", ["after"]),
    (b"\xff\xfa\x01\xff\xff\xff\xf0x\n", ["x"]),
    (b"\xff\xf1\xff\xf6ping\n", ["ping"]),
    ("é😀\r\n".encode(), ["é😀"]),
    (b"bad \xc3\x28\n", ["bad \ufffd("]),
    (b"no end", []),
]


@pytest.mark.parametrize(("data", "lines"), LINES)
def test_lines_are_read_whole_or_byte_by_byte(data: bytes, lines: list[str]) -> None:
    assert list(LineReader().feed(data)) == lines
    reader = LineReader()
    assert [line for byte in data for line in reader.feed(bytes([byte]))] == lines


def test_a_line_without_end_does_not_fill_the_memory() -> None:
    reader = LineReader()
    assert list(reader.feed(b"x" * (LONGEST_LINE * 2))) == []
    (line,) = reader.feed(b"\n")
    assert len(line) == LONGEST_LINE


@pytest.mark.parametrize(
    ("content", "shown"),
    [("hello", b"hello\n"), ("a\nb", b"a\nb\n"), (None, b"\n"), ("", b"\n"), ("a\r\nb", b"a\nb\n"), ("é", "é\n".encode())],
)
def test_what_a_client_is_shown(content: str | None, shown: bytes) -> None:
    assert format_text(content) == shown


@pytest.mark.parametrize(
    ("config", "endpoint"),
    [
        ({"twisted_endpoint": "tcp:9001"}, ("0.0.0.0", 9001)),
        ({"twisted_endpoint": "tcp:port=9001:interface=127.0.0.1"}, ("127.0.0.1", 9001)),
        ({"twisted_endpoint": "tcp:9001:interface=[::1]"}, ("::1", 9001)),
        ({"telnet_port": 9001}, ("0.0.0.0", 9001)),
        ({"telnet_host": "127.0.0.1", "telnet_port": 9001}, ("127.0.0.1", 9001)),
    ],
)
def test_where_to_listen(config: dict[str, Any], endpoint: tuple[str, int]) -> None:
    assert parse_endpoint(config) == endpoint


def test_a_port_out_of_range_is_told() -> None:
    with pytest.raises(ValueError, match="twisted_endpoint"):
        parse_endpoint({"twisted_endpoint": "tcp:70000"})
