"""Runs the plugins of the settings: one call at a time for each, bounded by CALL_TIMEOUT, its errors caught.

A plugin that raises or hangs is logged and hurts nobody else. Neighbours: plugin.py has their base class, the reconciler
owns the runners.
"""

from __future__ import annotations

import asyncio
import inspect
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import structlog

from junebug.config.declaration import Settings
from junebug.errors import ConfigError
from junebug.model.spec import ChannelSpec
from junebug.registry import load_object

log = structlog.stdlib.get_logger("plugins")

CALL_TIMEOUT = 10.0
MAX_WAITING = 5_000
"""Calls that may wait for a slow plugin; what comes beyond is logged and left out."""


def load_plugins(settings: Settings) -> list[PluginRunner]:
    """A runner for each plugin of the settings. Raises ConfigError that names the one which cannot be loaded."""
    runners = []
    for number, config in enumerate(settings.plugins):
        where, name = f"plugins[{number}]", config["type"]
        loaded = load_object(name, where)
        try:
            runners.append(PluginRunner(name, loaded(), config, settings))
        except Exception as error:
            raise ConfigError(f"{where}: {name!r} cannot be made: {type(error).__name__}: {error}") from None
    return runners


class PluginRunner:
    """One plugin: its calls in order, each bounded, its errors caught."""

    def __init__(
        self, name: str, plugin: Any, config: dict[str, Any], settings: Settings, timeout: float = CALL_TIMEOUT
    ) -> None:
        self._name, self._plugin, self._timeout = name, plugin, timeout
        self._config, self._settings = config, settings
        self._calls: asyncio.Queue[tuple[str, ChannelSpec]] = asyncio.Queue(MAX_WAITING)
        # a thread of its own: a plain method that hangs keeps nothing but this plugin waiting
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="plugin")

    def tell(self, method: Literal["channel_started", "channel_stopped"], channel: ChannelSpec) -> None:
        """Returns at once; the plugin is called soon."""
        try:
            self._calls.put_nowait((method, channel))
        except asyncio.QueueFull:
            log.error("plugin is too slow, call left out", plugin=self._name, method=method, channel_id=channel.id)

    async def run(self) -> None:
        """Start the plugin and call it, until cancelled; then stop it."""
        await self._call("start_plugin", self._config, self._settings)
        try:
            while True:
                await self._call(*await self._calls.get())
        finally:
            await self._call("stop_plugin")
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def _call(self, method: str, *arguments: Any) -> None:
        call: Callable[..., Any] | None = getattr(self._plugin, method, None)
        if call is None:
            return
        try:
            async with asyncio.timeout(self._timeout):
                if inspect.iscoroutinefunction(call):
                    await call(*arguments)
                else:
                    result = await asyncio.get_running_loop().run_in_executor(self._thread, call, *arguments)
                    if inspect.isawaitable(result):
                        await result
        except TimeoutError:
            log.error("plugin did not return in time", plugin=self._name, method=method, timeout=self._timeout)
        except Exception as error:
            # where it failed, not what it said: that could quote a channel's config
            frame = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{frame.filename}:{frame.lineno}"
            log.error("plugin failed", plugin=self._name, method=method, error=type(error).__name__, where=where)
