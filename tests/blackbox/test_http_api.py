"""Channel type http_api: aggregators and a USSD gateway that are described by a channel's config, as both sides see them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import aiohttp
import pytest
from aiohttp import web

from tests.blackbox.conftest import Channels
from tests.harness import DEADLINE, Channel, WebhookSink, basic_authorization, free_port
from tests.polling import eventually


@dataclass
class Provider:
    """An aggregator: keeps what it is asked, answers as it is told. `port` is where it listens."""

    port: int = field(default_factory=free_port)
    asked: list[tuple[str, str, dict[str, str], str]] = field(default_factory=list)
    """method, path and query, headers, body"""
    answers: list[Any] = field(default_factory=list)
    """What comes next: (status, headers, body); `hang`, `endless`, `cut`. Afterwards 200 with a new id."""

    async def __aenter__(self) -> Provider:
        self._released = asyncio.Event()
        self.runner = web.ServerRunner(web.Server(self._answer, access_log=None), shutdown_timeout=0.1)
        await self.open()
        return self

    async def open(self) -> None:
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", self.port, reuse_address=True).start()

    async def __aexit__(self, *_: object) -> None:
        self._released.set()
        await self.runner.cleanup()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.text()
        self.asked.append((request.method, request.rel_url.raw_path_qs, dict(request.headers), body))
        answer = self.answers.pop(0) if self.answers else (200, {}, json.dumps({"messages": [{"id": f"p{len(self.asked)}"}]}))
        if answer == "hang":
            await self._released.wait()
        if answer == "cut":
            assert request.transport
            request.transport.abort()
        if answer == "endless":
            response = web.StreamResponse()
            await response.prepare(request)
            for _ in range(1000):
                await response.write(b"x" * 10_000)
            return response
        if isinstance(answer, str):
            return web.Response()
        status, headers, text = answer
        return web.Response(status=status, headers=headers, text=text)


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with Provider() as made:
        yield made


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=DEADLINE)) as opened:
        yield opened


def sms(provider: Provider, **outbound: Any) -> dict[str, Any]:
    """The config of an aggregator with JSON both ways, and receipts."""
    return {
        "web_path": "sms", "web_port": free_port(), "web_host": "127.0.0.1",
        "inbound": {
            "parameters": {"from": "sms.from", "to": "sms.to", "content": "sms.text", "provider_id": "id"},
            "response": {"body": "OK"},
        },
        "outbound": {
            "url": f"{provider.url}/send",
            "headers": {"X-Api-Key": "{api_key}"},
            "json": {"messages": [{"to": "{to}", "from": "{from}", "text": "{content}", "ref": "{message_id}", "flash": False}]},
            "secrets": {"api_key": "open-sesame"},
            "id_path": "messages.0.id", "timeout": 1, "retry_delay": 0.1, **outbound,
        },
        "receipts": {
            "path": "/receipt",
            "parameters": {"provider_id": "id", "status": "state", "reason": "error"},
            "statuses": {"DELIVRD": "delivered", "UNDELIV": "failed", "ENROUTE": "pending"},
        },
    }  # fmt: skip


async def ask(session: aiohttp.ClientSession, channel: Channel, path: str, **options: Any) -> tuple[int, str]:
    port = (await channel.get())["config"]["web_port"]
    method = "POST" if options.keys() & {"json", "data"} else "GET"
    async with session.request(method, f"http://127.0.0.1:{port}{path}", **options) as answer:
        return answer.status, await answer.text()


async def test_sms_both_ways_and_receipts(
    channels: Channels, sink: WebhookSink, session: aiohttp.ClientSession, provider: Provider
) -> None:
    channel = await (await channels.create("http_api", sms(provider))).running()
    sent = await channel.send("+27830001001", 'Zoë says "hi" \\ 💐\n', event_url=sink.url("/event"), **{"from": "8110"})
    await channel.event(sent["message_id"], "submitted")
    method, path, headers, body = provider.asked[0]
    assert (method, path, headers["X-Api-Key"]) == ("POST", "/send", "open-sesame")
    assert json.loads(body) == {
        "messages": [
            {"to": "+27830001001", "from": "8110", "text": 'Zoë says "hi" \\ 💐\n', "ref": sent["message_id"], "flash": False}
        ]
    }
    assert await ask(session, channel, "/receipt", json={"id": "p1", "state": "ENROUTE"}) == (200, "")
    assert await ask(session, channel, "/receipt?id=p1&state=UNDELIV&error=absent") == (200, "")
    event = await channel.event(sent["message_id"], "delivery_failed")
    assert event["event_details"] == {"status": "UNDELIV", "reason": "absent"}
    await sink.wait("/event", 3)
    assert [each["event_type"] for each in sink.bodies("/event")] == ["submitted", "delivery_pending", "delivery_failed"]
    assert (await ask(session, channel, "/receipt?id=p1&state=NEVER_HEARD"))[0] == 200
    assert (await ask(session, channel, "/receipt?id=strange&state=DELIVRD"))[0] == 404

    inbound = {"id": "m1", "sms": {"from": "2783", "to": "8110", "text": "reply 💐"}}
    assert await ask(session, channel, "/sms", json=inbound) == (200, "OK")
    assert await ask(session, channel, "/sms", json=inbound) == (200, "OK"), "it did not hear our answer"
    heard = await sink.wait_content("/mo", "reply 💐")
    assert (heard["from"], heard["to"]) == ("2783", "8110")
    for wrong in ({"sms": {"from": "1"}}, {"sms": []}, {"sms": {"text": "x"}}):
        status, text = await ask(session, channel, "/sms", json=wrong)
        assert (status, "missing_parameter" in text) == (400, True)
    for bad in (b"{", b"\xff\xfe", b"[" * 10_000, b'{"sms":' * 50, b"{" + b'"a":1,' * 20_000):
        assert (await ask(session, channel, "/sms", data=bad))[0] in (400, 413)
    assert [body["content"] for body in sink.bodies("/mo")] == ["reply 💐"]
    shown = json.dumps([await channel.get(), await channel.logs()])
    assert "open-sesame" not in shown
    assert (await channel.get())["config"]["outbound"]["secrets"] == "********"
    await channel.modify(config={**(await channel.get())["config"], "max_pending_requests": 5})
    await channel.send("1", "with the key of before")
    await eventually(lambda: len(provider.asked) == 2, DEADLINE, "the next one")
    assert provider.asked[1][2]["X-Api-Key"] == "open-sesame"


@pytest.mark.parametrize(
    ("answers", "event_type", "reason", "requests"),
    [
        ([(400, {}, "no such number")], "rejected", "HTTP 400 no such number", 1),
        ([(200, {}, "ERR 12 barred")], "rejected", "HTTP 200 ERR 12 barred", 1),
        ([(429, {"Retry-After": "0"}, "slow"), (503, {}, ""), (500, {}, "?")], "submitted", None, 4),
        ([(401, {}, "who?"), (302, {"Location": "/elsewhere"}, "")], "submitted", None, 3),
        (["cut"], "submitted", None, 2),
        (["hang"], "submitted", None, 2),
        (["endless"], "submitted", None, 1),
        ([(200, {"Content-Encoding": "gzip"}, "not gzip")], "submitted", None, 1),
    ],
    ids=["refused", "refused by its text", "busy", "a wrong password", "cut off", "hangs", "endless", "no gzip"],
)
async def test_what_a_provider_answers(
    channels: Channels, provider: Provider, answers: list[Any], event_type: str, reason: str | None, requests: int
) -> None:
    config = sms(provider, reject_pattern="^ERR")
    channel = await (await channels.create("http_api", config)).running()
    provider.answers = list(answers)
    sent = await channel.send("27", "x")
    event = await channel.event(sent["message_id"], event_type)
    assert event["event_details"].get("reason") == reason
    assert len(provider.asked) == requests


async def test_a_provider_that_is_away_gets_its_messages_later(channels: Channels, provider: Provider) -> None:
    await provider.runner.cleanup()
    channel = await (await channels.create("http_api", sms(provider))).running()
    sent = [await channel.send("27", str(n)) for n in range(3)]

    async def is_told() -> bool:
        return (await channel.status())["components"].get("outbound", {}).get("status") == "down"

    await eventually(is_told, DEADLINE, "the status says so")
    provider.runner = web.ServerRunner(web.Server(provider._answer, access_log=None), shutdown_timeout=0.1)
    await provider.open()
    for each in sent:
        await channel.event(each["message_id"], "submitted")
    assert (await channel.component("outbound"))["status"] == "ok"


async def test_url_form_and_xml(channels: Channels, provider: Provider) -> None:
    ways: dict[str, dict[str, Any]] = {
        "get": {"url": f"{provider.url}/send?user=u{{&key,to,content}}", "method": "GET", "secrets": {"key": "open sesame"}},
        "form": {"url": f"{provider.url}/send", "form": {"to": "{to}", "text": "{content}", "group": "{group}"},
                 "username": "u", "password": "open-sesame"},
        "xml": {"url": f"{provider.url}/send", "xml": "<sms to='{to}'>{content}</sms>", "id_pattern": '"id": "(p[0-9]+)"'},
    }  # fmt: skip
    for outbound in ways.values():
        channel = await (await channels.create("http_api", {"outbound": outbound})).running()
        sent = await channel.send("+27&x=1", "a&b=c <d> '\"")
        event = await channel.event(sent["message_id"], "submitted")
    got, form, xml = provider.asked
    assert (got[0], got[1]) == ("GET", "/send?user=u&key=open%20sesame&to=%2B27%26x%3D1&content=a%26b%3Dc%20%3Cd%3E%20%27%22")
    assert parse_qs(form[3]) == {"to": ["+27&x=1"], "text": ["a&b=c <d> '\""]}
    assert form[2]["Authorization"] == basic_authorization("u", "open-sesame")
    assert xml[3] == "<sms to='+27&amp;x=1'>a&amp;b=c &lt;d&gt; &apos;&quot;</sms>"
    assert event["event_details"] == {"sent_message_id": "p3"}


async def test_ussd_in_the_response(channels: Channels, sink: WebhookSink, session: aiohttp.ClientSession) -> None:
    config = {
        "web_path": "ussd", "web_port": free_port(), "web_host": "127.0.0.1",
        "inbound": {
            "parameters": {"from": "msisdn", "to": "code", "content": "input", "session_id": "session"},
            "reply_in_response": True, "transport_type": "ussd",
            "response": {"json": {"text": "{content}", "next": "{action}"}, "actions": {"resume": "CON", "close": "END"}},
        },
    }  # fmt: skip
    channel = await (await channels.create("http_api", config)).running()
    for text, more, expected in (("", {}, "CON"), ("1", {"channel_data": {"continue_session": False}}, "END"), ("", {}, "CON")):
        form = {"msisdn": "2783", "code": "*1#", "input": text, "session": "s"}
        asking = asyncio.create_task(ask(session, channel, "/ussd", data=form))
        count = {"CON": 1, "END": 2}[expected] if not (text == "" and len(sink.bodies("/mo")) == 2) else 3
        inbound = (await sink.wait("/mo", count))[-1].body
        reply = {"reply_to": inbound["message_id"], "content": "Hi", **more}
        assert (await channel.api.post(f"{channel.path}/messages/", reply)).status == 201
        status, answer = await asking
        assert (status, json.loads(answer)) == (200, {"text": "Hi", "next": expected})
    events = [body["channel_data"]["session_event"] for body in sink.bodies("/mo")]
    assert events == ["new", "resume", "new"]
    orphan = await channel.send("2783", "nobody asked")
    event = await channel.event(orphan["message_id"], "rejected")
    assert event["event_details"]["reason"] == "Missing fields: in_reply_to"
