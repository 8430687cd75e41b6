"""Plugins of a running Junebug: what a bad one does is shown in /health; channels and the other plugins notice nothing."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from junebug.plugin import JunebugPlugin
from tests.blackbox.conftest import Channels, StartJunebug
from tests.harness import WebhookSink
from tests.polling import eventually

BAD, GOOD = f"{__name__}.BadPlugin", f"{__name__}.GoodPlugin"


class BadPlugin(JunebugPlugin):
    """Raises what quotes the config, and never comes back."""

    async def channel_started(self, channel: Any) -> None:
        raise ValueError(f"a careless text: {channel.config}")

    async def channel_stopped(self, channel: Any) -> None:
        time.sleep(3600)


class GoodPlugin(JunebugPlugin):
    def start_plugin(self, config: dict[str, Any], junebug_config: Any) -> None:
        self.path = Path(config["path"])

    def channel_started(self, channel: Any) -> None:
        self._note(f"started {channel.id}")

    async def channel_stopped(self, channel: Any) -> None:
        self._note(f"stopped {channel.id}")

    def stop_plugin(self) -> None:
        self._note("stop")

    def _note(self, what: str) -> None:
        with self.path.open("a") as file:
            file.write(f"{what}\n")


async def test_a_bad_plugin_is_shown_and_hurts_nobody(
    start_junebug: StartJunebug, sink: WebhookSink, short_dir: Path
) -> None:
    heard = short_dir / "heard"
    plugins = [{"type": BAD}, {"type": GOOD, "path": str(heard)}]
    junebug = start_junebug({"plugin": json.dumps(plugins)})
    channels = Channels(junebug.api, sink)
    first = await channels.telnet()
    marker = first.created["config"]["twisted_endpoint"]

    async def shown() -> list[dict[str, Any]]:
        answer = await junebug.api.get("/health")
        assert (answer.status, answer.description) == (200, "health ok")
        assert "plugins" in answer.result
        return list(answer.result["plugins"])

    async def failing() -> bool:
        bad, good = await shown()
        assert good == {"type": GOOD, "status": "ok"}
        assert (bad["type"], bad["status"], bad.get("problem_count")) == (BAD, "failing", 1)
        (problem,) = bad["problems"]
        assert (problem["method"], problem["channel_id"]) == ("channel_started", first.id)
        return bool(problem["message"].startswith("ValueError in ") and marker not in str(bad))

    await eventually(failing)
    await eventually(lambda: "plugin failed" in junebug.output())  # a thread writes it
    assert "a careless text" not in junebug.output()
    pid = await first.pid()
    second = await channels.loopback()
    expected = [f"started {first.id}", f"started {second.id}"]
    await eventually(lambda: heard.read_text().splitlines() == expected)
    await second.delete()  # from here on the bad one hangs
    third = await channels.loopback()
    expected += [f"stopped {second.id}", f"started {third.id}"]
    await eventually(lambda: sorted(heard.read_text().splitlines()) == sorted(expected))
    await third.send("+2771", "through")
    await sink.wait_content("/mo", "through")
    assert await first.pid() == pid
    assert junebug.stop() == 0
    assert heard.read_text().splitlines()[-1] == "stop"
