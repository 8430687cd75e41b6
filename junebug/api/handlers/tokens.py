"""Endpoints of API tokens: list, create, revoke (docs/access.md). A token's text is in the answer that makes it only."""

from __future__ import annotations

from dataclasses import dataclass

import structlog
from aiohttp import web

from junebug.api import audit
from junebug.api.access import CALLER, access
from junebug.api.http import read_json, reply
from junebug.api.schemas import token_create
from junebug.errors import InvalidBody
from junebug.model.access import ADMIN, new_token
from junebug.model.messages import parse_timestamp, timestamp_now
from junebug.stores import Stores

log = structlog.stdlib.get_logger("api")


@dataclass(frozen=True)
class Tokens:
    """The handlers, and what they need."""

    stores: Stores

    @access(ADMIN)
    async def list(self, request: web.Request) -> web.Response:
        return reply(200, "tokens retrieved", [each.shown() for each in await self.stores.tokens.all()])

    async def create(self, request: web.Request) -> web.Response:
        body = token_create.check(read_json(request))
        expires_at = None if body.get("expires_at") is None else parse_timestamp(body["expires_at"])
        if expires_at is not None and expires_at <= timestamp_now():
            raise InvalidBody([("expires_at: it is in the past", ["properties", "expires_at"])])
        text, token = new_token(
            body["name"], body["scopes"], body.get("channels"), created_by=request[CALLER].name, expires_at=expires_at
        )
        await self.stores.tokens.add(token)
        audit.tell(request, token=token.shown())
        log.info("API token created", token_id=token.id)
        return reply(201, "token created", {**token.shown(), "token": text})

    async def revoke(self, request: web.Request) -> web.Response:
        """In force everywhere a second after the answer."""
        id = request.match_info["token_id"]
        await self.stores.tokens.remove(id)
        log.info("API token revoked", token_id=id)
        return reply(200, "token revoked", {})
