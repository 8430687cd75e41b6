"""What a request's body may be, by the name that it has in the description: the very schemas that validate.

A `format` of ours says to a reader what a validator asks a function: so it has a pattern beside it here. What a channel's or a
router's `config` may be is its type's own schema.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from junebug.api import routing_schemas, schemas
from junebug.api.bulk_body import MOST_MESSAGES
from junebug.api.openapi.answers import Schema, ref
from junebug.api.openapi.examples import CHANNEL
from junebug.names import AMQP_QUEUE, CHANNEL_ID, LONGEST_AMQP_QUEUE
from junebug.registry import Registry
from junebug.router_types import RouterTypes

_CHAR = "[A-Za-z0-9+/]"
_FOUR = f"({_CHAR}{{4}})"
_URL = r"^[Hh][Tt][Tt][Pp][Ss]?://[!-~]+$"
FORMATS: Mapping[str, Schema] = {
    "http-url": {"pattern": _URL, "examples": ["http://localhost:8001/status"]},
    "mo-url": {"pattern": _URL, "examples": ["http://localhost:8001/mo"]},
    "event-url": {"pattern": rf"^$|{_URL}", "examples": ["http://localhost:8001/event"]},
    "amqp-queue": {
        "pattern": f"^{AMQP_QUEUE}$", "maxLength": LONGEST_AMQP_QUEUE, "examples": ["my-application"],
    },
    "token": {},
    "callback-secret": {
        "pattern": f"^(whsec_({_FOUR}{{8,20}}({_CHAR}{{3}}=|{_CHAR}{{2}}==)?|{_FOUR}{{21}}({_CHAR}{{2}}==)?)|[*]{{8}})$",
        "examples": ["whsec_bm8gc2VjcmV0LCBhbiBleGFtcGxlIG9ubHk="],
    },
    "timestamp": {
        "pattern": r"^[2-9]\d{3}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])([T ]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d)?)?$",
        "examples": ["2099-12-31 08:30:00"],
    },
    "channel-id": {"pattern": f"^{CHANNEL_ID}$", "examples": [CHANNEL]},
}  # fmt: skip
"""What may be said of a text of each `format` in api/schemas.py besides."""


_NULL = {"type": "null"}
_ADDRESSING: list[Schema] = [
    {
        "oneOf": [
            {"title": "to", "properties": {"to": {"type": "string"}, "reply_to": _NULL}, "required": ["to"]},
            {"title": "reply_to", "properties": {"reply_to": {"type": "string"}, "to": _NULL}, "required": ["reply_to"]},
        ]
    },
    {"anyOf": [{"properties": {"expires_at": _NULL}}, {"properties": {"validity": _NULL}}]},
]
"""What api/views.py asks of a message: one of `to` and `reply_to` (both with the setting `allow_expired_replies`), and not two
ends.
"""


def documented(schema: Any) -> Any:
    """A schema that validates as a reader has it: the same, but that a format of ours is explained."""
    if isinstance(schema, list):
        return [documented(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    shown = {key: documented(value) for key, value in schema.items() if key != "readOnly"}  # a body may well have it
    return {**shown, **FORMATS[schema["format"]]} if schema.get("format") in FORMATS else shown


def request_schemas(registry: Registry, types: RouterTypes) -> dict[str, Schema]:
    """Name -> schema."""
    configs = {name: _nullable(registry.get(name).config_schema) for name in registry.names()}
    of_routers = {name: _nullable(types.get(name).config_schema) for name in types.names()}
    of_destinations = {name: _nullable(types.get(name).destination_schema) for name in types.names()}
    destination = _described_by(routing_schemas.DESTINATION, "config", {"anyOf": _refs("DestinationConfig", of_destinations)})
    return {
        "ChannelCreate": _by_type(schemas.CHANNEL_CREATE, "ChannelConfig", configs),
        "ChannelUpdate": documented(schemas.CHANNEL_UPDATE),
        "MessageSend": {**documented(schemas.MESSAGE_SEND), "allOf": _ADDRESSING},
        "Messages": {
            "type": "array", "minItems": 1, "maxItems": MOST_MESSAGES,
            "items": {"anyOf": [ref("MessageSend"), {"description": "Refused, and nothing but itself."}]},
        },
        "Replay": documented(schemas.REPLAY),
        "TokenCreate": documented(schemas.TOKEN_CREATE),
        "RouterCreate": _by_type(routing_schemas.ROUTER, "RouterConfig", of_routers),
        "RouterUpdate": documented(routing_schemas.ROUTER_UPDATE),
        "DestinationCreate": destination,
        "DestinationUpdate": documented(routing_schemas.DESTINATION_UPDATE),
        **_named("ChannelConfig", configs), **_named("RouterConfig", of_routers), **_named("DestinationConfig", of_destinations),
    }  # fmt: skip


def _by_type(schema: Schema, prefix: str, configs: Mapping[str, Schema]) -> Schema:
    """The body whose `type` says which config it has."""
    shown = _described_by(schema, "type", {"enum": list(configs)})
    return {
        **shown,
        "oneOf": [
            {"title": name, "properties": {"type": {"const": name}, "config": ref(config_name(prefix, name))}} for name in configs
        ],
    }  # fmt: skip


def _described_by(schema: Schema, name: str, more: Schema) -> Schema:
    shown: Schema = documented(schema)
    return {**shown, "properties": {**shown["properties"], name: {**shown["properties"][name], **more}}}


def _nullable(schema: Schema) -> Schema:
    """A type's own schema: an option that is null counts as not given."""
    required = schema.get("required", ())
    properties = schema.get("properties", {})
    shown = {name: each if name in required else _or_null(each) for name, each in properties.items()}
    return documented({**schema, "properties": shown}) if properties else documented(schema)  # type: ignore[no-any-return]


def _or_null(schema: Schema) -> Schema:
    more: Schema = {}
    if "enum" in schema and None not in schema["enum"]:
        more["enum"] = [*schema["enum"], None]
    if "type" in schema:
        kinds = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
        more["type"] = kinds if "null" in kinds else [*kinds, "null"]
    elif schema.keys() - {"description", "default", "enum"}:
        return {"anyOf": [schema, {"type": "null"}]}
    return {**schema, **more}


def config_name(prefix: str, type_name: str) -> str:
    return f"{prefix}.{re.sub('[^A-Za-z0-9_.-]', '_', type_name)}"


def _named(prefix: str, configs: Mapping[str, Schema]) -> dict[str, Schema]:
    return {config_name(prefix, name): schema for name, schema in configs.items()}


def _refs(prefix: str, names: Iterable[str]) -> list[Schema]:
    return [ref(config_name(prefix, name)) for name in names]
