"""Redis: the only module that imports redis. One class for each key shape; names.py builds the keys.

Neighbours: the API, the workers and the reconciler each hold one `Stores`. Every call is bounded by a timeout and
raises StoreUnavailable when Redis is away. Calls made at the same time share one pipeline (DESIGN §4).
"""

from __future__ import annotations

import asyncio
import functools
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import hiredis
import orjson
import redis.asyncio as redis_asyncio
import redis.exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

from junebug import names
from junebug.aio import end_task
from junebug.config import RedisSettings, Settings
from junebug.errors import ChannelChanged, ChannelNotFound, StartupError, StoreUnavailable
from junebug.messages import Event, Status, UserMessage, normalise_timestamp
from junebug.spec import ChannelSpec

CONNECT_TIMEOUT = 2.0
MAX_PIPELINE = 500
MAX_WAITING = 10_000
"""Calls that may wait for a pipeline at the most; the next one is refused as if Redis were away."""
NUDGE_PAUSE = 1.0
DELETED_TTL = 86_400
"""Seconds that the properties of a deleted channel are kept for its last callbacks, when nobody cleans up."""
ORPHAN_TTL = 3600
"""Seconds that a status lives whose channel has no spec (deleted, or Redis was emptied)."""

_FAILURES = (redis.exceptions.RedisError, OSError, TimeoutError, RuntimeError)
"""What a call on a link may raise. RuntimeError: uvloop's answer to a write on a link that the other side has reset."""
_AWAY_ERRORS = (redis.exceptions.ReadOnlyError, redis.exceptions.OutOfMemoryError)
_AWAY_REPLIES = ("MISCONF", "LOADING", "OOM", "MASTERDOWN", "NOAUTH", "WRONGPASS", "NOPERM", "CLUSTERDOWN")

Command = tuple[Any, ...]


class Stores:
    """All stores of one process, over one connection to Redis."""

    def __init__(self, settings: Settings, timeout: float | None = None) -> None:
        """`timeout`: the longest a call may take, in seconds (default: the settings' request_timeout)."""
        self._redis = _Redis(settings.redis, timeout or settings.request_timeout)
        self.channels = ChannelStore(self._redis)
        self.inbound = InboundStore(self._redis, settings.inbound_message_ttl)
        self.outbound = OutboundStore(self._redis, settings.outbound_message_ttl)
        self.idempotency = IdempotencyStore(self._redis, settings.outbound_message_ttl)
        self.delay_queues = DelayQueueStore(self._redis)
        self.statuses = StatusStore(self._redis)
        self.rates = RateStore(self._redis, settings.metric_window)

    def transport(self, channel: str) -> TransportStore:
        """What the channel's transport keeps."""
        return TransportStore(self._redis, channel)

    async def ping(self) -> None:
        """Raises StoreUnavailable."""
        await self._redis.run(("PING",))

    async def close(self) -> None:
        await self._redis.close()


