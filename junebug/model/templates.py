"""URLs of callbacks as URI templates (RFC 6570), pure: `http://host/sms?from={from}&text={content}`.

Neighbours: api/schemas.py checks what users give, api/views.py and worker/callbacks/target.py expand it. A URL without
braces is no template and is left as it is.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Mapping
from typing import Any

from uritemplate import URITemplate

MO_VARIABLES = ("message_id", "from", "to", "content", "timestamp", "channel_id", "group", "reply_to")
"""Of a mo_url; each is the key of that name in the body of the call."""
LONGEST_TEMPLATE = 8 * 1024
_OF_THE_MESSAGE = ("from", "to", "content", "group", "reply_to")
EVENT_VARIABLES = (
    "message_id", "event_type", "timestamp", "channel_id", "reason", "sent_message_id", *_OF_THE_MESSAGE,
)  # fmt: skip
"""Of an event_url; `reason` and `sent_message_id` are those of `event_details`, the last ones the sent message's."""

_VARIABLE = r"[A-Za-z0-9_.]+(?:\*|:[1-9][0-9]{0,3})?"
_EXPRESSION = re.compile(rf"\{{[+#./;?&]?(?P<variables>{_VARIABLE}(?:,{_VARIABLE})*)\}}")
_FIXED = re.compile(r"https?://[^/?#{}]+(?=$|[/?#]|\{[/?#])", re.IGNORECASE)
"""Scheme and authority, which no variable may change: who sends a message must not choose where it goes."""


def is_template(url: str) -> bool:
    return "{" in url or "}" in url


def check(template: str, variables: Collection[str]) -> None:
    """Whether this is a URL, or a template with no other than these variables. Raises ValueError: what to do."""
    if len(template) > LONGEST_TEMPLATE:
        raise ValueError(f"expected at most {LONGEST_TEMPLATE} characters")
    if not is_template(template):
        return
    if not _FIXED.match(template):
        raise ValueError("a template must begin with http://host/ or https://host/ without braces: only what follows may vary")
    rest = _EXPRESSION.sub("", template)
    if "{" in rest or "}" in rest:
        raise ValueError("a brace does not belong to an expression such as {message_id}: write %7B and %7D for { and }")
    for expression in _EXPRESSION.finditer(template):
        names = _names(expression)
        for name in names:
            if name not in variables:
                raise ValueError(f"there is no variable {{{name}}}: there are {', '.join(variables)}")
        if "event_type" in variables and len({name in _OF_THE_MESSAGE for name in names}) > 1:
            raise ValueError(f"{expression[0]} mixes what the message and what the event says: give each its own braces")


def _names(expression: re.Match[str]) -> list[str]:
    return [variable.partition(":")[0].rstrip("*") for variable in expression["variables"].split(",")]


def expand_message(template: str, values: Mapping[str, Any]) -> str:
    """An event_url for the events of this message: what the message says is filled in, what an event says is left."""
    if not is_template(template):
        return template

    def fill_in(expression: re.Match[str]) -> str:
        return expand(expression[0], values) if _names(expression)[0] in _OF_THE_MESSAGE else expression[0]

    return _EXPRESSION.sub(fill_in, template)


def expand(template: str, values: Mapping[str, Any]) -> str:
    """The URL; a variable without a value (None) leaves nothing behind."""
    if not is_template(template):
        return template
    return _parsed(template).expand({name: str(value) for name, value in values.items() if value is not None})


@functools.lru_cache(maxsize=256)
def _parsed(template: str) -> URITemplate:
    return URITemplate(template)
