"""SpecMemory: the specs that this host knows, read again as they change, and written back when Redis is emptied.

Neighbours: reconciler.py asks `read` at each look, stores/wanted.py knows what changed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import NamedTuple

import structlog

from junebug.errors import StoreUnavailable
from junebug.model.routing import RouterSpec
from junebug.router_types import RouterTypes
from junebug.stores.wanted import Spec, WantedStore

log = structlog.stdlib.get_logger("reconciler")

THOROUGH_SHARE = 0.25
"""Of the time, that all hosts together may be reading all again; a tenth of that is Redis's. So where hosts and channels are many
they do it rarely.
"""


class Read(NamedTuple):
    specs: Mapping[str, Spec]
    deleted: list[str]
    was_emptied: bool
    """Redis was; the specs are written back."""


class SpecMemory:
    def __init__(self, store: WantedStore, router_types: RouterTypes) -> None:
        self._store = store
        self._router_types = router_types
        self._specs: dict[str, Spec] = {}
        self._changed: set[str] = set()
        """Specs that are to be read again; an empty text: all."""
        self._read_all_at = self._took = 0.0

    def changed(self, id: str) -> None:
        """Somebody says so: it is looked at, whatever Redis has noted."""
        self._changed.add(id)

    def may_read_all(self, hosts: int) -> bool:
        """Whether it is long enough ago, where so many hosts do so."""
        return time.monotonic() >= self._read_all_at + self._took * hosts / THOROUGH_SHARE

    async def read(self, thorough: bool) -> Read:
        """All specs, and which channels are deleted. `thorough`: all are read again, not only what is said to be new.

        Raises StoreUnavailable: what is to be read is read the next time.
        """
        begun, store, known = time.monotonic(), self._store, self._specs
        told, self._changed = self._changed, set()
        try:
            found = await store.look(told, thorough=thorough)
            told |= found.changed
            if not found.lost and known.keys() - found.generations.keys():
                found = await store.look()  # some vanished: deleted, or is Redis being emptied this very moment?
                told |= found.changed
            if was_emptied := found.lost:
                log.warning("Redis was emptied: writing the channels back", channels=len(known))
                await store.restore(known.values(), self._claims())
                found = await store.look()
                told |= found.changed
            changed = [
                id
                for id, generation in found.generations.items()
                if "" in told or id in told or id not in known or known[id].generation != generation
            ]
            read = await store.get_many(changed, found.routers) if changed else {}
            deleted = await store.deleted()
        except StoreUnavailable:
            self._changed |= told
            raise
        if changed or len(known) != len(found.generations):
            self._specs = {id: known[id] for id in found.generations.keys() - changed} | read
        if thorough:
            self._read_all_at = time.monotonic()
            self._took = self._read_all_at - begun
        return Read(self._specs, deleted, was_emptied)

    def _claims(self) -> dict[str, str]:
        """Routed channel -> its router."""
        routers = [spec for spec in self._specs.values() if isinstance(spec, RouterSpec)]
        return {channel: spec.id for spec in routers if (channel := self._router_types.own_channel(spec))}
