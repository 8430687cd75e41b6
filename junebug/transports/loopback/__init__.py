"""Channel type `loopback`: what is sent comes back as a message from the address it was sent to. The light part.

The smallest complete channel type: copy this folder to begin one of your own (docs/channel-types.md).
"""

from junebug.registry import ChannelType

CHANNEL_TYPE = ChannelType(
    name="loopback",
    transport="junebug.transports.loopback.transport:LoopbackTransport",
    config_schema={
        "type": "object",
        "properties": {
            "delivery_reports": {
                "type": "boolean",
                "default": True,
                "description": "Whether each message is reported as delivered.",
            },
        },
        "additionalProperties": False,
    },
    shardable=True,
)
