"""Endpoints of messages that are sent through a router: by one of its destinations, or by a router that chooses a channel.

They are sent by the channel's own queues, and bear which router and destination they are of: so their events find back.
Neighbours: messages.py is the same for channels, api/submit.py sends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from junebug.api import views
from junebug.api.access import access, origin_of
from junebug.api.channel_states import ChannelStates
from junebug.api.compose import Composer
from junebug.api.dry_run import DryRuns, is_dry_run
from junebug.api.http import destination_id, read_json, reply, router_id
from junebug.api.idempotency import key_of
from junebug.api.spec_cache import SpecCache
from junebug.api.submit import Submission
from junebug.errors import ApiUsageError, ChannelNotFound
from junebug.model import presenter
from junebug.model.access import READ, SEND
from junebug.model.messages import UserMessage
from junebug.model.routing import Choice, DestinationSpec, RouterSpec, routed
from junebug.model.spec import ChannelSpec
from junebug.model.trace import trace_of
from junebug.router_types import RouterTypes
from junebug.stores import Stores


@dataclass(frozen=True)
class RoutedMessages:
    """The handlers, and what they need."""

    stores: Stores
    types: RouterTypes
    composer: Composer
    specs: SpecCache
    states: ChannelStates
    submission: Submission
    dry_runs: DryRuns

    @access(SEND)
    async def send(self, request: web.Request) -> web.Response:
        """By a destination."""
        body = self.composer.check(read_json(request))
        router, destination = await self.stores.routers.with_destination(router_id(request), destination_id(request))
        return await self._send(request, body, router, destination)

    @access(SEND)
    async def send_by_router(self, request: web.Request) -> web.Response:
        body = self.composer.check(read_json(request))
        router = await self.stores.routers.get(router_id(request))
        if not self.types.get(router.type).sends_by:
            raise ApiUsageError(f"A router of type {router.type} does not send: send through one of its destinations")
        return await self._send(request, body, router, None)

    @access(READ, SEND)
    async def status(self, request: web.Request) -> web.Response:
        """Of what a destination sent."""
        router, destination = await self.stores.routers.with_destination(router_id(request), destination_id(request))
        return await self._status(request, router, destination.id)

    @access(READ, SEND)
    async def status_by_router(self, request: web.Request) -> web.Response:
        return await self._status(request, await self.stores.routers.get(router_id(request)), None)

    async def _status(self, request: web.Request, router: RouterSpec, destination: str | None) -> web.Response:
        message_id = request.match_info["message_id"]
        channel, sender = await self.stores.outbound.taker(router.id, message_id)
        is_known = channel is not None and destination in (None, sender)
        events = await self.stores.outbound.events(channel, message_id) if channel and is_known else []
        return reply(200, "message status", presenter.message_status_json(message_id, channel or router.id, events))

    async def _send(
        self, request: web.Request, body: Mapping[str, Any], router: RouterSpec, destination: DestinationSpec | None
    ) -> web.Response:
        sender = _Sender(self, body, router, destination, trace_of(request.headers))
        if is_dry_run(request):
            message = await sender.compose()
            return await self.dry_runs.answer(message, sender.choice, destination.character_limit if destination else None)
        key = key_of(request)
        if key is None:
            return await self.submission.submit(sender.compose, origin_of(request))
        key = f"{destination.id if destination else ''}:{key}"  # each destination has keys of its own
        return await self.submission.submit_once(key, body, sender.compose, origin_of(request), router.id, router.id)


class _Sender:
    """One message: by which channel, and what is sent there."""

    def __init__(
        self, messages: RoutedMessages, body: Mapping[str, Any], router: RouterSpec, destination: DestinationSpec | None,
        trace: str | None,
    ) -> None:  # fmt: skip
        self._all = messages
        self._body = body
        self._router = router
        self._destination = destination
        self._trace = trace
        self.choice = Choice("", "")
        """Known once it is composed."""

    async def compose(self) -> UserMessage:
        """Raises what Composer.compose raises, StoreUnavailable, InvalidRouterType, ChannelNotFound, NoChannel."""
        choose: Callable[[], Awaitable[UserMessage | None]] = self._of_several
        if not self._all.types.get(self._router.type).sends_by:
            choose = self._of_one
        inbound = await choose()
        spec = await self._spec(self.choice.channel)
        destination = self._destination
        message = self._all.composer.compose(
            self._body, spec, datetime.now(UTC), inbound,
            character_limit=destination.character_limit if destination else None, trace=self._trace,
        )  # fmt: skip
        return routed(message, self._router.id, destination.id if destination else "")

    async def _of_one(self) -> UserMessage | None:
        """By the router's own channel; what it replies to."""
        channel = self._all.types.own_channel(self._router)
        if channel is None:
            raise ChannelNotFound(f"Router {self._router.id!r} has no channel")
        self.choice = Choice(channel, "the router's only channel")
        reply_to = self._body.get("reply_to")
        return await self._all.stores.inbound.get(channel, reply_to) if reply_to is not None else None

    async def _of_several(self) -> UserMessage | None:
        """A reply goes by the channel that has what it replies to, anything else by the one that the type chooses."""
        router, channels = self._router, self._all.types.channels_of(self._router)
        reply_to = self._body.get("reply_to")
        if reply_to is not None:
            found = await asyncio.gather(*(self._all.stores.inbound.get(channel, reply_to) for channel in channels))
            for channel, inbound in zip(channels, found, strict=True):
                if inbound is not None:
                    self.choice = Choice(channel, "a reply goes by the channel that has what it replies to")
                    return inbound
            if self._body.get("to") is None:
                raise views.not_replyable(reply_to)
        draft = views.new_message(self._body, router.id)
        self.choice = self._all.types.choose(router, draft, await self._all.states.of(channels))
        return None

    async def _spec(self, channel: str) -> ChannelSpec:
        try:
            return await self._all.specs.get(channel)
        except ChannelNotFound:
            raise ChannelNotFound(
                f"There is no channel with id {channel!r} any more, by which router {self._router.id!r} sends"
            ) from None
