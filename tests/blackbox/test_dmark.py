"""Channel type dmark: USSD over HTTP, as the provider and the application see it (COMPAT §5); and the port that types share."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
from yarl import URL

from tests.blackbox.conftest import Channels
from tests.harness import DEADLINE, Api, Channel, WebhookSink, basic_authorization, free_port, unique
from tests.polling import eventually

SHARED_PORT = free_port()
FLAGS = {"http-types-port": SHARED_PORT, "http-types-interface": "127.0.0.1"}
SAID = {
    "transactionId": "t", "msisdn": "27830001001", "ussdServiceCode": "*120*1#", "transactionTime": "2026-11-26 12:00:00",
    "ussdRequestString": "*120*1#", "creationTime": "2026-11-26 12:00:01", "response": "false",
}  # fmt: skip


class Dmark:
    """The provider's side of a channel."""

    def __init__(self, session: aiohttp.ClientSession, channel: Channel, base: str) -> None:
        self.session, self.channel, self.base = session, channel, base
        self.transaction = unique("t")

    async def ask(self, text: str = "", path: str = "/ussd", **options: Any) -> tuple[int, Any]:
        said = {**SAID, "transactionId": self.transaction, "ussdRequestString": text, **options.pop("said", {})}
        params = {name: value for name, value in said.items() if value is not None}
        return await self.get(path, params=params, **options)

    async def get(self, path: str, method: str = "GET", **options: Any) -> tuple[int, Any]:
        async with self.session.request(method, f"{self.base}{path}", **options) as answer:
            text = await answer.text()
            is_json = answer.content_type == "application/json" and text
            return answer.status, json.loads(text) if is_json else text

    async def answered(
        self, sink: WebhookSink, text: str, reply: Mapping[str, Any], **options: Any
    ) -> tuple[tuple[int, Any], dict[str, Any]]:
        """What the provider got for a request, and the inbound message that the application replied to."""
        asking = asyncio.create_task(self.ask(text, **options))
        inbound = await self.heard(sink)
        answer = await self.channel.api.post(f"{self.channel.path}/messages/", {"reply_to": inbound["message_id"], **reply})
        assert answer.status == 201, answer
        return await asking, inbound

    async def heard(self, sink: WebhookSink, count: int = 1) -> dict[str, Any]:
        """The last inbound message of this channel, once there is one that was not seen before."""
        seen = getattr(self, "_seen", 0)

        def found() -> list[dict[str, Any]]:
            return [body for body in sink.bodies("/mo") if body["channel_id"] == self.channel.id][seen:]

        await eventually(found, DEADLINE, "an inbound message")
        self._seen = seen + 1
        return found()[0]


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=DEADLINE)) as opened:
        yield opened


async def dmark(channels: Channels, session: aiohttp.ClientSession, properties: Any = None, **config: Any) -> Dmark:
    """A channel that listens, on a port of its own."""
    port = free_port()
    given = {"web_path": "ussd", "web_port": port, "web_host": "127.0.0.1", **config}
    channel = await (await channels.create("dmark", given, port, **(properties or {}))).running()
    return Dmark(session, channel, f"http://127.0.0.1:{port}")


async def test_a_conversation(channels: Channels, sink: WebhookSink, session: aiohttp.ClientSession) -> None:
    phone = await dmark(channels, session)
    first, asked = await phone.answered(sink, "*120*1#", {"content": "Your name?"})
    assert first == (200, {"responseString": "Your name?", "action": "request"})
    assert (asked["content"], asked["from"], asked["to"]) == (None, "27830001001", "*120*1#")
    assert asked["channel_data"] == {"session_event": "new", "session_id": phone.transaction}
    last, said = await phone.answered(
        sink, "Zoë 💐", {"content": "Thank you, Zoë 💐", "channel_data": {"continue_session": False}}
    )
    assert last == (200, {"responseString": "Thank you, Zoë 💐", "action": "end"})
    assert (said["content"], said["channel_data"]["session_event"]) == ("Zoë 💐", "resume")
    _, again = await phone.answered(sink, "*120*1#", {"content": "Your name?"})
    assert again["channel_data"]["session_event"] == "new", "the application ended the one before"
    await _told(phone.channel, "request_parsed")
    await _told(phone.channel, "response_sent")


