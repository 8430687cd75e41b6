"""What applications are sent, as the API's description says it: each kind of callback (docs/callbacks.md).

Neighbours: model/presenter.py makes their bodies, the worker's callbacks send them.
"""

from __future__ import annotations

from typing import Any

from junebug.api.openapi.answers import ref
from junebug.api.openapi.examples import RESULTS

_HEADERS = {
    "Webhook-Id": (True, "The same at each attempt: repeats are known by it.", "string"),
    "Webhook-Timestamp": (True, "When this attempt was made, in seconds since 1970.", "integer"),
    "Webhook-Signature": (
        False, "Where there is a `callback_secret`: `v1,` and the base64 of an HMAC-SHA256 of id, timestamp and body, with dots "
        "between them (Standard Webhooks).", "string",
    ),
}  # fmt: skip
_RESPONSES = {
    "2XX": {"description": "It was taken; the status alone says so."},
    "4XX": {"description": "It was not. It is tried five times in all; after a 408, 425 or 429 as after a 5xx."},
    "5XX": {"description": "It was not. It is tried again, for a day; a `Retry-After` is honoured."},
}
KINDS = {
    "inbound_message": (
        "Message", "To the `mo_url`: a message came in", "Answer it by a message whose `reply_to` is its `message_id`.",
    ),
    "event": ("Event", "To the `event_url`: what became of a message", "Several may come for a message."),
    "status": ("Status", "To the `status_url`: how a component of the channel does", "One that is unchanged is not sent again."),
}  # fmt: skip
"""Name -> the schema of its body, and what it is."""


def _webhook(id: str, schema: str, summary: str, details: str) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "header", "required": required, "schema": {"type": kind}, "description": description}
        for name, (required, description, kind) in _HEADERS.items()
    ]
    return {
        "post": {
            "operationId": id, "tags": ["callbacks"], "summary": summary, "parameters": parameters,
            "description": f"{details} With `Authorization: Token ...` where the channel, or the message, has a token for it.",
            "requestBody": {
                "required": True, "content": {"application/json": {"schema": ref(schema), "example": RESULTS[schema]}},
            },
            "responses": _RESPONSES, "security": [],
        }
    }  # fmt: skip


WEBHOOKS: dict[str, Any] = {id: _webhook(id, *more) for id, more in KINDS.items()}
