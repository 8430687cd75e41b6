"""Channel type http_api: aggregators and a USSD gateway that are described by a channel's config, as both sides see them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import aiohttp
import pytest
from aiohttp import web

from tests.blackbox.conftest import Channels
from tests.harness import DEADLINE, Channel, JunebugProcess, WebhookSink, basic_authorization, free_port
from tests.polling import eventually
from tests.test_docs import ROOT, blocks

SHARED_PORT = free_port()
FLAGS = {"http-types-port": SHARED_PORT, "http-types-interface": "127.0.0.1"}


@dataclass
class Provider:
    """An aggregator: keeps what it is asked, answers as it is told. `port` is where it listens."""

    port: int = field(default_factory=free_port)
    asked: list[tuple[str, str, dict[str, str], str]] = field(default_factory=list)
    """method, path and query, headers, body"""
    answers: list[Any] = field(default_factory=list)
    """What comes next: (status, headers, body); `hang`, `endless`, `cut`. Afterwards 200 with a new id."""
    fails_on: str = "\0"
    """What holds this is answered 500."""

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
        if self.fails_on in body:
            answer = (500, {}, "cannot do that")
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


ANSWERS = (
    json.dumps({"message": {"id": "p1"}}),
    "0: Accepted for delivery: 1234",
    json.dumps({"messages": [{"messageId": "theirs", "status": {"groupName": "PENDING"}}]}),
)
MO: tuple[tuple[str, dict[str, Any]], ...] = (
    ("/sms", {"data": {"msisdn": "2783", "shortcode": "8110", "text": "hi 💐", "id": "m"}}),
    ("/mo?sender=2783&receiver=8110&text=hi+%F0%9F%92%90", {}),
    ("/inbox", {"json": {"results": [{"from": "2783", "to": "8110", "text": "hi 💐", "messageId": "m"}]}}),
)
REPORTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("/receipts?id=p1&status=DELIVRD", {}),
    ("/dlr?id=1234&type=1", {}),
    ("/reports", {"json": {"results": [{"messageId": "OURS", "status": {"groupName": "DELIVERED"}}, {"messageId": "x", "status": {
        "groupName": "NEVER HEARD"}}]}}),
)  # fmt: skip


def documented() -> list[dict[str, Any]]:
    """The channels that docs/channel-types.md shows for SMS, as a POST has them."""
    found = [json.loads(text) for text in blocks(ROOT / "docs" / "channel-types.md", "json")]
    return [each for each in found if each.get("type") == "http_api" and "outbound" in each["config"]]


@pytest.mark.parametrize("n", range(len(ANSWERS)), ids=["JSON", "GET and a text", "lists"])
async def test_documented_examples(
    jb: JunebugProcess, channels: Channels, sink: WebhookSink, session: aiohttp.ClientSession, provider: Provider, n: int
) -> None:
    assert len(documented()) == len(ANSWERS)
    text = json.dumps(documented()[n]["config"]).replace("https://api.example.com", provider.url)
    config = {**json.loads(text), "web_port": free_port(), "web_host": "127.0.0.1"}
    channel = await (await channels.create("http_api", config)).running()
    provider.answers = [(200, {}, ANSWERS[n])]
    sent = await channel.send("27830001001", "100% & 💐", **{"from": "8110"})
    await channel.event(sent["message_id"], "submitted")
    method, path, headers, body = provider.asked[0]
    asked = [
        lambda: json.loads(body) == {"to": "27830001001", "from": "8110", "text": "100% & 💐"}
        and headers["Authorization"] == "Bearer s3cr3t-key",
        lambda: path == "/sendsms?user=acme&pass=s3cr3t-pass&to=27830001001&from=8110&text=100%25%20%26%20%F0%9F%92%90",
        lambda: json.loads(body)["messages"][0]["destinations"] == [{"to": "27830001001", "messageId": sent["message_id"]}],
    ]
    assert asked[n](), provider.asked
    assert method == ("GET" if n == 1 else "POST")
    where, options = json.loads(json.dumps(REPORTS[n]).replace("OURS", sent["message_id"]))
    assert (await ask(session, channel, where, **options))[0] == 200
    await channel.event(sent["message_id"], "delivery_succeeded")
    where, options = MO[n]
    assert (await ask(session, channel, where, **options))[0] == 200
    heard = await sink.wait_content("/mo", "hi 💐")
    assert (heard["from"], heard["to"]) == ("2783", "8110")
    assert "s3cr3t" not in json.dumps([await channel.get(), await channel.logs()])
    assert "s3cr3t" not in jb.output()


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
    for bad in (b"{", b"\xff\xfe", b"[" * 10_000, b'{"sms":' * 50, b"{" + b'"a":1,' * 20_000, b'{"a":' * 30 + b"1" + b"}" * 30):
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
        ([(404, {}, "who is open-sesame?")], "rejected", "HTTP 404 who is ********?", 1),
        ([(429, {"Retry-After": "0"}, "slow"), (503, {"Retry-After": "²"}, ""), (500, {}, "?")], "submitted", None, 4),
        ([(401, {}, "who?"), (302, {"Location": "/elsewhere"}, "")], "submitted", None, 3),
        (["cut"], "submitted", None, 2),
        (["hang"], "submitted", None, 2),
        (["endless"], "submitted", None, 1),
        ([(200, {"Content-Encoding": "gzip"}, "not gzip")], "submitted", None, 1),
    ],
    ids=["refused", "refused by its text", "a secret told", "busy", "a wrong password", "cut off", "hangs", "endless", "no gzip"],
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


async def test_a_message_that_the_provider_fails_on_holds_up_no_other(channels: Channels, provider: Provider) -> None:
    provider.fails_on = "poison"
    channel = await (await channels.create("http_api", sms(provider))).running()
    poison = await channel.send("27", "poison")
    for n in range(15):
        sent = await channel.send("27", str(n))
        await channel.event(sent["message_id"], "submitted")
    assert (await channel.message(poison["message_id"]))["events"] == []
    await channel.modify(config={**(await channel.get())["config"], "on_unknown": "fail"})
    event = await channel.event(poison["message_id"], "rejected")
    assert event["event_details"]["reason"] == "Outcome unknown: HTTP 500 cannot do that"
    assert (await channel.component("outbound"))["type"] == "outcome_unknown"


async def test_each_channel_sees_its_own_requests(
    channels: Channels, sink: WebhookSink, session: aiohttp.ClientSession, provider: Provider
) -> None:
    port = free_port()
    config = sms(provider)
    hosts = {host: await channels.create("http_api", {**config, "web_port": port, "web_host": host})
             for host in ("127.0.0.1", "127.0.0.2")}  # fmt: skip
    shared = {name: value for name, value in config.items() if name not in ("web_port", "web_host")}
    behind = await channels.create("http_api", shared)
    bases = {f"http://{host}:{port}": channel for host, channel in hosts.items()} | {f"http://127.0.0.1:{SHARED_PORT}": behind}
    for channel in bases.values():
        await channel.running()
    for base, channel in bases.items():
        message = {"id": "the same", "sms": {"from": base, "to": "8110", "text": "hi"}}
        async with session.post(f"{base}/sms", json=message) as answer:
            assert (answer.status, await answer.text()) == (200, "OK")
        sent = await channel.send("27", "hi")
        await channel.event(sent["message_id"], "submitted")
        receipt = {"id": f"p{len(provider.asked)}", "state": "DELIVRD"}
        for elsewhere in sorted(bases, key=base.__eq__):  # itself last
            async with session.post(f"{elsewhere}/receipt", json=receipt) as answer:
                assert answer.status == (200 if elsewhere == base else 404), elsewhere
        await channel.event(sent["message_id"], "delivery_succeeded")
    told = {body["from"]: body["channel_id"] for body in sink.bodies("/mo")}
    assert told == {base: channel.id for base, channel in bases.items()}


async def test_a_restart_under_traffic_loses_nothing(
    channels: Channels, sink: WebhookSink, session: aiohttp.ClientSession, provider: Provider
) -> None:
    channel = await (await channels.create("http_api", sms(provider))).running()
    taken: list[str] = []
    is_over = asyncio.Event()

    async def bring(source: int) -> None:
        """A provider that tries again what was not answered 200."""
        number = 0
        while not is_over.is_set():
            text = f"{source}.{number}"
            with suppress(aiohttp.ClientError):
                status, _ = await ask(session, channel, "/sms", json={"id": text, "sms": {"from": "1", "to": "2", "text": text}})
                assert status in (200, 503), status
                if status == 200:
                    taken.append(text)
                    number += 1
            await asyncio.sleep(0.005)

    bringing = [asyncio.create_task(bring(source)) for source in range(4)]
    sent = [await channel.send("27", str(n)) for n in range(50)]
    await channel.restart()
    sent += [await channel.send("27", str(n)) for n in range(50, 60)]
    for each in sent:
        await channel.event(each["message_id"], "submitted")
    before = len(taken)
    await eventually(lambda: len(taken) > before, DEADLINE, "it takes messages again")
    is_over.set()
    await asyncio.gather(*bringing)
    await eventually(lambda: {*taken} <= {body["content"] for body in sink.bodies("/mo")}, DEADLINE, "what was answered 200")
    texts = [json.loads(body)["messages"][0]["text"] for *_, body in provider.asked]
    assert {*texts} == {*map(str, range(60))}
    assert len(texts) <= 60 + 10, "no more than what was under way is sent again"
