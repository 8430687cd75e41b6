"""Router type `from_address`: the address that a message came to says who gets it (COMPAT §7). The light part."""

from junebug.router_types import RouterType
from junebug.routers.schemas import CHANNEL, DEFAULT

ROUTER_TYPE = RouterType(
    name="from_address",
    router="junebug.routers.from_address.router:FromAddressRouter",
    config_schema={
        "type": "object",
        "properties": {"channel": CHANNEL},
        "required": ["channel"],
        "additionalProperties": False,
    },
    destination_schema={
        "type": "object",
        "properties": {
            "regular_expression": {
                "type": "string", "maxLength": 1000,
                "description": "It gets the messages in whose to address this is found, anywhere unless ^ and $ say where.",
            },
            "default": DEFAULT,
        },
        "required": ["regular_expression"],
        "additionalProperties": False,
    },
    check_destination="junebug.routers.from_address.router:check_destination",
)  # fmt: skip
