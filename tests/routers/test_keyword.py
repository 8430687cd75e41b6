"""keyword: the first word, as people type it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from junebug.errors import InvalidRouterDestinationConfig
from junebug.routers.keyword.router import KeywordRouter
from junebug.routers.keyword.words import check_destination, first_word, words_of
from tests.routers.messages import inbound
from tests.tables import rows


def router(**destinations: dict[str, Any]) -> KeywordRouter:
    made = KeywordRouter({"channel": "c"})
    made.set_all(destinations)
    return made


def of(made: KeywordRouter, content: str | None) -> list[str]:
    return [*made.route(inbound(content=content))]


@rows(
    ("content", "word"),
    [
        ("join", "join"),
        ("JOIN now", "join"),
        ("  Join\nnow", "join"),
        ("\n\r\n\tjoin", "join"),
        ("join!", "join"),
        ('"JOIN"', "join"),
        ("\u201cJoin\u201d", "join"),
        ("\u00abjoin\u00bb,", "join"),
        ("`join`", "join"),
        ("\u00b4join\u00b4", "join"),
        ("(join).", "join"),
        ("\u00a1join!", "join"),
        ("\u00a0join\u00a0now", "join"),  # blanks that do not break
        ("\u3000join", "join"),
        ("\u200bjoin\u200d", "join"),  # zero width
        ("jo\u200bin", "join"),
        ("\ufeffjoin", "join"),
        ("\u200f\u202bjoin\u202c", "join"),  # from right to left
        ("jo\u00adin", "join"),  # soft hyphen
        ("\x00join\x07", "join"),
        ("\uff2a\uff2f\uff29\uff2e", "join"),  # wide letters
        ("STRASSE", "strasse"),
        ("straße", "strasse"),
        ("\u0130PTAL", "iptal"),  # a dotted capital
        ("IPTAL", "iptal"),
        ("\u0131ptal", "iptal"),
        ("e\u0301t\u00c9", "\u00e9t\u00e9"),  # an accent of its own
        ("\u2764\ufe0f", "\u2764"),
        ("join-in", "join-in"),
        ("join.now", "join.now"),
        ("*120*5#", "120*5"),
        ("?", "?"),
        ("*** join", "***"),
        ("\u0441\u0422\u041e\u041f", "\u0441\u0442\u043e\u043f"),
        ("", None),
        (" \n\u00a0", None),
        ("\u200b\u200f", None),
        (None, None),
        ("a" + " " * 400 + "b", "a"),
        (" " * 400 + "a", None),  # no more than 300 characters are looked at
    ],
)
def test_the_first_word_of_a_content(content: str | None, word: str | None) -> None:
    assert first_word(content) == word


@given(st.text(max_size=30))
def test_a_folded_word_folds_to_itself(content: str) -> None:
    word = first_word(content)
    assert word is None or first_word(word) == word


def test_a_message_goes_to_whose_keyword_or_alias_it_begins_with() -> None:
    made = router(
        join={"keyword": "JOIN", "aliases": ["start", "Abonnér"]},
        stop={"keyword": "stop", "aliases": []},
        rest={"keyword": "help", "default": True},
    )
    assert of(made, "join me") == ["join"]
    assert of(made, "Start!") == ["join"]
    assert of(made, "ABONNÉR") == ["join"]
    assert of(made, "Stop.") == ["stop"]
    assert of(made, "help") == of(made, "who?") == of(made, "") == of(made, None) == of(made, "stopping") == ["rest"]
    made.change({}, ["rest"])
    assert of(made, "who?") == of(made, None) == of(made, "help") == []
    assert made.keeps_sessions


def test_changes_are_in_force_with_the_next_message() -> None:
    made = router(a={"keyword": "one", "aliases": ["uno"]}, b={"keyword": "two"})
    made.change({"a": {"keyword": "three"}, "c": {"keyword": "one"}}, ["b", "unknown"])
    assert [of(made, word) for word in ("one", "uno", "two", "three")] == [["c"], [], [], ["a"]]
    made.set_all({"d": {"keyword": "two"}})
    assert [of(made, word) for word in ("one", "three", "two")] == [[], [], ["d"]]


def test_of_two_with_the_same_word_the_first_by_its_id_gets_it_whichever_came_first() -> None:
    for order in ("ab", "ba"):
        made = router(**{name: {"keyword": "JOIN" if name == "a" else "join"} for name in order})
        assert of(made, "join") == ["a"]
        made.change({}, ["a"])
        assert of(made, "join") == ["b"]


def test_words_of_a_config_are_folded_so_that_conflicts_are_seen() -> None:
    assert words_of({"keyword": "JOIN", "aliases": ["join!", "Straße", "STRASSE"]}) == {"join", "strasse"}
    assert words_of({}) == set()


@rows(
    ("config", "field"),
    [
        ({"keyword": "two words"}, "config.keyword"),
        ({"keyword": " "}, "config.keyword"),
        ({"keyword": "a\u00a0b"}, "config.keyword"),
        ({"keyword": "\u200b"}, "config.keyword"),
        ({"keyword": "ok", "aliases": ["fine", "not fine"]}, "config.aliases.1"),
    ],
)
def test_what_is_not_one_word_is_refused(config: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRouterDestinationConfig) as error:
        check_destination(config)
    assert [each["field"] for each in error.value.errors()] == [field]


@rows("config", [{"keyword": "join"}, {"keyword": "?"}, {"keyword": "c++", "aliases": ["#1", "“x”"]}])
def test_one_word_is_taken(config: dict[str, Any]) -> None:
    check_destination(config)
    assert of(router(a=config), config["keyword"].upper()) == ["a"]


def test_a_destination_without_a_word_is_a_fault_and_stops_nobody() -> None:
    made = router(bad={"keyword": None, "aliases": 7}, good={"keyword": "join"})
    assert of(made, "join") == ["good"]
    assert list(made.faults) == ["bad"]
    made.change({}, ["bad"])
    assert made.faults == {}
