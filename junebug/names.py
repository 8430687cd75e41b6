"""Every exchange, queue, routing key and Redis key, built in one place: one search answers "who touches this".

The AMQP names are Vumi's (COMPAT §3), the Redis ones those that Junebug 0.1.11 wrote (COMPAT §4) and ours beside them.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass

CHANNEL_ID = r"[0-9A-Za-z][0-9A-Za-z_.-]{0,127}"
_CHANNEL_ID = re.compile(CHANNEL_ID)


def is_channel_id(text: str) -> bool:
    """Whether it can be a channel's id, which is part of the names of queues, keys, files and processes."""
    return _CHANNEL_ID.fullmatch(text) is not None


AMQP_QUEUE = r"(?!amq\.)[0-9A-Za-z_.:@#,/+ -]+"
_QUEUE = re.compile(AMQP_QUEUE)
LONGEST_AMQP_NAME = 255
"""Bytes of a queue's name (AMQP 0-9-1, shortstr)."""


def is_amqp_queue(text: str) -> bool:
    """Whether it can be an `amqp_queue`: the beginning of queues' names (pamqp's characters; `amq.` is RabbitMQ's)."""
    return len(text) <= LONGEST_AMQP_QUEUE and _QUEUE.fullmatch(text) is not None


# --- shards -----------------------------------------------------------------------------------------------------------

MOST_SHARDS = 32
_SHARD_MARK = "~"
_UNIT = re.compile(rf"{CHANNEL_ID}(?:{_SHARD_MARK}(?:[1-9]|[12][0-9]|3[01]))?")


def unit(channel: str, shard: int) -> str:
    """What a lease, a process and a log file are of. The first shard's is the channel's id, the others' are of no channel."""
    return f"{channel}{_SHARD_MARK}{shard}" if shard else channel


def units(channel: str, shards: int) -> list[str]:
    """Those of a channel with so many shards."""
    return [unit(channel, shard) for shard in range(shards)]


def channel_of(unit: str) -> str:
    """The channel (or router) whose unit this is."""
    return unit.partition(_SHARD_MARK)[0]


def shard_of(unit: str) -> int:
    """Which shard of its channel it is, from 0 on."""
    return int(unit.partition(_SHARD_MARK)[2] or 0)


def is_unit(text: str) -> bool:
    """Whether it can be a unit: a channel's id, and what may be behind it."""
    return _UNIT.fullmatch(text) is not None


_NUMBERED = re.compile(r"\.[1-9][0-9]*\Z")


def log_name(unit: str) -> str:
    """Name of its log file. Behind that of an older one come a dot and its number (logs/files.py): so none ends like this."""
    return f"{unit}{_SHARD_MARK}0" if _NUMBERED.search(unit) else unit


def is_log_name(text: str) -> bool:
    """Whether it can be the name of a unit's log file; whose, says `channel_of`."""
    unit = text.removesuffix(f"{_SHARD_MARK}0")
    return is_unit(unit) and log_name(unit) == text


def _one(suffix: str) -> Callable[[str], str]:
    """channel -> name of what it has one of."""
    return lambda channel: channel + suffix


def _many(middle: str) -> Callable[[str, str | int], str]:
    """channel, which -> name of what it has many of."""
    return lambda channel, which: f"{channel}{middle}{which}"


# --- AMQP -------------------------------------------------------------------------------------------------------------

EXCHANGE, EXCHANGE_TYPE = "vumi", "direct"
LOWEST_PRIORITY, HIGHEST_PRIORITY = 1, 5
PRIORITIES = range(LOWEST_PRIORITY, HIGHEST_PRIORITY + 1)
MAX_DEAD_LETTERS = 10_000
LONGEST_TTL = 4_000_000_000  # milliseconds: RabbitMQ takes no more than 32 bits
LONGEST_RETRY = 3600.0
"""Seconds of the retry queue for those that an application asks to be left alone for longer than any delay of ours."""
NOTE_TTL = 7 * 86_400
"""Seconds for which the note of a retry queue is kept."""

# inbound, outbound and event are those of `{amqp_queue}`, too
inbound_queue = _one(".inbound")  # MO messages on their way to the application
event_queue = _one(".event")  # ack, nack and delivery reports on their way to the application
status_queue = _one(".status")  # statuses of the channel's components on their way to the store and the status_url
callback_queue = _one(".callbacks")  # callbacks that failed and whose time to be tried again has come
dead_queue = _one(".dead")  # dead letters: what could not be read or given to anybody, newest 10,000 kept


_QUORUM_MARK = ".q"


def of_kind(queue: str, is_quorum: bool) -> str:
    """The name of one of these (status queues are always classic ones) as a queue of this kind, of which RabbitMQ has one."""
    return f"{queue}{_QUORUM_MARK}" if is_quorum else queue


