"""What must not be seen, or obeyed: secrets, URL userinfo and Authorization values are masked, control characters written out."""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterable
from typing import Any

REDACTED = "********"
"""What stands for a secret wherever one would be shown."""
_USERINFO = re.compile(r"(?<=://)[^/\s\"?#]*@")
_AUTHORIZATION = re.compile(r"\b(Token|Basic|Bearer)\s+[^\s\"',}]+")
UNMASKED = frozenset((
    "message_id", "event_type", "delivery_status", "direction", "hex", "to", "host", "http_status", "ms",
))  # fmt: skip
"""Fields of log lines that hold ids, words of ours and octets."""
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""What a terminal obeys instead of showing it, line ends and changes of direction included."""
LONGEST_TEXT = 150_000
"""Characters; a PDU in hexadecimal has 140,000."""
LONGEST_USERINFO = 1000
MOST_PHRASES = 500
SHORTEST_MASKED = 3
"""Secrets shorter than this are not searched for in texts: masking each `1` would hide the log, not the secret."""


def redact_url(text: str) -> str:
    """The text with the userinfo of every URL in it masked."""
    return _USERINFO.sub(f"{REDACTED}@", text)


def escape_controls(text: str) -> str:
    """The text with what a terminal would obey written as Python does: no foreign text moves the cursor or forges a line."""
    return _CONTROLS.sub(lambda found: repr(found[0])[1:-1], text)


class Redactor:
    """Masks known secrets, URL userinfo and Authorization values in anything that is about to be logged."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self.replace(secrets)

    def replace(self, secrets: Iterable[str]) -> None:
        """Know these secrets from now on (and no others)."""
        self._secrets: list[str] = []
        """The longest first: one may be a part of another."""
        self._known: set[str] = set()
        self.add(secrets)

    def add(self, secrets: Iterable[str]) -> None:
        """Know these, too."""
        self._phrases: dict[str, str] = {}
        for secret in secrets:
            if len(secret) >= SHORTEST_MASKED and secret not in self._known:
                self._known.add(secret)
                bisect.insort(self._secrets, secret, key=lambda each: -len(each))

    def phrase(self, text: str) -> str:
        """The same as `text`, of what is said again and again."""
        masked = self._phrases.get(text)
        if masked is None:
            if len(self._phrases) >= MOST_PHRASES:
                self._phrases.clear()
            masked = self._phrases[text] = self.text(text)
        return masked

    def text(self, text: str) -> str:
        """Linear; of what is longer than any log line need be, the beginning."""
        if len(text) > LONGEST_TEXT:
            margin = max(map(len, self._secrets), default=0) + LONGEST_USERINFO  # a part of a secret is not recognised
            beginning = self.text(text[:LONGEST_TEXT])
            return f"{beginning[:-margin]}... ({len(text)} characters)"
        for secret in self._secrets:
            text = text.replace(secret, REDACTED)
        if "://" in text:
            text = _USERINFO.sub(f"{REDACTED}@", text)
        if " " in text:
            text = _AUTHORIZATION.sub(lambda found: f"{found[1]} {REDACTED}", text)
        return text

    def value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value)
        if value is None or isinstance(value, (int, float)):
            return value
        if isinstance(value, dict):
            return {key: self.value(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.value(item) for item in value]
        return self.text(str(value))
