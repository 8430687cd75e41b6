"""Router type `outbound`: what is sent takes one of several channels, by number, weight or cost. The light part."""

from junebug.router_types import RouterType

LONGEST_PREFIX = 20

ROUTER_TYPE = RouterType(
    name="outbound",
    router="junebug.routers.outbound.router:OutboundRouter",
    config_schema={
        "type": "object",
        "properties": {
            "channels": {
                "type": "array", "minItems": 1, "maxItems": 100,
                "description": "The channels that it sends through: objects of the following.",
                "items": {
                    "type": "object",
                    "properties": {
                        "channel": {
                            "type": "string", "minLength": 1, "maxLength": 255, "description": "The channel's id.",
                        },
                        "prefixes": {
                            "type": "array", "maxItems": 1000, "default": [],
                            "items": {"type": "string", "minLength": 1, "maxLength": 40},
                            "description": "It takes numbers that begin with one of these, country code first; none: any.",
                        },
                        "weight": {
                            "type": "number", "minimum": 0, "maximum": 1_000_000, "default": 1,
                            "description": "Its share, beside those of the others; 0: only while none of those is ready.",
                        },
                        "cost": {
                            "type": "number", "minimum": 0, "maximum": 1_000_000_000,
                            "description": "Of a message, in whatever unit; without it, it is dearer than all that have one.",
                        },
                    },
                    "required": ["channel"],
                    "additionalProperties": False,
                },
            },
            "prefer": {
                "enum": ["weight", "cost"], "default": "weight",
                "description": "Whether weights alone decide, or the cheapest goes first and weights among equals.",
            },
            "sticky": {
                "type": "boolean", "default": False,
                "description": "Whether messages to one address take the same channel as long as that one is ready.",
            },
        },
        "required": ["channels"],
        "additionalProperties": False,
    },
    destination_schema={"type": "object", "additionalProperties": False},
    check="junebug.routers.outbound.choice:check",
    sends_by="junebug.routers.outbound.choice:choose",
)  # fmt: skip
