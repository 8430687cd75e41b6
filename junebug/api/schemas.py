"""What a request's body may be: JSON Schemas, compiled once (COMPAT §1).

`Body.check` is all that the handlers call. The schemas are plain dicts, so that an API document can be made of them;
what a schema cannot say (a URL, a queue's name) is a format with an explanation of its own.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import jsonschema_rs
import orjson

from junebug import names
from junebug.config_schema import MASK
from junebug.errors import InvalidBody
from junebug.logs.redaction import REDACTED
from junebug.model import signing, templates, urls
from junebug.model.access import SCOPES
from junebug.model.messages import parse_timestamp
from junebug.model.spec import PUBLIC_HTTP
from junebug.registry import LONGEST_PROBLEM

LARGEST_INTEGER = 2**31 - 1
LONGEST_VALIDITY = 30 * 86400
MOST_KNOWN_URLS, LONGEST_KNOWN_URL = 256, 500
"""Of what was found out about a URL this much is remembered: messages say the same event_url again and again."""

_EXPRESSION = re.compile(r"\{[^{}]*\}")


def http_url_problem(text: str) -> str:
    """What is wrong with a URL; empty: nothing."""
    if not text.isprintable() or " " in text:
        return "expected an http:// or https:// URL without blanks and control characters"
    return _raised(urls.parse, text)


def is_timestamp(text: str) -> bool:
    """Whether it says a date, and a time of that day."""
    try:
        parse_timestamp(text)
    except (ValueError, OverflowError):
        return False
    return True


def url_problem(text: str, variables: tuple[str, ...]) -> str:
    """What is wrong with a URL that may hold expressions (RFC 6570) of these variables; empty: nothing."""
    return _url_problem_known(text, variables) if len(text) <= LONGEST_KNOWN_URL else _url_problem(text, variables)


def _url_problem(text: str, variables: tuple[str, ...]) -> str:
    return _raised(templates.check, text, variables) or http_url_problem(_EXPRESSION.sub("", text))


_url_problem_known = functools.lru_cache(MOST_KNOWN_URLS)(_url_problem)


def _raised(check: Callable[..., object], *arguments: object) -> str:
    try:
        check(*arguments)
    except ValueError as error:
        return str(error)
    return ""


def _unless(accepts: Callable[[str], bool], problem: str) -> Callable[[str], str]:
    return lambda text: "" if accepts(text) else problem


FORMATS: dict[str, Callable[[str], str]] = {
    "http-url": http_url_problem,
    "mo-url": lambda text: url_problem(text, templates.MO_VARIABLES),
    "event-url": lambda text: url_problem(text, templates.EVENT_VARIABLES) if text else "",
    "amqp-queue": _unless(
        names.is_amqp_queue,
        f"expected 1 to {names.LONGEST_AMQP_QUEUE} letters of ASCII, digits, blanks and -_.:@#,/+ that do not begin with 'amq.'",
    ),
    "token": _unless(str.isprintable, "expected a text without control characters"),
    "channel-id": _unless(names.is_channel_id, "it is no id of a channel"),
    # the mask is taken here, views.py sees what it stands for
    "callback-secret": lambda text: "" if text == REDACTED else _raised(signing.check_secret, text),
    "timestamp": _unless(is_timestamp, "expected a timestamp, for example 2026-11-24 08:30:00 (UTC)"),
}
"""Name -> what is wrong with a text; empty: nothing."""


def text_or_null(description: str, **rules: Any) -> dict[str, Any]:
    return {"type": ["string", "null"], **rules, "description": description}


def count_or_null(description: str) -> dict[str, Any]:
    return {"type": ["integer", "null"], "minimum": 0, "maximum": LARGEST_INTEGER, "description": description}


IGNORED = {"description": "Ignored: what was read can be sent back.", "readOnly": True}

CHANNEL_UPDATE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "type": {"type": "string", "description": "The channel's type."},
        "label": text_or_null("A name for people."),
        "config": {"type": "object", "description": "The channel's settings, after its type's own schema."},
        "metadata": {"type": ["object", "null"], "description": "Anything that the user wants to keep with the channel."},
        "status_url": text_or_null("Where statuses are posted to; null: nowhere.", format="http-url"),
        "mo_url": text_or_null(
            "Where inbound messages are posted to, maybe a URI template (RFC 6570); null: nowhere.", format="mo-url"
        ),
        "mo_url_auth_token": text_or_null("Sent as `Authorization: Token ...` with them.", format="token"),
        "callback_secret": text_or_null(
            "Signs what is posted: `whsec_` and base64; null: the setting of that name does.", format="callback-secret"
        ),
        "amqp_queue": text_or_null("Messages and events go to and come from RabbitMQ under this name.", format="amqp-queue"),
        "rate_limit_count": count_or_null("Messages in a window; 0 or null: no limit."),
        "rate_limit_window": count_or_null("The window's size, in seconds."),
        "character_limit": count_or_null("Characters in a message; 0 or null: no limit."),
        "price": {
            "type": ["object", "null"], "description": "What a part of a message costs: a dry run tells it.",
            "properties": {
                "amount": {"type": "number", "minimum": 0, "maximum": LARGEST_INTEGER},
                "currency": {"type": "string", "pattern": "^[A-Z]{3}$", "description": "Of ISO 4217."},
            },
            "required": ["amount", "currency"], "additionalProperties": False,
        },
        "public_http": {**PUBLIC_HTTP, "description": "How the nginx plugin exposes the channel."},
        "id": IGNORED,
        "status": IGNORED,
    },
    "additionalProperties": False,
}
CHANNEL_CREATE: dict[str, Any] = {**CHANNEL_UPDATE, "required": ["type", "config"]}

MESSAGE_SEND: dict[str, Any] = {
    "type": "object",
    "properties": {
        "to": text_or_null("Whom it is for; not with `reply_to`.", minLength=1),
        "from": text_or_null("Whom it is from, where the channel has a choice."),
        "group": text_or_null("The group or room it is for."),
        "reply_to": text_or_null("The id of the inbound message that it answers.", minLength=1),
        "content": text_or_null("The text."),
        "event_url": text_or_null(
            "Where its events are posted to, maybe a URI template (RFC 6570); null or empty: nowhere.", format="event-url"
        ),
        "event_auth_token": text_or_null("Sent as `Authorization: Token ...` with them.", format="token"),
        "priority": {
            "enum": [None, 1, 2, 3, 4, 5, "1", "2", "3", "4", "5"], "description": "1 (the default) to 5; 5 goes first.",
        },
        "expires_at": text_or_null(
            "It is not sent after this time: a timestamp, in UTC unless it says otherwise.", format="timestamp"
        ),
        "validity": {
            "type": ["number", "null"], "exclusiveMinimum": 0, "maximum": LONGEST_VALIDITY,
            "description": "The same, in seconds from now.",
        },
        "channel_data": {
            "type": ["object", "null"], "description": "What the channel's type understands besides.",
            "properties": {
                "session_event": {"enum": [None, "new", "resume", "close"]},
                "continue_session": {"type": ["boolean", "null"]},
            },
        },
    },
    "required": ["content"],
    "additionalProperties": False,
}  # fmt: skip

REPLAY: dict[str, Any] = {
    "type": "object",
    "properties": {
        "ids": {
            "type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1,
            "description": "Of the dead letters to give to the application again; without it: all.",
        },
    },
    "additionalProperties": False,
}

TOKEN_CREATE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 100, "format": "token", "description": "Whose it is."},
        "scopes": {
            "type": "array", "items": {"enum": list(SCOPES)}, "minItems": 1, "uniqueItems": True,
            "description": "What it may do: `admin` everything, `channels:read` see, `messages:send` send.",
        },
        "channels": {
            "type": ["array", "null"], "items": {"type": "string", "format": "channel-id"}, "minItems": 1, "maxItems": 1000,
            "uniqueItems": True,
            "description": "Ids of the channels, routers and destinations that it is for; null: all, and what is no channel's.",
        },
        "expires_at": text_or_null("It is good for nothing after this time; null: it does not expire.", format="timestamp"),
    },
    "required": ["name", "scopes"],
    "additionalProperties": False,
}


class Body:
    """A kind of body."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._validator = jsonschema_rs.Draft202012Validator(
            schema,
            formats={name: _accepts(problem) for name, problem in FORMATS.items()},
            validate_formats=True,
            mask=MASK,
        )

    def check(self, body: Any) -> dict[str, Any]:
        """The body itself. Raises InvalidBody with an entry for each problem, which names the field, not its value."""
        if not self._validator.is_valid(body):
            raise InvalidBody([_problem(error) for error in self._validator.iter_errors(body)])
        found: dict[str, Any] = body
        return found


def _accepts(problem: Callable[[str], str]) -> Callable[[str], bool]:
    return lambda text: not problem(text)


def _problem(error: jsonschema_rs.ValidationError) -> tuple[str, list[str | int]]:
    match error.kind:
        case jsonschema_rs.ValidationErrorKind.Format(format=name):
            message = FORMATS[name](str(error.instance))
        case jsonschema_rs.ValidationErrorKind.Enum(options=options):
            message = f"expected one of {orjson.dumps(options).decode()}"
        case _:
            message = error.message
    field = ".".join(map(str, error.instance_path))
    return (f"{field}: {message}" if field else message)[:LONGEST_PROBLEM], list(error.schema_path)


channel_create = Body(CHANNEL_CREATE)
channel_update = Body(CHANNEL_UPDATE)
message_send = Body(MESSAGE_SEND)
replay = Body(REPLAY)
token_create = Body(TOKEN_CREATE)
