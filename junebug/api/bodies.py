"""Request bodies: read in bounded time, each of bounded size, and all of this process of bounded size together.

Neighbour: middleware.py reads each request's before its handler is called, and gives its room back afterwards.
"""

from __future__ import annotations

import asyncio

from aiohttp import StreamReader, web
from aiohttp.http_exceptions import HttpProcessingError

from junebug.errors import ApiUsageError, Overloaded, PayloadTooLarge

BODY_TIMEOUT = 30.0
"""Seconds in which a request's body must have come."""
IN_SUM = 64 * 1024 * 1024
"""Bytes of all bodies that are in this process at a time (more, where a single one may be that large)."""
SMALL = 64 * 1024
"""A body up to this size finds room when large ones have taken theirs: a quarter is for such alone."""


class BodyRoom:
    """The room for all bodies of this process."""

    def __init__(self, largest: int) -> None:
        """`largest`: bytes of one body, unless its handler takes more."""
        self._largest = largest
        self._most = max(IN_SUM, 2 * largest)
        self._taken = 0

    async def read(self, request: web.Request, largest: int = 0) -> bytes:
        """The request's body, which may have `largest` bytes. Its room is to be given back (`give_back`) when it is no longer
        needed.

        Raises PayloadTooLarge, Overloaded, ApiUsageError, HTTPRequestTimeout; then there is nothing to be given back.
        """
        largest = max(largest, self._largest)
        if (request.content_length or 0) > largest:
            raise self._too_large(largest)
        parts: list[bytes] = []
        try:
            if request.content.is_eof():  # it has come already, as small ones do
                await self._take(request.content, parts, largest)
            else:
                async with asyncio.timeout(BODY_TIMEOUT):
                    await self._take(request.content, parts, largest)
        except BaseException as error:
            self.give_back(sum(map(len, parts)))
            if isinstance(error, TimeoutError):
                raise web.HTTPRequestTimeout from None
            if isinstance(error, (web.RequestPayloadError, HttpProcessingError, ConnectionError, ValueError)):
                raise ApiUsageError(f"The body cannot be read: {type(error).__name__}") from None
            raise
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _take(self, content: StreamReader, parts: list[bytes], largest: int) -> None:
        size = 0
        while part := await content.readany():
            parts.append(part)
            size += len(part)
            self._taken += len(part)
            if size > largest:
                raise self._too_large(largest)
            if self._taken > (self._most if size <= SMALL else self._most * 3 // 4):
                raise Overloaded("So many request bodies are under way that there is no room for this one")

    def give_back(self, size: int) -> None:
        self._taken -= size

    def _too_large(self, largest: int) -> PayloadTooLarge:
        setting = " (setting max_body_size)" if largest == self._largest else ""
        return PayloadTooLarge(f"The body is larger than {largest} bytes{setting}")
