"""Which channels can send now, for routers that choose among several: never older than a second.

Neighbours: spec_cache.py has the channels' specs, handlers/routed_messages.py asks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

from junebug.api.spec_cache import MAX_AGE, MAX_SPECS, SpecCache
from junebug.errors import ChannelNotFound
from junebug.model.routing import ChannelState, state_of
from junebug.stores.statuses import StatusStore


class ChannelStates:
    """Channel id -> state."""

    def __init__(self, specs: SpecCache, statuses: StatusStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._specs = specs
        self._statuses = statuses
        self._clock = clock
        self._known: dict[str, tuple[dict[str, dict[str, Any]], float]] = {}
        """The components' last statuses, and until when they count."""

    async def of(self, channels: Sequence[str]) -> dict[str, ChannelState]:
        """Raises StoreUnavailable."""
        return dict(zip(channels, await asyncio.gather(*map(self._state, channels)), strict=True))

    async def _state(self, channel: str) -> ChannelState:
        try:
            spec = await self._specs.get(channel)
        except ChannelNotFound:
            return state_of(None, {})
        return state_of(spec, await self._components(channel))

    async def _components(self, channel: str) -> dict[str, dict[str, Any]]:
        components, ends = self._known.get(channel, ({}, 0.0))
        now = self._clock()
        if now >= ends:
            components = await self._statuses.components(channel)
            if len(self._known) >= MAX_SPECS:
                self._known.clear()
            self._known[channel] = (components, now + MAX_AGE)
        return components
