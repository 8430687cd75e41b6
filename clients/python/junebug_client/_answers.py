"""What comes out of Junebug's API. Written by generate.py: change that, or Junebug's own description, instead."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict


class BulkItem(TypedDict):
    """What became of one message: its id, or what is wrong with it."""
    message_id: NotRequired[str]
    errors: NotRequired[list[Error]]

class BulkResult(TypedDict):
    """What became of each message, in the order of the request."""
    messages: list[BulkItem]
    accepted: int
    rejected: int

class Cancelled(TypedDict):
    """How many were cancelled."""
    cancelled: int
    remaining: int  # How many still wait: ask again.

class Candidate(TypedDict):
    """A channel that a router could have chosen."""
    channel: str
    prefix: str | None
    weight: float
    cost: float | None
    ready: bool
    reason: str
    share: float

class Channel(TypedDict):
    """A channel."""
    id: str
    type: str  # The channel's type.
    config: dict[str, Any]  # The channel's settings, after its type's own schema.
    status: ChannelStatus
    label: NotRequired[str | None]  # A name for people.
    metadata: NotRequired[dict[str, Any] | None]  # Anything that the user wants to keep with the channel.
    status_url: NotRequired[str | None]  # Where statuses are posted to; null: nowhere.
    mo_url: NotRequired[str | None]  # Where inbound messages are posted to, maybe a URI template (RFC 6570); null: nowhere.
    mo_url_auth_token: NotRequired[str | None]  # Sent as `Authorization: Token ...` with them.
    callback_secret: NotRequired[str | None]  # Signs what is posted: `whsec_` and base64; null: the setting of that name does.
    amqp_queue: NotRequired[str | None]  # Messages and events go to and come from RabbitMQ under this name.
    rate_limit_count: NotRequired[int | None]  # Messages in a window; 0 or null: no limit.
    rate_limit_window: NotRequired[int | None]  # The window's size, in seconds.
    character_limit: NotRequired[int | None]  # Characters in a message; 0 or null: no limit.
    price: NotRequired[dict[str, Any] | None]  # What a part of a message costs: a dry run tells it.
    public_http: NotRequired[dict[str, Any] | None]  # How the nginx plugin exposes the channel.

class ChannelStatus(TypedDict):
    """How a channel does."""
    status: Literal["ok", "degraded", "down"] | None  # The worst of the components; null before the first status.
    components: dict[str, Status]  # The last status of each component, by its name.
    inbound_message_rate: float  # A second, in the last whole metric_window.
    outbound_message_rate: float  # A second, in the last whole metric_window.
    submitted_event_rate: float  # A second, in the last whole metric_window.
    rejected_event_rate: float  # A second, in the last whole metric_window.
    delivery_succeeded_rate: float  # A second, in the last whole metric_window.
    delivery_failed_rate: float  # A second, in the last whole metric_window.
    delivery_pending_rate: float  # A second, in the last whole metric_window.
    queue_length: int | None  # Messages that wait to be sent.
    queue: Queue
    callbacks_waiting: int | None  # Null while RabbitMQ does not tell.
    dead_letters: int | None  # Null while RabbitMQ does not tell.
    router: NotRequired[str]  # The router that has this channel's messages.

class ChannelTypes(TypedDict):
    """The channel types that there are."""
    types: list[dict[str, Any]]
    channel: dict[str, Any]  # JSON Schema of the body that makes a channel.

class DeadLetter(TypedDict):
    """What the application did not take."""
    id: str
    timestamp: str
    reason: Literal["too_old", "refused", "unreadable", "failed"]  # Why it was given up.
    error: str  # How the last attempt failed.
    destination: NotRequired[str]  # The router's destination whose it is.
    to: NotRequired[str]  # Who did not take it: `mo_url`, `event_url`, `status_url` or `amqp_queue`.
    kind: NotRequired[str]  # `inbound`, `event` or `status`.
    attempts: NotRequired[int]
    message: NotRequired[Message | Event | Status]  # What the application did not get.
    queue: NotRequired[str]  # Of what is no message: where it came from.
    body: NotRequired[str]  # Of what is no message: its first 10,000 characters.

class DeadLetters(TypedDict):
    """A page of dead letters, the oldest first."""
    dead_letters: list[DeadLetter]
    limit: int
    offset: int
    total: int  # How many there are in all.

class Deleted(TypedDict):
    """How many were deleted."""
    deleted: int

class Destination(TypedDict):
    """An application behind a router."""
    id: str
    config: dict[str, Any]  # Which messages it gets, after its router's type.
    status: DestinationStatus
    label: NotRequired[str | None]  # A name for people.
    metadata: NotRequired[dict[str, Any] | None]  # Anything that the user wants to keep with the destination.
    mo_url: NotRequired[str | None]  # Where inbound messages are posted to, maybe a URI template (RFC 6570); null: nowhere.
    mo_url_auth_token: NotRequired[str | None]  # Sent as `Authorization: Token ...` with them.
    mo_url_token: NotRequired[str | None]  # The same, by the name that it had.
    callback_secret: NotRequired[str | None]  # Signs what is posted: `whsec_` and base64; null: the setting of that name does.
    amqp_queue: NotRequired[str | None]  # Messages and events go to and come from RabbitMQ under this name.
    character_limit: NotRequired[int | None]  # Characters in a message; 0 or null: as the channel has it.

class DestinationStatus(TypedDict):
    """Its rates."""
    inbound_message_rate: float  # A second, in the last whole metric_window.
    outbound_message_rate: float  # A second, in the last whole metric_window.
    submitted_event_rate: float  # A second, in the last whole metric_window.
    rejected_event_rate: float  # A second, in the last whole metric_window.
    delivery_succeeded_rate: float  # A second, in the last whole metric_window.
    delivery_failed_rate: float  # A second, in the last whole metric_window.
    delivery_pending_rate: float  # A second, in the last whole metric_window.

DryRun = TypedDict("DryRun", {
    "dry_run": "Literal[True]",
    "channel_id": "str",
    "to": "str | None",
    "from": "str | None",
    "content": "str | None",
    "message": "dict[str, Any]",
    "character_limit": "int | None",
    "encoding": "dict[str, Any] | None",
    "parts": "list[dict[str, Any]]",
    "characters": "int",
    "octets": "int",
    "replaced": "list[dict[str, Any]]",
    "would_replace": "list[dict[str, Any]]",
    "rejected": "str | None",
    "estimate": "dict[str, Any]",
    "cost": "dict[str, Any] | None",
})  # fmt: skip
"""What would be sent."""

class Error(TypedDict):
    """What is wrong."""
    type: str  # For programs.
    message: str  # For people: what is wrong, and what to do.
    schema_path: NotRequired[list[str | int]]  # Where the body's schema refused it.
    field: NotRequired[str]  # Which one of a config.
    code: NotRequired[int]  # The HTTP status, where the request itself was no good.
    new_url: NotRequired[str]  # The right URL.

class Event(TypedDict):
    """What became of a message."""
    event_type: Literal["delivery_failed", "delivery_pending", "delivery_succeeded", "rejected", "submitted"]
    message_id: str
    channel_id: str
    timestamp: str  # UTC.
    event_details: dict[str, Any]  # What the channel told.

FoundMessage = TypedDict("FoundMessage", {
    "message_id": "str",
    "channel_id": "str",
    "direction": "Literal[\"outbound\", \"inbound\"]",
    "to": "str | None",
    "from": "str | None",
    "timestamp": "str",
    "status": "str",
})  # fmt: skip
"""A message that was found."""

class FoundMessages(TypedDict):
    """Messages, the newest first."""
    messages: list[FoundMessage]
    cursor: str | None  # Goes on from here; null: that was all.
    logs: str  # `complete`, or what could not be looked at.

class Health(TypedDict):
    """What is known of Junebug itself; a stranger is told nothing of it."""
    redis: NotRequired[Literal["ok", "down"]]
    amqp: NotRequired[Literal["ok", "down"]]
    plugins: NotRequired[list[dict[str, Any]]]  # How each plugin does.
    errors: NotRequired[list[Error]]

class LogEntry(TypedDict):
    """A line of a log."""
    logger: NotRequired[str]
    level: NotRequired[int]  # Python's: 10 debug, 20 info, 30 warning, 40 error.
    timestamp: NotRequired[float]  # Seconds since 1970.
    message: NotRequired[str]
    message_id: NotRequired[str | None]
    exception: NotRequired[dict[str, Any]]  # `class`, `instance`, and `stack`: a list of lines.

Message = TypedDict("Message", {
    "to": "str | None",
    "from": "str | None",
    "group": "str | None",
    "message_id": "str",
    "channel_id": "str",
    "timestamp": "str",
    "reply_to": "str | None",
    "content": "str | None",
    "channel_data": "dict[str, Any]",
    "expires_at": "NotRequired[str | None]",
})  # fmt: skip
"""A message."""

class MessageStatus(TypedDict):
    """What became of a message, the oldest event first."""
    id: str
    last_event_type: Literal["delivery_failed", "delivery_pending", "delivery_succeeded", "rejected", "submitted"] | None
    last_event_timestamp: str | None  # UTC.
    events: list[Event]

class NewToken(TypedDict):
    """A token that was made."""
    id: str
    name: str
    scopes: list[Literal["admin", "channels:read", "messages:send"]]
    channels: list[str] | None  # What it is for; null: for all.
    created_at: str  # UTC.
    created_by: str
    expires_at: str | None  # Null: never.
    token: str  # Its text. It is not shown again.

class Problem(TypedDict):
    """What went wrong."""
    status: int  # The HTTP status.
    code: str  # Its reason phrase.
    description: str  # What went wrong, for people.
    result: dict[str, Any]  # Why.

class Queue(TypedDict):
    """What waits to be sent."""
    paused: bool
    queued: dict[str, int] | None  # Messages by priority, 5 is sent first. Null while RabbitMQ does not tell.
    sending: dict[str, int] | None  # What has been begun.

QueuedMessage = TypedDict("QueuedMessage", {
    "id": "str",
    "to": "str | None",
    "from": "str | None",
    "group": "str | None",
    "message_id": "str",
    "channel_id": "str",
    "timestamp": "str",
    "reply_to": "str | None",
    "content": "str | None",
    "channel_data": "dict[str, Any]",
    "priority": "int",
    "state": "Literal[\"queued\"]",
    "expires_at": "NotRequired[str | None]",
})  # fmt: skip
"""A message that waits to be sent."""

class QueuedMessages(TypedDict):
    """A page of what waits to be sent, in its order."""
    messages: list[QueuedMessage]
    limit: int
    offset: int
    total: int  # How many there are in all.

class Replayed(TypedDict):
    """How many were given to the application again."""
    replayed: int
    skipped: int  # The unreadable ones, which stay.

RoutedDryRun = TypedDict("RoutedDryRun", {
    "dry_run": "Literal[True]",
    "channel_id": "str",
    "to": "str | None",
    "from": "str | None",
    "content": "str | None",
    "message": "dict[str, Any]",
    "character_limit": "int | None",
    "encoding": "dict[str, Any] | None",
    "parts": "list[dict[str, Any]]",
    "characters": "int",
    "octets": "int",
    "replaced": "list[dict[str, Any]]",
    "would_replace": "list[dict[str, Any]]",
    "rejected": "str | None",
    "estimate": "dict[str, Any]",
    "cost": "dict[str, Any] | None",
    "reason": "str",
    "candidates": "list[Candidate]",
})  # fmt: skip
"""What would be sent, by which channel, and why by that one."""

class Router(TypedDict):
    """A router."""
    id: str
    type: str  # The router's type.
    config: dict[str, Any]  # The router's settings, after its type's own schema.
    status: RouterStatus
    label: NotRequired[str | None]  # A name for people.
    metadata: NotRequired[dict[str, Any] | None]  # Anything that the user wants to keep with the router.

class RouterStatus(TypedDict):
    """How a router does."""
    status: Literal["ok", "degraded", "down"] | None  # The worst of the components; null before the first status.
    components: dict[str, Status]  # The last status of each component, by its name.
    inbound_message_rate: float  # A second, in the last whole metric_window.
    outbound_message_rate: float  # A second, in the last whole metric_window.
    submitted_event_rate: float  # A second, in the last whole metric_window.
    rejected_event_rate: float  # A second, in the last whole metric_window.
    delivery_succeeded_rate: float  # A second, in the last whole metric_window.
    delivery_failed_rate: float  # A second, in the last whole metric_window.
    delivery_pending_rate: float  # A second, in the last whole metric_window.
    dropped_message_rate: float  # Messages that no destination was for.
    callbacks_waiting: int | None  # Null while RabbitMQ does not tell.
    dead_letters: int | None  # Null while RabbitMQ does not tell.

class RouterTypes(TypedDict):
    """The router types that there are."""
    types: list[dict[str, Any]]
    router: dict[str, Any]  # JSON Schema of the body that makes a router.
    destination: dict[str, Any]  # JSON Schema of the body that makes a destination.

SentMessage = TypedDict("SentMessage", {
    "id": "str",
    "to": "str | None",
    "from": "str | None",
    "group": "str | None",
    "message_id": "str",
    "channel_id": "str",
    "timestamp": "str",
    "reply_to": "str | None",
    "content": "str | None",
    "channel_data": "dict[str, Any]",
    "expires_at": "NotRequired[str | None]",
})  # fmt: skip
"""A message that was taken to be sent."""

class Status(TypedDict):
    """How a component does."""
    channel_id: str
    component: str
    status: Literal["ok", "degraded", "down"]
    type: str  # For programs.
    message: str  # For people.
    details: dict[str, Any]

class Timeline(TypedDict):
    """The life of a message, sent or received."""
    message_id: str
    channel_id: str
    direction: Literal["outbound", "inbound"]
    status: Literal[
        "cancelled", "dead", "delivery_failed", "delivery_pending", "delivery_succeeded", "dropped", "expired", "forwarded",
        "moved", "queued", "received", "rejected", "sending", "submitted", "waiting",
    ]
    summary: str  # One sentence: where it is and why.
    waiting: dict[str, Any] | None  # What it waits for; null: for nothing.
    logs: str  # `complete`, or what is missing.
    dead_letters: str  # `complete`, or what is missing.
    steps: list[TimelineStep]  # The oldest first.

class TimelineStep(TypedDict):
    """What happened to a message."""
    timestamp: str  # UTC.
    kind: Literal[
        "accepted", "callback", "callback_waits", "cancelled", "channel", "dead", "dropped", "event", "expired", "failed",
        "moved", "no_answer", "not_sent", "note", "provider_answered", "queued", "receipt", "received", "rejected", "replayed",
        "sent", "sent_to_provider", "stored", "told_provider",
    ]
    description: str  # For people.
    details: dict[str, Any]  # What else is known, as the kind is.

class Token(TypedDict):
    """An API token; its text is shown once, when it is made."""
    id: str
    name: str
    scopes: list[Literal["admin", "channels:read", "messages:send"]]
    channels: list[str] | None  # What it is for; null: for all.
    created_at: str  # UTC.
    created_by: str
    expires_at: str | None  # Null: never.
