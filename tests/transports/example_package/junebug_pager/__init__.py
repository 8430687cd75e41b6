"""Channel type `pager`: an example. The light part: what the API needs to check a config, and to keep its secrets."""

from junebug.registry import ChannelType
from junebug.transports.options import RECONNECT_OPTIONS, seconds, text, whole

CHANNEL_TYPE = ChannelType(
    name="pager",
    transport="junebug_pager.transport:PagerTransport",
    config_schema={
        "type": "object",
        "properties": {
            "host": text("The paging provider's host name or address.", minLength=1),
            "port": whole("Its port.", 4444, 1, 65535),
            "password": text("What it lets us in with.", minLength=1),
            "timeout": seconds("Seconds within which it must answer.", 10, 0.1),
            **RECONNECT_OPTIONS,
        },
        "required": ["host", "password"],
        "additionalProperties": False,
    },
    secrets=("password",),
)
