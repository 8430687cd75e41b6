"""Runs one plugin: one call at a time in a thread of its own, each bounded by CALL_TIMEOUT, what it raises kept.

A plugin that raises, hangs or blocks is logged and shown in `/health`, and hurts nobody else. Neighbours: junebug/plugin.py
has plugins' base class, plugins.py a runner for each plugin of the settings.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal

import structlog

from junebug.config.declaration import Settings
from junebug.config_schema import load_object
from junebug.errors import JunebugError
from junebug.model.messages import format_timestamp
from junebug.model.spec import ChannelSpec
from junebug.runtime.backoff import Backoff

log = structlog.stdlib.get_logger("plugins")

CALL_TIMEOUT = 10.0
START_PAUSES = (1.0, 60.0)
"""Seconds before a plugin that did not start is tried again: the first and the longest."""
QUIET, LONGEST_UNSETTLED = 1.0, 5.0
"""Seconds without a call after which a plugin's `settled` is called, and how long it waits for that at the most."""
RETRY = 30.0
"""Seconds before a `settled` that failed is tried again."""
MAX_WAITING = 5_000
"""Calls that may wait for a slow plugin; what comes beyond is logged and left out."""
MOST_SHOWN, MOST_KEPT, LONGEST_MESSAGE = 10, 1000, 1000
"""Problems of one plugin in `/health`, and here: the oldest go first. Characters of each."""


class PluginRunner:
    """One plugin: its calls in order, each bounded, its errors caught."""

    def __init__(
        self,
        config: dict[str, Any],
        settings: Settings,
        on_change: Callable[[], None] = lambda: None,
        timeout: float = CALL_TIMEOUT,
        quiet: float = QUIET,
    ) -> None:
        """`config`: from the settings. `on_change` is called when `health` says something new."""
        self._name, self._config, self._settings = str(config["type"]), config, settings
        self._on_change, self._timeout, self._quiet = on_change, timeout, quiet
        self._plugin: Any = None
        self._calls: asyncio.Queue[tuple[str, ChannelSpec] | None] = asyncio.Queue(MAX_WAITING)
        self._problems: dict[str, dict[str, Any]] = {}
        """What failed last: by the channel's id, or else by the method."""

    def tell(self, method: Literal["channel_started", "channel_stopped"], channel: ChannelSpec) -> None:
        """Returns at once; the plugin is called soon."""
        self._put((method, channel), channel.id)

    def all_told(self) -> None:
        """Of every channel that runs the plugin was told: it may settle, were there none at all."""
        self._put(None, None)

    def health(self) -> dict[str, Any]:
        """As `/health` shows it."""
        if not self._problems:
            return {"type": self._name, "status": "ok"}
        shown = list(self._problems.values())[:MOST_SHOWN]
        return {"type": self._name, "status": "failing", "problems": shown, "problem_count": len(self._problems)}

    async def run(self) -> None:
        """Start the plugin and call it, until cancelled; then stop it."""
        thread = _PluginThread()
        backoff = Backoff(*START_PAUSES)
        try:
            while not await self._start(thread):
                await backoff.pause()
            try:
                await self._serve(thread)
            finally:
                await self._call(thread, "stop_plugin")
        finally:
            thread.end()

    async def _start(self, thread: _PluginThread) -> bool:
        """Load it, make it, call its `start_plugin`; whether all of that worked."""

        def begin() -> Any:
            self._plugin = load_object(self._name, "plugins")()
            start = getattr(self._plugin, "start_plugin", None)
            return start and start(self._config, self._settings)

        return await self._try(thread, "start_plugin", begin)

    async def _serve(self, thread: _PluginThread) -> None:
        loop = asyncio.get_running_loop()
        first = settle_at = None
        while True:
            if settle_at is None or loop.time() < settle_at:
                try:
                    async with asyncio.timeout_at(settle_at):
                        call = await self._calls.get()
                except TimeoutError:
                    continue
                if call:
                    await self._call(thread, *call)
                first = loop.time() if first is None else first
                settle_at = min(loop.time() + self._quiet, first + LONGEST_UNSETTLED)
            else:
                first = None
                settle_at = None if await self._call(thread, "settled") else loop.time() + RETRY

    async def _call(self, thread: _PluginThread, method: str, *arguments: Any) -> bool:
        """Whether the plugin did what it was told; one that has no such method did."""
        function = getattr(self._plugin, method, None)
        return function is None or await self._try(thread, method, function, *arguments)

    async def _try(self, thread: _PluginThread, method: str, function: Callable[..., Any], *arguments: Any) -> bool:
        channel = arguments[0].id if arguments and isinstance(arguments[0], ChannelSpec) else None
        try:
            async with asyncio.timeout(self._timeout):
                error = await thread.call(function, *arguments)
        except TimeoutError:
            self._failed(method, channel, f"did not return within {self._timeout:g} s")
            return False
        if error is not None:
            self._failed(method, channel, _told(error))
        elif self._problems.pop(channel or method, None):
            log.info("plugin works again", plugin=self._name, method=method, channel_id=channel)
            self._on_change()
        return error is None

    def _failed(self, method: str, channel: str | None, message: str) -> None:
        """Log and keep it; said again it is nothing new."""
        before = self._problems.get(channel or method, {})
        if (before.get("method"), before.get("message")) == (method, message):
            return
        log.error("plugin failed", plugin=self._name, method=method, channel_id=channel, reason=message)
        self._problems[channel or method] = {
            "method": method, **({"channel_id": channel} if channel else {}), "message": message,
            "since": format_timestamp(datetime.now(UTC)),
        }  # fmt: skip
        if len(self._problems) > MOST_KEPT:
            del self._problems[next(iter(self._problems))]
        self._on_change()

    def _put(self, call: tuple[str, ChannelSpec] | None, channel: str | None) -> None:
        try:
            self._calls.put_nowait(call)
        except asyncio.QueueFull:
            self._failed("calls", None, f"too slow: more than {MAX_WAITING} calls waited, some were left out")


class _PluginThread:
    """A thread with an event loop, both of one plugin: what blocks there, be it in a coroutine, blocks nobody else.

    It ends with the process, whatever it does.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._one_at_a_time = asyncio.Lock()
        threading.Thread(target=self._live, name="plugin", daemon=True).start()

    async def call(self, function: Callable[..., Any], *arguments: Any) -> BaseException | None:
        """What it raised: SystemExit, too, ends nobody."""

        async def work() -> BaseException | None:
            async with self._one_at_a_time:
                try:
                    result = function(*arguments)
                    if inspect.isawaitable(result):
                        await result
                except BaseException as error:
                    return error
            return None

        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work(), self._loop))

    def _live(self) -> None:
        self._loop.run_forever()
        if left := asyncio.all_tasks(self._loop):
            for task in left:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self._loop.close()

    def end(self) -> None:
        """What still runs there is cancelled."""
        self._loop.call_soon_threadsafe(self._loop.stop)


def _told(error: BaseException) -> str:
    """Of an error that is none of ours: where it was raised, not what it said, which could quote a channel's config."""
    if isinstance(error, JunebugError):
        return str(error)[:LONGEST_MESSAGE]
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {frame.filename}:{frame.lineno}"
