"""PagerTransport: lines of JSON over TCP, both ways.

    us      {"login": PASSWORD}                      pager   {"welcome": true}
    us      {"id": ID, "to": WHO, "text": TEXT}      pager   {"accepted": ID} or {"refused": ID, "why": REASON}
                                                     pager   {"from": WHO, "text": TEXT}
"""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import Any

from junebug.errors import Rejected, UnknownOutcome
from junebug.model.messages import UserMessage
from junebug.runtime.tls import reason_of
from junebug.transports.base import Transport, TransportContext
from junebug.transports.in_order import InOrder
from junebug.transports.kept_link import KeptLink, LinkDown

LONGEST_LINE = 64 * 1024
LONGEST_TEXT = 1000
COMPONENT = "pager"


class PagerTransport(Transport):
    def __init__(self, context: TransportContext) -> None:
        super().__init__(context)
        self._host, self._port = self.config["host"], self.config.get("port", 4444)
        self._timeout = self.config.get("timeout", 10)
        self._link = KeptLink(context, COMPONENT, f"{self._host}:{self._port}", self._connection)
        self._writer: asyncio.StreamWriter | None = None
        self._answers: dict[str, asyncio.Future[str | None]] = {}
        """Id of a message -> why it was refused, or None."""
        self._room = asyncio.Event()
        self._room.set()
        self._found = InOrder(context, lambda full: self._room.clear() if full else self._room.set())

    async def start(self) -> None:
        self._found.start()
        self._link.start()

    async def stop(self) -> None:
        await self._link.stop(asyncio.sleep(0))
        await self._found.stop()

    async def ready(self) -> None:
        await self._link.ready()

    async def send(self, message: UserMessage) -> str:
        if not self._link.is_up or not self._writer:
            raise self._link.not_up()
        if not message.to_addr or not message.content:
            raise Rejected("to and content are needed")
        if len(message.content) > LONGEST_TEXT:
            raise Rejected(f"content: a page has at most {LONGEST_TEXT} characters")
        id = message.message_id
        answer = self._answers[id] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(self._timeout):
                await self._write({"id": id, "to": message.to_addr, "text": message.content})
                refusal = await answer
        except (TimeoutError, LinkDown) as error:
            raise UnknownOutcome(str(error) or "no answer") from None
        finally:
            self._answers.pop(id, None)
        if refusal is not None:
            raise Rejected(refusal)
        return id

    async def _connection(self) -> None:
        """One, from its first octet to its last. Raises LinkDown."""
        writer = None
        try:
            async with asyncio.timeout(self._timeout):
                reader, writer = await asyncio.open_connection(self._host, self._port, limit=LONGEST_LINE)
                self._writer = writer
                await self._write({"login": self.config["password"]})
                if not (await self._read(reader)).get("welcome"):
                    raise LinkDown("auth_failed", "The pager does not let us in")
            await self._link.came_up(f"Connected to {self._host}:{self._port}")
            while True:
                await self._room.wait()
                self._deal(await self._read(reader))
        except TimeoutError:
            raise LinkDown("connect_failed", f"No welcome within {self._timeout:g} seconds") from None
        except OSError as error:
            raise LinkDown("connection_lost", reason_of(error)) from None
        finally:
            if writer:
                writer.transport.abort()
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(LinkDown("connection_lost", "the connection was lost"))

    async def _write(self, line: dict[str, Any]) -> None:
        assert self._writer
        try:
            self._writer.write(json.dumps(line).encode() + b"\n")
            await self._writer.drain()
        except (OSError, RuntimeError) as error:
            raise LinkDown("connection_lost", str(error)) from None

    async def _read(self, reader: asyncio.StreamReader) -> dict[str, Any]:
        """The next line, whatever it says; empty where that makes no sense."""
        try:
            line = await reader.readline()
        except ValueError:
            raise LinkDown("connection_lost", f"The pager sent a line of more than {LONGEST_LINE} octets") from None
        if not line.endswith(b"\n"):
            raise LinkDown("connection_lost", "The pager closed the connection")
        try:
            said = json.loads(line)
        except (ValueError, RecursionError):
            return {}
        return said if isinstance(said, dict) else {}

    def _deal(self, said: dict[str, Any]) -> None:
        id = said.get("accepted", said.get("refused"))
        answer = self._answers.get(id) if isinstance(id, str) else None
        if answer and not answer.done():
            answer.set_result(str(said.get("why", "refused")) if "refused" in said else None)
        sender, text = said.get("from"), said.get("text")
        if isinstance(sender, str) and isinstance(text, str):
            self._found.put(partial(self.context.inbound, to_addr=None, from_addr=sender, content=text))
