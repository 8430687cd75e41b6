"""What this SMSC's receipts have taught: in which form they give ids, and whether they come unasked; in Redis, for the next
process and for other shards.

What it keeps (stores/transport.py): `receipt_form`, the usual form, and `unasked_receipts`, whether there were any. Neighbours:
smpp/receipt_ids.py decides of forms, correlation.py asks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress

from junebug.errors import StoreUnavailable
from junebug.smpp.receipt_ids import IdForms
from junebug.stores.transport import TransportStore

REMEMBERED = 10
"""How many receipts the form counts for that was the usual one before a restart."""


class LearnedForms(IdForms):
    """One channel's. Calls raise StoreUnavailable."""

    def __init__(self, store: TransportStore, ttl: float) -> None:
        """`ttl`: seconds for which it is kept."""
        super().__init__()
        self._store = store
        self._ttl = ttl

    async def recalled(self) -> str | None:
        """The usual one; None while nothing is known."""
        if self.usual is None:
            (form,) = await self._store.get("receipt_form")
            if form:
                self.count(form, REMEMBERED)
        return self.usual

    async def learn(self, candidates: Mapping[str, Collection[str]], fitting: Iterable[str]) -> None:
        """What a receipt tells whose id may stand for these, some of which went to its number. `candidates`: key -> forms
        (receipt_ids.candidate_keys).
        """
        before = await self.recalled()
        self.seen(next(iter(candidates)), "received")
        certain = [form for key in fitting if len(candidates[key]) == 1 for form in candidates[key]]
        for form in certain:
            self.count(form)
        if certain and self.usual is not None and self.usual != before:  # a hint alone is not worth remembering
            await self._store.put("receipt_form", self.usual, self._ttl)


class Unasked:
    """Whether receipts come that nobody asked for, on one channel that does not ask for them."""

    def __init__(self, store: TransportStore, ttl: float) -> None:
        """`ttl`: seconds for which it is kept, after the last start of a process that knew it."""
        self._store = store
        self._ttl = ttl
        self._come: bool | None = None
        """None: Redis was not asked yet."""

    async def come(self) -> bool:
        """Also where Redis does not tell."""
        if self._come is None:
            try:
                (found,) = await self._store.get("unasked_receipts")
            except StoreUnavailable:
                return True
            if self._come is None:
                self._come = False
                if found:
                    await self.learn()
        return self._come

    async def learn(self) -> None:
        """One has come."""
        if not self._come:
            self._come = True
            with suppress(StoreUnavailable):  # the next one teaches the next process
                await self._store.put("unasked_receipts", "1", self._ttl)
