"""Applications on RabbitMQ, as Vumi's are (COMPAT §3, spec 1.8)."""

from __future__ import annotations

import base64
import json
import uuid
from typing import Any

import pytest

from tests.blackbox.conftest import Channels
from tests.harness import (
    QUEUE_TYPE,
    AppQueues,
    WebhookSink,
    is_message_id,
    is_timestamp,
    own_queue,
    unique,
    vumi_message,
)
from tests.polling import eventually

USER_MESSAGE = {
    "message_id", "message_type", "message_version", "timestamp", "to_addr", "from_addr", "group", "in_reply_to",
    "provider", "session_event", "content", "transport_name", "transport_type", "transport_metadata",
    "helper_metadata", "routing_metadata", "to_addr_type", "from_addr_type",
}  # fmt: skip


async def test_an_mo_arrives_as_a_vumi_message_on_a_queue_without_arguments(
    channels: Channels, app: AppQueues
) -> None:
    await app.declare("inbound", "event", "outbound")  # before the channel: any argument of ours would be a 406
    channel = await channels.telnet({"to_addr": "*120*1#"}, amqp_queue=app.name, mo_url=None)
    async with await channel.connect() as client:
        await client.say("a")
        new, line = await app.next("inbound"), await app.next("inbound")
    assert set(new) == set(line) == USER_MESSAGE
    assert (new["session_event"], new["content"]) == ("new", None)
    assert is_message_id(line["message_id"])
    assert is_timestamp(line["timestamp"])
    assert {name: line[name] for name in USER_MESSAGE - {"message_id", "timestamp"}} == {
        "message_type": "user_message",
        "message_version": "20110921",
        "to_addr": "*120*1#",
        "from_addr": client.address,
        "group": None,
        "in_reply_to": None,
        "provider": None,
        "session_event": "resume",
        "content": "a",
        "transport_name": channel.id,
        "transport_type": "telnet",
        "transport_metadata": {},
        "helper_metadata": {"session_event": "resume"},
        "routing_metadata": {},
        "to_addr_type": None,
        "from_addr_type": None,
    }


async def test_the_app_may_declare_its_queues_after_the_channel(channels: Channels, app: AppQueues) -> None:
    await channels.loopback(amqp_queue=app.name)
    await app.declare("inbound", "event", "outbound")


async def test_messages_arrive_persistent(channels: Channels, app: AppQueues) -> None:
    await app.declare("inbound", "event")
    channel = await channels.loopback(amqp_queue=app.name, mo_url=None)
    await channel.send("+27")
    _, message = await app.next_raw(f"{app.name}.inbound")
    assert message.delivery_mode == 2
    assert (message.exchange, message.routing_key) == ("vumi", f"{app.name}.inbound")
    _, event = await app.next_raw(f"{app.name}.event")
    assert (event.exchange, event.routing_key, event.delivery_mode) == ("vumi", f"{app.name}.event", 2)


async def test_with_mo_url_and_amqp_queue_both_get_each_message(
    channels: Channels, app: AppQueues, sink: WebhookSink
) -> None:
    await app.declare("inbound", "event")
    channel = await channels.loopback(amqp_queue=app.name)
    await channel.send("+27", "to both")
    by_amqp = await app.next("inbound")
    (by_http,) = await sink.wait("/mo")
    assert by_amqp["content"] == by_http.body["content"] == "to both"
    assert by_amqp["message_id"] == by_http.body["message_id"]
    assert by_amqp["timestamp"] == by_http.body["timestamp"]


async def test_channel_data_travels_as_helper_metadata(channels: Channels, app: AppQueues) -> None:
    """loopback gives back what it was sent."""
    await app.declare("inbound", "event")
    channel = await channels.loopback(amqp_queue=app.name, mo_url=None)
    await channel.send("+27", "x", channel_data={"continue_session": True, "voice": {"a": [1]}})
    echo = await app.next("inbound")
    assert echo["helper_metadata"] == {"voice": {"a": [1]}}
    assert echo["session_event"] == "resume"


