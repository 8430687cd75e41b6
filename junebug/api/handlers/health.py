"""Endpoint of Junebug's own health: does Redis answer, does RabbitMQ take a message."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from aiohttp import web

from junebug.amqp.broker import Broker
from junebug.api.http import PATIENCE, bounded, broker_is_late, reply
from junebug.config.declaration import Settings
from junebug.errors import JunebugError, StoreUnavailable, Unavailable
from junebug.stores import Stores

LONGEST_CHECK = 2.0
"""Seconds: who asks for health does not wait long."""


class Health:
    """The handler, and what it needs."""

    def __init__(self, settings: Settings, stores: Stores, broker: Broker) -> None:
        self._timeout = min(settings.request_timeout * PATIENCE, LONGEST_CHECK)
        self._stores = stores
        self._broker = broker

    async def get(self, request: web.Request) -> web.Response:
        """200, or 503 with an error for each that is away."""
        redis, amqp = await asyncio.gather(
            self._check(self._stores.ping(), StoreUnavailable("Redis does not answer")),
            self._check(self._broker.ping(self._timeout), broker_is_late()),
        )
        result: dict[str, Any] = {"redis": "down" if redis else "ok", "amqp": "down" if amqp else "ok"}
        errors = [entry for error in (redis, amqp) if error for entry in error.errors()]
        if errors:
            return reply(Unavailable.status, Unavailable.description, {**result, "errors": errors})
        return reply(200, "health ok", result)

    async def _check(self, question: Coroutine[Any, Any, None], late: JunebugError) -> JunebugError | None:
        try:
            await bounded(question, self._timeout, lambda: late)
        except Unavailable as error:
            return error
        return None
