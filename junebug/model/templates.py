"""URLs of callbacks as URI templates (RFC 6570), pure: `http://host/sms?from={from}&text={content}`.

Neighbours: api/schemas.py checks what users give, api/views.py and worker/callbacks/target.py expand it. A URL without
braces is no template and is left as it is.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from uritemplate import URITemplate
from uritemplate.variable import VariableValue

from junebug.model import urls

MO_VARIABLES = ("message_id", "from", "to", "content", "timestamp", "channel_id", "group", "reply_to")
"""Of a mo_url; each is the key of that name in the body of the call."""
LONGEST_TEMPLATE = 8 * 1024
_OF_THE_MESSAGE = ("from", "to", "content", "group", "reply_to")
EVENT_VARIABLES = (
    "message_id", "event_type", "timestamp", "channel_id", "reason", "sent_message_id", *_OF_THE_MESSAGE,
)  # fmt: skip
"""Of an event_url; `reason` and `sent_message_id` are those of `event_details`, the last ones the sent message's."""

LONGEST_VALUE = 32 * 1024
"""Characters; most servers take 8 KB of a URL."""
_VARIABLE = r"[A-Za-z0-9_.]+(?:\*|:[1-9][0-9]{0,3})?"
_EXPRESSION = re.compile(rf"\{{[+#./;?&]?(?P<variables>{_VARIABLE}(?:,{_VARIABLE})*)\}}")
_FIXED = re.compile(r"https?://[^/?#{}]+(?=$|[/?#]|\{[/?#])", re.IGNORECASE)
"""Scheme and authority, which no variable may change: who sends a message must not choose where it goes."""

_END_OF_PATH = re.compile(r"\{?[?#]")
_SLASH = re.compile(r"(%2F|%5C)", re.IGNORECASE)
_DOT = re.compile(r"\.|%2E", re.IGNORECASE)
_BLANK = "(?:%20|%7F|%[01][0-9A-F])"
_DOTS = re.compile(rf"{_BLANK}*(?:\.|%2E){{1,2}}(?:(?:;|%3B|{_BLANK}).*)?", re.IGNORECASE | re.DOTALL)


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
    """An event_url for the events of this message: what the message says is filled in, what an event says is left.

    Raises ValueError for a value that no URL can hold.
    """
    return _filled(template, values, lambda expression: _names(expression)[0] in _OF_THE_MESSAGE)


def expand(template: str, values: Mapping[str, Any]) -> str:
    """The URL; a variable without a value (None) leaves nothing behind. Raises ValueError, likewise."""
    return _filled(template, values, lambda expression: True)


def _filled(template: str, values: Mapping[str, Any], is_due: Callable[[re.Match[str]], bool]) -> str:
    """A value says what stands in its place, not where the path leads."""
    if not is_template(template) or not (fixed := _FIXED.match(template)):
        return template

    def fill_in(found: re.Match[str]) -> str:
        return _value(found, values) if is_due(found) else found[0]

    def fill_in_marked(found: re.Match[str]) -> str:
        text = fill_in(found)
        text = text.replace("?", "%3F") if found[0].startswith("{+") and is_due(found) else text
        return f"\0{text}\0".replace("/", "\0/\0")

    end = _END_OF_PATH.search(template, fixed.end())
    path, rest = (template[: end.start()], template[end.start() :]) if end else (template, "")
    segments = _EXPRESSION.sub(fill_in_marked, path).split("/")
    path = "/".join(_without_dots(part.replace("\0", "")) if "\0" in part else part for part in segments)
    return path + _EXPRESSION.sub(fill_in, rest)


def _value(expression: re.Match[str], values: Mapping[str, Any]) -> str:
    """What stands for an expression. `{+...}` and `{#...}` keep what URLs are made of, but neither braces nor a `#`."""
    given: dict[str, VariableValue] = {}
    for name in _names(expression):
        if (value := values.get(name)) is not None:
            given[name] = text = str(value)
            if len(text) > LONGEST_VALUE:
                raise ValueError(f"{name} is too long for a URL: {len(text)} characters")
    text = _parsed(expression[0]).expand(given)
    if expression[0].startswith(("{+", "{#")):  # uritemplate leaves all of a text that holds one %XX as it is
        head = text[: expression[0].startswith("{#")]
        text = head + urls.carried(text.removeprefix(head))
    return text


def _without_dots(segment: str) -> str:
    """One that a server would take for `.` or `..`, percent-encoded or not, with its dots encoded twice: they would end a
    segment before it, and those that are encoded once do, too (nginx, WHATWG URL).
    """
    parts = _SLASH.split(segment)
    return "".join(_DOT.sub("%252E", part) if _DOTS.fullmatch(part) else part for part in parts)


@functools.lru_cache(maxsize=256)
def _parsed(template: str) -> URITemplate:
    return URITemplate(template)
