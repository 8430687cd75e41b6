"""Whose receipt it is: the ids of messages and the numbers of phones, in the spellings in which SMSCs give them back. Pure.

Neighbours, in transports/smpp/: receipts.py (what is a receipt), correlation.py (looks for the message).
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Collection, Mapping

HINT = 2
"""How many receipts it counts for that letters are among the digits of ids on one side only."""
SURE = 3
"""After so many receipts, what does not fit in the usual form is a coincidence."""
_HEX_DIGITS = frozenset("0123456789abcdef")
MOST_COUNTED = 1000
"""Then all counts are halved: an SMSC may change its mind."""

_LONGEST_COUNTRY_CODE = 3
"""Digits (E.164)."""
FORMS = ("same", "hex", "decimal")
"""How the submit_sm_resp's id is had from a receipt's: as it is, as its number in hexadecimal, or in decimal."""


def key(provider_id: str) -> str:
    """What ids that differ only in case, leading zeros, a 0x, or a UUID's dashes have in common."""
    text = provider_id.strip("\0 \t\r\n").lower().removeprefix("0x")
    if _UUID.fullmatch(text):
        text = _NO_HEX.sub("", text)
    return text.lstrip("0") or "0"


_NO_HEX, _HEX = re.compile("[^0-9a-f]"), re.compile("[0-9a-f]+")
_NO_NUMBER = re.compile("[^0-9a-z]")
_UUID = re.compile(r"\{?[0-9a-f]{0,8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\}?")
"""Its first group may have lost its leading zeros."""


@functools.lru_cache(maxsize=1024)
def candidate_keys(provider_id: str) -> Mapping[str, Collection[str]]:
    """Key of each submit_sm_resp's id that a receipt's id may stand for -> the forms by which it does."""
    same = key(provider_id)
    found: dict[str, set[str]] = {same: {"same"}}
    if same.isascii() and same.isdigit() and len(same) <= 39:  # 128 bits
        found.setdefault(f"{int(same):x}", set()).add("hex")
    if len(same) <= 32 and _HEX.fullmatch(same):
        found.setdefault(str(int(same, 16)), set()).add("decimal")
    return found


def same_number(a: str, b: str) -> bool:
    """Whether two spellings can mean one phone: +27820001111, 0027820001111, 0820001111."""
    shorter, longer = _plain_number(a), _plain_number(b)
    if shorter == longer:
        return bool(shorter)
    if len(shorter) > len(longer):
        shorter, longer = longer, shorter
    return len(shorter) >= 7 and longer.endswith(shorter) and len(longer) - len(shorter) <= _LONGEST_COUNTRY_CODE


@functools.lru_cache(maxsize=1024)
def _plain_number(number: str) -> str:
    """Without a scheme (tel:), parameters, punctuation, and zeros of a prefix, as in +27 (0)82."""
    bare = number.lstrip("+0")
    if bare.isascii() and bare.isdigit():
        return bare
    number = number.lower().rpartition(":")[2].partition(";")[0].replace("(0)", "")
    return _NO_NUMBER.sub("", number).lstrip("0")


class IdForms:
    """Which form this SMSC's receipts give ids in, told by how often each fitted, and by the digits a to f. Pure.

    Numbers are dense: an id of ours that was lost is, in another base, often that of another message, so once a form
    has fitted, one that fitted less often is a coincidence.
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._letters: set[str] = set()
        self.usual: str | None = None
        """None while nothing is known."""

    def _most_often(self) -> str | None:
        """The plainer form wins a tie."""
        scores = self._counts
        if len(self._letters) == 1:
            scores = scores + Counter({"hex" if "sent" in self._letters else "decimal": HINT})
        return max(FORMS, key=scores.__getitem__) if scores else None

    def seen(self, key: str, where: str) -> None:
        """An id as it was `sent` to us in a response, or `received` in a receipt: only one in base 16 has letters."""
        if where not in self._letters and not key.isdigit() and set(key) <= _HEX_DIGITS:
            self._letters.add(where)
            self.usual = self._most_often()

    def count(self, form: str, times: int = 1) -> None:
        """It fitted, the number that the message went to being right as well."""
        self._counts[form] += times
        if self._counts[form] > MOST_COUNTED:
            self._counts = Counter({each: count // 2 for each, count in self._counts.items()})
        elif form == self.usual:
            return  # all the more
        self.usual = self._most_often()

    @property
    def is_sure(self) -> bool:
        return self._counts.total() >= SURE

    def allow(self, forms: Collection[str], *, same_number: bool) -> bool:
        """Whether an id that is equal in one of these forms is the same id."""
        usual = self.usual
        if usual is None:
            return "same" in forms or same_number
        return usual in forms or (same_number and not self.is_sure)
