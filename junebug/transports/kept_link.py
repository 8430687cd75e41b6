"""KeptLink: a connection that is kept: made, told of, and made again after a growing pause.

What one connection is, from its first octet to its last, is the type's own: a coroutine function that calls `came_up` when
messages can go, and ends by raising LinkDown.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

from junebug.errors import NotSent, TransportStartError
from junebug.runtime.backoff import Backoff
from junebug.runtime.loop import end_task
from junebug.runtime.tls import TlsError, TlsOptions, tls_context
from junebug.transports.base import TransportContext

STEADY = 1.0
"""Seconds that a connection has to last to count as one that worked: the pauses begin anew then."""
PATIENCE = 10.0
"""Seconds without a link that messages wait for it here, in their order; then they go back to their queue."""
RETRY_AFTER = 3.0
"""Seconds before they are fetched from it again; longer than what the worker waits in place."""


class LinkDown(Exception):
    """There is no connection (any more). `type`: of the status. `pause`: seconds that the next attempt waits at least."""

    def __init__(self, type: str, message: str, *, pause: float = 0.0) -> None:
        super().__init__(message)
        self.type, self.pause = type, pause


async def tls_of(options: TlsOptions | None) -> ssl.SSLContext | None:
    """Its context; its files are read off the event loop. Raises TransportStartError, which names the option."""
    try:
        return await asyncio.to_thread(tls_context, options) if options else None
    except TlsError as error:
        raise TransportStartError(f"tls.{error}") from None


class KeptLink:
    """`where`: the peer, in words. `config`: of the channel, for its pauses. `attempt`: one connection's whole life."""

    def __init__(
        self, context: TransportContext, component: str, where: str, attempt: Callable[[], Awaitable[None]]
    ) -> None:
        self._context, self._component, self._where, self._attempt = context, component, where, attempt
        config: dict[str, Any] = context.config
        self._backoff = Backoff(config.get("initial_reconnect_delay", 1), config.get("max_reconnect_delay", 60))
        self._up = asyncio.Event()
        self._up_since = 0.0
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = self._context.own(f"{self._component} link", self._run())

    async def stop(self, close: Awaitable[object]) -> None:
        """`close` ends the connection that there is in good order; whatever it does, all has ended when this returns."""
        self._stopping = True
        await close
        if self._task:
            await end_task(self._task)

    @property
    def is_up(self) -> bool:
        return self._up.is_set()

    async def came_up(self, message: str) -> None:
        """Messages can go now."""
        self._up_since = asyncio.get_running_loop().time()
        self._up.set()
        await self._context.status(self._component, "ok", "connected", message)

    async def ready(self) -> None:
        """Return when there is a link, or when there has been none for so long that messages need not wait here."""
        try:
            async with asyncio.timeout(PATIENCE):
                await self._up.wait()
        except TimeoutError:
            return

    def not_up(self) -> NotSent:
        """What `send` raises without one."""
        return NotSent(f"not connected to {self._where}", RETRY_AFTER)

    async def _run(self) -> None:
        await self._context.status(self._component, "down", "connecting", f"Connecting to {self._where}")
        loop = asyncio.get_running_loop()
        while not self._stopping:
            try:
                await self._attempt()
            except LinkDown as down:
                lost = down
            else:
                lost = LinkDown("connection_lost", f"{self._where} closed the connection")
            if self._up.is_set() and loop.time() - self._up_since >= STEADY:
                self._backoff.reset()
            self._up.clear()
            if self._stopping:
                return
            pause = max(self._backoff.next(), lost.pause)
            await self._context.status(self._component, "down", lost.type, str(lost))
            await asyncio.sleep(pause)
