"""Events, nested statuses, status_url, rates and the length of the queue (spec 1.7.1 - 1.7.3)."""

from __future__ import annotations

import time

from tests.blackbox.conftest import Channels
from tests.harness import ROOT, AppQueues, WebhookSink
from tests.polling import eventually

FLAGS = {"channels": "reporting:tests.blackbox.channel_types.ReportingTransport"}
ENVIRONMENT = {"PYTHONPATH": str(ROOT)}

COMPONENT = {"channel_id", "component", "status", "type", "message", "details"}


async def test_the_components_of_a_healthy_channel(channels: Channels) -> None:
    channel = await channels.telnet()

    async def is_complete() -> bool:
        return set((await channel.status())["components"]) >= {"telnet", "worker", "amqp", "redis"}

    await eventually(is_complete)
    status = await channel.status()
    assert set(status["components"]) == {"telnet", "worker", "amqp", "redis"}
    for name, component in status["components"].items():
        assert set(component) == COMPONENT
        assert (component["component"], component["channel_id"], component["status"]) == (name, channel.id, "ok")
    assert status["status"] == "ok"


async def test_each_component_is_posted_to_the_status_url_once(channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.telnet(status_url=sink.url("/status"))
    await sink.wait("/status", 4)
    async with await channel.connect() as client:
        for n in range(10):
            await client.say(str(n))
        await sink.wait("/mo", 11)
    posted = [(body["component"], body["status"]) for body in sink.bodies("/status")]
    assert sorted(posted) == [("amqp", "ok"), ("redis", "ok"), ("telnet", "ok"), ("worker", "ok")]


async def test_what_is_posted_is_what_the_api_shows(channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.telnet(status_url=sink.url("/status"))
    await sink.wait("/status", 4)
    posted = {body["component"]: body for body in sink.bodies("/status")}

    async def is_shown() -> bool:
        return (await channel.status())["components"] == posted

    await eventually(is_shown)


async def test_the_status_is_the_worst_of_the_components(channels: Channels, sink: WebhookSink) -> None:
    first = await channels.telnet()
    second = await channels.create(
        "telnet", {"twisted_endpoint": f"tcp:{first.port}:interface=127.0.0.1"}, status_url=sink.url("/status")
    )
    down = await sink.wait_for("/status", lambda body: body["component"] == "telnet")
    assert (down["channel_id"], down["status"]) == (second.id, "down")

    async def is_down() -> bool:
        return (await second.status())["status"] == "down"

    await eventually(is_down)
    await first.delete()  # the port is free: it comes up by itself

    async def is_ok() -> bool:
        return (await second.status())["status"] == "ok"

    await eventually(is_ok, timeout=90)


async def test_a_failing_status_url_is_tried_again(channels: Channels, sink: WebhookSink) -> None:
    sink.reply("/status", 500)
    await channels.loopback(status_url=sink.url("/status"))
    first = (await sink.wait("/status"))[0].body
    await eventually(lambda: sink.bodies("/status").count(first) == 2)
    told = {body["component"] for body in sink.bodies("/status")}
    assert told == {"loopback", "worker", "amqp", "redis", "callbacks"}


async def test_each_delivery_report_is_an_event_of_its_own_type(
    channels: Channels, sink: WebhookSink, app: AppQueues
) -> None:
    await app.declare("inbound", "event")
    channel = await (await channels.create("reporting", {}, amqp_queue=app.name)).running()
    sent = await channel.send("+27", "pending failed delivered", event_url=sink.url("/event"))
    await sink.wait("/event", 4)
    by_type = {body["event_type"]: body for body in sink.bodies("/event")}
    assert list(by_type) == ["submitted", "delivery_pending", "delivery_failed", "delivery_succeeded"]
    assert by_type["delivery_failed"]["event_details"]["error_code"] == 17
    by_amqp = [await app.next("event") for _ in range(4)]
    assert {event["user_message_id"] for event in by_amqp} == {sent["message_id"]}
    assert {event["event_type"]: event.get("sent_message_id") for event in by_amqp} == {
        "ack": f"provider-{sent['message_id']}", "delivery_report": None
    }  # fmt: skip
    assert [event.get("delivery_status") for event in by_amqp] == [None, "pending", "failed", "delivered"]
    assert len({event["event_id"] for event in by_amqp}) == 4

    async def is_counted() -> bool:
        status = await channel.status()
        return status["delivery_failed_rate"] == status["delivery_pending_rate"] == 1.0

    await eventually(is_counted)


async def test_last_event_is_the_newest_one(channels: Channels) -> None:
    channel = await channels.telnet()
    sent = await channel.send("nobody")
    rejected = await channel.event(sent["message_id"], "rejected")
    status = await channel.message(sent["message_id"])
    assert status["last_event_type"] == "rejected"
    assert status["last_event_timestamp"] == rejected["timestamp"]
    assert status["events"] == [rejected]


async def test_the_rates_add_up_to_what_was_sent(channels: Channels, sink: WebhookSink) -> None:
    """Each whole window's count shows for the length of the next window (here: one second each)."""
    channel = await channels.loopback()
    counted = ("inbound_message_rate", "outbound_message_rate", "submitted_event_rate", "delivery_succeeded_rate")
    seen: dict[str, dict[int, float]] = {}

    def total(name: str) -> float:
        return sum(seen.get(name, {}).values())

    async def look() -> dict[str, float]:
        before = int(time.time())
        rates = {name: rate for name, rate in (await channel.status()).items() if name.endswith("_rate")}
        if before == int(time.time()):
            for name, rate in rates.items():
                seen.setdefault(name, {})[before] = rate
        return rates

    async def everything_is_counted() -> bool:
        await look()
        return all(total(name) >= 25 for name in counted)

    async def is_quiet() -> bool:
        return not any((await look()).values())

    for n in range(25):
        await channel.send("+27", str(n))
    await eventually(everything_is_counted)
    await eventually(is_quiet)
    others = {name: total(name) for name in seen if name not in counted}
    assert {name: total(name) for name in counted} == dict.fromkeys(counted, 25.0)
    assert others == {"rejected_event_rate": 0, "delivery_failed_rate": 0, "delivery_pending_rate": 0}


async def test_a_rejection_counts_as_rejected(channels: Channels) -> None:
    channel = await channels.telnet()
    await channel.send("nobody")

    async def is_counted() -> bool:
        status = await channel.status()
        return status["rejected_event_rate"] == 1.0 and status["submitted_event_rate"] == 0

    await eventually(is_counted)


async def test_the_queue_length_counts_what_waits(channels: Channels, sink: WebhookSink) -> None:
    first = await channels.telnet()
    waiting = await channels.create("telnet", {"twisted_endpoint": f"tcp:{first.port}:interface=127.0.0.1"})
    for n in range(7):
        await waiting.send("+27", str(n))

    async def length() -> bool:
        return (await waiting.status())["queue_length"] == 7

    await eventually(length)
    await first.delete()

    async def is_empty() -> bool:
        return (await waiting.status())["queue_length"] == 0

    await eventually(is_empty, timeout=90)
