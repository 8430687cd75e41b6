"""Requests in, envelopes out: reading a JSON body, writing an answer, waiting no longer than one may (COMPAT §1).

Neighbours: the handlers use it, middleware.py turns what they raise into answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple, TypeVar

import orjson
from aiohttp import web
from aiohttp.typedefs import LooseHeaders

from junebug import names
from junebug.errors import (
    ApiUsageError,
    ChannelNotFound,
    DestinationNotFound,
    JsonDecodeError,
    JunebugError,
    RouterNotFound,
    TooManyAttempts,
    Unavailable,
)
from junebug.model.reading import DEEPEST, is_deeper

PATIENCE = 0.8
"""Share of request_timeout that one call of Redis or RabbitMQ may take: its own error comes before the request's."""
DEFAULT_LIMIT, LARGEST_LIMIT, LARGEST_OFFSET = 100, 1000, 10_000
"""Of a list that is shown in pages."""
RETRY_AFTER = "1"
"""Seconds that whoever is answered 503 is asked to wait."""
RETRY_LATER = (Unavailable.status, TooManyAttempts.status)
LONG_WORK = 60.0
"""Seconds that a handler may take that goes through whole queues; the others have request_timeout."""

BODY = web.RequestKey("body", bytes)
"""Where a request's body is when its handler is called (api/bodies.py)."""

T = TypeVar("T")
H = TypeVar("H", bound=Callable[..., Any])

_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_abandoned: set[asyncio.Task[Any]] = set()


def long_work(handler: H) -> H:
    """Marks a handler that may take LONG_WORK."""
    handler.time_limit = LONG_WORK  # type: ignore[attr-defined]
    return handler


def endless(handler: H) -> H:
    """Marks a handler that answers for as long as its client listens, and has time limits of its own."""
    handler.time_limit = None  # type: ignore[attr-defined]
    return handler


def large_body(largest: int) -> Callable[[H], H]:
    """Marks a handler whose request may have a body of so many bytes, even if max_body_size is less."""

    def mark(handler: H) -> H:
        handler.largest_body = largest  # type: ignore[attr-defined]
        return handler

    return mark


def reply(status: int, description: str, result: Any, headers: LooseHeaders | None = None) -> web.Response:
    """The envelope `{status, code, description, result}`; `code` is the reason phrase."""
    envelope = {"status": status, "code": _phrase(status), "description": description, "result": result}
    return web.Response(status=status, body=orjson.dumps(envelope), content_type="application/json", headers=headers)


def _phrase(status: int) -> str:
    return _PHRASES.get(status, "Unknown")


def error_reply(error: JunebugError) -> web.Response:
    """What the error says of itself."""
    headers = (("Retry-After", RETRY_AFTER),) if error.status in RETRY_LATER else error.headers
    return reply(error.status, error.description, {"errors": error.errors()}, headers)


def raw(answer: web.Response) -> bytes:
    """An answer as it is sent, for a connection that is closed behind it."""
    assert isinstance(answer.body, bytes)
    headers = {**answer.headers, "Content-Length": str(len(answer.body)), "Connection": "close"}
    lines = [f"HTTP/1.1 {answer.status} {answer.reason}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + answer.body


_HTTP_DESCRIPTIONS = {
    404: "The requested URL was not found on the server.",
    405: "The method is not allowed for the requested URL.",
}


def http_error_reply(status: int, headers: Mapping[str, str] | None = None, **more: str) -> web.Response:
    """An answer about the request itself rather than about channels: its error has `code`, `type` and `message`."""
    phrase = _phrase(status)
    error = {"code": status, "type": phrase, "message": f"{status}: {phrase}", **more}
    description = _HTTP_DESCRIPTIONS.get(status, phrase.lower())
    return reply(status, description, {"errors": [error]}, headers)


def channel_id(request: web.Request) -> str:
    """The channel named in the URL. Raises ChannelNotFound for what can be none: it names files, keys and queues."""
    return _id(request, "channel", ChannelNotFound)


def router_id(request: web.Request) -> str:
    """Likewise. Raises RouterNotFound."""
    return _id(request, "router", RouterNotFound)


def destination_id(request: web.Request) -> str:
    """Likewise. Raises DestinationNotFound."""
    return _id(request, "destination", DestinationNotFound)


def _id(request: web.Request, kind: str, not_found: type[JunebugError]) -> str:
    name = request.match_info[f"{kind}_id"]
    if not names.is_channel_id(name):
        raise not_found(f"There is no {kind} with id {name[:100]!r}")
    return name


class Page(NamedTuple):
    """The part of a long list that a query asks for."""

    limit: int
    offset: int

    def result(self, name: str, items: list[dict[str, Any]], total: int) -> dict[str, Any]:
        return {name: items, "limit": self.limit, "offset": self.offset, "total": total}


def read_page(query: Mapping[str, str]) -> Page:
    """Raises ApiUsageError."""
    return Page(
        whole_number(query, "limit", DEFAULT_LIMIT, 1, LARGEST_LIMIT),
        whole_number(query, "offset", 0, 0, LARGEST_OFFSET),
    )


def whole_number(query: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    """Raises ApiUsageError."""
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and least <= int(text) <= most):
        raise ApiUsageError(f"{name}: expected a whole number from {least} to {most}, got {text[:50]!r}")
    return int(text)


def read_flag(query: Mapping[str, str], name: str) -> bool:
    """Raises ApiUsageError."""
    text = query.get(name, "false")
    if text not in ("true", "false"):
        raise ApiUsageError(f"{name}: expected true or false, got {text[:50]!r}")
    return text == "true"


def read_json(request: web.Request, empty: bytes = b"") -> Any:
    """The body, whatever its Content-Type says; `empty`: what one of no bytes stands for.

    Raises JsonDecodeError, ApiUsageError.
    """
    return load_json(request.get(BODY, b"") or empty, "body")


def load_json(text: bytes, what: str) -> Any:
    """Raises JsonDecodeError, ApiUsageError; `what` they say it is."""
    try:
        loaded = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise JsonDecodeError(f"The {what} is no JSON: {error}") from None
    if is_deeper(loaded, text, DEEPEST):
        raise ApiUsageError(f"The {what} is nested deeper than {DEEPEST} levels")
    return loaded


async def bounded(work: Coroutine[Any, Any, T], seconds: float, late: Unavailable) -> T:
    """The outcome of `work`, or `late` raised when it takes longer: also when it is slow to be cancelled."""
    task = asyncio.create_task(work)
    try:
        await asyncio.wait([task], timeout=seconds)
    finally:
        if not task.done():
            task.cancel()
            _abandoned.add(task)
            task.add_done_callback(_forget)
    if not task.done():
        raise late
    return task.result()


def _forget(task: asyncio.Task[Any]) -> None:
    _abandoned.discard(task)
    if not task.cancelled():
        task.exception()  # nobody waits for it any more
