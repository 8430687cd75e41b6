"""Characters that programs write into texts of their own accord, and what GSM 03.38 has in their place: one of them makes a whole
text UCS-2, of 70 characters an SMS instead of 160. Pure. Neighbour: transports/smpp/mt.py (the option `gsm_safe`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

REPLACEMENTS: Final[Mapping[str, str]] = {
    **dict.fromkeys("\u201c\u201d\u201e\u201f\u00ab\u00bb\u2033\u02ba\uff02", '"'),
    **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u02b9\u02bc\u00b4`\uff07", "'"),
    **dict.fromkeys("\u2039", "<"), **dict.fromkeys("\u203a", ">"),
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u2043\u2022\u00b7", "-"),
    "\u2026": "...", "\u2025": "..", "\u2044": "/", "\u2215": "/", "\u00a6": "|", "\u2122": "(TM)",
    "\u00a9": "(C)", "\u00ae": "(R)",
    "\ufb00": "ff", "\ufb01": "fi", "\ufb02": "fl", "\ufb03": "ffi", "\ufb04": "ffl",
    **dict.fromkeys("\t\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000", " "),
    **dict.fromkeys("\u2028\u2029\u0085\u000b", "\n"),
    **dict.fromkeys("\u00ad\u200b\u200e\u200f\u2060\ufeff", ""),
}  # fmt: skip
"""Quotation marks, dashes, dots, blanks, ligatures, signs and marks that nobody sees -> texts of GSM 03.38."""
_TABLE = str.maketrans(dict(REPLACEMENTS))
_ANY = re.compile("[" + "".join(map(re.escape, REPLACEMENTS)) + "]")


def safe(text: str) -> str:
    return text.translate(_TABLE)


def found_in(text: str) -> dict[str, list[int]]:
    """Character that `safe` replaces -> its positions in the text, from 0."""
    found: dict[str, list[int]] = {}
    for each in _ANY.finditer(text):
        found.setdefault(each[0], []).append(each.start())
    return found
