"""Router type `keyword`: the first word of a message says who gets it. The light part."""

from typing import Any

from junebug.router_types import RouterType
from junebug.routers.schemas import CHANNEL, DEFAULT

WORD: dict[str, Any] = {"type": "string", "minLength": 1, "maxLength": 50}

ROUTER_TYPE = RouterType(
    name="keyword",
    router="junebug.routers.keyword.router:KeywordRouter",
    config_schema={
        "type": "object",
        "properties": {
            "channel": CHANNEL,
            "session_timeout": {
                "type": "integer", "minimum": 1, "maximum": 86400, "default": 600,
                "description": "Seconds without a message after which it is forgotten where a session went.",
            },
        },
        "required": ["channel"],
        "additionalProperties": False,
    },
    destination_schema={
        "type": "object",
        "properties": {
            "keyword": {
                **WORD,
                "description": "It gets the messages that begin with this word: one without blanks, in capitals or not.",
            },
            "aliases": {
                "type": "array", "items": WORD, "maxItems": 100, "default": [],
                "description": "Other words that do as well.",
            },
            "default": DEFAULT,
        },
        "required": ["keyword"],
        "additionalProperties": False,
    },
    check_destination="junebug.routers.keyword.words:check_destination",
    exclusive="junebug.routers.keyword.words:words_of",
)  # fmt: skip
