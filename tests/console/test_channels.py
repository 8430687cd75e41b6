"""A channel in the browser, and who gets in: from its form to its end, what it logs, what waits and what was refused."""

from __future__ import annotations

import os
import signal

import pytest
from playwright.async_api import expect

from tests.blackbox.conftest import Channels
from tests.blackbox.smsc import WireSmsc
from tests.console.conftest import Console, has_dead_letters
from tests.harness import Api, Channel, Reply, WebhookSink, free_port
from tests.polling import eventually

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def test_a_channel_from_its_form_to_the_death_of_its_process(console: Console, api: Api, sink: WebhookSink) -> None:
    port = free_port()
    await console.open("channels")
    await console.page.get_by_role("link", name="New channel").click()
    await console.page.get_by_label("type").select_option("telnet")
    await console.field("twisted_endpoint").fill(f"tcp:{port}:interface=127.0.0.1")
    await console.field("label").fill("By hand")
    await console.field("mo_url").fill(sink.url("/mo"))
    await console.button("Create the channel").click()
    await console.toasted("By hand was created")
    heading = console.page.get_by_role("heading", name="By hand")
    state = console.page.locator(".head-state .badge")
    await expect(heading).to_be_visible()
    await expect(state).to_have_text("ok")
    assert await state.evaluate("each => getComputedStyle(each).color") == "rgb(13, 100, 55)"

    channel = Channel(api, (await api.get(f"/channels/{console.page.url.rpartition('/')[2]}")).result, port)
    client = await channel.connect()
    try:
        await sink.wait_for("/mo", lambda body: body["from"] == client.address)
        await console.page.get_by_role("link", name="Send").click()
        await console.field("to").fill(client.address)
        await console.field("content").fill("from a browser")
        await console.button("Send").click()
        await console.toasted("The message was taken")
        assert await client.hear() == "from a browser"
        await expect(console.page.locator(".sent")).to_contain_text("submitted")
    finally:
        await client.close()

    await console.page.get_by_role("link", name="Overview").click()
    await expect(state).to_have_text("ok")
    for _ in range(3):  # it is started again at once, and only later after a pause: one of the deaths is seen
        pid = await channel.pid()
        os.kill(pid, signal.SIGKILL)
        await channel.running(other_than_pid=pid)
    statuses = console.page.get_by_role("region", name="Statuses")
    await expect(statuses.locator("tr", has_text="worker").filter(has_text="down").first).to_be_visible()
    await expect(state).to_have_text("ok")
    await console.button("Delete").click()
    await console.page.locator("dialog").get_by_role("button", name="Delete").click()
    await console.toasted("By hand was deleted")
    assert (await api.get(channel.path)).status == 404


async def test_what_waits_while_a_channel_is_paused(console: Console, channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.loopback({"delivery_reports": False})
    await console.open(f"channels/{channel.id}")
    await console.button("Pause").click()
    await expect(console.page.locator(".head-state")).to_contain_text("paused")
    for text in ("stays", "goes"):
        await channel.send("+27", text, priority=3)
    await expect(console.page.locator(".card", has_text="Queue")).to_contain_text("2 of priority 3")
    await console.page.get_by_role("link", name="Waiting").click()
    row = console.page.locator("tbody tr")
    await expect(row).to_have_count(2)
    await row.filter(has_text="stays").get_by_role("button", name="Cancel").click()
    await expect(row).to_have_count(1)
    await console.page.get_by_role("link", name="Overview").click()
    await console.button("Resume").click()
    await sink.wait_content("/mo", "goes")
    await expect(console.page.locator(".head-state")).not_to_contain_text("paused")
    assert "stays" not in [body["content"] for body in sink.bodies("/mo")]


async def test_pdus_are_shown_with_what_they_say(console: Console, channels: Channels) -> None:
    async with WireSmsc() as smsc:
        config = {"system_id": "demo", "password": "secret", "host": "127.0.0.1", "port": smsc.port}
        channel = await (await channels.create("smpp", config)).running()
        await channel.event((await channel.send("+27820001111", "a PDU"))["message_id"], "submitted")
        await console.open(f"channels/{channel.id}/logs")
        line = console.page.locator(".log > li", has=console.page.get_by_text("submit_sm", exact=True)).first
        await line.locator("summary").click()
        await expect(line.locator("tr", has_text="destination_addr")).to_contain_text("27820001111")
        await expect(line.locator("tr", has_text="content")).to_contain_text("a PDU")


async def test_what_the_application_refused_is_given_to_it_again(
    console: Console, channels: Channels, sink: WebhookSink
) -> None:
    sink.always["/mo"] = Reply(400)
    channel = await channels.loopback({"delivery_reports": False})
    for text in ("one", "two"):
        await channel.send("+27", text)
    await eventually(lambda: has_dead_letters(channel, 2))
    await console.open(f"channels/{channel.id}/dead-letters")
    rows = console.page.locator("tbody tr")
    await expect(rows).to_have_count(2)
    await expect(rows.first).to_contain_text("HTTP 400")
    sink.always["/mo"] = Reply(200)
    await rows.filter(has_text="two").get_by_role("checkbox").check()
    await console.button("Replay the chosen 1").click()
    await console.toasted("1 given to the application again")
    await sink.wait_content("/mo", "two")
    await expect(rows).to_have_count(1)
    await console.button("Delete all").click()
    await console.page.locator("dialog").get_by_role("button", name="Delete all").click()
    await expect(console.page.get_by_text("There are none.")).to_be_visible()
    assert (await channel.status())["dead_letters"] == 0
