"""Plugins hear of channels in order; what they do wrong is logged and told, and hurts nobody."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

import pytest
from structlog.testing import CapturingLogger

from junebug.config.declaration import Settings
from junebug.errors import PluginError
from junebug.model.spec import ChannelSpec
from junebug.plugin import JunebugPlugin
from junebug.supervisor import plugin_runner
from junebug.supervisor.plugin_runner import PluginRunner
from tests.polling import eventually

CHANNEL = ChannelSpec(id="a", type="telnet", config={"password": "hush-hush"})
OTHER = ChannelSpec(id="b", type="telnet", config={})


class Recorder(JunebugPlugin):
    """Plain and coroutine methods. What the last one made heard is in `last`."""

    last: ClassVar[list[Any]] = []

    def __init__(self) -> None:
        Recorder.last = self.heard = []

    def start_plugin(self, config: dict[str, Any], junebug_config: Settings) -> None:
        self.heard.append(("start", config["colour"], junebug_config.port))

    async def channel_started(self, channel: ChannelSpec) -> None:
        self.heard.append(("started", channel.id, channel.config.get("password")))

    def channel_stopped(self, channel: ChannelSpec) -> None:
        self.heard.append(("stopped", channel.id))

    def settled(self) -> None:
        self.heard.append(("settled",))

    def stop_plugin(self) -> None:
        self.heard.append(("stop",))


class Bad(Recorder):
    """Each method fails in a way of its own."""

    async def channel_started(self, channel: ChannelSpec) -> None:
        raise ValueError(f"cannot use {channel.config}")

    def channel_stopped(self, channel: ChannelSpec) -> None:
        time.sleep(1)
        self.heard.append(("slept",))


class Moody(Recorder):
    """Does not start as long as it is in that mood."""

    mood: ClassVar[BaseException | None] = None

    def start_plugin(self, config: dict[str, Any], junebug_config: Settings) -> None:
        if Moody.mood:
            raise Moody.mood


class Stubborn(Recorder):
    """Settles at the third time."""

    def settled(self) -> None:
        super().settled()
        if self.heard.count(("settled",)) < 3:
            raise PluginError("not yet")


class Unmakeable(Recorder):
    def __init__(self) -> None:
        super().__init__()
        raise RuntimeError("hush-hush")


class Blocking(Recorder):
    """Coroutines that never let another run, and one that takes no notice of being cancelled."""

    async def channel_started(self, channel: ChannelSpec) -> None:
        time.sleep(0.5)

    async def channel_stopped(self, channel: ChannelSpec) -> None:
        for _ in range(3):
            try:
                await asyncio.sleep(0.3)
            except asyncio.CancelledError:
                pass
        self.heard.append(("stopped", channel.id))


def runner(kind: type[Recorder], timeout: float = 5.0, quiet: float = 60.0) -> PluginRunner:
    config = {"type": f"{__name__}.{kind.__name__}", "colour": "red"}
    return PluginRunner(config, Settings(port=1), timeout=timeout, quiet=quiet)


async def run(runner: PluginRunner, until: Callable[[], bool | Awaitable[bool]]) -> None:
    task = asyncio.create_task(runner.run())
    try:
        await eventually(until, 10)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(autouse=True)
def _nothing_heard() -> None:
    Recorder.last = []


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> CapturingLogger:
    captured = CapturingLogger()
    monkeypatch.setattr(plugin_runner, "log", captured)
    return captured


async def test_all_methods_are_called_in_order() -> None:
    runs = runner(Recorder)
    runs.tell("channel_started", CHANNEL)
    runs.tell("channel_stopped", CHANNEL)
    runs.tell("channel_started", OTHER)
    await run(runs, until=lambda: len(Recorder.last) == 4)
    assert Recorder.last == [
        ("start", "red", 1), ("started", "a", "hush-hush"), ("stopped", "a"), ("started", "b", None), ("stop",)
    ]  # fmt: skip
    assert runs.health() == {"type": f"{__name__}.Recorder", "status": "ok"}


async def test_errors_and_hanging_are_logged_and_told_without_the_config(log: CapturingLogger) -> None:
    runs = runner(Bad, timeout=0.1)
    runs.tell("channel_started", CHANNEL)
    runs.tell("channel_stopped", OTHER)
    await run(runs, until=lambda: len(log.calls) == 2)
    assert Recorder.last[0] == ("start", "red", 1)
    reasons = [call.kwargs["reason"] for call in log.calls[:2]]
    assert re.fullmatch(r"ValueError in .*test_plugin_runner\.py:\d+", reasons[0])
    assert reasons[1] == "did not return within 0.1 s"
    health = runs.health()
    assert (health["status"], health["problem_count"]) == ("failing", 3)  # the third: `stop_plugin` had to wait for it
    assert [problem["method"] for problem in health["problems"]] == ["channel_started", "channel_stopped", "stop_plugin"]
    assert [problem.get("channel_id") for problem in health["problems"]] == ["a", "b", None]
    assert [problem["message"] for problem in health["problems"]][:2] == reasons
    assert "hush-hush" not in str(log.calls) + str(health)


async def test_a_problem_of_a_channel_ends_with_the_next_call_for_it_that_works(log: CapturingLogger) -> None:
    runs = runner(Bad)
    runs.tell("channel_started", CHANNEL)
    runs.tell("channel_started", OTHER)
    await run(runs, until=lambda: len(log.calls) == 2)
    assert {problem["channel_id"] for problem in runs.health()["problems"]} == {"a", "b"}
    runs.tell("channel_stopped", CHANNEL)
    await run(runs, until=lambda: {problem["channel_id"] for problem in runs.health()["problems"]} == {"b"})
    assert ("slept",) in Recorder.last


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (PluginError("the colour is wrong"), "the colour is wrong"),
        (SystemExit(3), "SystemExit in "),
        (asyncio.CancelledError(), "CancelledError in "),
        (KeyboardInterrupt(), "KeyboardInterrupt in "),
    ],
)
async def test_a_start_that_fails_is_tried_again_before_anything_else(
    error: BaseException, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugin_runner, "START_PAUSES", (0.05, 0.1))
    monkeypatch.setattr(Moody, "mood", error)
    runs = runner(Moody)
    runs.tell("channel_started", CHANNEL)

    async def works() -> bool:
        if runs.health()["status"] == "failing":
            (problem,) = runs.health()["problems"]
            assert problem["method"] == "start_plugin"
            assert problem["message"].startswith(told)
            assert Recorder.last == []
            monkeypatch.setattr(Moody, "mood", None)
        return bool(Recorder.last)

    await run(runs, until=works)
    assert Recorder.last[0][:2] == ("started", "a")
    assert runs.health()["status"] == "ok"


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        (f"{__name__}.Unmakeable", "RuntimeError in "),
        ("no.such.Class", "plugins: cannot load 'no.such.Class'"),
        ("junebug.model.spec.ChannelSpec", "TypeError in "),
    ],
)
async def test_what_cannot_be_made_is_told(kind: str, told: str) -> None:
    runs = PluginRunner({"type": kind}, Settings())
    await run(runs, until=lambda: runs.health()["status"] == "failing")
    (problem,) = runs.health()["problems"]
    assert problem["message"].startswith(told)
    assert "hush-hush" not in str(problem)


async def test_it_settles_once_after_many_calls_and_again_until_that_works(
    monkeypatch: pytest.MonkeyPatch, log: CapturingLogger
) -> None:
    monkeypatch.setattr(plugin_runner, "RETRY", 0.05)
    runs = runner(Stubborn, quiet=0.1)
    for channel in (CHANNEL, OTHER, CHANNEL):
        runs.tell("channel_started", channel)
    await run(runs, until=lambda: Recorder.last.count(("settled",)) == 3 and runs.health()["status"] == "ok")
    assert [entry[0] for entry in Recorder.last] == ["start", *["started"] * 3, *["settled"] * 3, "stop"]
    assert runs.health()["status"] == "ok"
    said = [(call.args[0], call.kwargs["method"]) for call in log.calls]
    assert said == [("plugin failed", "settled"), ("plugin works again", "settled")]  # the same again is nothing new


async def test_without_any_channel_it_settles_once_the_channels_are_known() -> None:
    runs = runner(Recorder, quiet=0.05)
    task = asyncio.create_task(runs.run())
    await eventually(lambda: ("start", "red", 1) in Recorder.last, 5)
    await asyncio.sleep(0.2)
    assert ("settled",) not in Recorder.last
    runs.all_told()
    await eventually(lambda: ("settled",) in Recorder.last, 5)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert Recorder.last == [("start", "red", 1), ("settled",), ("stop",)]


async def test_what_never_lets_go_holds_up_nobody_and_is_never_called_twice_at_a_time() -> None:
    runs = runner(Blocking, timeout=0.2)
    runs.tell("channel_started", CHANNEL)
    runs.tell("channel_stopped", OTHER)
    longest = 0.0

    async def both_are_told() -> bool:
        nonlocal longest
        before = time.monotonic()
        await asyncio.sleep(0.01)
        longest = max(longest, time.monotonic() - before)
        return {problem.get("channel_id") for problem in runs.health().get("problems", [])} == {"a", "b"}

    await run(runs, until=both_are_told)
    assert longest < 0.4, "the plugin's sleep held up this loop"
    stopped = [entry for entry in Recorder.last if entry[0] in ("stopped", "stop")]
    assert stopped in ([], [("stopped", "b")], [("stopped", "b"), ("stop",)])


async def test_of_many_problems_a_bounded_number_is_kept_and_few_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin_runner, "MOST_KEPT", 20)
    runs = runner(Bad)
    for number in range(30):
        runs.tell("channel_started", ChannelSpec(id=f"c{number}", type="telnet", config={}))
    await run(runs, until=lambda: "c29" in runs._problems)
    health = runs.health()
    assert (health["problem_count"], len(health["problems"])) == (20, 10)
    assert health["problems"][0]["channel_id"] == "c10"


async def test_a_plugin_that_is_too_slow_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin_runner, "MAX_WAITING", 2)
    runs = runner(Recorder)
    for _ in range(4):
        runs.tell("channel_started", CHANNEL)
    assert [problem["method"] for problem in runs.health()["problems"]] == ["calls"]
