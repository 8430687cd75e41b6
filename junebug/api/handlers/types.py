"""Endpoints of channel types and router types: which there are, and what each one's config may be, as JSON Schemas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aiohttp import web

from junebug.api import routing_schemas, schemas
from junebug.api.access import access
from junebug.api.http import reply
from junebug.model.access import READ
from junebug.registry import ChannelType, Registry
from junebug.router_types import RouterType, RouterTypes


@dataclass(frozen=True)
class Types:
    """The handlers, and what they need."""

    registry: Registry
    types: RouterTypes

    @access(READ, filters=True)
    async def of_channels(self, request: web.Request) -> web.Response:
        found = [_channel_type_json(self.registry.get(name)) for name in self.registry.names()]
        return reply(200, "channel types retrieved", {"types": found, "channel": schemas.CHANNEL_CREATE})

    @access(READ, filters=True)
    async def of_routers(self, request: web.Request) -> web.Response:
        found = [_router_type_json(self.types.get(name)) for name in self.types.names()]
        bodies = {"router": routing_schemas.ROUTER, "destination": routing_schemas.DESTINATION}
        return reply(200, "router types retrieved", {"types": found, **bodies})


def _channel_type_json(known: ChannelType) -> dict[str, Any]:
    return {
        "name": known.name, "config_schema": known.config_schema, "secrets": known.secrets,
        "channel_data_schema": known.channel_data_schema, "character_limit": known.character_limit,
    }  # fmt: skip


def _router_type_json(known: RouterType) -> dict[str, Any]:
    return {
        "name": known.name, "config_schema": known.config_schema, "secrets": known.secrets,
        "destination_schema": known.destination_schema, "destination_secrets": known.destination_secrets,
        "chooses_channel": bool(known.sends_by),
    }  # fmt: skip
