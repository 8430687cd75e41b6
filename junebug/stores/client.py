"""The connection to Redis: commands in, replies out, what is asked for at the same time goes out as one pipeline.

Every call is bounded by a timeout and raises StoreUnavailable when Redis is away. The only module that imports redis.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import deque
from collections.abc import AsyncGenerator, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import hiredis
import redis.exceptions
from redis._parsers.hiredis import NOT_ENOUGH_DATA

from junebug.config.addresses import Address
from junebug.config.declaration import RedisSettings
from junebug.errors import StartupError, StoreUnavailable
from junebug.runtime.loop import end_task, is_transport_gone
from junebug.stores.key_lists import key_list
from junebug.stores.link import RedisLink

KEEPALIVE = {socket.TCP_KEEPIDLE: 60, socket.TCP_KEEPINTVL: 15, socket.TCP_KEEPCNT: 4}
"""Two minutes until a silent break is noticed."""
MAX_PIPELINE = 500
MAX_WAITING = 10_000
"""Calls that may wait for a pipeline at the most; the next one is refused as if Redis were away."""

_AWAY_ERRORS = (
    redis.exceptions.ReadOnlyError, redis.exceptions.OutOfMemoryError, redis.exceptions.NoPermissionError,
    redis.exceptions.ClusterDownError,
)  # fmt: skip
_AWAY_REPLIES = ("MISCONF", "NOREPLICAS", "BUSY ")
"""Those that redis-py has no class for."""

Command = tuple[Any, ...]


def is_failure(error: Exception) -> bool:
    """Whether this is a link's failure, and not a fault of ours."""
    return isinstance(error, (redis.exceptions.RedisError, OSError, TimeoutError)) or is_transport_gone(error)


def read_info(told: object) -> dict[str, str]:
    """The fields of a reply to INFO."""
    lines = (line.strip().partition(":") for line in str(told).splitlines())
    return {name: value for name, colon, value in lines if colon}


def milliseconds(ttl: float) -> int:
    return max(1, int(ttl * 1000))


async def check(settings: RedisSettings, timeout: float) -> None:
    """Talk to Redis once. Raises StartupError: one line that names the setting to look at."""
    redis_link = RedisClient(settings, timeout)
    try:
        await redis_link.run(("PING",))
    except StoreUnavailable as error:
        raise StartupError(f"{redis_link.culprit(error)}: {error}") from None
    finally:
        await redis_link.close()


@dataclass(slots=True)
class _Call:
    """Commands that are sent together, and who waits for their replies."""

    packed: bytes
    commands: int
    deadline: float
    replies: asyncio.Future[list[Any]]
    made: Sequence[tuple[str, int, list[str]]] = ()
    """Key list, for how many seconds it is kept, and what is to be added to it."""


