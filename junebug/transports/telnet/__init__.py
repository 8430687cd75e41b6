"""Channel type `telnet`: people (or tests) talk to an application over a TCP line protocol. The light part."""

from typing import Any

from junebug.registry import ChannelType

CONFIG_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "twisted_endpoint": {
            "type": "string",
            "description": "Where to listen, as Twisted writes it: tcp:9001, tcp:port=9001:interface=127.0.0.1:backlog=50, "
                           "tcp6:9001.",
        },
        "telnet_host": {"type": "string", "default": "0.0.0.0", "description": "Address to listen on, beside telnet_port."},
        "telnet_port": {
            "type": "integer", "minimum": 1, "maximum": 65535, "description": "Port to listen on, instead of twisted_endpoint.",
        },
        "to_addr": {"type": "string", "description": "The to address of inbound messages; by default host:port listened on."},
        "transport_type": {"type": "string", "default": "telnet", "description": "The transport_type of messages on AMQP."},
        "max_connections": {
            "type": "integer", "minimum": 1, "default": 1000,
            "description": "Clients at the same time; one more is told so and cut off.",
        },
        "idle_timeout": {
            "type": "number", "minimum": 0, "default": 3600,
            "description": "Seconds without a line after which a client is cut off; 0: never.",
        },
    },
    "additionalProperties": False,
}

CHANNEL_TYPE = ChannelType(
    name="telnet",
    transport="junebug.transports.telnet.transport:TelnetTransport",
    config_schema=CONFIG_SCHEMA,
    check="junebug.transports.telnet.protocol:check",
    host_bound=True,
)
