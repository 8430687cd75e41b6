"""What an HTTP answer's Retry-After header says (RFC 9110 10.2.3). Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST_DATE = 64
"""Characters of a date that are looked at."""


def seconds_until(retry_after: str, now: datetime) -> float | None:
    """What a Retry-After header says, in seconds or as an HTTP date (RFC 9110 10.2.3); None when it says nothing."""
    text = retry_after.strip()
    if re.fullmatch(r"[0-9]+", text):
        return float(text[:10])
    try:
        when = parsedate_to_datetime(text[:LONGEST_DATE])
        return max(0.0, (when.replace(tzinfo=when.tzinfo or UTC) - now).total_seconds())
    except Exception:  # a foreign text, and a parser that raises what it likes: OverflowError, TypeError, IndexError
        return None
