"""Endpoints of messages: send one, ask what became of it (spec 1.7.1). Neighbours: queue.py, for those that wait; bulk.py, for
many at a time.

The way of a message: stored (where its events go), published and confirmed, then answered 201. Only what RabbitMQ has
confirmed is answered so. This is the hot path (DESIGN §4): one write to Redis, one to RabbitMQ, both shared with the
requests beside it, and the channel's spec at hand. One with an Idempotency-Key takes a way of its own
(api/idempotency.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from msgspec.structs import replace

from junebug import names
from junebug.api import views
from junebug.api.channel_queues import ChannelQueues
from junebug.api.compose import Composer
from junebug.api.http import channel_id, read_json, reply
from junebug.api.idempotency import REPLAYED_HEADER, Idempotency, key_of
from junebug.api.spec_cache import SpecCache
from junebug.errors import JunebugError
from junebug.model import presenter
from junebug.model.messages import UserMessage
from junebug.model.spec import ChannelSpec
from junebug.stores import Stores


@dataclass(frozen=True)
class Messages:
    """The handlers, and what they need."""

    stores: Stores
    composer: Composer
    specs: SpecCache
    queues: ChannelQueues
    idempotency: Idempotency

    async def send(self, request: web.Request) -> web.Response:
        body = self.composer.check(read_json(request))
        channel = channel_id(request)
        spec = self.specs.peek(channel) or await self.specs.fetch(channel)
        key = key_of(request)
        if key is not None:
            return await self._send_once(key, body, spec)
        message = await self._message(body, spec)
        await self.stores.outbound.put(channel, message.message_id, message.event_url, message.event_auth_token)
        await self._publish(channel, message)
        return _submitted(channel, message)

    async def _send_once(self, key: str, body: Mapping[str, Any], spec: ChannelSpec) -> web.Response:
        """The first request with this key sends; the others get its answer."""
        channel = spec.id
        message, problem = None, None
        try:
            message = await self._message(body, spec)
        except JunebugError as error:
            if error.status >= 500:
                raise
            problem = error  # of this moment; an earlier request with this key may have been in time
        reservation = await self.idempotency.reserve(channel, key, body, message)
        if reservation is None:
            assert problem is not None
            raise problem
        if not reservation.sends:
            return _submitted(channel, reservation.message, {REPLAYED_HEADER: "true"})
        try:
            await self._publish(channel, replace(reservation.message, priority=views.priority(body)))
        except JunebugError as error:
            await self.idempotency.failed(reservation, error)
            raise
        await self.idempotency.done(reservation)
        return _submitted(channel, reservation.message)

    async def status(self, request: web.Request) -> web.Response:
        channel, message_id = channel_id(request), request.match_info["message_id"]
        if self.specs.peek(channel) is None:
            await self.specs.fetch(channel)
        events = await self.stores.outbound.events(channel, message_id)
        return reply(200, "message status", presenter.message_status_json(message_id, channel, events))

    async def _message(self, body: Mapping[str, Any], spec: ChannelSpec) -> UserMessage:
        """What is to be sent. Raises what `compose` raises, StoreUnavailable."""
        reply_to = body.get("reply_to")
        inbound = await self.stores.inbound.get(spec.id, reply_to) if reply_to is not None else None
        return self.composer.compose(body, spec, datetime.now(UTC), inbound)

    async def _publish(self, channel: str, message: UserMessage) -> None:
        """RabbitMQ has it when this returns. Raises BrokerUnavailable, ChannelNotFound."""
        queue = names.outbound_queue(channel, message.priority)
        await self.queues.publish(channel, queue, (message.to_wire(),))


def _submitted(channel: str, message: UserMessage, headers: Mapping[str, str] | None = None) -> web.Response:
    return reply(201, "message submitted", presenter.submitted_json(message, channel), headers)
