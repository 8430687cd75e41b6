"""ExpressionSets: which of ten thousand expressions are found in a text, in one walk through it for hundreds of them.

RE2 makes one automaton of a set. One whose automaton needs too much memory cannot be compiled or, worse, says of a text that
nothing is found, and no more. So each set holds an expression that is found everywhere: where the answer lacks it, the set is
halved, until a costly expression is alone. There it is searched for without an automaton, if need be, and in linear time still.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import re2

from junebug.model import expressions

MOST: Final = 250
"""Expressions of a set. A change of one compiles its set anew, in a millisecond."""
MAX_MEMORY: Final = 8 << 20
"""Bytes that a set's automaton may take: it takes a few hundred kilobytes, unless many expressions begin with `.*`."""


class ExpressionSets:
    """Keys and their expressions, in sets that are compiled when first asked."""

    def __init__(self, most: int = MOST, max_memory: int = MAX_MEMORY) -> None:
        self._most = most
        self._max_memory = max_memory
        self._sets: dict[int, dict[str, str]] = {}
        self._searchers: dict[int, _One | _Many] = {}
        self._set_of: dict[str, int] = {}
        self._with_room: list[int] = []
        self._stale: set[int] = set()

    def __len__(self) -> int:
        return len(self._set_of)

    def put(self, key: str, pattern: str) -> None:
        """A pattern that `model/expressions.py` has compiled. Holes in sets are filled before there is another set."""
        self.remove(key)
        if not self._with_room:
            self._with_room.append(len(self._sets))
            self._sets[len(self._sets)] = {}
        number = self._with_room[-1]
        self._set_of[key] = number
        self._sets[number][key] = pattern
        self._stale.add(number)
        if len(self._sets[number]) == self._most:
            self._with_room.pop()

    def remove(self, key: str) -> None:
        number = self._set_of.pop(key, None)
        if number is None:
            return
        if len(self._sets[number]) == self._most:
            self._with_room.append(number)
        del self._sets[number][key]
        self._stale.add(number)

    def search(self, text: bytes) -> Iterator[str]:
        """The keys of all that are found, in no order."""
        for number in self._stale:
            self._searchers.pop(number, None)
            if patterns := self._sets[number]:
                self._searchers[number] = _searcher(patterns, self._max_memory)
        self._stale.clear()
        for searcher in self._searchers.values():
            yield from searcher.search(text)


def _searcher(patterns: Mapping[str, str], max_memory: int) -> _One | _Many:
    return _One(*next(iter(patterns.items()))) if len(patterns) == 1 else _Many(patterns, max_memory)


class _One:
    def __init__(self, key: str, pattern: str) -> None:
        self._found = (key,)
        self._regex = expressions.compiled(pattern)

    def search(self, text: bytes) -> tuple[str, ...]:
        return self._found if self._regex.search(text) else ()


class _Many:
    """Two or more."""

    def __init__(self, patterns: Mapping[str, str], max_memory: int) -> None:
        self._patterns, self._max_memory = patterns, max_memory
        self._keys = [*patterns]
        self._halves: tuple[_One | _Many, ...] = ()
        options = re2.Options()
        options.max_mem, options.never_capture, options.log_errors = max_memory, True, False
        self._set: Any = re2.Set.SearchSet(options)
        for pattern in patterns.values():
            self._set.Add(pattern)
        self._everywhere = self._set.Add("")
        try:
            self._set.Compile()
        except re2.error:
            self._halve()

    def search(self, text: bytes) -> list[str]:
        if not self._halves:
            found = self._set.Match(text) or ()
            if self._everywhere in found:
                return [self._keys[index] for index in found if index != self._everywhere]
            self._halve()
        return [key for half in self._halves for key in half.search(text)]

    def _halve(self) -> None:
        middle = len(self._keys) // 2
        parts = self._keys[:middle], self._keys[middle:]
        self._set = None
        self._halves = tuple(_searcher({key: self._patterns[key] for key in part}, self._max_memory) for part in parts)
