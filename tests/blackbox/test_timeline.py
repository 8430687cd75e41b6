"""The life of a message, as its timeline tells it: each way to fail is explained by that alone (docs/timeline.md)."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.blackbox.conftest import Channels
from tests.blackbox.smsc import INVALID_DESTINATION, INVALID_PASSWORD, THROTTLED, WireSmsc
from tests.blackbox.test_queue_control import paused, resume
from tests.blackbox.test_routers import Router
from tests.blackbox.test_smpp import FROM, PASSWORD, TO, smpp, until_status
from tests.blackbox.test_validity import passed
from tests.harness import QUEUE_TYPE, ROOT, Channel, Reply, WebhookSink, is_timestamp, own_queue, unique
from tests.polling import eventually

FLAGS = {
    "channels": "deadly:tests.blackbox.channel_types.DeadlyTransport",
    "callback-retry-delays": "0.3,0.5",
    "callback-max-age": 2,
    "outbound-message-ttl": 600,
}
ENVIRONMENT = {"PYTHONPATH": str(ROOT)}


DOCUMENTED = dict(re.findall(r"^### (.+)\n\n> (.+)$", (ROOT / "docs" / "timeline.md").read_text(), re.MULTILINE))
_VARIES = {r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC": "TIME", r"127\.0\.0\.1:\d+": "HOST", r"id-\d+-m": "ID"}


def as_documented(summary: str) -> str:
    """Without what is another at each run."""
    for expression, word in _VARIES.items():
        summary = re.sub(expression, word, summary)
    return summary


def is_documented(told: dict[str, Any], heading: str) -> None:
    assert as_documented(told["summary"]) == as_documented(DOCUMENTED[heading])


def test_each_example_of_the_docs_is_made_to_happen() -> None:
    source = Path(__file__).read_text()
    assert len(DOCUMENTED) >= 13
    assert [heading for heading in DOCUMENTED if f'is_documented(told, "{heading}")' not in source] == []


@pytest.fixture
async def smsc() -> Any:
    async with WireSmsc() as server:
        yield server


async def timeline(channel: Channel, message_id: str) -> dict[str, Any]:
    answer = await channel.api.get(f"{channel.path}/messages/{message_id}/timeline")
    assert (answer.status, answer.description) == (200, "message timeline"), answer
    told = dict(answer.result)
    assert (told["message_id"], told["channel_id"]) == (message_id, channel.id)
    assert told["summary"].endswith(".")
    stamps = [step["timestamp"] for step in told["steps"]]
    assert all(map(is_timestamp, stamps))
    assert stamps == sorted(stamps)
    return told


async def until(channel: Channel, message_id: str, *words: str, status: str | None = None) -> dict[str, Any]:
    """Its timeline, once it has this status and the summary says all of these."""
    seen: dict[str, Any] = {}

    async def told() -> dict[str, Any] | None:
        seen["last"] = await timeline(channel, message_id)
        assert status in (None, seen["last"]["status"])
        missing = [word for word in words if word not in seen["last"]["summary"]]
        assert not missing, missing
        return seen["last"]

    try:
        return dict(await eventually(told, 20, "the timeline"))
    except AssertionError as error:
        raise AssertionError(f"{error}: {json.dumps(seen, indent=1)}") from error


def kinds(told: dict[str, Any]) -> list[str]:
    return [step["kind"] for step in told["steps"]]


def step(told: dict[str, Any], kind: str) -> dict[str, Any]:
    """The first one of this kind."""
    return next(each for each in told["steps"] if each["kind"] == kind)


# --- each way to fail -----------------------------------------------------------------------------------------------------


async def test_rejected_by_the_provider(channels: Channels, smsc: WireSmsc, sink: WebhookSink) -> None:
    smsc.refuse_first(1, INVALID_DESTINATION)
    channel = await smpp(channels, smsc.port)
    sent = await channel.send(TO, "hello", event_url=sink.url("/event", "me:secret-in-url"))
    told = await until(channel, sent["message_id"], "refused", "ESME_RINVDSTADR", "submit_sm", "HTTP 200", status="rejected")
    is_documented(told, "Refused by the provider")
    assert kinds(told) == [
        "accepted", "queued", "sent_to_provider", "provider_answered", "rejected", "event", "callback"
    ]  # fmt: skip
    assert step(told, "accepted")["details"] == {"by": "local", "address": "127.0.0.1", "to": TO}
    assert step(told, "queued")["details"] == {"queue": own_queue(f"{channel.id}.outbound")}
    pdu = step(told, "sent_to_provider")["details"]
    assert (pdu["pdu"], pdu["destination_addr"], pdu["content"]) == ("submit_sm", TO, "hello")
    assert step(told, "provider_answered")["details"]["command_status"] == "ESME_RINVDSTADR"
    callback = step(told, "callback")["details"]
    assert (callback["to"], callback["event_type"], callback["http_status"]) == ("event_url", "rejected", 200)
    assert callback["url"] == sink.url("/event", "********")
    assert callback["ms"] > 0
    assert "secret-in-url" not in json.dumps(told)
    assert (told["waiting"], told["logs"], told["dead_letters"]) == (None, "complete", "complete")


async def test_not_delivered_says_the_receipt(channels: Channels, smsc: WireSmsc, sink: WebhookSink) -> None:
    channel = await smpp(channels, smsc.port)
    sent = await channel.send(TO, "hello", **{"from": FROM}, event_url=sink.url("/event"))
    (submit,) = await smsc.submitted()
    await until(channel, sent["message_id"], "took it", submit.message_id, status="submitted")
    assert await smsc.receipt(submit, "UNDELIV") == 0
    told = await until(channel, sent["message_id"], "not delivered", "UNDELIV", "HTTP 200", status="delivery_failed")
    is_documented(told, "Not delivered")
    assert "stat:UNDELIV" in step(told, "receipt")["details"]["content"]
    assert kinds(told).count("event") == 2
    assert step(told, "provider_answered")["details"]["smsc_message_id"] == submit.message_id


async def test_expired_before_it_was_sent(channels: Channels) -> None:
    channel = await paused(await channels.loopback())
    sent = await channel.send("+27", "late", validity=0.3)
    await passed(sent["expires_at"])
    told = await until(channel, sent["message_id"], "paused", "its time was over", status="queued")
    assert told["waiting"]["for"] == "paused"
    await resume(channel)
    told = await until(channel, sent["message_id"], "ts time was over", "not sent", "nobody is told", status="expired")
    is_documented(told, "Expired")
    assert step(told, "expired")["details"]["expires_at"] == sent["expires_at"]


async def test_cancelled_by_the_operator(channels: Channels, sink: WebhookSink) -> None:
    channel = await paused(await channels.loopback())
    sent = await channel.send("+27", "no", event_url=sink.url("/event"))
    assert (await channel.api.delete(f"{channel.path}/messages/{sent['message_id']}")).status == 200
    if QUEUE_TYPE == "classic":  # of a quorum queue the process has it in hand, and ends it at once
        await until(channel, sent["message_id"], "cancelled", "will not be sent", "paused", status="queued")
    await resume(channel)
    told = await until(channel, sent["message_id"], "cancelled by local", "never left", "HTTP 200", status="cancelled")
    is_documented(told, "Cancelled")
    assert step(told, "cancelled")["details"]["address"] == "127.0.0.1"


async def test_a_bind_that_is_refused(channels: Channels, smsc: WireSmsc) -> None:
    smsc.bind_status = INVALID_PASSWORD
    channel = await smpp(channels, smsc.port, bound=False)
    sent = await channel.send(TO, "hello")
    await until_status(channel, "bind_refused")
    told = await until(channel, sent["message_id"], "link to the provider is down", "bind_refused", status="queued")
    assert told["waiting"]["for"] == "bind down"
    is_documented(told, "The provider refuses the bind")
    assert is_timestamp(told["waiting"]["since"])
    assert PASSWORD not in json.dumps(told)
    smsc.bind_status = 0
    await until(channel, sent["message_id"], "took it", status="submitted")


async def test_a_callback_url_that_is_dead(channels: Channels, smsc: WireSmsc, sink: WebhookSink) -> None:
    sink.always["/event"] = Reply(404)
    channel = await smpp(channels, smsc.port)
    sent = await channel.send(TO, "hello", event_url=sink.url("/event"))
    told = await until(channel, sent["message_id"], "does not know", "404", status="submitted")
    assert told["waiting"]["for"].startswith("callback")
    told = await until(channel, sent["message_id"], "given up", "404", "with the dead letters", status="submitted")
    is_documented(told, "The application refuses its events")
    assert kinds(told).count("callback") == 5
    assert step(told, "callback")["details"]["http_status"] == 404
    assert {"callback_waits", "dead"} <= set(kinds(told))
    sink.always["/event"] = Reply(200)
    letter = step(told, "dead")["details"]["letter_id"]
    answer = await channel.api.post(f"{channel.path}/dead-letters/replay", {"ids": [letter]})
    assert answer.result["replayed"] == 1
    told = await until(channel, sent["message_id"], "was told", "HTTP 200", status="submitted")
    assert step(told, "replayed")["details"]["by"] == "local"
    assert kinds(told)[-2:] == ["replayed", "callback"]


async def test_a_host_that_is_away(channels: Channels, smsc: WireSmsc) -> None:
    async with WebhookSink() as away:
        channel = await smpp(channels, smsc.port)
        await away.close()
        sent = await channel.send(TO, "hello", event_url=away.url("/event"))
        told = await until(channel, sent["message_id"], "does not know", "only probed", away.url(""), status="submitted")
        assert told["waiting"]["for"] == "circuit open"
        assert is_timestamp(told["waiting"]["until"])
        told["summary"] = re.sub(r"after \d+ failed attempts?", "after 1 failed attempt", told["summary"])  # it is probed
        is_documented(told, "The application is away")
        await away.start()
        await until(channel, sent["message_id"], "was told", "HTTP 200")


async def test_a_message_that_kills_its_process(channels: Channels, sink: WebhookSink) -> None:
    channel = await (await channels.create("deadly", {})).running()
    sent = await channel.send("+27", "kill", event_url=sink.url("/event"))
    told = await until(channel, sent["message_id"], "not sent", "died of it twice", "dead letters", status="dead")
    is_documented(told, "It kills the channel's process")
    assert step(told, "dead")["details"]["queue"] == own_queue(f"{channel.id}.outbound")


async def test_a_paused_queue(channels: Channels) -> None:
    channel = await paused(await channels.loopback())
    sent = await channel.send("+27", "hello", priority=3)
    told = await until(channel, sent["message_id"], "waits", "the channel is paused", "since", status="queued")
    assert told["waiting"]["for"] == "paused"
    assert step(told, "queued")["details"]["queue"] == own_queue(f"{channel.id}.outbound") + ".3"
    is_documented(told, "The channel is paused")


async def test_no_answer_to_a_submit_sm(channels: Channels, smsc: WireSmsc, sink: WebhookSink) -> None:
    smsc.on_submit = lambda submit: None
    channel = await smpp(channels, smsc.port, on_unknown="fail", response_timeout=2)
    sent = await channel.send(TO, "hello", event_url=sink.url("/event"))
    told = await until(channel, sent["message_id"], "not answered", status="sending")
    assert told["waiting"]["for"] == "answer"
    told = await until(channel, sent["message_id"], "never answered", "HTTP 200", status="rejected")
    assert "no_answer" in kinds(told)
    is_documented(told, "The provider does not answer")


async def test_throttled_by_the_provider(channels: Channels, smsc: WireSmsc) -> None:
    smsc.on_submit = lambda submit: submit.answer(THROTTLED)
    channel = await smpp(channels, smsc.port, throttle_delay=0.2)
    sent = await channel.send(TO, "hello")
    told = await until(channel, sent["message_id"], "ESME_RTHROTTLED", "more slowly", status="queued")
    assert told["waiting"]["for"] == "throttled"
    is_documented(told, "The provider says that too much is sent")
    smsc.on_submit = smsc.accept
    told = await until(channel, sent["message_id"], "took it", status="submitted")
    assert kinds(told).count("sent_to_provider") >= 2


async def test_a_rate_limit(channels: Channels) -> None:
    channel = await channels.loopback(rate_limit_count=1, rate_limit_window=60)
    sent = [await channel.send("+27", str(n)) for n in range(3)]
    told = await until(channel, sent[-1]["message_id"], "rate limit lets 1 in 60 s", status="queued")
    assert told["waiting"]["until"] > told["waiting"]["since"]
    is_documented(told, "The channel's rate limit")


async def test_a_reply_to_nobody_is_refused_and_a_late_one_told(channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.loopback()
    answer = await channel.api.post(f"{channel.path}/messages/", {"reply_to": "unknown", "content": "x"})
    assert (answer.status, answer.error_types) == (400, {"MessageNotFound"})
    answer = await channel.api.get(f"{channel.path}/messages/unknown/timeline")
    assert (answer.status, answer.error_types, answer.description) == (404, {"MessageNotFound"}, "message not found")


# --- inbound --------------------------------------------------------------------------------------------------------------


async def test_an_inbound_message(channels: Channels, smsc: WireSmsc, sink: WebhookSink) -> None:
    channel = await smpp(channels, smsc.port)
    assert await smsc.deliver(TO, FROM, b"hi") == 0
    message_id = (await sink.wait_content("/mo", "hi"))["message_id"]
    told = await until(channel, message_id, "It came at", "HTTP 200", status="forwarded")
    assert told["direction"] == "inbound"
    assert set(kinds(told)) == {"received", "told_provider", "stored", "callback"}
    assert step(told, "callback")["details"]["url"] == sink.url("/mo")


async def test_an_inbound_message_that_nobody_takes(channels: Channels, sink: WebhookSink) -> None:
    path = f"/{unique('mo')}"
    sink.always[path] = Reply(404)
    channel = await channels.loopback(mo_url=sink.url(path))
    await channel.send("+27", "hi")
    message_id = (await sink.wait(path))[0].body["message_id"]
    await until(channel, message_id, "does not know", "404", status="waiting")
    told = await until(channel, message_id, "given up", "404", "dead letters", status="dead")
    is_documented(told, "An inbound message that the application refuses")


async def test_a_routed_message_whose_application_is_away(channels: Channels) -> None:
    async with WebhookSink() as away:
        channel = await channels.loopback(mo_url=None)
        made = await channel.api.post("/routers/", {"type": "from_address", "config": {"channel": channel.id}})
        router = Router(channel.api, made.result["id"])
        path = await router.add({"regular_expression": "^12", "default": True}, mo_url=away.url("/mo"))
        await away.close()
        await eventually(router.is_running)
        answer = await channel.api.post(f"{path}/messages/", {"to": "+27", "from": "123", "content": "hi"})
        message_id = answer.result["message_id"]
        told = await until(channel, message_id, "delivered", status="delivery_succeeded")
        assert step(told, "accepted")["details"]["router_id"] == router.id
        found = await eventually(lambda: inbound_of(channel))
        for where in (channel.path, router.path, path):
            answer = await channel.api.get(f"{where}/messages/{found}/timeline")
            assert (answer.status, answer.result["status"]) == (200, "waiting"), answer
            assert away.url("") in answer.result["summary"]
            assert any(each["details"].get("destination_id") for each in answer.result["steps"])
        await channel.api.delete(router.path)


async def inbound_of(channel: Channel) -> str | None:
    """The id of the last message that came in, once its callback was tried."""
    answer = await channel.api.get("/messages", params={"channel_id": channel.id, "direction": "inbound"})
    return next((each["message_id"] for each in answer.result["messages"] if each["status"] == "waiting"), None)


# --- hostile ----------------------------------------------------------------------------------------------------------------


async def test_a_message_of_another_channel_is_unknown(channels: Channels) -> None:
    one, other = await channels.loopback(), await channels.loopback()
    sent = await one.send("+27", "mine")
    assert (await other.api.get(f"{other.path}/messages/{sent['message_id']}/timeline")).status == 404
    assert await asyncio.gather(timeline(one, sent["message_id"]))
