"""What holds of every page: texts stay texts, keys, looks, accessibility."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.async_api import Browser, expect

from tests.blackbox.conftest import Channels
from tests.console.conftest import CONFIGS, Console, has_dead_letters, opened
from tests.harness import THOROUGH, Api, JunebugProcess, Reply, WebhookSink
from tests.polling import eventually

pytestmark = pytest.mark.asyncio(loop_scope="package")

HOSTILE = "<script>document.title='hacked'</script><img src=x onerror=\"document.title='hacked'\">"


async def test_hostile_texts_are_texts(console: Console, api: Api, channels: Channels, sink: WebhookSink) -> None:
    console.allowed = {404}
    sink.always["/mo"] = Reply(400)
    channel = await channels.telnet(label=HOSTILE, metadata={HOSTILE: HOSTILE})
    client = await channel.connect()
    try:
        await client.say(HOSTILE)
        sent = await channel.send(client.address, HOSTILE)
        routed = await channels.loopback(mo_url=None)
        router = (await api.post("/routers/", {"type": "keyword", "label": HOSTILE, "config": {"channel": routed.id}})).result
        answer = await api.post(f"/routers/{router['id']}/destinations/", {"label": HOSTILE, "config": {"keyword": "<b>x</b>"}})
        assert answer.status == 201, answer
        await api.post("/tokens/", {"name": HOSTILE, "scopes": ["channels:read"], "channels": [channel.id]})
        places = [
            "channels", f"channels/{channel.id}", f"channels/{channel.id}/edit", f"channels/{channel.id}/logs", "routers",
            f"routers/{router['id']}", "tokens", f"messages/{channel.id}/{sent['message_id']}", "messages",
        ]  # fmt: skip
        for place in places:
            await console.open(place)
            await expect(console.page.locator("main")).to_contain_text(HOSTILE[:20] if place != "messages" else "Messages")
            assert await console.page.locator("main script, main img").count() == 0
            assert "hacked" not in await console.page.title()
        await api.delete(f"/routers/{router['id']}")
        for token in (await api.get("/tokens/")).result:
            await api.delete(f"/tokens/{token['id']}")
    finally:
        await client.close()


async def test_by_keyboard_alone(console: Console, api: Api) -> None:
    await console.open("routers")
    await console.page.reload()
    await expect(console.page.locator("main h1")).to_be_visible()
    await console.press("Tab")
    await expect(console.page.get_by_role("link", name="Skip to content")).to_be_focused()
    await console.press("Enter")
    await expect(console.page.locator("main")).to_be_focused()
    await console.press("?")
    await expect(console.page.locator("dialog")).to_contain_text("the page's search field")
    await console.press("Escape", "g", "c")
    await expect(console.page.get_by_role("heading", name="Channels")).to_be_focused()
    await console.press("n")
    await expect(console.page.get_by_role("heading", name="New channel")).to_be_focused()
    await console.press("/")
    await expect(console.page.get_by_label("type")).to_be_focused()
    await console.page.keyboard.type("loop")
    await expect(console.page.get_by_label("type")).to_have_value("loopback")
    await console.press("Tab", "Tab", "Tab", "Tab")
    await expect(console.field("label")).to_be_focused()
    await console.page.keyboard.type("by keys")
    await console.press("Control+Enter")
    await expect(console.page.get_by_role("heading", name="by keys")).to_be_focused()
    channel = console.page.url.rpartition("/")[2]
    await console.press("g", "c")
    await console.press("/")
    await console.page.keyboard.type("by keys")
    await console.press("Tab")
    await expect(console.page.locator("tbody tr")).to_have_count(1)
    await console.page.evaluate("document.activeElement.blur()")
    await console.press("j")
    link = console.page.get_by_role("link", name="by keys")
    await expect(link).to_be_focused()
    outline = await link.evaluate("each => getComputedStyle(each).outlineStyle")
    assert outline != "none"
    await console.press("Enter")
    await expect(console.page.get_by_role("heading", name="by keys")).to_be_focused()
    await console.leave()
    await api.delete(f"/channels/{channel}")


async def test_every_page_is_accessible_in_light_and_dark_wide_and_narrow(
    console: Console, api: Api, channels: Channels, sink: WebhookSink
) -> None:
    """Each page in one of these looks; with JUNEBUG_TEST_THOROUGH in all. tests/api has the contrasts of the colours."""
    console.allowed = {404}
    sink.always["/mo"] = Reply(400)
    channel = await channels.loopback({"delivery_reports": False}, label="A channel", metadata={"note": "x" * 200})
    sent = await channel.send("+27", "hello")
    await channels.create("smpp", CONFIGS["smpp"], label="Away", metadata={})
    own = await channels.loopback(mo_url=None)
    router = (await api.post("/routers/", {"type": "keyword", "label": "A router", "config": {"channel": own.id}})).result["id"]
    destination = (await api.post(f"/routers/{router}/destinations/", {"config": {"keyword": "x"}})).result["id"]
    await api.post("/tokens/", {"name": "of a test", "scopes": ["admin"]})
    await eventually(lambda: has_dead_letters(channel, 1))
    one, other = f"channels/{channel.id}", f"routers/{router}"
    places = [
        "channels", "channels/new", one, f"{one}/edit", f"{one}/send", f"{one}/queue", f"{one}/logs", f"{one}/dead-letters",
        "messages", f"messages/{channel.id}/{sent['message_id']}", "live", "routers", "routers/new", other, f"{other}/edit",
        f"{other}/logs", f"{other}/dead-letters", f"{other}/destinations/new", f"{other}/destinations/{destination}", "tokens",
        "nowhere",
    ]  # fmt: skip
    looks: list[tuple[Any, int]] = [("light", 1280), ("dark", 360), ("light", 360), ("dark", 1280)]
    found = []
    for number, place in enumerate(places):
        await console.open(place)
        if place == "channels/new":
            await console.page.get_by_label("type").select_option("irc")
            await console.page.get_by_text("more options").first.click()
        for scheme, width in looks if THOROUGH > 1 else looks[number % 2 : number % 2 + 1]:
            await console.page.emulate_media(color_scheme=scheme)
            await console.page.set_viewport_size({"width": width, "height": 800})
            found += await console.accessible(f"{place} {scheme} {width}")
        await console.page.set_viewport_size({"width": 360, "height": 800})
        if await console.page.evaluate("document.documentElement.scrollWidth") > 360:
            found.append(f"{place} scrolls sideways")
    await console.press("?")
    found += await console.accessible("keys")
    assert found == []
    await api.delete(f"/routers/{router}")
    for token in (await api.get("/tokens/")).result:
        await api.delete(f"/tokens/{token['id']}")


async def test_dark_or_light_is_kept(console: Console) -> None:
    await console.open("channels")
    back = "getComputedStyle(document.body).backgroundColor"
    light = await console.page.evaluate(back)
    await console.press("d")
    assert await console.page.evaluate(back) != light
    await console.page.reload()
    await expect(console.button("Light")).to_be_visible()
    assert await console.page.evaluate(back) != light


async def test_a_hidden_tab_asks_nothing(console: Console, channels: Channels) -> None:
    channel = await channels.loopback()
    asked: list[str] = []
    await console.open(f"channels/{channel.id}")
    console.page.on("request", lambda request: asked.append(request.url))
    async with console.page.expect_request(f"**/channels/{channel.id}"):
        pass
    await console.page.evaluate(
        "Object.defineProperty(document, 'hidden', {configurable: true, get: () => true});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    await console.page.wait_for_load_state("networkidle")
    asked.clear()
    await console.page.evaluate("new Promise((resolve) => setTimeout(resolve, 2500))")  # more than its pause
    assert asked == []
    async with console.page.expect_request(f"**/channels/{channel.id}"):
        await console.page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")


async def test_the_page_of_the_api_is_accessible_and_finds_words(console: Console) -> None:
    """`/docs`, which is no part of the console."""
    page = console.page
    await page.set_viewport_size({"width": 390, "height": 800})
    await page.goto(f"{console.url}/docs")
    await page.get_by_label("Find").fill("dead letter")
    await expect(page.get_by_role("status")).to_have_text(re.compile(r"^\d+ found$"))
    await expect(page.locator("#list_dead_letters")).to_be_visible()
    await expect(page.locator("#list_channels")).to_be_hidden()
    assert await page.evaluate("document.documentElement.scrollWidth") <= 390
    hidden = page.locator("article[hidden], section[hidden]")  # thousands of elements, which axe would go through
    await hidden.evaluate_all("all => all.forEach((each) => each.remove())")
    assert await console.accessible("the API's page") == []


async def test_the_page_of_the_api_needs_no_script(browser: Browser, jb: JunebugProcess) -> None:
    async with opened(browser, jb.api.url, java_script_enabled=False) as tab:
        await tab.page.goto(f"{tab.url}/docs#create_channel")
        await expect(tab.page.locator("#create_channel")).to_be_in_viewport()
        await expect(tab.page.get_by_label("Find")).to_be_hidden()
