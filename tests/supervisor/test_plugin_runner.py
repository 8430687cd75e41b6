"""Plugins hear of channels in order; what they do wrong hurts nobody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import CapturingLogger

from junebug.config.declaration import Settings
from junebug.errors import ConfigError
from junebug.model.spec import ChannelSpec
from junebug.plugin import JunebugPlugin
from junebug.supervisor import plugin_runner
from junebug.supervisor.plugin_runner import PluginRunner, load_plugins

HERE = "tests.supervisor.test_plugin_runner"
CHANNEL = ChannelSpec(id="a", type="telnet", config={"password": "hush-hush"})


class Recorder(JunebugPlugin):
    """Plain and coroutine methods."""

    heard: list[tuple[Any, ...]]

    def start_plugin(self, config: dict[str, Any], junebug_config: Settings) -> None:
        self.heard = [("start", config["colour"], junebug_config.port)]

    async def channel_started(self, channel: ChannelSpec) -> None:
        self.heard.append(("started", channel.id, channel.config["password"]))

    def channel_stopped(self, channel: ChannelSpec) -> None:
        self.heard.append(("stopped", channel.id))

    def stop_plugin(self) -> None:
        self.heard.append(("stop",))


class Bad(Recorder):
    async def channel_started(self, channel: ChannelSpec) -> None:
        raise ValueError(f"cannot use {channel.config}")

    def channel_stopped(self, channel: ChannelSpec) -> None:
        time.sleep(1)
        super().channel_stopped(channel)


def recorder(kind: type[Recorder], timeout: float = 5.0) -> tuple[Recorder, PluginRunner]:
    made = kind()
    made.heard = []
    return made, PluginRunner(kind.__name__, made, {"colour": "red"}, Settings(port=1), timeout)


async def run(runner: PluginRunner, until: Callable[[], bool]) -> None:
    task = asyncio.create_task(runner.run())
    async with asyncio.timeout(5):
        while not until():
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_all_methods_are_called_in_order() -> None:
    made, runner = recorder(Recorder)
    runner.tell("channel_started", CHANNEL)
    runner.tell("channel_stopped", CHANNEL)
    await run(runner, until=lambda: len(made.heard) == 3)
    assert made.heard == [("start", "red", 1), ("started", "a", "hush-hush"), ("stopped", "a"), ("stop",)]


async def test_errors_and_hanging_are_logged_without_the_config(monkeypatch: pytest.MonkeyPatch) -> None:
    log = CapturingLogger()
    monkeypatch.setattr(plugin_runner, "log", log)
    made, runner = recorder(Bad, timeout=0.1)
    runner.tell("channel_started", CHANNEL)
    runner.tell("channel_stopped", CHANNEL)
    await run(runner, until=lambda: len(log.calls) == 2)
    assert made.heard[0] == ("start", "red", 1)
    assert [call.args for call in log.calls[:2]] == [("plugin failed",), ("plugin did not return in time",)]
    assert "hush-hush" not in str(log.calls)


def test_what_cannot_be_loaded_is_named() -> None:
    loaded = load_plugins(Settings(plugins=[{"type": f"{HERE}.Recorder"}]))
    assert len(loaded) == 1
    with pytest.raises(ConfigError, match=r"plugins\[1\]: cannot load 'no.such.Class'"):
        load_plugins(Settings(plugins=[{"type": f"{HERE}.Recorder"}, {"type": "no.such.Class"}]))
    with pytest.raises(ConfigError, match=r"plugins\[0\]: .* cannot be made: TypeError"):
        load_plugins(Settings(plugins=[{"type": "junebug.model.spec.ChannelSpec"}]))
