"""Sending a message and asking what became of it, as a client sees it."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from msgspec.structs import replace

from junebug import names
from junebug.config.declaration import Settings
from junebug.model.messages import Event, UserMessage
from junebug.model.presenter import event_body
from tests.api.conftest import Api, running_api
from tests.event_target import event_target
from tests.tables import rows

INBOUND = UserMessage(
    to_addr="8110",
    from_addr="+26612345678",
    content="hi",
    transport_name="channel",
    group="room",
    provider="vodacom",
    session_event="new",
    transport_type="ussd",
    to_addr_type="shortcode",
    from_addr_type="msisdn",
    transport_metadata={"session": 7},
    helper_metadata={"session_id": "s"},
)


async def received(api: Api, channel: str, message: UserMessage = INBOUND) -> str:
    """The id of an inbound message that the channel's application was given."""
    await api.stores.inbound.put_all(channel, [(message.message_id, message.to_wire())])
    return message.message_id


async def send(api: Api, channel: str, **body: Any) -> Any:
    return await api("POST", f"/channels/{channel}/messages/", json={"content": "hello", **body})


async def test_a_message_is_answered_in_full_and_waits_in_the_channels_queue(api: Api) -> None:
    channel = await api.create()
    answer = await send(api, channel, to="+123", **{"from": "8110"}, group="g", channel_data={"tweet": {"x": 1}})
    assert (answer.status, answer.description) == (201, "message submitted")
    message_id = answer.result["message_id"]
    assert re.fullmatch("[0-9a-f]{32}", message_id)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}", answer.result["timestamp"])
    assert answer.result == {
        "id": message_id,
        "message_id": message_id,
        "channel_id": channel,
        "to": "+123",
        "from": "8110",
        "group": "g",
        "reply_to": None,
        "content": "hello",
        "timestamp": answer.result["timestamp"],
        "channel_data": {"tweet": {"x": 1}},
    }
    (delivery,) = await api.queued(channel)
    wire = orjson.loads(delivery.body)
    assert wire["message_id"] == message_id
    assert (wire["to_addr"], wire["from_addr"], wire["group"]) == ("+123", "8110", "g")
    assert (wire["content"], wire["transport_name"], wire["session_event"]) == ("hello", channel, None)
    assert wire["helper_metadata"] == {"tweet": {"x": 1}}


SMPP = {"type": "smpp", "config": {"host": "127.0.0.1", "port": 1, "system_id": "me", "password": "secret"}}


@pytest.fixture
async def over_smpp(api: Api) -> str:
    return await api.create(**SMPP)


@rows(
    ("config", "content", "channel_data"),
    [
        ({}, "x" * 50_000, {}),
        ({}, "\U0001f1ff" * 50_000, {}),
        ({}, "e\u0301" * 10_000, {}),
        ({"send_multipart_sar": True}, "x" * 50_000, {}),
        ({"send_long_messages": True}, "ж" * 40_000, {}),
        ({"send_long_messages": True}, "x" * 70_000, {}),
        ({"submit_sm_encoding": "ucs2"}, "x" * 20_000, {}),
        ({}, "x" * 20_000, {"smpp": {"encoding": "ucs2"}}),
    ],
)
async def test_what_can_never_be_sent_is_refused_at_the_door(
    api: Api, config: dict[str, Any], content: str, channel_data: dict[str, Any]
) -> None:
    channel = await api.create(**{**SMPP, "config": {**SMPP["config"], **config}})
    answer = await send(api, channel, to="+123", content=content, channel_data=channel_data)
    assert (answer.status, answer.description) == (400, "message too long")
    assert [error["type"] for error in answer.errors] == ["MessageTooLong"]
    assert (await send(api, channel, to="+123", content=content[:4000], channel_data=channel_data)).status == 201


@rows(
    ("channel_data", "field"),
    [
        ({"smpp": []}, "channel_data.smpp: "),
        ({"smpp": {"encoding": 8}}, "channel_data.smpp.encoding: "),
        ({"smpp": {"encoding": ["ucs2"]}}, "channel_data.smpp.encoding: "),
        ({"smpp": {"encoding": "klingon"}}, "channel_data.smpp.encoding: "),
        ({"smpp": {"validity_period": "²"}}, "channel_data.smpp.validity_period: "),
        ({"smpp": {"service_type": []}}, "channel_data.smpp.service_type: "),
        ({"smpp": {"tlvs": {"0x1401": "hex:0"}}}, "channel_data.smpp.tlvs.0x1401: "),
        ({"smpp": {"colour": 1}}, "channel_data.smpp: "),
    ],
)
async def test_channel_data_that_the_channels_type_does_not_know_is_refused_and_the_field_named(
    api: Api, over_smpp: str, plain: str, channel_data: dict[str, Any], field: str
) -> None:
    answer = await send(api, over_smpp, to="+123", channel_data=channel_data)
    assert (answer.status, answer.description) == (400, "api usage error")
    (error,) = answer.errors
    assert (error["type"], error["message"].startswith(field)) == ("invalid_body", True)
    assert error["schema_path"][:2] == ["properties", "channel_data"]
    assert (await send(api, plain, to="+123", channel_data=channel_data)).status == 201


