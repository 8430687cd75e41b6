"""Channel type `xmpp`: one account of an XMPP (Jabber) server, RFC 6120 and 6121. The light part."""

from __future__ import annotations

import re
from typing import Any

from junebug.errors import InvalidChannelConfig
from junebug.registry import ChannelType
from junebug.transports.options import ON_UNKNOWN, RECONNECT_OPTIONS, TLS_OPTIONS, flag, seconds, text, whole

JID = re.compile(r"[^\s\"&'/:<>@]+@[^\s/@]+(/.+)?")
"""An account's address, with a resource or without one (RFC 7622, as far as a config needs it)."""
SMALLEST_STANZA = 10_000
"""Octets that each server takes (RFC 6120, 13.12)."""

CONFIG_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "host": text("The server's host name or address; by default DNS (SRV) tells it of the username's domain.", minLength=1),
        "port": whole("The server's port, beside host.", 5222, 1, 65535),
        "username": text("The account's JID: me@example.com. With a resource (me@example.com/bot) that one is asked for.",
                         maxLength=3071),
        "password": text("The account's password.", minLength=1),
        "tls": {
            "type": ["boolean", "object"],
            "properties": {
                "mode": {
                    "enum": ["starttls", "direct"], "default": "starttls",
                    "description": "How TLS begins: when both sides have said hello, or (often on port 5223) before that.",
                },
                **TLS_OPTIONS,
            },
            "additionalProperties": False,
            "default": True,
            "description": "Talk TLS, and nothing without it: true, or an object with options. false: in the clear, password "
            "included.",
        },
        "status": text("How the account shows: chat, away, xa, dnd, or nothing for simply available. Another text is shown as "
                       "it is, where there is no status_message.", ""),
        "status_message": text("What stands beside the account's name.", ""),
        "presence_interval": seconds("Seconds between two announcements of the presence; 0: once a connection.", 60),
        "ping_interval": seconds("Seconds between two pings of the server (XEP-0199); 0: none.", 60),
        "ping_timeout": seconds("Seconds within which the server must answer one, or the connection is made anew.", 30, 0.1),
        "connect_timeout": seconds("Seconds that connecting and logging in may take.", 30, 0.1),
        "receipts": flag("Whether to ask for delivery receipts (XEP-0184), and to give them.", True),
        "max_stanza_size": whole("Octets that a message may have as a stanza; a longer one is rejected. Many servers end the "
                                 "connection over one that is too long for them.", 65_536, SMALLEST_STANZA, 10_000_000),
        **RECONNECT_OPTIONS,
        "on_unknown": ON_UNKNOWN,
        "debug": flag("Log each stanza after the login.", False),
    },
    "required": ["username", "password"],
    "additionalProperties": False,
}  # fmt: skip


def check(config: dict[str, Any]) -> None:
    """Raises InvalidChannelConfig for what the schema could not see."""
    if not JID.fullmatch(config["username"]):
        raise InvalidChannelConfig([("config.username", "it is no JID with a name and a domain, as me@example.com is")])


CHANNEL_TYPE = ChannelType(
    name="xmpp",
    transport="junebug.transports.xmpp.transport:XmppTransport",
    config_schema=CONFIG_SCHEMA,
    secrets=("password", "tls.key_passphrase"),
    check="junebug.transports.xmpp:check",
    preload=False,
)
