"""`?dry_run=true`: what a message would be, when it would leave, what it would cost; nothing is sent, kept or told."""

from __future__ import annotations

from typing import Any

import pytest

from junebug import names
from junebug.api import dry_run
from junebug.api.views import QueueCounts
from junebug.model.messages import Status, UserMessage
from junebug.model.plan import Part, Plan
from junebug.model.routing import ChannelState
from junebug.model.spec import ChannelSpec
from tests.api.conftest import Answer, Api
from tests.tables import rows

SMPP = {"host": "h", "port": 1, "system_id": "me", "password": "secret"}


async def smpp(api: Api, config: dict[str, Any] | None = None, **properties: Any) -> str:
    channel = await api.create(type="smpp", config={**SMPP, **(config or {})}, **properties)
    await api.stores.statuses.put(Status(channel_id=channel, component="smpp", status="ok", type="bound", message="x"))
    return channel


async def tried(api: Api, channel: str, form: str = "messages/", **body: Any) -> Answer:
    answer = await api("POST", f"/channels/{channel}/{form}?dry_run=true", json={"to": "27820001111", "content": "x", **body})
    assert (answer.status, answer.description) == (200, "message not sent"), answer.body
    assert answer.result["dry_run"] is True
    return answer


async def everything(api: Api) -> dict[str, Any]:
    """All that Redis has: type and content of each key, but the statuses and rates that time changes."""
    (keys,) = await api.stores._redis.run(("KEYS", "*"))
    dumps = await api.stores._redis.run(*(("TYPE", key) for key in sorted(keys)))
    return dict(zip(sorted(keys), dumps, strict=True))


@pytest.mark.parametrize("form", ["messages/", "messages", "messages.json", "messages.json/"])
async def test_nothing_is_sent_kept_or_told(api: Api, form: str) -> None:
    channel = await smpp(api)
    before = await everything(api)
    headers = {"Idempotency-Key": "k"}
    body = {"to": "27820001111", "content": "x", "event_url": "http://127.0.0.1:1/", "priority": 4}
    answer = await api("POST", f"/channels/{channel}/{form}?dry_run=true", json=body, headers=headers)
    assert answer.status == 200
    assert await everything(api) == before
    assert await api.broker.queue_length(names.outbound_queue(channel)) == 0
    sent = await api("POST", f"/channels/{channel}/messages/", json={**body, "priority": 1}, headers=headers)
    assert sent.status == 201  # the key is as good as new
    assert "message_id" not in answer.result["message"]
    await api.queued(channel)


async def test_how_it_is_encoded_and_why(api: Api) -> None:
    channel = await smpp(api, {"gsm_safe": False}, price={"amount": 0.07, "currency": "ZAR"})
    answer = await tried(api, channel, content="\u201c" + "x" * 70, **{"from": "8000"})
    told = answer.result
    assert told["encoding"] == {
        "name": "ucs2", "data_coding": 8, "reason": "GSM 03.38 has no U+201C (\u201c, at position 0)", "extended": 0,
        "forced_by": [{"character": "\u201c", "code_point": "U+201C", "position": 0}],
    }  # fmt: skip
    assert told["parts"] == [
        {"content": "\u201c" + "x" * 66, "characters": 67, "octets": 140, "header": "udh"},
        {"content": "xxxx", "characters": 4, "octets": 14, "header": "udh"},
    ]
    assert (told["characters"], told["octets"], told["to"], told["from"]) == (71, 154, "27820001111", "8000")
    assert (told["replaced"], told["would_replace"]) == ([], [{"character": "\u201c", "by": '"', "positions": [0]}])
    assert told["cost"] == {"amount": 0.14, "currency": "ZAR", "per_part": 0.07, "parts": 2}
    assert told["estimate"] == {"seconds": 0.0, "waiting": 0, "reasons": []}
    assert told["rejected"] is None
    assert "secret" not in str(answer.body)
    await api("POST", f"/channels/{channel}", json={"config": {**SMPP, "gsm_safe": True}, "price": None})
    told = (await tried(api, channel, content="\u201c" + "x" * 70)).result
    assert (told["encoding"]["name"], len(told["parts"]), told["cost"]) == ("gsm0338", 1, None)
    assert (told["would_replace"], told["replaced"][0]["by"], told["content"][0]) == ([], '"', "\u201c")


@rows(
    ("query", "body", "kind"),
    [
        ("dry_run=yes", {}, "ApiUsageError"),
        ("dry_run=", {}, "ApiUsageError"),
        ("dry_run=1", {}, "ApiUsageError"),
        ("dry_run=true", {"content": 1}, "invalid_body"),
        ("dry_run=true", {"to": None}, "ApiUsageError"),
        ("dry_run=true", {"content": "x" * 11}, "MessageTooLong"),
        ("dry_run=true", {"channel_data": {"smpp": {"nonsense": 1}}}, "invalid_body"),
        ("dry_run=true", {"channel_data": {"smpp": {"encoding": "nonsense"}}}, "invalid_body"),
        ("dry_run=true", {"to": None, "reply_to": "unknown"}, "MessageNotFound"),
        ("dry_run=true", {"expires_at": "2001-01-01"}, "ApiUsageError"),
    ],
)
async def test_what_is_refused_is_what_a_send_refuses(api: Api, limited: str, query: str, body: Any, kind: str) -> None:
    answer = await api("POST", f"/channels/{limited}/messages/?{query}", json={"to": "27", "content": "x", **body})
    assert (answer.status, answer.errors[0]["type"]) == (400, kind)
    if query == "dry_run=true":
        sent = await api("POST", f"/channels/{limited}/messages/", json={"to": "27", "content": "x", **body})
        assert (sent.status, sent.errors) == (400, answer.errors)