@rows(
    "body",
    [
        {"content": "x"},
        {"content": "x", "to": None},
        {"content": "x", "to": "1", "reply_to": "2"},
        {"to": "1"},
        {"to": 1, "content": "x"},
        {"to": "", "content": "x"},
        {"to": "1", "content": 5},
        {"reply_to": 1, "content": "x"},
        {"to": "1", "content": "x", "foo": "bar"},
        {"to": "1", "content": "x", "priority": 0},
        {"to": "1", "content": "x", "priority": 6},
        {"to": "1", "content": "x", "priority": "high"},
        {"to": "1", "content": "x", "priority": True},
        {"to": "1", "content": "x", "event_url": "nowhere"},
        {"to": "1", "content": "x", "event_url": 1},
        {"to": "1", "content": "x", "event_auth_token": "a\nb"},
        {"to": "1", "content": "x", "event_url": "http://a/{nothing}"},
        {"to": "1", "content": "x", "event_url": "http://{to}/"},
        {"to": "1", "content": "x", "expires_at": "tomorrow"},
        {"to": "1", "content": "x", "expires_at": 1795464000},
        {"to": "1", "content": "x", "expires_at": "0001-01-01T00:00:00+14:00"},
        {"to": "1", "content": "x", "expires_at": "9999-12-31T23:59:59-14:00"},
        {"to": "1", "content": "x", "expires_at": "2015-06-15 13:00:00"},
        {"to": "1", "content": "x", "expires_at": "2999-01-01 00:00:00", "validity": 5},
        {"to": "1", "content": "x", "validity": 0},
        {"to": "1", "content": "x", "validity": -1},
        {"to": "1", "content": "x", "validity": "60"},
        {"to": "1", "content": "x", "validity": True},
        {"to": "1", "content": "x", "validity": 30 * 86400 + 1},
        {"to": "1", "content": "x", "channel_data": "x"},
        {"to": "1", "content": "x", "channel_data": {"session_event": "over"}},
        {"to": "1", "content": "x", "channel_data": {"continue_session": "no"}},
    ],
)
async def test_a_body_that_is_wrong_is_400_and_nothing_is_sent(api: Api, plain: str, body: dict[str, Any]) -> None:
    answer = await api("POST", f"/channels/{plain}/messages/", json=body)
    assert (answer.status, answer.description) == (400, "api usage error")
    assert await api.broker.queue_length(names.outbound_queue(plain)) == 0


async def test_content_may_be_null(api: Api) -> None:
    channel = await api.create(character_limit=1)
    assert (await send(api, channel, to="1", content=None)).result["content"] is None


@pytest.mark.parametrize("text", ["\x00", "é€😀", "a\r\nb", "\u2028", ""])
async def test_any_text_passes_unchanged(api: Api, text: str) -> None:
    channel = await api.create()
    body = {"to": text or "1", "from": text, "content": text, "channel_data": {text: text}, "event_auth_token": None}
    answer = await api("POST", f"/channels/{channel}/messages/", json=body)
    assert (answer.status, answer.result["content"], answer.result["from"]) == (201, text, text)
    (delivery,) = await api.queued(channel)
    assert orjson.loads(delivery.body)["content"] == text


@pytest.mark.parametrize(("given", "expected"), [(None, 1), (3, 3), ("4", 4), (5, 5), (2.0, 2)])
async def test_the_priority_is_taken_as_a_number_or_its_text_and_has_a_queue(
    api: Api, given: Any, expected: int
) -> None:
    channel = await api.create()
    assert (await send(api, channel, to="1", priority=given)).status == 201
    lengths = await api.broker.queue_lengths(names.PLAIN.queues(channel))
    assert {queue for queue, length in lengths.items() if length} == {names.outbound_queue(channel, expected)}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("2999-01-02 03:04:05", "2999-01-02 03:04:05.000000"),
        ("2999-01-02 03:04:05.678901", "2999-01-02 03:04:05.678901"),
        ("2999-01-02T03:04:05Z", "2999-01-02 03:04:05.000000"),
        ("2999-01-02T03:04:05.5+02:00", "2999-01-02 01:04:05.500000"),
        ("2999-01-02", "2999-01-02 00:00:00.000000"),
    ],
)
async def test_the_time_after_which_it_is_not_sent_goes_with_the_message_and_is_answered(
    api: Api, given: str, expected: str
) -> None:
    channel = await api.create()
    assert (await send(api, channel, to="1", expires_at=given)).result["expires_at"] == expected
    (delivery,) = await api.queued(channel)
    assert orjson.loads(delivery.body)["expires_at"] == expected


