"""Idempotency-Key: a repeated send is answered as the first one and sent once, whatever dies in between."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Sequence
from typing import Any

import orjson
import pytest

from junebug import names
from junebug.api.idempotency import body_digest
from junebug.config.declaration import Settings
from junebug.errors import BrokerUnavailable, StoreUnavailable, Unroutable
from junebug.model.messages import UserMessage
from tests.api.conftest import Answer, Api, running_api
from tests.event_target import event_target
from tests.polling import eventually

MESSAGE = {"to": "+123", "content": "hello"}
REPLAYED = "Idempotent-Replayed"


async def send(api: Api, channel: str, key: str = "k", **fields: Any) -> Answer:
    body = {**MESSAGE, **fields}
    return await api("POST", f"/channels/{channel}/messages/", json=body, headers={"Idempotency-Key": key})


async def sent(api: Api, channel: str) -> list[str]:
    """The message ids in the channel's queues."""
    lengths = await api.broker.queue_lengths(names.PLAIN.queues(channel))
    count = sum(lengths.values())
    return [orjson.loads(each.body)["message_id"] for each in await api.queued(channel, count)] if count else []


async def claimed_by_the_dead(api: Api, channel: str, lease: float, **fields: Any) -> UserMessage:
    """What a process that was killed right after its first step leaves behind."""
    body = {**MESSAGE, **fields}
    message = UserMessage(
        to_addr="+123", content="hello", transport_name=channel, from_addr=None, event_url=fields.get("event_url")
    )
    await api.stores.idempotency.claim(channel, "k", body_digest(body), lease, message)
    return message


@pytest.fixture
async def quick(settings: Settings) -> AsyncIterator[Api]:
    """An API that waits for nobody for long."""
    async with running_api(dataclasses.replace(settings, request_timeout=2.0)) as running:
        yield running


async def test_the_same_key_gets_the_first_answer_and_is_sent_once(api: Api) -> None:
    channel = await api.create()
    first = await send(api, channel, channel_data={"session_event": "close", "b": 1, "a": 2}, group="g", priority="1")
    again = await send(api, channel, channel_data={"a": 2, "b": 1, "session_event": "close"}, priority="1", group="g")
    assert (first.status, again.status) == (201, 201)
    assert again.body == first.body
    assert (first.headers.get(REPLAYED), again.headers.get(REPLAYED)) == (None, "true")
    assert await sent(api, channel) == [first.result["message_id"]]


async def test_the_first_answer_comes_byte_for_byte(api: Api) -> None:
    channel = await api.create()
    body = orjson.dumps({**MESSAGE, "content": "é\x00😀", "from": "", "channel_data": {"z": [1, 2.5], "a": None}, "validity": 60})
    answers = []
    for _ in range(2):
        async with api.session.post(
            f"{api.url}/channels/{channel}/messages/", data=body, headers={"Idempotency-Key": "k"}
        ) as response:
            answers.append(await response.read())
    assert answers[0] == answers[1]


async def test_the_same_key_with_another_body_is_422_and_not_sent(api: Api) -> None:
    channel = await api.create()
    first = await send(api, channel)
    answer = await send(api, channel, content="else")
    assert (answer.status, answer.description) == (422, "idempotency key reused")
    assert answer.errors[0]["type"] == "IdempotencyKeyReused"
    assert "another body" in answer.errors[0]["message"]
    assert await sent(api, channel) == [first.result["message_id"]]


async def test_keys_are_per_channel_and_a_send_without_one_is_its_own(api: Api) -> None:
    one, other = await api.create(), await api.create()
    ids = {(await send(api, channel)).result["message_id"] for channel in (one, other)}
    ids.add((await send(api, one, "K")).result["message_id"])
    ids.add((await api("POST", f"/channels/{one}/messages/", json=MESSAGE)).result["message_id"])
    assert len(ids) == 4


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb", "\u200b", "\xa0x\xa0y"])
async def test_a_key_that_is_none_is_400_and_nothing_is_sent(api: Api, key: str) -> None:
    channel = await api.create()
    answer = await send(api, channel, key)
    assert (answer.status, answer.errors[0]["type"]) == (400, "ApiUsageError")
    assert "Idempotency-Key" in answer.errors[0]["message"]
    assert await sent(api, channel) == []


