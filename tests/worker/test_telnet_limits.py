"""Who may be connected to a telnet channel: a bounded number, introduced or not; the silent and those beyond are told so."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from junebug.model.messages import Event, Status, UserMessage
from junebug.transports.base import Transport, TransportContext
from junebug.transports.telnet.transport import TelnetTransport
from junebug.transports.telnet_addr import transport as addressed
from junebug.transports.telnet_addr.transport import AddressedTelnetTransport
from tests.polling import eventually
from tests.servers import free_port

TYPES: list[type[TelnetTransport]] = [TelnetTransport, AddressedTelnetTransport]


class Clients:
    def __init__(self, port: int, received: list[UserMessage]) -> None:
        self.port = port
        self.received = received
        self.opened: list[asyncio.StreamWriter] = []

    async def __call__(self) -> asyncio.StreamReader:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.opened.append(writer)
        return reader

    def leave(self) -> None:
        while self.opened:
            self.opened.pop().transport.abort()


@asynccontextmanager
async def listening(kind: type[Transport], **config: Any) -> AsyncIterator[Clients]:
    port = free_port()
    received: list[UserMessage] = []

    async def inbound(message: UserMessage) -> None:
        received.append(message)

    async def ignore(_: Event | Status) -> None: ...

    given = {"telnet_host": "127.0.0.1", "telnet_port": port, **config}
    transport = kind(TransportContext("c", "telnet", given, inbound, ignore, ignore, None, None))  # type: ignore[arg-type]
    await transport.start()
    clients = Clients(port, received)
    try:
        yield clients
    finally:
        clients.leave()
        await transport.stop()


async def heard(reader: asyncio.StreamReader) -> bytes:
    """All that it is told before it is cut off."""
    return await asyncio.wait_for(reader.read(), 5)


@pytest.mark.parametrize("kind", TYPES)
async def test_one_client_too_many_is_told_so_and_there_is_room_again_when_others_leave(kind: type[Transport]) -> None:
    async with listening(kind, max_connections=3) as connect:
        for _ in range(3):
            await connect()  # and says nothing
        assert await heard(await connect()) == b"Too many connections.\n"
        connect.leave()

        async def is_taken() -> bool:
            reader = await connect()
            try:
                return b"Too many" not in await asyncio.wait_for(reader.readline(), 0.3)
            except TimeoutError:
                return True

        await eventually(is_taken)


@pytest.mark.parametrize("said", ["", "1\n", "1"])
async def test_a_client_that_does_not_introduce_itself_is_cut_off(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addressed, "INTRODUCTION_TIMEOUT", 0.2)
    async with listening(AddressedTelnetTransport) as connect:
        reader = await connect()
        connect.opened[0].write(said.encode())
        assert (await heard(reader)).endswith(b"too long.\n")
        assert connect.received == []


async def test_a_session_of_which_nothing_is_heard_is_closed() -> None:
    async with listening(TelnetTransport, idle_timeout=0.2) as connect:
        assert (await heard(await connect())).endswith(b"too long.\n")
        assert [message.session_event for message in connect.received] == ["new", "close"]


@pytest.fixture
def few_files() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 100, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("kind", TYPES)
async def test_with_few_descriptors_the_next_client_is_told_so(kind: type[Transport], few_files: None) -> None:
    async with listening(kind) as connect:
        try:
            while True:
                reader = await connect()
                try:
                    if await asyncio.wait_for(reader.readline(), 0.05) == b"Too many connections.\n":
                        break
                except TimeoutError:
                    pass
        finally:
            connect.leave()
