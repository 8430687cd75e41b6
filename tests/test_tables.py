"""A table's test fails when a row does, and says which."""

from __future__ import annotations

import pytest

from tests.tables import SHOWN, rows


def test_each_row_that_fails_is_named_and_all_are_run() -> None:
    run = []

    @rows(("left", "right"), [(1, 1), (1, 2), (3, 3), (4, 5)])
    def equal(left: int, right: int) -> None:
        run.append((left, right))
        assert left == right

    with pytest.raises(AssertionError) as failed:
        equal()
    assert len(run) == 4
    lines = str(failed.value).splitlines()
    assert lines[0] == "2 of 4 rows fail:"
    assert [line for line in lines if line.startswith("left=")] == ["left=1, right=2", "left=4, right=5"]
    assert "assert 1 == 2" in str(failed.value)


def test_what_was_not_raised_and_what_was_raised_instead_are_failures() -> None:
    @rows("text", ["x", "1", None])
    def refused(text: str) -> None:
        with pytest.raises(ValueError, match="invalid literal"):
            int(text)

    with pytest.raises(AssertionError, match="2 of 3 rows fail") as failed:
        refused()
    assert "DID NOT RAISE" in str(failed.value)


def test_one_above_the_other_they_make_every_combination() -> None:
    run = []

    @rows("first", "ab")
    @rows(("second", "third"), [(1, 2), (3, 4)])
    def combined(first: str, second: int, third: int) -> None:
        run.append((first, second, third))

    combined()
    assert run == [("a", 1, 2), ("a", 3, 4), ("b", 1, 2), ("b", 3, 4)]


async def test_a_coroutine_is_awaited() -> None:
    @rows("value", [True, False])
    async def holds(value: bool) -> None:
        assert value

    with pytest.raises(AssertionError, match="1 of 2 rows fail:\nvalue=False"):
        await holds()


@rows("value", [1, 2])
def test_fixtures_are_the_tests(value: int, request: pytest.FixtureRequest) -> None:
    assert request.node.name == "test_fixtures_are_the_tests"


def test_of_many_failures_some_are_told() -> None:
    @rows("value", [*range(100), "x" * 10_000])
    def fails(value: object) -> None:
        raise ValueError(value)

    with pytest.raises(AssertionError, match=f"(?s)101 of 101 rows fail.*value={SHOWN - 1}\n.*and {101 - SHOWN} more$"):
        fails()


def test_a_table_without_rows_is_none() -> None:
    with pytest.raises(AssertionError, match="no rows"):
        rows("value", [])(lambda value: None)
