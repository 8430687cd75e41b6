"""One attempt at an application's URL (COMPAT §2): headers, redirects, and what a bad answer is called."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
import standardwebhooks
from aiohttp import encode_basic_auth, web
from aiohttp.test_utils import TestServer

from junebug.config.declaration import Settings
from junebug.runtime.retry_after import seconds_until
from junebug.worker.callbacks.answer import LONGEST
from junebug.worker.callbacks.targets import Targets
from junebug.worker.callbacks.webhook import Webhook
from tests.tables import rows

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Sink:
    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self.server = TestServer(app)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, dict(request.headers), await request.read()))
        path = request.path
        if path == "/hang":
            await asyncio.sleep(60)
        if path == "/cut":
            assert request.transport
            request.transport.abort()
        if path == "/huge":
            return web.Response(body=b"x" * (LONGEST * 20))
        if path.startswith("/redirect/"):
            return web.Response(status=int(path.split("/")[2]), headers={"Location": "/final"})
        if path == "/loop":
            return web.Response(status=307, headers={"Location": "/loop"})
        if path == "/later":
            return web.Response(status=429, headers={"Retry-After": "7"})
        return web.Response(status=int(path[1:]) if path[1:].isdigit() else 200)


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    sink = Sink()
    await sink.server.start_server()
    yield sink
    await sink.server.close()


@pytest.fixture
async def webhook() -> AsyncIterator[Webhook]:
    hook = Webhook(timeout=1.0, targets=Targets(Settings()))
    yield hook
    await hook.close()


def url(sink: Sink, path: str) -> str:
    return str(sink.server.make_url(path))


async def test_a_body_is_posted_as_json_with_its_token(sink: Sink, webhook: Webhook) -> None:
    outcome = await webhook.post(url(sink, "/"), {"content": "é"}, "secret")
    assert outcome.ok
    ((method, headers, body),) = sink.requests
    assert method == "POST"
    assert headers["Content-Type"] == "application/json"
    assert headers["Authorization"] == "Token secret"
    assert body == '{"content":"é"}'.encode()


async def test_userinfo_becomes_basic_auth_and_leaves_the_url(sink: Sink, webhook: Webhook) -> None:
    await webhook.post(url(sink, "/").replace("://", "://me:p%40ss@"), {})
    assert sink.requests[0][1]["Authorization"] == encode_basic_auth("me", "p@ss")
    assert "me" not in sink.requests[0][1]["Host"]


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_followed_as_a_post(sink: Sink, webhook: Webhook, status: int) -> None:
    assert (await webhook.post(url(sink, f"/redirect/{status}"), {"a": 1}, "t")).ok
    assert [(method, body) for method, _, body in sink.requests] == [("POST", b'{"a":1}')] * 2
    assert sink.requests[1][1]["Authorization"] == "Token t"


async def test_every_attempt_carries_its_id_and_a_timestamp(sink: Sink, webhook: Webhook) -> None:
    await webhook.post(url(sink, "/"), {}, id="message-1")
    headers = sink.requests[0][1]
    assert headers["Webhook-Id"] == "message-1"
    assert abs(int(headers["Webhook-Timestamp"]) - time.time()) < 60
    assert "Webhook-Signature" not in headers


async def test_a_signed_call_is_one_that_standard_webhooks_verifies(sink: Sink, webhook: Webhook) -> None:
    await webhook.post(url(sink, "/redirect/307"), {"content": "é"}, id="message-1", secret=SECRET)
    for _, headers, body in sink.requests:  # the same host may know it after a redirect, too
        assert standardwebhooks.Webhook(SECRET).verify(body, headers) == {"content": "é"}
    assert len(sink.requests) == 2


async def test_a_token_or_signature_never_goes_to_another_host(sink: Sink, webhook: Webhook) -> None:
    other = TestServer(web.Application())

    async def away(request: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": url(sink, "/")})

    other.app.router.add_post("/", away)
    await other.start_server()
    assert (await webhook.post(str(other.make_url("/")), {}, "secret", id="1", secret=SECRET)).ok
    assert not {"Authorization", "Webhook-Signature"} & sink.requests[0][1].keys()
    await other.close()


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("/500", 500, "HTTP 500"),
        ("/404", 404, "HTTP 404"),
        ("/hang", None, "no answer within 1 s"),
        ("/cut", None, ""),
        ("/loop", None, "more than 3 redirects"),
    ],
)
async def test_a_failure_is_an_outcome(sink: Sink, webhook: Webhook, path: str, status: int | None, reason: str) -> None:
    outcome = await webhook.post(url(sink, path), {})
    assert (outcome.ok, outcome.status) == (False, status)
    assert reason in outcome.reason
    assert outcome.reason


async def test_retry_after_is_heard(sink: Sink, webhook: Webhook) -> None:
    assert (await webhook.post(url(sink, "/later"), {})).retry_after == 7


@rows(
    ("header", "seconds"),
    [
        ("120", 120),
        ("0", 0),
        ("Tue, 24 Nov 2026 12:00:30 GMT", 30),
        ("Tuesday, 24-Nov-26 12:00:30 GMT", 30),
        ("Tue, 24 Nov 2026 11:00:00 GMT", 0),
        ("Tue, 24 Nov 2026 12:00:30 -0000", 30),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("²", None),
        ("9" * 400, 9999999999),
        (" 7 ", 7),
        ("Mon, 01 Jan 99999999999999 00:00:00 GMT", None),
        ("Mon, 01 Jan 2026 99999999999999:00:00 GMT", None),
        ("Mon, 01 Jan 2026 00:00:00 +99999999999999", None),
        ("Fri, 31 Dec 9999 23:59:59 -1200", 251606822399),
        ("Mon, 01 Jan 0001 00:00:00 +1200", 0),
        ("Mon, 31 Feb 2026 00:00:00 GMT", None),
        (",,,", None),
        ("(" * 100_000, None),
        ("1e400", None),
        ("inf", None),
        ("٣", None),
        ("\x00", None),
        ("\ufffd" * 100, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str, seconds: float | None) -> None:
    assert seconds_until(header, datetime(2026, 11, 24, 12, tzinfo=UTC)) == seconds


async def test_a_refused_connection_is_told_without_the_password(webhook: Webhook) -> None:
    outcome = await webhook.post("http://me:sesame@127.0.0.1:1/x", {})
    assert (outcome.ok, outcome.reason) == (False, "cannot connect to 127.0.0.1:1: Connection refused")


async def test_a_huge_answer_is_not_read(sink: Sink, webhook: Webhook) -> None:
    assert (await webhook.post(url(sink, "/huge"), {})).ok
    assert (await webhook.post(url(sink, "/"), {})).ok
