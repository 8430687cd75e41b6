"""A Junebug with `sentry_dsn`: the error of a channel's process arrives there."""

from __future__ import annotations

from tests.blackbox.conftest import Channels, StartJunebug
from tests.harness import ROOT, WebhookSink
from tests.polling import eventually
from tests.sentry_server import FakeSentry


async def test_an_error_of_a_channel_is_told_without_the_message(start_junebug: StartJunebug, sink: WebhookSink) -> None:
    with FakeSentry() as sentry:
        junebug = start_junebug(
            {"sentry-dsn": sentry.dsn, "channels": "broken:tests.blackbox.channel_types.BrokenTransport"},
            environment={"PYTHONPATH": str(ROOT)},
        )
        channel = await (await Channels(junebug.api, sink).create("broken", {})).running()
        message = await channel.send("+27831234567", "raise")
        await eventually(lambda: sentry.events)
        event = sentry.events[0]
        assert event["tags"] == {"process": "channel", "channel_id": channel.id, "message_id": message["message_id"]}
        assert event["exception"]["values"][-1]["type"] == "ValueError"
        assert "send" in {frame["function"] for frame in event["exception"]["values"][-1]["stacktrace"]["frames"]}
        assert "+27831234567" not in "".join(sentry.raw)
        assert junebug.stop() == 0
        assert sentry.dsn not in junebug.output() + (junebug.logs_directory / channel.id).read_text()
