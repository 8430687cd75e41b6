"""The plugins of the settings: each is told what happens to channels, and Redis how they do, for the API's `/health`.

Neighbours: the reconciler owns them, plugin_runner.py runs each, stores/plugins.py keeps what is reported.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Literal

from junebug.config.declaration import Settings
from junebug.errors import StoreUnavailable
from junebug.model.spec import ChannelSpec
from junebug.stores.plugins import PluginStore
from junebug.supervisor.plugin_runner import PluginRunner
from junebug.supervisor.reconcile import Running, Spec

REPORT_INTERVAL = 30.0
"""Seconds; Redis forgets a report after PluginStore's TTL."""


class Plugins:
    """All of them; none at all costs nothing."""

    def __init__(self, settings: Settings, store: PluginStore) -> None:
        self._store = store
        self._changed = asyncio.Event()
        self._known = False
        self._announced: dict[str, ChannelSpec] = {}
        """Channels that the plugins were told to be started."""
        self.runners = [PluginRunner(config, settings, self._changed.set) for config in settings.plugins]

    def look(self, running: Mapping[str, Running], leaving: Collection[str], specs: Mapping[str, Spec]) -> None:
        """Tell of the channels that run, and of those that do no more: by their first shards."""
        for channel, spec in list(self._announced.items()):
            now = running.get(channel)
            is_same = now and now.state not in ("STOPPED", "STOPPING") and now.generation == spec.generation
            if not is_same or channel in leaving:
                del self._announced[channel]
                self._tell("channel_stopped", spec)
        for channel, process in running.items():
            is_up = process.state == "RUNNING" and channel not in leaving
            wanted = specs.get(channel)
            if is_up and isinstance(wanted, ChannelSpec) and channel not in self._announced:
                self._announced[channel] = wanted
                self._tell("channel_started", wanted)
        if not self._known:
            self._known = True
            for each in self.runners:
                each.all_told()

    def _tell(self, method: Literal["channel_started", "channel_stopped"], channel: ChannelSpec) -> None:
        """Returns at once; what a plugin does wrong is its own affair."""
        for each in self.runners:
            each.tell(method, channel)

    async def report(self) -> None:
        """Keep Redis' picture fresh, for ever; while it is away the next time will do."""
        while self.runners:
            self._changed.clear()
            try:
                await self._store.put([each.health() for each in self.runners])
            except StoreUnavailable:
                pass
            try:
                async with asyncio.timeout(REPORT_INTERVAL):
                    await self._changed.wait()
            except TimeoutError:
                pass
