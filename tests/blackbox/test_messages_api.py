"""Sending messages and asking what became of them (spec 1.7.1, COMPAT §1)."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import pytest

from tests.blackbox.conftest import Channels, StartJunebug
from tests.harness import Api, Channel, JunebugProcess, WebhookSink, is_message_id, is_timestamp
from tests.polling import DEADLINE, eventually
from tests.tables import rows

ECHO = {"id", "message_id", "channel_id", "to", "from", "group", "reply_to", "content", "timestamp", "channel_data"}


async def inbound(channel: Channel, sink: WebhookSink, content: str = "hi") -> dict[str, Any]:
    """An MO on a telnet channel that can be replied to; its session stays open only while it arrives."""
    async with await channel.connect() as client:
        await client.say(content)
        return await sink.wait_content("/mo", content)


async def test_a_send_answers_the_whole_message_and_its_id(channels: Channels, api: Api) -> None:
    channel = await channels.loopback()
    body = {"to": "+2771", "from": "8110", "group": "#room", "content": "Hello world!", "priority": 3}
    answer = await api.post(f"{channel.path}/messages/", {**body, "channel_data": {"voice": {"speech_url": "x"}}})
    assert (answer.status, answer.description) == (201, "message submitted")
    result = answer.result
    assert set(result) == ECHO
    assert is_message_id(result["message_id"])
    assert result["id"] == result["message_id"]
    assert is_timestamp(result["timestamp"])
    assert (result["to"], result["from"], result["group"], result["reply_to"]) == ("+2771", "8110", "#room", None)
    assert (result["channel_id"], result["content"]) == (channel.id, "Hello world!")
    assert result["channel_data"] == {"voice": {"speech_url": "x"}}


async def test_what_is_not_given_is_null_in_the_echo(channels: Channels) -> None:
    channel = await channels.loopback()
    result = await channel.send("+2771", None)
    assert (result["from"], result["group"], result["reply_to"], result["content"]) == (None, None, None, None)
    assert result["channel_data"] == {}


@rows("priority", [1, 2, 3, 4, 5, "1", "5", None])
async def test_priority_is_taken_as_number_and_as_text(loopback: Channel, priority: Any) -> None:
    assert (await loopback.send("+2771", priority=priority))["message_id"]


@rows("priority", [0, 6, "0", "6", "high", 1.5, True, []])
async def test_any_other_priority_is_refused(loopback: Channel, api: Api, priority: Any) -> None:
    answer = await api.post(f"{loopback.path}/messages/", {"to": "+27", "content": "x", "priority": priority})
    assert (answer.status, answer.error_types) == (400, {"invalid_body"})


@rows(
    "form", ["/channels/{}/messages/", "/channels/{}/messages", "/channels/{}/messages.json",
             "/jb/channels/{}/messages/", "/jb/channels/{}/messages", "/jb/channels/{}/messages.json"]
)  # fmt: skip
async def test_every_form_of_the_url_that_clients_post_to_is_served(loopback: Channel, api: Api, form: str) -> None:
    answer = await api.post(form.format(loopback.id), {"to": "+27", "content": "x"})
    assert answer.status == 201


@rows("body", [
    {"content": "x"},
    {"content": "x", "to": None},
    {"content": "x", "to": None, "reply_to": None},
    {"content": "x", "to": "+27", "reply_to": "0" * 32},
])  # fmt: skip
async def test_exactly_one_of_to_and_reply_to_is_needed(loopback: Channel, api: Api, body: dict[str, Any]) -> None:
    answer = await api.post(f"{loopback.path}/messages/", body)
    assert (answer.status, answer.description, answer.error_types) == (400, "api usage error", {"ApiUsageError"})


async def test_a_reply_goes_to_whom_the_message_came_from(channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.telnet()
    async with await channel.connect() as client:
        await client.say("question")
        question = await sink.wait_content("/mo", "question")
        reply = await channel.send(content="answer", reply_to=question["message_id"])
        assert (reply["to"], reply["from"]) == (question["from"], question["to"])
        assert reply["group"] == question["group"]
        assert reply["reply_to"] == question["message_id"]
        assert await client.hear() == "answer"


async def test_a_reply_to_an_unknown_message_is_refused(channels: Channels, api: Api) -> None:
    channel = await channels.create("loopback", {})
    answer = await api.post(f"{channel.path}/messages/", {"reply_to": "0" * 32, "content": "x"})
    assert (answer.status, answer.description) == (400, "message not found")
    assert answer.error_types == {"MessageNotFound"}


async def test_a_reply_is_refused_on_another_channel(channels: Channels, api: Api, sink: WebhookSink) -> None:
    channel, other = await channels.telnet(), await channels.create("loopback", {})
    message = await inbound(channel, sink)
    answer = await api.post(f"{other.path}/messages/", {"reply_to": message["message_id"], "content": "x"})
    assert (answer.status, answer.error_types) == (400, {"MessageNotFound"})


async def test_a_reply_after_inbound_message_ttl_is_refused(start_junebug: StartJunebug, sink: WebhookSink) -> None:
    junebug = start_junebug({"inbound-message-ttl": 1})
    channel = await Channels(junebug.api, sink).telnet()
    message = await inbound(channel, sink)

    async def refused() -> bool:
        answer = await junebug.api.post(
            f"{channel.path}/messages/", {"reply_to": message["message_id"], "content": "x"}
        )
        return answer.status == 400 and answer.error_types == {"MessageNotFound"}

    await eventually(refused)


async def test_with_allow_expired_replies_an_expired_one_falls_back_to_to(
    start_junebug: StartJunebug, sink: WebhookSink
) -> None:
    junebug = start_junebug({"allow-expired-replies": True})
    channel = await Channels(junebug.api, sink).telnet()
    async with await channel.connect() as client, await channel.connect() as other:
        await client.say("question")
        question = await sink.wait_content("/mo", "question")
        known = await channel.send(other.address, "to the asker", reply_to=question["message_id"])
        assert (known["to"], known["reply_to"]) == (client.address, question["message_id"])
        assert await client.hear() == "to the asker"
        expired = await channel.send(other.address, "to the other", reply_to="0" * 32)
        assert expired["to"] == other.address
        assert await other.hear() == "to the other"


@pytest.mark.parametrize(
    ("channel_data", "session_event"),
    [
        ({"continue_session": False}, "close"),
        ({"continue_session": True}, "resume"),
        ({"session_event": "close"}, "close"),
        ({"session_event": "close", "continue_session": True}, "close"),
    ],
)
async def test_channel_data_sets_the_session_event_and_the_rest_is_helper_metadata(
    channels: Channels, sink: WebhookSink, channel_data: dict[str, Any], session_event: str
) -> None:
    """loopback gives the outbound message back as it went to the transport."""
    channel = await channels.loopback()
    echo = await channel.send("+27", "x", channel_data={**channel_data, "voice": {"wait_for": "#"}})
    assert echo["channel_data"]["session_event"] == session_event
    (received,) = await sink.wait("/mo")
    assert received.body["channel_data"]["session_event"] == session_event
    assert received.body["channel_data"]["voice"] == {"wait_for": "#"}


async def test_a_reply_that_ends_the_session_disconnects_after_it_is_shown(
    channels: Channels, sink: WebhookSink
) -> None:
    channel = await channels.telnet()
    async with await channel.connect() as client:
        (new,) = await sink.wait("/mo")
        await channel.send(content="bye", reply_to=new.body["message_id"], channel_data={"continue_session": False})
        assert await client.hear() == "bye"
        assert await client.ended()


async def test_the_character_limit_counts_characters(channels: Channels, api: Api) -> None:
    channel = await channels.create("loopback", {}, character_limit=5)
    assert (await channel.send("+27", "ü€😀öä"))["content"] == "ü€😀öä"
    answer = await api.post(f"{channel.path}/messages/", {"to": "+27", "content": "123456"})
    assert (answer.status, answer.description, answer.error_types) == (400, "message too long", {"MessageTooLong"})


@pytest.mark.parametrize("limit", [0, None])
async def test_no_character_limit_lets_long_messages_through(channels: Channels, limit: int | None) -> None:
    channel = await channels.create("loopback", {}, character_limit=10)
    await channel.modify(character_limit=limit)

    async def is_taken() -> bool:
        return (await channel.api.post(f"{channel.path}/messages/", {"to": "+27", "content": "x" * 5000})).status == 201

    await eventually(is_taken)


async def test_the_status_of_a_sent_message_holds_its_events(channels: Channels, api: Api) -> None:
    channel = await channels.loopback()
    sent = await channel.send("+27")
    await channel.event(sent["message_id"], "delivery_succeeded")
    await channel.event(sent["message_id"], "submitted")
    answer = await api.get(f"{channel.path}/messages/{sent['message_id']}")
    assert answer.description == "message status"
    status = answer.result
    assert status["id"] == sent["message_id"]
    assert {event["event_type"] for event in status["events"]} == {"submitted", "delivery_succeeded"}
    for event in status["events"]:
        assert set(event) == {"event_type", "message_id", "channel_id", "timestamp", "event_details"}
        assert (event["message_id"], event["channel_id"]) == (sent["message_id"], channel.id)
        assert is_timestamp(event["timestamp"])
    last = max(status["events"], key=lambda event: event["timestamp"])
    assert (status["last_event_type"], status["last_event_timestamp"]) == (last["event_type"], last["timestamp"])


async def test_the_status_of_an_unknown_message_is_nulls_and_no_events(channels: Channels, api: Api) -> None:
    channel = await channels.create("loopback", {})
    answer = await api.get(f"{channel.path}/messages/{'0' * 32}")
    assert (answer.status, answer.description) == (200, "message status")
    assert answer.result == {
        "id": "0" * 32, "last_event_type": None, "last_event_timestamp": None, "events": []
    }  # fmt: skip


async def test_messages_sent_before_the_worker_is_up_wait_for_it(channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.create("loopback", {})
    sent = [(await channel.send("+27", f"early {n}"))["message_id"] for n in range(10)]
    await sink.wait("/mo", 10)
    assert [body["content"] for body in sink.bodies("/mo")] == [f"early {n}" for n in range(10)]
    for message_id in sent:
        await channel.event(message_id, "submitted")


async def test_content_survives_byte_for_byte(channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.loopback()
    texts = ["", " ", "ä€😀‏\u200d", "2016-03-18 11:49:36.830534", '{"a": 1}', "line 1\nline 2\r\n\ttab", "x" * 20_000, "\u0000"]
    for text in texts:
        await channel.send("+27", text)
    await sink.wait("/mo", len(texts))
    assert [body["content"] for body in sink.bodies("/mo")] == texts


async def test_many_at_once_are_each_answered_and_sent_once(channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.loopback({"delivery_reports": False})
    async with channel.api.kept_alive() as api:
        answers = await asyncio.gather(
            *(api.post(f"{channel.path}/messages/", {"to": "+27", "content": str(n)}) for n in range(300))
        )
    assert {answer.status for answer in answers} == {201}
    assert len({answer.result["message_id"] for answer in answers}) == 300
    await sink.wait("/mo", 300)
    assert sorted(int(body["content"]) for body in sink.bodies("/mo")) == list(range(300))


async def test_pipelined_raw_http_is_answered_in_order(jb: JunebugProcess, channels: Channels) -> None:
    """Old HTTP clients keep connections and write the next request before they read."""
    channel = await channels.create("loopback", {})
    host = ("127.0.0.1", jb.flags["port"])
    body = json.dumps({"to": "+27", "content": "x"})
    request = f"POST {channel.path}/messages/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    health = "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

    def talk() -> bytes:
        with socket.create_connection(host, DEADLINE) as link:
            link.sendall((request + health).encode())
            link.settimeout(DEADLINE)
            found = b""
            while data := link.recv(65536):
                found += data
            return found

    answers = await asyncio.to_thread(talk)
    assert answers.index(b"HTTP/1.1 201 Created") < answers.index(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize("form", ["lines", "array"])
async def test_each_message_of_a_bulk_send_has_its_outcome_and_those_taken_wait_in_order_and_are_sent(
    channels: Channels, api: Api, sink: WebhookSink, form: str
) -> None:
    channel = await channels.loopback()
    await api.post(f"{channel.path}/pause")
    sent = [{"to": "+27", "content": f"n {n}", "event_url": sink.url("/event")} for n in range(250)]
    lines = [json.dumps(each) for each in sent]
    lines.insert(100, '{"to": "+27", "content": nothing}')
    data = "\r\n".join(lines) if form == "lines" else f"[{', '.join(lines)}]"
    for headers in ({}, {"Idempotent-Replayed": "true"}):
        answer = await api.request("POST", f"{channel.path}/messages/bulk", data=data, headers={"Idempotency-Key": "k"})
        assert answer.status == 201
        assert headers.items() <= answer.headers.items()
    items = answer.result["messages"]
    assert (answer.result["accepted"], answer.result["rejected"], len(items)) == (250, 1, 251)
    assert items.pop(100)["errors"][0]["type"] == "JsonDecodeError"
    ids = [item["message_id"] for item in items]
    assert all(map(is_message_id, ids))
    waiting = (await api.get(f"{channel.path}/messages/?limit=1000")).result["messages"]
    assert [each["message_id"] for each in waiting] == ids
    await api.post(f"{channel.path}/resume")
    wanted = {("submitted", each) for each in ids}
    await eventually(lambda: wanted <= {(body["event_type"], body["message_id"]) for body in sink.bodies("/event")})
    await eventually(lambda: {each["content"] for each in sent} == {body["content"] for body in sink.bodies("/mo")})
