"""What an application's URLs are sent, and what happens when they fail (COMPAT §2, spec 1.7.2, 1.7.3)."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections import Counter
from typing import Any

import jsonschema_rs
import pytest
from junebug_client import AsyncClient, webhooks

from tests.blackbox.conftest import Channels
from tests.harness import (
    LOG_DELAY,
    Channel,
    Reply,
    WebhookSink,
    basic_authorization,
    gather_limited,
    is_message_id,
    is_timestamp,
    unique,
)
from tests.polling import DEADLINE, eventually

MO = {"to", "from", "group", "message_id", "channel_id", "timestamp", "reply_to", "content", "channel_data"}
EVENT = {"event_type", "message_id", "channel_id", "timestamp", "event_details"}
STATUS = {"channel_id", "component", "status", "type", "message", "details"}


# --- bodies and headers -----------------------------------------------------------------------------------------------


async def test_an_mo_has_exactly_the_documented_keys(channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.telnet()
    async with await channel.connect() as client:
        await client.say("Hi there")
        new, line = (received.body for received in await sink.wait("/mo", 2))
    for body in (new, line):
        assert set(body) == MO
        assert is_message_id(body["message_id"])
        assert is_timestamp(body["timestamp"])
        assert body["from"] == client.address
        assert body["channel_id"] == channel.id
        assert (body["group"], body["reply_to"]) == (None, None)
    assert (new["content"], new["channel_data"]) == (None, {"session_event": "new"})
    assert (line["content"], line["channel_data"]) == ("Hi there", {"session_event": "resume"})


async def test_channel_data_has_session_event_only_when_there_is_one(channels: Channels, sink: WebhookSink) -> None:
    """RapidPro takes the key's presence for USSD."""
    channel = await channels.loopback()
    await channel.send("+27", "no session", channel_data={"extra": 1})
    body = await sink.wait_content("/mo", "no session")
    assert body["channel_data"] == {"extra": 1}


