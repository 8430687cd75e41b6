"""Tables of what takes microseconds: one test goes through all rows, and names each one that fails.

As tests of their own (`pytest.mark.parametrize`) rows cost five milliseconds each, in every process that collects them:
2,800 of them were a tenth of the suite.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from typing import Any

import pytest

SHOWN = 20
"""Rows that fail are told up to so many, each value and each reason up to so many characters."""
LONGEST_VALUE, LONGEST_REASON = 200, 2000

Row = Mapping[str, Any]


def rows(names: str | Sequence[str], values: Iterable[Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Runs the test once for each row, as `pytest.mark.parametrize(names, values)` would; several of them, one above the
    other, make every combination. All rows are run, whichever fails. Fixtures are there once: all rows share them.
    """
    table = [_row(names, value) for value in values]

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        test, others = getattr(function, "rows_of", (function, [{}]))
        combined = [{**row, **other} for row, other in product(table, others)]
        assert combined, f"{test.__name__} has no rows"

        if inspect.iscoroutinefunction(test):

            @functools.wraps(test)
            async def whole(**fixtures: Any) -> None:
                failures = Failures(len(combined))
                for row in combined:
                    with failures.of(row):
                        await test(**fixtures, **row)
                failures.tell()

        else:

            @functools.wraps(test)
            def whole(**fixtures: Any) -> None:
                failures = Failures(len(combined))
                for row in combined:
                    with failures.of(row):
                        test(**fixtures, **row)
                failures.tell()

        signature = inspect.signature(test)
        fixtures = [one for name, one in signature.parameters.items() if name not in combined[0]]
        whole.__signature__ = signature.replace(parameters=fixtures)  # type: ignore[attr-defined]
        whole.rows_of = (test, combined)  # type: ignore[attr-defined]
        return whole

    return decorate


def _row(names: str | Sequence[str], value: Any) -> Row:
    """`value`: as pytest has it, a `pytest.param` included."""
    if isinstance(value, type(pytest.param())):
        value = value.values[0] if isinstance(names, str) else value.values
    return {names: value} if isinstance(names, str) else dict(zip(names, value, strict=True))


class Failures:
    """What failed of so many rows."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.found: list[tuple[Row, BaseException]] = []
        self._row: Row = {}

    def of(self, row: Row) -> Failures:
        self._row = row
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        if isinstance(error, Exception | pytest.fail.Exception):
            self.found.append((self._row, error))
            return True
        return False

    def tell(self) -> None:
        """Raises if there are any; the first one's traceback is shown."""
        __tracebackhide__ = True
        if not self.found:
            return
        told = [f"{_of_row(row)}\n  {_reason(error)}" for row, error in self.found[:SHOWN]]
        more = [f"and {len(self.found) - SHOWN} more"] if len(self.found) > SHOWN else []
        text = "\n".join([f"{len(self.found)} of {self.total} rows fail:", *told, *more])
        raise AssertionError(text) from self.found[0][1]


def _of_row(row: Row) -> str:
    return ", ".join(f"{name}={_shortened(repr(value), LONGEST_VALUE)}" for name, value in row.items())


def _reason(error: BaseException) -> str:
    return _shortened(f"{type(error).__name__}: {error}", LONGEST_REASON).replace("\n", "\n  ")


def _shortened(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[:longest]}... ({len(text)} characters)"
