"""A client of Server-Sent Events: what a browser's EventSource does, of one connection."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import aiohttp
import orjson

DEADLINE = 15.0


@dataclasses.dataclass
class Event:
    id: str = ""
    kind: str = ""
    data: Any = None


class Client:
    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.last_id = ""
        self.comments = 0
        self.retry = ""

    async def next(self) -> Event | None:
        """The next event; None: the stream is over."""
        event = Event()
        async with asyncio.timeout(DEADLINE):
            while line := await self.response.content.readline():
                text = line.decode().rstrip("\n")
                name, _, value = text.partition(": ")
                match name:
                    case "id":
                        self.last_id = event.id = value
                    case "event":
                        event.kind = value
                    case "data":
                        event.data = orjson.loads(value)
                    case "retry":
                        self.retry = value
                    case "":
                        if event.data is not None:
                            return event
                        self.comments += not event.id
                        event = Event()
                    case _:
                        assert text.startswith(":"), text
                        self.comments += 1
        return None

    async def some(self, count: int) -> list[Event]:
        found = [await self.next() for _ in range(count)]
        assert None not in found, found
        return [event for event in found if event]
