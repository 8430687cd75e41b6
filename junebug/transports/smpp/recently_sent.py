"""What was sent a moment ago, and what was reported of it: for its receipt Redis need not be asked. Pure.

Neighbour: correlation.py, which keeps the same in Redis, for longer than this process lives.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SentPart:
    """What was accepted under one id of the provider's. Parts count from 1."""

    message_id: str
    channel: str
    to_addr: str
    part: int = 1
    parts: int = 1


@dataclass(slots=True)
class Recent:
    """A message in one part that nothing final was reported of."""

    sent: SentPart
    ends: float
    status: str | None = None
    is_noted: bool = True
    """False: this status is reported, and Redis does not know it yet."""
    is_saved: bool = True
    """False: Redis knows nothing of it, and will not."""


class RecentlySent:
    """By the keys of the provider's ids; of more than `most`, those that were sent last."""

    def __init__(self, most: int, ttl: float, clock: Callable[[], float]) -> None:
        self.most = most
        self._ttl = ttl
        self._clock = clock
        self._known: OrderedDict[str, Recent] = OrderedDict()

    def add(self, key: str, sent: SentPart, *, is_saved: bool = True) -> None:
        self._known[key] = Recent(sent, self._clock() + self._ttl, is_saved=is_saved)
        self._known.move_to_end(key)
        if len(self._known) > self.most:
            self._known.popitem(last=False)

    def forget(self, key: str) -> None:
        self._known.pop(key, None)

    def find(self, keys: Collection[str]) -> tuple[str, SentPart] | None:
        """The first of these that is known."""
        for key in keys:
            if (recent := self._known.get(key)) and recent.ends > self._clock():
                return key, recent.sent
        return None

    def unsaved(self, key: str) -> SentPart | None:
        """What Redis need not be asked about, as it does not know."""
        recent = self._known.get(key)
        return recent.sent if recent and not recent.is_saved and recent.ends > self._clock() else None

    def of(self, key: str, sent: SentPart) -> Recent | None:
        """What is known of this very message."""
        recent = self._known.get(key)
        return recent if recent and recent.sent.message_id == sent.message_id else None

    def noted(self, key: str, sent: SentPart, status: str, *, is_final: bool) -> None:
        """Redis knows that this is reported of it."""
        if recent := self.of(key, sent):
            recent.status, recent.is_noted = status, True
            if is_final:
                del self._known[key]
