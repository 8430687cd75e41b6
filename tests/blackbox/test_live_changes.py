"""What a change does to a running channel: most is applied while it runs, type and config restart it (COMPAT §1)."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tests.blackbox.conftest import Channels
from tests.harness import AppQueues, Channel, TelnetClient, WebhookSink, free_port, vumi_message
from tests.polling import eventually


async def talk(client: TelnetClient, sink: WebhookSink, path: str, text: str) -> dict[str, Any]:
    """Say it; what the application got of it."""
    await client.say(text)
    return await sink.wait_content(path, text)


async def test_a_changed_mo_url_and_token_hold_without_cutting_a_session(
    channels: Channels, sink: WebhookSink
) -> None:
    channel = await channels.telnet(mo_url_auth_token="old")
    pid = await channel.pid()
    async with await channel.connect() as client:
        await talk(client, sink, "/mo", "before")
        await channel.modify(mo_url=sink.url("/new"), mo_url_auth_token="new")

        async def arrives_at_the_new() -> bool:
            await client.say("after")
            return bool(sink.requests("/new"))

        await eventually(arrives_at_the_new)
        assert sink.requests("/new")[0].headers["Authorization"] == "Token new"
        await channel.send(client.address, "still the same session")
        assert await client.hear() == "still the same session"
    assert await channel.pid() == pid
    await sink.wait_for("/new", lambda body: body["channel_data"]["session_event"] == "close")
    assert sink.bodies("/new")[0]["channel_data"]["session_event"] == "resume"


async def test_a_changed_mo_url_holds_for_what_is_being_retried(channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.loopback(mo_url="http://127.0.0.1:9/nobody")
    await channel.send("+27", "stuck")

    async def is_failing() -> bool:
        return (await channel.component("callbacks")).get("status") == "degraded"

    await eventually(is_failing)
    await channel.modify(mo_url=sink.url("/mo"))
    await sink.wait_content("/mo", "stuck")


async def test_a_changed_status_url_holds_for_the_next_status(channels: Channels, sink: WebhookSink) -> None:
    """The original forgot it."""
    channel = await channels.telnet(status_url=sink.url("/old"))
    await sink.wait("/old", 4)
    pid = await channel.pid()
    async with await channel.connect() as client:
        await talk(client, sink, "/mo", "before")
        await channel.modify(status_url=sink.url("/new"))
        await channel.modify(mo_url="http://127.0.0.1:9/nobody")
        await eventually(lambda: _is_told(client, sink))
        assert client.is_open
    assert await channel.pid() == pid
    assert all(body["status"] == "ok" for body in sink.bodies("/old"))


async def _is_told(client: TelnetClient, sink: WebhookSink) -> bool:
    await client.say("fails soon")
    return any(body["status"] == "degraded" for body in sink.bodies("/new"))


async def test_a_status_url_of_null_is_silence(channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.telnet(status_url=sink.url("/status"))
    await sink.wait("/status", 4)
    await channel.modify(status_url=None)
    await channel.modify(mo_url="http://127.0.0.1:9/nobody")
    async with await channel.connect():

        async def is_degraded() -> bool:
            return (await channel.component("callbacks")).get("status") == "degraded"

        await eventually(is_degraded)
    assert {body["component"] for body in sink.bodies("/status")} == {"telnet", "worker", "amqp", "redis"}


async def test_a_changed_limit_or_label_leaves_the_session_alone(channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.telnet()
    pid = await channel.pid()
    async with await channel.connect() as client:
        await talk(client, sink, "/mo", "before")
        await channel.modify(
            label="new", metadata={"new": 1}, character_limit=5, rate_limit_count=100, rate_limit_window=1
        )
        refused = await channel.api.post(f"{channel.path}/messages/", {"to": client.address, "content": "123456"})
        assert (refused.status, refused.error_types) == (400, {"MessageTooLong"})
        await channel.send(client.address, "12345")
        assert await client.hear() == "12345"
        await talk(client, sink, "/mo", "after")
    assert await channel.pid() == pid


async def test_the_same_config_again_restarts_nothing(channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.telnet()
    pid = await channel.pid()
    async with await channel.connect() as client:
        await sink.wait("/mo")
        before = await channel.get()
        await channel.modify(type="telnet", config=before["config"])
        await channel.modify(label="so that there is a change")
        await talk(client, sink, "/mo", "still here")
    assert await channel.pid() == pid


async def test_a_changed_config_restarts_that_channel_and_no_other(channels: Channels, sink: WebhookSink) -> None:
    channel, other = await channels.telnet(), await channels.telnet()
    pid, other_pid = await channel.pid(), await other.pid()
    port = free_port()
    async with await channel.connect() as client, await other.connect() as other_client:
        await sink.wait("/mo", 2)
        changed = await channel.modify(config={"twisted_endpoint": f"tcp:{port}:interface=127.0.0.1"})
        assert changed["config"]["twisted_endpoint"] == f"tcp:{port}:interface=127.0.0.1"
        assert await client.ended()
        async with await TelnetClient.connect(port) as again:
            await talk(again, sink, "/mo", "on the new port")
        await talk(other_client, sink, "/mo", "undisturbed")
    await channel.running(other_than_pid=pid)
    assert await other.pid() == other_pid
    closes = [body for body in sink.bodies("/mo") if body["channel_data"].get("session_event") == "close"]
    assert client.address in {body["from"] for body in closes}


async def test_a_changed_type_makes_it_another_channel(channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.loopback()
    port = free_port()
    await channel.modify(type="telnet", config={"twisted_endpoint": f"tcp:{port}:interface=127.0.0.1"})
    async with await TelnetClient.connect(port) as client:
        await talk(client, sink, "/mo", "now telnet")


async def test_restart_brings_a_new_process_that_listens_again(channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.telnet()
    async with await channel.connect() as client:
        await sink.wait("/mo")
        await channel.restart()
        assert await client.ended()
    async with await channel.connect() as again:
        await talk(again, sink, "/mo", "after the restart")
    worker = await channel.component("worker")
    assert (worker["status"], worker["details"]["restarts"]) == ("ok", 0)


TELNET_ADDR = {"type": "telnet_addr"}


@pytest.mark.parametrize("change", [None, {"to_addr": "8110"}, TELNET_ADDR], ids=["restart", "config", "type"])
async def test_whoever_connects_after_the_answer_is_not_cut_off_by_what_was_asked_for(
    channels: Channels, sink: WebhookSink, change: dict[str, Any] | None
) -> None:
    channel = await channels.telnet()
    old = [await channel.connect() for _ in range(3)]
    await sink.wait("/mo", 3)
    began = time.monotonic()
    if change is None:
        assert (await channel.api.post(f"{channel.path}/restart")).status == 200
    elif change is TELNET_ADDR:
        await channel.modify(**change)
    else:
        await channel.modify(config={**(await channel.get())["config"], **change})
    assert time.monotonic() - began < 5
    async with await channel.connect() as client:
        assert all([await each.ended() for each in old])
        for line in ("8110", "+2799") if change is TELNET_ADDR else ():
            await client.say(line)
        await asyncio.sleep(1)
        await talk(client, sink, "/mo", "still here")
    for each in old:
        await each.close()


async def test_restart_loses_and_repeats_no_message(channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.loopback({"delivery_reports": False})
    sent = set()

    async def send_all() -> None:
        async with channel.api.kept_alive() as api:
            for n in range(150):
                answer = await api.post(f"{channel.path}/messages/", {"to": "+27", "content": str(n)})
                assert answer.status == 201
                sent.add(answer.result["content"])

    async def restart_thrice() -> None:
        for _ in range(3):
            await channel.restart()

    await asyncio.gather(send_all(), restart_thrice())
    await eventually(lambda: {body["content"] for body in sink.bodies("/mo")} == sent)
    ids = [body["message_id"] for body in sink.bodies("/mo")]
    assert len(ids) == len(set(ids)), "an MO was posted twice though every post was answered"


async def test_modify_restart_and_delete_finish_while_clients_are_connected(
    channels: Channels, sink: WebhookSink
) -> None:
    """The original hung."""
    channel = await channels.telnet()
    clients = [await channel.connect() for _ in range(20)]
    await sink.wait("/mo", 20)
    await channel.modify(config={**(await channel.get())["config"], "to_addr": "8110"})
    assert all(await asyncio.gather(*(client.ended() for client in clients)))
    clients += (more := [await _connect_new(channel, sink) for _ in range(3)])
    assert (await channel.api.post(f"{channel.path}/restart")).status == 200
    assert all(await asyncio.gather(*(client.ended() for client in more)))
    clients.append(last := await _connect_new(channel, sink))
    await channel.delete()
    assert await last.ended()
    for client in clients:
        await client.close()


async def _connect_new(channel: Channel, sink: WebhookSink) -> TelnetClient:
    """A client whose session the application has heard of."""
    client = await channel.connect()
    await sink.wait_for("/mo", lambda body: body["from"] == client.address)
    return client


async def test_a_deleted_channels_port_is_free_for_the_next(channels: Channels, sink: WebhookSink) -> None:
    first = await channels.telnet()
    async with await first.connect():
        config = (await first.get())["config"]
        await first.delete()
        second = await channels.create("telnet", config, first.port, mo_url=sink.url("/second"))
        await second.running()
        async with await second.connect() as client:
            await talk(client, sink, "/second", "mine now")


async def test_changes_made_at_the_same_time_are_all_kept(channels: Channels) -> None:
    channel = await channels.create("loopback", {}, metadata={})
    names = ("label", "mo_url", "status_url", "character_limit", "rate_limit_count", "rate_limit_window")
    values: tuple[Any, ...] = ("l", "http://a/", "http://b/", 1, 2, 3)
    await asyncio.gather(*(channel.modify(**{name: value}) for name, value in zip(names, values, strict=True)))
    changed = await channel.get()
    assert tuple(changed[name] for name in names) == values


async def test_turning_amqp_off_gives_the_apps_queue_back(channels: Channels, sink: WebhookSink, app: AppQueues) -> None:
    channel = await channels.loopback(amqp_queue=app.name)
    pid = await channel.pid()
    await app.declare("inbound", "event", "outbound")
    await channel.modify(amqp_queue=None)

    async def stays() -> bool:
        """A message to the app's queue is taken by nobody any more."""
        await app.send(vumi_message(to_addr="+27", content="mine"))
        return bool(await app.count(f"{app.name}.outbound"))

    await eventually(stays)
    await channel.send("+27", "it sends as before")
    await sink.wait_content("/mo", "it sends as before")
    assert await app.count(f"{app.name}.outbound"), "it was taken after all"
    assert await channel.pid() == pid
