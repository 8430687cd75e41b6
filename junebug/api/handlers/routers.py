"""Endpoints of routers: list, create, read, change, delete, restart (COMPAT §7).

What they write is a wanted state in Redis, as channels.py does it; the supervisor acts on it. Neighbours: destinations.py has
the applications behind a router, routed_messages.py what they send.
"""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass

import structlog
from aiohttp import web

from junebug import names
from junebug.amqp.rpc import RpcClient
from junebug.api import audit, routing_schemas, routing_views
from junebug.api.access import CALLER, access
from junebug.api.channel_queues import ChannelQueues
from junebug.api.http import long_work, read_json, reply, router_id
from junebug.api.properties import is_same
from junebug.api.restarts import ended
from junebug.api.spec_cache import SpecCache, until_unchanged
from junebug.errors import (
    ApiUsageError,
    ChannelNotFound,
    InvalidRouterConfig,
    NotAllowed,
    RouterChanged,
    StoreUnavailable,
)
from junebug.model.access import READ
from junebug.model.routing import RouterSpec
from junebug.router_types import RouterTypes
from junebug.stores import Stores

log = structlog.stdlib.get_logger("api")


@dataclass(frozen=True)
class Routers:
    """The handlers, and what they need."""

    stores: Stores
    types: RouterTypes
    specs: SpecCache
    queues: ChannelQueues
    asking: RpcClient

    @access(READ, filters=True)
    async def list(self, request: web.Request) -> web.Response:
        return reply(200, "routers retrieved", request[CALLER].sees(await self.stores.routers.ids()))

    async def create(self, request: web.Request) -> web.Response:
        body = routing_schemas.router.check(read_json(request))
        spec = routing_views.new_router(str(uuid.uuid4()), body, self.types)
        channel = self.types.own_channel(spec)
        seen = await self._check_channels(spec)
        await self.queues.declare_router(spec.id)

        async def attempt() -> None:
            nonlocal seen
            try:
                await self.stores.routers.create(spec, channel, seen)
            except RouterChanged:  # somebody changed the channel meanwhile
                seen = await self._check_channels(spec)
                raise

        try:
            await until_unchanged(attempt, RouterChanged)
        except (StoreUnavailable, InvalidRouterConfig, RouterChanged):
            self.queues.remove_new_router(spec.id)
            raise
        self._changed(channel)
        log.info("router created", router_id=spec.id, type=spec.type)
        shown = routing_views.router_json(spec, self.types, routing_views.NEW_ROUTER_STATUS)
        audit.tell(request, router_id=spec.id, changes=audit.changes({}, spec.to_properties(), {}, shown))
        return reply(201, "router created", shown)

    async def get(self, request: web.Request) -> web.Response:
        return await self._show(await self.stores.routers.get(router_id(request)), "router found")

    @long_work
    async def replace(self, request: web.Request) -> web.Response:
        return await self._update(request, replaces=True)

    @long_work
    async def update(self, request: web.Request) -> web.Response:
        return await self._update(request, replaces=False)

    async def _update(self, request: web.Request, *, replaces: bool) -> web.Response:
        kind = routing_schemas.router if replaces else routing_schemas.router_update
        body, router = kind.check(read_json(request)), router_id(request)

        async def attempt() -> tuple[RouterSpec, RouterSpec]:
            old = await self.stores.routers.get(router)
            new = routing_views.changed_router(old, body, self.types, replaces=replaces)
            if is_same(old.to_properties(), new.to_properties()):
                return old, old
            restart = routing_views.needs_restart(old, new)
            if old.type != new.type and await self.stores.routers.destination_ids(router):
                raise ApiUsageError(f"type: router {router} has destinations after its type {old.type}; delete them first")
            added = [*{*self.types.channels_of(new)} - {*self.types.channels_of(old)}]
            if len(request[CALLER].sees(added)) < len(added):
                raise NotAllowed("config: this API token is for other channels only")
            seen = await self._check_channels(new, old) if restart else ""
            before, channel = self.types.own_channel(old), self.types.own_channel(new)
            stored = await self.stores.routers.update(
                old, new, restart=restart, before=before, channel=channel, seen=seen
            )
            self._changed(before, channel)
            return old, stored

        old, spec = await until_unchanged(attempt, RouterChanged)
        if spec is not old:
            restart = routing_views.needs_restart(old, spec)
            log.info("router updated", router_id=router, restart=restart, properties=sorted(body))
            shown = [routing_views.router_json(each, self.types, {}) for each in (old, spec)]
            audit.tell(request, changes=audit.changes(old.to_properties(), spec.to_properties(), *shown))
            if restart:
                await ended(self.asking, router, spec.generation)
        return await self._show(spec, "router updated")

    @long_work
    async def delete(self, request: web.Request) -> web.Response:
        """Answered when its process takes no more of what is the channel's again."""
        router = router_id(request)
        channel = self.types.own_channel(await self.stores.routers.get(router))
        await self.stores.routers.delete(router, channel)
        self._changed(channel)
        log.info("router deleted", router_id=router)
        await ended(self.asking, router)
        return reply(200, "router deleted", {})

    @long_work
    async def restart(self, request: web.Request) -> web.Response:
        router = router_id(request)
        await self.stores.routers.get(router)  # a channel has a generation, too
        generation = await self.stores.routers.request_restart(router)
        log.info("router restart requested", router_id=router)
        await ended(self.asking, router, generation)
        return reply(200, "router restarted", {})

    def _changed(self, *channels: str | None) -> None:
        """Whose these channels are."""
        for channel in filter(None, channels):
            self.specs.drop(channel)

    async def _check_channels(self, new: RouterSpec, old: RouterSpec | None = None) -> str:
        """Whether it can work with those that its config names; the properties of one that is to be its own. Raises
        InvalidRouterConfig.
        """
        own, wanted = self.types.own_channel(new), self.types.channels_of(new)
        if own is None:
            existing = {*await self.stores.channels.existing(filter(names.is_channel_id, wanted))}
            missing = [(index, each) for index, each in enumerate(wanted) if each not in existing]
            if missing:
                raise InvalidRouterConfig([(f"config.channels.{n}.channel", _no_channel(each)) for n, each in missing])
            return ""
        if old and own == self.types.own_channel(old):
            return ""
        try:
            channel = await self.stores.channels.get(own) if names.is_channel_id(own) else None
        except ChannelNotFound:
            channel = None
        if channel is None:
            raise InvalidRouterConfig([("config.channel", _no_channel(own))])
        if channel.has_destination:
            raise InvalidRouterConfig([("config.channel", f"Channel {own} already has a destination specified")])
        return channel.stored

    async def _show(self, spec: RouterSpec, description: str) -> web.Response:
        components, rates, counts = await asyncio.gather(
            self.stores.statuses.components(spec.id), self.stores.rates.rates(spec.id), self.queues.router_counts(spec.id)
        )
        status = routing_views.router_status_json(components, rates, counts)
        return reply(200, description, routing_views.router_json(spec, self.types, status))


def _no_channel(channel: str) -> str:
    return f"Channel {channel[:100]} does not exist"
