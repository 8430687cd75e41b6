"""The console as those use it who run Junebug, in a real browser (docs/console.md)."""

from __future__ import annotations

import json
import os
import re
import signal
from typing import Any

import pytest
from playwright.async_api import Browser, Error, expect

from tests.blackbox.conftest import Channels
from tests.blackbox.smsc import WireSmsc
from tests.console.conftest import TOKEN, Console, opened
from tests.harness import THOROUGH, Api, Channel, JunebugProcess, Reply, WebhookSink, free_port
from tests.polling import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOSTILE = "<script>document.title='hacked'</script><img src=x onerror=\"document.title='hacked'\">"
PORT = object()
"""A free one."""
CONFIGS: dict[str, dict[str, Any]] = {
    "telnet": {"telnet_host": "127.0.0.1", "telnet_port": PORT},
    "telnet_addr": {"telnet_host": "127.0.0.1", "telnet_port": PORT},
    "loopback": {"delivery_reports": False},
    "smpp": {"system_id": "demo", "password": "a-secret", "host": "127.0.0.1", "port": 1, "registered_delivery": 3},
    "xmpp": {"username": "me@example.com", "password": "a-secret", "host": "127.0.0.1", "port": 1},
    "irc": {"network": "127.0.0.1", "nickname": "june", "port": 1, "channels": ["#one", "#two"]},
    "dmark": {"web_path": "/dmark", "web_port": PORT},
    "http_api": {"web_path": "/api", "web_port": PORT, "outbound": {"url": "http://127.0.0.1:1/", "method": "GET"}},
    "twitter": {"bearer_token": "a-secret", "base_url": "http://127.0.0.1:1", "poll_interval": 3600},
}
"""What a channel of each type can be made with."""


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


async def test_forms_of_every_type(console: Console, api: Api, channels: Channels) -> None:
    """Each option has its field; what was typed is what is stored, and a change of something else leaves secrets alone."""
    known = (await api.get("/channel-types/")).result
    assert {each["name"] for each in known["types"]} == {*CONFIGS}
    for kind in known["types"]:
        name, schema = kind["name"], kind["config_schema"]
        config = {key: value if value is not PORT else free_port() for key, value in CONFIGS[name].items()}
        await console.open("channels/new")
        await console.page.get_by_label("type").select_option(name)
        labels = {*await console.page.locator("form .name").all_text_contents()}
        assert {*schema["properties"], "label", "mo_url", "public_http"} <= labels, name
        await console.page.locator("form details").evaluate_all("all => all.forEach((each) => each.open = true)")
        for key, value in config.items():
            await fill_in(console, key, value)
        await console.field("label").fill(f"One of {name}")
        await console.button("Create the channel").click()
        await expect(console.page.get_by_role("heading", name=f"One of {name}")).to_be_visible()
        made = Channel(api, (await api.get(f"/channels/{console.page.url.rpartition('/')[2]}")).result)
        channels._made.append(made)
        secrets = {each for each in kind["secrets"] if each in config}
        shown = {key: "********" if key in secrets else value for key, value in config.items()}
        assert made.created["config"] == shown
        if not secrets:
            continue
        await console.page.get_by_role("link", name="Change", exact=True).click()
        await console.field("label").fill("Another name")
        async with console.page.expect_request(lambda request: request.method == "POST") as sent:
            await console.button("Save").click()
        body = json.loads((await sent.value).post_data or "")
        assert body == {"type": name, "config": shown, "label": "Another name"}
        await expect(console.page.get_by_role("heading", name="Another name")).to_be_visible()


async def fill_in(console: Console, key: str, value: Any) -> None:
    if isinstance(value, dict):
        for inner, text in value.items():
            await fill_in(console, inner, text)
        return
    control = console.field(key)
    if await control.evaluate("each => each.tagName") == "SELECT":
        await control.select_option(label={True: "yes", False: "no"}.get(value, str(value)))
    else:
        await control.fill("\n".join(value) if isinstance(value, list) else str(value))


async def test_errors_are_told_at_their_fields(console: Console) -> None:
    console.allowed = {400}
    await console.open("channels/new")
    await console.page.get_by_label("type").select_option("smpp")
    await console.field("port").fill("many")
    await console.field("mo_url").fill("nowhere")
    await console.button("Create the channel").click()
    port, mo_url, system_id = (console.field(name) for name in ("port", "mo_url", "system_id"))
    await expect(mo_url).to_have_attribute("aria-invalid", "true")
    await expect(mo_url).to_be_focused()
    await mo_url.fill("http://localhost/")
    await console.press("Control+Enter")
    await expect(port).to_have_attribute("aria-invalid", "true")
    await expect(system_id).to_have_attribute("aria-invalid", "true")
    assert await mo_url.get_attribute("aria-invalid") is None
    described = (await system_id.get_attribute("aria-describedby") or "").split()
    assert any(["required" in await console.page.locator(f"#{each}").inner_text() for each in described])


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


async def has_dead_letters(channel: Channel, count: int) -> bool:
    return (await channel.status())["dead_letters"] == count


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


