"""The telnet line protocol (RFC 854): what is a line, what is stripped, where to listen."""

from __future__ import annotations

from typing import Any

import pytest

from junebug.errors import InvalidChannelConfig
from junebug.registry import Registry
from junebug.transports.telnet import CHANNEL_TYPE
from junebug.transports.telnet.protocol import BACKLOG, LONGEST_LINE, LineReader, format_text, parse_endpoint
from junebug.transports.telnet_addr import CHANNEL_TYPE as WITH_ADDRESSES
from tests.tables import rows

REGISTRY = Registry([CHANNEL_TYPE, WITH_ADDRESSES])

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


@rows(("data", "lines"), LINES)
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


@rows(
    ("endpoint", "expected"),
    [
        ("tcp:9001", ("0.0.0.0", 9001, BACKLOG)),
        ("tcp:port=9001:interface=127.0.0.1", ("127.0.0.1", 9001, BACKLOG)),
        ("tcp:interface=127.0.0.1:port=9001", ("127.0.0.1", 9001, BACKLOG)),
        ("tcp:9001:backlog=5:interface=127.0.0.1", ("127.0.0.1", 9001, 5)),
        ("tcp:backlog=5:interface=127.0.0.1:port=9001", ("127.0.0.1", 9001, 5)),
        ("tcp:interface=127.0.0.1:9001", ("127.0.0.1", 9001, BACKLOG)),
        ("tcp:backlog=5:9001", ("0.0.0.0", 9001, 5)),
        ("tcp:9001:127.0.0.1", ("127.0.0.1", 9001, BACKLOG)),
        ("tcp:9001:127.0.0.1:50", ("127.0.0.1", 9001, 50)),
        ("tcp:9001:interface=", ("0.0.0.0", 9001, BACKLOG)),
        ("tcp:9001:interface=localhost", ("localhost", 9001, BACKLOG)),
        (r"tcp:9001:interface=\:\:1", ("::1", 9001, BACKLOG)),
        (r"tcp:interface=\:\::port=9001:backlog=7", ("::", 9001, 7)),
        (r"tcp:9001:interface=fe80\:\:1%lo", ("fe80::1%lo", 9001, BACKLOG)),
        (r"tcp:9001:interface=\[\:\:1\]", ("::1", 9001, BACKLOG)),
        ("tcp:9001:interface=[::1]", ("::1", 9001, BACKLOG)),
        ("tcp:interface=[::]:port=9001", ("::", 9001, BACKLOG)),
        ("tcp6:9001", ("::", 9001, BACKLOG)),
        (r"tcp6:port=9001:interface=\:\:1", ("::1", 9001, BACKLOG)),
        (" TCP:9001 ", ("0.0.0.0", 9001, BACKLOG)),
    ],
)
def test_where_to_listen_as_twisted_writes_it(endpoint: str, expected: tuple[str, int, int]) -> None:
    config = {"twisted_endpoint": endpoint}
    REGISTRY.validate_config("telnet", config)
    assert parse_endpoint(config) == expected


def test_where_to_listen_by_host_and_port() -> None:
    assert parse_endpoint({"telnet_port": 9001}) == ("0.0.0.0", 9001, BACKLOG)
    assert parse_endpoint({"telnet_host": "127.0.0.1", "telnet_port": 9001}) == ("127.0.0.1", 9001, BACKLOG)


@rows(
    ("config", "said"),
    [
        ({}, "either this or telnet_port"),
        ({"twisted_endpoint": ""}, "either this or telnet_port"),
        ({"twisted_endpoint": "9001"}, "expected tcp:"),
        ({"twisted_endpoint": "udp:9001"}, "expected tcp:"),
        ({"twisted_endpoint": "unix:/tmp/x"}, "expected tcp:"),
        ({"twisted_endpoint": "tcp"}, "port from 1 to 65535"),
        ({"twisted_endpoint": "tcp:"}, "port from 1 to 65535"),
        ({"twisted_endpoint": "tcp:0"}, "port from 1 to 65535"),
        ({"twisted_endpoint": "tcp:70000"}, "port from 1 to 65535"),
        ({"twisted_endpoint": "tcp:²"}, "port from 1 to 65535"),
        ({"twisted_endpoint": "tcp:" + "9" * 200}, "port from 1 to 65535"),
        ({"twisted_endpoint": "tcp:http"}, "port from 1 to 65535"),
        ({"twisted_endpoint": "tcp:interface=127.0.0.1"}, "port from 1 to 65535"),
        ({"twisted_endpoint": "tcp:9001:backlog=many"}, "backlog from 1"),
        ({"twisted_endpoint": "tcp:9001:interface=::1"}, "not escaped"),
        ({"twisted_endpoint": "tcp:9001:interface=a b"}, "interface: expected a host's"),
        ({"twisted_endpoint": "tcp:9001:interface=" + "a" * 64}, "interface: expected a host's"),
        ({"twisted_endpoint": "tcp:9001:interface=a..b"}, "interface: expected a host's"),
        ({"twisted_endpoint": r"tcp:9001:interface=\:\:g"}, "interface: expected a host's"),
        ({"twisted_endpoint": "tcp:9001:colour=red"}, "no argument 'colour'"),
        ({"twisted_endpoint": "tcp:port=9001:port=9002"}, "port is given twice"),
        ({"twisted_endpoint": "tcp:9001:127.0.0.1:50:7"}, "too many"),
        ({"twisted_endpoint": "tcp:" + ":" * 100_000}, "at most"),
        ({"twisted_endpoint": "tcp:9001\\"}, "port from 1 to 65535"),
    ],
)
@rows("channel_type", ["telnet", "telnet_addr"])
def test_where_nobody_can_listen_is_told(channel_type: str, config: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidChannelConfig, match=r"^config\.twisted_endpoint: ") as refused:
        REGISTRY.validate_config(channel_type, config)
    assert said in str(refused.value)


@pytest.mark.parametrize("host", ["a" * 64, "a\n", "a..b", "::g", "\u00e9" * 80])
def test_a_host_that_no_resolver_takes_is_refused_at_the_door(host: str) -> None:
    with pytest.raises(InvalidChannelConfig, match=r"^config\.telnet_host: expected a host's"):
        REGISTRY.validate_config("telnet", {"telnet_host": host, "telnet_port": 9001})
