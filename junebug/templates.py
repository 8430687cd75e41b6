"""URLs of callbacks as URI templates (RFC 6570), pure: `http://host/sms?from={from}&text={content}`.

Neighbours: api/schemas.py checks what users give, worker/calls.py expands it. A URL without braces is no
template and is left as it is.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Mapping
from typing import Any

from uritemplate import URITemplate

MO_VARIABLES = ("message_id", "from", "to", "content", "timestamp", "channel_id", "group", "reply_to")
"""Of a mo_url; each is the key of that name in the body of the call."""
EVENT_VARIABLES = ("message_id", "event_type", "timestamp", "channel_id", "reason", "sent_message_id")
"""Of an event_url; the last two are those of `event_details`."""

_VARIABLE = r"[A-Za-z0-9_.]+(?:\*|:[1-9][0-9]{0,3})?"
_EXPRESSION = re.compile(rf"\{{[+#./;?&]?(?P<variables>{_VARIABLE}(?:,{_VARIABLE})*)\}}")
_FIXED = re.compile(r"https?://[^/?#{}]+(?=$|[/?#]|\{[/?#])", re.IGNORECASE)
"""Scheme and authority, which no variable may change: who sends a message must not choose where it goes."""


def is_template(url: str) -> bool:
    return "{" in url or "}" in url


def check(template: str, variables: Collection[str]) -> None:
    """Whether this is a URL, or a template with no other than these variables. Raises ValueError: what to do."""
    if not is_template(template):
        return
    if not _FIXED.match(template):
        raise ValueError("a template must begin with http://host/ or https://host/ without braces: only what follows may vary")
    rest = _EXPRESSION.sub("", template)
    if "{" in rest or "}" in rest:
        raise ValueError("a brace does not belong to an expression such as {message_id}: write %7B and %7D for { and }")
    for expression in _EXPRESSION.finditer(template):
        for variable in expression["variables"].split(","):
            name = variable.partition(":")[0].rstrip("*")
            if name not in variables:
                raise ValueError(f"there is no variable {{{name}}}: there are {', '.join(variables)}")


def expand(template: str, values: Mapping[str, Any]) -> str:
    """The URL; a variable without a value (None) leaves nothing behind."""
    if not is_template(template):
        return template
    return _parsed(template).expand({name: str(value) for name, value in values.items() if value is not None})


@functools.lru_cache(maxsize=256)
def _parsed(template: str) -> URITemplate:
    return URITemplate(template)
