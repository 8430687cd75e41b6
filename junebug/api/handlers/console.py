"""Endpoints of the console's files, for whoever has a token, where one is needed (docs/console.md)."""

from __future__ import annotations

from aiohttp import web

from junebug import console
from junebug.api.access import access


@access()
async def page(request: web.Request) -> web.Response:
    return _answer(request, console.INDEX)


@access()
async def file(request: web.Request) -> web.Response:
    """Raises HTTPNotFound."""
    return _answer(request, request.match_info["file"])


def _answer(request: web.Request, name: str) -> web.Response:
    """304 without a body where the browser has it already."""
    found = console.files().get(name)
    if found is None:
        raise web.HTTPNotFound
    headers = {**console.HEADERS, "ETag": found.tag}
    if request.headers.get("If-None-Match") == found.tag:
        return web.Response(status=304, headers=headers)
    return web.Response(body=found.body, content_type=found.kind, charset="utf-8", headers=headers)
