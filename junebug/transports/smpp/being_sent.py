"""Messages that wait for the responses which name their ids: what looks like a receipt of one may have to wait for that, too.

Neighbour: correlation.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress

from junebug.smpp import receipt_ids


class BeingSent:
    """Message id -> where it goes."""

    def __init__(self) -> None:
        self._to: dict[str, str] = {}
        self._answered = asyncio.Event()

    @contextmanager
    def __call__(self, message_id: str, to_addr: str) -> Iterator[None]:
        """Until it ends, an id may come that is of a message to this number."""
        self._to[message_id] = to_addr
        try:
            yield
        finally:
            self._to.pop(message_id, None)
            self._answered.set()  # wakes who waits now
            self._answered.clear()

    def to_writer(self, addresses: Sequence[str]) -> set[str]:
        """Messages that go to who wrote a receipt with these addresses."""
        return {each for each, to in self._to.items() if any(receipt_ids.same_number(a, to) for a in addresses[:1])}

    async def end(self, messages: Collection[str], patience: float) -> None:
        """When the ids of these are known, or late."""
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while not self._to.keys().isdisjoint(messages):
                    await self._answered.wait()