async def test_the_trace_of_a_providers_request_goes_with_its_message(
    channels: Channels, sink: WebhookSink, session: aiohttp.ClientSession
) -> None:
    phone = await dmark(channels, session)
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await phone.answered(sink, "traced", {"content": "x"}, headers={"traceparent": trace})
    await phone.answered(sink, "not traced", {"content": "x"})
    assert [each.headers.get("traceparent") for each in sink.requests("/mo")] == [trace, None]


async def test_events_of_a_reply(channels: Channels, sink: WebhookSink, session: aiohttp.ClientSession) -> None:
    phone = await dmark(channels, session)
    asking = asyncio.create_task(phone.ask())
    inbound = await phone.heard(sink)
    reply = {"reply_to": inbound["message_id"], "content": "one"}
    sent = (await phone.channel.api.post(f"{phone.channel.path}/messages/", reply)).result
    await phone.channel.event(sent["message_id"], "submitted")
    assert (await asking)[0] == 200
    late = (await phone.channel.api.post(f"{phone.channel.path}/messages/", {**reply, "content": "two"})).result
    event = await phone.channel.event(late["message_id"], "rejected")
    assert event["event_details"]["reason"] == "Could not find original request."
    orphan = await phone.channel.send("27830001001", "nobody asked")
    event = await phone.channel.event(orphan["message_id"], "rejected")
    assert event["event_details"]["reason"] == "Missing fields: in_reply_to"
    empty = (await phone.channel.api.post(f"{phone.channel.path}/messages/", {**reply, "content": None})).result
    event = await phone.channel.event(empty["message_id"], "rejected")
    assert event["event_details"]["reason"] == "Missing fields: content"


async def test_what_is_no_request_of_dmarks(
    channels: Channels, sink: WebhookSink, session: aiohttp.ClientSession
) -> None:
    phone = await dmark(channels, session)
    missing = await phone.ask(said={"msisdn": None, "response": None})
    assert missing == (400, {"missing_parameter": ["msisdn", "response"]})
    await _told(phone.channel, "invalid_inbound_fields")
    both = await phone.ask(said={"msisdn": None, "colour": "red"})
    assert both == (400, {"missing_parameter": ["msisdn"], "unexpected_parameter": ["colour"]})
    query = urlencode({**SAID, "ussdRequestString": b"\xff\xfe"})
    async with session.get(URL(f"{phone.base}/ussd?{query}", encoded=True)) as answer:
        assert answer.status == 400
    await _told(phone.channel, "invalid_encoding")
    assert (await phone.get("/elsewhere"))[0] == 404
    assert (await phone.get("/ussd", "DELETE"))[0] == 405
    assert (await phone.get("/ussd", "POST", data=b"x" * 100_000))[0] == 413
    assert (await phone.get("/ussd", "POST", data={f"p{n}": "x" for n in range(1000)}))[0] == 400
    assert sink.bodies("/mo") == []
    (status, _), _ = await phone.answered(sink, "after all that", {"content": "fine"})
    assert status == 200
    await _told(phone.channel, "request_parsed")


async def test_options(channels: Channels, sink: WebhookSink, session: aiohttp.ClientSession) -> None:
    phone = await dmark(
        channels, session, validation_mode="permissive", fix_to_addr=True, web_username="dmark", web_password="open-sesame",
        health_path="/up", response_time_degraded=0.0,
    )  # fmt: skip
    assert (await phone.ask())[0] == 401
    assert (await phone.ask(headers={"Authorization": basic_authorization("dmark", "wrong")}))[0] == 401
    assert (await phone.ask(headers={"Authorization": "Basic !"}))[0] == 401
    assert await phone.get("/up") == (200, {"pending_requests": 0})
    headers = {"Authorization": basic_authorization("dmark", "open-sesame")}
    said = {"colour": "red", "ussdServiceCode": "120*1"}
    asking = asyncio.create_task(phone.ask("*120*1#", said=said, headers=headers))
    inbound = await phone.heard(sink)
    assert inbound["to"] == "*120*1#"
    assert await phone.get("/up") == (200, {"pending_requests": 1})
    await phone.channel.api.post(f"{phone.channel.path}/messages/", {"reply_to": inbound["message_id"], "content": "x"})
    assert (await asking)[0] == 200
    await _told(phone.channel, "slow_response")
    shown = json.dumps([await phone.channel.get(), await phone.channel.logs()])
    assert "open-sesame" not in shown