async def test_an_mo_is_posted_as_json_without_authorization(channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.loopback()
    await channel.send("+27")
    (received,) = await sink.wait("/mo")
    assert received.method == "POST"
    assert received.headers["Content-Type"] == "application/json"
    assert "Authorization" not in received.headers


async def test_an_event_has_exactly_the_documented_keys(channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.loopback()
    sent = await channel.send("+27", event_url=sink.url("/event"))
    received = await sink.wait("/event", 2)
    by_type = {each.body["event_type"]: each.body for each in received}
    assert set(by_type) == {"submitted", "delivery_succeeded"}
    for body in by_type.values():
        assert set(body) == EVENT
        assert (body["message_id"], body["channel_id"]) == (sent["message_id"], channel.id)
        assert is_timestamp(body["timestamp"])
        assert isinstance(body["event_details"], dict)
    assert {each.headers["Content-Type"] for each in received} == {"application/json"}


async def test_a_rejected_event_tells_the_reason(channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.telnet()
    await channel.send("127.0.0.1:1", event_url=sink.url("/event"))
    (received,) = await sink.wait("/event")
    assert received.body["event_type"] == "rejected"
    assert received.body["event_details"] == {"reason": "Unknown address."}


async def test_a_status_has_exactly_the_documented_keys(channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.telnet(status_url=sink.url("/status"))
    body = await sink.wait_for("/status", lambda body: body["component"] == "telnet")
    assert set(body) == STATUS
    assert (body["channel_id"], body["status"]) == (channel.id, "ok")
    assert isinstance(body["details"], dict)
    assert body["type"]
    assert body["message"]
    assert sink.requests("/status")[0].headers["Content-Type"] == "application/json"


async def test_callbacks_are_what_the_description_says_and_the_client_knows_their_signature(
    channels: Channels, sink: WebhookSink
) -> None:
    secret = "whsec_bm8gc2VjcmV0LCBhbiBleGFtcGxlIG9ubHk="
    channel = await channels.loopback(status_url=sink.url("/status"), callback_secret=secret)
    async with AsyncClient(channel.api.url) as client:
        document = await client.get_openapi()
    await channel.send("+27", event_url=sink.url("/event"))
    for path, name in (("/mo", "inbound_message"), ("/event", "event"), ("/status", "status")):
        received = (await sink.wait(path))[0]
        described = document["webhooks"][name]["post"]
        schema = described["requestBody"]["content"]["application/json"]["schema"]
        validator = jsonschema_rs.Draft202012Validator({**schema, "components": document["components"]})
        assert [error.message for error in validator.iter_errors(received.body)] == []
        assert {each["name"] for each in described["parameters"]} <= set(received.headers)
        assert webhooks.verify(secret, received.headers, received.octets) == received.body


async def test_tokens_are_sent_as_authorization(channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.loopback(mo_url_auth_token="mo-token")
    await channel.send("+27", event_url=sink.url("/event"), event_auth_token="event-token")
    (message,) = await sink.wait("/mo")
    assert message.headers["Authorization"] == "Token mo-token"
    event = (await sink.wait("/event"))[0]
    assert event.headers["Authorization"] == "Token event-token"


async def test_the_trace_of_a_request_goes_with_each_event_of_its_messages(channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.loopback()
    trace = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "rojo=00f067aa0ba902b7"}
    one = {"to": "+27", "content": "x", "event_url": sink.url("/event")}
    sink.reply("/event", 503, 503)
    ways: list[tuple[str, Any, dict[str, str]]] = [
        ("messages/", one, {}), ("messages/", one, {"Idempotency-Key": unique("key")}), ("messages/bulk", [one, one], {}),
    ]  # fmt: skip
    for path, body, more in ways:
        answer = await channel.api.post(f"{channel.path}/{path}", body, headers={**trace, **more})
        assert answer.status == 201, answer
    told = await sink.wait("/event", 10)  # two of each message, and those that were answered 503
    assert {(each.headers.get("traceparent"), each.headers.get("tracestate")) for each in told} == {tuple(trace.values())}
    assert {each.body["event_type"] for each in told} == {"submitted", "delivery_succeeded"}
    assert not any("traceparent" in each.headers for each in await sink.wait("/mo", 4))  # nobody gave them one

    await channel.api.post(f"{channel.path}/messages/", {**one, "event_url": sink.url("/none")})
    malformed = {"traceparent": "00-nonsense-01", "tracestate": "a=1"}
    await channel.api.post(f"{channel.path}/messages/", {**one, "event_url": sink.url("/none")}, headers=malformed)
    assert not any({"traceparent", "tracestate"} & {*each.headers} for each in await sink.wait("/none", 4))


async def test_userinfo_becomes_basic_auth_and_leaves_the_url(channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.loopback(
        mo_url=sink.url("/mo", "user:pa%40ss"), status_url=sink.url("/status", "s:t")
    )
    await channel.send("+27", event_url=sink.url("/event", "me:secret"))
    for path, user, password in (("/mo", "user", "pa@ss"), ("/event", "me", "secret"), ("/status", "s", "t")):
        received = (await sink.wait(path))[0]
        assert received.headers["Authorization"] == basic_authorization(user, password)
        assert received.headers["Host"] == f"127.0.0.1:{sink.port}"


async def test_a_url_keeps_its_query(channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.loopback(mo_url=sink.url("/mo?a=1&b=x%20y"))
    await channel.send("+27")
    (received,) = await sink.wait("/mo")
    assert received.query in ("a=1&b=x%20y", "a=1&b=x+y")  # both mean the same


# --- order, ids -------------------------------------------------------------------------------------------------------


async def test_messages_of_one_address_arrive_in_order(channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.telnet()
    sink.reply("/mo", *(Reply(delay=0.05 if n % 7 == 0 else 0) for n in range(50)))
    async with await channel.connect() as client:
        await client.write(b"".join(b"%d\r\n" % n for n in range(50)))
        await sink.wait("/mo", 51)
    assert [body["content"] for body in sink.bodies("/mo")[:51]] == [None, *map(str, range(50))]


async def test_a_repeated_callback_carries_the_same_body(channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.loopback()
    sink.reply("/mo", 500)
    sink.reply("/event", 503, 502)
    await channel.send("+27", event_url=sink.url("/event"))
    first, second = (received.body for received in await sink.wait("/mo", 2))
    assert first == second
    events = [received.body for received in await sink.wait("/event", 4)]
    for event_type in ("submitted", "delivery_succeeded"):
        repeats = [event for event in events if event["event_type"] == event_type]
        assert all(event == repeats[0] for event in repeats)


async def test_what_was_taken_is_not_sent_again(channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.loopback()
    for n in range(30):
        await channel.send("+27", str(n), event_url=sink.url("/event"))
    await sink.wait("/mo", 30)
    await sink.wait("/event", 60)
    await channel.restart()
    await channel.send("+27", "last", event_url=sink.url("/event"))
    await sink.wait_content("/mo", "last")
    await sink.wait("/event", 62)
    assert (len(sink.requests("/mo")), len(sink.requests("/event"))) == (31, 62)


# --- events and the 201 -----------------------------------------------------------------------------------------------


async def test_events_are_held_until_the_201_is_there(channels: Channels, sink: WebhookSink) -> None:
    """Clients answer 400 to an event of a message that they have not saved yet (which is then tried again)."""
    channel = await channels.loopback()
    answered_at: dict[str, float] = {}
    async with channel.api.kept_alive() as api:

        async def send(n: int) -> None:
            body = {"to": "+27", "content": str(n), "event_url": sink.url("/event")}
            answer = await api.post(f"{channel.path}/messages/", body)
            answered_at[answer.result["message_id"]] = time.monotonic()

        await gather_limited(5, (send(n) for n in range(100)))
    received = await sink.wait("/event", 200)
    # both clocks are this process's; its own loop may take the event's request before it takes the 201's bytes
    early = [each for each in received if each.at < answered_at[each.body["message_id"]] - 0.05]
    assert len(early) <= 10  # on a machine under load an answer may take longer than any event is held


async def test_a_400_on_an_event_is_retried(channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.loopback({"delivery_reports": False})
    sink.reply("/event", 400, 400)
    sent = await channel.send("+27", event_url=sink.url("/event"))
    received = await sink.wait("/event", 3)
    assert {each.body["message_id"] for each in received} == {sent["message_id"]}


# --- failures ---------------------------------------------------------------------------------------------------------

FAILURES = {
    "500": Reply(500),
    "503": Reply(503),
    "408": Reply(408),
    "429": Reply(429, headers={"Retry-After": "1"}),
    "404": Reply(404),
    "cut": Reply(cut=True),
    "hang": Reply(hang=True),
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES.keys())
async def test_a_callback_that_fails_is_tried_again(channels: Channels, sink: WebhookSink, failure: Reply) -> None:
    channel = await channels.loopback()
    sink.reply("/mo", failure)
    sent = await channel.send("+27", "once more")
    received = await sink.wait("/mo", 2)
    assert [each.body["content"] for each in received] == ["once more"] * 2
    assert len({each.body["message_id"] for each in received}) == 1
    await channel.event(sent["message_id"], "submitted")


@pytest.mark.parametrize(
    "answer",
    [
        Reply(204), Reply(200, headers={"Content-Encoding": "gzip"}, body=b"none"),
        Reply(200, headers={"X-Long": "y" * 8180, **{f"X-{n}": "y" for n in range(200)}}),
        Reply(200, headers={"Content-Encoding": "gzip"}, body=gzip.compress(bytes(10_000_000), 1)),
    ],
    ids=["204", "gzip that is none", "200 headers and more than 8 KB", "a bomb"],
)  # fmt: skip
async def test_a_callback_that_was_taken_is_not_made_again(channels: Channels, sink: WebhookSink, answer: Reply) -> None:
    channel = await channels.loopback()
    sink.reply("/mo", answer)
    await channel.send("+27", "once")
    await sink.wait_content("/mo", "once")
    await channel.send("+27", "after it")
    await sink.wait_content("/mo", "after it")
    await asyncio.sleep(1.5)  # a failed one would have come again
    assert [body["content"] for body in sink.bodies("/mo")] == ["once", "after it"]


async def test_retry_after_is_honoured(channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.loopback()
    sink.reply("/mo", Reply(429, headers={"Retry-After": "3"}))
    await channel.send("+27")
    first, second = await sink.wait("/mo", 2)
    assert second.at - first.at >= 2.9


async def test_a_url_that_nobody_listens_on_loses_nothing(channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.loopback()
    await sink.close()
    sent = {(await channel.send("+27", str(n)))["content"] for n in range(20)}
    await eventually(lambda: _is_degraded(channel), what="component callbacks degraded")
    await sink.start()
    await sink.wait("/mo", 20, timeout=DEADLINE + 10)
    assert {body["content"] for body in sink.bodies("/mo")} == sent


async def test_of_two_channels_with_one_dead_application_one_probes(channels: Channels, sink: WebhookSink) -> None:
    sink.always["/mo"] = Reply(503)
    first, second = [await channels.loopback() for _ in range(2)]
    await first.send("+27")
    await sink.wait("/mo", 2)  # what came, and a probe
    await second.send("+27")
    of_both = await sink.wait("/mo", 4)  # the other one's, once, and the first one's next probe, seconds later
    assert Counter(each.body["channel_id"] for each in of_both) == {first.id: 3, second.id: 1}


async def _is_degraded(channel: Any) -> bool:
    return (await channel.component("callbacks")).get("status") == "degraded"


async def test_a_failing_url_shows_in_the_status_until_it_works_again(channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.loopback()
    sink.always["/mo"] = Reply(500)
    await channel.send("+27")
    await eventually(lambda: _is_degraded(channel))
    status = await channel.status()
    assert status["status"] == "degraded"
    assert "500" in str(status["components"]["callbacks"])
    del sink.always["/mo"]

    async def is_ok() -> bool:
        return (await channel.status())["status"] == "ok"

    await eventually(is_ok)


async def test_a_failing_message_does_not_hold_up_the_others(channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.telnet()
    sink.reply_to_content("bad", 500, 500)
    async with await channel.connect() as client:
        await client.write(b"bad\r\n" + b"".join(b"%d\r\n" % n for n in range(20)))
        await sink.wait("/mo", 1 + 1 + 20 + 2)
    contents = [body["content"] for body in sink.bodies("/mo")][1:24]
    assert contents.count("bad") == 3
    assert [content for content in contents if content != "bad"] == [str(n) for n in range(20)]


async def test_a_hanging_event_url_does_not_hold_up_messages(channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.loopback()
    async with WebhookSink() as dead:
        dead.always["/event"] = Reply(hang=True)
        for n in range(30):
            await channel.send("+27", str(n), event_url=dead.url("/event"))
        await sink.wait("/mo", 30)
        assert [body["content"] for body in sink.bodies("/mo")] == [str(n) for n in range(30)]
        await dead.wait("/event")


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_posted_again_with_its_body(channels: Channels, sink: WebhookSink, status: int) -> None:
    channel = await channels.loopback(mo_url=sink.url("/old"), mo_url_auth_token="t")
    sink.reply("/old", Reply(status, headers={"Location": "/mo"}))
    await channel.send("+27", "moved")
    (received,) = await sink.wait("/mo")
    assert received.method == "POST"
    assert received.body == sink.bodies("/old")[0]
    assert received.headers["Authorization"] == "Token t"
    assert len(sink.requests("/old")) == 1


async def test_a_redirect_elsewhere_does_not_take_the_credentials_along(
    channels: Channels, sink: WebhookSink
) -> None:
    async with WebhookSink() as elsewhere:
        channel = await channels.loopback(mo_url=sink.url("/old", "user:secret"))
        sink.reply("/old", Reply(307, headers={"Location": elsewhere.url("/mo")}))
        await channel.send("+27")
        (received,) = await elsewhere.wait("/mo")
        assert "Authorization" not in received.headers


async def test_redirects_without_end_are_given_up_and_tried_later(channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.loopback(mo_url=sink.url("/loop"))
    sink.reply("/loop", *[Reply(302, headers={"Location": "/loop"})] * 4)
    await channel.send("+27", "round and round")
    received = await sink.wait("/loop", 5)
    assert {each.body["content"] for each in received} == {"round and round"}


async def test_an_answer_of_any_size_is_taken(channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.loopback()
    sink.reply("/mo", Reply(200, body=b"x" * 10_000_000))
    await channel.send("+27", "big answer")
    await channel.send("+27", "next")
    await sink.wait_content("/mo", "next")
    assert [body["content"] for body in sink.bodies("/mo")] == ["big answer", "next"]


async def test_rejected_is_told_once_and_only_when_it_is_final(channels: Channels, sink: WebhookSink) -> None:
    """Clients send again on `rejected`."""
    channel = await channels.telnet()
    for n in range(5):
        await channel.send(unique("nobody"), str(n), event_url=sink.url("/event"))
    await sink.wait("/event", 5)
    async with await channel.connect() as client:
        await channel.send(client.address, "somebody", event_url=sink.url("/event"))
        await sink.wait_for("/event", lambda body: body["event_type"] == "submitted")
    types = [body["event_type"] for body in sink.bodies("/event")]
    assert types == ["rejected"] * 5 + ["submitted"]


async def test_a_dead_url_of_one_channel_does_not_slow_another(channels: Channels, sink: WebhookSink) -> None:
    async with WebhookSink() as dead:
        dead.always["/mo"] = Reply(hang=True)
        bad, good = await channels.loopback(mo_url=dead.url("/mo")), await channels.loopback()
        await asyncio.gather(*(bad.send("+27", str(n)) for n in range(60)))
        await dead.wait("/mo")
        for n in range(20):
            await good.send("+27", str(n))
        await sink.wait("/mo", 20)
        assert [body["content"] for body in sink.bodies("/mo")] == [str(n) for n in range(20)]


# --- live -------------------------------------------------------------------------------------------------------------


async def test_the_client_streams_what_happens_and_goes_on_after_what_it_had(channels: Channels) -> None:
    channel = await channels.loopback()
    async with AsyncClient(channel.api.url) as client, asyncio.timeout(DEADLINE):
        events = client.stream_events([channel.id], ["event"])
        sending = asyncio.create_task(send_without_end(channel))
        first = await anext(events)
        sending.cancel()
        assert (first.kind, first.data["channel_id"], first.data["event_type"]) == ("event", channel.id, "submitted")
        await events.aclose()
        message = await channel.send("+27")
        async for event in client.stream_events([channel.id], ["event"], last_event_id=first.id):
            if event.data["message_id"] == message["message_id"]:
                break


async def send_without_end(channel: Channel) -> None:
    """A stream tells what comes once it stands, which its first event shows."""
    while True:
        await channel.send("+27")
        await asyncio.sleep(LOG_DELAY)
