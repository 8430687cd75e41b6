"""An example of every body that is sent and of every result, as docs/http-api.md tells them; tests send and compare them all.

By the name of its schema. Neighbour: problems.py has the errors'.
"""

from __future__ import annotations

from typing import Any

from junebug.api.openapi.answers import Schema
from junebug.api.views import RATE_NAMES

CHANNEL, ROUTER, DESTINATION = (
    "bc5f2e63-7f53-4996-816d-4f89f45a5842", "d7a1c1f0-6a55-4d1c-8b8a-0f2c9a0f8f43", "2f6f2d0a-7c0f-4c3e-9d3b-6f2f3a7c1b55",
)  # fmt: skip
"""The ids of those that the examples speak of."""
_MESSAGE_ID, _PHONE = "35f3336d4a1a46c7b40cd172a41c510d", "127.0.0.1:53378"
_RATES = dict.fromkeys(RATE_NAMES.values(), 0.0)
_NONE = {str(priority): 0 for priority in (5, 4, 3, 2, 1)}
_TIME = "2026-11-23 20:00:00.250000"

BODIES: dict[str, Any] = {
    "ChannelCreate": {
        "type": "telnet", "label": "My First Channel", "mo_url": "http://localhost:8001/mo",
        "config": {"twisted_endpoint": "tcp:9001"},
    },
    "ChannelUpdate": {"label": "Support", "mo_url": "http://localhost:8001/mo2"},
    "MessageSend": {"to": _PHONE, "content": "hello", "event_url": "http://localhost:8001/event"},
    "Messages": [{"to": _PHONE, "content": "hello"}, {"to": _PHONE, "content": "you", "priority": "high"}],
    "Replay": {},
    "TokenCreate": {"name": "reminders", "scopes": ["messages:send"], "channels": [CHANNEL], "expires_at": "2099-12-31 00:00"},
    "RouterCreate": {"type": "from_address", "config": {"channel": CHANNEL}, "label": "Shared number"},
    "RouterUpdate": {"label": "8110"},
    "DestinationCreate": {
        "config": {"regular_expression": "^8110$"}, "mo_url": "http://localhost:8001/mo", "mo_url_auth_token": "a-token",
    },
    "DestinationUpdate": {"label": "8110"},
}  # fmt: skip
LINE = '`{"to": "127.0.0.1:53378", "content": "hello"}`'

