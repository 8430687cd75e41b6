"""Endpoints of channels: list, create, read, change, delete, restart (spec 1.7.1).

What they write is a wanted state in Redis; the supervisor acts on it. A channel's queues are declared before its spec
is stored: messages sent before its worker is up wait there.
"""

from __future__ import annotations

import asyncio
import uuid

import structlog
from aiohttp import web

from junebug import names
from junebug.amqp.broker import Broker
from junebug.api import schemas, views
from junebug.api.channel_queues import ChannelQueues, declare_queues
from junebug.api.http import PATIENCE, bounded, broker_is_late, channel_id, read_json, reply
from junebug.api.spec_cache import SpecCache
from junebug.config.declaration import Settings
from junebug.errors import JunebugError, StoreUnavailable
from junebug.model.spec import ChannelSpec
from junebug.registry import Registry
from junebug.stores import Stores

log = structlog.stdlib.get_logger("api")

CLEAN_UP_TIMEOUT = 10.0


class Channels:
    """The handlers, and what they need."""

    def __init__(
        self,
        settings: Settings,
        stores: Stores,
        broker: Broker,
        registry: Registry,
        specs: SpecCache,
        queues: ChannelQueues,
    ) -> None:
        self._patience = settings.request_timeout * PATIENCE
        self._stores = stores
        self._broker = broker
        self._registry = registry
        self._specs = specs
        self._queues = queues
        self._cleaning: set[asyncio.Task[None]] = set()

    async def list(self, request: web.Request) -> web.Response:
        return reply(200, "channels listed", await self._stores.channels.ids())

    async def create(self, request: web.Request) -> web.Response:
        body = schemas.channel_create.check(await read_json(request))
        spec = views.new_channel(str(uuid.uuid4()), body, self._registry)
        await self._stores.ping()  # else queues would be declared for a channel that cannot be stored
        await declare_queues(self._broker, spec.id, self._patience)
        try:
            await self._stores.channels.create(spec)
        except StoreUnavailable:
            self._remove_queues_later(spec.id)
            raise
        self._specs.drop(spec.id)
        log.info("channel created", channel_id=spec.id, type=spec.type)
        return reply(201, "channel created", views.channel_json(spec, self._registry, views.NEW_STATUS))

    async def get(self, request: web.Request) -> web.Response:
        spec = await self._stores.channels.get(channel_id(request))
        return await self._show(spec, "channel found")

    async def update(self, request: web.Request) -> web.Response:
        body = schemas.channel_update.check(await read_json(request))
        channel = channel_id(request)
        old, spec = await self._specs.change(channel, lambda spec: views.changed_channel(spec, body, self._registry))
        if spec is not old:
            restart = views.needs_restart(old, spec)
            log.info("channel updated", channel_id=channel, restart=restart, properties=sorted(body))
        return await self._show(spec, "channel updated")

    async def delete(self, request: web.Request) -> web.Response:
        channel = channel_id(request)
        await self._stores.channels.get(channel)
        await self._stores.channels.delete(channel)
        self._specs.drop(channel)
        log.info("channel deleted", channel_id=channel)
        return reply(200, "channel deleted", {})

    async def restart(self, request: web.Request) -> web.Response:
        channel = channel_id(request)
        await self._stores.channels.request_restart(channel)
        self._specs.drop(channel)
        log.info("channel restart requested", channel_id=channel)
        return reply(200, "channel restarted", {})

    async def _show(self, spec: ChannelSpec, description: str) -> web.Response:
        components, rates, counts = await asyncio.gather(
            self._stores.statuses.components(spec.id), self._stores.rates.rates(spec.id), self._queues.counts(spec)
        )
        status = views.status_json(components, rates, spec.paused, counts)
        return reply(200, description, views.channel_json(spec, self._registry, status))

    # --- cleaning up after a failure ----------------------------------------------------------------------------------

    def _remove_queues_later(self, channel: str) -> None:
        task = asyncio.create_task(self._remove_queues(channel))
        self._cleaning.add(task)
        task.add_done_callback(self._cleaning.discard)

    async def _remove_queues(self, channel: str) -> None:
        """Of a channel that could not be stored. (If it was after all, its worker declares them again.)"""
        queues = list(names.channel_queues(channel))
        try:
            await bounded(self._broker.delete_queues(queues), CLEAN_UP_TIMEOUT, broker_is_late)
        except JunebugError as error:
            log.warning("queues left behind", channel_id=channel, reason=str(error))
