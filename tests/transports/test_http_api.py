"""Channel type http_api in this process: what a config makes of requests and answers, and a transport against raw sockets."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from junebug.errors import NotSent, Rejected, StoreUnavailable, UnknownOutcome
from junebug.model.messages import Event, Status, UserMessage
from junebug.transports.base import TransportContext
from junebug.transports.http_api import mapping
from junebug.transports.http_api.outbound import LARGEST_ANSWER, LONGEST_ID, Outbound
from junebug.transports.http_api.transport import HttpApiTransport
from tests.polling import eventually
from tests.servers import free_port
from tests.tables import rows

URL = "https://a.example/send"
DEADLINE = 10.0


def message(content: str | None = "hello", to: str | None = "+27", **fields: Any) -> UserMessage:
    return UserMessage(to_addr=to, from_addr="8110", content=content, transport_name="c", transport_type="sms", **fields)


# --- pure -------------------------------------------------------------------------------------------------------------

ID = {"id_path": "messages.0.id"}
STATUS = {"success_path": "status", "success_values": ["0", "true"], "id_path": "id"}


@rows(
    ("config", "status", "body", "expected"),
    [
        ({}, 200, b"", None),
        ({}, 204, b"", None),
        (ID, 200, b'{"messages": [{"id": "abc"}]}', "abc"),
        (ID, 201, b'{"messages": [{"id": 12345}]}', "12345"),
        (ID, 200, b'{"messages": []}', None),
        (ID, 200, b'{"messages": [{"id": ""}]}', None),
        (ID, 200, b"<html>", None),
        (ID, 200, b"\xff\xfe\x00", None),
        (ID, 200, b"[" * 5000, None),
        (ID, 200, b'{"messages": [{"id": "' + b"x" * (LONGEST_ID + 1) + b'"}]}', None),
        ({"id_pattern": "ID: ([0-9]+)"}, 200, b"OK ID: 77", "77"),
        ({"id_pattern": "ID: ([0-9]+)?"}, 200, b"OK ID: ", None),
        ({"id_pattern": "ID: ([0-9]+)"}, 200, b"OK", None),
        ({"success_pattern": "^OK"}, 200, b"OK 1", None),
        ({"success_pattern": "^OK"}, 200, b"ERR 1", Rejected("HTTP 200 ERR 1")),
        ({"success_pattern": "^OK"}, 200, b"x" * LARGEST_ANSWER, UnknownOutcome(f"HTTP 200 {'x' * 200}")),
        (STATUS, 200, b'{"status": 0, "id": "a"}', "a"),
        (STATUS, 200, b'{"status": "0", "id": "a"}', "a"),
        (STATUS, 200, b'{"status": true, "id": "a"}', "a"),
        (STATUS, 200, b'{"status": 9}', Rejected('HTTP 200 {"status": 9}')),
        (STATUS, 200, b'{"status": null}', Rejected('HTTP 200 {"status": null}')),
        (STATUS, 200, b"", Rejected("HTTP 200")),
        ({"success_pattern": "^OK", "retry_pattern": "busy"}, 200, b"ERR busy", NotSent("HTTP 200 ERR busy", 5)),
        ({"retry_pattern": "credit"}, 400, b"no credit", NotSent("HTTP 400 no credit", 5)),
        ({"reject_pattern": "^ERR"}, 200, b"ERR 1", Rejected("HTTP 200 ERR 1")),
        ({"reject_pattern": "barred"}, 503, b"barred", Rejected("HTTP 503 barred")),
        ({}, 400, b" no\r\n such \tnumber ", Rejected("HTTP 400 no such number")),
        ({}, 422, b"", Rejected("HTTP 422")),
        ({"reject_status": [403]}, 403, b"", Rejected("HTTP 403")),
        ({"reject_status": [403]}, 400, b"", NotSent("HTTP 400", 5)),
        ({}, 401, b"", NotSent("HTTP 401", 5)),
        ({"retry_delay": 7}, 402, b"", NotSent("HTTP 402", 7)),
        ({}, 429, b"", NotSent("HTTP 429", 5)),
        ({}, 503, b"", NotSent("HTTP 503", 5)),
        ({}, 302, b"", NotSent("HTTP 302", 5)),
        ({}, 500, b"", UnknownOutcome("HTTP 500")),
        ({}, 502, b"bad gateway", UnknownOutcome("HTTP 502 bad gateway")),
        ({}, 504, b"", UnknownOutcome("HTTP 504")),
        ({"reject_status": [500]}, 500, b"", Rejected("HTTP 500")),
        ({"secrets": {"k": "open sesame", "t": "a/b+c"}, "password": "pass"}, 400,
         b"k=open+sesame open%20sesame a/b+c a%2Fb%2Bc pass",
         Rejected("HTTP 400 k=******** ******** ******** ******** ********")),
    ],
)  # fmt: skip
def test_what_an_answer_means(config: dict[str, Any], status: int, body: bytes, expected: Any) -> None:
    outbound = Outbound({"url": URL, **config})
    if not isinstance(expected, Exception):
        assert outbound.understood(status, {}, body) == expected
        return
    with pytest.raises(type(expected)) as raised:
        outbound.understood(status, {}, body)
    assert str(raised.value) == str(expected)
    assert getattr(raised.value, "retry_after", None) == getattr(expected, "retry_after", None)


@rows(
    ("retry_after", "least", "most"),
    [
        ("0", 0, 0), (" 17 ", 17, 17), ("99999999999999999999", 3600, 3600), ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
        ("Fri, 01 Jan 2100 00:00:00 GMT", 3600, 3600), ("", 5, 5), ("soon", 5, 5), ("-1", 5, 5), ("1.5", 5, 5), ("²", 5, 5),
        ("\x00" * 1000, 5, 5), ("9" * 5000, 3600, 3600),
    ],
)  # fmt: skip
def test_how_long_a_provider_wants_to_be_left_alone(retry_after: str, least: float, most: float) -> None:
    with pytest.raises(NotSent) as raised:
        Outbound({"url": URL}).understood(429, {"Retry-After": retry_after}, b"")
    assert least <= raised.value.retry_after <= most


async def test_what_a_message_becomes() -> None:
    config = {
        "url": URL + "{?to,key}", "secrets": {"key": "a&b"}, "username": "u", "password": "pä",
        "headers": {"X-Text": "{content}", "content-type": "application/vnd.api+json", "accept-encoding": "br"},
        "json": {"t": "{content}", "g": "{group}", "both": "{from}->{to}", "n": 1, "list": [None, True, "{message_id}"]},
    }  # fmt: skip
    sent = message('Zoë "\\ {to} 💐')
    request = Outbound(config).request(sent, None)
    assert (request.method, str(request.url)) == ("POST", "https://a.example/send?to=%2B27&key=a%26b")
    assert dict(request.headers) == {
        "X-Text": 'Zoë "\\ {to} 💐', "content-type": "application/vnd.api+json", "accept-encoding": "br",
        "User-Agent": "Junebug", "Authorization": "Basic dTpww6Q=",
    }  # fmt: skip
    assert mapping.read("", request.body or b"", "") == {
        "t": 'Zoë "\\ {to} 💐', "g": None, "both": "8110->+27", "n": 1, "list": [None, True, sent.message_id],
    }  # fmt: skip
    for wrong in ("a\r\nX-Evil: b", "\x00"):
        with pytest.raises(Rejected, match="X-Text would hold a control character"):
            Outbound(config).request(message(wrong), None)
    with pytest.raises(Rejected, match="too long for a URL"):
        Outbound(config).request(message(to="1" * 40_000), None)
    form = Outbound({"url": URL, "form": {"text": "{content}", "group": "{group}", "empty": ""}}).request(message("a&b= ü"), None)
    assert (form.body, form.headers["Content-Type"]) == (b"text=a%26b%3D+%C3%BC&empty=", "application/x-www-form-urlencoded")
    nothing = Outbound({"url": URL, "json": {"t": "{content}"}}).request(message(None, to=None), None)
    assert nothing.body == b'{"t":null}'


@rows(
    ("query", "body", "content_type", "expected"),
    [
        ("a=1", b'{"a": 2, "b": {"c": [1]}}', "application/json", {"a": 2, "b": {"c": [1]}}),
        ("", b' \n[{"a": 1}]', "text/plain", {"0": {"a": 1}}),
        ("a=1", b"", "application/json", {"a": "1"}),
        ("", b"a=1", "application/x-www-form-urlencoded", {"a": "1"}),
        ("", b'{"a": 1}', "application/x-www-form-urlencoded", {'{"a": 1}': ""}),
        ("", b"\xef\xbb\xbf{}", "application/json", {}),
        ("", b'{"a": "\xff"}', "application/json", None),
        ("", b'{"a": "\\ud800"}', "application/json", None),
        ("", b'{"a": NaN}', "application/json", None),
        ("", b"{" + b'"a":{' * 25 + b"}" * 26, "application/json", None),
        ("", b"[" * 30 + b"]" * 30, "application/json", None),
        ("", b'{"a":' * 20_000 + b"1" + b"}" * 20_000, "application/json", None),
        ("", b"{", "application/json", None),
    ],
)
def test_what_a_request_says(query: str, body: bytes, content_type: str, expected: dict[str, Any] | None) -> None:
    if expected is None:
        with pytest.raises(ValueError, match="."):
            mapping.read(query, body, content_type)
    else:
        assert mapping.read(query, body, content_type) == expected


@rows(
    ("said", "path", "expected"),
    [
        ({"a": "1"}, None, [{"a": "1"}]),
        ({"results": [{"a": 1}, 5]}, "results", [{"a": 1}, 5]),
        ({"0": {"results": []}}, "0.results", []),
        ({"results": {"a": 1}}, "results", None),
        ({"results": "x"}, "results", None),
        ({}, "results", None),
    ],
)
def test_what_a_request_brings(said: dict[str, Any], path: str | None, expected: list[Any] | None) -> None:
    assert mapping.items(said, path) == expected


# --- against the wire -------------------------------------------------------------------------------------------------


class Store:
    """A channel's, in memory."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}
        self.away = False

    async def get(self, *keys: str) -> list[str | None]:
        if self.away:
            raise StoreUnavailable("Redis is away")
        return [self.kept.get(key) for key in keys]

    async def put(self, key: str, value: str, ttl: float) -> bool:
        assert ttl > 0
        if self.away:
            raise StoreUnavailable("Redis is away")
        self.kept[key] = value
        return True


