"""Submitting: a message is stored (where its events go), published and confirmed, then answered 201.

Only what RabbitMQ has confirmed is answered so. This is the hot path (DESIGN §4): one write to Redis, one to RabbitMQ, both
shared with the requests beside it. A message with an Idempotency-Key takes a way of its own (idempotency.py).

Neighbours: handlers/messages.py and handlers/routed_messages.py say what is to be sent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from msgspec.structs import replace

from junebug.api import views
from junebug.api.channel_queues import ChannelQueues
from junebug.api.http import reply
from junebug.api.idempotency import REPLAYED_HEADER, Idempotency
from junebug.errors import JunebugError
from junebug.model import presenter
from junebug.model.acceptance import Origin
from junebug.model.messages import UserMessage
from junebug.stores import Stores

Compose = Callable[[], Awaitable[UserMessage]]
"""What is to be sent, by the channel that is its transport_name."""


@dataclass(frozen=True)
class Submission:
    stores: Stores
    queues: ChannelQueues
    idempotency: Idempotency

    async def submit(self, compose: Compose, origin: Origin) -> web.Response:
        """`origin`: who sends. Raises what `compose` raises, BrokerUnavailable, StoreUnavailable, ChannelNotFound."""
        message = await compose()
        channel, outbound = message.transport_name, self.stores.outbound
        if message.routing_metadata:
            await outbound.put_routed(channel, (message,), origin)
        else:
            await outbound.put(channel, message, origin)
        await self._publish(channel, message)
        return _submitted(channel, message)

    async def submit_once(
        self, key: str, body: Mapping[str, Any], compose: Compose, origin: Origin, channel: str, router: str = ""
    ) -> web.Response:
        """The first request with this key sends; the others get its answer. The key is the router's, where one is given. Raises
        IdempotencyKeyReused and RequestInProgress, too.
        """
        message, problem = None, None
        try:
            message = await compose()
            channel = message.transport_name
        except JunebugError as error:
            if error.status >= 500:
                raise
            problem = error  # of this moment; an earlier request with this key may have been in time
        reservation = await self.idempotency.reserve(channel, key, body, message, origin, router)
        if reservation is None:
            assert problem is not None
            raise problem
        channel = reservation.channel
        if not reservation.sends:
            return _submitted(channel, reservation.message, {REPLAYED_HEADER: "true"})
        try:
            await self._publish(channel, replace(reservation.message, priority=views.priority(body)))
        except JunebugError as error:
            await self.idempotency.failed(reservation, error)
            raise
        await self.idempotency.done(reservation)
        return _submitted(channel, reservation.message)

    async def _publish(self, channel: str, message: UserMessage) -> None:
        """RabbitMQ has it when this returns. Raises BrokerUnavailable, ChannelNotFound."""
        await self.queues.send(channel, (message,))


def _submitted(channel: str, message: UserMessage, headers: Mapping[str, str] | None = None) -> web.Response:
    return reply(201, "message submitted", presenter.submitted_json(message, channel), headers)
