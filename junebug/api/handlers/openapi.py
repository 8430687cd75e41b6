"""Endpoints that tell of the API itself: `/openapi.json` for programs, `/docs` for people. Each is made when first asked for."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import orjson
from aiohttp import web

from junebug.api.access import access
from junebug.api.openapi.document import describe
from junebug.api.openapi.page import Page, page
from junebug.registry import Registry
from junebug.router_types import RouterTypes


@dataclass(frozen=True)
class Description:
    """The handlers, and what they need. `needs_token`: whether nothing is answered without one."""

    registry: Registry
    types: RouterTypes
    needs_token: bool

    @access()
    async def get(self, request: web.Request) -> web.Response:
        return web.Response(body=self._json, content_type="application/json")

    @access()
    async def page(self, request: web.Request) -> web.Response:
        shown = self._page
        headers = {
            "Content-Security-Policy": shown.policy, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
        }  # fmt: skip
        return web.Response(text=shown.html, content_type="text/html", headers=headers)

    @functools.cached_property
    def _json(self) -> bytes:
        return orjson.dumps(describe(self.registry, self.types, needs_token=self.needs_token))

    @functools.cached_property
    def _page(self) -> Page:
        return page(orjson.loads(self._json))