class House:
    """What a transport tells, and its store. `may_go_on`: RabbitMQ takes messages."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.messages: list[UserMessage] = []
        self.events: list[Event] = []
        self.statuses: list[Status] = []
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()
        self.store = Store()
        self.config = config
        self.port = config.get("web_port", 0)

    async def _inbound(self, message: UserMessage) -> None:
        await self.may_go_on.wait()
        self.messages.append(message)

    def transport(self) -> HttpApiTransport:
        async def event(event: Event) -> None:
            self.events.append(event)

        async def status(status: Status) -> None:
            self.statuses.append(status)

        async def permit(priority: int) -> None:
            pass

        return HttpApiTransport(
            TransportContext("c", "http_api", self.config, self._inbound, event, status, self.store, permit)  # type: ignore[arg-type]
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[HttpApiTransport]:
        transport = self.transport()
        try:
            await transport.start()
            yield transport
        finally:
            await transport.finish(0.1)
            await transport.stop()

    async def ask(self, octets: bytes) -> bytes:
        """One request on a connection of its own, and all that comes back."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(octets)
        try:
            async with asyncio.timeout(DEADLINE):
                return await reader.read()
        finally:
            writer.close()

    async def post(self, path: str, body: bytes) -> bytes:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        return await self.ask(head.encode() + body)