async def test_an_application_that_does_not_reply(
    channels: Channels, sink: WebhookSink, session: aiohttp.ClientSession
) -> None:
    phone = await dmark(
        channels, session, request_timeout=0.3, request_timeout_status_code=200, request_timeout_body="Try again",
        max_pending_requests=1,
    )  # fmt: skip
    asking = asyncio.create_task(phone.ask())
    inbound = await phone.heard(sink)
    busy, said = await phone.ask()
    assert (busy, said["action"]) == (503, "end")
    assert await asking == (200, "Try again")
    await _told(phone.channel, "timeout")
    reply = {"reply_to": inbound["message_id"], "content": "late"}
    sent = (await phone.channel.api.post(f"{phone.channel.path}/messages/", reply)).result
    await phone.channel.event(sent["message_id"], "rejected")


async def test_a_provider_that_does_not_wait(channels: Channels, sink: WebhookSink, session: aiohttp.ClientSession) -> None:
    phone = await dmark(channels, session)
    asking = asyncio.create_task(phone.ask())
    inbound = await phone.heard(sink)
    asking.cancel()
    await asyncio.wait([asking])

    async def nothing_waits() -> bool:
        return await phone.get("/health") == (200, {"pending_requests": 0})

    await eventually(nothing_waits, DEADLINE, "the request is forgotten")
    reply = {"reply_to": inbound["message_id"], "content": "late"}
    sent = (await phone.channel.api.post(f"{phone.channel.path}/messages/", reply)).result
    event = await phone.channel.event(sent["message_id"], "rejected")
    assert event["event_details"]["reason"] == "Could not find original request."


async def test_a_silent_session_is_closed(channels: Channels, sink: WebhookSink, session: aiohttp.ClientSession) -> None:
    phone = await dmark(channels, session, ussd_session_timeout=0.2)
    await phone.answered(sink, "*120*1#", {"content": "Your name?"})
    closed = await phone.heard(sink)
    assert (closed["channel_data"]["session_event"], closed["content"]) == ("close", None)
    assert (closed["from"], closed["channel_data"]["session_id"]) == ("27830001001", phone.transaction)


async def test_a_restart_finishes_requests_and_keeps_sessions(
    channels: Channels, sink: WebhookSink, session: aiohttp.ClientSession
) -> None:
    phone = await dmark(channels, session)
    asking = asyncio.create_task(phone.ask())
    inbound = await phone.heard(sink)
    restarting = asyncio.create_task(phone.channel.restart())
    reply = {"reply_to": inbound["message_id"], "content": "in the middle of a restart"}
    assert (await phone.channel.api.post(f"{phone.channel.path}/messages/", reply)).status == 201
    assert await asking == (200, {"responseString": "in the middle of a restart", "action": "request"})
    await restarting
    _, resumed = await phone.answered(sink, "1", {"content": "still here"})
    assert resumed["channel_data"]["session_event"] == "resume"


async def test_a_reply_is_limited_to_what_ussd_shows(
    channels: Channels, sink: WebhookSink, session: aiohttp.ClientSession
) -> None:
    phone = await dmark(channels, session)
    asking = asyncio.create_task(phone.ask())
    inbound = await phone.heard(sink)
    reply = {"reply_to": inbound["message_id"], "content": "x" * 183}
    refused = await phone.channel.api.post(f"{phone.channel.path}/messages/", reply)
    assert (refused.status, refused.description) == (400, "message too long")
    assert "182" in refused.errors[0]["message"]
    await phone.channel.modify(character_limit=200)
    assert (await phone.channel.api.post(f"{phone.channel.path}/messages/", reply)).status == 201
    assert (await asking)[1]["responseString"] == "x" * 183


# --- the shared port --------------------------------------------------------------------------------------------------


async def behind(channels: Channels, session: aiohttp.ClientSession, path: str, **config: Any) -> Dmark:
    channel = await (await channels.create("dmark", {"web_path": path, **config})).running()
    return Dmark(session, channel, f"http://127.0.0.1:{SHARED_PORT}")


