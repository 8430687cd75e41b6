"""Who gets in."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, Error, expect

from tests.console.conftest import TOKEN, Console, opened
from tests.harness import Api, JunebugProcess

pytestmark = pytest.mark.asyncio(loop_scope="package")


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


async def test_a_list_that_cannot_be_had_is_told_of(console: Console, api: Api) -> None:
    console.allowed = {503}
    await api.post("/tokens/", {"name": "soon gone", "scopes": ["channels:read"]})
    await console.open("tokens")
    await console.page.route("**/tokens/", lambda route: route.fulfill(status=503, json={}))
    await console.button("Revoke soon gone").click()
    await console.page.locator("dialog").get_by_role("button", name="Revoke").click()
    await expect(console.page.locator(".banner")).to_contain_text("Trying again")
    await console.page.unroute("**/tokens/")
    await console.press("r")
    await expect(console.button("Revoke soon gone")).to_have_count(0)
    await expect(console.page.locator(".banner")).to_be_hidden()
