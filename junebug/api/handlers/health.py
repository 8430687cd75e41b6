"""Endpoints of Junebug's own health: could a message be taken, that is, do Redis and RabbitMQ take what is written."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from junebug.amqp.broker import Broker
from junebug.api.access import CALLER, access
from junebug.api.http import PATIENCE, RETRY_AFTER, bounded, reply
from junebug.config.declaration import Settings
from junebug.errors import BrokerUnavailable, StoreUnavailable, Unavailable
from junebug.stores import Stores

LONGEST_CHECK = 2.0
"""Seconds: who asks for health does not wait long."""


@dataclass(frozen=True)
class Health:
    """The handler, and what it needs."""

    settings: Settings
    stores: Stores
    broker: Broker

    @access(is_open=True)
    async def get(self, request: web.Request) -> web.Response:
        """200, or 503 with an error for each that takes nothing; a stranger is told which of both, and no more.
        A plugin that fails is shown; messages are taken without it.
        """
        seconds = min(self.settings.request_timeout * PATIENCE, LONGEST_CHECK)
        redis, amqp, plugins = await asyncio.gather(
            _check(self.stores.check_writable(), seconds, StoreUnavailable("Redis does not answer")),
            _check(self.broker.ping(seconds), seconds, BrokerUnavailable("RabbitMQ does not answer")),
            _plugins(self.stores, seconds),
        )
        if amqp and self.broker.blocked:  # it does not even say so to whoever has not published before
            amqp = BrokerUnavailable(f"RabbitMQ takes no messages at the moment: {self.broker.blocked}")
        if CALLER not in request:
            return reply(Unavailable.status, Unavailable.description, {}) if redis or amqp else reply(200, "health ok", {})
        result: dict[str, Any] = {"redis": "down" if redis else "ok", "amqp": "down" if amqp else "ok"}
        if plugins:
            result["plugins"] = plugins
        errors = [entry for error in (redis, amqp) if error for entry in error.errors()]
        if errors:
            headers = {"Retry-After": RETRY_AFTER}
            return reply(Unavailable.status, Unavailable.description, {**result, "errors": errors}, headers)
        return reply(200, "health ok", result)

    @access(is_open=True)
    async def live(self, request: web.Request) -> web.Response:
        """200 as long as this process answers at all: starting it afresh would help nobody."""
        return alive()


def alive() -> web.Response:
    return reply(200, "alive", {})


async def _plugins(stores: Stores, seconds: float) -> list[dict[str, Any]]:
    """How each does, as the supervisor last told; empty where nobody can say."""
    try:
        return await bounded(stores.plugins.get(), seconds, StoreUnavailable("Redis does not answer"))
    except Unavailable:
        return []


async def _check(question: Coroutine[Any, Any, None], seconds: float, late: Unavailable) -> Unavailable | None:
    try:
        await bounded(question, seconds, late)
    except Unavailable as error:
        return error
    return None
