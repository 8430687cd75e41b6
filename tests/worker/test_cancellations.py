"""Which messages are cancelled, when Redis was away meanwhile."""

from __future__ import annotations

from typing import cast

from junebug.errors import StoreUnavailable
from junebug.stores.cancellations import CancellationStore
from junebug.worker.outbound.cancellations import RETRY, Cancellations


class Store:
    """As CancellationStore, of a Redis that may be away."""

    def __init__(self) -> None:
        self.is_away = True
        self.asked = 0

    async def ids(self, channel: str) -> set[str]:
        self.asked += 1
        if self.is_away:
            raise StoreUnavailable("away")
        return {"cancelled"}


async def test_a_redis_that_was_away_is_asked_again_soon_but_not_before_each_message() -> None:
    store, now = Store(), 100.0
    cancellations = Cancellations(cast(CancellationStore, store), "c", lambda: now)
    assert cancellations.is_stale
    await cancellations.load()
    assert not cancellations.is_stale
    assert "cancelled" not in cancellations
    now += RETRY
    assert cancellations.is_stale
    store.is_away = False
    await cancellations.load()
    assert "cancelled" in cancellations
    now += 1000
    assert not cancellations.is_stale
    assert store.asked == 2
