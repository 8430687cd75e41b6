"""HttpRpcTransport: a provider asks over HTTP and waits; the application's reply is the response.

    request -> on_request (the type: what it says) -> inbound message; its reply -> send -> response

A request is known by its inbound message's id, which the reply bears as in_reply_to. Neighbours: door/server.py listens,
sessions.py knows which request begins a session; dmark and http_api say what requests and responses look like.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from junebug.door.routes import Route, path_of
from junebug.door.server import HttpServer
from junebug.errors import Rejected, TransportStartError
from junebug.model.messages import UserMessage, new_id
from junebug.model.trace import trace_of
from junebug.runtime.http_server import BODY_TIMEOUT, LARGEST_BODY, Connection, read_body
from junebug.transports.base import Transport, TransportContext
from junebug.transports.http_rpc import PROPERTIES, parameters

WRITE_TIMEOUT = 10.0
"""Seconds in which a response must have left."""
STOP_TIMEOUT = 1.0
NO_REQUEST = "Could not find original request."


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request is answered. `content_type`: UTF-8 where it says no charset."""

    status: int
    body: str = ""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


def as_json(status: int, body: Any) -> Answer:
    return Answer(status, orjson.dumps(body).decode())


@dataclass(slots=True, eq=False)
class Pending:
    """A request that waits for its reply."""

    arrived: float
    session: str | None = None
    trace: str | None = None
    """That the request is part of, as its headers say (model/trace.py)."""
    answer: asyncio.Future[Answer] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    written: asyncio.Future[bool] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def lose(self) -> None:
        """The provider is gone."""
        if not self.answer.done():
            self.answer.set_exception(ConnectionResetError())
            self.answer.exception()  # whether somebody waits for it or not


