"""Channel type loopback: the smallest example, and the quickest way to try an application."""

from __future__ import annotations

from tests.blackbox.conftest import Channels
from tests.harness import WebhookSink


async def test_what_is_sent_comes_back_from_whom_it_was_sent_to(channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.loopback()
    sent = await channel.send("+2771", "echo me", **{"from": "8110", "group": "#g"}, channel_data={"extra": [1]})
    (received,) = await sink.wait("/mo")
    body = received.body
    assert (body["from"], body["to"], body["group"], body["content"]) == ("+2771", "8110", "#g", "echo me")
    assert body["channel_data"] == {"extra": [1]}
    assert body["message_id"] != sent["message_id"]


async def test_an_echo_can_be_replied_to(channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.loopback()
    await channel.send("+2771", "one")
    (first,) = await sink.wait("/mo")
    await channel.send(content="two", reply_to=first.body["message_id"])
    second = (await sink.wait("/mo", 2))[1].body
    assert (second["content"], second["from"], second["reply_to"]) == ("two", "+2771", first.body["message_id"])


async def test_each_message_is_submitted_and_delivered(channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.loopback()
    await channel.send("+2771", event_url=sink.url("/event"))
    await sink.wait("/event", 2)
    assert {body["event_type"] for body in sink.bodies("/event")} == {"submitted", "delivery_succeeded"}


async def test_delivery_reports_can_be_turned_off(channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.loopback({"delivery_reports": False})
    for n in range(3):
        await channel.send("+2771", str(n), event_url=sink.url("/event"))
    await sink.wait("/event", 3)
    await channel.modify(label="a later answer, so that anything more would have come")
    assert [body["event_type"] for body in sink.bodies("/event")] == ["submitted"] * 3


async def test_its_component_is_ok(channels: Channels) -> None:
    channel = await channels.loopback()
    component = await channel.component("loopback")
    assert (component["status"], component["component"]) == ("ok", "loopback")
