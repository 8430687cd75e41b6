"""A message is not sent after its time: it gets the event delivery_failed with the reason expired."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tests.blackbox.conftest import Channels
from tests.blackbox.smsc import WireSmsc
from tests.blackbox.test_queue_control import paused, resume
from tests.blackbox.test_smpp import smpp
from tests.harness import Api, AppQueues, Channel, WebhookSink, is_timestamp, vumi_message
from tests.polling import eventually
from tests.tables import rows

SHORT = 0.3
"""Seconds: over before what waits for longer than that is sent."""


async def passed(expires_at: str) -> None:
    def is_over() -> bool:
        return datetime.now(UTC).replace(tzinfo=None) > datetime.fromisoformat(expires_at)

    await eventually(is_over)


async def test_what_waited_too_long_is_not_sent_and_told_as_failed(channels: Channels, sink: WebhookSink) -> None:
    channel = await paused(await channels.loopback())
    late = [await channel.send("+27", f"late {n}", validity=SHORT, event_url=sink.url("/event")) for n in range(3)]
    ends = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    await channel.send("+27", "in time", expires_at=ends)
    await channel.send("+27", "whenever")
    await passed(late[-1]["expires_at"])
    await resume(channel)
    for each in late:
        event = await channel.event(each["message_id"], "delivery_failed")
        assert event["event_details"] == {"reason": "expired"}
        await sink.wait_for("/event", lambda body, id=each["message_id"]: body["message_id"] == id)
    await sink.wait("/mo", 2)
    assert [body["content"] for body in sink.bodies("/mo")] == ["in time", "whenever"]
    assert {body["event_type"] for body in sink.bodies("/event")} == {"delivery_failed"}


async def test_it_ends_while_a_provider_is_away(channels: Channels) -> None:
    async with WireSmsc() as smsc:
        await smsc.stop()
        channel = await (await smpp(channels, smsc.port, bound=False)).running()
        late = await channel.send("+27", "late", validity=SHORT)
        await passed(late["expires_at"])
        await channel.send("+27", "in time", validity=600)
        await smsc.start()
        (submit,) = await smsc.submitted()
        assert submit.text == "in time"
        event = await channel.event(late["message_id"], "delivery_failed")
        assert event["event_details"]["reason"] == "expired"


async def test_the_answer_says_when_it_ends(channels: Channels) -> None:
    channel = await channels.loopback()
    assert is_timestamp((await channel.send("+27", validity=60))["expires_at"])
    sent = await channel.send("+27", expires_at="2999-01-02T03:04:05+01:00")
    assert sent["expires_at"] == "2999-01-02 02:04:05.000000"
    assert "expires_at" not in await channel.send("+27")


@rows(
    "fields",
    [
        {"expires_at": "2015-06-15 13:00:00.000000"},
        {"expires_at": "soon"},
        {"validity": 0},
        {"validity": "60"},
        {"validity": 60, "expires_at": "2999-01-01 00:00:00"},
    ],
)
async def test_a_time_that_makes_no_sense_is_refused(loopback: Channel, api: Api, fields: dict[str, object]) -> None:
    answer = await api.post(f"{loopback.path}/messages/", {"to": "+27", "content": "x", **fields})
    assert (answer.status, answer.description) == (400, "api usage error")


async def test_an_application_on_rabbitmq_can_say_it_too(channels: Channels, app: AppQueues, sink: WebhookSink) -> None:
    await app.declare("inbound", "event")
    await channels.loopback({"delivery_reports": False}, amqp_queue=app.name)

    async def is_there() -> bool:
        return await app.count(f"{app.name}.outbound") is not None

    await eventually(is_there)
    message = vumi_message(to_addr="+27", content="late", expires_at="2016-03-18T11:49:36Z")
    await app.send(message)
    event = await app.next("event")
    assert (event["user_message_id"], event["event_type"]) == (message["message_id"], "delivery_report")
    assert (event["delivery_status"], event["transport_metadata"]) == ("failed", {"reason": "expired"})
    assert sink.bodies("/mo") == []