class HttpRpcTransport(Transport):
    """Of a provider that waits for the answer."""

    window = 50
    send_timeout = WRITE_TIMEOUT + 5
    unavailable: Answer = Answer(503, headers={"Retry-After": "1"})
    """In the provider's form: the channel cannot take a request now."""
    takes_requests = True
    """At web_path."""

    def __init__(self, context: TransportContext) -> None:
        super().__init__(context)
        self._pending: dict[str, Pending] = {}
        self._stopping = False
        self._path = path_of(self.config.get("web_path", ""))
        self._is_alone = bool(self.config.get("web_port"))
        health = path_of(self.option("health_path"))
        health = health if self._is_alone else self._path.rstrip("/") + health
        handlers = {health: self._tell_health, **self.more_handlers()}
        if self.takes_requests:
            handlers[self._path] = self._handle
        self._server = HttpServer(self.config, handlers, free=[health])
        self._handled = list(handlers)

    def option(self, name: str) -> Any:
        """Of the config, or its default."""
        return self.config.get(name, PROPERTIES[name].get("default"))

    # --- what a type says ---------------------------------------------------------------------------------------------

    def more_handlers(self) -> dict[str, Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]]:
        """Other paths that it answers."""
        return {}

    async def on_request(self, request_id: str, said: Mapping[str, str], pending: Pending) -> Answer | None:
        """Publish the inbound message, with `request_id` for its id; or answer at once. `said`: see `read`."""
        raise NotImplementedError

    def read(self, request: web.BaseRequest, body: bytes) -> dict[str, str]:
        """What a request says. Raises ValueError for what is no text."""
        return parameters.read(request.rel_url.raw_query_string, body, request.content_type)

    def problems(self, said: Mapping[str, str]) -> dict[str, list[str]]:
        """What is wrong with that; empty: nothing."""
        return {}

    def refusal(self, problems: Mapping[str, list[str]]) -> Answer:
        """What a request is answered with which something is wrong."""
        return as_json(400, problems)

    def answer_of(self, message: UserMessage) -> Answer:
        """What the application's reply says. Raises Rejected."""
        raise NotImplementedError

    async def replied(self, message: UserMessage, pending: Pending) -> None:
        """The provider has it."""

    # --- life ---------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        if self._is_alone:
            self._server.listen(self.option("web_host"), self.config["web_port"])
            where = f"Listening on {self.option('web_host')}:{self.config['web_port']}{self._path}"
        elif self.context.door:
            timeout = self.option("request_timeout") + WRITE_TIMEOUT + BODY_TIMEOUT
            unavailable = self.unavailable
            self._server.listen_behind(self.context.door, Route(
                self.context.channel_id, tuple(map(path_of, self._handled)), timeout, unavailable.body, unavailable.content_type,
            ))  # fmt: skip
            where = f"Listening on {self._path} of the shared port"
        else:
            raise TransportStartError("web_port: is needed, as there is no listener to share (setting http_types.port)")
        await self.context.status(self.context.channel_type, "ok", "listening", where)

    async def finish(self, seconds: float) -> None:
        self._stopping = True
        self._server.close()
        if self._pending:
            await asyncio.wait([each.written for each in self._pending.values()], timeout=seconds)

    async def stop(self) -> None:
        self._stopping = True
        for pending in self._pending.values():
            if not pending.answer.done():
                pending.answer.set_result(self.unavailable)
        await self._server.stop(STOP_TIMEOUT)

    # --- in -----------------------------------------------------------------------------------------------------------

    async def _tell_health(self, request: web.BaseRequest) -> web.StreamResponse:
        return respond(as_json(200, {"pending_requests": len(self._pending)}))

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """One request, from its arrival to the last octet of its response."""
        if self._stopping or len(self._pending) >= self.option("max_pending_requests"):
            return respond(self.unavailable)
        answer = await self.look_at(request)
        if isinstance(answer, Answer):
            return respond(answer)
        request_id, pending = new_id(), Pending(asyncio.get_running_loop().time(), trace=trace_of(request.headers))
        self._pending[request_id] = pending
        connection = request.protocol
        assert isinstance(connection, Connection)
        connection.on_lost = pending.lose
        try:
            outcome = await self._ask(request_id, answer, pending)
            return await self._respond(request, outcome, pending)
        finally:
            connection.on_lost = None
            del self._pending[request_id]
            if not pending.written.done():
                pending.written.set_result(False)

    async def look_at(self, request: web.BaseRequest, *, checked: bool = True) -> dict[str, str] | Answer:
        """What it says, or what it is answered because it says nothing that can be understood. `checked`: for `problems`."""
        try:
            body = await read_body(request, LARGEST_BODY)
        except TimeoutError:
            return as_json(408, {"error": "the body did not come in time"})
        except (HttpProcessingError, web.RequestPayloadError, ValueError):
            return as_json(400, {"error": "the body cannot be read"})
        if body is None:
            return as_json(413, {"error": "the body is too large"})
        octets = f"{request.method} {request.rel_url.raw_path_qs}".encode(errors="surrogateescape") + b"\n" + body
        if not self.context.may_begin(octets):
            await self.context.set_aside(octets)
            return as_json(400, {"invalid_request": "it cannot be processed"})
        try:
            said = self.read(request, body)
        except ValueError:
            await self.context.status("request", "down", "invalid_encoding", "Invalid encoding")
            return as_json(400, {"invalid_request": "expected parameters in UTF-8, not too many"})
        if problems := self.problems(said) if checked else {}:
            details = {name: list(each) for name, each in problems.items()}
            await self.context.status("request", "down", "invalid_inbound_fields", "Invalid inbound fields", details)
            return self.refusal(problems)
        await self.context.status("request", "ok", "request_parsed", "Request parsed")
        return said

    async def _ask(self, request_id: str, said: Mapping[str, str], pending: Pending) -> Answer | None:
        """None: it went away."""
        try:
            async with asyncio.timeout(self.option("request_timeout")):
                return await self.on_request(request_id, said, pending) or await pending.answer
        except TimeoutError:
            if not pending.answer.done():
                pending.answer.cancel()
            await self.context.status("response", "down", "timeout", "Response timed out")
            self.context.log.warning("request timed out", message_id=request_id)
            body = self.option("request_timeout_body")
            return Answer(self.option("request_timeout_status_code"), body, "text/plain")
        except ConnectionResetError:
            self.context.log.warning("the provider did not wait for the reply", message_id=request_id)
            return None

    async def _respond(self, request: web.BaseRequest, answer: Answer | None, pending: Pending) -> web.StreamResponse:
        response = respond(answer or self.unavailable)
        try:
            async with asyncio.timeout(WRITE_TIMEOUT):
                await response.prepare(request)
                await response.write_eof()
        except (OSError, TimeoutError):
            return response
        is_reply = pending.answer.done() and not pending.answer.cancelled()
        if is_reply and answer is not None and answer is not self.unavailable and not pending.written.done():
            pending.written.set_result(True)
            await self._tell_time(asyncio.get_running_loop().time() - pending.arrived)
        return response

    async def _tell_time(self, seconds: float) -> None:
        details = {"response_time": round(seconds, 3)}
        if seconds > self.option("response_time_down"):
            await self.context.status("response", "down", "very_slow_response", "Very slow response", details)
        elif seconds > self.option("response_time_degraded"):
            await self.context.status("response", "degraded", "slow_response", "Slow response", details)
        else:
            await self.context.status("response", "ok", "response_sent", "Response sent", details)

    # --- out ----------------------------------------------------------------------------------------------------------

    async def send(self, message: UserMessage) -> str | None:
        """The reply to a request that waits; anything else has nobody to go to."""
        if missing := [name for name in ("in_reply_to", "content") if getattr(message, name) is None]:
            raise Rejected(f"Missing fields: {', '.join(missing)}")
        if not parameters.is_text(message.content or ""):
            raise Rejected("Cannot be sent: content is no Unicode text")
        answer = self.answer_of(message)
        pending = self._pending.get(str(message.in_reply_to))
        if pending is None or pending.answer.done():
            raise Rejected(NO_REQUEST)
        pending.answer.set_result(answer)
        if not await pending.written:
            raise Rejected(NO_REQUEST)
        await self.replied(message, pending)
        return None


def respond(answer: Answer) -> web.Response:
    return web.Response(
        status=answer.status, body=answer.body.encode("utf-8", "replace"),
        headers={"Content-Type": answer.content_type if "charset" in answer.content_type else
                 f"{answer.content_type}; charset=utf-8", **answer.headers},
    )  # fmt: skip
