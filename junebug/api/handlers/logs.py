"""Endpoint of a channel's logs (spec 1.7.1, "Logs"): the newest entries of the file that its process writes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from aiohttp import web

from junebug.api.http import channel_id, reply
from junebug.config.declaration import Settings
from junebug.errors import ApiUsageError
from junebug.logs import tail
from junebug.stores import Stores


@dataclass(frozen=True)
class Logs:
    """The handler, and what it needs."""

    settings: Settings
    stores: Stores

    async def get(self, request: web.Request) -> web.Response:
        channel = channel_id(request)
        count = parse_count(request.query.get("n"), self.settings.max_logs)
        await self.stores.channels.get(channel)
        message_id = request.query.get("message_id")
        entries = await asyncio.to_thread(tail.tail, self.settings.logging_path, channel, count, message_id)
        return reply(200, "logs retrieved", entries)


def parse_count(text: str | None, most: int) -> int:
    """How many entries `n` asks for, `most` of them at the most. Raises ApiUsageError."""
    if text is None:
        return most
    if not (text.isascii() and text.isdecimal()):
        raise ApiUsageError(f"n: expected a whole number that is not negative, got {text[:50]!r}")
    return most if len(text) > 9 else min(int(text), most)
