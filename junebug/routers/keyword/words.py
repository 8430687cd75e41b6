"""Words as people type them, in one form: `join!`, `"JOIN"` and ` Join` are the same one. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from typing import Any, Final

from junebug.errors import InvalidRouterDestinationConfig

LOOKED_AT: Final = 300
"""Characters of a content. A keyword has 50 at the most."""

_SEEN: Final = {
    0x60: "'",  # accents that stand for quotation marks: NFKC would make a blank of the acute one
    0xB4: "'",
    0x131: "i",  # dotless: what Turkish phones make of I, as they make a dotted capital of i (_folded)
    **dict.fromkeys(range(0xFE00, 0xFE10)),  # variation selectors
}


def first_word(content: str | None) -> str | None:
    """Folded; None: there is none. Linear, and bounded."""
    words = _folded(content[:LOOKED_AT]).split(maxsplit=1) if content else ()
    return _bare(words[0]) if words else None


def words_of(config: dict[str, Any]) -> set[str]:
    """The folded words that a destination's config claims, which no other one of its router may have."""
    return {word for _, given in _given(config) if (word := first_word(given))}


def check_destination(config: dict[str, Any]) -> None:
    """Raises InvalidRouterDestinationConfig for what is not one word."""
    problems = [
        (f"config.{field}", "expected one word, without blanks" if word.strip() else "expected a word that can be seen")
        for field, given in _given(config)
        if len((word := _folded(given)).split()) != 1
    ]
    if problems:
        raise InvalidRouterDestinationConfig(problems)


def _given(config: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(field, word) of each."""
    aliases = config.get("aliases")
    fields = {"keyword": config.get("keyword")}
    fields |= {f"aliases.{index}": alias for index, alias in enumerate(aliases if isinstance(aliases, list) else ())}
    return ((field, word) for field, word in fields.items() if isinstance(word, str))


def _folded(text: str) -> str:
    """Compatibility forms and cases made one (Unicode, toNFKC_Casefold), without what is not seen."""
    text = unicodedata.normalize("NFKC", text.translate(_SEEN)).casefold().replace("i\u0307", "i")
    text = "".join(each for each in text if each.isspace() or unicodedata.category(each) not in ("Cf", "Cc"))
    return unicodedata.normalize("NFKC", text)


def _bare(word: str) -> str:
    """Without the punctuation around it; of nothing else: as it is."""
    begin, end = 0, len(word)
    while begin < end and unicodedata.category(word[begin])[0] == "P":
        begin += 1
    while end > begin and unicodedata.category(word[end - 1])[0] == "P":
        end -= 1
    return word[begin:end] or word
