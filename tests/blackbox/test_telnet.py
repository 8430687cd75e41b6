"""Channel types telnet and telnet_addr (COMPAT §5), and the specification's walk-through (spec 1.2)."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from tests.blackbox.conftest import Channels
from tests.harness import JunebugProcess, TelnetClient, WebhookSink, free_port, is_message_id, is_timestamp
from tests.polling import eventually


def curl(url: str, data: str) -> dict[str, Any]:
    """POST as `curl -X POST -d` does: its content type is that of a form."""
    request = urllib.request.Request(url, data.encode(), {"Content-Type": "application/x-www-form-urlencoded"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return dict(json.load(answer))


async def test_the_walk_through_of_the_specification(jb: JunebugProcess, sink: WebhookSink) -> None:
    port = free_port()
    created = curl(
        f"{jb.api.url}/channels/",
        json.dumps({
            "type": "telnet",
            "label": "My First Channel",
            "mo_url": sink.url("/pzvivfpz"),
            "config": {"twisted_endpoint": f"tcp:{port}"},
        }),
    )
    assert created["description"] == "channel created"
    channel_id = created["result"]["id"]
    async with await TelnetClient.connect(port) as client:
        (new,) = await sink.wait("/pzvivfpz")
        assert new.body == {
            "channel_data": {"session_event": "new"},
            "from": client.address,
            "channel_id": channel_id,
            "timestamp": new.body["timestamp"],
            "content": None,
            "to": f"0.0.0.0:{port}",
            "reply_to": None,
            "group": None,
            "message_id": new.body["message_id"],
        }
        assert is_timestamp(new.body["timestamp"])
        assert is_message_id(new.body["message_id"])
        messages = f"{jb.api.url}/channels/{channel_id}/messages/"
        curl(messages, json.dumps({"to": client.address, "content": "hello"}))
        assert await client.hear() == "hello"
        await client.say("Hi there")
        line = (await sink.wait("/pzvivfpz", 2))[1].body
        assert (line["content"], line["channel_data"]) == ("Hi there", {"session_event": "resume"})
        curl(messages, json.dumps({"reply_to": line["message_id"], "content": "hello again"}))
        assert await client.hear() == "hello again"
    assert (await jb.api.delete(f"/channels/{channel_id}")).status == 200


@pytest.mark.parametrize(
    ("config", "to_addr"),
    [
        ({"twisted_endpoint": "tcp:{}"}, "0.0.0.0:{}"),
        ({"twisted_endpoint": "tcp:port={}:interface=127.0.0.1"}, "127.0.0.1:{}"),
        ({"twisted_endpoint": "tcp:{}:interface=127.0.0.1"}, "127.0.0.1:{}"),
        ({"telnet_host": "127.0.0.1", "telnet_port": "{}"}, "127.0.0.1:{}"),
        ({"telnet_port": "{}"}, "0.0.0.0:{}"),
        ({"telnet_port": "{}", "to_addr": "8110"}, "8110"),
    ],
)
async def test_each_way_of_saying_where_to_listen(
    channels: Channels, sink: WebhookSink, config: dict[str, str], to_addr: str
) -> None:
    port = free_port()
    filled: dict[str, Any] = {name: value.format(port) for name, value in config.items()}
    if "telnet_port" in filled:
        filled["telnet_port"] = int(filled["telnet_port"])
    channel = await channels.create("telnet", filled, port)
    async with await channel.connect():
        (new,) = await sink.wait("/mo")
    assert new.body["to"] == to_addr.format(port)


def _is(address: str, session_event: str) -> Callable[[dict[str, Any]], bool]:
    return lambda body: (body["from"], body["channel_data"]["session_event"]) == (address, session_event)


async def test_disconnecting_and_quit_post_a_close(channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.telnet()
    async with await channel.connect() as client:
        await sink.wait("/mo")
    gone = await sink.wait_for("/mo", lambda body: body["channel_data"]["session_event"] == "close")
    assert (gone["from"], gone["content"]) == (client.address, None)
    for quit_line in ("/quit", "/QUIT"):
        async with await channel.connect() as client:
            await client.say(quit_line)
            assert await client.ended()
            address = client.address
        events = [
            await sink.wait_for("/mo", _is(address, session_event)) for session_event in ("new", "close")
        ]
        assert [event["content"] for event in events] == [None, None]
    assert all(body["content"] is None for body in sink.bodies("/mo"))


async def test_an_unknown_address_is_shown_to_everybody_and_rejected(channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.telnet()
    async with await channel.connect() as one, await channel.connect() as other:
        await sink.wait("/mo", 2)
        sent = await channel.send("+2771", "who is there", event_url=sink.url("/event"))
        assert await one.hear() == await other.hear() == "UNKNOWN ADDR [+2771]: who is there"
    event = await channel.event(sent["message_id"], "rejected")
    assert event["event_details"]["reason"] == "Unknown address."


async def test_a_message_reaches_its_own_client_only(channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.telnet()
    async with await channel.connect() as one, await channel.connect() as other:
        await sink.wait("/mo", 2)
        await channel.send(one.address, "for one")
        await channel.send(other.address, "for other")
        assert await one.hear() == "for one"
        assert await other.hear() == "for other"


async def test_iac_sequences_are_stripped_and_case_is_kept(channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.telnet()
    async with await channel.connect() as client:
        await client.write(b"\xff\xfd\x03\xff\xfb\x18\xff\xfa\x18\x00xterm\xff\xf0MiXed Case\r\n\xff\xf1After\n")
        await sink.wait("/mo", 3)
    assert [body["content"] for body in sink.bodies("/mo")[:3]] == [None, "MiXed Case", "After"]


async def test_a_line_that_comes_in_pieces_is_one_message(channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.telnet()
    async with await channel.connect() as client:
        await sink.wait("/mo")
        for piece in ("grüße ".encode()[:3], "grüße ".encode()[3:], b"from", b" afar\r", b"\n"):
            await client.write(piece)
        await sink.wait("/mo", 2)
    assert sink.bodies("/mo")[1]["content"] == "grüße from afar"


async def test_a_message_of_several_lines_is_shown_whole(channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.telnet()
    async with await channel.connect() as client:
        await sink.wait("/mo")
        await channel.send(client.address, "first\nsecond ü\n\nfourth")
        assert await client.hear_lines(4) == ["first", "second ü", "", "fourth"]


async def test_a_client_that_does_not_read_cuts_nobody_else_off(channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.telnet()
    async with await channel.connect() as deaf, await channel.connect() as other:
        await sink.wait("/mo", 2)
        for _ in range(5):
            await channel.send(deaf.address, "x" * 900_000)
        await channel.send(other.address, "still here")
        assert await other.hear(timeout=60) == "still here"


async def test_a_port_in_use_is_told_in_status_and_log_and_hurts_nobody(
    channels: Channels, sink: WebhookSink
) -> None:
    first = await channels.telnet()
    second = await channels.create("telnet", {"twisted_endpoint": f"tcp:{first.port}:interface=127.0.0.1"})

    async def is_down() -> bool:
        component = (await second.status())["components"].get("telnet", {})
        return component.get("status") == "down" and str(first.port) in component["message"]

    await eventually(is_down)
    assert any(str(first.port) in json.dumps(entry) for entry in await second.logs())
    async with await first.connect() as client:
        await client.say("all well")
        await sink.wait_content("/mo", "all well")


async def test_telnet_addr_asks_for_both_addresses_and_uses_them(channels: Channels, sink: WebhookSink) -> None:
    port = free_port()
    channel = await channels.create("telnet_addr", {"twisted_endpoint": f"tcp:{port}:interface=127.0.0.1"}, port)
    async with await channel.connect() as client:
        assert re.search(r"to_addr", await client.hear())
        await client.say("*120*8864#")
        assert re.search(r"from_addr", await client.hear())
        assert sink.requests("/mo") == []  # the session begins when the addresses are known
        await client.say("+27711234567")
        confirmation = await client.hear()
        assert "*120*8864#" in confirmation
        assert "+27711234567" in confirmation
        await client.say("hi")
        await sink.wait("/mo", 2)
        assert [(body["to"], body["from"], body["content"]) for body in sink.bodies("/mo")] == [
            ("*120*8864#", "+27711234567", None), ("*120*8864#", "+27711234567", "hi")
        ]  # fmt: skip
        await channel.send("+27711234567", "to the address")
        assert await client.hear() == "to the address"
    await sink.wait_for("/mo", lambda body: body["channel_data"]["session_event"] == "close")


@pytest.mark.parametrize("transport_type", ["ussd", None])
async def test_transport_type_can_be_set(channels: Channels, app: Any, transport_type: str | None) -> None:
    await app.declare("inbound", "event")
    config = {"transport_type": transport_type} if transport_type else {}
    channel = await channels.telnet(config, amqp_queue=app.name, mo_url=None)
    async with await channel.connect():
        assert (await app.next("inbound"))["transport_type"] == (transport_type or "telnet")
