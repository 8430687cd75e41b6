"""Endpoints of channels: list, create, read, change, delete, restart (spec 1.7.1).

What they write is a wanted state in Redis; the supervisor acts on it. A channel's queues are declared before its spec
is stored: messages sent before its worker is up wait there.
"""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass

import structlog
from aiohttp import web

from junebug import names
from junebug.amqp.rpc import RpcClient
from junebug.api import audit, schemas, views
from junebug.api.access import CALLER, access
from junebug.api.channel_queues import ChannelQueues, check_amqp_queue
from junebug.api.http import channel_id, long_work, read_json, reply
from junebug.api.restarts import all_ended
from junebug.api.spec_cache import SpecCache
from junebug.errors import StoreUnavailable
from junebug.model.access import READ
from junebug.model.spec import ChannelSpec
from junebug.registry import Registry
from junebug.stores import Stores

log = structlog.stdlib.get_logger("api")


@dataclass(frozen=True)
class Channels:
    """The handlers, and what they need."""

    stores: Stores
    registry: Registry
    specs: SpecCache
    queues: ChannelQueues
    asking: RpcClient

    @access(READ, filters=True)
    async def list(self, request: web.Request) -> web.Response:
        return reply(200, "channels listed", request[CALLER].sees(await self.stores.channels.ids()))

    async def create(self, request: web.Request) -> web.Response:
        body = schemas.channel_create.check(read_json(request))
        spec = views.new_channel(str(uuid.uuid4()), body, self.registry)
        await check_amqp_queue(self.stores, body)  # Redis answers, too: no queues for a channel that cannot be stored
        spec = await self.queues.create(spec)
        try:
            await self.stores.channels.create(spec)
        except StoreUnavailable:
            self.queues.remove_new(spec)
            raise
        self.specs.drop(spec.id)
        log.info("channel created", channel_id=spec.id, type=spec.type)
        shown = views.channel_json(spec, self.registry, views.NEW_STATUS)
        audit.tell(request, channel_id=spec.id, changes=audit.changes({}, spec.to_properties(), {}, shown))
        return reply(201, "channel created", shown)

    async def get(self, request: web.Request) -> web.Response:
        return await self._show(await self.stores.channels.get(channel_id(request)), "channel found")

    @long_work
    async def update(self, request: web.Request) -> web.Response:
        body = schemas.channel_update.check(read_json(request))
        channel = channel_id(request)
        await check_amqp_queue(self.stores, body)
        old, spec = await self.specs.change(channel, lambda spec: views.changed_channel(spec, body, self.registry))
        if spec is not old:
            restart = views.needs_restart(old, spec)
            log.info("channel updated", channel_id=channel, restart=restart, properties=sorted(body))
            shown = [views.channel_json(each, self.registry, {}) for each in (old, spec)]
            audit.tell(request, changes=audit.changes(old.to_properties(), spec.to_properties(), *shown))
            if restart:
                await all_ended(self.asking, names.units(channel, max(old.shards, spec.shards)), spec.generation)
        return await self._show(spec, "channel updated")

    async def delete(self, request: web.Request) -> web.Response:
        channel = channel_id(request)
        spec = await self.stores.channels.get(channel)
        await self.stores.channels.delete(channel)
        if spec.router:
            await self.stores.routers.notify_changed(spec.router)
        self.specs.drop(channel)
        log.info("channel deleted", channel_id=channel)
        return reply(200, "channel deleted", {})

    @long_work
    async def restart(self, request: web.Request) -> web.Response:
        channel = channel_id(request)
        shards = (await self.stores.channels.get(channel)).shards
        generation = await self.stores.channels.request_restart(channel)
        self.specs.drop(channel)
        log.info("channel restart requested", channel_id=channel)
        await all_ended(self.asking, names.units(channel, shards), generation)
        return reply(200, "channel restarted", {})

    async def _show(self, spec: ChannelSpec, description: str) -> web.Response:
        components, rates, counts = await asyncio.gather(
            self.stores.statuses.components(spec.id), self.stores.rates.rates(spec.id), self.queues.counts(spec)
        )
        status = views.status_json(components, rates, spec.paused, counts)
        return reply(200, description, views.channel_json(spec, self.registry, status))
