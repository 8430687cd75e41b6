"""Channel type `irc`: a nickname in an IRC network (RFC 1459, RFC 2812, IRCv3's SASL). The light part."""

from __future__ import annotations

from typing import Any

from junebug.registry import ChannelType
from junebug.transports.options import ON_UNKNOWN, RECONNECT_OPTIONS, TLS_OPTIONS, seconds, text, whole

NICKNAME = r"^[A-Za-z\[\]\\`_^{|}][A-Za-z0-9\[\]\\`_^{|}-]{0,29}$"
"""RFC 2812, 2.3.1; networks allow more than its nine characters."""
CHANNEL = r"^[#&+!][^\s,\x00\x07]{1,198}$"

CONFIG_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "network": text("Host name or address of the network's server.", minLength=1, maxLength=255),
        "port": {
            "type": "integer", "minimum": 1, "maximum": 65535,
            "description": "The server's port; by default 6667, with TLS 6697.",
        },
        "tls": {
            "type": ["boolean", "object"], "properties": TLS_OPTIONS, "additionalProperties": False, "default": False,
            "description": "Talk TLS from the first octet: true, or an object with options.",
        },
        "nickname": text("The nickname to have.", pattern=NICKNAME),
        "alternative_nicknames": {
            "type": "array", "items": {"type": "string", "pattern": NICKNAME}, "maxItems": 20,
            "description": "Those to have while it is taken, in this order; then it with a number. It is had back when free.",
        },
        "username": text("The user name at login, where it is not the nickname.", pattern=r"^[^\s@\x00]{1,20}$"),
        "realname": text("What people see as the name.", "Junebug", pattern=r"^[^\r\n\x00]{1,100}$"),
        "password": text("The server's password.", pattern=r"^[^\s\x00]{1,300}$"),
        "sasl_username": text("The account to log in with (SASL PLAIN), beside sasl_password.", pattern=r"^[^\x00]{1,100}$"),
        "sasl_password": text("The account's password.", pattern=r"^[^\x00]{1,300}$"),
        "channels": {
            "type": "array", "items": {"type": "string", "pattern": CHANNEL}, "maxItems": 100, "uniqueItems": True,
            "description": "Those to be in, e.g. [\"#help\"].",
        },
        "listen": {
            "enum": ["addressed", "all"], "default": "addressed",
            "description": "Which messages of a channel are for the application: those that begin with the nickname, or all.",
        },
        "line_interval": seconds("Seconds between two lines: a server throws out who floods it. 0: none.", 2),
        "line_burst": whole("Lines that may leave at once after a silence.", 5, 1, 1000),
        "max_lines": whole("Lines that a message may have; a longer one is rejected.", 10, 1, 1000),
        "ping_interval": seconds("Seconds of silence after which the server is asked; 0: never.", 60),
        "response_timeout": seconds("Seconds within which the server must answer, or the connection is made anew.", 60, 0.1),
        "connect_timeout": seconds("Seconds that connecting and logging in may take.", 30, 0.1),
        "retry_interval": seconds("Seconds between attempts to have the nickname, and to be in the channels.", 60, 0.1),
        **RECONNECT_OPTIONS,
        "on_unknown": ON_UNKNOWN,
    },
    "required": ["network", "nickname"],
    "dependentRequired": {"sasl_username": ["sasl_password"], "sasl_password": ["sasl_username"]},
    "additionalProperties": False,
}  # fmt: skip

CHANNEL_DATA_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "irc": {"type": "object", "properties": {"irc_command": {"enum": ["PRIVMSG", "ACTION", "NOTICE"]}}},
    },
}

CHANNEL_TYPE = ChannelType(
    name="irc",
    transport="junebug.transports.irc.transport:IrcTransport",
    config_schema=CONFIG_SCHEMA,
    secrets=("password", "sasl_password", "tls.key_passphrase"),
    channel_data_schema=CHANNEL_DATA_SCHEMA,
)