class ChannelStore:
    """Channel specs, their generations, and what is left to clean up."""

    def __init__(self, redis: _Redis) -> None:
        self._redis = redis
        self._epoch_seen = False

    async def ids(self) -> list[str]:
        (ids,) = await self._redis.run(("SMEMBERS", names.CHANNELS))
        return sorted(ids)

    async def get(self, channel: str) -> ChannelSpec:
        """Raises ChannelNotFound."""
        stored, generation = await self._redis.run(
            ("GET", names.channel_properties(channel)), ("HGET", names.GENERATIONS, channel)
        )
        if stored is None:
            raise ChannelNotFound(f"There is no channel with id {channel!r}")
        return _spec(channel, stored, generation)

    async def create(self, spec: ChannelSpec) -> None:
        await self._redis.run(
            ("SET", names.channel_properties(spec.id), _properties(spec)),
            ("SADD", names.CHANNELS, spec.id),
            ("HSET", names.GENERATIONS, spec.id, 1),
            ("SREM", names.DELETED_CHANNELS, spec.id),
            ("DEL", names.deleted_properties(spec.id)),
            ("PUBLISH", names.NUDGE_TOPIC, spec.id),
        )

    async def update(self, old: ChannelSpec, new: ChannelSpec, *, restart: bool) -> ChannelSpec:
        """Put `new` where `old` was read; with `restart` the channel is started afresh. Returns what is stored.

        Raises ChannelNotFound when it was deleted meanwhile, ChannelChanged when somebody else changed it.
        """
        (outcome,) = await self._redis.run(
            (
                "EVAL",
                _UPDATE,
                2,
                names.channel_properties(new.id),
                names.GENERATIONS,
                old.stored,
                _properties(new),
                new.id,
                int(restart),
            )
        )
        if outcome == -1:
            raise ChannelNotFound(f"There is no channel with id {new.id!r}")
        if outcome == -2:
            raise ChannelChanged(f"Channel {new.id!r} was changed at the same time: read it and try again")
        await self.nudge(new.id)
        return _spec(new.id, _properties(new), outcome)

    async def request_restart(self, channel: str) -> None:
        """Have the reconciler start it afresh. Raises ChannelNotFound."""
        (outcome,) = await self._redis.run(
            ("EVAL", _RESTART, 2, names.channel_properties(channel), names.GENERATIONS, channel)
        )
        if outcome == -1:
            raise ChannelNotFound(f"There is no channel with id {channel!r}")
        await self.nudge(channel)

    async def delete(self, channel: str) -> None:
        """The channel is gone at once; its process, queues and other keys are left to the reconciler.

        Raises ChannelNotFound.
        """
        (existed,) = await self._redis.run(
            (
                "EVAL",
                _DELETE,
                5,
                names.channel_properties(channel),
                names.CHANNELS,
                names.GENERATIONS,
                names.DELETED_CHANNELS,
                names.deleted_properties(channel),
                channel,
                DELETED_TTL,
            )
        )
        if not existed:
            raise ChannelNotFound(f"There is no channel with id {channel!r}")
        await self.nudge(channel)

    async def nudge(self, channel: str) -> None:
        """Tell whoever listens that this channel's spec changed."""
        await self._redis.run(("PUBLISH", names.NUDGE_TOPIC, channel))

    # --- for the reconciler -------------------------------------------------------------------------------------------

    async def wanted(self) -> Wanted:
        """Which channels are wanted, and in which generation."""
        epoch, ids, generations = await self._redis.run(
            ("GET", names.EPOCH), ("SMEMBERS", names.CHANNELS), ("HGETALL", names.GENERATIONS)
        )
        lost = epoch is None and self._epoch_seen
        if epoch is None and not lost:
            await self._redis.run(("SET", names.EPOCH, int(time.time())))
        self._epoch_seen = True
        return Wanted({channel: int(generations.get(channel, 0)) for channel in ids}, lost)

    async def get_many(self, channels: Iterable[str]) -> dict[str, ChannelSpec]:
        """The specs of those channels that exist."""
        wanted = list(channels)
        found = await self._redis.run(
            *(("GET", names.channel_properties(channel)) for channel in wanted), ("HGETALL", names.GENERATIONS)
        )
        generations = found[-1]
        return {
            channel: _spec(channel, stored, generations.get(channel))
            for channel, stored in zip(wanted, found, strict=False)
            if stored is not None
        }

    async def restore(self, specs: Iterable[ChannelSpec]) -> None:
        """Redis was emptied: write back what is still known; what was created since stays as it is."""
        commands: list[Command] = []
        for spec in specs:
            commands += (
                ("SETNX", names.channel_properties(spec.id), _properties(spec)),
                ("SADD", names.CHANNELS, spec.id),
                ("HSETNX", names.GENERATIONS, spec.id, spec.generation),
                ("PUBLISH", names.NUDGE_TOPIC, spec.id),
            )
        await self._redis.run(*commands, ("SET", names.EPOCH, int(time.time())))

    async def deleted(self) -> list[str]:
        """Channels that are deleted, whose queues and keys still are to be removed."""
        (ids,) = await self._redis.run(("SMEMBERS", names.DELETED_CHANNELS))
        return sorted(ids)

    async def deleted_spec(self, channel: str) -> ChannelSpec | None:
        """What a deleted channel was; None when that is not known (any more)."""
        (stored,) = await self._redis.run(("GET", names.deleted_properties(channel)))
        return None if stored is None else _spec(channel, stored, 0)

    async def forget(self, channel: str) -> None:
        """Remove every key of a deleted channel, and its place among the deleted ones."""
        pattern = names.all_channel_keys("".join(f"[{c}]" if c in "*?[" else c for c in channel))
        cursor: Any = 0
        while True:
            (found,) = await self._redis.run(("SCAN", cursor, "MATCH", pattern, "COUNT", 1000))
            cursor, keys = found
            if keys:
                await self._redis.run(("UNLINK", *keys))
            if not int(cursor):
                break
        await self._redis.run(("SREM", names.DELETED_CHANNELS, channel))

    async def nudges(self) -> AsyncIterator[str]:
        """Ids of channels whose spec may have changed, as it happens; survives Redis, ends only when cancelled.

        An empty string says that the subscription is new: what was said before was not heard.
        """
        while True:
            try:
                async with self._redis.subscriber() as client, client.pubsub() as subscription:
                    await subscription.subscribe(names.NUDGE_TOPIC)
                    while True:
                        message = await subscription.get_message(timeout=5.0)
                        if message:  # redis-py subscribes again by itself, which shows here as at the first time
                            yield "" if message["type"] == "subscribe" else message["data"]
            except _FAILURES:
                await asyncio.sleep(NUDGE_PAUSE)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Channel id -> generation; `lost` says that Redis was emptied since the last look."""

    generations: dict[str, int]
    lost: bool = False


class InboundStore:
    """MO messages that may still be replied to, for inbound_message_ttl seconds."""

    def __init__(self, redis: _Redis, ttl: int) -> None:
        self._redis = redis
        self._ttl = ttl

    async def put(self, channel: str, message: UserMessage, wire: bytes) -> None:
        key = names.inbound_message(channel, message.message_id)
        await self._redis.run(("HSET", key, "message", wire), ("EXPIRE", key, self._ttl))

    async def get(self, channel: str, message_id: str) -> UserMessage | None:
        """None when there is none of that id, or not any more."""
        (wire,) = await self._redis.run(("HGET", names.inbound_message(channel, message_id), "message"))
        return UserMessage.from_wire(wire.encode()) if wire else None


@dataclass(frozen=True, slots=True)
class EventTarget:
    """Where the events of one MT go. `answered`: the application has had the message's id (the 201 is out)."""

    url: str | None
    auth_token: str | None
    answered: bool


