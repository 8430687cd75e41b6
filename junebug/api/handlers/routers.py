"""Endpoints of routers and their destinations: list, create, read, replace, change, delete, restart (COMPAT §7).

What they write is a wanted state in Redis, on which the supervisor acts. A destination's change is in force when it is answered:
the router's process is told, and says when it has read it.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from aiohttp import web

from junebug import names
from junebug.amqp.rpc import RpcClient
from junebug.api import routing_schemas, routing_views
from junebug.api.channel_queues import ChannelQueues, check_amqp_queue
from junebug.api.http import destination_id, long_work, read_json, reply, router_id
from junebug.api.restarts import ended
from junebug.api.spec_cache import SpecCache, until_unchanged
from junebug.errors import (
    ChannelNotFound,
    InvalidRouterConfig,
    JunebugError,
    NotRunning,
    RouterChanged,
    StoreUnavailable,
)
from junebug.model.routing import DestinationSpec, RouterSpec
from junebug.router_types import RouterTypes
from junebug.stores import Stores

log = structlog.stdlib.get_logger("api")

REFRESH_PATIENCE = 5.0
"""Seconds for which the router's process is waited for to take a destination's change."""


@dataclass(frozen=True)
class Routers:
    """The handlers, and what they need."""

    stores: Stores
    types: RouterTypes
    specs: SpecCache
    queues: ChannelQueues
    asking: RpcClient

    async def list(self, request: web.Request) -> web.Response:
        return reply(200, "routers retrieved", await self.stores.routers.ids())

    async def create(self, request: web.Request) -> web.Response:
        body = routing_schemas.router.check(read_json(request))
        spec = routing_views.new_router(str(uuid.uuid4()), body, self.types)
        await self._check_channels(spec)
        await self.queues.declare_router(spec.id)
        try:
            await self.stores.routers.create(spec, self.types.own_channel(spec))
        except (StoreUnavailable, InvalidRouterConfig):
            self.queues.remove_later(spec.id, names.router_queues(spec.id))
            raise
        self._drop_channels(spec)
        log.info("router created", router_id=spec.id, type=spec.type)
        return reply(201, "router created", routing_views.router_json(spec, self.types, routing_views.NEW_ROUTER_STATUS))

    async def get(self, request: web.Request) -> web.Response:
        return await self._show(await self.stores.routers.get(router_id(request)), "router found")

    @long_work
    async def replace(self, request: web.Request) -> web.Response:
        return await self._change(request, routing_schemas.router.check(read_json(request)), replaces=True)

    @long_work
    async def update(self, request: web.Request) -> web.Response:
        return await self._change(request, routing_schemas.router_update.check(read_json(request)), replaces=False)

    async def _change(self, request: web.Request, body: Mapping[str, Any], *, replaces: bool) -> web.Response:
        router, store = router_id(request), self.stores.routers

        async def attempt() -> tuple[RouterSpec, RouterSpec]:
            old = await store.get(router)
            new = routing_views.changed_router(old, body, self.types, replaces=replaces)
            restart = routing_views.needs_restart(old, new)
            if new.to_properties() == old.to_properties() and not restart:
                return old, old
            if restart:
                await self._check_channels(new)
            before, channel = self.types.own_channel(old), self.types.own_channel(new)
            return old, await store.update(old, new, restart=restart, before=before, channel=channel)

        old, spec = await until_unchanged(attempt, RouterChanged)
        if spec is not old:
            restart = routing_views.needs_restart(old, spec)
            log.info("router updated", router_id=router, restart=restart, properties=sorted(body))
            for each in (old, spec):
                self._drop_channels(each)
            if restart:
                await ended(self.asking, router, spec.generation)
        return await self._show(spec, "router updated")

    async def delete(self, request: web.Request) -> web.Response:
        spec = await self.stores.routers.get(router_id(request))
        await self.stores.routers.delete(spec.id)
        await self.stores.routers.release(spec.id, self.types.own_channel(spec))
        self._drop_channels(spec)
        log.info("router deleted", router_id=spec.id)
        return reply(200, "router deleted", {})

    @long_work
    async def restart(self, request: web.Request) -> web.Response:
        router = router_id(request)
        generation = await self.stores.routers.request_restart(router)
        log.info("router restart requested", router_id=router)
        await ended(self.asking, router, generation)
        return reply(200, "router restarted", {})

    async def _check_channels(self, spec: RouterSpec) -> None:
        """Raises InvalidRouterConfig when a channel that it names is not there, or has an application of its own."""
        own = self.types.own_channel(spec)
        for number, channel in enumerate(self.types.channels_of(spec)):
            field = "config.channel" if own else f"config.channels.{number}.channel"
            try:
                found = await self.stores.channels.get(channel)
            except ChannelNotFound:
                raise InvalidRouterConfig([(field, f"Channel {channel} does not exist")]) from None
            if own and found.has_destination:
                raise InvalidRouterConfig([(field, f"Channel {channel} already has a destination specified")])

    def _drop_channels(self, spec: RouterSpec) -> None:
        for channel in self.types.channels_of(spec):
            self.specs.drop(channel)

    async def _show(self, spec: RouterSpec, description: str) -> web.Response:
        components, rates, counts = await asyncio.gather(
            self.stores.statuses.components(spec.id), self.stores.rates.rates(spec.id), self.queues.router_counts(spec.id)
        )
        status = routing_views.router_status_json(components, rates, counts)
        return reply(200, description, routing_views.router_json(spec, self.types, status))


@dataclass(frozen=True)
class Destinations:
    """Those of destinations."""

    stores: Stores
    types: RouterTypes
    asking: RpcClient

    async def list(self, request: web.Request) -> web.Response:
        return reply(200, "destinations retrieved", await self.stores.routers.destination_ids(router_id(request)))

    @long_work
    async def create(self, request: web.Request) -> web.Response:
        body = routing_schemas.destination.check(read_json(request))
        router = await self.stores.routers.get(router_id(request))
        await check_amqp_queue(self.stores, body)
        spec = routing_views.new_destination(str(uuid.uuid4()), body, router, self.types)
        words = routing_views.exclusive_words(router, spec, self.types)
        await self.stores.routers.put_destination(router.id, None, spec, words)
        await self._refreshed(router.id, spec.id)
        log.info("destination created", router_id=router.id, destination_id=spec.id)
        return reply(201, "destination created", routing_views.destination_json(spec, router, self.types, {}))

    async def get(self, request: web.Request) -> web.Response:
        router, spec = await self._find(request)
        return await self._show(router, spec, "destination found")

    @long_work
    async def replace(self, request: web.Request) -> web.Response:
        return await self._change(request, routing_schemas.destination.check(read_json(request)), replaces=True)

    @long_work
    async def update(self, request: web.Request) -> web.Response:
        return await self._change(request, routing_schemas.destination_update.check(read_json(request)), replaces=False)

    async def _change(self, request: web.Request, body: Mapping[str, Any], *, replaces: bool) -> web.Response:
        await check_amqp_queue(self.stores, body)

        async def attempt() -> tuple[RouterSpec, DestinationSpec, bool]:
            router, old = await self._find(request)
            new = routing_views.changed_destination(old, body, router, self.types, replaces=replaces)
            if new.to_properties() == old.to_properties():
                return router, old, False
            words, former = (routing_views.exclusive_words(router, each, self.types) for each in (new, old))
            await self.stores.routers.put_destination(router.id, old, new, words, former)
            return router, new, True

        router, spec, is_changed = await until_unchanged(attempt, RouterChanged)
        if is_changed:
            await self._refreshed(router.id, spec.id)
            log.info("destination updated", router_id=router.id, destination_id=spec.id, properties=sorted(body))
        return await self._show(router, spec, "destination updated")

    @long_work
    async def delete(self, request: web.Request) -> web.Response:
        async def attempt() -> tuple[str, str]:
            router, old = await self._find(request)
            words = routing_views.exclusive_words(router, old, self.types)
            await self.stores.routers.delete_destination(router.id, old, words)
            return router.id, old.id

        router, destination = await until_unchanged(attempt, RouterChanged)
        await self._refreshed(router, destination)
        log.info("destination deleted", router_id=router, destination_id=destination)
        return reply(200, "destination deleted", {})

    async def _find(self, request: web.Request) -> tuple[RouterSpec, DestinationSpec]:
        return await self.stores.routers.with_destination(router_id(request), destination_id(request))

    async def _refreshed(self, router: str, destination: str) -> None:
        """The router's process has read it. Where there is none it reads all when it starts."""
        try:
            await self.asking.ask(router, "refresh", REFRESH_PATIENCE, destinations=[destination])
        except NotRunning:
            pass
        except JunebugError as error:
            log.warning("a destination's change is taken later", router_id=router, reason=str(error))
            await self.stores.routers.notify_changed(router)

    async def _show(self, router: RouterSpec, spec: DestinationSpec, description: str) -> web.Response:
        rates = await self.stores.rates.rates(spec.id)
        return reply(200, description, routing_views.destination_json(spec, router, self.types, rates))