@pytest.mark.parametrize("seconds", [0.5, 60, 30 * 86400])
async def test_a_validity_counts_from_now(api: Api, seconds: float) -> None:
    channel = await api.create()
    message_id = await received(api, channel)
    before = datetime.now(UTC)
    for body in ({"to": "1"}, {"reply_to": message_id}):
        ends = datetime.fromisoformat((await send(api, channel, **body, validity=seconds)).result["expires_at"])
        after = datetime.now(UTC)
        span = timedelta(seconds=seconds)
        assert before + span <= ends.replace(tzinfo=UTC) <= after + span


@pytest.mark.parametrize("nothing", [{}, {"expires_at": None}, {"validity": None}, {"expires_at": None, "validity": None}])
async def test_a_message_without_a_validity_says_nothing_of_one(api: Api, nothing: dict[str, Any]) -> None:
    channel = await api.create()
    assert "expires_at" not in (await send(api, channel, to="1", **nothing)).result


async def test_both_validities_at_once_are_an_api_usage_error(api: Api) -> None:
    channel = await api.create()
    answer = await send(api, channel, to="1", validity=5, expires_at="2999-01-01")
    assert (answer.status, answer.errors[0]["type"]) == (400, "ApiUsageError")
    assert "expires_at" in answer.errors[0]["message"]


async def test_an_event_url_may_be_a_template(api: Api) -> None:
    channel = await api.create()
    url = "https://example.com/{channel_id}{?message_id,event_type,timestamp,reason,sent_message_id}"
    answer = await send(api, channel, to="1", event_url=url)
    assert answer.status == 201
    assert (await event_target(api.stores, channel, answer.result["id"])).url == url


async def test_a_message_longer_than_the_limit_is_refused_with_both_numbers(api: Api) -> None:
    channel = await api.create(character_limit=3)
    answer = await send(api, channel, to="1", content="€" * 5)
    assert (answer.status, answer.description, answer.errors[0]["type"]) == (400, "message too long", "MessageTooLong")
    assert answer.errors[0]["message"] == (
        "The message content is of length 5, which is greater than the character limit of 3"
    )
    assert (await send(api, channel, to="1", content="€" * 3)).status == 201


@pytest.mark.parametrize("limit", [0, None])
async def test_a_limit_of_0_or_null_is_none(api: Api, limit: int | None) -> None:
    channel = await api.create(character_limit=limit)
    assert (await send(api, channel, to="1")).status == 201


async def test_a_channel_without_a_destination_takes_no_messages(api: Api) -> None:
    channel = await api.create(mo_url=None)
    answer = await send(api, channel, to="1")
    assert (answer.status, answer.errors[0]["type"]) == (400, "ApiUsageError")
    assert answer.errors[0]["message"] == 'This channel has no "mo_url" or "amqp_queue"'
    await api("POST", f"/channels/{channel}", json={"amqp_queue": "q"})
    assert (await send(api, channel, to="1")).status == 201  # what this process wrote, it sees at once


async def test_a_reply_goes_back_to_where_the_message_came_from(api: Api) -> None:
    channel = await api.create()
    message_id = await received(api, channel)
    answer = await send(api, channel, reply_to=message_id, channel_data={"continue_session": False, "x": 1})
    assert answer.status == 201
    assert answer.result.items() >= {
        "to": "+26612345678",
        "from": "8110",
        "group": "room",
        "reply_to": message_id,
        "channel_data": {"session_event": "close", "x": 1},
    }.items()
    (delivery,) = await api.queued(channel)
    reply = UserMessage.from_wire(delivery.body)
    assert replace(reply, message_id="", timestamp="") == UserMessage(
        to_addr="+26612345678",
        from_addr="8110",
        content="hello",
        transport_name=channel,
        message_id="",
        timestamp="",
        group="room",
        in_reply_to=message_id,
        provider="vodacom",
        session_event="close",
        transport_type="ussd",
        to_addr_type="msisdn",
        from_addr_type="shortcode",
        transport_metadata={"session": 7},
        helper_metadata={"x": 1},
    )


async def test_a_reply_to_nothing_known_is_message_not_found(api: Api) -> None:
    channel, other = await api.create(), await api.create()
    message_id = await received(api, other)  # another channel's
    answer = await send(api, channel, reply_to=message_id)
    assert (answer.status, answer.description) == (400, "message not found")
    assert (answer.errors[0]["type"], message_id in answer.errors[0]["message"]) == ("MessageNotFound", True)


