"""from_address: whose expression is found in the address, however many there are and whatever one of them costs."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from junebug.errors import InvalidRouterDestinationConfig
from junebug.model import expressions
from junebug.routers.from_address import expression_sets
from junebug.routers.from_address.expression_sets import ExpressionSets
from junebug.routers.from_address.router import LONGEST_ADDRESS, FromAddressRouter, check_destination
from tests.routers.messages import inbound
from tests.tables import rows


def router(**patterns: str | dict[str, Any]) -> FromAddressRouter:
    """Destination -> expression, or config."""
    made = FromAddressRouter({"channel": "c"})
    made.set_all(
        {name: {"regular_expression": each} if isinstance(each, str) else each for name, each in patterns.items()}
    )
    return made


def to(made: FromAddressRouter, address: str | None) -> list[str]:
    return [*made.route(inbound(address))]


@rows(
    ("address", "destinations"),
    [
        ("+27820001", ["a", "c"]),
        ("27820001", ["a"]),
        ("8080", ["b"]),
        ("18080", []),  # ^ holds it to the beginning
        ("+278080+27", ["a", "c"]),  # found in the middle
        ("süß@example.com", ["d"]),
        ("SÜß@EXAMPLE.COM", ["d"]),
        ("", []),
        (None, []),
    ],
)
def test_every_destination_whose_expression_is_found_gets_it(address: str | None, destinations: list[str]) -> None:
    made = router(d=r"(?i)süß@", c=r"\+27", b="^8080$", a=r"27\d")
    assert to(made, address) == destinations
    made.change({"z": {"regular_expression": "^never", "default": True}}, ())
    assert to(made, address) == (destinations or ["z"])


def test_pythons_own_spelling_is_taken_as_by_the_older_junebug() -> None:
    made = router(end=r"80\Z", atmost=r"^8{,2}0$")
    assert to(made, "8080") == ["end"]
    assert to(made, "880") == ["atmost", "end"]


def test_the_default_is_for_what_nobody_else_gets_and_the_first_of_two() -> None:
    default = {"regular_expression": "^1", "default": True}
    made = router(a="^8", z=default, y=default, n={"regular_expression": "^2", "default": None})
    assert to(made, "8080") == ["a"]
    assert to(made, "1") == ["y", "z"]
    assert to(made, "9") == ["y"]
    made.change({}, ["y"])
    assert to(made, "9") == ["z"]
    made.change({"z": {"regular_expression": "^1", "default": False}}, ())
    assert to(made, "9") == []


def test_an_address_longer_than_any_is_the_defaults() -> None:
    made = router(all="8", rest={"regular_expression": "^no$", "default": True})
    assert to(made, "8" * LONGEST_ADDRESS) == ["all"]
    assert to(made, "8" * (LONGEST_ADDRESS + 1)) == ["rest"]


def test_changes_are_in_force_with_the_next_message() -> None:
    made = router(a="^1", b="^2")
    assert to(made, "1") == ["a"]
    made.change({"a": {"regular_expression": "^3"}, "c": {"regular_expression": "^1"}}, ["b", "unknown"])
    assert [to(made, address) for address in "123"] == [["c"], [], ["a"]]
    made.set_all({"b": {"regular_expression": "^2"}})
    assert [to(made, address) for address in "123"] == [[], ["b"], []]


@rows(
    ("pattern", "why"),
    [
        (r"(a)\1", r"backreference (\1) is not supported: it runs on RE2, in linear time"),
        (r"(?P<a>a)(?P=a)", "backreference to a group by name"),
        ("^(?!27)", "lookahead ((?!) is not supported"),
        ("(?<=27)8", "lookbehind ((?<=) is not supported"),
        ("[", "missing ]"),
        ("a**", "bad repetition operator"),
        (r"\w{900}", "its repetitions make it too large"),
        ("a" * 1001, "it is longer than 1000 characters"),
        ("\ud800", "half a surrogate pair"),
        (None, "there is none"),
    ],
)
def test_what_re2_refuses_is_told_and_stops_nobody(pattern: str | None, why: str) -> None:
    config = {"regular_expression": pattern, "default": True}
    with pytest.raises(InvalidRouterDestinationConfig) as error:
        check_destination(config)
    (told,) = error.value.errors()
    assert told["field"] == "config.regular_expression"
    assert told["message"].startswith("config.regular_expression: is not a valid regular expression: ")
    assert why in told["message"]

    made = router(bad=config, good="^8080$")
    assert to(made, "8080") == ["good"]
    assert why in made.faults["bad"]
    assert to(made, "1") == ["bad"]  # as the default it needs no expression
    made.change({"bad": {"regular_expression": "^1"}}, ())
    assert made.faults == {}
    assert to(made, "1") == ["bad"]


EVIL = ["(x+x+)+y", "(a|b)*c(a|b){200}", r"[a-q][^u-z]{100}x", "(.*)(.*)(.*)(.*)(.*)[^a]$", "(a?){50}a{50}"]
TEXTS = ["x" * 200, "ab" * 20 + "c" + "ab" * 100, "a" * 60, "8080", "q" * 200 + "x"]


def as_python_has_it(patterns: dict[str, str], text: str) -> list[str]:
    return sorted(key for key, pattern in patterns.items() if expressions.compiled(pattern).search(text))


@rows("memory", [1 << 10, 1 << 13, 1 << 16, 1 << 18, 1 << 20, 8 << 20])
def test_evil_expressions_hide_no_others_however_little_memory_there_is(memory: int) -> None:
    """With little of it sets cannot be compiled: they are halved until they can."""
    patterns = {f"good{number}": f"^80{number}" for number in range(40)} | {
        f"evil{i}": each for i, each in enumerate(EVIL)
    }
    sets = ExpressionSets(most=len(patterns), max_memory=memory)
    for key, pattern in patterns.items():
        sets.put(key, pattern)
    for text in TEXTS:
        assert sorted(sets.search(text.encode())) == as_python_has_it(patterns, text)


def test_an_expression_that_costs_is_left_alone_and_the_others_stay_together() -> None:
    sets = ExpressionSets(max_memory=1 << 13)
    for number in range(16):
        sets.put(f"good{number}", f"^80{number}$")
    sets.put("evil", "(a|b)*c(a|b){200}")
    assert [*sets.search(b"8010")] == ["good10"]
    (searcher,) = sets._searchers.values()
    alone, together = [], []

    def walk(each: expression_sets._One | expression_sets._Many) -> None:
        if isinstance(each, expression_sets._One):
            alone.append(each._found[0])
        elif each._halves:
            assert each._set is None
            [walk(half) for half in each._halves]
        else:
            together.append(len(each._keys))

    walk(searcher)
    assert "evil" in alone
    assert sum(together) >= 12
    assert sum(together) + len(alone) == 17


def test_a_set_that_is_silent_for_want_of_memory_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """RE2's automaton may fail in the midst of a text; its wrapper then says no more than that nothing is found."""
    sets = ExpressionSets()
    for number in range(8):
        sets.put(str(number), f"^{number}")
    assert [*sets.search(b"5")] == ["5"]
    (searcher,) = sets._searchers.values()
    assert isinstance(searcher, expression_sets._Many)

    class Silent:
        def Match(self, text: bytes) -> None:
            return None

    searcher._set = Silent()
    assert [*sets.search(b"5")] == ["5"]
    assert [*sets.search(b"7")] == ["7"]


