"""The twitter type and X's API at the wire: tweets, threads, direct messages, what came meanwhile, limits and refusals."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from junebug.errors import InvalidBody, InvalidChannelConfig, NotSent, Rejected, UnknownOutcome
from junebug.registry import Registry
from junebug.stores.transport import TransportStore
from junebug.transports.twitter import CHANNEL_TYPE
from tests.polling import eventually
from tests.tables import rows
from tests.transports.running import Running, message_to
from tests.transports.x_api import KEYS, FakeX, Scripted, forbidden, too_many

TWEETS, ME, MENTIONS, DMS = "POST /2/tweets", "GET /2/users/me", "GET /2/users/1/mentions", "GET /2/dm_events"


@pytest.fixture
async def x() -> AsyncIterator[FakeX]:
    async with FakeX() as api:
        yield api


def channel(x: FakeX, store: TransportStore, **config: Any) -> Running:
    return Running(CHANNEL_TYPE, x.config(**config), store)


@rows(
    ("config", "field"),
    [
        ({}, "config"), ({"consumer_key": "a"}, "config"), ({**KEYS, "base_url": "ftp://x"}, "config.base_url"),
        ({**KEYS, "base_url": "http://x/path"}, "config.base_url"), ({"bearer_token": "a b"}, "config.bearer_token"),
        ({**KEYS, "tweet_limit": 0}, "config.tweet_limit"), ({**KEYS, "send_as": "fax"}, "config.send_as"),
    ],
)  # fmt: skip
def test_a_wrong_config_names_the_field(config: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidChannelConfig) as raised:
        Registry([CHANNEL_TYPE]).validate_config("twitter", config)
    assert field in [name for name, _ in raised.value.problems]


def test_a_message_is_one_or_the_other() -> None:
    registry = Registry([CHANNEL_TYPE])
    for right in ({"tweet": True}, {"direct_message": True}, {"tweet": False, "direct_message": True}, {"other": 1}):
        registry.validate_channel_data("twitter", right)
    for wrong in ({"tweet": True, "direct_message": True}, {"tweet": "yes"}):
        with pytest.raises(InvalidBody):
            registry.validate_channel_data("twitter", wrong)


# --- out ------------------------------------------------------------------------------------------------------------------


async def test_tweets(x: FakeX, store: TransportStore) -> None:
    async with channel(x, store) as bot:
        id = await bot.send("@alice", "Hej ☃ 😀 & <b>")
        assert x.tweets[-1] == {"id": id, "author_id": "1", "text": "@alice Hej ☃ 😀 & <b>", "reply": None}
        for everybody in (None, "NO_USER"):
            await bot.send(everybody, f"to everybody: {everybody}")
            assert x.tweets[-1]["text"] == f"to everybody: {everybody}"
        assert [(each.status, each.type) for each in bot.statuses] == [("down", "connecting"), ("ok", "connected")]
        assert bot.statuses[-1].message == "Connected as @bot"


async def test_an_oauth_2_token_does_as_well(x: FakeX, store: TransportStore) -> None:
    config = {name: value for name, value in x.config().items() if name not in KEYS}
    async with Running(CHANNEL_TYPE, {**config, "bearer_token": "the-bearer-token"}, store) as bot:
        await bot.send("alice", "hi")
        await x.was_polled()
        assert x.by_bot() == ["@alice hi"]


async def test_direct_messages(x: FakeX, store: TransportStore) -> None:
    async with channel(x, store) as bot:
        id = await bot.send("@alice", "psst", helper_metadata={"direct_message": True})
        assert x.direct_messages[-1]["id"] == id
        assert x.direct_messages[-1]["dm_conversation_id"] == "1-2"
        await bot.send("@alice", "psst again", helper_metadata={"tweet": False})
        assert x.asked.count("GET /2/users/by/username/alice") == 1  # it is remembered
        await bot.send("3", "by id", helper_metadata={"direct_message": True})
        await bot.send("@alice", "a tweet", helper_metadata={"direct_message": False})
        assert x.by_bot() == ["@alice a tweet"]
    async with channel(x, store, send_as="direct_message") as bot:
        await bot.send("@bob", "by option")
        assert [each["text"] for each in x.direct_messages] == ["psst", "psst again", "by id", "by option"]


async def test_a_long_text_is_refused_or_a_thread(x: FakeX, store: TransportStore) -> None:
    text = " ".join(f"word{number:03}" for number in range(60))
    async with channel(x, store) as bot:
        with pytest.raises(Rejected, match=r"content: it has 486 characters as X counts them, of 280 at most"):
            await bot.send("@alice", text)
    async with channel(x, store, long_tweets="split") as bot:
        ids = str(await bot.send("@alice", text)).split(",")
        assert [each["id"] for each in x.tweets] == ids
        assert [each["reply"] for each in x.tweets] == [None, *ids[:-1]]
        assert " ".join(x.by_bot()) == f"@alice {text}"


async def test_a_thread_that_was_stopped_by_a_limit_goes_on_where_it_was(x: FakeX, store: TransportStore) -> None:
    async with channel(x, store, long_tweets="split", tweet_limit=10) as bot:
        x.scripted[TWEETS] += [Scripted(503), too_many(1)]
        message = message_to(None, "one two three four five")
        await bot.status("twitter", "connected")
        for _ in range(2):
            with pytest.raises(NotSent):
                await bot.transport.send(message)
        await bot.send(None, "one two three four five", message_id=message.message_id)
        assert x.by_bot() == ["one two", "three four", "five"]


@rows(
    ("to", "content", "data", "reason"),
    [
        ("@nobody", "x", {"direct_message": True}, "to: there is no user nobody"),
        ("no body", "x", {"direct_message": True}, "to: it is neither a user's name nor an id"),
        (None, "x", {"direct_message": True}, "to: it is neither a user's name nor an id"),
        ("@no/body?", "x", {}, "to: it is no user's name"),
        ("@alice", "", {}, "content: it is empty"),
        ("@alice", None, {"direct_message": True}, "content: it is empty"),
        ("@alice", "x" * 10_001, {"direct_message": True}, "content: a direct message has at most 10000 characters"),
        ("@alice", "x" * 1_000_000, {}, "content: it has 1000007 characters as X counts them, of 280 at most"),
    ],
)
async def test_what_can_never_arrive_is_rejected(
    x: FakeX, store: TransportStore, to: str | None, content: str | None, data: dict[str, Any], reason: str
) -> None:
    async with channel(x, store) as bot:
        with pytest.raises(Rejected) as raised:
            await bot.send(to, content, helper_metadata=data)
        assert reason in raised.value.reason


@rows(
    ("answer", "reason"),
    [
        (forbidden("You are not allowed to create a Tweet with duplicate content."), "duplicate content"),
        (forbidden("Reply to this conversation is not allowed"), "is not allowed"),
        (Scripted(400, {"errors": [{"message": "text is wrong"}], "title": "Invalid Request"}), "text is wrong"),
        (Scripted(404, {"title": "Not Found"}), "Not Found"),
        (Scripted(400, b"<html>"), "no reason given"),
        (Scripted(400, {"errors": 5, "detail": ["x"], "title": {}}), "no reason given"),
        (Scripted(400, {"detail": "x" * 100_000}), "x" * 300),
    ],
)
async def test_what_x_refuses_is_rejected_and_says_why(x: FakeX, store: TransportStore, answer: Scripted, reason: str) -> None:
    async with channel(x, store) as bot:
        await bot.status("twitter", "connected")
        x.scripted[TWEETS].append(answer)
        with pytest.raises(Rejected) as raised:
            await bot.transport.send(message_to("@alice", "x"))
        assert reason in raised.value.reason
        assert len(raised.value.reason) <= 300
        assert bot.statuses[-1].type == "connected"


async def test_a_limit_is_waited_out(x: FakeX, store: TransportStore) -> None:
    async with channel(x, store) as bot:
        await bot.status("twitter", "connected")
        x.scripted[TWEETS].append(too_many(2))
        with pytest.raises(NotSent) as raised:
            await bot.transport.send(message_to("@alice", "x"))
        assert 1 <= raised.value.retry_after <= 2
        limited = await bot.status("twitter", "rate_limited")
        assert limited.status == "degraded"
        with pytest.raises(NotSent):
            await bot.transport.send(message_to("@alice", "x"))
        assert x.asked.count(TWEETS) == 1  # nothing is asked before
        await bot.send("@alice", "x")
        await bot.status("twitter", "connected", after=bot.statuses.index(limited))
        assert x.by_bot() == ["@alice x"]


async def test_the_last_request_of_a_quarter_of_an_hour_is_known_as_such(x: FakeX, store: TransportStore) -> None:
    async with channel(x, store) as bot:
        await bot.status("twitter", "connected")
        headers = {"x-rate-limit-remaining": "0", "x-rate-limit-reset": str(int(time.time()) + 900)}
        x.scripted[TWEETS].append(Scripted(201, {"data": {"id": "7"}}, headers))
        assert await bot.transport.send(message_to("@alice", "x")) == "7"
        with pytest.raises(NotSent) as raised:
            await bot.transport.send(message_to("@alice", "y"))
        assert 890 < raised.value.retry_after <= 900


@rows(
    ("headers", "low", "high"),
    [
        ({}, 59, 60), ({"x-rate-limit-reset": "soon"}, 59, 60), ({"x-rate-limit-reset": "1"}, 59, 60),
        ({"x-rate-limit-reset": "9" * 400}, 59, 60), ({"x-rate-limit-reset": "9" * 15}, 86_399, 86_400),
        ({"x-user-limit-24hour-remaining": "0", "x-user-limit-24hour-reset": str(int(time.time()) + 40_000)}, 39_000, 40_000),
    ],
)  # fmt: skip
async def test_how_long_is_waited(x: FakeX, store: TransportStore, headers: dict[str, str], low: float, high: float) -> None:
    async with channel(x, store) as bot:
        await bot.status("twitter", "connected")
        x.scripted[TWEETS].append(Scripted(429, {}, headers))
        with pytest.raises(NotSent) as raised:
            await bot.transport.send(message_to("@alice", "x"))
        assert low <= raised.value.retry_after <= high


async def test_a_limit_that_is_over_already_costs_a_second(x: FakeX, store: TransportStore) -> None:
    async with channel(x, store) as bot:
        await bot.status("twitter", "connected")
        x.scripted[TWEETS].append(Scripted(429, {}, {"x-rate-limit-reset": str(int(time.time()))}))
        with pytest.raises(NotSent) as raised:
            await bot.transport.send(message_to("@alice", "x"))
        assert raised.value.retry_after <= 1


@rows("status", [500, 502, 504, 302])
async def test_a_broken_answer_is_an_unknown_outcome_and_a_duplicate_then_an_arrival(
    x: FakeX, store: TransportStore, status: int
) -> None:
    async with channel(x, store, mentions=False, direct_messages=False) as bot:
        await bot.status("twitter", "connected")
        x.scripted[TWEETS].append(Scripted(status, b"<html>", after=True))
        message = message_to("@alice", f"once {status}")
        with pytest.raises(UnknownOutcome):
            await bot.transport.send(message)
        await bot.send("@alice", message.content, message_id=message.message_id)
        assert x.by_bot().count(f"@alice once {status}") == 1


async def test_no_answer_is_an_unknown_outcome(x: FakeX, store: TransportStore) -> None:
    async with channel(x, store, request_timeout=0.2) as bot:
        await bot.status("twitter", "connected")
        x.scripted[TWEETS] += [Scripted(hang=True), Scripted(200, b"[" * 5_000_000), Scripted(200, b"[]")]
        for _ in range(3):
            with pytest.raises(UnknownOutcome):
                await bot.transport.send(message_to("@alice", "x"))


# --- in -------------------------------------------------------------------------------------------------------------------


async def test_a_mention_and_the_reply_to_it(x: FakeX, store: TransportStore) -> None:
    x.tweet("2", "@bot before the channel was there")
    async with channel(x, store) as bot:
        await x.was_polled()
        id = x.tweet("2", "@bot hello ☃")
        x.tweet("2", "nothing to @others")
        came = await bot.heard("@bot hello ☃")
        assert (came.from_addr, came.to_addr, came.group, came.transport_type) == ("@alice", "@bot", None, "twitter")
        assert came.helper_metadata == {"tweet": True, "twitter": {"status_id": id}}
        await bot.send("@alice", "hello yourself", transport_metadata=came.transport_metadata)
        assert (x.tweets[-1]["text"], x.tweets[-1]["reply"]) == ("hello yourself", id)
        assert len(bot.inbound) == 1


async def test_a_direct_message_and_the_reply_to_it(x: FakeX, store: TransportStore) -> None:
    async with channel(x, store) as bot:
        await x.was_polled()
        x.direct_message("3", "psst")
        x.direct_message("2", "all of you", conversation="777")
        came = await bot.heard("psst")
        assert (came.from_addr, came.to_addr, came.group) == ("@bob", "@bot", None)
        assert came.helper_metadata["direct_message"] is True
        await bot.send("@bob", "what?", transport_metadata=came.transport_metadata)
        assert (x.direct_messages[-1]["text"], x.direct_messages[-1]["dm_conversation_id"]) == ("what?", "1-3")
        came = await bot.heard("all of you")
        assert came.group == "777"
        await bot.send("@alice", "yes", group="777", transport_metadata=came.transport_metadata)
        assert (x.direct_messages[-1]["text"], x.direct_messages[-1]["dm_conversation_id"]) == ("yes", "777")
        assert not [each for each in x.asked if "by/username" in each]


async def test_what_came_while_the_channel_was_away_comes_once_and_in_order(x: FakeX, store: TransportStore) -> None:
    async with channel(x, store) as bot:
        await x.was_polled()
        x.tweet("2", "@bot 0")
        await bot.heard("@bot 0")
        await x.was_polled()
    x.page_size = 10
    for number in range(1, 36):
        x.tweet("2", f"@bot {number}")
        x.direct_message("2", f"dm {number}")
    x.tweet("1", "@bot talks to itself")
    x.direct_message("1", "what it sent itself")
    async with channel(x, store) as bot:
        await bot.heard("@bot 35")
        await bot.heard("dm 35")
        await x.was_polled()
        found = [each.content for each in bot.inbound]
        assert [each for each in found if each and "@bot" in each] == [f"@bot {number}" for number in range(1, 36)]
        assert [each for each in found if each and "dm" in each] == [f"dm {number}" for number in range(1, 36)]
        assert len(found) == 70


async def test_pages_have_an_end(x: FakeX, store: TransportStore) -> None:
    async with channel(x, store, direct_messages=False) as bot:
        await eventually(lambda: x.asked.count(MENTIONS) >= 2)
        endless = {"data": [{"id": "9999", "author_id": "2", "text": "@bot again"}], "meta": {"next_token": "more"}}
        x.scripted[MENTIONS] += [Scripted(200, endless)] * 1000
        before = x.asked.count(MENTIONS)
        await bot.heard("@bot again")
        assert x.asked.count(MENTIONS) - before < 30


@rows(
    "body",
    [
        {"data": 5}, {"data": [5, None, {}, {"id": 7}, {"id": "x"}, {"id": "7" * 100}, {"id": "5001"}]}, {"meta": 5},
        {"includes": []}, {"includes": {"users": 5}}, {"data": [{"id": "5002", "author_id": ["2"], "text": 7}]},
        {"includes": {"users": [7, {"id": [], "username": {}}]}},
        {"data": [{"id": "5003", "author_id": "2"}], "meta": {"next_token": {}}},
    ],
)  # fmt: skip
async def test_answers_that_make_no_sense_are_passed_over(x: FakeX, store: TransportStore, body: dict[str, Any]) -> None:
    async with channel(x, store, direct_messages=False) as bot:
        await eventually(lambda: x.asked.count(MENTIONS) >= 2)
        x.scripted[MENTIONS].append(Scripted(200, body))
        await eventually(lambda: not x.scripted[MENTIONS])
        number = len(x.tweets)
        x.tweet("2", f"@bot makes sense {number}")
        await bot.heard(f"@bot makes sense {number}")
        assert len(bot.inbound) == 1


async def test_a_limit_on_looking_is_waited_out(x: FakeX, store: TransportStore) -> None:
    async with channel(x, store, direct_messages=False) as bot:
        await eventually(lambda: x.asked.count(MENTIONS) >= 2)
        x.scripted[MENTIONS].append(too_many(2))
        limited = await bot.status("twitter", "rate_limited")
        assert (limited.status, "X wants fewer requests" in limited.message) == ("degraded", True)
        x.tweet("2", "@bot later")
        await bot.heard("@bot later")
        await bot.status("twitter", "connected", after=bot.statuses.index(limited))


# --- the account ----------------------------------------------------------------------------------------------------------


async def test_wrong_keys_are_told_and_tried_again(x: FakeX, store: TransportStore) -> None:
    async with channel(x, store, access_token_secret="a-wrong-secret") as bot:
        refused = await bot.status("twitter", "auth_failed")
        assert (refused.status, refused.message) == ("down", "X refuses the account: 401 Unauthorized")
        await eventually(lambda: x.asked.count(ME) >= 3)
        with pytest.raises(NotSent):
            await bot.transport.send(message_to("@alice", "x"))


async def test_an_application_that_may_not_is_down_and_keeps_its_messages(x: FakeX, store: TransportStore) -> None:
    async with channel(x, store, mentions=False, direct_messages=False) as bot:
        await bot.status("twitter", "connected")
        kind = "https://api.twitter.com/2/problems/oauth1-permissions"
        x.scripted[TWEETS].append(forbidden("Your client app is not configured with the appropriate permissions", type=kind))
        with pytest.raises(NotSent):
            await bot.transport.send(message_to("@alice", "x"))
        down = await bot.status("twitter", "forbidden")
        assert down.status == "down"
        await bot.send("@alice", "x")
        await bot.status("twitter", "connected", after=bot.statuses.index(down))


async def test_an_api_that_is_away_is_asked_again(x: FakeX, store: TransportStore) -> None:
    async with channel(x, store) as bot:
        await bot.status("twitter", "connected")
        await x.was_polled()
        before = len(bot.statuses)
        await x.stop()
        lost = await bot.status("twitter", "connection_lost", after=before)
        assert lost.status == "down"
        with pytest.raises(NotSent):
            await bot.transport.send(message_to("@alice", "x"))
        await x.start()
        await bot.status("twitter", "connected", after=before)
        await bot.send("@alice", "back again")
        x.tweet("2", "@bot back, too")
        await bot.heard("@bot back, too")
