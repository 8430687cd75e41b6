"""Endpoints of channels: list, create, read, change, delete, restart (spec 1.7.1).

What they write is a wanted state in Redis; the supervisor acts on it. A channel's queues are declared before its spec
is stored: messages sent before its worker is up wait there.
"""

from __future__ import annotations

import asyncio
import re
import uuid

import structlog
from aiohttp import web

from junebug import names
from junebug.api import schemas, views
from junebug.api.http import PATIENCE, bounded, read_json, reply
from junebug.api.specs import SpecCache
from junebug.broker import Broker
from junebug.config import Settings
from junebug.errors import (
    BrokerUnavailable,
    ChannelChanged,
    ChannelNotFound,
    JunebugError,
    StoreUnavailable,
)
from junebug.registry import Registry
from junebug.spec import ChannelSpec
from junebug.stores import Stores

log = structlog.stdlib.get_logger("api")

UPDATE_ATTEMPTS = 100
"""Each of so many callers who change a channel at the same time gets through."""
QUEUE_LENGTH_TIMEOUT = 1.0
"""Seconds after which a channel is shown without its queue's length."""
CLEAN_UP_TIMEOUT = 10.0

_CHANNEL_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z_.-]{0,127}")


def channel_id(request: web.Request) -> str:
    """The channel named in the URL. Raises ChannelNotFound for what can be none: it names files, keys and queues."""
    name = request.match_info["channel_id"]
    if not _CHANNEL_ID.fullmatch(name):
        raise ChannelNotFound(f"There is no channel with id {name[:100]!r}")
    return name


class Channels:
    """The handlers, and what they need."""

    def __init__(
        self, settings: Settings, stores: Stores, broker: Broker, registry: Registry, specs: SpecCache
    ) -> None:
        self._patience = settings.request_timeout * PATIENCE
        self._stores = stores
        self._broker = broker
        self._registry = registry
        self._specs = specs
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
        spec = await self._update(channel_id(request), body)
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

    async def _update(self, channel: str, body: dict[str, object]) -> ChannelSpec:
        """What is stored afterwards; whoever changes the channel at the same time loses nothing by it."""
        for attempt in range(UPDATE_ATTEMPTS):
            old = await self._stores.channels.get(channel)
            new = views.changed_channel(old, body, self._registry)
            if not views.is_changed(old, new):
                return old
            restart = views.needs_restart(old, new)
            try:
                stored = await self._stores.channels.update(old, new, restart=restart)
            except ChannelChanged:
                if attempt == UPDATE_ATTEMPTS - 1:
                    raise
                continue
            self._specs.drop(channel)
            log.info("channel updated", channel_id=channel, restart=restart, properties=sorted(body))
            return stored
        raise AssertionError("unreachable")

    async def _show(self, spec: ChannelSpec, description: str) -> web.Response:
        components, rates, queue_length = await asyncio.gather(
            self._stores.statuses.components(spec.id),
            self._stores.rates.rates(spec.id),
            self._queue_length(spec.id),
        )
        status = views.status_json(components, rates, queue_length)
        return reply(200, description, views.channel_json(spec, self._registry, status))

    async def _queue_length(self, channel: str) -> int | None:
        """None while RabbitMQ does not tell."""
        try:
            return await bounded(
                self._broker.queue_length(names.outbound_queue(channel)),
                min(QUEUE_LENGTH_TIMEOUT, self._patience),
                broker_is_late,
            )
        except BrokerUnavailable:
            return None

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


async def declare_queues(broker: Broker, channel: str, timeout: float) -> None:
    """The channel's queues exist when this returns. Raises BrokerUnavailable within `timeout` seconds."""
    await bounded(broker.declare(names.channel_queues(channel), remember=False), timeout, broker_is_late)


def broker_is_late() -> JunebugError:
    return BrokerUnavailable("RabbitMQ does not answer")
