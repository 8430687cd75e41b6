"""The other end of a session, scripted: a plain TCP server (or client) that reads and writes PDUs as a test tells it."""

from __future__ import annotations

import asyncio
import struct
from typing import Any, Self

from junebug.smpp.codec import decode, encode
from junebug.smpp.framing import PduReader
from junebug.smpp.options import SessionOptions
from junebug.smpp.pdu import Pdu, response_to
from junebug.smpp.session import Session
from tests.polling import DEADLINE


class Connection:
    """One accepted connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._pdus = PduReader()
        self._frames: list[bytes] = []

    async def pdu(self) -> Pdu:
        """The next PDU; raises EOFError when the connection is over."""
        async with asyncio.timeout(DEADLINE):
            while not self._frames:
                data = await self.reader.read(65536)
                if not data:
                    raise EOFError
                self._frames += self._pdus.feed(data)
        return decode(self._frames.pop(0))

    async def expect(self, kind: type[Any]) -> Any:
        pdu = await self.pdu()
        assert isinstance(pdu, kind), pdu
        return pdu

    async def eof(self) -> None:
        """Wait for the connection's end; what comes before it is thrown away."""
        async with asyncio.timeout(DEADLINE):
            try:
                while await self.reader.read(65536):
                    pass
            except ConnectionError:
                pass

    def send(self, *pdus: Pdu | bytes) -> None:
        self.writer.write(b"".join(each if isinstance(each, bytes) else encode(each) for each in pdus))

    def answer(self, request: Pdu, status: int = 0, **fields: Any) -> None:
        self.send(response(request, status, **fields))

    def close(self) -> None:
        self.writer.close()

    def abort(self) -> None:
        self.writer.transport.abort()


def response(request: Pdu, status: int = 0, **fields: Any) -> Pdu:
    pdu = response_to(request.command_id, request.sequence_number, status)
    for name, value in fields.items():
        setattr(pdu, name, value)
    return pdu


def frame(command_id: int, sequence_number: int, body: bytes = b"", status: int = 0) -> bytes:
    return struct.pack(">4I", 16 + len(body), command_id, status, sequence_number) + body


class Peer:
    """`async with Peer() as peer`: listens; `connection()` is the next that comes in."""

    async def __aenter__(self) -> Self:
        self._connections: asyncio.Queue[Connection] = asyncio.Queue()
        self.accepted = 0
        self._all: list[Connection] = []
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=1 << 20)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for connection in self._all:
            connection.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        connection = Connection(reader, writer)
        self._all.append(connection)
        self._connections.put_nowait(connection)

    async def connection(self) -> Connection:
        async with asyncio.timeout(DEADLINE):
            return await self._connections.get()


class Log:
    """Watches a session: what its `on_request` and `on_pdu` were told."""

    def __init__(self, answer: bool = False) -> None:
        self.requests: list[Pdu] = []
        self.pdus: list[tuple[str, bytes, Pdu | None, Any]] = []
        self._answer = answer

    def on_request(self, session: Session, pdu: Pdu) -> None:
        self.requests.append(pdu)
        if self._answer:
            session.respond(response(pdu))

    def on_pdu(self, direction: str, raw: bytes, pdu: Pdu | None, tag: Any) -> None:
        self.pdus.append((direction, raw, pdu, tag))


async def connect(port: int, options: SessionOptions | None = None, log: Log | None = None) -> Session:
    """A session as ESME."""
    log = log or Log()
    _, session = await asyncio.get_running_loop().create_connection(
        lambda: Session("esme", options or SessionOptions(), on_request=log.on_request, on_pdu=log.on_pdu),
        "127.0.0.1",
        port,
    )
    return session
