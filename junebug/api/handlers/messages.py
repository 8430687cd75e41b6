"""Endpoints of messages: send one, ask what became of it (spec 1.7.1). Neighbour: queue.py, for those that wait.

The way of a message: stored (where its events go), published and confirmed, then answered 201. Only what RabbitMQ has
confirmed is answered so. This is the hot path (DESIGN §4): one write to Redis, one to RabbitMQ, both shared with the
requests beside it, and the channel's spec at hand. One with an Idempotency-Key takes a way of its own (idempotency.py).
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import structlog
from aiohttp import web

from junebug import names
from junebug.amqp.broker import Broker
from junebug.api import schemas, views
from junebug.api.channel_queues import declare_queues
from junebug.api.http import PATIENCE, channel_id, envelope, read_json, reply
from junebug.api.idempotency import REPLAYED_HEADER, Idempotency, key_of
from junebug.api.spec_cache import SpecCache
from junebug.config.declaration import Settings
from junebug.errors import BrokerUnavailable, JunebugError, MessageNotFound, StoreUnavailable, Unroutable
from junebug.model.messages import UserMessage
from junebug.model.spec import ChannelSpec
from junebug.runtime.loop import end_task
from junebug.stores import Stores

log = structlog.stdlib.get_logger("api")

MAX_UNNOTED = 10_000
"""Answers that may wait to be noted; for one more, the forwarder waits its grace instead."""
NOTE_TIMEOUT = 2.0
"""Seconds that the last notes may take when the application ends."""


class Messages:
    """The handlers, and what they need."""

    def __init__(self, settings: Settings, stores: Stores, broker: Broker, specs: SpecCache) -> None:
        self._patience = settings.request_timeout * PATIENCE
        self._allow_expired_replies = settings.allow_expired_replies
        self._stores = stores
        self._broker = broker
        self._specs = specs
        self._idempotency = Idempotency(settings, stores.idempotency)
        self._unnoted: list[tuple[str, str]] = []
        self._noting: asyncio.Task[None] | None = None

    async def send(self, request: web.Request) -> web.StreamResponse:
        body = schemas.message_send.check(await read_json(request))
        views.check_addressing(body, self._allow_expired_replies)
        channel = channel_id(request)
        spec = self._specs.peek(channel) or await self._specs.fetch(channel)
        key = key_of(request)
        if key is not None:
            return await self._send_once(key, body, spec)
        message = await self._message(body, spec)
        await self._stores.outbound.put(channel, message.message_id, message.event_url, message.event_auth_token)
        await self._publish(channel, message)
        return self._answer(channel, message)

    async def _send_once(self, key: str, body: Mapping[str, Any], spec: ChannelSpec) -> web.StreamResponse:
        """The first request with this key sends; the others get its answer."""
        channel = spec.id
        message, problem = None, None
        try:
            message = await self._message(body, spec)
        except JunebugError as error:
            if error.status >= 500:
                raise
            problem = error  # of this moment; an earlier request with this key may have been in time
        turn = await self._idempotency.take_turn(channel, key, body, message)
        if turn is None:
            assert problem is not None
            raise problem
        if not turn.sends:
            return self._answer(channel, turn.message, {REPLAYED_HEADER: "true"})
        try:
            await self._publish(channel, dataclasses.replace(turn.message, priority=views.priority(body)))
        except JunebugError as error:
            await self._idempotency.failed(turn, error)
            raise
        await self._idempotency.done(turn)
        return self._answer(channel, turn.message)

    def _answer(
        self, channel: str, message: UserMessage, headers: Mapping[str, str] | None = None
    ) -> web.Response:
        answer = envelope(201, "message submitted", views.message_json(message, channel))
        if message.event_url is None:
            return web.Response(status=201, body=answer, content_type="application/json", headers=headers)
        return _Answer(answer, headers, lambda: self._note_answered(channel, message.message_id))

    async def status(self, request: web.Request) -> web.Response:
        channel, message_id = channel_id(request), request.match_info["message_id"]
        if self._specs.peek(channel) is None:
            await self._specs.fetch(channel)
        events = await self._stores.outbound.events(channel, message_id)
        return reply(200, "message status", views.message_status_json(message_id, channel, events))

    async def _message(self, body: Mapping[str, Any], spec: ChannelSpec) -> UserMessage:
        """What is to be sent. Raises ApiUsageError, MessageTooLong, and MessageNotFound when what it replies to is
        unknown or expired.
        """
        views.check_sendable(body, spec)
        expires_at = views.expiry(body, datetime.now(UTC))
        reply_to = body.get("reply_to")
        inbound = await self._stores.inbound.get(spec.id, reply_to) if reply_to is not None else None
        if inbound is not None:
            return views.with_event_url(views.new_reply(body, spec.id, inbound, expires_at))
        if body.get("to") is None:  # beside a reply_to it is there only where allow_expired_replies lets both be given
            raise MessageNotFound(f"Inbound message with id {str(reply_to)[:100]!r} not found: it may have expired")
        return views.with_event_url(views.new_message(body, spec.id, expires_at))

    async def _publish(self, channel: str, message: UserMessage) -> None:
        """RabbitMQ has it when this returns. Raises BrokerUnavailable, ChannelNotFound."""
        queue, wire = names.outbound_queue(channel, message.priority), message.to_wire()
        try:
            return await self._broker.publish(queue, wire, timeout=self._patience)
        except Unroutable:
            await self._specs.fetch(channel)  # is it deleted, or has RabbitMQ lost its queues?
        await declare_queues(self._broker, channel, self._patience)
        try:
            await self._broker.publish(queue, wire, timeout=self._patience)
        except Unroutable as error:
            raise BrokerUnavailable(f"RabbitMQ does not keep the channel's queue: {error}") from None

    # --- after the answer ---------------------------------------------------------------------------------------------

    def _note_answered(self, channel: str, message_id: str) -> None:
        """Let the events go: the application has the message's id (clients refuse one that they do not know yet)."""
        if len(self._unnoted) < MAX_UNNOTED:
            self._unnoted.append((channel, message_id))
        if self._noting is None or self._noting.done():
            self._noting = asyncio.create_task(self._note())

    async def _note(self) -> None:
        while self._unnoted:
            answered, self._unnoted = self._unnoted, []
            try:
                await self._stores.outbound.answered(answered)
            except StoreUnavailable as error:
                log.warning("answers not noted", messages=len(answered), reason=str(error))

    async def noting(self, _: web.Application) -> AsyncIterator[None]:
        """For `cleanup_ctx`: finish the notes that are under way when the application ends."""
        yield
        if self._noting:
            await asyncio.wait([self._noting], timeout=NOTE_TIMEOUT)
            await end_task(self._noting)


class _Answer(web.Response):
    """A 201 that says when it is written."""

    def __init__(self, body: bytes, headers: Mapping[str, str] | None, on_written: Callable[[], None]) -> None:
        super().__init__(status=201, body=body, content_type="application/json", headers=headers)
        self._on_written = on_written

    async def write_eof(self, data: bytes = b"") -> None:
        await super().write_eof(data)
        self._on_written()
