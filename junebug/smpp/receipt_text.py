"""What a receipt's text says, field by field: as SMSCs write it, or as an operator's own expression has it. Pure.

Any phone can send such a text, so both are linear in it. Neighbour: transports/smpp/receipts.py (what is a receipt, and of what).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from junebug.model import expressions
from junebug.model.expressions import BadExpression

Fields = Mapping[str, str]
"""id, stat, err, submit_date, done_date ... by name, those that say something."""

LONGEST_TEXT: Final = 1000
"""Characters that are looked at: a receipt is one short message."""
LONGEST_VALUE: Final = 65
"""Octets of a message_id, its NUL included (SMPP 3.4 §5.2.23); other fields are shorter."""

# --- as SMSCs write it ----------------------------------------------------------------------------------------------------

_END: Final = r"""\s\x00-\x1f,;|&(){}<>"'"""
"""What ends a value, as the inside of a class."""
_NAME: Final = re.compile(
    r"\b((?:[Ss]ubmit|SUBMIT|[Dd]one|DONE) (?:[Dd]ate|DATE)|[A-Za-z_][\w.-]*+)\"?\s*+[:=]", re.ASCII
)  # fmt: skip
_VALUE: Final = re.compile(rf"[{_END}]*+([^{_END}]+)")
_DATE: Final = re.compile(rf"[{_END}]*+([^{_END}]+(?: \d[\d:.+-]*+)?)")
_ENDS: Final = re.compile(rf"[{_END}]")
_KEYS: Final[Fields] = {
    "id": "id", "stat": "stat", "status": "stat", "state": "stat", "err": "err", "error": "err", "text": "text", "sub": "sub",
    "dlvrd": "dlvrd", **{f"{name}{between}date": f"{name}_date" for name in ("submit", "done") for between in (" ", "_", "")},
}  # fmt: skip
_USUAL: Final = re.compile(
    r"id:(?P<id>[\w.+-]{1,65}) sub:(?P<sub>\d{1,65}) dlvrd:(?P<dlvrd>\d{1,65}) submit date:(?P<submit_date>\d{1,65})"
    r" done date:(?P<done_date>\d{1,65}) stat:(?P<stat>\w{1,65}) err:(?P<err>[\w.+-]{1,65}) [Tt]ext:",
    re.ASCII,
)


def scan(text: str) -> Fields:
    """`id:12 sub:001 ... stat:DELIVRD err:000 text:...` (SMPP 3.4 appendix B) in any order, with = for : as well.

    What follows `text:` is the message's own; it is looked at only for an id or a state that stand nowhere else.
    """
    if usual := _USUAL.match(text):  # the same at one go, in a tenth of the time
        return usual.groupdict()
    found: dict[str, str] = {}
    text, key, begin = text[:LONGEST_TEXT], "", 0
    for name in _NAME.finditer(text):
        start, known = name.start(), _KEYS.get(name[1].lower(), "")
        if not known and start and not _ENDS.match(text, start - 1):
            continue  # part of a value, such as an id with a colon
        _add(found, key, text, begin, start)
        key, begin = known, name.end()
        if key == "text" and "id" in found and "stat" in found:
            return found
    _add(found, key, text, begin, len(text))
    return found


def _add(found: dict[str, str], key: str, text: str, begin: int, end: int) -> None:
    """The value between two names: an empty one takes nothing from the next. A vendor's field has no key."""
    if key and key not in found:
        value = (_DATE if key.endswith("_date") else _VALUE).match(text, begin, end)
        if value and value.end(1) - value.start(1) <= LONGEST_VALUE:
            found[key] = value[1]


# --- as an operator says --------------------------------------------------------------------------------------------------

_NEEDED: Final = {"id", "stat"}


def expression(pattern: str) -> Callable[[str], Fields]:
    """A reader of texts that fit the pattern; of others it reads nothing. Raises BadExpression."""
    regex = expressions.compiled(pattern, dot_nl=True)
    if missing := _NEEDED - regex.groupindex.keys():
        raise BadExpression(f"it has no group named {' or '.join(sorted(missing))}")
    return functools.partial(_search, regex)


def _search(regex: Any, text: str) -> Fields:
    found = regex.search(text[:LONGEST_TEXT].removesuffix("\n"))  # Python's $ is before it, too; RE2's is not
    values = found.groupdict() if found else {}
    return {name: value.strip("\0 ")[:LONGEST_VALUE] for name, value in values.items() if value}