async def test_channels_share_a_port(channels: Channels, sink: WebhookSink, session: aiohttp.ClientSession) -> None:
    one = await behind(channels, session, "/one/ussd", web_username="u", web_password="password")
    other = await behind(channels, session, "other")
    authorized = {"headers": {"Authorization": basic_authorization("u", "password")}}
    for phone, path, options in ((one, "/one/ussd", authorized), (other, "/other", dict[str, Any]())):
        asking = asyncio.create_task(phone.ask("hi", path, **options))
        inbound = await phone.heard(sink)
        reply = {"reply_to": inbound["message_id"], "content": f"from {path}"}
        assert (await phone.channel.api.post(f"{phone.channel.path}/messages/", reply)).status == 201
        assert await asking == (200, {"responseString": f"from {path}", "action": "request"})
        assert await phone.get(f"{path}/health") == (200, {"pending_requests": 0})
    assert (await one.ask(path="/one/ussd"))[0] == 401
    assert (await one.ask(path="/nobody"))[0] == 404
    assert {body["channel_id"] for body in sink.bodies("/mo")} == {one.channel.id, other.channel.id}
    taken = await channels.create("dmark", {"web_path": "/other/"})
    told = await _told(taken, "cannot_start")
    assert other.channel.id in told["message"]
    assert "web_path" in told["message"]
    config = {"web_path": "other", "web_username": "u", "web_password": "password"}
    await one.channel.modify(config=config)
    await _told(one.channel, "cannot_start")
    status, said = await one.ask(path="/one/ussd")  # it had this path before it could not start
    assert (status, said["action"]) == (503, "end")


async def test_a_provider_that_does_not_wait_at_the_shared_port_either(
    channels: Channels, sink: WebhookSink, session: aiohttp.ClientSession
) -> None:
    phone = await behind(channels, session, "impatient")
    asking = asyncio.create_task(phone.ask("hi", "/impatient"))
    inbound = await phone.heard(sink)
    asking.cancel()

    async def is_gone() -> bool:
        return await phone.get("/impatient/health") == (200, {"pending_requests": 0})

    await eventually(is_gone, DEADLINE, "the channel knows that nobody waits")
    sent = await phone.channel.send(content="late", reply_to=inbound["message_id"])
    event = await phone.channel.event(sent["message_id"], "rejected")
    assert event["event_details"]["reason"] == "Could not find original request."


async def test_a_channel_that_is_down_is_answered_for(
    channels: Channels, sink: WebhookSink, session: aiohttp.ClientSession
) -> None:
    phone = await behind(channels, session, "down")
    pid = await phone.channel.pid()
    os.kill(pid, signal.SIGSTOP)
    os.kill(pid, signal.SIGKILL)
    restarting = asyncio.create_task(phone.channel.running(other_than_pid=pid))

    async def ask() -> tuple[int, Any]:
        """Until it is not answered for any more: the door waits for the new process, but not for long."""
        while (answer := await phone.ask("hi", "/down"))[0] == 503:
            assert answer[1]["action"] == "end"
        return answer

    asking = asyncio.create_task(ask())
    inbound = await phone.heard(sink)
    reply = {"reply_to": inbound["message_id"], "content": "back"}
    assert (await phone.channel.api.post(f"{phone.channel.path}/messages/", reply)).status == 201
    assert (await asking)[0] == 200
    await restarting
    await phone.channel.modify(type="dmark", config={"web_path": "moved"})
    await phone.channel.running()

    async def moved() -> bool:
        return (await phone.get("/down/health"))[0] == 404 and (await phone.get("/moved/health"))[0] == 200

    await eventually(moved, DEADLINE, "the new path is known, the old one forgotten")
    await phone.channel.delete()

    async def gone() -> bool:
        return (await phone.get("/moved/health"))[0] == 404

    await eventually(gone, DEADLINE, "a deleted channel's path is forgotten")


async def _told(channel: Channel, type: str) -> dict[str, Any]:
    async def found() -> dict[str, Any] | None:
        return next((each for each in (await channel.status())["components"].values() if each["type"] == type), None)

    return dict(await eventually(found, DEADLINE, type))


async def test_a_channel_without_a_port_where_none_is_shared_says_so(start_junebug: Any, sink: WebhookSink) -> None:
    api: Api = start_junebug().api
    channel = await Channels(api, sink).create("dmark", {"web_path": "x"})
    assert "http_types.port" in (await _told(channel, "cannot_start"))["message"]