def plain(queue: str) -> str:
    """The name that such a queue of either kind has as a classic one."""
    return queue.removesuffix(_QUORUM_MARK)


LONGEST_AMQP_QUEUE = LONGEST_AMQP_NAME - len(".outbound")


def application_queues(amqp_queue: str) -> tuple[str, str, str]:
    """Those that a channel's `amqp_queue` names."""
    return inbound_queue(amqp_queue), outbound_queue(amqp_queue), event_queue(amqp_queue)


def control_queue(unit: str) -> str:
    """What an API process asks a worker; that one's own, gone with it."""
    shard = shard_of(unit)
    return f"{channel_of(unit)}.control.{shard}" if shard else f"{unit}.control"


def reply_queue(process: str) -> str:
    """Where an API process gets answers; its own, gone with it."""
    return f"junebug.replies.{process}"


def outbound_queue(channel: str, priority: int = LOWEST_PRIORITY) -> str:
    """MT messages of one priority on their way to the channel's transport. The lowest has Vumi's name, which is also
    that of `{amqp_queue}.outbound`.
    """
    return f"{channel}.outbound" if priority == LOWEST_PRIORITY else f"{channel}.outbound.{priority}"


SLOTS = MOST_SHARDS
"""Outbound queues a priority, where several shards have a part of them each."""
FIRST_LAYOUT = 10
_QUORUM = {"x-queue-type": "quorum", "x-single-active-consumer": True, "x-delivery-limit": 2**31 - 1}
"""A delivery limit below would drop what is given back; none at all is 20 from RabbitMQ 4 on."""


def _slot(to_addr: str | None) -> int:
    return zlib.crc32((to_addr or "").encode(errors="surrogatepass")) % SLOTS


def shard_for(to_addr: str | None, shards: int) -> int:
    """Which of so many shards sends to this address."""
    return _slot(to_addr) % shards


@dataclass(frozen=True, slots=True)
class Layout:
    """Which outbound queues a channel has: classic or quorum ones; plain (one a priority) or slotted (SLOTS a priority, each
    for the messages to some addresses). No two layouts have a name in common.
    """

    is_quorum: bool = False
    is_slotted: bool = False

    def number(self, time: int) -> int:
        """By which it is noted, among priorities, when it is the one that a channel gets for the n-th time, from 1 on."""
        return time * FIRST_LAYOUT + self.is_quorum + 2 * self.is_slotted

    @property
    def arguments(self) -> dict[str, object]:
        """AMQP's, of each of its queues."""
        return _QUORUM if self.is_quorum else {}

    def queue(self, channel: str, priority: int = LOWEST_PRIORITY, to_addr: str | None = None) -> str:
        """Where messages of this priority to this address wait."""
        if self is PLAIN:
            return outbound_queue(channel, priority)
        return self._name(channel, priority, _slot(to_addr) if self.is_slotted else 0)

    def queues(self, channel: str, priorities: Container[int] = PRIORITIES, shard: int = 0, shards: int = 1) -> list[str]:
        """Those of these priorities that this shard consumes, the most urgent first."""
        slots = range(shard, SLOTS, shards) if self.is_slotted else range(shard == 0)
        wanted = [priority for priority in reversed(PRIORITIES) if priority in priorities]
        return [self._name(channel, priority, slot) for priority in wanted for slot in slots]

    def _name(self, channel: str, priority: int, slot: int) -> str:
        part = ("q" if self.is_quorum else "") + (f"s{slot:02}" if self.is_slotted else "")
        of_layout = f"{channel}.outbound.{part}" if part else f"{channel}.outbound"
        return of_layout if priority == LOWEST_PRIORITY else f"{of_layout}.{priority}"


PLAIN = Layout()
LAYOUTS = PLAIN, Layout(is_quorum=True), Layout(is_slotted=True), Layout(True, True)


def layout_of(number: int) -> Layout:
    """Which layout has been noted by this number."""
    return LAYOUTS[number % FIRST_LAYOUT % len(LAYOUTS)]