async def test_events_of_messages_sent_over_http_arrive_too(channels: Channels, app: AppQueues) -> None:
    await app.declare("inbound", "event")
    channel = await channels.loopback(amqp_queue=app.name, mo_url=None)
    sent = await channel.send("+27")
    events = {event["event_type"]: event for event in (await app.next("event"), await app.next("event"))}
    ack, report = events["ack"], events["delivery_report"]
    for event in (ack, report):
        assert event["user_message_id"] == sent["message_id"]
        assert event["message_type"] == "event"
        assert event["message_version"] == "20110921"
        assert event["event_id"]
        assert event["routing_metadata"] == {}
        assert is_timestamp(event["timestamp"])
    assert ack["sent_message_id"] == sent["message_id"]
    assert report["delivery_status"] == "delivered"


async def test_a_nack_tells_its_reason(channels: Channels, app: AppQueues) -> None:
    await app.declare("inbound", "event", "outbound")
    await channels.telnet(amqp_queue=app.name, mo_url=None)
    message = vumi_message(to_addr="nobody", transport_name=app.name)
    await app.send(message)
    event = await app.next("event")
    assert (event["event_type"], event["user_message_id"]) == ("nack", message["message_id"])
    assert event["nack_reason"] == "Unknown address."


async def test_outbound_is_taken_from_the_apps_queue(channels: Channels, app: AppQueues) -> None:
    await app.declare("inbound", "event")
    channel = await channels.telnet(amqp_queue=app.name, mo_url=None)
    async with await channel.connect() as client:
        for transport_name in (channel.id, app.name, None):  # foreign senders put the queue's name
            text = unique("text")
            message = vumi_message(to_addr=client.address, content=text, transport_name=transport_name)
            await app.send(message)
            assert await client.hear() == text
            ack = await app.next("event")
            assert (ack["event_type"], ack["user_message_id"]) == ("ack", message["message_id"])


async def test_outbound_that_waited_for_the_channel_is_sent(channels: Channels, app: AppQueues) -> None:
    await app.declare("inbound", "event", "outbound")
    waiting = [vumi_message(to_addr="+27", content=str(n)) for n in range(20)]
    for message in waiting:
        await app.send(message)
    await channels.loopback({"delivery_reports": False}, amqp_queue=app.name, mo_url=None)
    assert [(await app.next("inbound"))["content"] for _ in waiting] == [str(n) for n in range(20)]
    acked = [(await app.next("event"))["user_message_id"] for _ in waiting]
    assert acked == [message["message_id"] for message in waiting]


async def test_the_vumi_exchange_delivers_outbound_too(channels: Channels, app: AppQueues) -> None:
    """Vumi's own workers publish to the exchange with the routing key, not to the queue."""
    await app.declare("inbound", "event")
    channel = await channels.telnet(amqp_queue=app.name, mo_url=None)
    async with await channel.connect() as client:
        await app.send_to_exchange(vumi_message(to_addr=client.address, content="by exchange"), "outbound")
        assert await client.hear() == "by exchange"


@pytest.mark.parametrize(
    "timestamp",
    ["2016-03-18 11:49:36.830534Z", "2016-03-18 11:49:36", "2016-03-18T11:49:36.830534", "2016-03-18 11:49:36Z"],
)
async def test_foreign_spellings_of_timestamps_are_taken(
    channels: Channels, app: AppQueues, sink: WebhookSink, timestamp: str
) -> None:
    """An event of a message whose timestamp ends with Z, or has no microseconds."""
    await app.declare("inbound", "event")
    channel = await channels.loopback({"delivery_reports": False}, amqp_queue=app.name, mo_url=None)
    message = vumi_message(to_addr="+27", timestamp=timestamp)
    await app.send(message)
    assert (await app.next("event"))["user_message_id"] == message["message_id"]
    assert await app.count(own_queue(f"{channel.id}.dead")) == 0


async def test_optional_fields_may_be_missing(channels: Channels, app: AppQueues) -> None:
    await app.declare("inbound", "event")
    await channels.loopback(amqp_queue=app.name, mo_url=None)
    message_id = uuid.uuid4().hex
    await app.send({"message_id": message_id, "to_addr": "+27", "content": "2016-03-18 11:49:36.830534"})
    echo = await app.next("inbound")
    assert set(echo) == USER_MESSAGE
    assert echo["content"] == "2016-03-18 11:49:36.830534"
    assert (await app.next("event"))["user_message_id"] == message_id