def config(provider: int = 1, **outbound: Any) -> dict[str, Any]:
    return {
        "web_path": "/mo", "web_port": free_port(), "web_host": "127.0.0.1",
        "inbound": {"parameters": {"from": "f", "content": "c", "provider_id": "id"}, "list": "all"},
        "outbound": {"url": f"http://127.0.0.1:{provider}/", "id_path": "id", "timeout": 1, "retry_delay": 0.1, **outbound},
        "receipts": {
            "path": "/dlr", "list": "all", "parameters": {"provider_id": "id", "status": "s"}, "statuses": {"D": "delivered"},
        },
    }  # fmt: skip


Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def provider(answer: Answer) -> AsyncIterator[int]:
    """Answers each request on a connection in turn; its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await answer(reader, writer)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def head(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


def ok(body: bytes = b"{}", more: bytes = b"") -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s\r\n%s" % (len(body), more, body)


def open_sockets() -> int:
    return sum(os.readlink(f"/proc/self/fd/{fd}").startswith("socket:") for fd in os.listdir("/proc/self/fd") if _is_open(fd))


def _is_open(fd: str) -> bool:
    return os.path.islink(f"/proc/self/fd/{fd}")


async def test_twenty_starts_leak_nothing() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await head(reader)
            writer.write(ok(b'{"id": "p"}'))

    async with provider(answer) as port:
        house = House(config(port, method="GET"))
        tasks, sockets = len(asyncio.all_tasks()), open_sockets()
        for n in range(20):
            async with house.running() as transport:
                assert await transport.send(message()) == "p"
                await house.post("/mo", b'{"all": [{"f": "1", "c": "x", "id": "%d"}]}' % n)
                idle = socket.create_connection(("127.0.0.1", house.port))
            idle.close()
        assert len(house.messages) == 20

        def is_clean() -> bool:
            gc.collect()
            return len(asyncio.all_tasks()) <= tasks and open_sockets() <= sockets

        await eventually(is_clean, DEADLINE, "no task and no socket is left")


@rows("method", ["GET", "PUT", "POST"])
async def test_a_kept_connection_that_breaks_repeats_nothing_by_itself(method: str) -> None:
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await head(reader))
        writer.write(ok(more=b"Set-Cookie: a=b\r\n"))
        asked.append(await head(reader))  # and it breaks

    async with provider(answer) as port, House({"outbound": config(port, method=method)["outbound"]}).running() as transport:
        await transport.send(message())
        with pytest.raises(UnknownOutcome):
            await transport.send(message())
    assert len(asked) == 2
    assert not any(b"cookie" in each.lower() for each in asked)
    assert b"accept-encoding: identity" in asked[0].lower()


async def test_what_has_not_left_is_told_from_what_may_have() -> None:
    async def nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(DEADLINE)

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)

    async def headers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"X-A: " + b"y" * 1000 + b"\r\n")
            await writer.drain()

    async def no_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x00\xff\x16\x03\x01 HELLO\r\n\r\n")
        await writer.drain()

    async def short(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nOK")
        await writer.drain()

    for answer in (nothing, drip, headers, no_http, short):
        async with provider(answer) as port:
            house = House({"outbound": config(port, timeout=0.4)["outbound"]})
            async with house.running() as transport:
                with pytest.raises(UnknownOutcome):
                    await transport.send(message())
            assert house.statuses[-1].type == "outcome_unknown", answer
        async with provider(answer) as port:  # which speaks no TLS
            https = {**config(timeout=0.4)["outbound"], "url": f"https://127.0.0.1:{port}/"}
            async with House({"outbound": https}).running() as transport:
                with pytest.raises(NotSent):
                    await transport.send(message())
    for url in (f"http://127.0.0.1:{free_port()}/", "http://no-such-host.invalid/"):
        house = House({"outbound": {**config()["outbound"], "url": url}})
        async with house.running() as transport:
            with pytest.raises(NotSent, match="cannot connect"):
                await transport.send(message())
        assert (house.statuses[-1].type, house.statuses[-1].status) == ("not_accepted", "down")


async def test_a_status_is_told_once_whatever_the_provider_says() -> None:
    count = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        while True:
            await head(reader)
            count += 1
            text = b"request %d" % count
            writer.write(b"HTTP/1.1 503 Busy\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text) if count < 6 else ok())

    async with provider(answer) as port:
        house = House({"outbound": config(port)["outbound"]})
        async with house.running() as transport:
            for _ in range(5):
                with pytest.raises(NotSent):
                    await transport.send(message())
            await transport.send(message())
    told = [(each.type, each.details) for each in house.statuses if each.component == "outbound"]
    assert told == [("not_accepted", {"reason": "HTTP 503 request 1"}), ("accepted", {})]


async def test_a_receipt_may_come_before_the_answer_that_says_its_id() -> None:
    may_answer, heard = asyncio.Event(), asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        heard.set()
        await may_answer.wait()
        writer.write(ok(b'{"id": "p1"}'))
        await writer.drain()

    async with provider(answer) as port:
        house = House(config(port, timeout=DEADLINE))
        async with house.running() as transport:
            sent = message()
            sending = asyncio.create_task(transport.send(sent))
            await heard.wait()
            receipt = asyncio.create_task(house.post("/dlr", b'{"all": [{"id": "p1", "s": "D"}, {"id": "p2", "s": "D"}]}'))
            await asyncio.wait([receipt], timeout=0.2)
            assert not receipt.done()
            may_answer.set()
            assert await sending == "p1"
            assert b" 200 " in await receipt
            assert [(each.user_message_id, each.delivery_status) for each in house.events] == [(sent.message_id, "delivered")]
            assert b" 404 " in await house.post("/dlr", b'{"all": [{"id": "p2", "s": "D"}]}')
            assert b" 200 " in await house.post("/dlr", b'{"all": []}')
            for wrong in (b"{}", b'{"all": [{"id": "p1"}]}', b'{"all": [{"s": "D"}]}', b'{"all": 5}', b'{"all": [5]}'):
                assert b"missing_parameter" in await house.post("/dlr", wrong), wrong
            house.store.away = True
            assert b" 503 " in await house.post("/dlr", b'{"all": [{"id": "p1", "s": "D"}]}')


async def test_what_the_provider_brings_again_is_taken_once() -> None:
    house = House(config())
    items = [b'{"f": "1", "c": "a", "id": "1"}', b'{"f": "1", "c": "b", "id": "2"}']
    body = b'{"all": [%s]}' % b",".join([*items, items[0], b'{"f": "1", "c": ""}'])
    async with house.running():
        house.may_go_on.clear()
        first = asyncio.create_task(house.post("/mo", body))

        async def is_waiting() -> bool:
            return b'"pending_requests":1' in await house.ask(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")

        await eventually(is_waiting, DEADLINE, "the first one")
        assert b" 503 " in await house.post("/mo", body), "it did not wait for our answer"
        house.may_go_on.set()
        assert b" 200 " in await first
        assert b" 200 " in await house.post("/mo", body)
        assert [each.content for each in house.messages] == ["a", "b", "", ""], "what has no id is new each time"
        assert len({each.message_id for each in house.messages}) == 4
        long = b'{"all": [{"f": "1", "c": "%d", "id": "' + b"x" * (LONGEST_ID + 1) + b'"}]}'
        for n in range(2):
            assert b" 200 " in await house.post("/mo", long % n), "ids too long to be kept are told apart by nobody"
        assert len(house.messages) == 6
        house.store.away = True
        assert b" 200 " in await house.post("/mo", body), "better twice than never"
        for wrong in (b'{"all": [{"f": "1", "c": "a"}, {"f": "", "c": "a"}]}', b'{"all": [{"f": "1"}]}', b'{"all": {}}'):
            assert b"missing_parameter" in await house.post("/mo", wrong), wrong

