"""Every family of Redis keys that names.py makes, and whether a backup holds it: one row each, with the reason.

docs/operations.md shows this table; a test holds it to names.py. Neighbour: copies.py reads and writes the keys.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from junebug import names


@dataclass(frozen=True)
class Family:
    """`name`: in names.py. `key`: with ID for the id of a channel or router, and ... for what differs besides."""

    name: str
    key: str
    is_kept: bool
    why: str


FAMILIES = (
    Family("CHANNELS", names.CHANNELS, True, "Which channels there are."),
    Family("ROUTERS", names.ROUTERS, True, "Which routers there are."),
    Family("ROUTED_CHANNELS", names.ROUTED_CHANNELS, True, "Which channel is which router's."),
    Family("GENERATIONS", names.GENERATIONS, True, "Generations only rise."),
    Family("API_TOKENS", names.API_TOKENS, True, "The API tokens: digests, no texts."),
    Family("channel_properties", "ID:properties", True, "The channels and routers themselves, secrets included."),
    Family("destinations", "ID:destinations", True, "The routers' destinations."),
    Family("destination_words", "ID:destination_words", True, "What no two destinations may share."),
    Family("router_session", "ID:sessions:...", True, "Whose a session is that goes on."),
    Family("channel_status", "ID:status", True, "Last statuses: some, as `set_aside`, are said once only."),
    Family("outbound_message", "ID:outbound_messages:...", True, "Where a message's events go, and which there were."),
    Family("inbound_message", "ID:inbound_messages:...", True, "What can still be replied to."),
    Family("idempotency_key", "ID:idempotency:...", True, "A request that is repeated sends nothing twice."),
    Family("cancelled_messages", "ID:cancelled_messages", True, "What waits in RabbitMQ and must not be sent."),
    Family("delay_queues", "ID:delay_queues", True, "Which queues of RabbitMQ hold callbacks that wait."),
    Family("transport_key", "ID:transport:...", True, "By which id of the provider's a receipt finds its message."),
    Family("shared_transport_key", "transport_shared:...", True, "The same, of channels that share it."),
    Family("hosts_of", "ID:hosts", True, "Which hosts have a part of its log."),
    Family("key_list", "ID:keys:...", True, "By what the keys of a channel are found when it is deleted."),
    Family("DELETED_CHANNELS", names.DELETED_CHANNELS, True, "What deleted channels leave is still to be removed."),
    Family("DELETED_ROUTERS", names.DELETED_ROUTERS, True, "Likewise of routers."),
    Family("deleted_properties", "ID:deleted_properties", True, "Whom to tell of what deleted channels held."),
    Family("DELETED_LOGS", names.DELETED_LOGS, True, "Of which channels each host is to remove log files, and when."),
    Family("LEASE_FENCE", names.LEASE_FENCE, True, "No fence is given twice."),
    Family("DRAINED_HOSTS", names.DRAINED_HOSTS, True, "Hosts that are to run nothing."),
    Family("METRICS", names.METRICS, True, "What was counted only rises."),
    Family("channel_metrics", "ID:metrics", True, "Likewise, of each channel and router."),
    Family("saved_metrics", "junebug_metrics:...", False, "Which counts of a process that runs were added."),
    Family("METRICS_WANTED", names.METRICS_WANTED, False, "Whether somebody looks at the metrics at the moment."),
    Family("PROCESS_SAMPLES", names.PROCESS_SAMPLES, False, "What processes take of memory at the moment."),
    Family("channel_priorities", "ID:priorities", False, "The channel's process finds them again."),
    Family("rate_bucket", "ID:rates:...", False, "Rates of the last seconds."),
    Family("circuit", "circuit:...", False, "Which host fails at the moment."),
    Family("HOSTS", names.HOSTS, False, "Which hosts there are: each says so."),
    Family("host", "junebug_host:...", False, "Which hosts live at the moment."),
    Family("LEASES", names.LEASES, False, "Which host runs what: who runs it says so."),
    Family("LEASE_CHANGES", names.LEASE_CHANGES, False, "What changed of that lately."),
    Family("LEASES_SETTLING", names.LEASES_SETTLING, False, "That it is being said."),
    Family("WANTED_CHANGES", names.WANTED_CHANGES, False, "Which channels and routers changed lately."),
    Family("EPOCH", names.EPOCH, False, "By which a running Junebug sees that Redis was emptied."),
    Family("PLUGINS", names.PLUGINS, False, "How the plugins do at the moment."),
    Family("HEALTH", names.HEALTH, False, "Written to see whether Redis takes it."),
)
LAST = (names.CHANNELS, names.ROUTERS)
"""Restored when all else is there: until then no Junebug sees any of it."""
_BY_KEY = {each.key: each for each in FAMILIES}


def family_of(key: str, ids: Container[str] | None = None) -> Family | None:
    """Whose the key is, by its fixed parts; None: none of Junebug's. `ids`: of the channels and routers there are, as other
    programs may have keys of the same form; None: any.
    """
    first, _, rest = key.partition(":")
    word, _, last = rest.partition(":")
    if not rest:
        return _BY_KEY.get(key)
    if family := _BY_KEY.get(f"{first}:..."):
        return family
    if not first or (ids is not None and first not in ids):
        return None
    return _BY_KEY.get(f"ID:{word}:..." if last else f"ID:{rest}")
