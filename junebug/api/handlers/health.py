"""Endpoint of Junebug's own health: does Redis answer, does RabbitMQ take a message."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from junebug.amqp.broker import Broker
from junebug.api.http import PATIENCE, bounded, reply
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

    async def get(self, request: web.Request) -> web.Response:
        """200, or 503 with an error for each that is away."""
        seconds = min(self.settings.request_timeout * PATIENCE, LONGEST_CHECK)
        redis, amqp = await asyncio.gather(
            _check(self.stores.ping(), seconds, StoreUnavailable("Redis does not answer")),
            _check(self.broker.ping(seconds), seconds, BrokerUnavailable("RabbitMQ does not answer")),
        )
        result: dict[str, Any] = {"redis": "down" if redis else "ok", "amqp": "down" if amqp else "ok"}
        errors = [entry for error in (redis, amqp) if error for entry in error.errors()]
        if errors:
            return reply(Unavailable.status, Unavailable.description, {**result, "errors": errors})
        return reply(200, "health ok", result)


async def _check(question: Coroutine[Any, Any, None], seconds: float, late: Unavailable) -> Unavailable | None:
    try:
        await bounded(question, seconds, late)
    except Unavailable as error:
        return error
    return None