_QUEUE = {"paused": False, "queued": _NONE, "sending": _NONE}
_STATUS = {
    "channel_id": CHANNEL, "component": "telnet", "status": "ok", "type": "listening", "message": "Listening on 0.0.0.0:9001",
    "details": {},
}  # fmt: skip
_MESSAGE = {
    "to": "0.0.0.0:9001", "from": _PHONE, "group": None, "message_id": "22c9cd74c5ff42d9b8e1a538e2a17175", "channel_id": CHANNEL,
    "timestamp": _TIME, "reply_to": None, "content": "Hi there", "channel_data": {"session_event": "resume"},
}  # fmt: skip
_SENT: dict[str, Any] = {
    "id": _MESSAGE_ID, "to": _PHONE, "from": None, "group": None, "message_id": _MESSAGE_ID, "channel_id": CHANNEL,
    "timestamp": _TIME, "reply_to": None, "content": "hello", "channel_data": {},
}  # fmt: skip
_DRY_RUN: dict[str, Any] = {
    "dry_run": True, "channel_id": CHANNEL, "to": _PHONE, "from": None, "content": "hello",
    "message": {name: value for name, value in _SENT.items() if name not in ("id", "message_id")}, "character_limit": None,
    "encoding": {
        "name": "gsm0338", "data_coding": 0, "reason": "GSM 03.38 has every character", "forced_by": [], "extended": 0,
    },
    "parts": [{"content": "hello", "characters": 5, "octets": 5, "header": None}], "characters": 5, "octets": 5,
    "replaced": [], "would_replace": [], "rejected": None, "estimate": {"seconds": 0.0, "waiting": 0, "reasons": []},
    "cost": {"amount": 0.08, "currency": "ZAR", "per_part": 0.08, "parts": 1},
}  # fmt: skip
_EVENT = {
    "event_type": "submitted", "message_id": _MESSAGE_ID, "channel_id": CHANNEL, "timestamp": "2026-11-23 20:00:00.500000",
    "event_details": {},
}  # fmt: skip
_WRONG = {
    "type": "invalid_body", "message": 'priority: expected one of [null,1,2,3,4,5,"1","2","3","4","5"]',
    "schema_path": ["properties", "priority", "enum"],
}  # fmt: skip
_TOKEN = {
    "id": "0f2d7c9a41be", "name": "reminders", "scopes": ["messages:send"], "channels": [CHANNEL],
    "created_at": "2026-11-27 08:30:00.000000", "created_by": "ops", "expires_at": "2099-12-31 00:00:00.000000",
}  # fmt: skip
_SCHEMA = {"type": "object", "properties": {}}
RESULTS: dict[str, Any] = {
    "ChannelTypes": {
        "types": [
            {
                "name": "loopback", "secrets": [], "channel_data_schema": None, "character_limit": 0,
                "config_schema": {"type": "object", "properties": {"delivery_reports": {"type": "boolean", "default": True}}},
            },
        ],
        "channel": _SCHEMA,
    },
    "RouterTypes": {
        "types": [
            {
                "name": "from_address", "secrets": [], "destination_secrets": [], "chooses_channel": False,
                "config_schema": {"type": "object", "properties": {"channel": {"type": "string"}}},
                "destination_schema": {"type": "object", "properties": {"regular_expression": {"type": "string"}}},
            },
        ],
        "router": _SCHEMA, "destination": _SCHEMA,
    },
    "Channel": {
        "id": CHANNEL, "type": "telnet", "label": "My First Channel", "mo_url": "http://localhost:8001/mo",
        "config": {"twisted_endpoint": "tcp:9001"},
        "status": {
            "status": "ok", "components": {"telnet": _STATUS}, **_RATES, "queue_length": 0, "queue": _QUEUE,
            "callbacks_waiting": 0, "dead_letters": 0,
        },
    },
    "Queue": _QUEUE,
    "Status": _STATUS,
    "Message": _MESSAGE,
    "Event": _EVENT,
    "SentMessage": _SENT,
    "QueuedMessages": {"messages": [{**_SENT, "priority": 1, "state": "queued"}], "limit": 100, "offset": 0, "total": 1},
    "MessageStatus": {
        "id": _MESSAGE_ID, "last_event_type": "submitted", "last_event_timestamp": _EVENT["timestamp"], "events": [_EVENT],
    },
    "Timeline": {
        "message_id": _MESSAGE_ID, "channel_id": CHANNEL, "direction": "outbound", "status": "queued",
        "summary": "Accepted at 2026-11-23 20:00:00 UTC, it waits in the channel's queue, because the channel is paused until "
        "somebody resumes it (since 2026-11-23 19:58:12 UTC).",
        "waiting": {
            "for": "paused", "since": "2026-11-23 19:58:12.104000", "until": None,
            "reason": "the channel is paused until somebody resumes it",
        },
        "logs": "complete", "dead_letters": "complete",
        "steps": [{
            "timestamp": "2026-11-23 20:00:00.250000", "kind": "accepted", "description": "Accepted from reminders at 10.0.0.7",
            "details": {"by": "reminders", "address": "10.0.0.7", "to": _PHONE},
        }],
    },
    "FoundMessages": {
        "messages": [{
            "message_id": _MESSAGE_ID, "channel_id": CHANNEL, "direction": "outbound", "to": _PHONE, "from": "12345",
            "timestamp": "2026-11-23 20:00:00.250000", "status": "delivery_succeeded",
        }],
        "cursor": None, "logs": "complete",
    },
    "BulkResult": {"messages": [{"message_id": _MESSAGE_ID}, {"errors": [_WRONG]}], "accepted": 1, "rejected": 1},
    "Cancelled": {"cancelled": 1, "remaining": 0},
    "DeadLetters": {
        "dead_letters": [{
            "id": "0d1c7e3ed6a24a7a9d32c1c0d4a1b5f2", "timestamp": "2026-11-24 20:00:00.250000", "reason": "refused",
            "error": "HTTP 400 Bad Request", "to": "mo_url", "kind": "inbound", "attempts": 5, "message": _MESSAGE,
        }],
        "limit": 100, "offset": 0, "total": 1,
    },
    "Replayed": {"replayed": 1, "skipped": 0},
    "Deleted": {"deleted": 1},
    "LogEntry": {
        "logger": CHANNEL, "level": 20, "timestamp": 1795464000.25, "message": "message sent", "message_id": _MESSAGE_ID,
        "to_addr": _PHONE,
    },
    "Router": {
        "id": ROUTER, "type": "from_address", "label": "Shared number", "config": {"channel": CHANNEL},
        "status": {
            "status": None, "components": {}, **_RATES, "dropped_message_rate": 0.0, "callbacks_waiting": 0, "dead_letters": 0,
        },
    },
    "Destination": {
        "id": DESTINATION, "config": {"regular_expression": "^8110$"}, "mo_url": "http://localhost:8001/mo",
        "mo_url_auth_token": "********", "mo_url_token": "********", "status": _RATES,
    },
    "DryRun": _DRY_RUN,
    "RoutedDryRun": {
        **_DRY_RUN, "reason": "prefix 27: the only one that is ready",
        "candidates": [{
            "channel": CHANNEL, "prefix": "27", "weight": 1, "cost": None, "ready": True, "reason": "ok", "share": 1.0,
        }],
    },
    "Token": _TOKEN,
    "NewToken": {**_TOKEN, "token": "jb_0f2d7c9a41be_..."},
    "Health": {"redis": "ok", "amqp": "ok"},
}  # fmt: skip


def result_of(schema: Schema) -> Any:
    """An example of a result."""
    if "$ref" in schema:
        return RESULTS[schema["$ref"].rpartition("/")[2]]
    if schema["type"] == "array":
        return [result_of(schema["items"]) if "$ref" in schema["items"] else CHANNEL]
    return {}
