"""Dead letters: seen without secrets, given to the application once more, deleted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from junebug import names
from junebug.model.callbacks import Callback, DeadLetter
from junebug.model.messages import Event, Status, UserMessage
from junebug.model.presenter import body_of
from tests.api.conftest import Api

CHANNEL = "c"
MO = UserMessage(to_addr="8110", from_addr="+27", content="hi", transport_name=CHANNEL)
REPORT = Event(event_type="delivery_report", user_message_id="m", delivery_status="failed", transport_name=CHANNEL)
STATUS = Status(channel_id=CHANNEL, component="amqp", status="down", type="lost", message="away")


@pytest.fixture(params=["classic", "quorum"], autouse=True)
def queue_type(api: Api, request: pytest.FixtureRequest) -> Iterator[str]:
    """Which kind of queues channels have."""
    api.broker.is_quorum = request.param == "quorum"
    yield request.param
    api.broker.is_quorum = False


def own(api: Api, queue: str) -> str:
    return names.of_kind(queue, api.broker.is_quorum)


def letter(callback: Callback, reason: Any = "too_old", error: str = "HTTP 500") -> DeadLetter:
    return DeadLetter(reason=reason, error=error, callback=callback)


def inbound(**fields: Any) -> Callback:
    message = UserMessage(to_addr="8110", from_addr="+27", content="hi", transport_name=CHANNEL)
    return Callback(to="mo_url", kind="inbound", id=message.message_id, wire=message.to_wire(), attempts=9, **fields)


UNREADABLE = DeadLetter(reason="unreadable", error="not JSON", queue="q.outbound", body=b'{"a": \xff')


async def bury(api: Api, channel: str, *letters: DeadLetter | bytes) -> None:
    bodies = [each if isinstance(each, bytes) else each.to_wire() for each in letters]
    await api.broker.publish_many(own(api, names.dead_queue(channel)), bodies)


async def callbacks(api: Api, channel: str, count: int) -> list[Callback]:
    return [Callback.from_wire(each.body) for each in await api.taken(own(api, names.callback_queue(channel)), count)]


async def shown(api: Api, channel: str, query: str = "") -> dict[str, Any]:
    answer = await api("GET", f"/channels/{channel}/dead-letters/{query}")
    assert (answer.status, answer.description) == (200, "dead letters listed")
    return dict(answer.result)


async def test_each_is_shown_as_the_application_would_have_got_it_the_oldest_first(api: Api) -> None:
    channel = await api.create()
    letters = [
        letter(Callback(to="mo_url", kind="inbound", id="1", wire=MO.to_wire(), attempts=5), "refused", "HTTP 400"),
        letter(Callback(to="event_url", kind="event", id="2", wire=REPORT.to_wire(), url="http://a/", attempts=7)),
        letter(Callback(to="status_url", kind="status", id="3", wire=STATUS.to_wire())),
        UNREADABLE,
    ]
    await bury(api, channel, *letters)
    result = await shown(api, channel)
    heads = [{"id": each.id, "timestamp": each.timestamp, "reason": each.reason, "error": each.error} for each in letters]
    assert result == {
        "dead_letters": [
            {**heads[0], "to": "mo_url", "kind": "inbound", "attempts": 5, "message": body_of(MO, channel)},
            {**heads[1], "to": "event_url", "kind": "event", "attempts": 7, "message": body_of(REPORT, channel)},
            {**heads[2], "to": "status_url", "kind": "status", "attempts": 0, "message": body_of(STATUS, channel)},
            {**heads[3], "queue": "q.outbound", "body": '{"a": \ufffd'},
        ],
        "limit": 100,
        "offset": 0,
        "total": 4,
    }
    page = await shown(api, channel, "?limit=2&offset=1")
    assert page == {"dead_letters": result["dead_letters"][1:3], "limit": 2, "offset": 1, "total": 4}
    assert (await shown(api, channel, "?offset=4"))["dead_letters"] == []
    assert (await shown(api, channel)) == result  # looking takes nothing away


async def test_a_channel_without_dead_letters_has_an_empty_list(api: Api) -> None:
    assert await shown(api, await api.create()) == {"dead_letters": [], "limit": 100, "offset": 0, "total": 0}


async def test_no_secret_is_shown(api: Api) -> None:
    channel = await api.create(mo_url="http://user:hunter2@example.com/", mo_url_auth_token="tok3n")
    event = Callback(to="event_url", kind="event", id="1", wire=REPORT.to_wire(), url="http://u:hunter2@a/", auth_token="s3cret")
    await bury(
        api,
        channel,
        letter(event, error="cannot reach http://u:hunter2@a/ with s3cret"),
        letter(inbound(), error="Authorization: Token tok3n"),
        DeadLetter(reason="unreadable", error="no callback", queue="x", body=event.to_wire()),
    )
    text = str(await shown(api, channel))
    for secret in ("hunter2", "tok3n", "s3cret"):
        assert secret not in text


async def test_a_body_that_cannot_be_read_is_cut(api: Api) -> None:
    channel = await api.create()
    await bury(api, channel, DeadLetter(reason="unreadable", error="e", queue="q", body="é".encode() * 20_000), b"not ours")
    first, second = (await shown(api, channel))["dead_letters"]
    assert first["body"] == "é" * 10_000
    assert (second["body"], second["id"], second["reason"]) == ("not ours", "", "unreadable")


async def test_a_replay_gives_all_to_the_application_again_as_if_new(api: Api) -> None:
    channel = await api.create()
    event = Callback(to="event_url", kind="event", id="e", wire=REPORT.to_wire(), url="http://u:p@a/", auth_token="t")
    old = [inbound(since=1.0, error="x"), event]
    await bury(api, channel, letter(old[0]), UNREADABLE, letter(old[1]))
    answer = await api("POST", f"/channels/{channel}/dead-letters/replay", json={})
    assert (answer.status, answer.description) == (200, "dead letters replayed")
    assert answer.result == {"replayed": 2, "skipped": 1}
    for before, after in zip(old, await callbacks(api, channel, 2), strict=True):
        assert (after.id, after.to, after.url, after.auth_token) == (before.id, before.to, before.url, before.auth_token)
        assert orjson.loads(after.wire) == orjson.loads(before.wire)
        assert (after.attempts, after.error) == (0, "")
        assert after.since > 1_000_000_000
    (left,) = (await shown(api, channel))["dead_letters"]
    assert left["id"] == UNREADABLE.id


async def test_a_replay_without_a_body_is_one_of_all(api: Api) -> None:
    channel = await api.create()
    await bury(api, channel, letter(inbound()))
    assert (await api("POST", f"/jb/channels/{channel}/dead-letters/replay/")).result == {"replayed": 1, "skipped": 0}


async def test_a_replay_by_id_leaves_the_others_in_their_order(api: Api) -> None:
    channel = await api.create()
    letters = [letter(inbound()) for _ in range(4)]
    await bury(api, channel, *letters)
    body = {"ids": [letters[2].id, letters[0].id, "unknown"]}
    answer = await api("POST", f"/channels/{channel}/dead-letters/replay", json=body)
    assert answer.result == {"replayed": 2, "skipped": 0}
    left = (await shown(api, channel))["dead_letters"]
    assert [each["id"] for each in left] == [letters[1].id, letters[3].id]
    assert len(await callbacks(api, channel, 2)) == 2


async def test_a_replay_of_what_holds_no_message_is_skipped(api: Api) -> None:
    channel = await api.create()
    await bury(api, channel, UNREADABLE)
    answer = await api("POST", f"/channels/{channel}/dead-letters/replay", json={"ids": [UNREADABLE.id]})
    assert answer.result == {"replayed": 0, "skipped": 1}


async def test_a_replay_of_unknown_ids_is_404(api: Api) -> None:
    channel = await api.create()
    await bury(api, channel, letter(inbound()))
    answer = await api("POST", f"/channels/{channel}/dead-letters/replay", json={"ids": ["unknown"]})
    assert (answer.status, answer.errors[0]["type"]) == (404, "DeadLetterNotFound")


@pytest.mark.parametrize("body", [{"ids": []}, {"ids": None}, {"ids": "x"}, {"ids": [1]}, {"ids": [""]}, {"id": "x"}, []])
async def test_a_replay_with_a_wrong_body_is_400_and_replays_nothing(api: Api, body: Any) -> None:
    channel = await api.create()
    await bury(api, channel, letter(inbound()))
    answer = await api("POST", f"/channels/{channel}/dead-letters/replay", json=body)
    assert (answer.status, answer.errors[0]["type"]) == (400, "invalid_body")
    assert (await shown(api, channel))["total"] == 1


async def test_what_was_replayed_finds_its_queue_again_when_rabbitmq_lost_it(api: Api) -> None:
    channel = await api.create()
    await bury(api, channel, letter(inbound()))
    await api.broker.delete_queues([own(api, names.callback_queue(channel))])
    assert (await api("POST", f"/channels/{channel}/dead-letters/replay")).result["replayed"] == 1
    assert len(await callbacks(api, channel, 1)) == 1


async def test_all_are_deleted(api: Api) -> None:
    channel = await api.create()
    await bury(api, channel, *(letter(inbound()) for _ in range(5)), UNREADABLE, b"not ours")
    answer = await api("DELETE", f"/channels/{channel}/dead-letters/")
    assert (answer.status, answer.description, answer.result) == (200, "dead letters deleted", {"deleted": 7})
    assert (await shown(api, channel))["total"] == 0
    assert (await api("DELETE", f"/channels/{channel}/dead-letters")).result == {"deleted": 0}


async def test_one_is_deleted(api: Api) -> None:
    channel = await api.create()
    letters = [letter(inbound()) for _ in range(3)]
    await bury(api, channel, *letters)
    answer = await api("DELETE", f"/channels/{channel}/dead-letters/{letters[1].id}")
    assert (answer.status, answer.result) == (200, {"deleted": 1})
    assert [each["id"] for each in (await shown(api, channel))["dead_letters"]] == [letters[0].id, letters[2].id]
    again = await api("DELETE", f"/channels/{channel}/dead-letters/{letters[1].id}")
    assert (again.status, again.errors[0]["type"]) == (404, "DeadLetterNotFound")


async def test_thousands_are_gone_through(api: Api) -> None:
    channel = await api.create()
    wire = [letter(inbound()).to_wire() for _ in range(2500)]
    await bury(api, channel, *wire, UNREADABLE)
    assert (await shown(api, channel, "?limit=1&offset=2500"))["dead_letters"][0]["id"] == UNREADABLE.id
    answer = await api("POST", f"/channels/{channel}/dead-letters/replay")
    assert answer.result == {"replayed": 2500, "skipped": 1}
    assert await api.broker.queue_length(own(api, names.callback_queue(channel))) == 2500


async def test_while_somebody_else_goes_through_them_it_is_409(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("junebug.api.handlers.queue.BUSY_PATIENCE", 0.2)
    channel = await api.create()
    await bury(api, channel, letter(inbound()))
    consumer = api.broker.consume(own(api, names.dead_queue(channel)), lambda _: None, prefetch=1, exclusive=True)
    await consumer.consuming.wait()
    try:
        assert (await api("POST", f"/channels/{channel}/dead-letters/replay")).status == 409
    finally:
        await consumer.cancel()
