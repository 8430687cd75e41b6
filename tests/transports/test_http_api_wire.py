"""A transport of http_api in this process against raw sockets: what leaves and comes, what is bounded, what is left behind."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from junebug.errors import NotSent, StoreUnavailable, UnknownOutcome
from junebug.model.messages import Event, Status, UserMessage
from junebug.transports.base import TransportContext
from junebug.transports.http_api.outbound import LONGEST_ID
from junebug.transports.http_api.transport import HttpApiTransport
from tests.polling import eventually
from tests.servers import free_port
from tests.tables import rows
from tests.transports.test_http_api import message

DEADLINE = 10.0


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

    def transport(self, channel: str = "c") -> HttpApiTransport:
        async def event(event: Event) -> None:
            await self.may_go_on.wait()
            self.events.append(event)

        async def status(status: Status) -> None:
            self.statuses.append(status)

        async def permit(priority: int) -> None:
            pass

        return HttpApiTransport(
            TransportContext(channel, "http_api", self.config, self._inbound, event, status, self.store, permit)  # type: ignore[arg-type]
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

    async def informational(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"HTTP/1.1 102 Processing\r\n\r\n" * 100)
            await writer.drain()

    async def no_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x00\xff\x16\x03\x01 HELLO\r\n\r\n")
        await writer.drain()

    async def short(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nOK")
        await writer.drain()

    for answer in (nothing, drip, headers, informational, no_http, short):
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



async def test_receipts_that_rabbitmq_does_not_take_are_answered_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("junebug.transports.http_api.transport.RECEIPT_TIMEOUT", 0.5)
    house = House({**config(), "max_pending_requests": 3})
    house.store.kept["id:p1"] = "m1"
    receipt = b'{"all": [{"id": "p1", "s": "D"}]}'
    async with house.running():
        house.may_go_on.clear()
        answers = await asyncio.gather(*(house.post("/dlr", receipt) for _ in range(10)))
        assert all(b" 503 " in each for each in answers)
        house.may_go_on.set()
        assert b" 200 " in await house.post("/dlr", receipt)
    assert [event.user_message_id for event in house.events] == ["m1"]
