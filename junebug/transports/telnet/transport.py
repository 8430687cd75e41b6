"""Telnet: each TCP client is a session; its lines are inbound messages, messages to its address are shown to it.

Connect -> session_event new, a line -> resume, disconnect -> close (COMPAT §5). The address of a client is its host:port.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable

from junebug.errors import Rejected, TransportStartError
from junebug.model.messages import SessionEvent, UserMessage
from junebug.runtime.listener import Listener, listening_sockets
from junebug.transports.base import Transport, TransportContext
from junebug.transports.telnet.protocol import LineReader, format_text, parse_endpoint

READ_SIZE = 16 * 1024
WRITE_TIMEOUT = 10.0
"""Seconds that a client may leave what it is sent unread before it is cut off."""
CLOSE_TIMEOUT = 2.0
TOO_MANY = b"Too many connections.\n"
SILENT = b"Nothing was heard for too long.\n"


class Client:
    """One TCP client: its socket and the addresses its messages bear."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        host, port = writer.get_extra_info("peername")[:2]
        self.peer = f"{host}:{port}"
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.from_addr = self.peer
        self.to_addr = ""
        self._lines = LineReader()
        self._pending: deque[str] = deque()

    async def read_line(self) -> str | None:
        """The next line, or None when the client is gone."""
        while not self._pending:
            try:
                data = await self.reader.read(READ_SIZE)
            except OSError:
                return None
            if not data:
                return None
            self._pending.extend(self._lines.feed(data))
        return self._pending.popleft()

    async def read_line_within(self, seconds: float) -> str | None:
        """The next line, or None when the client is gone, or silent for so long (0: it may be): it is told so."""
        if self._pending:
            return self._pending.popleft()  # a timer for each line of a flood would fill the memory
        try:
            async with asyncio.timeout(seconds or None):
                return await self.read_line()
        except TimeoutError:
            await self.write(SILENT)
            return None

    async def write(self, data: bytes) -> None:
        """Raises OSError (or TimeoutError, which is one) when it did not get there."""
        self.writer.write(data)
        try:
            async with asyncio.timeout(WRITE_TIMEOUT):
                await self.writer.drain()
        except TimeoutError:
            self.writer.transport.abort()
            raise

    async def close(self) -> None:
        self.writer.close()
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self.writer.wait_closed()
        except OSError:
            self.writer.transport.abort()


class TelnetTransport(Transport):
    """Listens on `twisted_endpoint` (or `telnet_host` and `telnet_port`)."""

    def __init__(self, context: TransportContext) -> None:
        super().__init__(context)
        try:
            self._host, self._port, self._backlog = parse_endpoint(self.config)
        except ValueError as error:
            raise TransportStartError(str(error)) from None
        self._to_addr = self.config.get("to_addr") or f"{self._host}:{self._port}"
        self._transport_type = self.config.get("transport_type") or "telnet"
        self._max_connections = self.config.get("max_connections", 1000)
        self._idle_timeout = self.config.get("idle_timeout", 3600)
        self._listener: Listener | None = None
        self._clients: dict[str, Client] = {}
        self._sessions: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            addresses = dict.fromkeys((family, str(address[0])) for family, _, _, _, address in found)
            sockets = listening_sockets(self._port, list(addresses), self._backlog)
        except OSError as error:
            raise TransportStartError(
                f"cannot listen on {self._host}:{self._port}: {_problem(error)}; choose another port"
            ) from None
        self._listener = Listener(
            "telnet", sockets, self._protocol, self._max_connections, lambda _: TOO_MANY, is_asked_first=False
        )
        where = f"Listening on {self._host}:{self._port}"
        await self.context.status(self.context.channel_type, "ok", "listening", where)

    async def stop(self) -> None:
        """Cut every client off; each gets its session_event close before this returns."""
        if self._listener:
            self._listener.close()
        for task in self._sessions:
            task.cancel()
        if self._sessions:
            await asyncio.wait(list(self._sessions))

    async def send(self, message: UserMessage) -> str:
        client = self._clients.get(message.to_addr or "")
        if client is None:
            await self._show_unknown(message)
            raise Rejected("Unknown address.")
        try:
            await client.write(format_text(message.content))
        except OSError:
            raise Rejected("Unknown address.") from None  # it went away while we wrote
        if message.session_event == "close":
            client.writer.close()
        return message.message_id

    async def _show_unknown(self, message: UserMessage) -> None:
        text = f"UNKNOWN ADDR [{message.to_addr}]: {message.content or ''}"
        for client in list(self._clients.values()):
            try:
                await client.write(format_text(text))
            except OSError:
                continue  # that one is leaving, too

    # --- one client ---------------------------------------------------------------------------------------------------

    def _protocol(self, over: Callable[[], None]) -> asyncio.Protocol:
        reader = asyncio.StreamReader(READ_SIZE)
        return asyncio.StreamReaderProtocol(reader, lambda reader, writer: self._on_connection(reader, writer, over))

    async def _on_connection(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, over: Callable[[], None]
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._sessions.add(task)
        task.add_done_callback(self._sessions.discard)
        task.add_done_callback(lambda _: over())
        try:
            client = Client(reader, writer)
        except TypeError:
            return writer.close()  # it left before it was seen: there is no peer name
        try:
            if await self.introduce(client):
                await self._session(client)
        except (OSError, asyncio.CancelledError):
            pass  # it went away: that is what a session ends with; or stop() ends us, and `_session` has told of it
        finally:
            await client.close()

    async def introduce(self, client: Client) -> bool:
        """Settle the client's addresses before its session begins; False when it left."""
        client.to_addr = self._to_addr
        return True

    async def _session(self, client: Client) -> None:
        self._clients[client.from_addr] = client
        try:
            await self._inbound(client, None, "new")
            while (line := await client.read_line_within(self._idle_timeout)) is not None:
                if line.strip().lower() == "/quit":
                    break
                await self._inbound(client, line, "resume")
        finally:
            if self._clients.get(client.from_addr) is client:
                del self._clients[client.from_addr]
            await self._inbound(client, None, "close")

    async def _inbound(self, client: Client, content: str | None, session_event: SessionEvent) -> None:
        await self.context.inbound(
            to_addr=client.to_addr, from_addr=client.from_addr, content=content, session_event=session_event,
            transport_type=self._transport_type, helper_metadata={"session_event": session_event},
        )


def _problem(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return str(error.strerror).lower()
    return os.strerror(error.errno).lower() if error.errno else str(error)  # asyncio's own text repeats the address