patterns_of_phones = st.from_regex(r"\A\^?(\\\+)?([0-9]|\\d|\[1-5\]|\.|[0-9]\*|(1|2)\?|\.\*){1,6}\$?\Z", fullmatch=True)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(patterns_of_phones, max_size=12),
    st.lists(st.from_regex(r"\A\+?[0-9]{0,9}\Z"), min_size=1, max_size=5),
    st.data(),
)
def test_sets_find_what_each_expression_alone_finds(given: list[str], texts: list[str], data: st.DataObject) -> None:
    """Python's own engine, one by one, is the witness; between the texts, destinations come, change and go."""
    sets = ExpressionSets(most=3)
    there: dict[str, str] = {}
    for text in texts:
        for number, pattern in enumerate(given):
            key = str(number)
            if data.draw(st.booleans()):
                sets.put(key, pattern)
                there[key] = pattern
            elif data.draw(st.booleans()):
                sets.remove(key)
                there.pop(key, None)
        assert len(sets) == len(there)
        found = sorted(sets.search(text.encode()))
        assert found == sorted(key for key, pattern in there.items() if re.search(pattern, text.rstrip("\n"), re.ASCII))


def compiled_sets(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by the size of each set that is compiled."""
    sizes: list[int] = []
    real = expression_sets._searcher

    def counted(patterns: Any, memory: int) -> Any:
        sizes.append(len(patterns))
        return real(patterns, memory)

    monkeypatch.setattr(expression_sets, "_searcher", counted)
    return sizes


def test_a_change_of_one_compiles_one_set_and_holes_are_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = compiled_sets(monkeypatch)
    made = router(**{f"d{number}": f"^{number}$" for number in range(2000)})
    to(made, "7")
    assert sizes == [250] * 8
    sizes.clear()

    made.change({"d7": {"regular_expression": "^x$"}}, ())
    assert to(made, "7") == []
    assert to(made, "x") == ["d7"]
    assert sizes == [250]
    sizes.clear()

    made.change({}, [f"d{number}" for number in range(250)])
    assert to(made, "100") == []
    made.change({f"e{number}": {"regular_expression": f"^{number}$"} for number in range(250)}, ())
    assert to(made, "100") == ["e100"]
    assert sizes == [250]  # there where the others were

    sizes.clear()
    made.set_all(made.destinations | {"d300": {"regular_expression": "^y$"}})
    assert to(made, "y") == ["d300"]
    assert sizes == [250]  # what stays as it is costs nothing
