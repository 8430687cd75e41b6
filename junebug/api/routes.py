"""Which handler answers which path and method.

Neighbours: handlers/ has a file a resource; app.py makes them, and adds these routes to the application.
"""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from junebug.api.access import access
from junebug.api.handlers import console
from junebug.api.handlers.bulk import Bulk
from junebug.api.handlers.channels import Channels
from junebug.api.handlers.dead_letters import DeadLetters
from junebug.api.handlers.destinations import Destinations
from junebug.api.handlers.health import Health
from junebug.api.handlers.logs import Logs
from junebug.api.handlers.messages import Messages
from junebug.api.handlers.metrics import MetricsPage
from junebug.api.handlers.openapi import Description
from junebug.api.handlers.queue import QueueControl
from junebug.api.handlers.routed_messages import RoutedMessages
from junebug.api.handlers.routers import Routers
from junebug.api.handlers.stream import EventStream
from junebug.api.handlers.timeline import Timeline
from junebug.api.handlers.tokens import Tokens
from junebug.api.handlers.types import Types
from junebug.api.http import http_error_reply
from junebug.api.middleware import Handler
from junebug.model import urls

PREFIXES = ("", "/jb")
"""Everything is served under each: clients of a Junebug behind a proxy post to /jb/... (COMPAT §1)."""


@dataclass(frozen=True)
class Handlers:
    messages: Messages
    bulk: Bulk
    queue: QueueControl
    channels: Channels
    dead_letters: DeadLetters
    routed: RoutedMessages
    routers: Routers
    dead_letters_of_router: DeadLetters
    destinations: Destinations
    dead_letters_of_destination: DeadLetters
    timeline: Timeline
    logs: Logs
    stream: EventStream
    tokens: Tokens
    kinds: Types
    description: Description
    metrics: MetricsPage
    health: Health


def add_routes(app: web.Application, to: Handlers, *, has_console: bool) -> None:
    for prefix in PREFIXES:  # aiohttp looks from the top: the busiest comes first
        _route_channels(app, to, f"{prefix}/channels/")
        _route_routers(app, to, f"{prefix}/routers/")
        _route_more(app, to, prefix)
        if has_console:
            _route(app, f"{prefix}/console/", GET=console.page)
            _route(app, f"{prefix}/console/{{file}}", GET=console.file)


def _route_channels(app: web.Application, to: Handlers, all: str) -> None:
    one = f"{all}{{channel_id}}"
    _route(app, f"{one}/messages/", POST=to.messages.send, GET=to.queue.list_messages, DELETE=to.queue.cancel_all)
    _route(app, f"{one}/messages/bulk", POST=to.bulk.send)
    _route(app, f"{one}/messages.json", POST=to.messages.send)
    _route(app, f"{one}/messages/{_but('message_id', 'bulk')}", GET=to.messages.status, DELETE=to.queue.cancel_one)
    _route(app, f"{one}/messages/{{message_id}}/timeline", GET=to.timeline.of_channel)
    _route(app, all, GET=to.channels.list, POST=to.channels.create)
    _route(app, one, GET=to.channels.get, POST=to.channels.update, DELETE=to.channels.delete)
    _route(app, f"{one}/restart", POST=to.channels.restart)
    _route(app, f"{one}/pause", POST=to.queue.pause)
    _route(app, f"{one}/resume", POST=to.queue.resume)
    _route_dead_letters(app, one, to.dead_letters)
    _route(app, f"{one}/logs", GET=to.logs.get)


