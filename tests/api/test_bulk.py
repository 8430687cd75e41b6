"""Many messages in one request: each has its own outcome, and all of them are confirmed when it is answered."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import random
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any

import orjson
import pytest

from junebug import names
from junebug.api import bulk_body
from junebug.api.handlers import bulk
from junebug.config.declaration import Settings
from junebug.errors import ApiUsageError, BrokerUnavailable, JsonDecodeError, PayloadTooLarge, StoreUnavailable
from junebug.model.messages import UserMessage
from junebug.stores.key_lists import key_list
from tests.api.conftest import Answer, Api, running_api
from tests.api.test_messages import SMPP, received
from tests.event_target import event_target
from tests.polling import eventually

REPLAYED = "Idempotent-Replayed"


def message(n: object, **fields: Any) -> dict[str, Any]:
    return {"to": f"+{n}", "content": f"text {n}", **fields}


def messages(count: int) -> list[dict[str, Any]]:
    return [message(n) for n in range(count)]


def ndjson(*bodies: Any) -> bytes:
    return b"\n".join(map(orjson.dumps, bodies))


async def post(api: Api, channel: str, data: Any, key: str | None = None, path: str = "messages/bulk") -> Answer:
    headers = {} if key is None else {"Idempotency-Key": key}
    return await api("POST", f"/channels/{channel}/{path}", data=data, headers=headers)


async def queued(api: Api, channel: str, count: int, priority: int = 1) -> list[dict[str, Any]]:
    """What waits for the worker: so many, and not one more."""
    queue = names.outbound_queue(channel, priority)
    assert await api.broker.queue_length(queue) == count
    return [orjson.loads(each.body) for each in await api.taken(queue, count)] if count else []


def ids(answer: Answer) -> list[str]:
    return [item["message_id"] for item in answer.result["messages"]]


def outcomes(answer: Answer) -> list[Any]:
    """Of each message the type of its first error; None: it was accepted."""
    found = [item["errors"][0]["type"] if "errors" in item else None for item in answer.result["messages"]]
    assert answer.result["accepted"] == found.count(None)
    assert answer.result["rejected"] == len(found) - found.count(None)
    return found


FORMS = {
    "lines": ndjson,
    "lines with an end": lambda *bodies: ndjson(*bodies) + b"\n",
    "CRLF": lambda *bodies: b"\r\n".join(map(orjson.dumps, bodies)) + b"\r\n",
    "blank lines": lambda *bodies: b"\n \n\r\n\t" + b"\n\n  \r\n".join(map(orjson.dumps, bodies)) + b"\n\n ",
    "BOM": lambda *bodies: b"\xef\xbb\xbf" + ndjson(*bodies),
    "array": lambda *bodies: orjson.dumps(bodies),
    "pretty array": lambda *bodies: b"\xef\xbb\xbf \r\n" + json.dumps(bodies, indent=2).encode() + b"\n\n",
}


@pytest.mark.parametrize("form", FORMS)
async def test_messages_are_answered_in_order_and_wait_in_order(api: Api, form: str) -> None:
    channel = await api.create()
    answer = await post(api, channel, FORMS[form](*messages(450)))
    assert (answer.status, answer.description) == (201, "messages submitted")
    assert outcomes(answer) == [None] * 450
    assert all(re.fullmatch("[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}", each) for each in ids(answer))
    assert len(set(ids(answer))) == 450
    waiting = await queued(api, channel, 450)
    assert [each["message_id"] for each in waiting] == ids(answer)
    assert [(each["to_addr"], each["content"]) for each in waiting] == [(f"+{n}", f"text {n}") for n in range(450)]


@pytest.mark.parametrize("path", ["messages/bulk", "messages/bulk/"])
@pytest.mark.parametrize("prefix", ["", "/jb"])
async def test_it_is_served_as_every_route(api: Api, path: str, prefix: str) -> None:
    channel = await api.create()
    answer = await api("POST", f"{prefix}/channels/{channel}/{path}", data=ndjson(message(1)))
    assert answer.status == 201
    assert (await api("GET", f"/channels/{channel}/messages/bulk")).status == 405  # no message has this id


NESTED = b'{"to": "1", "content": "x", "channel_data": {"a": ' + b"[" * 150 + b"]" * 150 + b"}}"
BAD = [
    (b"nonsense", "JsonDecodeError"),
    (b'{"to": "1"', "JsonDecodeError"),
    (b'{"to": "1", "content": "x"} {}', "JsonDecodeError"),
    (b'{"to": "1", "content": "\xff"}', "JsonDecodeError"),
    (b'{"to": "1", "content": "x\\', "JsonDecodeError"),
    (b'{"to": "1", "content": "\x00"}', "JsonDecodeError"),
    (b"]", "JsonDecodeError"),
    (b"NaN", "JsonDecodeError"),
    (b"\xef\xbb\xbf{}", "JsonDecodeError"),
    (NESTED, "ApiUsageError"),
    (b"[" * 100_000, "JsonDecodeError"),
    (b'{"a":' * 5000 + b"1" + b"}" * 5000, "JsonDecodeError"),
    (b"1", "invalid_body"),
    (b"null", "invalid_body"),
    (b'"to"', "invalid_body"),
    (b"[1]", "invalid_body"),
    (b"{}", "invalid_body"),
    (b'{"to": 1, "content": "x"}', "invalid_body"),
    (b'{"to": "1", "content": "x", "colour": 1}', "invalid_body"),
    (b'{"to": "1", "content": "x", "event_url": "nowhere"}', "invalid_body"),
    (b'{"to": "1", "content": "x", "channel_data": {"smpp": {"encoding": 8}}}', "invalid_body"),
    (b'{"content": "x"}', "ApiUsageError"),
    (b'{"to": "1", "reply_to": "2", "content": "x"}', "ApiUsageError"),
    (b'{"to": "1", "content": "x", "expires_at": "2015-06-15 13:00:00"}', "ApiUsageError"),
    (b'{"reply_to": "unknown", "content": "x"}', "MessageNotFound"),
    (b'{"to": "1", "content": "%s"}' % (b"x" * 50_000), "MessageTooLong"),
    (b'{"to": "1", "content": "%s"}' % (b"x" * 1_000_000), "PayloadTooLarge"),
]


@pytest.mark.parametrize(("line", "expected"), BAD, ids=range(len(BAD)))
async def test_a_bad_line_spoils_only_itself(api: Api, line: bytes, expected: str) -> None:
    channel = await api.create(**SMPP)
    answer = await post(api, channel, b"\n".join([ndjson(message(1)), line, ndjson(message(2)), line]))
    assert (answer.status, outcomes(answer)) == (201, [None, expected, None, expected])
    assert all(error["message"] for error in answer.result["messages"][1]["errors"])
    waiting = await queued(api, channel, 2)
    assert [each["to_addr"] for each in waiting] == ["+1", "+2"]


WHOLE = [(line, expected) for line, expected in BAD if expected != "JsonDecodeError"]


@pytest.mark.parametrize(("item", "expected"), [*WHOLE, (b"nonsense", "JsonDecodeError"), (b"", "JsonDecodeError"),
                                                (b'{"to" "1"}', "JsonDecodeError"), (b"{[}]", "JsonDecodeError"),
                                                (b'{"to": "1", "content": "\xff"}', "JsonDecodeError")])  # fmt: skip
async def test_a_bad_item_of_an_array_spoils_only_itself(api: Api, item: bytes, expected: str) -> None:
    channel = await api.create(**SMPP)
    answer = await post(api, channel, b"[" + b",".join([ndjson(message(1)), item, ndjson(message(2)), item]) + b"]")
    assert (answer.status, outcomes(answer)) == (201, [None, expected, None, expected])
    assert len(await queued(api, channel, 2)) == 2


async def test_when_none_can_be_sent_it_is_400_and_each_has_its_error(api: Api) -> None:
    channel = await api.create()
    answer = await post(api, channel, ndjson({}, 1, {"to": "1"}))
    assert (answer.status, answer.description) == (400, "api usage error")
    assert outcomes(answer) == ["invalid_body"] * 3
    assert answer.errors[0]["type"] == "ApiUsageError"
    await queued(api, channel, 0)


ONE = ndjson(message(1))


@pytest.mark.parametrize(
    ("body", "status", "expected"),
    [
        (b"", 400, "ApiUsageError"),
        (b"\xef\xbb\xbf", 400, "ApiUsageError"),
        (b" \r\n\n", 400, "ApiUsageError"),
        (b"[]", 400, "ApiUsageError"),
        (b" [ \n ] ", 400, "ApiUsageError"),
        (b"[%s" % ONE, 400, "JsonDecodeError"),
        (b"[%s," % ONE, 400, "JsonDecodeError"),
        (b"[%s}" % ONE, 400, "JsonDecodeError"),
        (b"[%s] x" % ONE, 400, "JsonDecodeError"),
        (b"[%s]\n%s" % (ONE, ONE), 400, "JsonDecodeError"),
        (b'[%s, {"to": "1", "content": "x]' % ONE, 400, "JsonDecodeError"),
        (b'[%s, {"to": "1", "content": "\\"x]' % ONE, 400, "JsonDecodeError"),
        (ndjson(*messages(10_001)), 413, "PayloadTooLarge"),
        (orjson.dumps(messages(10_001)), 413, "PayloadTooLarge"),
        (b"[" + b"{}," * 5_000_000, 413, "PayloadTooLarge"),
        (ONE + b" " * bulk_body.LARGEST_BODY, 413, "PayloadTooLarge"),
    ],
    ids=range(16),
)
async def test_a_body_that_is_wrong_as_a_whole_is_refused_and_nothing_is_sent(
    api: Api, body: bytes, status: int, expected: str
) -> None:
    channel = await api.create()
    answer = await post(api, channel, body)
    assert (answer.status, [error["type"] for error in answer.errors]) == (status, [expected])
    await queued(api, channel, 0)


async def test_ten_thousand_are_taken_at_once(api: Api) -> None:
    channel = await api.create()
    answer = await post(api, channel, ndjson(*messages(10_000)))
    assert (answer.status, answer.result["accepted"], len(set(ids(answer)))) == (201, 10_000, 10_000)
    assert await api.broker.queue_length(names.outbound_queue(channel)) == 10_000


async def test_sixteen_megabytes_are_taken_and_other_requests_have_their_turn(api: Api) -> None:
    channel = await api.create()
    body = ndjson(*(message(n, content=chr(0x400 + n) * 450_000) for n in range(18)))
    assert 16_000_000 < len(body) <= bulk_body.LARGEST_BODY
    answer = await post(api, channel, body)
    assert (answer.status, answer.result["accepted"]) == (201, 18)


async def half_sent(
    api: Api, channel: str, body: bytes, *, missing: int = 0
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A bulk send over a connection of its own, so many bytes of which are still to come."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(api.url.rpartition(":")[2]))
    head = f"POST /channels/{channel}/messages/bulk HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body) + missing}\r\n\r\n"
    writer.write(head.encode() + body)
    return reader, writer


async def test_a_body_that_does_not_come_whole_sends_nothing(api: Api) -> None:
    channel = await api.create()
    reader, writer = await half_sent(api, channel, ndjson(*messages(500)), missing=1)
    writer.write_eof()
    await asyncio.wait_for(reader.read(), 10)
    writer.close()
    assert (await post(api, channel, ONE)).status == 201
    await queued(api, channel, 1)


async def test_who_goes_away_after_the_last_byte_has_sent_all(api: Api) -> None:
    channel = await api.create()
    _, writer = await half_sent(api, channel, ndjson(*messages(2000)))
    await writer.drain()
    queue = names.outbound_queue(channel)

    async def begun() -> bool:
        return await api.broker.queue_length(queue) > 0

    async def all_there() -> bool:
        return await api.broker.queue_length(queue) == 2000

    await eventually(begun)
    writer.transport.abort()
    await eventually(all_there)


async def test_priorities_have_their_queues_and_each_its_order(api: Api) -> None:
    channel = await api.create()
    bodies = [message(n, priority=(1, "3", 5)[n % 3]) for n in range(900)]
    assert (await post(api, channel, ndjson(*bodies))).result["accepted"] == 900
    for n, priority in enumerate((1, 3, 5)):
        waiting = await queued(api, channel, 300, priority)
        assert [each["to_addr"] for each in waiting] == [f"+{each}" for each in range(n, 900, 3)]


async def test_replies_stand_in_their_order_among_the_others(api: Api) -> None:
    channel = await api.create()
    message_id = await received(api, channel)
    reply = {"reply_to": message_id, "content": "r"}
    answer = await post(api, channel, ndjson(message(1), reply, {**reply, "reply_to": "gone"}, message(2)))
    assert outcomes(answer) == [None, None, "MessageNotFound", None]
    waiting = await queued(api, channel, 3)
    assert [(each["to_addr"], each["in_reply_to"]) for each in waiting] == [
        ("+1", None), ("+26612345678", message_id), ("+2", None),
    ]  # fmt: skip


async def test_where_events_go_is_kept_of_each_with_an_end(api: Api) -> None:
    channel = await api.create()
    with_url = message(1, event_url="http://example.com/e", event_auth_token="tok")
    only_url = message(2, event_url="http://example.com/{message_id}")
    answer = await post(api, channel, ndjson(with_url, message(3), only_url, message(4, event_url="")))
    found = [await event_target(api.stores, channel, each) for each in ids(answer)]
    assert [(each.url, each.auth_token) for each in found] == [
        ("http://example.com/e", "tok"), (None, None), ("http://example.com/{message_id}", None), (None, None),
    ]  # fmt: skip
    assert all([await api.stores.outbound.may_wait(channel, each) for each in ids(answer)])
    keys = [names.outbound_message(channel, each) for each in ids(answer)]
    lives = await api.stores._redis.run(*(("TTL", key) for key in keys))
    assert all(0 < life <= api.settings.outbound_message_ttl for life in lives)
    lists = key_list(channel, api.settings.outbound_message_ttl, 0)[0].rpartition(":")[0]
    (named,) = await api.stores._redis.run(("KEYS", f"{lists}:*"))
    (noted,) = await api.stores._redis.run(("LRANGE", named[0], 0, -1))
    assert {key.removeprefix(f"{channel}:") for key in keys} <= {*noted}


async def test_an_unknown_channel_and_one_without_a_destination_take_none(api: Api) -> None:
    assert (await post(api, "00000000-0000-4000-8000-000000000000", ONE)).status == 404
    answer = await post(api, await api.create(mo_url=None), ONE)
    assert (answer.status, answer.errors[0]["message"]) == (400, 'This channel has no "mo_url" or "amqp_queue"')


async def test_many_at_the_same_time_mix_nothing_up(api: Api) -> None:
    channels = [await api.create() for _ in range(12)]
    answers = await asyncio.gather(*(post(api, channel, ndjson(*messages(500))) for channel in channels))
    for channel, answer in zip(channels, answers, strict=True):
        assert [each["message_id"] for each in await queued(api, channel, 500)] == ids(answer)


# --- when something fails ---------------------------------------------------------------------------------------------


def failing(api: Api, monkeypatch: pytest.MonkeyPatch, at: int, *, taken: bool = False) -> list[list[str]]:
    """RabbitMQ fails at batch `at`, maybe after it took it. The ids of the messages of each batch, in time."""
    publish, batches = api.broker.publish_many, []

    async def publish_many(queue: str, bodies: Sequence[bytes], **options: Any) -> None:
        batches.append([orjson.loads(body)["message_id"] for body in bodies])
        if len(batches) - 1 == at:
            if taken:
                await publish(queue, bodies, **options)
            raise BrokerUnavailable("RabbitMQ did not confirm")
        await publish(queue, bodies, **options)

    monkeypatch.setattr(api.broker, "publish_many", publish_many)
    return batches


async def test_when_rabbitmq_fails_in_the_middle_each_message_has_its_own_outcome(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = await api.create()
    with monkeypatch.context() as patch:
        batches = failing(api, patch, 1)
        answer = await post(api, channel, ndjson(*messages(5000)))
    assert answer.status == 201
    sent, unconfirmed = map(len, batches)
    assert outcomes(answer) == [None] * sent + ["BrokerUnavailable"] * unconfirmed + ["Unavailable"] * (5000 - sent - unconfirmed)
    assert answer.result["messages"][-1]["errors"][0]["message"] == "Not sent, as RabbitMQ did not confirm"
    assert [each["message_id"] for each in await queued(api, channel, sent)] == batches[0]


@pytest.mark.parametrize("store", [False, True], ids=["rabbitmq", "redis"])
async def test_when_none_was_sent_as_a_server_is_away_it_is_503(
    api: Api, monkeypatch: pytest.MonkeyPatch, store: bool
) -> None:
    channel = await api.create()
    await post(api, channel, ONE)
    error: Any = StoreUnavailable("Redis is away") if store else BrokerUnavailable("RabbitMQ is away")

    async def away(*_: Any, **__: Any) -> None:
        raise error

    owner, name = (api.stores.outbound, "put_many") if store else (api.broker, "publish_many")
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, away)
        answer = await post(api, channel, ndjson(*messages(300)))
    assert (answer.status, answer.headers.get("Retry-After")) == (503, "1")
    assert answer.errors[0]["type"] == type(error).__name__
    assert outcomes(answer)[:200] == [type(error).__name__] * 200
    await queued(api, channel, 1)


async def test_a_fault_of_ours_spoils_one_message_and_is_told_to_the_log(
    api: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    channel = await api.create()
    compose = bulk.Composer.compose

    def faulty(self: Any, body: Any, *more: Any, **own: Any) -> UserMessage:
        if body["to"] == "+1":
            raise ZeroDivisionError("secret")
        return compose(self, body, *more, **own)

    monkeypatch.setattr(bulk.Composer, "compose", faulty)
    answer = await post(api, channel, ndjson(*messages(3)))
    assert outcomes(answer) == [None, "JunebugError", None]
    assert "secret" not in str(answer.body)
    assert "ZeroDivisionError" in capsys.readouterr().out


async def test_a_channel_deleted_meanwhile_takes_no_more(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    channel = await api.create()
    put_many = api.stores.outbound.put_many

    async def delete(*arguments: Any) -> None:
        await put_many(*arguments)
        assert (await api("DELETE", f"/channels/{channel}")).status == 200
        await api.broker.delete_queues(list(names.channel_queues(channel)))

    monkeypatch.setattr(api.stores.outbound, "put_many", delete)
    answer = await post(api, channel, ndjson(*messages(10)))
    assert (answer.status, set(outcomes(answer))) == (404, {"ChannelNotFound"})


async def test_what_took_too_long_is_told_as_not_sent(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    channel = await api.create()
    monkeypatch.setattr(bulk, "SEND_TIME", -1.0)
    answer = await post(api, channel, ndjson(*messages(3)))
    assert (answer.status, outcomes(answer)) == (503, ["Unavailable"] * 3)
    await queued(api, channel, 0)


# --- Idempotency-Key --------------------------------------------------------------------------------------------------


@pytest.fixture
async def quick(settings: Settings) -> AsyncIterator[Api]:
    """An API that waits for nobody for long."""
    async with running_api(dataclasses.replace(settings, request_timeout=2.0)) as running:
        yield running


async def test_the_same_key_gets_the_first_answer_and_nothing_is_sent(api: Api) -> None:
    channel = await api.create(character_limit=20)
    bodies = [*messages(450), message(1, content="x" * 21), message(2, validity=60)]
    first = await post(api, channel, ndjson(*bodies, 1) + b"\nnonsense", "k")
    await api("POST", f"/channels/{channel}", json={"character_limit": 2})
    same = ndjson(*(dict(reversed(each.items())) for each in bodies), 1)
    again = await post(api, channel, b"\n\n" + same + b"\n nonsense", "k")
    assert (first.status, first.headers.get(REPLAYED)) == (201, None)
    assert outcomes(first)[450:] == ["MessageTooLong", None, "invalid_body", "JsonDecodeError"]
    assert (again.status, again.headers.get(REPLAYED), again.body) == (201, "true", first.body)
    assert all(re.fullmatch("[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}", item["message_id"])
               for item in first.result["messages"] if "message_id" in item)  # fmt: skip
    waiting = await queued(api, channel, 451)
    assert len({each["timestamp"] for each in waiting}) == 1


@pytest.mark.parametrize("other", [ndjson(message(1), message(3)), ndjson(message(2), message(1)), ndjson(message(1)),
                                   ndjson(message(1), message(2), 3), ndjson(message(1)) + b"\n{"])  # fmt: skip
async def test_the_same_key_with_another_body_is_422_and_not_sent(api: Api, other: bytes) -> None:
    channel = await api.create()
    assert (await post(api, channel, ndjson(message(1), message(2)), "k")).status == 201
    answer = await post(api, channel, other, "k")
    assert (answer.status, answer.errors[0]["type"]) == (422, "IdempotencyKeyReused")
    await queued(api, channel, 2)


async def test_a_key_of_a_single_send_is_none_of_a_bulk_send(api: Api) -> None:
    channel = await api.create()
    for path, other in (("messages/", "messages/bulk"), ("messages/bulk", "messages/")):
        assert (await post(api, channel, ONE, path, path)).status == 201
        assert (await post(api, channel, ONE, path, other)).status == 422


async def test_a_key_of_which_nothing_was_sent_is_free(api: Api) -> None:
    channel = await api.create(character_limit=1)
    assert (await post(api, channel, ndjson(*messages(2)), "k")).status == 400
    await api("POST", f"/channels/{channel}", json={"character_limit": 0})
    answer = await post(api, channel, ndjson(*messages(2)), "k")
    assert (answer.status, answer.headers.get(REPLAYED)) == (201, None)
    assert (await post(api, channel, ONE, "x" * 256)).status == 400


async def test_requests_at_the_same_time_send_once(api: Api) -> None:
    channel = await api.create()
    async with running_api(api.settings) as other:
        answers = await asyncio.gather(*(post((api, other)[n % 2], channel, ndjson(*messages(250)), "k") for n in range(6)))
    assert all(answer.body == answers[0].body for answer in answers)
    assert sum(REPLAYED not in answer.headers for answer in answers) == 1
    await queued(api, channel, 250)


@pytest.mark.parametrize("taken", [False, True], ids=["not taken", "taken"])
async def test_a_repeat_sends_only_what_was_not_confirmed_and_with_the_same_ids(
    api: Api, monkeypatch: pytest.MonkeyPatch, taken: bool
) -> None:
    channel = await api.create()
    body = ndjson(*messages(2500))
    with monkeypatch.context() as patch:
        batches = failing(api, patch, 2, taken=taken)
        first = await post(api, channel, body, "k")
    confirmed, unconfirmed = [*batches[0], *batches[1]], batches[2]
    assert [item["message_id"] for item in first.result["messages"] if "message_id" in item] == confirmed
    again = await post(api, channel, body, "k")
    assert (outcomes(again), again.headers.get(REPLAYED)) == ([None] * 2500, None)
    assert ids(again)[: len(confirmed) + len(unconfirmed)] == confirmed + unconfirmed
    sent = confirmed + unconfirmed * taken + ids(again)[len(confirmed) :]
    assert [each["message_id"] for each in await queued(api, channel, len(sent))] == sent
    third = await post(api, channel, body, "k")
    assert (third.headers.get(REPLAYED), third.body) == ("true", again.body)
    await queued(api, channel, 0)


async def test_what_was_refused_stays_so_in_all_repeats(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    channel = await api.create(character_limit=10)
    body = ndjson(*({"to": "+1", "content": "x" * length} for length in (15, 8, 1)))
    with monkeypatch.context() as patch:
        failing(api, patch, 0)
        first = await post(api, channel, body, "k")
    assert (first.status, outcomes(first)) == (503, ["MessageTooLong", "BrokerUnavailable", "BrokerUnavailable"])
    await api("POST", f"/channels/{channel}", json={"character_limit": 5})
    second = await post(api, channel, body, "k")
    assert outcomes(second) == ["MessageTooLong", "MessageTooLong", None]
    await api("POST", f"/channels/{channel}", json={"character_limit": 0})
    third = await post(api, channel, body, "k")
    assert (third.body, third.headers.get(REPLAYED)) == (second.body, "true")
    await queued(api, channel, 1)


async def test_killed_in_the_middle_the_repeat_sends_the_rest(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    channel = await api.create()
    body = ndjson(*messages(700))
    monkeypatch.setattr("junebug.api.idempotency.BULK_LEASE", 0.001)
    publish, calls, killed = api.broker.publish_many, [], asyncio.Event()

    async def dies(queue: str, bodies: Sequence[bytes], **options: Any) -> None:
        calls.append(bodies)
        if len(calls) > 1:
            killed.set()
            await asyncio.Event().wait()
        await publish(queue, bodies, **options)

    with monkeypatch.context() as patch:
        patch.setattr(api.broker, "publish_many", dies)
        dead = asyncio.create_task(post(api, channel, body, "k"))
        await killed.wait()
    answer = await post(api, channel, body, "k")
    assert outcomes(answer) == [None] * 700
    assert [each["message_id"] for each in await queued(api, channel, 700)] == ids(answer)
    key = names.idempotency_key(channel, "k")
    assert 0 < (await api.stores._redis.run(("TTL", key)))[0] <= api.settings.outbound_message_ttl
    dead.cancel()


async def test_what_was_sent_but_could_not_be_noted_is_answered_and_keeps_its_ids(
    quick: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = await quick.create()

    async def away(*_: Any) -> None:
        raise StoreUnavailable("Redis is away")

    with monkeypatch.context() as patch:
        patch.setattr(quick.stores.idempotency, "note", away)
        first = await post(quick, channel, ndjson(*messages(300)), "k")
    again = await post(quick, channel, ndjson(*messages(300)), "k")
    assert (first.status, again.body, again.headers.get(REPLAYED)) == (201, first.body, None)
    await queued(quick, channel, 600)


# --- taking the body apart --------------------------------------------------------------------------------------------


async def test_an_array_is_cut_where_its_items_end() -> None:
    chance = random.Random(7)

    def value(depth: int) -> Any:
        kinds = [lambda: chance.choice([None, True, 1.5, -3, "", "é😀", 'a"b', "\\", '\\"', "[,]", "{}", ",", "\\\\", "\n"])]
        if depth:
            kinds.append(lambda: [value(depth - 1) for _ in range(chance.randrange(4))])
            kinds.append(lambda: {str(value(0)): value(depth - 1) for _ in range(chance.randrange(4))})
        return chance.choice(kinds)()

    for _ in range(2000):
        items = [value(3) for _ in range(chance.randrange(1, 6))]
        text = json.dumps(items, indent=chance.choice([None, 1]), ensure_ascii=chance.choice([True, False])).encode()
        assert [orjson.loads(text[begin:end]) for begin, end in await bulk_body.spans(text)] == items


PATHOLOGICAL = [
    (b" " * 4_000_000, ApiUsageError),
    (b"\n" * 4_000_000, ApiUsageError),
    (b"[" * 1_000_000, JsonDecodeError),
    (b'["' + b'\\"' * 1_000_000, JsonDecodeError),
    (b'["' + b'\\"' * 500_000 + b"\\", JsonDecodeError),
    (b'["' + b"\\" * 4_000_001, JsonDecodeError),
    (b'["' + b'\\\\\\"' * 500_000, JsonDecodeError),
    (b'[{"' + b"x" * 4_000_000, JsonDecodeError),
    (b"[" + b"," * 4_000_000, PayloadTooLarge),
    (b"[[" + b"," * 1_000_000, JsonDecodeError),
    (b"[" + b'"' * 1_000_001, JsonDecodeError),
    (b"[" + b'"\\' * 1_000_000, JsonDecodeError),
    (b"[" + b'{"a":"' + b"\\n" * 2_000_000 + b'",[', JsonDecodeError),
    (b"[" + (b'{"a":"' + b"\\n" * 150 + b'"' + b',"b":"c"' * 60 + b"[]},") * 9_000, JsonDecodeError),
    (b"[" + (b" " * 900 + b'{"a"[]},') * 9_000, JsonDecodeError),
]


@pytest.mark.parametrize(("body", "error"), PATHOLOGICAL, ids=range(len(PATHOLOGICAL)))
async def test_no_body_takes_more_than_linear_time(body: bytes, error: type[Exception]) -> None:
    """The test's own time limit would end one that is quadratic."""
    with pytest.raises(error):
        await asyncio.wait_for(bulk_body.spans(body), 120)