async def test_two_keys_on_one_request_are_400(api: Api) -> None:
    channel = await api.create()
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    assert (await api("POST", f"/channels/{channel}/messages/", json=MESSAGE, headers=headers)).status == 400


@pytest.mark.parametrize("key", ["x" * 255, "a b", "é", "*?[", '"quoted"', "8e03978e-40d5-43e8-bc93-6894a57f9324"])
async def test_any_printable_text_is_a_key(api: Api, key: str) -> None:
    channel = await api.create()
    assert (await send(api, channel, key)).status == 201
    assert (await send(api, channel, key)).headers[REPLAYED] == "true"


async def test_a_key_whose_request_was_refused_is_free_again(api: Api) -> None:
    channel = await api.create(character_limit=10)
    assert (await send(api, channel, content="far too long")).status == 400
    assert (await send(api, channel, to=None, reply_to="unknown")).status == 400
    assert (await send(api, channel, expires_at="2015-01-01 00:00:00")).status == 400
    answer = await send(api, channel)
    assert (answer.status, answer.headers.get(REPLAYED)) == (201, None)


async def test_what_could_not_be_sent_now_is_still_answered_as_then(api: Api) -> None:
    channel = await api.create()
    inbound = UserMessage(to_addr="8110", from_addr="+1", content="hi", transport_name=channel)
    await api.stores.inbound.put_all(channel, [(inbound.message_id, inbound.to_wire())])
    reply = {"to": None, "reply_to": inbound.message_id}
    first = await send(api, channel, **reply)
    await api.stores._redis.run(("DEL", names.inbound_message(channel, inbound.message_id)))
    assert (await api("POST", f"/channels/{channel}", json={"character_limit": 1})).status == 200
    again = await send(api, channel, **reply)
    assert (again.status, again.body) == (201, first.body)
    assert (await send(api, channel, "new", **reply)).status == 400


async def test_requests_at_the_same_time_through_two_processes_send_once(api: Api) -> None:
    channel = await api.create()
    async with running_api(api.settings) as other:
        answers = await asyncio.gather(*(send((api, other)[n % 2], channel) for n in range(30)))
    assert {answer.status for answer in answers} == {201}
    (message_id,) = {answer.result["message_id"] for answer in answers}
    assert sum(REPLAYED not in answer.headers for answer in answers) == 1
    assert await sent(api, channel) == [message_id]