def _route_routers(app: web.Application, to: Handlers, all: str) -> None:
    router = f"{all}{{router_id}}"
    one = f"{router}/destinations/{{destination_id}}"
    _route(app, f"{one}/messages/", POST=to.routed.send)
    _route(app, f"{one}/messages.json", POST=to.routed.send)
    _route(app, f"{one}/messages/{{message_id}}", GET=to.routed.status)
    _route(app, f"{one}/messages/{{message_id}}/timeline", GET=to.timeline.of_destination)
    _route(app, f"{router}/messages/", POST=to.routed.send_by_router)
    _route(app, f"{router}/messages.json", POST=to.routed.send_by_router)
    _route(app, f"{router}/messages/{{message_id}}", GET=to.routed.status_by_router)
    _route(app, f"{router}/messages/{{message_id}}/timeline", GET=to.timeline.of_router)
    _route(app, all, GET=to.routers.list, POST=to.routers.create)
    _route(
        app, router, GET=to.routers.get, PUT=to.routers.replace, PATCH=to.routers.update, DELETE=to.routers.delete
    )
    _route(app, f"{router}/restart", POST=to.routers.restart)
    _route(app, f"{router}/logs", GET=to.logs.of_router)
    _route_dead_letters(app, router, to.dead_letters_of_router)
    found = to.destinations
    _route(app, f"{router}/destinations/", GET=found.list, POST=found.create)
    _route(app, one, GET=found.get, PUT=found.replace, PATCH=found.update, DELETE=found.delete)
    _route(app, f"{one}/logs", GET=to.logs.of_destination)
    _route_dead_letters(app, one, to.dead_letters_of_destination)


def _route_more(app: web.Application, to: Handlers, prefix: str) -> None:
    _route(app, f"{prefix}/messages", GET=to.timeline.find)
    _route(app, f"{prefix}/events/stream", GET=to.stream.get)
    _route(app, f"{prefix}/tokens/", GET=to.tokens.list, POST=to.tokens.create)
    _route(app, f"{prefix}/tokens/{{token_id}}", DELETE=to.tokens.revoke)
    _route(app, f"{prefix}/openapi.json", GET=to.description.get)
    _route(app, f"{prefix}/docs", GET=to.description.page)
    _route(app, f"{prefix}/metrics", GET=to.metrics.get)
    _route(app, f"{prefix}/channel-types/", GET=to.kinds.of_channels)
    _route(app, f"{prefix}/router-types/", GET=to.kinds.of_routers)
    for slash in ("", "/"):  # probes do not follow redirects
        app.router.add_get(f"{prefix}/health{slash}", to.health.get)
        app.router.add_get(f"{prefix}/health/live{slash}", to.health.live)


def _route_dead_letters(app: web.Application, one: str, dead_letters: DeadLetters) -> None:
    _route(app, f"{one}/dead-letters/", GET=dead_letters.list_letters, DELETE=dead_letters.delete_all)
    _route(app, f"{one}/dead-letters/replay", POST=dead_letters.replay)
    _route(app, f"{one}/dead-letters/{_but('letter_id', 'replay')}", DELETE=dead_letters.delete_one)


def _but(name: str, word: str) -> str:
    """A part of a path that is anything but this word, which is a path of its own, with methods of its own."""
    return f"{{{name}:(?!{word}(?:/|$))[^/]+}}"


def _route(app: web.Application, path: str, **handlers: Handler) -> None:
    """Serve `path`, and its other form with or without the slash at the end.

    There a GET is redirected; other methods are served, because HTTP clients turn a redirected POST into a GET.
    """
    here = app.router.add_resource(path)
    there = app.router.add_resource(path.removesuffix("/") if path.endswith("/") else f"{path}/")
    for method, handler in handlers.items():
        for served in ("GET", "HEAD") if method == "GET" else (method,):
            here.add_route(served, handler)
            there.add_route(served, redirect if method == "GET" else handler)


@access()
async def redirect(request: web.Request) -> web.Response:
    """301 to the same path with or without the slash at the end: relative, so that a proxy's scheme and host stay."""
    path = request.rel_url.raw_path
    where = path.removesuffix("/") if path.endswith("/") else f"{path}/"
    if query := request.rel_url.raw_query_string:
        where += f"?{query}"
    where = urls.carried(where)
    return http_error_reply(301, {"Location": where}, new_url=where)
