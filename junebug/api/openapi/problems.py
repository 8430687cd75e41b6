"""Every error that the API answers, with an example: what is wrong, and what the answer says. Neighbour: junebug/errors.py."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

import orjson

from junebug import errors
from junebug.api.http import error_reply, http_error_reply
from junebug.api.openapi.answers import Schema, list_of, record, ref
from junebug.errors import JunebugError

_ID = "bc5f2e63-7f53-4996-816d-4f89f45a5842"
EXAMPLES: tuple[JunebugError, ...] = (
    errors.JsonDecodeError("The body is no JSON: unexpected end of data: line 1 column 2 (char 1)"),
    errors.InvalidBody([("'content' is a required property", ["required"])]),
    errors.ApiUsageError('Only one of "to" and "reply_to" may be specified'),
    errors.InvalidChannelType("Invalid channel type 'pigeon', must be one of: smpp, telnet"),
    errors.InvalidChannelConfig([("config.telnet_port", 'the value is not of type "integer"')]),
    errors.InvalidRouterType("Invalid router type 'roulette', must be one of: from_address, keyword, outbound"),
    errors.InvalidRouterConfig([("config.channel", f"Channel {_ID} already has a destination specified")]),
    errors.InvalidRouterDestinationConfig([("config", "'regular_expression' is a required property")]),
    errors.MessageNotFound("Inbound message with id '22c9cd74c5ff42d9b8e1a538e2a17175' not found: it may have expired"),
    errors.MessageTooLong("The message content is of length 161, which is greater than the character limit of 160"),
    errors.NoChannel("No channel of router 'd7a1c1f0-6a55-4d1c-8b8a-0f2c9a0f8f43' takes '27821234567'"),
    errors.NotAuthenticated("An API token is needed: send it as `Authorization: Bearer ...`, or as Basic's password"),
    errors.NotAllowed("The API token 'reminders' has not the scope that this needs: admin"),
    errors.HostNotAllowed("Host: Junebug is not known by this name: add it to the setting allowed_hosts, or use localhost"),
    errors.OriginNotAllowed("Origin: a page of another site changes nothing here; ours are named by the setting allowed_hosts"),
    errors.ChannelNotFound("There is no channel with id 'nobody'"),
    errors.RouterNotFound("There is no router with id 'nobody'"),
    errors.DestinationNotFound("There is no destination with id 'nobody'"),
    errors.TokenNotFound("There is no API token with id 'nobody'"),
    errors.MessageNotQueued("No message with id 'x' waits to be sent: it is unknown, being sent, or sent already"),
    errors.DeadLetterNotFound("There is no dead letter with id 'x'"),
    errors.ChannelChanged(f"Channel {_ID!r} was changed by somebody else meanwhile: read it and try again"),
    errors.RouterChanged("The router was changed by somebody else meanwhile: read it and try again"),
    errors.NoSuchMessage(f"No message with id 'x' is known of channel {_ID}, neither to Redis nor to its logs"),
    errors.QueueBusy("Somebody else is going through the queue: try again"),
    errors.TooManyCancelled(f"100000 cancelled messages of channel {_ID!r} wait already: cancel all, or let it send"),
    errors.RequestInProgress("A request with this Idempotency-Key is still under way: try again"),
    errors.PayloadTooLarge("The body is larger than 1048576 bytes (setting max_body_size)"),
    errors.IdempotencyKeyReused("This Idempotency-Key was used with another body before: use a new one for each request"),
    errors.TooManyAttempts("Too many wrong API tokens were sent; try again later"),
    JunebugError("An unexpected error occurred: see Junebug's log"),
    errors.Unavailable("Redis or RabbitMQ did not answer within 5 s"),
    errors.BrokerUnavailable("There is no connection to RabbitMQ"),
    errors.StoreUnavailable("Redis is away"),
    errors.Overloaded("There are so many connections to Junebug that this one is refused"),
    errors.NotRunning(f"Channel {_ID!r} has no process at this moment"),
)
"""One of each."""
HTTP_ERRORS = (400, 404, 405, 408, 413, 417)
"""What the request itself may be no good for, before it reaches us."""
OF_ANY: tuple[type[JunebugError], ...] = (
    errors.ApiUsageError, errors.NotAuthenticated, errors.NotAllowed, errors.HostNotAllowed, errors.PayloadTooLarge,
    errors.TooManyAttempts, JunebugError, errors.Unavailable, errors.BrokerUnavailable, errors.StoreUnavailable,
    errors.Overloaded,
)  # fmt: skip
"""Those that any request may get."""
OF_CHANGES: tuple[type[JunebugError], ...] = (errors.OriginNotAllowed, errors.NotRunning, errors.QueueBusy)
OF_BODIES: tuple[type[JunebugError], ...] = (errors.JsonDecodeError,)

SCHEMAS: dict[str, Schema] = {
    "Problem": record("What went wrong.", {
        "status": {"type": "integer", "minimum": 300, "maximum": 599, "description": "The HTTP status."},
        "code": {"type": "string", "description": "Its reason phrase."},
        "description": {"type": "string", "description": "What went wrong, for people."},
        "result": record("Why.", {"errors": list_of(ref("Error"))}, more=True),
    }),
}  # fmt: skip


def examples() -> dict[str, dict[str, Any]]:
    """Name -> what is answered, as an OpenAPI example."""
    answers = {type(error).__name__: error_reply(error) for error in EXAMPLES}
    answers.update((http_name(status), http_error_reply(status)) for status in HTTP_ERRORS)
    bodies = {name: orjson.loads(answer.body) for name, answer in answers.items() if isinstance(answer.body, bytes)}
    return {name: {"summary": body["result"]["errors"][0]["message"], "value": body} for name, body in bodies.items()}


def http_name(status: int) -> str:
    return HTTPStatus(status).phrase.title().replace(" ", "")


def of_status(classes: Iterable[type[Exception]]) -> dict[int, tuple[str, ...]]:
    """What may go wrong with a request, by the status that it is answered with: names of examples."""
    found: dict[int, list[str]] = {status: [http_name(status)] for status in HTTP_ERRORS}
    for each in dict.fromkeys(classes):
        assert issubclass(each, JunebugError)
        found.setdefault(each.status, []).append(each.__name__)
    return {status: tuple(names) for status, names in sorted(found.items())}


def response(status: int, names: Iterable[str]) -> dict[str, Any]:
    """The answer to any of these."""
    described: dict[str, Any] = {
        "description": ", ".join(f"`{name}`" for name in names),
        "content": {
            "application/json": {
                "schema": ref("Problem"),
                "examples": {name: {"$ref": f"#/components/examples/{name}"} for name in names},
            }
        },
    }
    headers = _headers(status)
    return {**described, "headers": headers} if headers else described


def _headers(status: int) -> Mapping[str, Any]:
    if status in (429, 503):
        return {"Retry-After": {"schema": {"type": "integer"}, "required": True, "description": "Seconds."}}
    if status == 401:
        return {"WWW-Authenticate": {"schema": {"type": "string"}, "required": True, "description": "How to authenticate."}}
    return {}
