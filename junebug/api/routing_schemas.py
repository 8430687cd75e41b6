"""What the bodies of routers and destinations may be. Neighbour: schemas.py, for channels and messages."""

from __future__ import annotations

from typing import Any

from junebug.api.schemas import IGNORED, Body, count_or_null, text_or_null

ROUTER_UPDATE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "type": {"type": "string", "description": "The router's type."},
        "label": text_or_null("A name for people."),
        "config": {"type": "object", "description": "The router's settings, after its type's own schema."},
        "metadata": {"type": ["object", "null"], "description": "Anything that the user wants to keep with the router."},
        "id": IGNORED,
        "status": IGNORED,
    },
    "additionalProperties": False,
}
ROUTER: dict[str, Any] = {**ROUTER_UPDATE, "required": ["type", "config"]}

_TOKEN = text_or_null("Sent as `Authorization: Token ...` with them.", format="token")

DESTINATION_UPDATE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "label": text_or_null("A name for people."),
        "config": {"type": "object", "description": "Which messages it gets, after its router's type."},
        "metadata": {"type": ["object", "null"], "description": "Anything that the user wants to keep with the destination."},
        "mo_url": text_or_null(
            "Where inbound messages are posted to, maybe a URI template (RFC 6570); null: nowhere.", format="mo-url"
        ),
        "mo_url_auth_token": _TOKEN,
        "mo_url_token": {**_TOKEN, "description": "The same, by the name that it had."},
        "callback_secret": text_or_null(
            "Signs what is posted: `whsec_` and base64; null: the setting of that name does.", format="callback-secret"
        ),
        "amqp_queue": text_or_null(
            "Messages and events go to and come from RabbitMQ under this name.", format="amqp-queue"
        ),
        "character_limit": count_or_null("Characters in a message; 0 or null: as the channel has it."),
        "id": IGNORED,
        "status": IGNORED,
    },
    "additionalProperties": False,
}
DESTINATION: dict[str, Any] = {**DESTINATION_UPDATE, "required": ["config"]}

router = Body(ROUTER)
router_update = Body(ROUTER_UPDATE)
destination = Body(DESTINATION)
destination_update = Body(DESTINATION_UPDATE)
