"""How the lines of each channel's and router's log are shown to those who follow them: without secrets, PDUs with what they say.

Neighbours: handlers/logs.py shows the same of one log's newest lines, logs/follow.py calls `show` in its thread.
"""

from __future__ import annotations

import asyncio
import functools
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import orjson

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
AT_ONCE = 50

Shown = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class _View:
    shown: Shown
    made_at: float


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
            for (id, _), shown in zip(some, await asyncio.gather(*(make(id) for id, make in some)), strict=True):
                if shown is None:
                    self._views.pop(id, None)
                else:
                    self._views[id] = _View(shown, now)
        return frozenset(id for id, _ in wanted if id in self._views)

    def forget(self) -> None:
        """Nobody looks at any log."""
        self._views.clear()

    def show(self, log: str, line: bytes) -> Line | None:
        view = self._views.get(log)
        try:
            entry = orjson.loads(line)
        except orjson.JSONDecodeError:
            return None  # the rest of a line that a full disk or a kill cut
        if view is None or not isinstance(entry, dict):
            return None
        kind, more = kind_of(entry)
        timestamp = entry.get("timestamp")
        at = float(timestamp) if isinstance(timestamp, int | float) else 0.0
        return Line(kind, at, functools.partial(_data, view.shown, {"kind": kind, "channel_id": log, **more}, entry))

    async def _of_channel(self, id: str) -> Shown | None:
        try:
            spec = await self._stores.channels.get(id)
        except ChannelNotFound:
            return None
        redact = _redactor(self._registry.secret_values(spec, self._settings))
        return lambda entry: redact(self._registry.show_log(spec.type, spec.config, [entry])[0])

    async def _of_router(self, id: str) -> Shown | None:
        try:
            spec = await self._stores.routers.get(id)
        except RouterNotFound:
            return None
        destinations = await self._stores.routers.destinations(id)
        return _redactor(self._types.secret_values(spec, destinations.values(), self._settings))


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
