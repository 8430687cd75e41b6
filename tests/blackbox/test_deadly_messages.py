"""A message that kills its channel's process, or hangs it, does so twice, and then no more (issue 10, D15)."""

from __future__ import annotations

import json

from tests.blackbox.conftest import Channels
from tests.harness import WebhookSink

FLAGS = {"channels": "deadly:tests.blackbox.channel_types.DeadlyTransport", "worker-timeout": 2}


async def test_what_kills_a_channel_is_set_aside_and_the_channel_goes_on(channels: Channels, sink: WebhookSink) -> None:
    channel = await (await channels.create("deadly", {}, mo_url=sink.url("/mo"))).running()
    contents = ["kill", "exit", "hang"]
    sent = [await channel.send("+27", content, event_url=sink.url("/event")) for content in (*contents, "goes on")]
    await channel.event(sent[-1]["message_id"], "submitted")
    shown = (await channel.api.get(f"{channel.path}/dead-letters/")).result["dead_letters"]
    assert [json.loads(letter["body"])["content"] for letter in shown] == contents
    assert {letter["reason"] for letter in shown} == {"failed"}
    assert (await channel.component("set_aside"))["status"] == "degraded"