class OutboundStore:
    """Where the events of each MT go and which there were, for outbound_message_ttl seconds."""

    def __init__(self, redis: _Redis, ttl: int) -> None:
        self._redis = redis
        self._ttl = ttl

    async def put(
        self, channel: str, message_id: str, event_url: str | None = None, event_auth_token: str | None = None
    ) -> None:
        """To be called before the message is published: an event may come at once."""
        key = names.outbound_message(channel, message_id)
        fields = _outbound_fields(message_id, event_url, event_auth_token)
        await self._redis.run(("HSET", key, *fields), ("EXPIRE", key, self._ttl))

    async def answered(self, messages: Iterable[tuple[str, str]]) -> None:
        """The 201s of these (channel, message id) are on the wire: the application knows the ids, events may go out."""
        commands: list[Command] = []
        for channel, message_id in messages:
            key = names.outbound_message(channel, message_id)
            commands += (("HSET", key, "answered", 1), ("EXPIRE", key, self._ttl, "NX"))
        await self._redis.run(*commands)

    async def event_target(self, channel: str, message_id: str) -> EventTarget:
        (found,) = await self._redis.run(
            ("HMGET", names.outbound_message(channel, message_id), "event_url", "event_auth_token", "answered")
        )
        return EventTarget(found[0], found[1], found[2] is not None)

    async def add_event(self, channel: str, event: Event) -> EventTarget:
        """Keep an event (a repeat of it changes nothing); where it goes."""
        key = names.outbound_message(channel, event.user_message_id)
        *_, found = await self._redis.run(
            ("HSET", key, f"event:{event.event_id}", event.to_wire()),
            ("EXPIRE", key, self._ttl, "NX"),
            ("HMGET", key, "event_url", "event_auth_token", "answered"),
        )
        return EventTarget(found[0], found[1], found[2] is not None)

    async def events(self, channel: str, message_id: str) -> list[Event]:
        """The message's events, oldest first; empty when the message is unknown."""
        (found,) = await self._redis.run(("HGETALL", names.outbound_message(channel, message_id)))
        events = [Event.from_wire(wire.encode()) for name, wire in found.items() if name.startswith("event:")]
        return sorted(events, key=lambda event: event.timestamp)