async def test_an_expired_reply_falls_back_to_its_to_where_that_is_allowed(settings: Settings) -> None:
    async with running_api(dataclasses.replace(settings, allow_expired_replies=True)) as api:
        channel = await api.create()
        expired = await send(api, channel, reply_to="gone", to="+1", **{"from": "5"})
        assert (expired.status, expired.result["to"], expired.result["reply_to"]) == (201, "+1", None)
        message_id = await received(api, channel)
        known = await send(api, channel, reply_to=message_id, to="+1")
        assert (known.result["to"], known.result["reply_to"]) == ("+26612345678", message_id)
        assert (await send(api, channel, reply_to="gone")).status == 400
        assert (await send(api, channel)).status == 400


async def test_where_events_go_is_kept_before_the_answer(api: Api) -> None:
    channel = await api.create()
    answer = await send(api, channel, to="1", event_url="http://example.com/e", event_auth_token="tok")
    target = await event_target(api.stores, channel, answer.result["id"])
    assert (target.url, target.auth_token) == ("http://example.com/e", "tok")


async def test_a_message_costs_redis_one_round_trip(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was three when events waited for a mark that the 201 was written."""
    channel = await api.create()
    await send(api, channel, to="1")  # the channel's spec is at hand now
    trips: list[object] = []
    exchange = api.stores._redis._exchange

    async def counted(packed: bytes, commands: int) -> Any:
        trips.append(packed)
        return await exchange(packed, commands)

    monkeypatch.setattr(api.stores._redis, "_exchange", counted)
    for _ in range(5):
        await send(api, channel, to="1", event_url="http://example.com/e")
    await api("GET", "/health")  # which is one more
    assert len(trips) - 6 in (0, 1), trips  # the news of the channel's creation may come late: its spec is read once more then


async def test_an_empty_event_url_is_none(api: Api) -> None:
    channel = await api.create()
    answer = await send(api, channel, to="1", event_url="")
    assert answer.status == 201
    assert (await event_target(api.stores, channel, answer.result["id"])).url is None


async def test_a_channel_whose_queues_rabbitmq_lost_gets_them_again(api: Api) -> None:
    channel = await api.create()
    await api.broker.delete_queues(list(names.channel_queues(channel)))
    assert (await send(api, channel, to="1")).status == 201
    assert len(await api.queued(channel)) == 1


async def test_a_message_for_an_unknown_channel_is_404(api: Api) -> None:
    answer = await send(api, "00000000-0000-4000-8000-000000000000", to="1")
    assert (answer.status, answer.description) == (404, "channel not found")


async def test_a_message_status_tells_its_events_as_they_are_posted(api: Api) -> None:
    channel = await api.create()
    message_id = (await send(api, channel, to="1")).result["id"]
    ack = Event(event_type="ack", user_message_id=message_id, sent_message_id="p1", transport_name=channel,
                timestamp="2015-06-15 13:00:00.000000")  # fmt: skip
    report = Event(event_type="delivery_report", user_message_id=message_id, delivery_status="delivered",
                   transport_name=channel, timestamp="2015-06-15 13:00:01.000000")  # fmt: skip
    for event in (report, ack, ack):
        await api.stores.outbound.add_events(channel, [(event.to_wire(), event)])
    answer = await api("GET", f"/channels/{channel}/messages/{message_id}")
    assert (answer.status, answer.description) == (200, "message status")
    assert answer.result == {
        "id": message_id,
        "last_event_type": "delivery_succeeded",
        "last_event_timestamp": "2015-06-15 13:00:01.000000",
        "events": [event_body(ack, channel), event_body(report, channel)],
    }


@pytest.mark.parametrize("message_id", ["unknown", "a%2Fb", "%00", "%E2%82%AC", "%FF", "x" * 5000, "*"])
async def test_the_status_of_an_unknown_message_is_empty(api: Api, message_id: str) -> None:
    channel = await api.create()
    answer = await api("GET", f"/channels/{channel}/messages/{message_id}")
    assert answer.status == 200
    assert (answer.result["last_event_type"], answer.result["last_event_timestamp"]) == (None, None)
    assert answer.result["events"] == []


async def test_many_messages_at_once_all_arrive(api: Api) -> None:
    channel = await api.create()
    answers = await asyncio.gather(*(send(api, channel, to=str(n)) for n in range(300)))
    assert {answer.status for answer in answers} == {201}
    found = {orjson.loads(each.body)["message_id"] for each in await api.queued(channel, 300)}
    assert found == {answer.result["id"] for answer in answers}
