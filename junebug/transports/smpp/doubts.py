"""Doubts: receipts that are kept as parked, and may be about something that is known, or about what is about to be: in a moment
that is decided. Neighbour: correlation.py, which decides.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable

import structlog

from junebug.errors import StoreUnavailable
from junebug.runtime.tasks import Own
from junebug.transports.smpp.receipts import Receipt

log = structlog.stdlib.get_logger("smpp")

PAUSE = 1.0
"""Seconds before Redis is asked again that was away."""


class Doubts:
    def __init__(self, decide: Callable[[Receipt], Awaitable[None]], own: Own) -> None:
        """`decide` reports a receipt, or leaves it parked. It may raise StoreUnavailable, and is called again then."""
        self._decide = decide
        self._own = own
        self._open: dict[int, Receipt] = {}
        self._numbers = itertools.count()

    def add(self, receipt: Receipt, moment: Awaitable[None]) -> None:
        """Decide on it after that `moment`. The provider will not repeat it."""
        number = next(self._numbers)
        self._open[number] = receipt
        self._own("receipt in doubt", self._run(number, receipt, moment))

    async def _run(self, number: int, receipt: Receipt, moment: Awaitable[None]) -> None:
        await moment
        while True:
            try:
                await self._decide(receipt)
                break
            except StoreUnavailable:
                await asyncio.sleep(PAUSE)
        self._open.pop(number, None)

    async def end(self) -> None:
        """Decide on all of them now, if Redis is there: nobody does later."""
        try:
            while self._open:
                number, receipt = next(iter(self._open.items()))
                await self._decide(receipt)
                self._open.pop(number, None)
        except StoreUnavailable as error:
            log.warning("receipts in doubt are lost", count=len(self._open), reason=str(error))
