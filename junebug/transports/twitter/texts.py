"""How long a tweet is as X counts, and how a text becomes a thread. Pure. (twitter-text's configuration v3: docs.x.com, Counting
characters.)"""

from __future__ import annotations

import re

from junebug.errors import Rejected

LINK_LENGTH = 23
"""Of any link: X makes a short one of it."""
_LINK = re.compile(r"https?://\S+")
_SINGLE = ((0, 4351), (8192, 8205), (8208, 8223), (8242, 8247))
"""Ranges of characters that count as one; all others count as two."""
_DOUBLE = re.compile("[^" + "".join(f"\\U{low:08x}-\\U{high:08x}" for low, high in _SINGLE) + "]")


def length(text: str) -> int:
    """Never less than X counts: emoji of several characters count as each of these here."""
    without, links = _LINK.subn("", text)
    return len(without) + len(_DOUBLE.findall(without)) + links * LINK_LENGTH


def thread(text: str, limit: int, most: int) -> list[str]:
    """The text as tweets, broken between words where there are any. Raises Rejected when they would be more than `most`."""
    parts: list[str] = []
    rest = text.strip()
    while rest:
        if len(parts) == most:
            raise Rejected(f"content: it would be more than {most} tweets, which is max_tweets")
        part = _first(rest, limit)
        parts.append(part)
        rest = rest[len(part) :].lstrip()
    return parts


def _first(text: str, limit: int) -> str:
    """As much as one tweet holds."""
    end, used = 0, 0
    for word in re.finditer(r"\s*\S+", text):
        used += length(word[0])
        if used > limit:
            break
        end = word.end()
    if end:
        return text[:end]
    used = 0
    for end, character in enumerate(text):  # one long word
        used += length(character)
        if used > limit:
            return text[:end]
    return text