async def test_routers_and_destinations(console: Console, api: Api, channels: Channels) -> None:
    own, others = await channels.loopback(mo_url=None), [await channels.loopback() for _ in range(2)]
    await console.open("routers/new")
    await console.page.get_by_label("type").select_option("keyword")
    await console.field("channel").fill(own.id)
    await console.field("label").fill("By word")
    await console.button("Create the router").click()
    await expect(console.page.get_by_role("heading", name="By word")).to_be_visible()
    router = console.page.url.rpartition("/")[2]
    await console.page.get_by_role("link", name="New destination").click()
    console.allowed = {400}
    await console.field("keyword").fill("two words")
    await console.button("Create the destination").click()
    await expect(console.field("keyword")).to_have_attribute("aria-invalid", "true")
    await console.field("keyword").fill("STOP")
    await console.field("aliases").fill("END\nQUIT")
    await console.field("mo_url_auth_token").fill("a-secret")
    await console.button("Create the destination").click()
    row = console.page.get_by_role("region", name="Destinations").locator("tbody tr")
    await expect(row).to_contain_text("STOP")
    await row.get_by_role("link").click()
    await console.field("label").fill("Leaves")
    await console.button("Save").click()
    await expect(row).to_contain_text("Leaves")
    (destination,) = (await api.get(f"/routers/{router}/destinations/")).result
    kept = (await api.get(f"/routers/{router}/destinations/{destination}")).result
    assert (kept["config"], kept["mo_url_auth_token"]) == ({"keyword": "STOP", "aliases": ["END", "QUIT"]}, "********")
    await console.button("Delete", exact=True).click()
    await console.page.locator("dialog").get_by_role("button", name="Delete").click()
    await console.toasted("The router was deleted")

    await console.open("routers/new")
    await console.page.get_by_label("type").select_option("outbound")
    await console.button("Add to channels").click()
    for number, other in enumerate(others):
        item = console.page.locator(".item").nth(number)
        await item.locator("input").first.fill(other.id)
        await item.locator("textarea").fill(f"2{number}")
    await console.button("Create the router").click()
    await expect(console.page.get_by_role("heading", name="Destinations")).to_be_visible()
    router = console.page.url.rpartition("/")[2]
    config = (await api.get(f"/routers/{router}")).result["config"]
    assert config == {"channels": [{"channel": other.id, "prefixes": [f"2{n}"]} for n, other in enumerate(others)]}
    await api.delete(f"/routers/{router}")


# --- who may, and how it is worked ------------------------------------------------------------------------------------


async def test_tokens_are_made_used_and_revoked(console: Console, browser: Browser, jb: JunebugProcess, api: Api) -> None:
    console.allowed = {400}
    await console.open("tokens")
    await console.button("New token").click()
    dialog = console.page.locator("dialog")
    await dialog.get_by_role("button", name="Create the token").click()
    await expect(console.field("name")).to_have_attribute("aria-invalid", "true")
    await console.field("name").fill("for reading")
    await dialog.get_by_label("channels:read").check()
    await dialog.get_by_role("button", name="Create the token").click()
    text = await dialog.locator("code").inner_text()
    await dialog.get_by_role("button", name="I have it").click()
    await expect(dialog).to_have_count(0)
    assert text not in await console.page.content()

    async with opened(browser, jb.api.url) as other:  # by a form, over the browser's own
        other.allowed = {401, 403}
        await other.open("channels")
        await other.button("Sign in").click()
        await other.page.get_by_label("API token").fill(text)
        await other.press("Enter")
        await expect(other.button("Sign out")).to_be_visible()
        assert await other.page.evaluate("[sessionStorage.length, localStorage.length, document.cookie]") == [1, 0, ""]
        await other.open("tokens")
        await expect(other.page.get_by_role("alert")).to_contain_text("has not the scope")
        await console.button("Revoke for reading").click()
        await console.page.locator("dialog").get_by_role("button", name="Revoke").click()
        await console.toasted("The token was revoked")
        await other.page.goto(f"{jb.api.url}/console/#/channels")
        await expect(other.page.locator("dialog")).to_contain_text("This API token is not known here")
        await other.page.get_by_label("API token").fill(TOKEN)
        await other.press("Enter")
        await expect(other.page.get_by_role("heading", name="Channels")).to_be_visible()


async def test_without_a_token_there_is_nothing(browser: Browser, jb: JunebugProcess) -> None:
    for token in (None, "wrong"):
        async with opened(browser, jb.api.url, token) as stranger:
            for path in ("/console/", "/console/app.js", "/channel-types/"):
                answer = await stranger.page.request.get(jb.api.url + path)
                assert (answer.status, "Basic" in answer.headers["www-authenticate"]) == (401, True)
    async with opened(browser, jb.api.url, None) as stranger:
        with pytest.raises(Error, match="ERR_INVALID_AUTH_CREDENTIALS"):  # it would ask its user now
            await stranger.page.goto(f"{jb.api.url}/console/")


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
    await console.press("Tab", "Tab")
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
    assert await console.accessible("the API's page") == []


async def test_the_page_of_the_api_needs_no_script(browser: Browser, jb: JunebugProcess) -> None:
    async with opened(browser, jb.api.url, java_script_enabled=False) as tab:
        await tab.page.goto(f"{tab.url}/docs#create_channel")
        await expect(tab.page.locator("#create_channel")).to_be_in_viewport()
        await expect(tab.page.get_by_label("Find")).to_be_hidden()