class RedisClient:
    """Commands in, replies out: what is asked for at the same time goes out as one pipeline.

    redis-py connects, authenticates and parses; packing is hiredis's (3 instead of 39 us a command, DESIGN §4). One timer
    ends each call at its own deadline, whatever the pipeline waits for that it is in.
    """

    def __init__(self, settings: RedisSettings, timeout: float) -> None:
        self._settings = settings
        self._where = f"Redis {'' if settings.sentinels else 'at '}{settings.where}"
        self._timeout = timeout
        self._connection = RedisLink(settings, timeout, self._hang_up_elsewhere)
        self._hearing: set[RedisLink] = set()
        self._waiting: deque[_Call] = deque()
        self._unanswered: deque[_Call] = deque()
        """In the order of their deadlines; some are answered already."""
        self._timer: asyncio.TimerHandle | None = None
        self._runner: asyncio.Task[None] | None = None
        self._is_closed = False

    async def hear(self, subscribe: str, topic: str) -> AsyncGenerator[str | None, None]:
        """What is published there, from a `subscribe` (or `psubscribe`) on until the link is lost, which is raised. None: it is
        subscribed. On a link of its own, which waits without end, so the kernel asks whether the other side is there.
        """
        connection: Any = RedisLink(
            self._settings, self._timeout, socket_keepalive=True, socket_keepalive_options=KEEPALIVE, protocol=2
        )
        self._hearing.add(connection)
        try:
            async with asyncio.timeout(self._timeout):
                await connection.connect()
            command: Command = (subscribe, topic)
            await connection.send_packed_command(hiredis.pack_command(command), check_health=False)
            while True:
                (reply,) = await self._replies(connection, 1)
                if isinstance(reply, Exception):
                    raise reply
                yield None if reply[0] == subscribe else reply[-1]
        finally:
            self._hearing.discard(connection)
            await connection.disconnect(nowait=True)

    @property
    def address(self) -> Address:
        """Where it is, as far as is known: sentinels may name another master the next time."""
        return self._connection.address

    def _hang_up_elsewhere(self, master: Address) -> None:
        """What is published at another one is not what is published."""
        for connection in self._hearing:
            if connection.address != master:
                connection.abort()

    def run(self, *commands: Command, made: Sequence[tuple[str, int, list[str]]] = ()) -> asyncio.Future[list[Any]]:
        """The replies, in order; or StoreUnavailable, within the timeout. `made`: see `make`."""
        if self._is_closed:
            raise self._closing()
        if len(self._waiting) >= MAX_WAITING:
            raise StoreUnavailable(f"{self._where} does not keep up")
        loop = asyncio.get_running_loop()
        packed = b"".join(map(hiredis.pack_command, commands))
        call = _Call(packed, len(commands), loop.time() + self._timeout, loop.create_future(), made)
        self._waiting.append(call)
        while self._unanswered and self._unanswered[0].replies.done():
            self._unanswered.popleft()
        self._unanswered.append(call)
        if self._timer is None:
            self._timer = loop.call_at(call.deadline, self._end_overdue)
        if self._runner is None or self._runner.done():
            self._runner = asyncio.create_task(self._run_waiting())
            self._runner.add_done_callback(self._on_end)
        return call.replies

    def make(
        self, channel: str, ttl: float, keys: Collection[str], *commands: Command, also: str = ""
    ) -> asyncio.Future[list[Any]]:
        """As `run`, of commands that make these keys of a channel, which live for `ttl` seconds: by this they are found
        when the channel is deleted. Costs one command more for each list and pipeline, and no trip. `also`: a router, of keys
        that are its.
        """
        made = []
        for owner in filter(None, (channel, also)):
            prefix = f"{owner}:"
            if own := [key[len(prefix) :] for key in keys if key.startswith(prefix)]:
                made.append((*key_list(owner, ttl, time.time()), own))
        return self.run(*commands, made=made)

    def _end_overdue(self) -> None:
        loop = asyncio.get_running_loop()
        unanswered = self._unanswered
        while unanswered and (unanswered[0].replies.done() or unanswered[0].deadline <= loop.time()):
            _set(unanswered.popleft().replies, self._too_late())
        self._timer = loop.call_at(unanswered[0].deadline, self._end_overdue) if unanswered else None

    def _too_late(self) -> StoreUnavailable:
        return StoreUnavailable(f"{self._where} did not answer within {self._timeout:g} s")

    @staticmethod
    def _closing() -> StoreUnavailable:
        return StoreUnavailable("this process is closing its connection to Redis")

    def _give_up(self) -> None:
        """Whoever waits is told so: nobody runs what is asked."""
        self._waiting.clear()
        while self._unanswered:
            _set(self._unanswered.popleft().replies, self._closing())

    def _on_end(self, runner: asyncio.Task[None]) -> None:
        if runner.cancelled():
            self._give_up()

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
        notes = _notes(calls)  # first: no key is there without its note
        packed = b"".join([*map(hiredis.pack_command, notes), *(call.packed for call in calls)])
        try:
            async with asyncio.timeout_at(calls[-1].deadline):
                replies = await self._exchange(packed, len(notes) + sum(call.commands for call in calls))
        except Exception as error:
            if isinstance(error, TimeoutError):
                error = self._too_late()
            elif is_failure(error):
                error = self._unusable(error)
            for call in calls:
                _set(call.replies, error)
            return
        unclaimed = iter(replies[len(notes) :])
        is_replica = False
        for call in calls:
            own = list(islice(unclaimed, call.commands))
            failed = next((reply for reply in own if isinstance(reply, Exception)), None)
            is_replica = is_replica or (failed is not None and _is_read_only(failed))
            _set(call.replies, self._translate(failed) if failed else own)
        if is_replica:  # since a failover: whoever is the master now is found by a new link
            await self._connection.disconnect(nowait=True)

    async def _exchange(self, packed: bytes, commands: int) -> list[Any]:
        """Send and read. A link that was broken while it was idle is replaced; nothing that was written is written twice."""
        connection = self._connection
        if _is_broken(connection):
            await connection.disconnect(nowait=True)
        try:
            try:
                await connection.send_packed_command(packed, check_health=False)
            except RuntimeError as error:
                if not is_transport_gone(error):
                    raise
                await connection.disconnect(nowait=True)
                await connection.send_packed_command(packed, check_health=False)
            return await self._replies(connection, commands)
        except BaseException:
            await connection.disconnect(nowait=True)  # replies may be left in it
            raise

    @staticmethod
    async def _replies(connection: RedisLink, commands: int) -> list[Any]:
        """Errors that Redis answers with are among them. Straight from redis-py's parser: its own four calls a reply cost more
        than the reply.
        """
        parser: Any = connection._parser
        replies: list[Any] = []
        while len(replies) < commands:
            reply = parser._reader.gets()
            if reply is NOT_ENOUGH_DATA:
                await parser.read_from_socket()
            elif isinstance(reply, redis.exceptions.ConnectionError):
                raise reply
            else:
                replies.append(reply)
        return replies

    def _translate(self, error: Exception) -> Exception:
        is_away = isinstance(error, _AWAY_ERRORS) or str(error).startswith(_AWAY_REPLIES) or _is_read_only(error)
        return self._unusable(error) if is_away else error

    def _unusable(self, error: Exception) -> StoreUnavailable:
        text = " ".join(str(error).split()) or type(error).__name__
        for secret in self._settings.secrets:
            text = text.replace(secret, "********")
        return StoreUnavailable(f"{self._where} cannot be used: {text}")

    def culprit(self, error: StoreUnavailable) -> str:
        """The settings to look at for an error that this link gave."""
        text, settings = str(error).lower(), self._settings
        if "ca_file" in text or "certificate" in text or "ssl" in text:
            return "redis.tls"
        if "password" in text or "auth" in text or "wrongpass" in text:
            its = "redis.sentinel_password" if "sentinel " in text else "redis.password"
        elif "db index" in text:
            its = "redis.db"
        elif settings.sentinels:
            return "redis.sentinels, redis.master_name"
        else:
            its = "redis.host, redis.port"
        return "redis.url" if settings.url else its

    async def close(self) -> None:
        self._is_closed = True
        if self._runner:
            await end_task(self._runner)
        self._give_up()
        if self._timer:
            self._timer.cancel()
        await self._connection.disconnect(nowait=True)


def _is_read_only(error: Exception) -> bool:
    """Whether this is a replica's answer to a write. Redis 6 puts that of a script's command inside another text."""
    return isinstance(error, redis.exceptions.ReadOnlyError) or "-READONLY " in str(error)


def _is_broken(connection: RedisLink) -> bool:
    """Whether the other side has ended the link."""
    reader = connection._reader
    return reader is not None and (reader.at_eof() or reader.exception() is not None)


def _notes(calls: Iterable[_Call]) -> list[Command]:
    """What notes the keys that these calls make, in as few commands as there are lists."""
    lists: dict[tuple[str, int], list[str]] = {}
    for call in calls:
        for name, ttl, keys in call.made:
            lists.setdefault((name, ttl), []).extend(keys)
    return [each for (name, ttl), keys in lists.items() for each in (("RPUSH", name, *keys), ("EXPIRE", name, ttl))]


def _set(future: asyncio.Future[list[Any]], outcome: list[Any] | Exception) -> None:
    if future.done():
        return
    if isinstance(outcome, Exception):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