@pytest.fixture
async def limited(api: Api) -> str:
    return await smpp(api, character_limit=10)


async def test_an_explicit_false_sends_and_many_at_a_time_are_no_dry_run(api: Api) -> None:
    channel = await smpp(api)
    answer = await api("POST", f"/channels/{channel}/messages/?dry_run=false", json={"to": "27", "content": "x"})
    assert answer.status == 201
    await api.queued(channel)
    many = {"messages": [{"to": "27", "content": "x"}]}
    answer = await api("POST", f"/channels/{channel}/messages/bulk?dry_run=true", json=many)
    assert (answer.status, answer.errors[0]["type"]) == (400, "ApiUsageError")
    assert await api.broker.queue_length(names.outbound_queue(channel)) == 0


async def test_a_type_that_says_nothing_sends_it_as_it_is(api: Api) -> None:
    told = (await tried(api, await api.create(), content="né")).result
    assert (told["encoding"], told["parts"]) == (None, [{"content": "né", "characters": 2, "octets": 3, "header": None}])
    assert told["estimate"]["seconds"] is None
    assert told["estimate"]["reasons"] == ["the channel sends nothing at the moment: it has not started yet"]


async def test_a_reply_and_what_would_be_rejected_later(api: Api) -> None:
    channel = await smpp(api)
    inbound = UserMessage(to_addr="8110", from_addr="é", content="hi", transport_name=channel)
    await api.stores.inbound.put_all(channel, [(inbound.message_id, inbound.to_wire())])
    answer = await tried(api, channel, to=None, reply_to=inbound.message_id)
    assert (answer.result["to"], answer.result["from"]) == ("é", "8110")
    assert answer.result["rejected"] == "Invalid to_addr: é"
    assert answer.result["estimate"] == {"seconds": None, "waiting": 0, "reasons": ["it would be rejected"]}


async def test_what_waits_holds_it_up(api: Api) -> None:
    channel = await smpp(api, {"mt_tps": 2})
    for _ in range(3):
        await api("POST", f"/channels/{channel}/messages/", json={"to": "27", "content": "x"})
    assert (await tried(api, channel)).result["estimate"] == {
        "seconds": 1.5, "waiting": 3, "reasons": ["3 messages leave before it", "at most 2 parts leave a second"],
    }  # fmt: skip
    await api("POST", f"/channels/{channel}/pause")
    told = (await tried(api, channel)).result["estimate"]
    assert (told["seconds"], told["reasons"]) == (None, ["the channel sends nothing at the moment: paused"])


async def test_by_a_router_it_is_told_which_channel_and_why(api: Api) -> None:
    channel = await smpp(api, price={"amount": 1, "currency": "EUR"}, mo_url=None)
    router = await api.router("outbound", channels=[{"channel": channel}])
    answer = await api("POST", f"/routers/{router}/messages/?dry_run=true", json={"to": "27", "content": "x"})
    assert (answer.status, answer.result["channel_id"], answer.result["cost"]["amount"]) == (200, channel, 1.0)
    assert answer.result["candidates"][0]["channel"] == channel
    assert answer.result["encoding"]["name"] == "gsm0338"


@rows("price", [5, {"amount": -1, "currency": "EUR"}, {"amount": 1}, {"amount": 1, "currency": "euro"}, {"currency": "EUR"}])
async def test_a_price_that_cannot_be_is_named(api: Api, price: Any) -> None:
    body = {"type": "plain", "config": {}, "price": price}
    answer = await api("POST", "/channels/", json=body)
    assert answer.status == 400
    assert answer.errors[0]["message"].startswith("price")


# --- the estimate -----------------------------------------------------------------------------------------------------

UP = ChannelState(True, "ok")


def guessed(ahead: int | None, rate: float = 0.0, parts: int = 1, pace: float | None = None, **spec: Any) -> float | None:
    counts = None if ahead is None else QueueCounts({1: ahead}, {}, 0, 0)
    plan = Plan(parts=(Part("x", 1, 1),) * parts, pace=pace)
    channel = ChannelSpec(id="c", type="plain", config={}, **spec)
    seconds: float | None = dry_run.estimate(channel, plan, 1, UP, counts, rate)["seconds"]
    return seconds


TEN_A_MINUTE = {"rate_limit_count": 10, "rate_limit_window": 60}


@rows(
    ("given", "expected"),
    [
        ({"ahead": 0}, 0.0),
        ({"ahead": None}, None),
        ({"ahead": 5}, None),
        ({"ahead": 5, "rate": 10.0}, 0.5),
        ({"ahead": 0, **TEN_A_MINUTE}, 0.0),
        ({"ahead": 20, **TEN_A_MINUTE}, 66.0),
        ({"ahead": 9, "parts": 3, **TEN_A_MINUTE}, 12.0),
        ({"ahead": 0, "pace": 4.0, "parts": 3}, 0.5),
        ({"ahead": 20, "pace": 100.0, **TEN_A_MINUTE}, 66.0),
        ({"ahead": 5, "rate_limit_count": 0, "rate_limit_window": 60, "rate": 5.0}, 1.0),
    ],
)
def test_when_it_would_leave(given: dict[str, Any], expected: float | None) -> None:
    assert guessed(**given) == expected


def test_what_is_less_urgent_does_not_hold_it_up() -> None:
    counts = QueueCounts({1: 100, 3: 2, 5: 1}, {1: 1}, 0, 0)
    told = dry_run.estimate(ChannelSpec(id="c", type="plain", config={}), Plan(), 3, UP, counts, 1.0)
    assert told["waiting"] == 4
