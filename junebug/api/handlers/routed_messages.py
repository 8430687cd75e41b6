"""Endpoints of messages that are sent through a router: by one of its destinations, or (where it sends through several channels)
by itself. Neighbours: messages.py, for those of channels; api/submit.py, which sends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from msgspec.structs import replace

from junebug.api import routing_views
from junebug.api.compose import Composer
from junebug.api.http import destination_id, read_json, reply, router_id
from junebug.api.idempotency import key_of
from junebug.api.spec_cache import SpecCache
from junebug.api.submit import Submission
from junebug.config_schema import load_object
from junebug.errors import ApiUsageError, ChannelNotFound, MessageNotFound
from junebug.model import presenter
from junebug.model.messages import UserMessage
from junebug.model.routing import ChannelState, Choice, DestinationSpec, RouterSpec, routed, state_of
from junebug.model.spec import ChannelSpec
from junebug.router_types import RouterTypes
from junebug.stores import Stores


@dataclass(frozen=True)
class RoutedMessages:
    """The handlers, and what they need."""

    stores: Stores
    types: RouterTypes
    composer: Composer
    specs: SpecCache
    submission: Submission

    async def send(self, request: web.Request) -> web.Response:
        """As the destination."""
        body = self.composer.check(read_json(request))
        router, destination = await self.stores.routers.with_destination(router_id(request), destination_id(request))
        return await self._send(request, body, router, destination)

    async def send_directly(self, request: web.Request) -> web.Response:
        body = self.composer.check(read_json(request))
        return await self._send(request, body, await self._without_own_channel(request), None)

    async def _without_own_channel(self, request: web.Request) -> RouterSpec:
        router = await self.stores.routers.get(router_id(request))
        if not self.types.get(router.type).sends_by:
            raise ApiUsageError("This router sends through its destinations: POST to the messages/ of one of them")
        return router

    async def _send(
        self, request: web.Request, body: Mapping[str, Any], router: RouterSpec, destination: DestinationSpec | None
    ) -> web.Response:
        if request.query.get("dry_run", "").lower() in ("true", "1"):
            message, choice = await self._chosen(body, router, destination)
            return reply(200, "message not sent", routing_views.dry_run_json(message, choice))
        key = key_of(request)

        async def compose() -> UserMessage:
            return (await self._chosen(body, router, destination))[0]

        if key is None:
            return await self.submission.submit(compose)
        first, key = self.types.channels_of(router)[0], f"{destination.id if destination else ''} {key}"
        return await self.submission.submit_once(key, body, compose, first, router.id)

    async def status(self, request: web.Request) -> web.Response:
        """Of a message that this destination sent."""
        router, destination = await self.stores.routers.with_destination(router_id(request), destination_id(request))
        return await self._status(request, router, destination.id)

    async def status_directly(self, request: web.Request) -> web.Response:
        return await self._status(request, await self._without_own_channel(request), None)

    async def _status(self, request: web.Request, router: RouterSpec, destination: str | None) -> web.Response:
        message_id = request.match_info["message_id"]
        channel, sender = await self.stores.outbound.taker(router.id, message_id)
        if channel is None and (own := self.types.own_channel(router)):
            channel, sender = own, await self.stores.outbound.sender(own, message_id)  # it came over RabbitMQ
        is_known = channel is not None and destination in (None, sender)
        events = await self.stores.outbound.events(channel, message_id) if channel and is_known else []
        return reply(200, "message status", presenter.message_status_json(message_id, channel or router.id, events))

    # --- by which channel ---------------------------------------------------------------------------------------------

    async def _chosen(
        self, body: Mapping[str, Any], router: RouterSpec, destination: DestinationSpec | None
    ) -> tuple[UserMessage, Choice]:
        """What is to be sent, and by which channel. Raises what `compose` raises, NoChannel, StoreUnavailable, and
        ChannelNotFound.
        """
        channels, inbound, asked = self.types.channels_of(router), None, ""
        if (reply_to := body.get("reply_to")) is not None:
            found = await asyncio.gather(*(self.stores.inbound.get(channel, reply_to) for channel in channels))
            asked, inbound = next(((id, each) for id, each in zip(channels, found, strict=True) if each), ("", None))
            if inbound is None and body.get("to") is None:
                raise MessageNotFound(f"Inbound message with id {str(reply_to)[:100]!r} not found: it may have expired")
        sends_by = self.types.get(router.type).sends_by
        if inbound is not None or not sends_by:
            channel = asked or channels[0]
            reason = "it came by this channel, the answer leaves by it" if asked else "it is the router's channel"
            message = await self._composed(body, router, destination, channel, inbound)
            return message, Choice(channel, reason)
        specs, states = await self._states(channels)
        draft = UserMessage(to_addr=body["to"], from_addr=body.get("from"), content=body["content"], transport_name=router.id)
        choice: Choice = load_object(sends_by, "sends_by")(router.config, draft, states)
        return await self._composed(body, router, destination, choice.channel, None, specs.get(choice.channel)), choice

    async def _composed(
        self, body: Mapping[str, Any], router: RouterSpec, destination: DestinationSpec | None, channel: str,
        inbound: UserMessage | None, spec: ChannelSpec | None = None,
    ) -> UserMessage:  # fmt: skip
        spec = spec or await self._channel(channel)
        if spec is None:
            raise ChannelNotFound(f"There is no channel with id {channel!r} any more: change the config of router {router.id}")
        limit = destination.character_limit if destination else None
        message = self.composer.compose(body, spec, datetime.now(UTC), inbound, character_limit=limit)
        return replace(routed(message, router.id, destination.id if destination else ""), transport_name=channel)

    async def _states(self, channels: list[str]) -> tuple[dict[str, ChannelSpec | None], dict[str, ChannelState]]:
        specs = await asyncio.gather(*map(self._channel, channels))
        components = await asyncio.gather(*map(self.stores.statuses.components, channels))
        states = {
            id: state_of(spec, told) for id, spec, told in zip(channels, specs, components, strict=True)
        }
        return dict(zip(channels, specs, strict=True)), states

    async def _channel(self, channel: str) -> ChannelSpec | None:
        try:
            return self.specs.peek(channel) or await self.specs.fetch(channel)
        except ChannelNotFound:
            return None
