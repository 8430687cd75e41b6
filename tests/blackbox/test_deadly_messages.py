"""A message that kills its channel's process, or hangs it, does so twice, and then no more (issue 10, D15)."""

from __future__ import annotations

import json

import pytest

from tests.blackbox.conftest import Channels
from tests.harness import WebhookSink

FLAGS = {"channels": "deadly:tests.blackbox.channel_types.DeadlyTransport", "worker-timeout": 2}


@pytest.mark.parametrize("content", ["kill", "exit", "hang"])
async def test_what_kills_a_channel_is_set_aside_and_the_channel_goes_on(
    channels: Channels, sink: WebhookSink, content: str
) -> None:
    channel = await (await channels.create("deadly", {}, mo_url=sink.url("/mo"))).running()
    await channel.send("+27", content, event_url=sink.url("/event"))
    last = await channel.send("+27", "goes on", event_url=sink.url("/event"))
    await channel.event(last["message_id"], "submitted")
    (letter,) = (await channel.api.get(f"{channel.path}/dead-letters/")).result["dead_letters"]
    assert json.loads(letter["body"])["content"] == content
    assert letter["reason"] == "failed"
    assert (await channel.component("set_aside"))["status"] == "degraded"
