"""Endpoints of a message's life, of channels, routers and destinations; and of the search for messages.

Neighbours: api/life/reader.py gathers a life, api/life/search.py searches.
"""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from junebug.api.access import CALLER, access
from junebug.api.http import channel_id, destination_id, long_work, reply, router_id
from junebug.api.life.place import Place
from junebug.api.life.reader import LifeReader
from junebug.api.life.search import MessageSearch, read_query
from junebug.api.spec_cache import SpecCache
from junebug.errors import ChannelNotFound, NoSuchMessage, RouterNotFound
from junebug.model.access import READ, SEND
from junebug.model.routing import RouterSpec
from junebug.router_types import RouterTypes
from junebug.stores import Stores


@dataclass(frozen=True)
class Timeline:
    """The handlers, and what they need."""

    stores: Stores
    types: RouterTypes
    specs: SpecCache
    reader: LifeReader
    search: MessageSearch

    @access(READ, SEND)
    @long_work
    async def of_channel(self, request: web.Request) -> web.Response:
        spec = await self.specs.fetch(channel_id(request))
        router = None
        if spec.router:
            try:
                router = await self.stores.routers.get(spec.router)
            except RouterNotFound:
                pass  # it is being deleted
        return await self._reply(request, await self._place(spec.id, router))

    @access(READ, SEND)
    @long_work
    async def of_router(self, request: web.Request) -> web.Response:
        router = await self.stores.routers.get(router_id(request))
        return await self._routed(request, router, "")

    @access(READ, SEND)
    @long_work
    async def of_destination(self, request: web.Request) -> web.Response:
        router, destination = await self.stores.routers.with_destination(router_id(request), destination_id(request))
        return await self._routed(request, router, destination.id)

    async def _routed(self, request: web.Request, router: RouterSpec, destination: str) -> web.Response:
        """What was sent through the router is with the channel that took it, what came in with its own."""
        taker, _ = await self.stores.outbound.taker(router.id, request.match_info["message_id"])
        own = self.types.own_channel(router)
        channel = taker or own
        if channel:
            try:
                return await self._reply(request, await self._place(channel, router, destination, taker is not None))
            except ChannelNotFound:
                pass  # deleted since
        raise NoSuchMessage(f"No message with id {request.match_info['message_id'][:100]!r} is known of router {router.id}")

    async def _place(self, channel: str, router: RouterSpec | None, destination: str = "", has_sent: bool | None = None) -> Place:
        destinations = await self.stores.routers.destinations(router.id) if router else {}
        return Place(await self.specs.fetch(channel), router, destinations, destination, has_sent)

    async def _reply(self, request: web.Request, place: Place) -> web.Response:
        return reply(200, "message timeline", await self.reader.read(place, request.match_info["message_id"]))

    @access(READ, SEND, filters=True)
    @long_work
    async def find(self, request: web.Request) -> web.Response:
        query = read_query(request.query)
        visible = request[CALLER].sees(await self.stores.channels.ids())
        return reply(200, "messages found", await self.search.find(query, visible))

