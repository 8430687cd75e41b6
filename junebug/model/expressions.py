"""Regular expressions that users give: RE2's, which are searched for in linear time whatever they say. Pure.

Neighbours: smpp/receipt_text.py (receipts), routers/from_address (addresses). Not for what the API loads as it starts: it
imports re2.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import re2

LONGEST_EXPRESSION: Final = 1000
_MAX_PROGRAM: Final = 2000
"""Instructions of a compiled expression (Vumi's has a thousand): a search takes some milliseconds at most."""
_MAX_REPEAT: Final = 1000

_UNSUPPORTED: Final[Mapping[str, str]] = {
    "(?=": "lookahead", "(?!": "lookahead", "(?<=": "lookbehind", "(?<!": "lookbehind", "(?(": "conditional",
    "(?>": "atomic group", "(?#": "comment", "(?x": "verbose mode", "(?P": "backreference to a group by name",
    **{f"\\{digit}": "backreference" for digit in "123456789"},
    **{f"{sign}+": "possessive repetition" for sign in "*+?"},
}  # fmt: skip
"""What Python's expressions have and RE2's have not, since it cannot be searched for in linear time, or by its design."""

_TOKEN: Final = re.compile(
    r"\\Z|\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{(?P<least>\d*),?(?P<most>\d*)\}", re.DOTALL
)  # fmt: skip


class BadExpression(ValueError):
    """An expression that cannot be used, and why."""


def compiled(pattern: str, *, dot_nl: bool = False) -> Any:
    """A re2 expression, whose own `pattern` is what RE2 was given. Raises BadExpression.

    The pattern is RE2's, in which Python's own `\\Z` and `{,n}` are taken too. `dot_nl`: whether a dot is a newline, too.
    """
    if len(pattern) > LONGEST_EXPRESSION:
        raise BadExpression(f"it is longer than {LONGEST_EXPRESSION} characters")
    options = re2.Options()
    options.dot_nl, options.log_errors = dot_nl, False
    try:
        regex = re2.compile(_TOKEN.sub(_translate, pattern), options)
    except re2.error as error:
        raise BadExpression(_why(error)) from None
    except UnicodeError:
        raise BadExpression("it holds half a surrogate pair") from None
    if regex.programsize > _MAX_PROGRAM:
        raise BadExpression("its repetitions make it too large")
    return regex


def _translate(token: re.Match[str]) -> str:
    """What RE2 would take for plain characters, or not at all."""
    least, most = token["least"], token["most"]
    if most is None:
        return r"\z" if token[0] == r"\Z" else token[0]
    if any(int(number) > _MAX_REPEAT for number in (least, most) if number):
        raise BadExpression(f"it repeats something more than {_MAX_REPEAT} times")
    return f"{{0,{most}}}" if most and not least else token[0]


def _why(error: Exception) -> str:
    told = error.args[0] if error.args else ""
    said = told.decode("utf-8", "replace") if isinstance(told, bytes) else str(told)
    found = said.rpartition(": ")[2]
    what = _UNSUPPORTED.get(found)
    return f"{what} ({found}) is not supported: it runs on RE2, in linear time" if what else said[:200]
