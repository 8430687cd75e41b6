"""What the API answers: a JSON Schema of each kind of `result`, by the name that it has in the description.

What a body may say and what is shown of it are one declaration: a Channel has the properties of api/schemas.py. Neighbours:
the functions that make these answers are in api/views.py, api/routing_views.py and model/presenter.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from junebug.api.life.outcome import INBOUND_STATUSES, OUTBOUND_STATUSES
from junebug.api.life.step import KINDS
from junebug.api.routing_schemas import DESTINATION_UPDATE, ROUTER_UPDATE
from junebug.api.schemas import CHANNEL_UPDATE
from junebug.api.views import RATE_NAMES
from junebug.model.access import SCOPES
from junebug.model.callbacks import Reason
from junebug.model.messages import API_EVENT_TYPES, SESSION_EVENTS, STATUS_LEVELS
from junebug.names import PRIORITIES

Schema = dict[str, Any]


def record(
    description: str, required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None, *, more: bool = False
) -> Schema:
    """An object of these properties; `more`: and of others."""
    schema: Schema = {"type": "object", "description": description, "properties": {**required, **(optional or {})}}
    if required:
        schema["required"] = list(required)
    if not more:
        schema["additionalProperties"] = False
    return schema


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def described(schema: Schema, description: str) -> Schema:
    return {**schema, "description": description}


def list_of(items: Schema, description: str = "") -> Schema:
    return {"type": "array", "items": items, **({"description": description} if description else {})}


TEXT: Schema = {"type": "string"}
TEXT_OR_NULL: Schema = {"type": ["string", "null"]}
OBJECT: Schema = {"type": "object"}
COUNT: Schema = {"type": "integer", "minimum": 0}
COUNT_OR_NULL: Schema = {"type": ["integer", "null"], "minimum": 0, "description": "Null while RabbitMQ does not tell."}
TIMESTAMP: Schema = {
    "type": "string", "pattern": r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}$", "description": "UTC.",
    "examples": ["2026-11-23 20:00:00.250000"],
}  # fmt: skip
TIMESTAMP_OR_NULL: Schema = {**TIMESTAMP, "type": ["string", "null"]}
NOTHING: Schema = record("Nothing.", {})
IDS: Schema = list_of(TEXT, "Ids, sorted.")

_RATES: Mapping[str, Schema] = {
    name: {"type": "number", "minimum": 0, "description": "A second, in the last whole metric_window."}
    for name in RATE_NAMES.values()
}
_BY_PRIORITY: Schema = {
    "type": ["object", "null"], "description": "Messages by priority, 5 is sent first. Null while RabbitMQ does not tell.",
    "properties": {str(priority): COUNT for priority in sorted(PRIORITIES, reverse=True)}, "additionalProperties": False,
}  # fmt: skip
_COMPONENTS: Schema = {
    "type": "object", "additionalProperties": ref("Status"), "description": "The last status of each component, by its name.",
}  # fmt: skip
_WORST: Schema = {
    "enum": [*STATUS_LEVELS, None], "description": "The worst of the components; null before the first status.",
}  # fmt: skip


def _shown(update: Schema, without: tuple[str, ...] = ("id", "status")) -> dict[str, Schema]:
    """The properties of a body as they are shown: secrets are masked, so formats do not hold."""
    return {
        name: {key: value for key, value in schema.items() if key != "format"}
        for name, schema in update["properties"].items()
        if name not in without
    }


def _of_body(description: str, update: Schema, required: tuple[str, ...], status: Schema) -> Schema:
    shown = _shown(update)
    given = {name: schema for name, schema in shown.items() if name not in required}
    return record(description, {"id": TEXT, **{name: shown[name] for name in required}, "status": status}, given)


def _page(name: str, items: str, description: str) -> Schema:
    return record(description, {
        name: list_of(ref(items)), "limit": {"type": "integer", "minimum": 1}, "offset": COUNT,
        "total": described(COUNT, "How many there are in all."),
    })  # fmt: skip


_MESSAGE: dict[str, Schema] = {
    "to": TEXT_OR_NULL, "from": TEXT_OR_NULL, "group": TEXT_OR_NULL,
    "message_id": TEXT, "channel_id": described(TEXT, "The channel that it came by, or goes by."), "timestamp": TIMESTAMP,
    "reply_to": described(TEXT_OR_NULL, "The message_id of the inbound message that it answers."),
    "content": TEXT_OR_NULL,
    "channel_data": {
        "type": "object", "description": "What the channel's type tells, or understands, besides.",
        "properties": {"session_event": {"enum": list(SESSION_EVENTS)}},
    },
}  # fmt: skip
_EXPIRES: dict[str, Schema] = {"expires_at": described(TIMESTAMP_OR_NULL, "It is not sent after this time.")}
_ID: dict[str, Schema] = {"id": described(TEXT, "Its message_id.")}
_ERROR: Schema = record(
    "What is wrong.",
    {"type": described(TEXT, "For programs."), "message": described(TEXT, "For people: what is wrong, and what to do.")},
    {
        "schema_path": list_of({"type": ["string", "integer"]}, "Where the body's schema refused it."),
        "field": described(TEXT, "Which one of a config."),
        "code": described({"type": "integer"}, "The HTTP status, where the request itself was no good."),
        "new_url": described(TEXT, "The right URL."),
    },
)  # fmt: skip
_TOKEN: dict[str, Schema] = {
    "id": TEXT, "name": TEXT, "scopes": list_of({"enum": list(SCOPES)}),
    "channels": {"type": ["array", "null"], "items": TEXT, "description": "What it is for; null: for all."},
    "created_at": TIMESTAMP, "created_by": TEXT, "expires_at": described(TIMESTAMP_OR_NULL, "Null: never."),
}  # fmt: skip
_DEAD_LETTER: dict[str, Schema] = {
    "id": TEXT, "timestamp": TEXT,
    "reason": {"enum": list(get_args(Reason)), "description": "Why it was given up."},
    "error": described(TEXT, "How the last attempt failed."),
}  # fmt: skip
_LETTER_OF_A_MESSAGE: dict[str, Schema] = {
    "destination": described(TEXT, "The router's destination whose it is."),
    "to": described(TEXT, "Who did not take it: `mo_url`, `event_url`, `status_url` or `amqp_queue`."),
    "kind": described(TEXT, "`inbound`, `event` or `status`."),
    "attempts": COUNT,
    "message": {"anyOf": [ref("Message"), ref("Event"), ref("Status")], "description": "What the application did not get."},
    "queue": described(TEXT, "Of what is no message: where it came from."),
    "body": described(TEXT, "Of what is no message: its first 10,000 characters."),
}  # fmt: skip

SCHEMAS: dict[str, Schema] = {
    "Channel": _of_body("A channel.", CHANNEL_UPDATE, ("type", "config"), ref("ChannelStatus")),
    "ChannelStatus": record(
        "How a channel does.",
        {
            "status": _WORST, "components": _COMPONENTS, **_RATES,
            "queue_length": described(COUNT_OR_NULL, "Messages that wait to be sent."), "queue": ref("Queue"),
            "callbacks_waiting": COUNT_OR_NULL, "dead_letters": COUNT_OR_NULL,
        },
        {"router": described(TEXT, "The router that has this channel's messages.")},
    ),
    "Queue": record("What waits to be sent.", {
        "paused": {"type": "boolean"}, "queued": _BY_PRIORITY, "sending": described(_BY_PRIORITY, "What has been begun."),
    }),
    "Status": record("How a component does.", {
        "channel_id": TEXT, "component": TEXT, "status": {"enum": list(STATUS_LEVELS)},
        "type": described(TEXT, "For programs."), "message": described(TEXT, "For people."), "details": OBJECT,
    }),
    "Message": record("A message.", _MESSAGE, _EXPIRES),
    "SentMessage": record("A message that was taken to be sent.", {**_ID, **_MESSAGE}, _EXPIRES),
    "QueuedMessage": record("A message that waits to be sent.", {
        **_ID, **_MESSAGE, "priority": {"type": "integer", "minimum": 1, "maximum": 5}, "state": {"enum": ["queued"]},
    }, _EXPIRES),
    "QueuedMessages": _page("messages", "QueuedMessage", "A page of what waits to be sent, in its order."),
    "Event": record("What became of a message.", {
        "event_type": {"enum": sorted(API_EVENT_TYPES)}, "message_id": TEXT, "channel_id": TEXT, "timestamp": TIMESTAMP,
        "event_details": record("What the channel told.", {}, {
            "reason": described(TEXT, "Why it was rejected, or failed."),
            "sent_message_id": described(TEXT, "The provider's id of the message."),
        }, more=True),
    }),
    "MessageStatus": record("What became of a message, the oldest event first.", {
        "id": TEXT, "last_event_type": {"enum": [*sorted(API_EVENT_TYPES), None]}, "last_event_timestamp": TIMESTAMP_OR_NULL,
        "events": list_of(ref("Event")),
    }),
    "Timeline": record("The life of a message, sent or received.", {
        "message_id": TEXT, "channel_id": TEXT, "direction": {"enum": ["outbound", "inbound"]},
        "status": {"enum": sorted({*OUTBOUND_STATUSES, *INBOUND_STATUSES})},
        "summary": described(TEXT, "One sentence: where it is and why."),
        "waiting": {
            "type": ["object", "null"], "description": "What it waits for; null: for nothing.",
            "properties": {
                "for": TEXT, "since": TIMESTAMP, "until": TIMESTAMP_OR_NULL, "reason": described(TEXT, "For people."),
            },
            "required": ["for", "since", "until", "reason"], "additionalProperties": False,
        },
        "logs": described(TEXT, "`complete`, or what is missing."),
        "dead_letters": described(TEXT, "`complete`, or what is missing."),
        "steps": list_of(ref("TimelineStep"), "The oldest first."),
    }),
    "TimelineStep": record("What happened to a message.", {
        "timestamp": TIMESTAMP, "kind": {"enum": sorted(KINDS)}, "description": described(TEXT, "For people."),
        "details": described(OBJECT, "What else is known, as the kind is."),
    }),
    "FoundMessage": record("A message that was found.", {
        "message_id": TEXT, "channel_id": TEXT, "direction": {"enum": ["outbound", "inbound"]}, "to": TEXT_OR_NULL,
        "from": TEXT_OR_NULL, "timestamp": TIMESTAMP, "status": TEXT,
    }),
    "FoundMessages": record("Messages, the newest first.", {
        "messages": list_of(ref("FoundMessage")),
        "cursor": described(TEXT_OR_NULL, "Goes on from here; null: that was all."),
        "logs": described(TEXT, "`complete`, or what could not be looked at."),
    }),
    "BulkItem": record("What became of one message: its id, or what is wrong with it.", {}, {
        "message_id": TEXT, "errors": list_of(ref("Error")),
    }),
    "BulkResult": record("What became of each message, in the order of the request.", {
        "messages": list_of(ref("BulkItem")), "accepted": COUNT, "rejected": COUNT,
    }),
    "Cancelled": record("How many were cancelled.", {
        "cancelled": COUNT, "remaining": described(COUNT, "How many still wait: ask again."),
    }),
    "DeadLetter": record("What the application did not take.", _DEAD_LETTER, _LETTER_OF_A_MESSAGE),
    "DeadLetters": _page("dead_letters", "DeadLetter", "A page of dead letters, the oldest first."),
    "Replayed": record("How many were given to the application again.", {
        "replayed": COUNT, "skipped": described(COUNT, "The unreadable ones, which stay."),
    }),
    "Deleted": record("How many were deleted.", {"deleted": COUNT}),
    "LogEntry": record("A line of a log.", {}, {
        "logger": TEXT, "level": described({"type": "integer"}, "Python's: 10 debug, 20 info, 30 warning, 40 error."),
        "timestamp": described({"type": "number"}, "Seconds since 1970."), "message": TEXT, "message_id": TEXT_OR_NULL,
        "exception": described(OBJECT, "`class`, `instance`, and `stack`: a list of lines."),
    }, more=True),
    "Router": _of_body("A router.", ROUTER_UPDATE, ("type", "config"), ref("RouterStatus")),
    "RouterStatus": record("How a router does.", {
        "status": _WORST, "components": _COMPONENTS, **_RATES,
        "dropped_message_rate": {"type": "number", "minimum": 0, "description": "Messages that no destination was for."},
        "callbacks_waiting": COUNT_OR_NULL, "dead_letters": COUNT_OR_NULL,
    }),
    "Destination": _of_body("An application behind a router.", DESTINATION_UPDATE, ("config",), ref("DestinationStatus")),
    "DestinationStatus": record("Its rates.", _RATES),
    "Candidate": record("A channel that a router could have chosen.", {
        "channel": TEXT, "prefix": TEXT_OR_NULL, "weight": {"type": "number"}, "cost": {"type": ["number", "null"]},
        "ready": {"type": "boolean"}, "reason": TEXT, "share": {"type": "number", "minimum": 0, "maximum": 1},
    }),
    "Token": record("An API token; its text is shown once, when it is made.", _TOKEN),
    "NewToken": record("A token that was made.", {**_TOKEN, "token": described(TEXT, "Its text. It is not shown again.")}),
    "Health": record("What is known of Junebug itself; a stranger is told nothing of it.", {}, {
        "redis": {"enum": ["ok", "down"]}, "amqp": {"enum": ["ok", "down"]},
        "plugins": list_of(OBJECT, "How each plugin does."), "errors": list_of(ref("Error")),
    }),
    "Error": _ERROR,
}  # fmt: skip
"""Name -> schema."""
_TYPE: dict[str, Schema] = {
    "name": TEXT, "config_schema": described(OBJECT, "JSON Schema of its `config`."),
    "secrets": list_of(TEXT, "Which fields of it are shown masked; a dot leads into an object."),
}  # fmt: skip
SCHEMAS["ChannelTypes"] = record("The channel types that there are.", {
    "types": list_of(record("A channel type.", {
        **_TYPE,
        "channel_data_schema": {
            "type": ["object", "null"], "description": "JSON Schema of a message's `channel_data`; null: anything.",
        },
        "character_limit": described(COUNT, "Characters that a message may have where the channel says nothing; 0: any number."),
    })),
    "channel": described(OBJECT, "JSON Schema of the body that makes a channel."),
})  # fmt: skip
SCHEMAS["RouterTypes"] = record("The router types that there are.", {
    "types": list_of(record("A router type.", {
        **_TYPE,
        "destination_schema": described(OBJECT, "JSON Schema of a destination's `config`."),
        "destination_secrets": list_of(TEXT, "Which fields of it are shown masked."),
        "chooses_channel": {"type": "boolean", "description": "Whether it sends through several channels."},
    })),
    "router": described(OBJECT, "JSON Schema of the body that makes a router."),
    "destination": described(OBJECT, "JSON Schema of the body that makes a destination."),
})  # fmt: skip
_REPLACEMENTS = list_of(record("Of a character.", {
    "character": TEXT, "by": TEXT, "positions": list_of(COUNT, "In the content, from 0; the first 20."),
}))  # fmt: skip
_DRY_RUN: dict[str, Schema] = {
    "dry_run": {"const": True}, "channel_id": TEXT, "to": TEXT_OR_NULL, "from": TEXT_OR_NULL, "content": TEXT_OR_NULL,
    "message": record("The message.", {name: each for name, each in _MESSAGE.items() if name != "message_id"}, _EXPIRES),
    "character_limit": described(COUNT_OR_NULL, "Characters that a message may have; null: any number."),
    "encoding": {
        **record("How it is encoded, and why; null where the channel's type says nothing of it.", {
            "name": TEXT, "data_coding": COUNT, "reason": TEXT, "forced_by": list_of(record("A character.", {
                "character": TEXT, "code_point": TEXT, "position": described(COUNT, "Of the first one in the content, from 0."),
            }), "What the shorter alphabet has not."),
            "extended": described(COUNT, "Characters that take two places."),
        }), "type": ["object", "null"],
    },
    "parts": list_of(record("A part.", {
        "content": TEXT, "characters": COUNT, "octets": described(COUNT, "With its header."),
        "header": {"enum": ["udh", "sar", "payload", None]},
    })),
    "characters": COUNT, "octets": COUNT,
    "replaced": described(_REPLACEMENTS, "What the option `gsm_safe` replaces."),
    "would_replace": described(_REPLACEMENTS, "What it would replace, were it on."),
    "rejected": described(TEXT_OR_NULL, "Why it would be taken, and rejected later; null: it would not."),
    "estimate": record("When it would leave.", {
        "seconds": {"type": ["number", "null"], "minimum": 0, "description": "From now; null: nobody knows."},
        "waiting": described(COUNT_OR_NULL, "Messages that leave before it."), "reasons": list_of(TEXT),
    }),
    "cost": {
        **record("What it would cost; null: the channel has no `price`.", {
            "amount": {"type": "number", "minimum": 0}, "currency": TEXT, "per_part": {"type": "number"}, "parts": COUNT,
        }), "type": ["object", "null"],
    },
}  # fmt: skip
SCHEMAS["DryRun"] = record("What would be sent.", _DRY_RUN)
SCHEMAS["RoutedDryRun"] = record("What would be sent, by which channel, and why by that one.", {
    **_DRY_RUN, "reason": TEXT, "candidates": list_of(ref("Candidate")),
})  # fmt: skip
