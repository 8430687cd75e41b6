"""Whose dead letters a URL names: a channel's, a router's, or a destination's. Neighbour: handlers/dead_letters.py, for all."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from junebug.api.channel_queues import ChannelQueues
from junebug.api.handlers.dead_letters import Shelf
from junebug.api.http import channel_id, destination_id, router_id
from junebug.api.spec_cache import SpecCache
from junebug.config.declaration import Settings
from junebug.model.routing import RouterSpec
from junebug.router_types import RouterTypes
from junebug.stores import Stores


@dataclass(frozen=True)
class Shelves:
    settings: Settings
    stores: Stores
    types: RouterTypes
    specs: SpecCache
    queues: ChannelQueues

    async def of_channel(self, request: web.Request) -> Shelf:
        """Raises ChannelNotFound."""
        spec = await self.specs.fetch(channel_id(request))
        secrets = spec.callback_secret, spec.mo_url_auth_token
        return Shelf(spec.id, self.queues.call_again, secrets, self.queues.prefers_quorum(spec))

    async def of_router(self, request: web.Request) -> Shelf:
        """Raises RouterNotFound."""
        return await self._shelf(await self.stores.routers.get(router_id(request)))

    async def of_destination(self, request: web.Request) -> Shelf:
        """Raises RouterNotFound, DestinationNotFound."""
        spec, destination = await self.stores.routers.with_destination(router_id(request), destination_id(request))
        return await self._shelf(spec, destination.id)

    async def _shelf(self, spec: RouterSpec, destination: str = "") -> Shelf:
        destinations = (await self.stores.routers.destinations(spec.id)).values()
        secrets = self.types.secret_values(spec, destinations, self.settings)
        publish, is_quorum = self.queues.call_again_of_router, self.queues.prefers_quorum(None)
        return Shelf(spec.id, publish, secrets, is_quorum, is_routed=True, destination=destination)
