"""Endpoint of a channel's logs (spec 1.7.1, "Logs"): the newest entries of the file that its process writes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from junebug.api.http import channel_id, reply
from junebug.config.declaration import Settings
from junebug.errors import ApiUsageError
from junebug.logs import tail
from junebug.logs.redaction import UNMASKED, Redactor
from junebug.logs.writer import GATHER
from junebug.model.spec import ChannelSpec
from junebug.registry import Registry
from junebug.stores import Stores


@dataclass(frozen=True)
class Logs:
    """The handler, and what it needs."""

    settings: Settings
    stores: Stores
    registry: Registry

    async def get(self, request: web.Request) -> web.Response:
        channel = channel_id(request)
        count = parse_count(request.query.get("n"), self.settings.max_logs)
        spec = await self.stores.channels.get(channel)
        message_id = request.query.get("message_id")
        await asyncio.sleep(2 * GATHER)  # what the channel has logged until now is in its file then
        return reply(200, "logs retrieved", await asyncio.to_thread(self._read, spec, count, message_id))

    def _read(self, spec: ChannelSpec, count: int, message_id: str | None) -> list[dict[str, Any]]:
        entries = tail.tail(self.settings.logging_path, spec.id, count, message_id)
        redactor = Redactor(self.registry.secret_values(spec, self.settings))
        shown = self.registry.show_log(spec.type, spec.config, entries)
        return [
            {name: value if name in UNMASKED else redactor.value(value) for name, value in entry.items()} for entry in shown
        ]


def parse_count(text: str | None, most: int) -> int:
    """How many entries `n` asks for, `most` of them at the most. Raises ApiUsageError."""
    if text is None:
        return most
    if not (text.isascii() and text.isdecimal()):
        raise ApiUsageError(f"n: expected a whole number that is not negative, got {text[:50]!r}")
    return most if len(text) > 9 else min(int(text), most)
