"""Endpoints of messages: send one, ask what became of it (spec 1.7.1). Neighbours: queue.py, for those that wait; bulk.py, for
many at a time; routed_messages.py, for those of routers; api/submit.py, which sends.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from junebug.api import views
from junebug.api.access import access, origin_of
from junebug.api.compose import Composer
from junebug.api.dry_run import DryRuns, is_dry_run
from junebug.api.http import channel_id, read_json, reply
from junebug.api.idempotency import key_of
from junebug.api.spec_cache import SpecCache
from junebug.api.submit import Submission
from junebug.model import presenter
from junebug.model.access import READ, SEND
from junebug.model.messages import UserMessage
from junebug.model.spec import ChannelSpec
from junebug.model.trace import trace_of
from junebug.stores import Stores


@dataclass(frozen=True)
class Messages:
    """The handlers, and what they need."""

    stores: Stores
    composer: Composer
    specs: SpecCache
    submission: Submission
    dry_runs: DryRuns

    @access(SEND)
    async def send(self, request: web.Request) -> web.Response:
        body = self.composer.check(read_json(request))
        channel = channel_id(request)
        spec = await self.specs.get(channel)
        key, trace = key_of(request), trace_of(request.headers)

        def compose() -> Awaitable[UserMessage]:
            return self._message(body, spec, trace)

        if is_dry_run(request):
            return await self.dry_runs.answer(await compose())
        if key is not None:
            return await self.submission.submit_once(key, body, compose, origin_of(request), channel)
        return await self.submission.submit(compose, origin_of(request))

    @access(READ, SEND)
    async def status(self, request: web.Request) -> web.Response:
        channel, message_id = channel_id(request), request.match_info["message_id"]
        await self.specs.get(channel)
        events = await self.stores.outbound.events(channel, message_id)
        return reply(200, "message status", presenter.message_status_json(message_id, channel, events))

    async def _message(self, body: Mapping[str, Any], spec: ChannelSpec, trace: str | None) -> UserMessage:
        """What is to be sent. Raises what `compose` raises, StoreUnavailable."""
        views.check_destination(spec)
        reply_to = body.get("reply_to")
        inbound = await self.stores.inbound.get(spec.id, reply_to) if reply_to is not None else None
        return self.composer.compose(body, spec, datetime.now(UTC), inbound, trace=trace)
