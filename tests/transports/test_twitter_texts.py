"""How long a text is as X counts, and how it becomes a thread."""

from __future__ import annotations

import pytest

from junebug.errors import Rejected
from junebug.transports.twitter import texts
from tests.tables import rows


@rows(
    ("text", "wanted"),
    [
        ("", 0), ("hello", 5), ("é☃", 3), ("漢字", 4), ("😀", 2), ("“quoted”", 8),
        ("https://example.com/a/very/long/path?of=links", 23), ("see http://a.b now", 31), ("x" * 100_000, 100_000),
    ],
)  # fmt: skip
def test_length_as_x_counts(text: str, wanted: int) -> None:
    assert texts.length(text) == wanted


@rows(
    ("text", "limit", "wanted"),
    [
        ("", 10, []), ("hello world", 11, ["hello world"]), ("hello world", 10, ["hello", "world"]),
        ("one two three four", 9, ["one two", "three", "four"]), ("01234567890123", 10, ["0123456789", "0123"]),
        ("漢字漢字漢字", 10, ["漢字漢字漢", "字"]), ("a\n\nb c", 10, ["a\n\nb c"]), ("a  " + "b" * 12, 10, ["a", "b" * 10, "bb"]),
        ("see https://example.com/abcdefghijklmnopq now", 28, ["see https://example.com/abcdefghijklmnopq", "now"]),
    ],
)  # fmt: skip
def test_a_thread_breaks_between_words(text: str, limit: int, wanted: list[str]) -> None:
    assert texts.thread(text, limit, 10) == wanted


def test_a_thread_has_an_end() -> None:
    with pytest.raises(Rejected, match="more than 3 tweets, which is max_tweets"):
        texts.thread("word " * 1_000_000, 280, 3)
