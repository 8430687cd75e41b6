"""Which messages are cancelled: a set in memory that the sender looks at before it sends one.

Redis has them too (stores/cancellations.py). They are loaded whenever some may have been missed: at the start, and when
the link to RabbitMQ was lost, over which the API tells of new ones. Neighbours: sender.py, worker/commands.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from junebug.errors import StoreUnavailable
from junebug.stores.cancellations import CancellationStore

log = structlog.stdlib.get_logger("sender")

MOST_REMEMBERED = 10_000
RETRY = 5.0
"""Seconds after which Redis is asked again when it was away."""


class Cancellations:
    def __init__(self, store: CancellationStore, channel: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._channel = channel
        self._clock = clock
        self._ids: set[str] = set()
        self._told: set[str] = set()
        """Those that were added since the last load began."""
        self._begun: dict[str, None] = {}
        """The last that were sent (or are being sent): they can be cancelled no more, though no event tells so yet."""
        self._may_miss_some = True
        self._retry_at = 0.0

    @property
    def is_stale(self) -> bool:
        """Whether to `load` before the next message."""
        return self._may_miss_some and self._clock() >= self._retry_at

    def may_have_missed_some(self) -> None:
        self._may_miss_some = True

    async def load(self) -> None:
        """Ask Redis; while that is away, messages go on with what is known."""
        self._may_miss_some = False
        self._told.clear()
        try:
            self._ids = await self._store.ids(self._channel) | self._told
        except StoreUnavailable as error:
            log.warning("cancelled messages not read", reason=str(error))
            self._may_miss_some, self._retry_at = True, self._clock() + RETRY

    def __contains__(self, message_id: object) -> bool:
        return message_id in self._ids

    def add(self, message_id: str) -> bool:
        """False when the message has been begun."""
        if message_id in self._begun:
            return False
        self._ids.add(message_id)
        self._told.add(message_id)
        if len(self._told) > MOST_REMEMBERED:
            self._may_miss_some = True  # those that are done are forgotten by it
        return True

    def begin(self, message_id: str) -> None:
        """It is sent now."""
        self._begun[message_id] = None
        if len(self._begun) > MOST_REMEMBERED:
            del self._begun[next(iter(self._begun))]

    def not_begun(self, message_id: str) -> None:
        """It was not sent, and waits again."""
        self._begun.pop(message_id, None)

    async def done(self, message_id: str) -> None:
        """A cancelled one has come to be sent, and has its event."""
        try:
            await self._store.done(self._channel, message_id)
        except StoreUnavailable:
            pass  # it is forgotten later
