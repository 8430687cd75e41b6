"""Doubts: receipts that are kept as parked, and may be about something that is known, or about what is about to be: in a moment
that is decided.

What it keeps (stores/transport.py): hash `doubts`, for the process after one that dies meanwhile. Neighbour: correlation.py,
which decides.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable

import orjson
import structlog

from junebug.errors import StoreUnavailable
from junebug.runtime.tasks import Own
from junebug.stores.transport import TransportStore
from junebug.transports.smpp.matches import parked_field
from junebug.transports.smpp.receipts import Receipt

log = structlog.stdlib.get_logger("smpp")

Moment = Callable[[], Awaitable[None]]
PAUSE = 1.0
"""Seconds before Redis is asked again that was away."""
NAME = "doubts"


class Doubts:
    def __init__(self, decide: Callable[[Receipt], Awaitable[None]], own: Own, store: TransportStore, ttl: float) -> None:
        """`decide` reports a receipt, or leaves it parked. It may raise StoreUnavailable, and is called again then."""
        self._decide = decide
        self._own = own
        self._store = store
        self._ttl = ttl
        self._open: dict[str, Receipt] = {}

    async def add(self, receipt: Receipt, moment: Moment) -> None:
        """Decide on it after that `moment`. The provider will not repeat it. Raises StoreUnavailable."""
        field = parked_field(receipt)
        await self._store.put_fields(NAME, {field: orjson.dumps(receipt).decode()}, self._ttl)
        self._begin(field, receipt, moment)

    async def recall(self, pause: float) -> None:
        """Decide on those of a process that died, after so many seconds: they may be another living one's."""
        while True:
            try:
                (kept,) = await self._store.fields(NAME)
                break
            except StoreUnavailable:
                await asyncio.sleep(PAUSE)
        for field, told in kept.items():
            self._begin(field, Receipt(**orjson.loads(told)), functools.partial(asyncio.sleep, pause))

    def _begin(self, field: str, receipt: Receipt, moment: Moment) -> None:
        self._open[field] = receipt
        self._own("receipt in doubt", self._run(field, receipt, moment))

    async def _run(self, field: str, receipt: Receipt, moment: Moment) -> None:
        await moment()
        while True:
            try:
                await self._end_one(field, receipt)
                break
            except StoreUnavailable:
                await asyncio.sleep(PAUSE)

    async def _end_one(self, field: str, receipt: Receipt) -> None:
        await self._decide(receipt)
        self._open.pop(field, None)
        await self._store.remove_fields(NAME, field)

    async def end(self) -> None:
        """Decide on all of them now, if Redis is there; else the next process does."""
        try:
            while self._open:
                await self._end_one(*next(iter(self._open.items())))
        except StoreUnavailable as error:
            log.warning("receipts in doubt are left to the next process", count=len(self._open), reason=str(error))
