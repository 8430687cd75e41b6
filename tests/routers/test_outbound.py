"""outbound: which channel takes a message."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from junebug.errors import InvalidRouterConfig, NoChannel
from junebug.model.routing import ChannelState, Choice
from junebug.routers.outbound.choice import check, choose, normalised
from junebug.routers.outbound.router import OutboundRouter
from tests.routers.messages import inbound
from tests.tables import rows

OK = ChannelState(True, "ok")
DOWN = ChannelState(False, "smpp: connection_lost")


def states(text: str) -> dict[str, ChannelState]:
    """`ab-c`: a and b are ready, c is not."""
    ready, _, down = text.partition("-")
    return dict.fromkeys(ready, OK) | dict.fromkeys(down, DOWN)


def entry(channel: str, *prefixes: str, **others: Any) -> dict[str, Any]:
    return {"channel": channel, **({"prefixes": [*prefixes]} if prefixes else {}), **others}


def chosen(config: dict[str, Any], to: str | None, ready: str, rng: Any = random.random) -> Choice:
    return choose(config, inbound(to), states(ready), rng)


def spread(config: dict[str, Any], ready: str, number: int = 4000) -> dict[str, float]:
    """Channel -> what part of so many messages it took, to addresses that are all different."""
    rng = random.Random(7)
    taken = Counter(chosen(config, f"2782{each:07}", ready, rng.random).channel for each in range(number))
    return {channel: count / number for channel, count in taken.items()}


BY_PREFIX = {"channels": [entry("a", "27"), entry("b", "2782", "+27 83"), entry("c")]}


@rows(
    ("to", "ready", "channel"),
    [
        ("+27 82 000-0001", "abc", "b"),
        ("0027(82)0000001", "abc", "b"),
        ("2783.000.0001", "abc", "b"),
        ("27840000001", "abc", "a"),
        ("447700900000", "abc", "c"),
        ("someone@example.com", "abc", "c"),
        (None, "abc", "c"),
        ("27820000001", "ac-b", "a"),  # the next shorter prefix
        ("27820000001", "c-ab", "c"),
        ("27820000001", "-abc", "b"),  # none: it waits where it would go
        ("27840000001", "b-ac", "a"),  # b is ready, but not for this number
        ("27820000001", "", "b"),  # channels that are not there
        ("27", "abc", "a"),
        ("2", "abc", "c"),
    ],
)
def test_the_longest_prefix_of_those_ready_decides(to: str | None, ready: str, channel: str) -> None:
    assert chosen(BY_PREFIX, to, ready).channel == channel


@rows(
    ("ready", "words"),
    [
        ("abc", "prefix 2782: the only one that is ready"),
        ("ac-b", "prefix 27: none of a longer prefix is ready"),
        ("c-ab", "any number: none of a longer prefix is ready"),
        ("-abc", "prefix 2782: no channel is ready, so the message waits for this one (smpp: connection_lost)"),
        ("", "prefix 2782: no channel is ready, so the message waits for this one (there is no such channel)"),
    ],
)
def test_it_is_told_why(ready: str, words: str) -> None:
    assert chosen(BY_PREFIX, "27820000001", ready).reason == words


def test_each_channel_is_told_of_in_the_routers_order() -> None:
    config = {
        "channels": [
            entry("a", "27", weight=3),
            entry("b", "44", cost=2),
            entry("c", "+27"),
            entry("d", "27"),
            entry("e"),
        ]
    }
    assert chosen(config, "2782", "abce-d", lambda: 0.0).candidates == (
        {"channel": "a", "prefix": "27", "weight": 3, "cost": None, "ready": True, "reason": "ok", "share": 0.75},
        {"channel": "b", "prefix": None, "weight": 1, "cost": 2, "ready": True, "reason": "ok", "share": 0.0},
        {"channel": "c", "prefix": "27", "weight": 1, "cost": None, "ready": True, "reason": "ok", "share": 0.25},
        {
            "channel": "d",
            "prefix": "27",
            "weight": 1,
            "cost": None,
            "ready": False,
            "reason": DOWN.reason,
            "share": 0.0,
        },
        {"channel": "e", "prefix": "", "weight": 1, "cost": None, "ready": True, "reason": "ok", "share": 0.0},
    )


def test_a_number_that_nobody_takes_is_an_error_that_does_not_show_all_of_it() -> None:
    config = {"channels": [entry("a", "27")]}
    with pytest.raises(NoChannel, match="takes numbers that begin like 447700: add the prefix") as error:
        chosen(config, "+447700900123", "a")
    assert "900" not in str(error.value)
    assert error.value.status == 400
    with pytest.raises(NoChannel, match="are empty"):
        chosen(config, None, "a")


@rows(
    ("channels", "prefer", "ready", "shares"),
    [
        ([entry("a", weight=1), entry("b", weight=3)], "weight", "ab", {"a": 0.25, "b": 0.75}),
        ([entry("a", weight=1), entry("b", weight=3)], "weight", "a-b", {"a": 1}),
        ([entry("a"), entry("b"), entry("c", weight=2)], "weight", "abc", {"a": 0.25, "b": 0.25, "c": 0.5}),
        ([entry("a"), entry("b", weight=0)], "weight", "ab", {"a": 1}),
        ([entry("a"), entry("b", weight=0)], "weight", "b-a", {"b": 1}),
        ([entry("a", weight=0), entry("b", weight=0)], "weight", "ab", {"a": 0.5, "b": 0.5}),
        ([entry("a", "27"), entry("b", "27", weight=0), entry("c")], "weight", "bc-a", {"b": 1}),
        ([entry("a", cost=2), entry("b", cost=1)], "weight", "ab", {"a": 0.5, "b": 0.5}),
        ([entry("a", cost=2), entry("b", cost=1)], "cost", "ab", {"b": 1}),
        ([entry("a", cost=2), entry("b", cost=1)], "cost", "a-b", {"a": 1}),
        ([entry("a", cost=1, weight=3), entry("b", cost=1), entry("c", cost=2)], "cost", "abc", {"a": 0.75, "b": 0.25}),
        ([entry("a"), entry("b", cost=9)], "cost", "ab", {"b": 1}),  # none said: the dearest
        ([entry("a"), entry("b")], "cost", "ab", {"a": 0.5, "b": 0.5}),
        ([entry("a", cost=1, weight=0), entry("b", cost=2)], "cost", "ab", {"b": 1}),
        ([entry("a", cost=0), entry("b", cost=0.001)], "cost", "ab", {"a": 1}),
        ([entry("a", "2782", cost=9), entry("b", cost=1)], "cost", "ab", {"a": 1}),  # prefixes come first
        ([entry("a", weight=2), entry("b", weight=1)], "weight", "-ab", {"a": 0.667, "b": 0.333}),
    ],
)
def test_shares_are_as_weights_and_costs_say(
    channels: list[dict[str, Any]], prefer: str, ready: str, shares: dict[str, float]
) -> None:
    """With a seeded generator; also where the address decides."""
    for sticky in (False, True):
        config = {"channels": channels, "prefer": prefer, "sticky": sticky}
        assert spread(config, ready) == pytest.approx(shares, abs=0.03)
    said = chosen({"channels": channels, "prefer": prefer}, "27820000001", ready).candidates
    assert {each["channel"]: each["share"] for each in said if each["share"]} == pytest.approx(shares, abs=0.001)


def test_sticky_channels_keep_their_addresses_and_only_those_of_one_that_goes_move() -> None:
    config = {"channels": [entry("a"), entry("b", weight=2), entry("c")], "sticky": True}
    numbers = [f"+2782{each:07}" for each in range(2000)]
    before = {number: chosen(config, number, "abc").channel for number in numbers}
    assert {number: chosen(config, number, "abc").channel for number in numbers} == before
    assert all(
        chosen(config, f"00{number[1:4]} {number[4:]}", "abc").channel == before[number] for number in numbers[:100]
    )

    without = {number: chosen(config, number, "ac-b").channel for number in numbers}
    moved = {number for number in numbers if without[number] != before[number]}
    assert moved == {number for number in numbers if before[number] == "b"}
    assert {without[number] for number in moved} == {"a", "c"}

    told = chosen(config, numbers[0], "abc")
    assert {each["channel"]: each["share"] for each in told.candidates if each["share"]} == {before[numbers[0]]: 1.0}
    assert told.reason == "any number: one of 3, by address"


@given(
    st.lists(
        st.tuples(st.lists(st.from_regex(r"\A[1-9][0-9]{0,3}\Z"), max_size=3), st.booleans(), st.sampled_from([0, 0.1, 1, 5])),
        min_size=1, max_size=6,
    ),
    st.from_regex(r"\A[1-9][0-9]{3,6}\Z"), st.booleans(), st.sampled_from(["weight", "cost"]),
    st.floats(0, 1, exclude_max=True),
)  # fmt: skip
def test_whatever_the_config_the_choice_is_ready_if_any_is_and_of_the_longest_prefix(
    given: list[tuple[list[str], bool, float]], number: str, sticky: bool, prefer: str, point: float
) -> None:
    channels = [entry(str(index), *prefixes, weight=weight) for index, (prefixes, _, weight) in enumerate(given)]
    there = {str(index): OK if ready else DOWN for index, (_, ready, _) in enumerate(given)}

    def length(prefixes: list[str]) -> int:
        fitting = [len(bare) for each in prefixes if number.startswith(bare := normalised(each))]
        return max(fitting, default=-1 if prefixes else 0)

    lengths = {str(index): length(prefixes) for index, (prefixes, _, _) in enumerate(given)}
    takers = {channel for channel, each in lengths.items() if each >= 0}
    config = {"channels": channels, "sticky": sticky, "prefer": prefer}
    if not takers:
        with pytest.raises(NoChannel):
            choose(config, inbound(number), there, lambda: point)
        return
    choice = choose(config, inbound(number), there, lambda: point)
    among = {channel for channel in takers if there[channel].is_ready} or takers
    assert choice.channel in among
    assert lengths[choice.channel] == max(lengths[channel] for channel in among)
    shares = {each["channel"]: each["share"] for each in choice.candidates}
    assert sum(shares.values()) == pytest.approx(1, abs=1e-4)
    assert shares[choice.channel] > 0
    assert all(lengths[channel] == lengths[choice.channel] for channel, share in shares.items() if share)


@rows(
    ("channels", "fields"),
    [
        ([entry("a"), entry("b"), entry("a", "27")], ["config.channels.2.channel"]),
        ([entry("a", "27", "x")], ["config.channels.0.prefixes.1"]),
        ([entry("a", "00")], ["config.channels.0.prefixes.0"]),
        ([entry("a", "+")], ["config.channels.0.prefixes.0"]),
        ([entry("a", "٢٧")], ["config.channels.0.prefixes.0"]),
        ([entry("a", "1" * 21)], ["config.channels.0.prefixes.0"]),
        ([entry("a", "2 7", "+27-82", "0044", "1" * 20), entry("b")], []),
    ],
)
def test_what_no_schema_sees_is_named(channels: list[dict[str, Any]], fields: list[str]) -> None:
    found: list[str] = []
    try:
        check({"channels": channels})
    except InvalidRouterConfig as error:
        found = [each["field"] for each in error.errors()]
    assert found == fields


def test_what_comes_in_is_not_its_business() -> None:
    router = OutboundRouter({"channels": [entry("a")]})
    router.set_all({"d": {}})
    assert router.route(inbound()) == ()
    assert router.faults == {}
