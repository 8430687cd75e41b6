"""Every exchange, queue, routing key and Redis key, built in one place: one search answers "who touches this".

The AMQP names are Vumi's (COMPAT §3), the Redis ones those that Junebug 0.1.11 wrote (COMPAT §4) and ours beside them.
"""

from __future__ import annotations

# --- AMQP -------------------------------------------------------------------------------------------------------------

EXCHANGE = "vumi"
EXCHANGE_TYPE = "direct"

MAX_PRIORITY = 5


def outbound_queue(channel: str) -> str:
    """MT messages on their way to the channel's transport; also `{amqp_queue}.outbound`."""
    return f"{channel}.outbound"


def inbound_queue(channel: str) -> str:
    """MO messages on their way to the application; also `{amqp_queue}.inbound`."""
    return f"{channel}.inbound"


def event_queue(channel: str) -> str:
    """ack, nack and delivery reports on their way to the application; also `{amqp_queue}.event`."""
    return f"{channel}.event"


def status_queue(channel: str) -> str:
    """Statuses of the channel's components on their way to the store and the status_url."""
    return f"{channel}.status"


def dead_queue(channel: str) -> str:
    """What could not be read or given to anybody, newest 10,000 kept."""
    return f"{channel}.dead"


def channel_queues(channel: str) -> dict[str, dict[str, object]]:
    """All queues that a channel owns, each with its AMQP arguments; deleted with the channel."""
    newest = {"x-overflow": "drop-head"}
    return {
        outbound_queue(channel): {"x-max-priority": MAX_PRIORITY},
        inbound_queue(channel): {},
        event_queue(channel): {},
        status_queue(channel): {"x-max-length": 1_000, **newest},
        dead_queue(channel): {"x-max-length": 10_000, **newest},
    }


# --- Redis ------------------------------------------------------------------------------------------------------------

CHANNELS = "channels"
"""Set of the ids of all channels."""

GENERATIONS = "channel_generations"
"""Hash channel id -> generation, raised whenever the channel must be started afresh."""

DELETED_CHANNELS = "deleted_channels"
"""Set of the ids of channels that are deleted and whose queues and keys are still to be removed."""

EPOCH = "channel_epoch"
"""Written by the reconciler when it starts: gone means that Redis was emptied under us."""

NUDGE_TOPIC = "channel_nudges"
"""Pub/sub topic: the id of a channel whose spec changed. Only a hint; a poll finds what a lost one left."""


def channel_properties(channel: str) -> str:
    """String: the channel's properties as JSON."""
    return f"{channel}:properties"


def channel_status(channel: str) -> str:
    """Hash component -> last status as JSON, and `component@` -> its timestamp."""
    return f"{channel}:status"


def inbound_message(channel: str, message_id: str) -> str:
    """Hash: an MO that may still be replied to."""
    return f"{channel}:inbound_messages:{message_id}"


def outbound_message(channel: str, message_id: str) -> str:
    """Hash: an MT for which events may still arrive: where they go, and what has happened."""
    return f"{channel}:outbound_messages:{message_id}"


def rate_bucket(channel: str, bucket: int) -> str:
    """Hash label -> count of one metric window."""
    return f"{channel}:rates:{bucket}"


def transport_key(channel: str, name: str) -> str:
    """What a channel's transport keeps for itself, by a name of its own; with a TTL."""
    return f"{channel}:transport:{name}"


def shared_transport_key(word: str, name: str) -> str:
    """The same for what several channels share that have a word in common (SMPP's split_bind_prefix)."""
    return f"transport_shared:{word}:{name}"


def all_channel_keys(channel: str) -> str:
    """Pattern that matches each key of one channel."""
    return f"{channel}:*"


# --- programs ---------------------------------------------------------------------------------------------------------

CHANNEL_GROUP = "channel"


def channel_program(channel: str) -> str:
    """Name of a channel's process, in supervisorctl and in its title."""
    return f"{CHANNEL_GROUP}:{channel}"
