"""The pure parts: API JSON <-> domain, schemas, the cache of specs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from junebug.api import schemas, views
from junebug.api.handlers.logs import parse_count
from junebug.api.spec_cache import MAX_AGE, SpecCache
from junebug.errors import ApiUsageError, ChannelNotFound, InvalidBody, MessageTooLong
from junebug.model.messages import UserMessage
from junebug.model.spec import ChannelSpec
from tests.api.conftest import REGISTRY
from tests.polling import takes_less
from tests.tables import rows


@pytest.mark.parametrize(
    ("channel_data", "session_event", "rest"),
    [
        (None, None, {}),
        ({}, None, {}),
        ({"x": 1}, None, {"x": 1}),
        ({"continue_session": True, "x": 1}, "resume", {"x": 1}),
        ({"continue_session": False}, "close", {}),
        ({"continue_session": None}, None, {}),
        ({"session_event": "new"}, "new", {}),
        ({"session_event": "new", "continue_session": False}, "new", {}),
        ({"session_event": None, "continue_session": False}, "close", {}),
    ],
)
def test_channel_data_says_what_becomes_of_the_session(
    channel_data: dict[str, Any] | None, session_event: str | None, rest: dict[str, Any]
) -> None:
    body = {"content": "x", "to": "1", "channel_data": channel_data}
    inbound = UserMessage(to_addr="a", from_addr="b", content="c", transport_name="t", helper_metadata={"its": "own"})
    for message in (views.new_message(body, "c"), views.new_reply(body, "c", inbound)):
        assert (message.session_event, message.helper_metadata) == (session_event, rest)


def test_the_body_that_was_sent_is_left_as_it_is() -> None:
    body = {"content": "x", "to": "1", "channel_data": {"continue_session": True}}
    views.new_message(body, "c")
    assert body["channel_data"] == {"continue_session": True}


def test_a_given_from_and_group_override_those_of_the_message_replied_to() -> None:
    inbound = UserMessage(to_addr="a", from_addr="b", content="c", transport_name="t", group="g")
    reply = views.new_reply({"content": "x", "reply_to": "y", "from": "", "group": "h"}, "c", inbound)
    assert (reply.to_addr, reply.from_addr, reply.group) == ("b", "", "h")


@pytest.mark.parametrize(
    ("body", "both_allowed", "problem"),
    [
        ({"to": "1"}, False, None),
        ({"reply_to": "1"}, False, None),
        ({"to": "1", "reply_to": None}, False, None),
        ({"to": "1", "reply_to": "2"}, True, None),
        ({"to": "1", "reply_to": "2"}, False, "Only one"),
        ({}, False, "Either"),
        ({"to": None, "reply_to": None}, True, "Either"),
    ],
)
def test_exactly_one_of_to_and_reply_to_is_needed(
    body: dict[str, Any], both_allowed: bool, problem: str | None
) -> None:
    if problem is None:
        views.check_addressing(body, both_allowed)
    else:
        with pytest.raises(ApiUsageError, match=problem):
            views.check_addressing(body, both_allowed)


def test_characters_are_counted_not_bytes() -> None:
    views.check_length({"content": "😀😀"}, 2)
    with pytest.raises(MessageTooLong, match="length 3.*limit of 2"):
        views.check_length({"content": "abc"}, 2)


@pytest.mark.parametrize(
    ("old", "new", "restarts"),
    [
        ({"port": 1}, {"port": 1}, False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, False),
        ({"a": 1}, {"a": True}, True),
        ({"a": 0}, {"a": False}, True),
        ({"a": None}, {}, True),
    ],
)
def test_a_config_is_compared_as_json_sees_it(old: dict[str, Any], new: dict[str, Any], restarts: bool) -> None:
    one, other = (ChannelSpec(id="c", type="t", config=config) for config in (old, new))
    assert views.needs_restart(one, other) is restarts


def test_a_whole_number_with_a_point_is_stored_as_an_integer() -> None:
    spec = views.new_channel("c", {"type": "plain", "config": {}, "character_limit": 10.0}, REGISTRY)
    assert type(spec.character_limit) is int


def test_what_was_read_can_be_sent_back() -> None:
    spec = views.new_channel("c", {"type": "guarded", "config": {"password": "p"}, "label": "l"}, REGISTRY)
    shown = views.channel_json(spec, REGISTRY, views.NEW_STATUS)
    back = views.changed_channel(spec, schemas.channel_update.check(shown), REGISTRY)
    assert not views.is_changed(spec, back)


@pytest.mark.parametrize(
    ("statuses", "worst"),
    [([], None), (["ok"], "ok"), (["ok", "degraded"], "degraded"), (["degraded", "down", "ok"], "down")],
)
def test_the_status_is_the_worst_of_its_components(statuses: list[str], worst: str | None) -> None:
    components = {str(n): {"status": status} for n, status in enumerate(statuses)}
    assert views.status_json(components, {}, None, None)["status"] == worst


@pytest.mark.parametrize(
    "url",
    ["http://a", "https://user:pass@a.example:8443/x?y=z#f", "http://[::1]:80/", "HTTP://A/", "http://a/{message_id}"],
)
def test_a_url_that_can_be_posted_to_is_taken(url: str) -> None:
    assert not schemas.http_url_problem(url)


@pytest.mark.parametrize(
    "url", ["", "a", "//a/", "ftp://a/", "http:///a", "http://a:0/", "http://a:x/", "http://a b/", "http://[::1/", "http://a/\n"]
)
def test_a_url_that_cannot_be_posted_to_is_refused(url: str) -> None:
    assert schemas.http_url_problem(url)


def test_a_problem_never_quotes_the_value() -> None:
    with pytest.raises(InvalidBody) as caught:
        schemas.channel_create.check({"type": "t", "config": ["s3cret"], "mo_url_auth_token": ["s3cret"]})
    assert "s3cret" not in str(caught.value.errors())


def test_a_problem_is_of_a_readable_length() -> None:
    with pytest.raises(InvalidBody) as caught:
        schemas.channel_create.check({"type": "t", "config": {}, "x" * 100_000: 1})
    assert len(str(caught.value.errors())) < 1000


def test_more_log_entries_than_the_most_are_the_most() -> None:
    assert [parse_count(text, 100) for text in (None, "0", "7", "100", "101", "9" * 5000)] == [100, 0, 7, 100, 100, 100]


class Store:
    """ChannelStore's `get`, as slow as a test wants it."""

    def __init__(self) -> None:
        self.label = "one"
        self.reads = 0
        self.gate: asyncio.Event | None = None

    async def get(self, channel: str) -> ChannelSpec:
        self.reads += 1
        if channel == "unknown":
            raise ChannelNotFound(channel)
        spec = ChannelSpec(id=channel, type="t", config={}, label=self.label)
        if self.gate:
            await self.gate.wait()
        return spec


