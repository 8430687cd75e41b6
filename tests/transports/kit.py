"""What a channel type adds to be put through the table of table.py, and who is met there.

    Provider     the type's other side, as a test: what it is configured with, who speaks there, how it goes and comes back
    Bench        one Provider, and channels that lead to it
    Rogue        a server that means no good

An author writes one Provider (thirty lines, mostly) and adds it to PROVIDERS in test_every_type.py. docs/channel-types.md tells
how.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from typing import Any, ClassVar, Self

from junebug.errors import Rejected
from junebug.registry import ChannelType
from junebug.stores.transport import TransportStore
from tests.transports.running import Running, message_to

QUICKLY = 10.0
"""Seconds that no case's step may take, where the type has nothing to wait for."""


class Provider:
    """The other side of a channel. `async with` it: it is there inside. `config()` leads to it, with short pauses."""

    channel_type: ClassVar[ChannelType]
    wrong: ClassVar[dict[str, Any]] = {}
    """Option -> a value that the schema or `check` has to refuse, beside those of a wrong type, which the table tries."""
    is_up: ClassVar[tuple[str, str]]
    """Component and type of the status that says it works."""
    largest: ClassVar[int | None] = None
    """Characters that a text may have; a fiftieth more is rejected. None: there is no limit."""
    connects: ClassVar[bool] = True
    """The channel connects to it; False: the channel listens for it, or has none."""
    greeting: ClassVar[bytes] = b""
    """What a rogue server begins with, so that the channel goes on listening to it."""
    endless: ClassVar[tuple[bytes, bytes]] = (b"", b"x" * 65_536)
    """How something begins, and goes on, that has no end (behind the greeting)."""
    hostile: ClassVar[tuple[bytes, ...]] = ()
    """What it should never say, beside what every type is told."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    def config(self) -> dict[str, Any]:
        raise NotImplementedError

    def config_at(self, port: int, patience: float = 0.2) -> dict[str, Any]:
        """Leads to a rogue there (where the channel connects), who is given up when he says nothing of sense for so long."""
        return {**self.config(), "port": port}

    def refused(self) -> dict[str, Any] | None:
        """A config whose secret is wrong; None: there is none."""
        return None

    async def meet(self, running: Running) -> None:
        """The channel has started: somebody is there whom it can be told to write to."""
        await running.status(*self.is_up)

    async def part(self) -> None:
        """It is about to stop."""

    @property
    def person(self) -> str:
        """The address of that somebody."""
        raise NotImplementedError

    async def asked(self, running: Running) -> dict[str, Any]:
        """Where a message can only be a reply: somebody asks. Fields that the message needs then."""
        return {}

    async def say(self, text: str, running: Running) -> None:
        """Somebody writes to the channel."""
        raise NotImplementedError

    async def hears(self, text: str, running: Running) -> None:
        """Return when somebody has got this."""
        raise NotImplementedError

    async def go(self) -> None:
        """It is away now; where the channel connects."""
        raise NotImplementedError

    async def come_back(self) -> None:
        raise NotImplementedError

    async def attack(self, octets: Iterable[bytes], running: Running) -> None:
        """Somebody says these to a channel that listens."""
        raise NotImplementedError


class Bench:
    """One Provider, and what a channel of its type keeps."""

    def __init__(self, provider: Provider, store: TransportStore) -> None:
        self.provider, self.store = provider, store
        self.told: list[str] = []
        """Everything that channels said of themselves."""

    def channel(self, config: dict[str, Any] | None = None) -> Running:
        return Running(self.provider.channel_type, self.provider.config() if config is None else config, self.store)

    async def met(self, running: Running) -> None:
        async with asyncio.timeout(QUICKLY):
            await self.provider.meet(running)

    async def send(self, running: Running, text: str) -> None:
        await running.send(self.provider.person, text, **await self.provider.asked(running))

    async def works(self, running: Running, text: str) -> None:
        """Both ways."""
        async with asyncio.timeout(QUICKLY):
            await self.send(running, text)
            await self.provider.hears(text, running)
            await self.provider.say(f"{text}, too", running)
            await running.heard(f"{text}, too")

    async def outcome(self, running: Running, to: str | None, content: str | None) -> str:
        """`accepted`, or why it was rejected: there is no third."""
        try:
            async with asyncio.timeout(QUICKLY):
                fields = await self.provider.asked(running)
                await running.transport.ready()
                await running.transport.send(message_to(to, content, **fields))
        except Rejected as error:
            return error.reason
        return "accepted"

    def note(self, running: Running) -> None:
        self.told += [repr(each) for each in (*running.statuses, *running.events, *running.inbound)]


class Rogue:
    """A server that says `greeting`, then these octets, then nothing; or `closes`."""

    def __init__(self, octets: Iterable[bytes] = (), *, greeting: bytes = b"", closes: bool = False) -> None:
        self._octets, self._greeting, self._closes = octets, greeting, closes
        self.met = 0
        self.sent = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._client, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        self.met += 1
        try:
            writer.write(self._greeting)
            for each in self._octets if self.met == 1 else ():  # one flood is enough
                writer.write(each)
                self.sent += len(each)
                await writer.drain()
                await asyncio.sleep(0)
            while not self._closes and await reader.read(65_536):
                pass
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            self._tasks.discard(task)


def attacks(provider: Provider) -> dict[str, list[bytes]]:
    """Name -> what is said."""
    noise = os.urandom(65_536)
    common = {
        "zeros": [bytes(65_536)] * 4,
        "noise": [noise] * 4,
        "all octets": [bytes(range(256)) * 16, b"\r\n"],
        "lines without an end": [b"a" * 65_536] * 16,
        "many lines": [b"a\r\n" * 20_000] * 4,
        "http": [b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}"],
    }
    return common | {f"hostile {number}": [each] for number, each in enumerate(provider.hostile)}
