"""What goes into Junebug's API. Written by generate.py: change that, or Junebug's own description, instead."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict


class ChannelCreate(TypedDict):
    type: str  # The channel's type.
    label: NotRequired[str | None]  # A name for people.
    config: dict[str, Any]  # The channel's settings, after its type's own schema.
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
    id: NotRequired[Any]  # Ignored: what was read can be sent back.
    status: NotRequired[Any]  # Ignored: what was read can be sent back.

class ChannelUpdate(TypedDict):
    type: NotRequired[str]  # The channel's type.
    label: NotRequired[str | None]  # A name for people.
    config: NotRequired[dict[str, Any]]  # The channel's settings, after its type's own schema.
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
    id: NotRequired[Any]  # Ignored: what was read can be sent back.
    status: NotRequired[Any]  # Ignored: what was read can be sent back.

class DestinationCreate(TypedDict):
    label: NotRequired[str | None]  # A name for people.
    config: dict[str, Any]  # Which messages it gets, after its router's type.
    metadata: NotRequired[dict[str, Any] | None]  # Anything that the user wants to keep with the destination.
    mo_url: NotRequired[str | None]  # Where inbound messages are posted to, maybe a URI template (RFC 6570); null: nowhere.
    mo_url_auth_token: NotRequired[str | None]  # Sent as `Authorization: Token ...` with them.
    mo_url_token: NotRequired[str | None]  # The same, by the name that it had.
    callback_secret: NotRequired[str | None]  # Signs what is posted: `whsec_` and base64; null: the setting of that name does.
    amqp_queue: NotRequired[str | None]  # Messages and events go to and come from RabbitMQ under this name.
    character_limit: NotRequired[int | None]  # Characters in a message; 0 or null: as the channel has it.
    id: NotRequired[Any]  # Ignored: what was read can be sent back.
    status: NotRequired[Any]  # Ignored: what was read can be sent back.

class DestinationUpdate(TypedDict):
    label: NotRequired[str | None]  # A name for people.
    config: NotRequired[dict[str, Any]]  # Which messages it gets, after its router's type.
    metadata: NotRequired[dict[str, Any] | None]  # Anything that the user wants to keep with the destination.
    mo_url: NotRequired[str | None]  # Where inbound messages are posted to, maybe a URI template (RFC 6570); null: nowhere.
    mo_url_auth_token: NotRequired[str | None]  # Sent as `Authorization: Token ...` with them.
    mo_url_token: NotRequired[str | None]  # The same, by the name that it had.
    callback_secret: NotRequired[str | None]  # Signs what is posted: `whsec_` and base64; null: the setting of that name does.
    amqp_queue: NotRequired[str | None]  # Messages and events go to and come from RabbitMQ under this name.
    character_limit: NotRequired[int | None]  # Characters in a message; 0 or null: as the channel has it.
    id: NotRequired[Any]  # Ignored: what was read can be sent back.
    status: NotRequired[Any]  # Ignored: what was read can be sent back.

MessageSend = TypedDict("MessageSend", {
    "to": "NotRequired[str | None]",
    "from": "NotRequired[str | None]",
    "group": "NotRequired[str | None]",
    "reply_to": "NotRequired[str | None]",
    "content": "str | None",
    "event_url": "NotRequired[str | None]",
    "event_auth_token": "NotRequired[str | None]",
    "priority": "NotRequired[Literal[1, 2, 3, 4, 5, \"1\", \"2\", \"3\", \"4\", \"5\"] | None]",
    "expires_at": "NotRequired[str | None]",
    "validity": "NotRequired[float | None]",
    "channel_data": "NotRequired[dict[str, Any] | None]",
})  # fmt: skip

Messages = list[MessageSend]

class Replay(TypedDict):
    ids: NotRequired[list[str]]  # Of the dead letters to give to the application again; without it: all.

class RouterCreate(TypedDict):
    type: str  # The router's type.
    label: NotRequired[str | None]  # A name for people.
    config: dict[str, Any]  # The router's settings, after its type's own schema.
    metadata: NotRequired[dict[str, Any] | None]  # Anything that the user wants to keep with the router.
    id: NotRequired[Any]  # Ignored: what was read can be sent back.
    status: NotRequired[Any]  # Ignored: what was read can be sent back.

class RouterUpdate(TypedDict):
    type: NotRequired[str]  # The router's type.
    label: NotRequired[str | None]  # A name for people.
    config: NotRequired[dict[str, Any]]  # The router's settings, after its type's own schema.
    metadata: NotRequired[dict[str, Any] | None]  # Anything that the user wants to keep with the router.
    id: NotRequired[Any]  # Ignored: what was read can be sent back.
    status: NotRequired[Any]  # Ignored: what was read can be sent back.

class TokenCreate(TypedDict):
    name: str  # Whose it is.
    # What it may do: `admin` everything, `channels:read` see, `messages:send` send.
    scopes: list[Literal["admin", "channels:read", "messages:send"]]
    # Ids of the channels, routers and destinations that it is for; null: all, and what is no channel's.
    channels: NotRequired[list[str] | None]
    expires_at: NotRequired[str | None]  # It is good for nothing after this time; null: it does not expire.