async def test_a_spec_is_at_hand_for_a_second() -> None:
    now, store = [0.0], Store()
    cache = SpecCache(store, lambda: now[0])  # type: ignore[arg-type]
    for when, reads in ((0.0, 1), (MAX_AGE - 0.01, 1), (MAX_AGE, 2)):
        now[0] = when
        await cache.get("c")
        assert store.reads == reads


async def test_what_does_not_exist_is_not_remembered() -> None:
    store = Store()
    cache = SpecCache(store)  # type: ignore[arg-type]
    for _ in range(2):
        with pytest.raises(ChannelNotFound):
            await cache.get("unknown")
    assert store.reads == 2


async def test_what_was_read_before_a_change_is_not_kept_after_it() -> None:
    store = Store()
    cache = SpecCache(store)  # type: ignore[arg-type]
    store.gate = asyncio.Event()
    reading = asyncio.create_task(cache.fetch("c"))
    await asyncio.sleep(0)
    store.label = "two"
    cache.drop("c")
    store.gate.set()
    assert (await reading).label == "one"
    assert (await cache.get("c")).label == "two"


async def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("junebug.api.spec_cache.MAX_SPECS", 10)
    cache = SpecCache(Store())  # type: ignore[arg-type]
    for n in range(25):
        await cache.fetch(str(n))
    assert len(cache._known) <= 10


ODD_TEXTS = [
    "", "(" * 3000, "{" * 3000, "[" * 3000, "{99999999999999}", "é", "\ud800", "\0", "\u202e", "a=b", "*", "x" * 1_000_000, "http://xn--/",
    "http://[::1", "http://h:" + "9" * 5000, "http://" + "{" * 3000, "http://h/" + "{a," * 3000, "http://h/" + "%" * 3000,
    "http://h/{content:99999999999999}", "http://a%3Ab@h/", "http://" + "xn--" * 50 + "/", "http://" + "é" * 3000, "http://\ud800/",
    "whsec_", "whsec_" + "é" * 40, "whsec_" + "A" * 999_999, "0001-01-01T00:00:00+02:00", "9999-12-31T23:59:59-12:00",
    "2026-W99-9", "2026-11-26T00:00:00+99:99", "²", "１２", "inf", "99999999999999-01-01",
]  # fmt: skip


@rows("text", ODD_TEXTS)
@rows("name", schemas.FORMATS)
def test_a_validator_says_what_is_wrong_whatever_it_is_given(name: str, text: str) -> None:
    assert isinstance(schemas.FORMATS[name](text), str)
    assert takes_less(0.5, lambda: schemas.FORMATS[name](text))
