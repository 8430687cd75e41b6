"""One `jb`, which asks for a token, and one Chromium (Debian's) for all tests of the console.

What a page's console says, or what its Content-Security-Policy had to stop, fails the test that made it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio
from axe_playwright_python.base import AXE_SCRIPT
from playwright.async_api import Browser, ConsoleMessage, Page, Request, async_playwright, expect

from tests.blackbox.conftest import Channels, running_jb, server_flags
from tests.harness import AT_ONCE, Api, Channel, JunebugProcess, WebhookSink
from tests.polling import DEADLINE
from tests.servers import RabbitmqServer, RedisServer

CHROMIUM = "/usr/bin/chromium"
TOKEN = "a-token-for-the-console"
REFUSED = "Failed to load resource: the server responded with a status of "
WIDE: Any = {"width": 1280, "height": 800}
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

GO = """([page, hash]) => location.href.startsWith(`${page}#`) && hash !== location.hash && new Promise((resolve) => {
  addEventListener("hashchange", () => resolve(true), {once: true});
  location.hash = hash;
})"""
"""Goes to another page of the console that is there, whose own listener is called first; false: it is not there."""
LEAVE = """() => {
  const marks = localStorage.length + sessionStorage.length + document.querySelectorAll("dialog").length;
  localStorage.clear();
  sessionStorage.clear();
  document.getElementById("toasts").replaceChildren();
  location.hash = "#/left";
  return marks > 0;
}"""
expect.set_options(timeout=DEADLINE * 1000)


@pytest.fixture(scope="package")
def jb(redis_server_shared: RedisServer, rabbitmq: RabbitmqServer) -> Iterator[JunebugProcess]:
    flags = {**server_flags(redis_server_shared, rabbitmq), "require-auth": True, "callback-retry-delays": 0.1}
    with running_jb(flags, environment={"JUNEBUG_ADMIN_TOKEN": TOKEN}, constants=AT_ONCE) as junebug:
        yield junebug


@pytest.fixture
def api(jb: JunebugProcess) -> Api:
    """With the token, as clients have it in their URLs."""
    return Api(jb.api.url.replace("http://", f"http://ops:{TOKEN}@"))


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        await chromium.close()


@pytest_asyncio.fixture(loop_scope="package")
async def sink() -> AsyncIterator[WebhookSink]:
    async with WebhookSink() as webhooks:
        yield webhooks


@pytest_asyncio.fixture(loop_scope="package")
async def channels(api: Api, sink: WebhookSink) -> AsyncIterator[Channels]:
    made = Channels(api, sink)
    yield made
    await made.delete_all()


@dataclass
class Console:
    """The console in a tab. `allowed`: HTTP statuses that the page may be answered (the browser says so in its console)."""

    page: Page
    url: str
    allowed: set[int] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)

    def watch(self) -> None:
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.problems.append(f"error: {error}"))
        self.page.on("request", self._asked)
        self.page.on("dialog", lambda dialog: self.problems.append(f"dialog: {dialog.message}"))

    def _said(self, message: ConsoleMessage) -> None:
        if message.type not in ("error", "warning"):
            return
        if not any(message.text.startswith(f"{REFUSED}{status}") for status in self.allowed):
            self.problems.append(f"{message.type}: {message.text} ({message.location.get('url')})")

    def _asked(self, request: Request) -> None:
        if not request.url.startswith((f"{self.url}/", "about:")) or TOKEN in request.url:
            self.problems.append(f"asked for {request.url}")

    async def open(self, route: str) -> None:
        """The page of that hash, once it is there."""
        if not await self.page.evaluate(GO, [f"{self.url}/console/", f"#/{route}"]):
            await self.page.goto(f"{self.url}/console/#/{route}")
        await expect(self.page.locator("main:not([aria-busy]) h1")).to_be_visible()

    async def leave(self) -> None:
        """What the next test comes to has no mark of this one; to load it all anew takes a third of a second of CPU."""
        await self.page.set_viewport_size(WIDE)
        await self.page.emulate_media(color_scheme="light")
        if not self.page.url.startswith(f"{self.url}/console/#") or await self.page.evaluate(LEAVE):
            await self.page.goto("about:blank")

    async def toasted(self, text: str) -> None:
        await expect(self.page.locator(".toast", has_text=text).first).to_be_visible()

    async def press(self, *keys: str) -> None:
        for key in keys:
            await self.page.keyboard.press(key)

    def button(self, name: str, exact: bool = True) -> Any:
        return self.page.get_by_role("button", name=name, exact=exact)

    def field(self, name: str, within: Any = None) -> Any:
        """The input of a form, or of a part of it, that is labelled so."""
        label = f".//label[span[@class='name' and text()='{name}']]"
        return (within or self.page).locator(f"xpath={label}/following-sibling::div//*[@id]").first

    async def accessible(self, what: str) -> list[str]:
        """What axe finds, in words. What is hidden it does not judge, but goes through."""
        if not await self.page.evaluate("'axe' in window"):
            await self.page.evaluate(AXE_SCRIPT)
        found = await self.page.evaluate("axe.run({resultTypes: ['violations'], preload: false})")
        return [
            f"{what}: {each['id']} ({each['impact']}): {node['target']} {node['html'][:150]}"
            for each in found["violations"]
            for node in each["nodes"]
        ]


@asynccontextmanager
async def opened(browser: Browser, url: str, token: str | None = TOKEN, **options: Any) -> AsyncIterator[Console]:
    """A browser of somebody else's; what went wrong in it fails the test."""
    credentials: Any = None if token is None else {"username": "ops", "password": token}
    context = await browser.new_context(http_credentials=credentials, viewport=WIDE, reduced_motion="reduce", **options)
    context.set_default_timeout(DEADLINE * 1000)
    try:
        console = Console(await context.new_page(), url)
        console.watch()
        yield console
        assert console.problems == []
    finally:
        await context.close()


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def tab(browser: Browser, jb: JunebugProcess) -> AsyncIterator[Console]:
    """One for all: another costs a process, and a second of CPU."""
    async with opened(browser, jb.api.url) as console:
        yield console


@pytest_asyncio.fixture(loop_scope="package")
async def console(tab: Console, channels: Channels) -> AsyncIterator[Console]:
    """The tab leaves a test's channels before they are deleted."""
    tab.allowed.clear()
    yield tab
    await tab.leave()
    problems, tab.problems = tab.problems, []
    assert problems == []


async def has_dead_letters(channel: Channel, count: int) -> bool:
    return (await channel.status())["dead_letters"] == count
