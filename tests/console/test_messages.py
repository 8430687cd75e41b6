"""Messages: what would be sent, what became of one, and what happens as it happens."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import expect

from tests.blackbox.conftest import Channels
from tests.console.conftest import CONFIGS, Console
from tests.harness import Api, WebhookSink

pytestmark = pytest.mark.asyncio(loop_scope="package")


async def test_what_would_be_sent_is_shown_while_it_is_typed(console: Console, channels: Channels) -> None:
    channel = await channels.create("smpp", CONFIGS["smpp"], price={"amount": 0.25, "currency": "EUR"})
    await console.open(f"channels/{channel.id}/send")
    await console.field("to").fill("+27820001111")
    await console.field("content").fill("x" * 70 + "\u0142")
    panel = console.page.locator(".panel", has_text="What would be sent")
    await expect(panel).to_contain_text("because of \u0142")
    await expect(panel).to_contain_text("2 parts, 71 characters")
    await expect(panel).to_contain_text("0.5 EUR")
    await console.field("content").fill("short <b>")
    await expect(panel.locator(".parts li")).to_have_text(["short <b>"])
    console.allowed = {400}
    await console.page.get_by_text("More", exact=True).click()
    await console.field("validity").fill("soon")
    await expect(panel).to_contain_text("It would be refused")
    assert (await channel.status())["queue_length"] == 0


async def test_a_message_is_found_and_its_life_is_told(console: Console, channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.loopback({"delivery_reports": True}, label="Echo")
    sent = await channel.send("+27820001111", "hello", event_url=sink.url("/event"))
    await sink.wait_for("/event", lambda body: body["event_type"] == "delivery_succeeded")
    await console.open("messages")
    await console.page.get_by_label("to", exact=True).fill("+27820001111")
    await console.page.get_by_label("direction").select_option("outbound")
    await console.button("Find").click()
    row = console.page.locator("tbody tr")
    await expect(row).to_have_count(1)
    await expect(row).to_contain_text("delivery succeeded")
    await row.get_by_role("link").first.click()
    await expect(console.page.locator(".summary")).to_contain_text("It was delivered")
    steps = console.page.locator(".steps > li")
    await expect(steps.filter(has_text="accepted").first).to_contain_text("admin_token")
    await expect(steps.filter(has_text="callback").first).to_be_visible()
    await console.page.get_by_role("link", name="Its log lines").click()
    await expect(console.page.get_by_label("Message id")).to_have_value(sent["message_id"])
    await expect(console.page.locator(".log > li").first).to_contain_text(sent["message_id"])


async def test_what_happens_is_told_as_it_happens(console: Console, channels: Channels) -> None:
    channel = await channels.loopback({"delivery_reports": False})
    await console.open("live")
    await expect(console.page.locator(".head")).to_contain_text("as it happens")
    await channel.send("+27820001111", "hello")
    line = console.page.locator(".log > li", has_text="submitted").first
    await expect(line).to_be_visible()
    await console.page.get_by_label("Which kind").select_option("message")
    await expect(console.page.locator(".log > li").first).to_contain_text("+27820001111")
    await expect(line).to_have_count(0)


async def test_of_what_is_gone_it_is_said_that_it_is_gone(console: Console, api: Api, channels: Channels) -> None:
    console.allowed = {400, 404}
    channel = await channels.loopback({"delivery_reports": False}, label="Soon gone")
    sent = await channel.send("+27", "hello")
    await console.open(f"channels/{channel.id}/send")
    await api.delete(channel.path)
    gone = re.compile(rf"channel.*{channel.id}")
    await console.field("to").fill("+27")
    await console.field("content").fill("too late")
    await expect(console.page.get_by_role("alert")).to_have_text(gone)
    await console.open(f"messages?channel_id={channel.id}")
    await expect(console.page.get_by_role("alert")).to_have_text(gone)
    await console.open(f"messages/{channel.id}/{sent['message_id']}")
    await expect(console.page.get_by_role("alert")).to_have_text(gone)
