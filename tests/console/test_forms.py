"""Forms made from schemas, and where their errors are told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.async_api import expect

from tests.blackbox.conftest import Channels
from tests.console.conftest import CONFIGS, PORT, Console
from tests.harness import Api, Channel, free_port

FILL_IN = """(texts) => {
  const labels = [...document.querySelectorAll("form label")];
  for (const [name, text] of Object.entries(texts)) {
    const {control} = labels.find((label) => label.querySelector(".name")?.textContent === name);
    control.value = control.tagName === "SELECT" ? [...control.options].find((each) => each.text === text).value : text;
    for (const event of ["input", "change"]) control.dispatchEvent(new Event(event, {bubbles: true}));
  }
}"""
"""As if it were typed, all at once."""

pytestmark = pytest.mark.asyncio(loop_scope="package")


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
        await console.page.evaluate(FILL_IN, dict(texts({**config, "label": f"One of {name}"})))
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


def texts(values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What is to stand in which field."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from texts(value)
        elif isinstance(value, bool):
            yield key, "yes" if value else "no"
        else:
            yield key, "\n".join(value) if isinstance(value, list) else str(value)


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


async def test_errors_in_a_list_are_told_at_the_items_that_they_name(console: Console) -> None:
    console.allowed = {400}
    await console.open("routers/new")
    await console.page.get_by_label("type").select_option("outbound")
    for _ in range(2):
        await console.button("Add to channels").click()
    items = console.page.locator(".item")
    for number, weight in enumerate(("1", "1", "many")):
        await console.field("channel", items.nth(number)).fill(str(number))
        await console.field("weight", items.nth(number)).fill(weight)
    wrong, create = console.page.locator("[aria-invalid]"), console.button("Create the router")
    await create.click()
    await expect(console.field("weight", items.nth(2))).to_be_focused()
    await expect(wrong).to_have_count(1)
    await console.button("Remove channels 2").click()
    await console.field("channel", items.first).fill("")
    await create.click()
    await expect(console.field("channel", items.first)).to_be_focused()
    await expect(console.field("weight", items.nth(1))).to_have_attribute("aria-invalid", "true")
    await expect(wrong).to_have_count(2)


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
