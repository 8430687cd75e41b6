"""How the lines of each channel's and router's log are shown to those who follow them: without secrets, PDUs with what they say.

Neighbours: handlers/logs.py shows the same of one log's newest lines, logs/follow.py calls `show` in its thread.
"""

from __future__ import annotations

import asyncio
import functools
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from junebug import names
from junebug.config.declaration import Settings
from junebug.errors import ChannelNotFound, RouterNotFound
from junebug.logs.follow import Line
from junebug.logs.redaction import UNMASKED, Redactor
from junebug.model.log_kinds import kind_of
from junebug.registry import Registry
from junebug.router_types import RouterTypes
from junebug.stores import Stores

VIEW_AGE = 30.0
"""Seconds after which a spec is read again: of a changed one the codecs may be others, and the secrets."""
FORGOTTEN_AFTER = 2 * VIEW_AGE
"""Seconds after which one is gone: whoever follows a log has its spec read again before."""
AT_ONCE = 50

Shown = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class _View:
    shown: Shown
    made_at: float
    logs: Sequence[str]
    """Several of a channel with shards."""


class LogViews:
    """Of one API process. `prepare` is the event loop's; `show` may be called in any thread."""

    def __init__(self, settings: Settings, stores: Stores, registry: Registry, types: RouterTypes) -> None:
        self._settings = settings
        self._stores = stores
        self._registry = registry
        self._types = types
        self._views: dict[str, _View] = {}

    async def prepare(self, channels: Iterable[str], routers: Iterable[str]) -> frozenset[str]:
        """Those of these logs that can be shown now: what was deleted meanwhile cannot. Raises StoreUnavailable."""
        wanted = [(id, self._of_channel) for id in channels] + [(id, self._of_router) for id in routers]
        now = time.monotonic()
        old = [(id, make) for id, make in wanted if id not in self._views or now - self._views[id].made_at > VIEW_AGE]
        for start in range(0, len(old), AT_ONCE):
            some = old[start : start + AT_ONCE]
            for (id, _), made in zip(some, await asyncio.gather(*(make(id) for id, make in some)), strict=True):
                if made is not None:
                    shown, shards = made
                    self._views[id] = _View(shown, now, names.units(id, shards))  # in one step: a thread may be showing by it
                else:
                    self._views.pop(id, None)
        for id in [id for id, view in self._views.items() if now - view.made_at > FORGOTTEN_AFTER]:
            del self._views[id]
        return frozenset(log for id, _ in wanted if id in self._views for log in self._views[id].logs)

    def show(self, log: str, line: bytes) -> Line | None:
        id = names.channel_of(log)
        view = self._views.get(id)
        try:
            entry = orjson.loads(line)
        except orjson.JSONDecodeError:
            return None  # the rest of a line that a full disk or a kill cut
        if view is None or not isinstance(entry, dict):
            return None
        kind, more = kind_of(entry)
        timestamp = entry.get("timestamp")
        at = float(timestamp) if isinstance(timestamp, int | float) else 0.0
        return Line(kind, at, functools.partial(_data, view.shown, {"kind": kind, "channel_id": id, **more}, entry))

    async def _of_channel(self, id: str) -> tuple[Shown, int] | None:
        """And how many shards it has."""
        try:
            spec = await self._stores.channels.get(id)
        except ChannelNotFound:
            return None
        redact = _redactor(self._registry.secret_values(spec, self._settings))
        return lambda entry: redact(self._registry.show_log(spec.type, spec.config, [entry])[0]), spec.shards

    async def _of_router(self, id: str) -> tuple[Shown, int] | None:
        try:
            spec = await self._stores.routers.get(id)
        except RouterNotFound:
            return None
        destinations = await self._stores.routers.destinations(id)
        return _redactor(self._types.secret_values(spec, destinations.values(), self._settings)), 1


def _redactor(secrets: list[str]) -> Shown:
    redactor = Redactor(secrets)

    def redact(entry: dict[str, Any]) -> dict[str, Any]:
        return {name: value if name in UNMASKED else redactor.value(value) for name, value in entry.items()}

    return redact


def _data(shown: Shown, told: dict[str, str], entry: dict[str, Any]) -> bytes:
    """One line of JSON."""
    data = {**told, **shown(entry), **told}
    try:
        return orjson.dumps(data)
    except TypeError:  # a number of more than 64 bits
        return json.dumps(data, default=str).encode()
