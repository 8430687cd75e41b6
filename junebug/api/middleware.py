"""Every answer is the envelope: requests are bounded here, and whatever they raise becomes an answer (COMPAT §1).

`middleware` stands around every handler; `Protocol` catches what never reaches one (broken HTTP). Neighbour: app.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from aiohttp import web
from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import HttpProcessingError

from junebug.api.http import error_reply, http_error_reply
from junebug.config.declaration import Settings
from junebug.errors import ApiUsageError, JunebugError, PayloadTooLarge, Unavailable

log = structlog.stdlib.get_logger("api")

BODY_TIMEOUT = 30.0
"""Seconds in which a request's body must have come."""
UNAVAILABLE_PAUSE = 1.0
"""Seconds between two lines of the log that say the same: while Redis is away, each request fails."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def middleware(settings: Settings) -> Any:
    """The middleware that bounds every request and turns whatever is raised into the envelope."""
    told_at = -UNAVAILABLE_PAUSE

    def tell_unavailable(reason: str) -> None:
        nonlocal told_at
        now = asyncio.get_running_loop().time()
        if now - told_at >= UNAVAILABLE_PAUSE:
            told_at = now
            log.warning("requests are answered 503", reason=reason)

    @web.middleware
    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        seconds: float = getattr(handler, "time_limit", settings.request_timeout)
        limit = asyncio.timeout(seconds)
        try:
            if request.body_exists and request.match_info.http_exception is None:
                await _read_body(request, settings.max_body_size)
            async with limit:
                return await handler(request)
        except web.HTTPException as error:
            return http_reply(error)
        except JunebugError as error:
            problem = error
        except Exception as error:
            if not isinstance(error, TimeoutError) or not limit.expired():
                return _unexpected(request, error)
            problem = Unavailable(f"Redis or RabbitMQ did not answer within {seconds:g} s")
        if isinstance(problem, Unavailable):
            tell_unavailable(str(problem))
        elif problem.status >= 500:
            log.error("request failed", method=request.method, path=request.path, reason=str(problem))
        return error_reply(problem)

    return answer


def _unexpected(request: web.BaseRequest, error: BaseException | None) -> web.Response:
    """A fault of ours: the log tells, the answer does not."""
    log.error("request failed", method=request.method, path=request.path, exc_info=error)
    return error_reply(JunebugError("An unexpected error occurred: see Junebug's log"))


async def _read_body(request: web.Request, most: int) -> None:
    """Have the body at hand for the handler. Raises PayloadTooLarge, ApiUsageError."""
    try:
        if (request.content_length or 0) > most:
            raise web.HTTPRequestEntityTooLarge(most)
        if request.content.is_eof():  # it has come already, as small ones do
            await request.read()
            return
        async with asyncio.timeout(BODY_TIMEOUT):
            await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise PayloadTooLarge(f"The body is larger than {most} bytes (setting max_body_size)") from None
    except TimeoutError:
        raise web.HTTPRequestTimeout from None
    except (web.RequestPayloadError, HttpProcessingError, ConnectionError, ValueError) as error:
        raise ApiUsageError(f"The body cannot be read: {type(error).__name__}") from None


def http_reply(error: web.HTTPException) -> web.Response:
    """An answer that aiohttp decided on, in our form."""
    headers = {name: error.headers[name] for name in ("Allow", "Location") if name in error.headers}
    return http_error_reply(error.status, headers)


def pathwise(make_request: Callable[..., web.BaseRequest]) -> Callable[..., web.BaseRequest]:
    """Of a request's URL only the path counts: aiohttp never answers one whose host it cannot decode (`GET http://xn--/`)."""

    def make(message: RawRequestMessage, *more: Any) -> web.BaseRequest:
        if message.url.absolute:
            message = message._replace(url=message.url.relative())
        return make_request(message, *more)

    return make


class Protocol(web.RequestHandler):
    """aiohttp's side of one connection; what never reaches the application is answered in the envelope, too."""

    __slots__ = ()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """No HTTP at all, a header that is too long, ...; the connection is closed afterwards."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer was under way already")
        if isinstance(exc, UnicodeError):  # before our own code is reached, only the request's octets can be the cause
            status = 400
        answer = http_error_reply(status) if status < 500 else _unexpected(request, exc)
        answer.force_close()
        return answer

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        if isinstance(resp, web.HTTPException):  # raised before the middlewares: an Expect that nobody can meet
            resp = http_reply(resp)
        return await super().finish_response(request, resp, start_time)
