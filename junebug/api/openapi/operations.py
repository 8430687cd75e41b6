"""Every operation of the API, a row for each route: what it takes, what it answers, and who may.

A test holds that the app has these routes and no others, and that each handler asks for the rights that stand here. Neighbours:
routing_operations.py has the rows of routers; rows.py says what a row is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from junebug import errors
from junebug.api.openapi.answers import IDS, NOTHING, list_of, ref
from junebug.api.openapi.routing_operations import ROUTING_OPERATIONS
from junebug.api.openapi.rows import (
    DRY_RUN,
    ID_KEY,
    LAST_EVENT,
    LIMIT,
    LOG_COUNT,
    MESSAGE_ID,
    OFFSET,
    REPLAYED,
    SEARCH,
    SEE_MESSAGE,
    SEND,
    SENT,
    STREAM,
    Answer,
    Operation,
    Parameter,
    dead_letters,
    life,
    sending,
)
from junebug.model.access import ADMIN

_C = "/channels/{channel_id}"
_NONE = errors.ChannelNotFound
_NOT_SENT = Answer(200, "message not sent", ref("DryRun"))
_STATE = Parameter("state", {"enum": ["queued"], "default": "queued"}, "Which ones.")


def _on_channels() -> Iterator[Operation]:
    def operation(
        id: str, method: str, path: str, summary: str, answer: Answer, *more: type[Exception], **row: Any
    ) -> Operation:  # fmt: skip
        return Operation(id, "channels", method, path, summary, (answer,), (_NONE, *more), **row)

    in_config = (errors.InvalidBody, errors.InvalidChannelType, errors.InvalidChannelConfig, errors.ApiUsageError)
    answer = Answer(200, "channels listed", IDS)
    yield Operation("list_channels", "channels", "GET", "/channels/", "The ids of all channels", (answer,))
    yield Operation(
        "create_channel", "channels", "POST", "/channels/", "Create a channel",
        (Answer(201, "channel created", ref("Channel")),), in_config, body="ChannelCreate",
        details="It can be used at once: what is sent before its process is up waits. An `id` or `status` is ignored, "
        "so what was read can be sent back.",
    )  # fmt: skip
    yield operation("get_channel", "GET", _C, "A channel, and how it does", Answer(200, "channel found", ref("Channel")))
    yield operation(
        "update_channel", "POST", _C, "Change a channel", Answer(200, "channel updated", ref("Channel")),
        *in_config, errors.ChannelChanged, body="ChannelUpdate",
        details="What is not given stays. A changed `type`, `config` or `public_http` restarts the channel; its queues stay.",
    )  # fmt: skip
    yield operation(
        "delete_channel", "DELETE", _C, "Delete a channel, with all that waits", Answer(200, "channel deleted", NOTHING)
    )
    yield operation(
        "restart_channel", "POST", f"{_C}/restart", "End its process and start it anew", Answer(200, "channel restarted", NOTHING)
    )
    for verb, done, summary in (("pause", "paused", "Send nothing until it is resumed"), ("resume", "resumed", "Send again")):
        answer = Answer(200, f"sending {done}", ref("Queue"))
        yield operation(f"{verb}_channel", "POST", f"{_C}/{verb}", summary, answer, errors.ChannelChanged)
    yield operation(
        "get_channel_logs", "GET", f"{_C}/logs", "The newest log entries, newest first",
        Answer(200, "logs retrieved", list_of(ref("LogEntry"))), errors.ApiUsageError, query=(LOG_COUNT, MESSAGE_ID),
    )  # fmt: skip


def _on_messages() -> Iterator[Operation]:
    def operation(
        id: str, method: str, path: str, summary: str, answer: Answer, *more: type[Exception], **row: Any
    ) -> Operation:  # fmt: skip
        return Operation(id, "messages", method, f"{_C}/{path}", summary, (answer,), (_NONE, *more), **row)

    yield from sending("send_message", "messages", _C, "Send a message", (SENT, _NOT_SENT), (_NONE,), (DRY_RUN,))
    yield operation(
        "send_messages", "POST", "messages/bulk", "Send up to 10,000 messages",
        Answer(201, "messages submitted", ref("BulkResult"), headers=REPLAYED),
        errors.ApiUsageError, errors.JsonDecodeError, errors.IdempotencyKeyReused, errors.RequestInProgress,
        body="Messages", headers=(ID_KEY,), rights=SEND,
        details="The body is a JSON array, or NDJSON: a message a line. 201 when at least one was taken; `messages` says what "
        "became of each, in the order of the request. Refused, it has `messages` beside `errors`.",
    )  # fmt: skip
    yield operation(
        "get_message_status", "GET", "messages/{message_id}", "What became of a message",
        Answer(200, "message status", ref("MessageStatus")), rights=SEE_MESSAGE,
    )  # fmt: skip
    yield life("get_message_timeline", "messages", _C, (_NONE,))
    yield Operation(
        "find_messages", "messages", "GET", "/messages", "Search for messages, newest first",
        (Answer(200, "messages found", ref("FoundMessages")),), (_NONE, errors.ApiUsageError), query=SEARCH, rights=SEE_MESSAGE,
        details="In the logs of channels, as long as these are kept; what waits to be sent comes first. One request reads so "
        "much and no more: while `cursor` is not null there may be more, even if nothing was found so far.",
    )  # fmt: skip
    yield operation(
        "list_queued_messages", "GET", "messages/", "What waits to be sent, in its order",
        Answer(200, "messages listed", ref("QueuedMessages")), errors.ApiUsageError, errors.QueueBusy,
        query=(_STATE, LIMIT, OFFSET),
    )  # fmt: skip
    yield operation(
        "cancel_messages", "DELETE", "messages/", "Cancel all that waits", Answer(200, "messages cancelled", ref("Cancelled")),
        errors.QueueBusy,
    )  # fmt: skip
    yield operation(
        "cancel_message", "DELETE", "messages/{message_id}", "Cancel a message that waits",
        Answer(200, "messages cancelled", ref("Cancelled")), errors.MessageNotQueued, errors.TooManyCancelled,
    )  # fmt: skip
    yield from dead_letters("dead_letters", "dead_letter", _C, (_NONE,))


def _on_tokens() -> Iterator[Operation]:
    yield Operation(
        "list_tokens", "tokens", "GET", "/tokens/", "All API tokens, without their texts",
        (Answer(200, "tokens retrieved", list_of(ref("Token"))),), rights=(ADMIN,),
    )  # fmt: skip
    yield Operation(
        "create_token", "tokens", "POST", "/tokens/", "Make an API token", (Answer(201, "token created", ref("NewToken")),),
        (errors.InvalidBody, errors.ApiUsageError), body="TokenCreate", details="Its text is in this answer alone.",
    )  # fmt: skip
    yield Operation(
        "revoke_token", "tokens", "DELETE", "/tokens/{token_id}", "Revoke an API token",
        (Answer(200, "token revoked", NOTHING),), (errors.TokenNotFound,),
    )  # fmt: skip


def _on_junebug() -> Iterator[Operation]:
    for kind in ("channel", "router"):
        yield Operation(
            f"list_{kind}_types", "junebug", "GET", f"/{kind}-types/", f"Which {kind} types there are, and their options",
            (Answer(200, f"{kind} types retrieved", ref(f"{kind.capitalize()}Types")),),
        )  # fmt: skip
    yield Operation(
        "get_health", "junebug", "GET", "/health", "Whether messages are taken",
        (Answer(200, "health ok", ref("Health")), Answer(503, "service unavailable", ref("Health"))), is_open=True,
        details="A stranger is told the status, and no more.",
    )  # fmt: skip
    yield Operation(
        "get_liveness", "junebug", "GET", "/health/live", "Whether it answers at all", (Answer(200, "alive", NOTHING),),
        is_open=True,
    )  # fmt: skip
    yield Operation(
        "stream_events", "junebug", "GET", "/events/stream", "What channels and routers log, as they do",
        (Answer(200, "Server-Sent Events, without end", {"type": "string"}, media="text/event-stream"),),
        (_NONE, errors.ApiUsageError), query=STREAM, headers=(LAST_EVENT,),
        details="Each event's `id` is where to go on after it, its `event` a kind, its `data` an entry of a log with `kind` and "
        "`channel_id`. An event `lost` says what a client does not get.",
    )  # fmt: skip
    yield Operation(
        "get_metrics", "junebug", "GET", "/metrics", "What is counted, for Prometheus",
        (Answer(200, "metrics, as text or as OpenMetrics", {"type": "string"}, media="text/plain"),),
        details="Also while Redis or RabbitMQ is away: `junebug_up` says so. A token for some channels is shown these.",
    )  # fmt: skip
    yield Operation(
        "get_openapi", "junebug", "GET", "/openapi.json", "This description",
        (Answer(200, "OpenAPI 3.1", {"type": "object"}, media="application/json"),), rights=(),
    )  # fmt: skip
    yield Operation(
        "get_docs", "junebug", "GET", "/docs", "The same for people",
        (Answer(200, "a page", {"type": "string"}, media="text/html"),), rights=(),
    )  # fmt: skip


OPERATIONS: tuple[Operation, ...] = (*_on_channels(), *_on_messages(), *ROUTING_OPERATIONS, *_on_tokens(), *_on_junebug())