def _outbound_fields(message_id: str, event_url: str | None, event_auth_token: str | None) -> list[str]:
    """What is kept of an MT before it is sent: names and values."""
    fields = ["message_id", message_id]
    if event_url:
        fields += ("event_url", event_url)
    if event_auth_token:
        fields += ("event_auth_token", event_auth_token)
    return fields


@dataclass(frozen=True, slots=True)
class Claim:
    """What becomes of a request with an Idempotency-Key: who came first, and how far it got.

    `new`: this one sends. `again`: an earlier one ended without an answer, and this one sends the `message` of that one.
    `done`: it was sent, `message` says what was answered. `busy`: it is under way. `other`: it had another body. `none`:
    there was none, and this one may not send.
    """

    state: Literal["new", "again", "done", "busy", "other", "none"]
    message: bytes = b""
    """In Vumi's form: of `again` and `done`."""
    lease: str = ""
    """Names the attempt: of `new` and `again`."""


class IdempotencyStore:
    """What was sent with an Idempotency-Key, for outbound_message_ttl seconds after the first attempt.

    A hash: `body` (digest of the request), `message`, and `lease` while it is under way: up to when, in milliseconds of
    Redis' clock, whoever sends it may be alive.
    """

    def __init__(self, redis: _Redis, ttl: int) -> None:
        self._redis = redis
        self._ttl = ttl

    async def claim(
        self,
        channel: str,
        key: str,
        body: str,
        lease: float,
        message: UserMessage | None,
    ) -> Claim:
        """Be the one who sends, for `lease` seconds, unless another is or was; without a `message` it sends nothing new.

        For `new` this does OutboundStore.put's work in the same step, so that a crash leaves both or neither.
        """
        message_id = message.message_id if message else ""
        event = (message.event_url, message.event_auth_token) if message else (None, None)
        ((state, *rest),) = await self._redis.run(
            (
                "EVAL",
                _CLAIM,
                2,
                names.idempotency_key(channel, key),
                names.outbound_message(channel, message_id),
                body,
                message.to_wire() if message else b"",
                _milliseconds(lease),
                self._ttl,
                *_outbound_fields(message_id, *event),
            )
        )
        return Claim(state, *(each.encode() if n == 0 else each for n, each in enumerate(rest)))

    async def done(self, channel: str, key: str) -> None:
        """RabbitMQ has the message: nobody sends it again."""
        await self._redis.run(("HDEL", names.idempotency_key(channel, key), "lease"))

    async def give_up(self, channel: str, key: str, lease: str) -> None:
        """This attempt has ended, nobody knows how: the next one need not wait for the lease's end."""
        await self._redis.run(("EVAL", _GIVE_UP, 1, names.idempotency_key(channel, key), lease))

    async def forget(self, channel: str, key: str, message_id: str) -> None:
        """Nothing was sent, and nothing will be: as if the request had never been there."""
        await self._redis.run(
            ("DEL", names.idempotency_key(channel, key), names.outbound_message(channel, message_id))
        )


class DelayQueueStore:
    """Which queues of a channel hold callbacks that are to be tried again: a hint only, RabbitMQ itself knows best."""

    def __init__(self, redis: _Redis) -> None:
        self._redis = redis

    async def note(self, channel: str, queue: str, destination: str, ttl: float) -> None:
        """`destination`: whom its callbacks wait for (no secrets), empty for a retry queue; `ttl`: in seconds."""
        key = names.delay_queues(channel)
        await self._redis.run(("HSET", key, queue, destination), ("PEXPIRE", key, _milliseconds(ttl)))

    async def noted(self, channel: str) -> dict[str, str]:
        """Queue -> destination."""
        found: dict[str, str]
        (found,) = await self._redis.run(("HGETALL", names.delay_queues(channel)))
        return found

    async def forget(self, channel: str, queues: Iterable[str]) -> None:
        await self._redis.run(("HDEL", names.delay_queues(channel), *queues))


class StatusStore:
    """The last status of each component of each channel."""

    def __init__(self, redis: _Redis) -> None:
        self._redis = redis

    async def put(self, status: Status) -> bool:
        """Keep it, unless a newer one of the same component is there: then False.

        A status whose channel has no spec lives for an hour only.
        """
        (kept,) = await self._redis.run(
            (
                "EVAL",
                _PUT_STATUS,
                2,
                names.channel_status(status.channel_id),
                names.channel_properties(status.channel_id),
                status.component,
                orjson.dumps(status.body()),
                normalise_timestamp(status.timestamp),
                ORPHAN_TTL,
            )
        )
        return bool(kept)

    async def components(self, channel: str) -> dict[str, dict[str, Any]]:
        """Component -> body of its last status (spec 1.7.3)."""
        (found,) = await self._redis.run(("HGETALL", names.channel_status(channel)))
        return {name: orjson.loads(body) for name, body in sorted(found.items()) if not name.endswith("@")}


