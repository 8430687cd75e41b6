"""In which form this SMSC's receipts give ids, as its receipts have taught; in Redis, for the next process and for other shards.

What it keeps (stores/transport.py): `receipt_form`, the usual form. Neighbours: smpp/receipt_ids.py decides, correlation.py asks.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from junebug.smpp.receipt_ids import IdForms
from junebug.stores.transport import TransportStore
from junebug.transports.smpp.matches import fits_number
from junebug.transports.smpp.receipts import Receipt
from junebug.transports.smpp.recently_sent import SentPart

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

    async def learn(self, candidates: Mapping[str, Collection[str]], receipt: Receipt, known: Mapping[str, SentPart]) -> None:
        """What may be told of a receipt whose id may stand for these. `candidates`: key -> forms (receipt_ids.candidate_keys)."""
        before = await self.recalled()
        self.seen(next(iter(candidates)), "received")
        fitting = [candidates[key] for key, sent in known.items() if fits_number(receipt, sent)]
        certain = [form for forms in fitting if len(forms) == 1 for form in forms]
        for form in certain:
            self.count(form)
        if certain and self.usual is not None and self.usual != before:  # a hint alone is not worth remembering
            await self._store.put("receipt_form", self.usual, self._ttl)
