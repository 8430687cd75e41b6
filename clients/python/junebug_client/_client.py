"""The clients: connections, and who they are. Every method of an operation is generated, and calls `_call`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from typing import Any, Self

import httpx

from junebug_client._async_methods import AsyncMethods
from junebug_client._events import IDLE_TIMEOUT, Stream, StreamEvent, may_go_on
from junebug_client._exchange import Call, Retries, exchange, result_of
from junebug_client._methods import Methods

DEFAULT_URL = "http://localhost:8080"
TIMEOUT, CONNECT_TIMEOUT = 75.0, 10.0
"""Seconds: what goes through whole queues may take Junebug a minute."""
STREAM = "/events/stream"


def _options(url: str, token: str | None, timeout: float, headers: Mapping[str, str] | None) -> dict[str, Any]:
    """Of an httpx client. User and password in the URL are sent as Basic, as httpx does it; a token goes first."""
    return {
        "base_url": url.rstrip("/"),
        "headers": {**({"Authorization": f"Bearer {token}"} if token else {}), **(headers or {})},
        "timeout": httpx.Timeout(timeout, connect=min(timeout, CONNECT_TIMEOUT)),
    }


class Client(Methods):
    """A Junebug at a URL; `token`: an API token, where one is needed. Its connections are kept until `close`, or the end of a
    `with`. Each method raises what errors.py has. `headers`: of every request, an Authorization of your own for example. More
    options go to httpx.Client: `verify`, `transport`, ...
    """

    def __init__(
        self, url: str = DEFAULT_URL, token: str | None = None, *, timeout: float = TIMEOUT, retries: Retries | int = 3,
        headers: Mapping[str, str] | None = None, **options: Any,
    ) -> None:  # fmt: skip
        self._retries = Retries(retries) if isinstance(retries, int) else retries
        self._http = httpx.Client(**{**_options(url, token, timeout, headers), **options})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def request(
        self, method: str, path: str, *, json: Any = None, params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None, content: bytes | str | None = None, idempotency_key: str | None = None,
    ) -> Any:  # fmt: skip
        """The `result` of any request, for what has no method here, or a body (`content`) that is no JSON. It is repeated as
        others are: give a POST an `idempotency_key` where it sends.
        """
        return self._call(Call(method, path, params or {}, json, idempotency_key, content, headers or {}))

    def _call(self, call: Call) -> Any:
        steps = exchange(call, self._retries)
        step: Any = next(steps)
        try:
            while True:
                if isinstance(step, Call):
                    step = steps.send(self._send(step))
                else:
                    time.sleep(step)
                    step = next(steps)
        except StopIteration as end:
            return end.value

    def _send(self, call: Call) -> httpx.Response | httpx.HTTPError:
        try:
            return self._http.request(call.method, call.path, **call.options())
        except httpx.HTTPError as error:
            return error

    def stream_events(
        self, channels: Sequence[str] = (), kinds: Sequence[str] = (), *, last_event_id: str = ""
    ) -> Iterator[StreamEvent]:
        """What happens, as it happens: statuses, events, messages, log lines of these channels, or all. It goes on after a broken
        connection where it was, and ends never by itself. Raises ApiError for what Junebug refuses, UnexpectedAnswer.
        """
        stream = Stream(channels, kinds, last_event_id)
        while True:
            timeout = httpx.Timeout(IDLE_TIMEOUT, connect=CONNECT_TIMEOUT)
            try:
                with self._http.stream("GET", STREAM, params=stream.params, headers=stream.headers, timeout=timeout) as response:
                    if response.status_code == 200:
                        stream.begin()
                        for line in response.iter_lines():
                            if event := stream.line(line):
                                yield event
                    elif not may_go_on(response):
                        response.read()
                        result_of(response)
            except httpx.TransportError:
                pass
            time.sleep(stream.pause())


class AsyncClient(AsyncMethods):
    """The same for asyncio: each method is to be awaited, `close` too; `async with`."""

    def __init__(
        self, url: str = DEFAULT_URL, token: str | None = None, *, timeout: float = TIMEOUT, retries: Retries | int = 3,
        headers: Mapping[str, str] | None = None, **options: Any,
    ) -> None:  # fmt: skip
        self._retries = Retries(retries) if isinstance(retries, int) else retries
        self._http = httpx.AsyncClient(**{**_options(url, token, timeout, headers), **options})

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def request(
        self, method: str, path: str, *, json: Any = None, params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None, content: bytes | str | None = None, idempotency_key: str | None = None,
    ) -> Any:  # fmt: skip
        """The `result` of any request, for what has no method here, or a body (`content`) that is no JSON. It is repeated as
        others are: give a POST an `idempotency_key` where it sends.
        """
        return await self._call(Call(method, path, params or {}, json, idempotency_key, content, headers or {}))

    async def _call(self, call: Call) -> Any:
        steps = exchange(call, self._retries)
        step: Any = next(steps)
        try:
            while True:
                if isinstance(step, Call):
                    step = steps.send(await self._send(step))
                else:
                    await asyncio.sleep(step)
                    step = next(steps)
        except StopIteration as end:
            return end.value

    async def _send(self, call: Call) -> httpx.Response | httpx.HTTPError:
        try:
            return await self._http.request(call.method, call.path, **call.options())
        except httpx.HTTPError as error:
            return error

    async def stream_events(
        self, channels: Sequence[str] = (), kinds: Sequence[str] = (), *, last_event_id: str = ""
    ) -> AsyncGenerator[StreamEvent, None]:
        """As Client.stream_events: `async for`."""
        stream = Stream(channels, kinds, last_event_id)
        while True:
            timeout = httpx.Timeout(IDLE_TIMEOUT, connect=CONNECT_TIMEOUT)
            try:
                async with self._http.stream(
                    "GET", STREAM, params=stream.params, headers=stream.headers, timeout=timeout
                ) as response:
                    if response.status_code == 200:
                        stream.begin()
                        async for line in response.aiter_lines():
                            if event := stream.line(line):
                                yield event
                    elif not may_go_on(response):
                        await response.aread()
                        result_of(response)
            except httpx.TransportError:
                pass
            await asyncio.sleep(stream.pause())