async def test_a_reply_over_amqp_reaches_whom_the_message_came_from(channels: Channels, app: AppQueues) -> None:
    await app.declare("inbound", "event")
    channel = await channels.telnet(amqp_queue=app.name, mo_url=None)
    async with await channel.connect() as client:
        question = await app.next("inbound")
        await app.send(
            vumi_message(
                to_addr=question["from_addr"],
                from_addr=question["to_addr"],
                in_reply_to=question["message_id"],
                session_event="close",
                content="bye",
                helper_metadata={"from": "app"},
            )
        )
        assert await client.hear() == "bye"
        assert await client.ended()
    assert (await app.next("inbound"))["session_event"] == "close"


async def test_a_message_of_amqp_can_be_replied_to_over_http(channels: Channels, app: AppQueues) -> None:
    await app.declare("inbound", "event")
    channel = await channels.telnet(amqp_queue=app.name, mo_url=None)
    async with await channel.connect() as client:
        question = await app.next("inbound")
        await channel.send(content="over http", reply_to=question["message_id"])
        assert await client.hear() == "over http"


@pytest.mark.parametrize("body", [b"not JSON", b"[]", b'{"to_addr": 5}', b"\xff\xfe\x00", b""])
async def test_malformed_json_on_outbound_is_dead_lettered_and_the_channel_goes_on(
    channels: Channels, app: AppQueues, body: bytes
) -> None:
    await app.declare("inbound", "event")
    channel = await channels.loopback({"delivery_reports": False}, amqp_queue=app.name, mo_url=None)
    pid = await channel.pid()
    await app.send(body)
    good = vumi_message(to_addr="+27", content="good")
    await app.send(good)
    assert (await app.next("event"))["user_message_id"] == good["message_id"]

    async def buried() -> list[dict[str, Any]]:
        return list((await channel.api.get(f"{channel.path}/dead-letters/")).result["dead_letters"])

    (letter,) = await eventually(buried)
    assert (letter["reason"], letter["queue"]) == ("unreadable", f"{app.name}.outbound")
    assert letter["body"] == body.decode(errors="replace")
    if QUEUE_TYPE == "classic":  # nobody but its consumer may look into a quorum queue
        kept, _ = await app.next_raw(f"{channel.id}.dead")
        assert base64.b64decode(json.loads(kept)["body"]) == body
    assert await channel.pid() == pid
    assert any("dead" in entry["message"] for entry in await channel.logs())


async def test_what_no_queue_takes_is_kept_shown_and_delivered_when_the_queue_appears(
    channels: Channels, app: AppQueues, sink: WebhookSink
) -> None:
    channel = await channels.loopback({"delivery_reports": False}, amqp_queue=app.name)
    sent = await channel.send("+27", "nobody listens")

    async def is_degraded() -> bool:
        callbacks = await channel.component("callbacks")
        return (await channel.status())["status"] == callbacks.get("status") == "degraded"

    await eventually(is_degraded)
    await sink.wait("/mo")  # the other destination does not wait for this one
    await app.declare("inbound", "event")
    assert (await app.next("inbound"))["content"] == "nobody listens"
    assert (await app.next("event"))["user_message_id"] == sent["message_id"]

    async def is_ok() -> bool:
        return (await channel.status())["status"] == "ok"

    await eventually(is_ok)
    assert len(sink.requests("/mo")) == 1


async def test_a_changed_amqp_queue_moves_both_directions_without_a_restart(
    channels: Channels, app: AppQueues
) -> None:
    await app.declare("inbound", "event")
    channel = await channels.telnet(amqp_queue=unique("old"), mo_url=None)
    pid = await channel.pid()
    await channel.modify(amqp_queue=app.name)
    await app.declare("outbound")
    async with await channel.connect() as client:

        async def arrives() -> dict[str, Any] | None:
            await client.say("hello?")
            body, _ = await app.next_raw(f"{app.name}.inbound", timeout=1)
            return dict(json.loads(body))

        await eventually(arrives)
        await app.send(vumi_message(to_addr=client.address, content="moved"))
        assert await client.hear() == "moved"
    assert await channel.pid() == pid


async def test_the_exchange_is_durable_and_direct(channels: Channels, app: AppQueues) -> None:
    """`AppQueues` declares it so beforehand: had a channel declared it otherwise, this fixture would fail."""
    await app.declare("inbound")
    await channels.loopback(amqp_queue=app.name)
    async with AppQueues(app.port, app.name) as again:
        await again.declare("inbound")