def next_layout(noted: Sequence[int], layout: Layout) -> int:
    """The number of a layout that comes after these."""
    return layout.number(noted[-1] // FIRST_LAYOUT + 1 if noted else 1)


def priority_of(outbound: str, given: int) -> int:
    """The priority of a message on this outbound queue; `given`: what AMQP says of it, where the queue says nothing."""
    _, _, last = outbound.rpartition(".")
    priority = int(last) if last.isdigit() else given
    return min(max(priority, LOWEST_PRIORITY), HIGHEST_PRIORITY)


_APPLICATION = r"(inbound|event|callbacks|dead|(retry|backlog)\.[0-9a-f]+)"
_QUORUM_QUEUE = re.compile(rf"\.(outbound\.q(s[0-9]{{2}})?(\.[0-9])?|{_APPLICATION}\.q)\Z")


def is_quorum(queue: str) -> bool:
    """Whether a queue of this name is a quorum queue, with a single active consumer."""
    return _QUORUM_QUEUE.search(queue) is not None


def retry_queue(channel: str, seconds: float) -> str:
    """Callbacks that wait up to so long before they go back to the callback queue; there only while needed."""
    return f"{channel}.retry.{round(seconds * 1000)}"


def retry_queues(channel: str, delays: Iterable[float]) -> list[str]:
    """Each that may be there. `delays`: the setting callback_retry_delays."""
    return [retry_queue(channel, seconds) for seconds in sorted({*delays, LONGEST_RETRY})]


def backlog_queue(channel: str, kind: str, destination: str) -> str:
    """Callbacks of one kind (`mo_url` ...) for a host (or a queue) that fails, in their order; there only while needed."""
    return f"{channel}.backlog.{hashlib.blake2s(f'{kind} {destination}'.encode(), digest_size=6).hexdigest()}"


Queues = dict[str, dict[str, object]]
"""Names of queues, each with its AMQP arguments."""
_NEWEST: dict[str, object] = {"x-overflow": "drop-head"}


def channel_queues(channel: str, priorities: Container[int] = PRIORITIES, layout: Layout = PLAIN) -> Queues:
    """The queues that a channel with outbound queues of these priorities has; deleted with the channel. Those of higher
    priorities than the lowest are made when the first such message is sent.
    """
    of_application = incoming_queues(channel, layout.is_quorum) | callback_queues(channel, layout.is_quorum)
    return sending_queues(channel, priorities, layout) | of_application


def sending_queues(
    channel: str, priorities: Container[int] = PRIORITIES, layout: Layout = PLAIN, shard: int = 0, shards: int = 1
) -> Queues:
    """Those of a channel (or of a shard of it) that hold nothing for the application."""
    return {**dict.fromkeys(layout.queues(channel, priorities, shard, shards), layout.arguments), **status_queues(channel)}


def incoming_queues(channel: str, is_quorum: bool) -> Queues:
    """What comes by a channel, for the application or the channel's router."""
    return {of_kind(name(channel), is_quorum): _arguments(is_quorum) for name in (inbound_queue, event_queue)}


def callback_queues(owner: str, is_quorum: bool) -> Queues:
    """What could not be given to an application, of a channel or router."""
    arguments = _arguments(is_quorum)
    dead = {**arguments, "x-max-length": MAX_DEAD_LETTERS, **_NEWEST}
    return {of_kind(callback_queue(owner), is_quorum): arguments, of_kind(dead_queue(owner), is_quorum): dead}


def router_queues(router: str, is_quorum: bool = False) -> Queues:
    """The queues that a router has; deleted with it. Messages and events come to it by those of its channel."""
    return {**callback_queues(router, is_quorum), **status_queues(router)}


def status_queues(owner: str) -> Queues:
    return {status_queue(owner): {"x-max-length": 1_000, **_NEWEST}}


_DEAD_LETTERED = {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}  # the one only beside the other


def _arguments(is_quorum: bool) -> dict[str, object]:
    return _QUORUM if is_quorum else {}


def waiting_arguments(channel: str, seconds: float, is_quorum: bool = False) -> dict[str, object]:
    """AMQP arguments of a retry queue or backlog. The channel's worker takes all out of such a queue before this time: only what
    everybody has forgotten (the note of it was lost with Redis) goes back to the callback queue by itself.
    """
    lifetime = min(round(seconds * 1000), LONGEST_TTL)
    return {
        **_arguments(is_quorum), **(_DEAD_LETTERED if is_quorum else {}),
        "x-message-ttl": lifetime,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": of_kind(callback_queue(channel), is_quorum),
        "x-expires": lifetime + 60_000,
    }  # fmt: skip


def questions_of_host(id: str) -> str:
    """What stands in a channel's place in the name of the queue in which a host is asked."""
    return f"junebug_host:{id}"


# --- Redis ------------------------------------------------------------------------------------------------------------

CHANNELS = "channels"  # set of the ids of all channels
ROUTERS = "routers"  # set of the ids of all routers
ROUTED_CHANNELS = "routed_channels"  # hash channel id -> id of the router whose it is
GENERATIONS = "channel_generations"  # hash channel id -> generation, raised whenever the channel must be started afresh
DELETED_CHANNELS = "deleted_channels"  # set of the ids of deleted channels whose queues and keys are still to be removed
DELETED_ROUTERS = "deleted_routers"  # set: those of them that are routers
DELETED_LOGS = "deleted_logs"  # sorted set: id of a deleted channel -> from when on each host removes its log files, Unix time
API_TOKENS = "api_tokens"  # hash id -> JSON: who may use the API; their texts are not there
WANTED_CHANGES = "wanted_changes"  # stream, with a TTL: ids of the channels and routers that changed last
EPOCH = "channel_epoch"  # written by the reconciler when it starts: gone means that Redis was emptied under us
CHANGES = "channel_changes:"
ALL_CHANGES = f"{CHANGES}*"  # pattern of all pub/sub topics that `change_topic` makes
HOSTS = "junebug_hosts"  # sorted set: ids of hosts -> when each was last here, Unix time
DRAINED_HOSTS = "drained_hosts"  # set: ids of hosts that are to run nothing
LEASES = "channel_leases"  # hash: id of a channel or router -> the host that runs it, and its fence
LEASE_CHANGES = "lease_changes"  # stream, with a TTL: the last changes of channel_leases
LEASE_FENCE = "lease_fence"  # string: the newest fence; without a TTL, as none may be given twice
LEASES_SETTLING = "leases_settling"  # string, with a TTL: Redis has lost leases, and who runs what is saying so
PLUGINS = "junebug_plugins"  # string: how the plugins do, as JSON; with a TTL
METRICS = "junebug_metrics"  # hash: what Junebug's own processes counted, by families.Family.field; with a TTL
METRICS_WANTED = "junebug_metrics_wanted"  # string, with a TTL: somebody looks at the metrics
PROCESS_SAMPLES = "junebug_processes"  # hash: host and program -> processes there, their memory and time, as JSON; with a TTL
HEALTH = "junebug_health"  # string, written and forgotten: whether Redis takes what is written

channel_properties = _one(":properties")  # string: the channel's properties as JSON
deleted_properties = _one(":deleted_properties")  # string: those of a deleted channel, until what it leaves is removed
destinations = _one(":destinations")  # hash: a router's destination -> its properties as JSON
destination_words = _one(":destination_words")  # hash: what no two destinations of a router may share -> whose it is
router_session = _many(":sessions:")  # string: the destinations that a session's messages go to, as JSON; with a TTL
hosts_of = _one(":hosts")  # sorted set, with a TTL: ids of hosts that have a part of its log -> since or until when, Unix time
channel_metrics = _one(":metrics")  # hash, with a TTL: what was counted of it, by families.Family.field; gauges beside it
channel_priorities = _one(":priorities")  # set, with a TTL: those that have an outbound queue; the lowest in it: it is complete
channel_status = _one(":status")  # hash component -> last status as JSON, and `component@` -> its timestamp
cancelled_messages = _one(":cancelled_messages")  # sorted set: id of an MT that may still come -> until when, Unix time
delay_queues = _one(":delay_queues")  # hash: name of a retry queue or backlog -> kind and destination it waits for
inbound_message = _many(":inbound_messages:")  # hash: an MO, by its id, that may still be replied to
outbound_message = _many(":outbound_messages:")  # hash: an MT: where events go that may still come, and what has happened
rate_bucket = _many(":rates:")  # hash label -> count of one metric window, by its number
transport_key = _many(":transport:")  # what the channel's transport keeps for itself, by a name of its own; with a TTL


def change_topic(channel: str) -> str:
    """Pub/sub topic: the channel's id, when its spec changed. Only a hint; a poll finds what a lost one left."""
    return f"{CHANGES}{channel}"


def host(id: str) -> str:
    """String with a TTL: the host lives; what it says of itself."""
    return f"junebug_host:{id}"


def saved_metrics(process: str) -> str:
    """String: the number of the last batch of this process's counts that was added. With a TTL."""
    return f"junebug_metrics:{process}"


def circuit(destination: str) -> str:
    """Hash: who probes this host that fails for all who wait for it, and when; or that it works again. With a TTL."""
    return f"circuit:{hashlib.sha256(destination.encode()).hexdigest()[:24]}"


def idempotency_key(channel: str, key: str) -> str:
    """Hash: what was sent with this Idempotency-Key."""
    return f"{channel}:idempotency:{hashlib.sha256(key.encode()).hexdigest()}"


def shared_transport_key(word: str, name: str) -> str:
    """The same for what several channels share that have a word in common (SMPP's split_bind_prefix)."""
    return f"transport_shared:{word}:{name}"


# --- programs ---------------------------------------------------------------------------------------------------------

CHANNEL_GROUP, ROUTER_GROUP = "channel", "router"


def channel_program(channel: str) -> str:
    """Name of a channel's process, in supervisorctl and in its title."""
    return f"{CHANNEL_GROUP}:{channel}"


def router_program(router: str) -> str:
    """Likewise of a router's."""
    return f"{ROUTER_GROUP}:{router}"
