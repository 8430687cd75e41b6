"""Every answer is the envelope: requests are bounded here, and whatever they raise becomes an answer (COMPAT §1).

`middleware` stands around every handler; `Protocol` catches what never reaches one (broken HTTP). Neighbour: app.py.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from aiohttp import web
from aiohttp.http import RawRequestMessage

from junebug.api.access import Guard, is_change
from junebug.api.audit import AuditLog
from junebug.api.bodies import BodyRoom
from junebug.api.http import BODY, error_reply, http_error_reply
from junebug.api.request_meter import RequestMeter
from junebug.config.declaration import Settings
from junebug.errors import JunebugError, Unavailable
from junebug.runtime.time_limits import TimeLimits

log = structlog.stdlib.get_logger("api")

KEEPALIVE_TIMEOUT = 75.0
"""Seconds that a connection may do nothing."""
LINGERING_TIME = 2.0
"""Seconds for which the rest of a refused body is read, so that its sender gets to read the answer."""
READ_BUFFER = 64 * 1024
"""Bytes of a connection that nobody has read yet; with twice as many nothing more is taken from its socket."""
UNAVAILABLE_PAUSE = 1.0
"""Seconds between two lines of the log that say the same: while Redis is away, each request fails."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def middleware(settings: Settings, guard: Guard, audit: AuditLog, meter: RequestMeter) -> Any:
    """The middleware that lets every request in or not, bounds it, counts it, writes down what it changed, and turns whatever is
    raised into the envelope.
    """
    bodies, limits = BodyRoom(settings.max_body_size), TimeLimits()
    told_at = -UNAVAILABLE_PAUSE

    def tell_unavailable(reason: str) -> None:
        nonlocal told_at
        now = asyncio.get_running_loop().time()
        if now - told_at >= UNAVAILABLE_PAUSE:
            told_at = now
            log.warning("requests are answered 503", reason=reason)

    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        seconds: float | None = getattr(handler, "time_limit", settings.request_timeout)
        limit = None if seconds is None else limits(seconds)
        body = b""
        try:
            await guard.admit(request, handler)
            if request.body_exists and request.match_info.http_exception is None:
                request[BODY] = body = await bodies.read(request, getattr(handler, "largest_body", 0))
            if limit is None:
                return await handler(request)
            with limit:
                return await handler(request)
        except web.HTTPException as error:
            return http_reply(error)
        except JunebugError as error:
            problem = error
        except Exception as error:
            if not isinstance(error, TimeoutError) or limit is None or not limit.expired:
                return _unexpected(request, error)
            problem = Unavailable(f"Redis or RabbitMQ did not answer within {seconds:g} s")
        finally:
            bodies.give_back(len(body))
        meter.refused(problem)
        if isinstance(problem, Unavailable):
            tell_unavailable(str(problem))
        elif problem.status >= 500:
            log.error("request failed", method=request.method, path=request.path, reason=str(problem))
        return error_reply(problem)

    @web.middleware
    async def around(request: web.Request, handler: Handler) -> web.StreamResponse:
        began = time.perf_counter()
        response = await answer(request, handler)
        meter.answered(request, response, time.perf_counter() - began)
        if is_change(request.method, handler) and not 400 <= response.status < 500:
            audit.record(request, response.status)
        return response

    return around


def _unexpected(request: web.BaseRequest, error: BaseException | None) -> web.Response:
    """A fault of ours: the log tells, the answer does not."""
    log.error("request failed", method=request.method, path=request.path, exc_info=error)
    return error_reply(JunebugError("An unexpected error occurred: see Junebug's log"))


def http_reply(error: web.HTTPException) -> web.Response:
    """An answer that aiohttp decided on, in our form."""
    headers = {name: error.headers[name] for name in ("Allow", "Location") if name in error.headers}
    return http_error_reply(error.status, headers)


def pathwise(make_request: Callable[..., web.BaseRequest]) -> Callable[..., web.BaseRequest]:
    """Of a request's URL only the path counts: aiohttp never answers one whose host it cannot decode (`GET http://xn--/`)."""

    def make(message: RawRequestMessage, *more: Any) -> web.BaseRequest:
        if not message.path.startswith("/") and message.url.absolute:
            message = message._replace(url=message.url.relative())
        return make_request(message, *more)

    return make


class Protocol(web.RequestHandler):
    """aiohttp's side of one connection; what never reaches the application is answered in the envelope, too."""

    __slots__ = ("_over",)

    def __init__(self, manager: web.Server, over: Callable[[], None]) -> None:
        """`over` is called when the connection is."""
        super().__init__(
            manager,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]
            keepalive_timeout=KEEPALIVE_TIMEOUT,
            lingering_time=LINGERING_TIME,
            read_bufsize=READ_BUFFER,
        )
        self._over = over

    def connection_lost(self, exc: BaseException | None) -> None:
        self._over()
        super().connection_lost(exc)

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
