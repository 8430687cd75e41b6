"""Endpoints of logs, of channels (spec 1.7.1, "Logs"), routers and destinations: the newest entries of the file that the
process writes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from junebug import names
from junebug.api.http import channel_id, destination_id, reply, router_id
from junebug.api.other_hosts import OtherHosts
from junebug.config.declaration import Settings
from junebug.errors import ApiUsageError
from junebug.logs import questions
from junebug.logs.redaction import UNMASKED, Redactor
from junebug.logs.writer import GATHER
from junebug.model.routing import RouterSpec
from junebug.registry import Registry
from junebug.router_types import RouterTypes
from junebug.stores import Stores

Show = Callable[[list[dict[str, Any]]], list[dict[str, Any]]]


@dataclass(frozen=True)
class Logs:
    """The handlers, and what they need."""

    settings: Settings
    stores: Stores
    registry: Registry
    types: RouterTypes
    others: OtherHosts

    async def get(self, request: web.Request) -> web.Response:
        channel, count = channel_id(request), self._count(request)
        spec = await self.stores.channels.get(channel)
        secrets = self.registry.secret_values(spec, self.settings)

        def show(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
            return self.registry.show_log(spec.type, spec.config, entries)

        return await self._reply(request, channel, count, secrets, show, units=names.units(channel, spec.shards))

    async def of_router(self, request: web.Request) -> web.Response:
        router, count = router_id(request), self._count(request)
        spec = await self.stores.routers.get(router)
        return await self._reply(request, router, count, await self._secrets(spec))

    async def of_destination(self, request: web.Request) -> web.Response:
        """What its router has logged of it."""
        router, count = router_id(request), self._count(request)
        spec, destination = await self.stores.routers.with_destination(router, destination_id(request))
        return await self._reply(request, router, count, await self._secrets(spec), destination=destination.id)

    def _count(self, request: web.Request) -> int:
        return parse_count(request.query.get("n"), self.settings.max_logs)

    async def _secrets(self, spec: RouterSpec) -> list[str]:
        destinations = await self.stores.routers.destinations(spec.id)
        return self.types.secret_values(spec, destinations.values(), self.settings)

    async def _reply(
        self, request: web.Request, id: str, count: int, secrets: list[str], show: Show = list, destination: str | None = None,
        units: Sequence[str] = (),
    ) -> web.Response:  # fmt: skip
        message_id = request.query.get("message_id")
        await asyncio.sleep(2 * GATHER)  # what the process has logged until now is in its file then
        about = {"count": count, "message_id": message_id, "destination_id": destination}
        told = await self.others.ask(units or (id,), questions.TAIL, 0.0, log=id, **about)
        path = Path(self.settings.logging_path)

        def read() -> list[dict[str, Any]]:
            redactor = Redactor(secrets)
            here = questions.newest(path, id, count, message_id, destination)
            entries = questions.merged_entries([here, *(answer["entries"] for answer in told.answers)], count)
            return [
                {name: value if name in UNMASKED else redactor.value(value) for name, value in entry.items()}
                for entry in show(entries)
            ]

        description = "; ".join(("logs retrieved", *told.missing))
        return reply(200, description, await asyncio.to_thread(read))


def parse_count(text: str | None, most: int) -> int:
    """How many entries `n` asks for, `most` of them at the most. Raises ApiUsageError."""
    if text is None:
        return most
    if not (text.isascii() and text.isdecimal()):
        raise ApiUsageError(f"n: expected a whole number that is not negative, got {text[:50]!r}")
    return most if len(text) > 9 else min(int(text), most)
