"""Channel type `dmark`: USSD by D-mark's HTTP interface (COMPAT §5). The light part."""

from typing import Any

from junebug.registry import ChannelType
from junebug.transports.http_rpc import PROPERTIES, SECRETS, VALIDATION_MODE

CONFIG_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        **PROPERTIES,
        "validation_mode": VALIDATION_MODE,
        "ussd_session_timeout": {
            "type": "number", "minimum": 0.1, "maximum": 86400, "default": 600,
            "description": "Seconds without a request after which a session is over.",
        },
        "fix_to_addr": {
            "type": "boolean", "default": False,
            "description": "Whether a to address gets the * before it and the # behind it that the provider leaves out.",
        },
    },
    "required": ["web_path"],
    "additionalProperties": False,
}  # fmt: skip

CHANNEL_TYPE = ChannelType(
    name="dmark",
    transport="junebug.transports.dmark.transport:DmarkTransport",
    config_schema=CONFIG_SCHEMA,
    secrets=SECRETS,
    check="junebug.transports.http_rpc:check",
    host_bound=True,
    character_limit=182,
)
