"""Channel type `twitter`: an account of X (Twitter), by version 2 of its API: tweets and direct messages. The light part."""

from __future__ import annotations

from typing import Any

from junebug.registry import ChannelType
from junebug.transports.options import ON_UNKNOWN, RECONNECT_OPTIONS, flag, seconds, text, whole

KEYS = ("consumer_key", "consumer_secret", "access_token", "access_token_secret")
_KEY: dict[str, Any] = {"minLength": 1, "maxLength": 500, "pattern": r"^[\x21-\x7e]+$"}

CONFIG_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "consumer_key": text("The application's key (OAuth 1.0a).", **_KEY),
        "consumer_secret": text("The application's secret.", **_KEY),
        "access_token": text("The account's token.", **_KEY),
        "access_token_secret": text("The account's token's secret.", **_KEY),
        "bearer_token": text("Instead of these four: an access token of the account's (OAuth 2.0), till it expires.", **_KEY),
        "base_url": text("Where the API is.", "https://api.x.com", pattern=r"^https?://[^\s/?#]+/?$"),
        "send_as": {
            "enum": ["tweet", "direct_message"], "default": "tweet",
            "description": "What a message becomes that is no reply and does not say so itself.",
        },
        "tweet_limit": whole("Characters that the account's tweets may have, as X counts them.", 280, 10, 25_000),
        "long_tweets": {
            "enum": ["reject", "split"], "default": "reject",
            "description": "A text that is longer: reject it, or make a thread of it.",
        },
        "max_tweets": whole("Tweets that a thread may have.", 10, 1, 100),
        "mentions": flag("Whether tweets that mention the account are for the application.", True),
        "direct_messages": flag("Whether direct messages are.", True),
        "poll_interval": seconds("Seconds between two looks for each of them: the API tells of none by itself.", 60, 0.05),
        "request_timeout": seconds("Seconds that a request may take.", 30, 0.1),
        **RECONNECT_OPTIONS,
        "on_unknown": ON_UNKNOWN,
    },
    "anyOf": [{"required": ["bearer_token"]}, {"required": [*KEYS]}],
    "additionalProperties": False,
}  # fmt: skip

CHANNEL_DATA_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"direct_message": {"type": "boolean"}, "tweet": {"type": "boolean"}},
    "not": {"properties": {"direct_message": {"const": True}, "tweet": {"const": True}}, "required": ["direct_message", "tweet"]},
}

CHANNEL_TYPE = ChannelType(
    name="twitter",
    transport="junebug.transports.twitter.transport:TwitterTransport",
    config_schema=CONFIG_SCHEMA,
    secrets=(*KEYS, "bearer_token"),
    channel_data_schema=CHANNEL_DATA_SCHEMA,
    preload=False,
)
