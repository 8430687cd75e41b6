"""What Junebug 0.1 and 0.2 (and Vumi, whose transports they ran) had and did otherwise: tables for import_check.py."""

from __future__ import annotations

from collections.abc import Mapping

SETTINGS: Mapping[str, tuple[str, str]] = {
    "rabbitmq_management_interface": ("queue lengths are asked over AMQP", "take it out; `GET /channels/ID` has queue lengths"),
    "redis.key_prefix": (
        "the keys of this Junebug have no prefix",
        "take it out, and rename the keys while both are stopped: `redis-cli --scan --pattern 'PREFIX:*'`, then RENAME each",
    ),
    "amqp.specfile": ("the protocol is built in", "take it out"),
    "amqp.heartbeat": ("it is 15 seconds, at home 60", "take it out"),
    "redis.FAKE_REDIS": ("it was for tests", "take it out"),
}
"""Setting -> (why it has no effect, what to do)."""

WORKER_OPTIONS: Mapping[str, str] = {
    "middleware": "Vumi's middleware is not run: do in the application, or in front of it, what it did",
    "concurrent_sends": "messages leave in their order; SMPP has window_size",
    "amqp_prefetch_count": "Junebug takes 50 messages at a time",
    "transport_name": "it is the channel's id",
    "worker_name": "nothing reads it",
    "redis_manager": "Redis is that of the settings",
    "publish_status": "statuses are always told",
    "noisy": "requests are in the channel's log",
    "metadata_store": "nothing reads it",
    "static_provider": "`provider` of messages on AMQP is what the type says",
}
"""Option that any transport of Vumi's took -> what is so instead."""

CLASSES: Mapping[str, str] = {
    "TelnetServerTransport": "telnet", "AddressedTelnetServerTransport": "telnet_addr", "XMPPTransport": "xmpp",
    "SmppTransceiverTransport": "smpp", "SmppTransceiverTransportWithOldConfig": "smpp", "SmppTransport": "smpp",
    "SmppTransmitterTransport": "smpp, with bind_mode transmitter", "SmppReceiverTransport": "smpp, with bind_mode receiver",
    "DmarkUssdTransport": "dmark", "IrcTransport": "irc", "TwitterTransport": "twitter", "HttpRpcTransport": "http_api",
    "VumiBridgeTransport": "none: let the two applications talk HTTP", "HttpApiTransport": "http_api",
}  # fmt: skip
"""Name of a transport class of Vumi's -> the type here that does as it did. (Other HTTP providers: http_api.)"""

NGINX = "junebug.plugins.nginx.NginxPlugin"

NOTES: Mapping[str, tuple[tuple[tuple[str, ...], str, str], ...]] = {
    "telnet": (((), "the end of a session is told, too", "let the application take `session_event: close`"),),
    "smpp": (
        (
            ("submit_sm_encoding", "submit_sm_data_coding"),
            "texts leave as GSM 03.38 or UCS-2; Vumi sent UTF-8 with data_coding 0",
            "nothing, where the SMSC keeps to the standard; else set submit_sm_encoding to utf-8 and submit_sm_data_coding to 0",
        ),
        (
            ("send_long_messages", "send_multipart_sar", "send_multipart_udh"),
            "long texts leave in parts (UDH); Vumi sent them as one",
            "nothing, or set send_long_messages",
        ),
        (
            (),
            "receipts of what the old Junebug sent find no message here",
            "let those come in that matter before you change over: pause what sends for a while",
        ),
    ),
    "xmpp": ((("tls",), "it talks TLS or nothing", "nothing, or set `tls` to false where the server has none"),),
    "dmark": (((), "replies of more than 182 characters are refused", "set character_limit where D-mark lets you have more"),),
}
"""Type -> (options of which any makes it as it was, what is different, what to do)."""