RATES = ("inbound_message", "outbound_message", "submitted", "rejected", "delivery_succeeded", "delivery_failed",
         "delivery_pending")  # fmt: skip


class RateStore:
    """Counts per metric window; a rate is the count of the last whole window divided by its length in seconds."""

    def __init__(self, redis: _Redis, window: float) -> None:
        self._redis = redis
        self._window = window

    async def add(self, channel: str, counts: Mapping[str, int], now: float | None = None) -> None:
        """`counts`: one of RATES -> how many more in the present window."""
        if counts:
            key = names.rate_bucket(channel, self._bucket(now))
            await self._redis.run(
                *(("HINCRBY", key, label, count) for label, count in counts.items()),
                ("EXPIRE", key, int(self._window * 3) + 1),
            )

    async def rates(self, channel: str, now: float | None = None) -> dict[str, float]:
        """Each of RATES -> per second."""
        (found,) = await self._redis.run(("HGETALL", names.rate_bucket(channel, self._bucket(now) - 1)))
        return {label: int(found.get(label, 0)) / self._window for label in RATES}

    def _bucket(self, now: float | None) -> int:
        return int((time.time() if now is None else now) // self._window)


class TransportStore:
    """What one channel's transport keeps, by names of its own. Values are text; every key has a TTL, in seconds."""

    def __init__(self, redis: _Redis, channel: str) -> None:
        self._redis = redis
        self._key: Callable[[str], str] = functools.partial(names.transport_key, channel)

    def shared(self, word: str) -> TransportStore:
        """One that every channel sees whose transport asks for the same word."""
        store = TransportStore(self._redis, "")
        store._key = functools.partial(names.shared_transport_key, word)
        return store

    async def get(self, *keys: str) -> list[str | None]:
        """The values of these, None where there is none."""
        values: list[str | None]
        (values,) = await self._redis.run(("MGET", *map(self._key, keys)))
        return values

    async def put(self, key: str, value: str, ttl: float, *, only_if_absent: bool = False) -> bool:
        """Keep it; False when it was there already and `only_if_absent`."""
        condition = ("NX",) if only_if_absent else ()
        (kept,) = await self._redis.run(("SET", self._key(key), value, "PX", _milliseconds(ttl), *condition))
        return kept is not None

    async def take(self, key: str) -> str | None:
        """The value, which is there no more."""
        value: str | None
        (value,) = await self._redis.run(("GETDEL", self._key(key)))
        return value

    async def fields(self, *keys: str) -> list[dict[str, str]]:
        """All fields of each of these hashes; empty where there is none."""
        return await self._redis.run(*(("HGETALL", self._key(key)) for key in keys))

    async def put_fields(self, key: str, fields: Mapping[str, str], ttl: float) -> dict[str, str]:
        """Add or replace these fields of a hash, which from now on lives for `ttl`; all its fields then."""
        name = self._key(key)
        flat = [part for item in fields.items() for part in item]
        found: dict[str, str]
        *_, found = await self._redis.run(
            ("HSET", name, *flat), ("PEXPIRE", name, _milliseconds(ttl)), ("HGETALL", name)
        )
        return found

    async def take_fields(self, key: str) -> dict[str, str]:
        """All fields of a hash, which is there no more."""
        name = self._key(key)
        found: dict[str, str]
        found, _ = await self._redis.run(("HGETALL", name), ("DEL", name))
        return found

    async def exchange_fields(self, key: str, fields: Mapping[str, str], ttl: float, taken: str) -> dict[str, str]:
        """As put_fields of `key` and take_fields of `taken`, whose fields it returns, at once."""
        name, taken = self._key(key), self._key(taken)
        flat = [part for item in fields.items() for part in item]
        found: dict[str, str]
        *_, found, _ = await self._redis.run(
            ("HSET", name, *flat), ("PEXPIRE", name, _milliseconds(ttl)), ("HGETALL", taken), ("DEL", taken)
        )
        return found

    async def remove_fields(self, key: str, *fields: str) -> None:
        await self._redis.run(("HDEL", self._key(key), *fields))

    async def expire(self, key: str, ttl: float) -> None:
        """From now on it lives for `ttl`."""
        await self._redis.run(("PEXPIRE", self._key(key), _milliseconds(ttl)))

    async def remove(self, *keys: str) -> None:
        await self._redis.run(("DEL", *map(self._key, keys)))


def _milliseconds(ttl: float) -> int:
    return max(1, int(ttl * 1000))


async def check(settings: RedisSettings, timeout: float) -> None:
    """Talk to Redis once. Raises StartupError: one line that names the setting to look at."""
    redis_link = _Redis(settings, timeout)
    try:
        await redis_link.run(("PING",))
    except StoreUnavailable as error:
        raise StartupError(f"{redis_link.culprit(error)}: {error}") from None
    finally:
        await redis_link.close()


# --- the connection ---------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Call:
    """Commands that are sent together, and who waits for their replies."""

    packed: bytes
    commands: int
    deadline: float
    replies: asyncio.Future[list[Any]]


class _Redis:
    """Commands in, replies out: what is asked for at the same time goes out as one pipeline.

    redis-py connects, authenticates and parses; packing is hiredis's (3 instead of 39 us a command, DESIGN §4), and one
    timer bounds a whole pipeline.
    """

    def __init__(self, settings: RedisSettings, timeout: float) -> None:
        self._where = f"Redis at {settings.host}:{settings.port}"
        self._password = settings.password
        self._timeout = timeout
        self._options: dict[str, Any] = {
            "host": settings.host,
            "port": settings.port,
            "db": settings.db,
            "password": settings.password,
            "protocol": 3,
            "decode_responses": True,
            "encoding_errors": "replace",
            "socket_connect_timeout": min(CONNECT_TIMEOUT, timeout),
            "retry": Retry(NoBackoff(), 0),
            "driver_info": None,  # reading its own version takes redis-py longer than connecting
            "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        }
        # _run_calls bounds all of it, and wait_for, which a timeout of redis-py's own uses, may swallow a cancellation
        self._connection = redis_asyncio.Connection(**self._options, socket_timeout=None)
        self._waiting: deque[_Call] = deque()
        self._runner: asyncio.Task[None] | None = None

    def subscriber(self) -> redis_asyncio.Redis:
        """A client of its own, for pub/sub."""
        return redis_asyncio.Redis.from_pool(redis_asyncio.ConnectionPool(**self._options))

    async def run(self, *commands: Command) -> list[Any]:
        """The replies, in order. Raises StoreUnavailable within the timeout."""
        if len(self._waiting) >= MAX_WAITING:
            raise StoreUnavailable(f"{self._where} does not keep up")
        loop = asyncio.get_running_loop()
        packed = b"".join(map(hiredis.pack_command, commands))
        call = _Call(packed, len(commands), loop.time() + self._timeout, loop.create_future())
        self._waiting.append(call)
        if self._runner is None or self._runner.done():
            self._runner = asyncio.create_task(self._run_waiting())
        return await call.replies

    async def _run_waiting(self) -> None:
        while self._waiting:
            calls, size = [], 0
            while self._waiting and size < MAX_PIPELINE:
                call = self._waiting.popleft()
                if not call.replies.done():
                    calls.append(call)
                    size += call.commands
            if calls:
                await self._run_calls(calls)

    async def _run_calls(self, calls: list[_Call]) -> None:
        outcome: Exception
        try:
            async with asyncio.timeout_at(calls[0].deadline):
                replies = await self._exchange(b"".join([call.packed for call in calls]), sum(call.commands for call in calls))
        except TimeoutError:
            outcome = StoreUnavailable(f"{self._where} did not answer within {self._timeout:g} s")
        except _FAILURES as error:
            outcome = StoreUnavailable(f"{self._where} cannot be used: {self._reason(error)}")
        except Exception as error:
            outcome = error
        else:
            start = 0
            for call in calls:
                own = replies[start : start + call.commands]
                start += call.commands
                failed = next((reply for reply in own if isinstance(reply, Exception)), None)
                _set(call.replies, self._translate(failed) if failed else own)
            return
        for call in calls:
            _set(call.replies, outcome)

    async def _exchange(self, packed: bytes, commands: int) -> list[Any]:
        """Send and read; once more if the link turns out to have been broken while it was idle."""
        connection = self._connection
        while True:
            was_connected = connection.is_connected
            try:
                await connection.send_packed_command(packed, check_health=False)
                return [await self._reply(connection) for _ in range(commands)]
            except (redis.exceptions.ConnectionError, OSError, RuntimeError):
                await connection.disconnect(nowait=True)
                if not was_connected:
                    raise
            except BaseException:
                await connection.disconnect(nowait=True)  # replies may be left in it
                raise

    @staticmethod
    async def _reply(connection: redis_asyncio.Connection) -> Any:
        try:
            return await connection.read_response(timeout=math.inf)
        except redis.exceptions.ResponseError as error:
            return error

    def _translate(self, error: Exception) -> Exception:
        if isinstance(error, _AWAY_ERRORS) or str(error).startswith(_AWAY_REPLIES):
            return StoreUnavailable(f"{self._where} cannot be used: {self._reason(error)}")
        return error

    def _reason(self, error: Exception) -> str:
        text = " ".join(str(error).split()) or type(error).__name__
        return text.replace(self._password, "********") if self._password else text

    @staticmethod
    def culprit(error: StoreUnavailable) -> str:
        """The settings to look at for an error that this link gave."""
        text = str(error).lower()
        if "password" in text or "auth" in text or "wrongpass" in text:
            return "redis.password"
        return "redis.db" if "db index" in text else "redis.host, redis.port"

    async def close(self) -> None:
        if self._runner:
            await end_task(self._runner)
        for call in self._waiting:
            _set(call.replies, StoreUnavailable("this process is closing its connection to Redis"))
        self._waiting.clear()
        await self._connection.disconnect(nowait=True)


def _set(future: asyncio.Future[list[Any]], outcome: list[Any] | Exception) -> None:
    if future.done():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


def _properties(spec: ChannelSpec) -> str:
    return orjson.dumps(spec.to_properties()).decode()


def _spec(channel: str, stored: str, generation: Any) -> ChannelSpec:
    try:
        properties = orjson.loads(stored)
    except orjson.JSONDecodeError:
        properties = {}  # a spec that nobody can read has no type: shown as such, never started
    if not isinstance(properties, dict):
        properties = {}
    return ChannelSpec.from_properties(channel, properties, int(generation or 0), stored)


_UPDATE = """
local stored = redis.call('GET', KEYS[1])
if not stored then return -1 end
if stored ~= ARGV[1] then return -2 end
redis.call('SET', KEYS[1], ARGV[2])
return redis.call('HINCRBY', KEYS[2], ARGV[3], ARGV[4])
"""

_RESTART = """
if redis.call('EXISTS', KEYS[1]) == 0 then return -1 end
return redis.call('HINCRBY', KEYS[2], ARGV[1], 1)
"""

_DELETE = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('RENAME', KEYS[1], KEYS[5])
redis.call('EXPIRE', KEYS[5], ARGV[2])
redis.call('SREM', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[3], ARGV[1])
redis.call('SADD', KEYS[4], ARGV[1])
return 1
"""

_CLAIM = """
local body, message, lease = unpack(redis.call('HMGET', KEYS[1], 'body', 'message', 'lease'))
if message and body ~= ARGV[1] then return {'other'} end
if message and not lease then return {'done', message} end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if message and tonumber(lease) > now then return {'busy'} end
if not message and ARGV[2] == '' then return {'none'} end
lease = string.format('%.0f', now + ARGV[3])
if message then
  redis.call('HSET', KEYS[1], 'lease', lease)
  return {'again', message, lease}
end
redis.call('HSET', KEYS[1], 'body', ARGV[1], 'message', ARGV[2], 'lease', lease)
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('HSET', KEYS[2], unpack(ARGV, 5))
redis.call('EXPIRE', KEYS[2], ARGV[4])
return {'new', '', lease}
"""

_GIVE_UP = """
if redis.call('HGET', KEYS[1], 'lease') == ARGV[1] then redis.call('HSET', KEYS[1], 'lease', 0) end
return 1
"""

_PUT_STATUS = """
local newest = redis.call('HGET', KEYS[1], ARGV[1] .. '@')
if newest and newest > ARGV[3] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2], ARGV[1] .. '@', ARGV[3])
if redis.call('EXISTS', KEYS[2]) == 1 then redis.call('PERSIST', KEYS[1])
else redis.call('EXPIRE', KEYS[1], ARGV[4]) end
return 1
"""