async def test_while_the_first_is_under_way_others_wait_and_then_are_told_409(
    quick: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = await quick.create()
    begun, go_on = asyncio.Event(), asyncio.Event()
    publish = quick.broker.publish_many

    async def slow(*arguments: Any, **options: Any) -> None:
        begun.set()
        await go_on.wait()
        await publish(*arguments, **options)

    monkeypatch.setattr(quick.broker, "publish_many", slow)
    async with running_api(dataclasses.replace(quick.settings, request_timeout=30)) as patient:
        monkeypatch.setattr(patient.broker, "publish_many", slow)
        first = asyncio.create_task(send(patient, channel))
        await begun.wait()
        waiting = asyncio.create_task(send(patient, channel))
        answer = await send(quick, channel)
        assert (answer.status, answer.errors[0]["type"]) == (409, "RequestInProgress")
        go_on.set()
        assert (await first).status == 201
        assert (await waiting).body == (await first).body
        assert await sent(patient, channel) == [(await first).result["message_id"]]


# --- death between two steps ------------------------------------------------------------------------------------------


async def test_killed_before_it_was_published_the_repeat_sends_the_same_message(api: Api) -> None:
    channel = await api.create()
    dead = await claimed_by_the_dead(api, channel, 0.001, event_url="http://example.com/e")
    answer = await send(api, channel, event_url="http://example.com/e")
    assert (answer.status, answer.result["message_id"]) == (201, dead.message_id)
    assert (answer.result["timestamp"], answer.headers.get(REPLAYED)) == (dead.timestamp, None)
    assert await sent(api, channel) == [dead.message_id]
    assert (await event_target(api.stores, channel, dead.message_id)).url == "http://example.com/e"
    assert (await send(api, channel, event_url="http://example.com/e")).body == answer.body
    assert await sent(api, channel) == []


async def test_a_request_whose_process_may_live_is_not_overtaken(quick: Api) -> None:
    channel = await quick.create()
    await claimed_by_the_dead(quick, channel, 60)
    assert (await send(quick, channel)).status == 409
    assert await sent(quick, channel) == []


async def test_a_message_whose_publishing_nobody_confirmed_is_sent_again_with_the_same_id(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = await api.create()
    publish, lost = api.broker.publish_many, []

    async def unconfirmed(queue: str, bodies: Sequence[bytes], **options: Any) -> None:
        await publish(queue, bodies, **options)
        if not lost:
            lost.append(orjson.loads(bodies[0])["message_id"])
            raise BrokerUnavailable("RabbitMQ did not confirm")

    monkeypatch.setattr(api.broker, "publish_many", unconfirmed)
    assert (await send(api, channel)).status == 503
    answer = await send(api, channel)
    assert (answer.status, answer.result["message_id"]) == (201, lost[0])
    assert await sent(api, channel) == lost * 2
    assert (await send(api, channel)).headers[REPLAYED] == "true"


async def test_without_rabbitmq_a_repeat_sends_once(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    channel = await api.create()

    async def away(*_: Any, **__: Any) -> None:
        raise BrokerUnavailable("there is no connection to RabbitMQ")

    with monkeypatch.context() as without:
        without.setattr(api.broker, "publish_many", away)
        assert [(await send(api, channel)).status for _ in range(2)] == [503, 503]
    answer = await send(api, channel)
    assert (answer.status, await sent(api, channel)) == (201, [answer.result["message_id"]])


async def test_what_was_sent_but_could_not_be_noted_is_answered_and_keeps_its_id(
    quick: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = await quick.create()

    async def away(*_: str) -> None:
        raise StoreUnavailable("Redis is away")

    with monkeypatch.context() as without:
        without.setattr(quick.stores.idempotency, "done", away)
        first = await send(quick, channel)
    assert first.status == 201
    answers: list[Answer] = []

    async def answered() -> bool:
        answers.append(await send(quick, channel))
        return answers[-1].status == 201

    await eventually(answered)
    assert answers[-1].body == first.body
    assert set(await sent(quick, channel)) == {first.result["message_id"]}


async def test_a_channel_deleted_meanwhile_leaves_no_key(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    channel = await api.create()

    async def delete_and_fail(*_: Any, **__: Any) -> None:
        await api.stores.channels.delete(channel)
        raise Unroutable("no queue")

    monkeypatch.setattr(api.broker, "publish_many", delete_and_fail)
    assert (await send(api, channel)).status == 404
    for kind in ("idempotency", "outbound_messages"):
        (keys,) = await api.stores._redis.run(("KEYS", f"{channel}:{kind}:*"))
        assert list(keys) == []


async def test_all_that_is_kept_of_a_key_ends_with_outbound_message_ttl(api: Api) -> None:
    channel = await api.create()
    await send(api, channel, event_url="http://example.com/e")
    (found,) = await api.stores._redis.run(("KEYS", f"{channel}:*:*"))
    keys = [key for key in found if not key.startswith(f"{channel}:keys:")]  # the list that names them
    lives = await api.stores._redis.run(*(("TTL", key) for key in keys))
    assert len(lives) == 2
    assert all(0 < life <= api.settings.outbound_message_ttl for life in lives)
