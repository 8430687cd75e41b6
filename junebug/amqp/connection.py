"""Connections to RabbitMQ: opened, kept, closed.

    Link         one TCP connection, until it is lost; it knows when RabbitMQ blocks it (an alarm)
    Connection   a Link that is opened anew for ever, with growing pauses

Neighbours: reader.py cuts what comes into frames, frames.py puts channels on a Link. aiormq connects and minds the connection
itself (heartbeats, its end); what we write goes to the socket at once.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from ssl import SSLContext, SSLError
from typing import Any, cast

import aiormq
import aiormq.connection
import aiormq.exceptions
import structlog
from pamqp import commands as amqp
from yarl import URL

from junebug.amqp.reader import FrameReader, OnLink
from junebug.config.addresses import Address
from junebug.config.declaration import AmqpSettings
from junebug.errors import BrokerUnavailable, StartupError
from junebug.runtime.backoff import Backoff
from junebug.runtime.loop import end_task, is_transport_gone
from junebug.runtime.tasks import TaskOwner
from junebug.runtime.tls import TlsError, current_context, reason_of

log = structlog.stdlib.get_logger(__name__)

CONNECT_TIMEOUT, REACH_TIMEOUT = 10.0, 3.0
"""Seconds until an address has let us in, and, where there is another one to try, until it takes the connection."""
MOST_ADDRESSES = 16
"""Of one name that are tried."""
CLOSE_TIMEOUT = 10.0
HEARTBEAT, HEARTBEAT_AT_HOME = 8, 60
"""Seconds. RabbitMQ takes a machine for dead after two to three of them: others then have its queues (docs/scale-out.md). The
second is for a RabbitMQ on this machine: nothing lies between that could break silently.
"""
STUCK = 3
"""Heartbeats that do not come, after which the link is lost."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0

ACCESS_REFUSED = 403
"""A reply-code (AMQP 0-9-1, constants)."""

FAILURES = (aiormq.exceptions.AMQPError, ConnectionError, OSError, TimeoutError)
"""What is raised when the link, a channel or RabbitMQ fails."""


def is_away(not_found: Exception) -> bool:
    """Whether there is such a queue all the same, on a node of the cluster that is away."""
    return "is down or inaccessible" in str(not_found)


class NotConnected(ConnectionError):
    """No address let us in. `failures`: which, and what was wrong with it."""

    def __init__(self, failures: list[tuple[Address, Exception]]) -> None:
        super().__init__("RabbitMQ cannot be reached")
        self.failures = failures


class _Stream(aiormq.connection.TransportFactory):
    """Connects for aiormq, and keeps hold of both ends."""

    reader: FrameReader
    writer: asyncio.StreamWriter

    def __init__(
        self, to: Address, name: str, context: SSLContext | None, timeout: float, on_frame: Callable[[int, int, bytes], None]
    ) -> None:
        """`name`: that its certificate is to be of."""
        self._to = to
        self._tls: dict[str, Any] = {"ssl": context, "server_hostname": name} if context else {}
        self._timeout = timeout
        self._on_frame = on_frame

    async def create(self, url: URL, **_: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with asyncio.timeout(self._timeout):
            reader, self.writer = await asyncio.open_connection(*self._to, **self._tls)
        self.reader = FrameReader(reader, self._on_frame)
        return cast(asyncio.StreamReader, self.reader), self.writer


class _Telling:
    """Frames of the handshake; one that closes it is raised. What 403 means aiormq knows."""

    def __init__(self, frames: Any) -> None:
        self._frames = frames

    async def get_frame(self) -> Any:
        received = await self._frames.get_frame()
        frame = received[-1]
        if isinstance(frame, amqp.Connection.Close) and frame.reply_code != ACCESS_REFUSED:
            raise aiormq.exceptions.ConnectionClosed(frame.reply_code, frame.reply_text)
        return received


class Link(aiormq.Connection):
    """One connection, until it is lost."""

    def __init__(self, settings: AmqpSettings, name: str, host: Address, to: Address, timeout: float) -> None:
        """`host` is what the settings name, `to` an address of it; `timeout`: until that takes the connection."""
        self.host, self.to = host, to
        server_name = (settings.tls and settings.tls.server_name) or host.host
        context = current_context(settings.tls) if settings.tls else None
        self._stream = _Stream(to, server_name, context, timeout, self._on_frame)
        self._on_channels: dict[int, OnLink] = {}
        heartbeat = HEARTBEAT_AT_HOME if host.is_at_home else HEARTBEAT
        url = URL.build(
            scheme="amqp", user=settings.username, password=settings.password or "", host=to.host, port=to.port,
            query={"heartbeat": str(heartbeat)},
        )  # fmt: skip
        super().__init__(url, transport_factory=self._stream, client_properties={"connection_name": name})
        self.vhost = settings.vhost
        self.blocked = ""
        """Why RabbitMQ takes no messages from this link at the moment (low on memory, on disk space)."""
        self.unblocked = asyncio.Event()
        self.unblocked.set()
        self.on_blocked: Callable[[], None] | None = None
        """Called when `blocked` changes."""
        self._number = 0

    @classmethod
    async def open(cls, settings: AmqpSettings, name: str, beside: Link | None = None) -> Link:
        """To the first of the hosts' addresses that lets us in, in random order, that of `beside` first: another node may hear
        later of what was declared there. `name` is shown by RabbitMQ. Raises NotConnected, which is one of FAILURES.
        """
        failures: list[tuple[Address, Exception]] = []
        hosts = random.sample(settings.addresses, len(settings.addresses))
        if beside:
            hosts.sort(key=lambda host: host != beside.host)
        for host in hosts:
            try:
                found = await _look_up(host)
            except FAILURES as error:
                failures.append((host, error))
                continue
            if beside and beside.to in found:
                found = [beside.to, *found]
            for to in found:
                timeout = CONNECT_TIMEOUT if len(hosts) == len(found) == 1 else REACH_TIMEOUT
                try:
                    link = await cls._open(settings, name, host, to, timeout)
                except FAILURES as error:
                    failures.append((host, error))
                except TlsError as error:
                    raise NotConnected([(host, error)]) from None
                else:
                    if failures:
                        log.warning("not every amqp host lets us in", reason=_reason(NotConnected(failures), settings))
                    return link
        raise NotConnected(failures)

    @classmethod
    async def _open(cls, settings: AmqpSettings, name: str, host: Address, to: Address, timeout: float) -> Link:
        link = cls(settings, name, host, to, timeout)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await link.connect()
                await link.ready()
        except RuntimeError as error:
            if not is_transport_gone(error):
                raise
            raise ConnectionError("the connection to RabbitMQ was lost") from None
        link.closing.add_done_callback(lambda _: link._on_lost())
        return link

    def write(self, data: bytes) -> None:
        """Whole frames, now. On a link that is being lost it does nothing: who waits for an answer is told by `lost`."""
        try:
            self._stream.writer.write(data)
        except RuntimeError as error:
            if not is_transport_gone(error):
                raise

    async def drain(self) -> None:
        """Wait until RabbitMQ has read enough of what was written. Raises ConnectionError."""
        await self._stream.writer.drain()

    def add(self, channel: OnLink) -> int:
        """The channel's number. None is used again soon: what is late for an old channel must not reach a new one."""
        most = self.connection_tune.channel_max or 65535
        for _ in range(most):
            self._number = self._number % most + 1
            if self._number not in self._on_channels:
                self._on_channels[self._number] = channel
                return self._number
        raise ConnectionError("all channels of the connection to RabbitMQ are in use")

    def remove(self, number: int, channel: OnLink) -> None:
        if self._on_channels.get(number) is channel:
            del self._on_channels[number]

    @staticmethod
    async def _rpc(request: Any, writer: Any, frame_receiver: Any, wait_response: bool = True) -> Any:
        """A part of the handshake. aiormq's own does not tell why RabbitMQ closes: no such vhost, a limit."""
        telling: Any = _Telling(frame_receiver)
        return await aiormq.Connection._rpc(request, writer, telling, wait_response)

    def _on_frame(self, number: int, kind: int, frame: bytes) -> None:
        if channel := self._on_channels.get(number):  # else it is late, for one that is closed
            channel.on_frame(kind, frame)

    @property
    def is_connection_was_stuck(self) -> bool:
        """aiormq asks whether heartbeats fail to come; while other frames do, RabbitMQ sends none."""
        silent = asyncio.get_running_loop().time() - self._stream.reader.heard
        return 0 < STUCK * self.heartbeat_timeout < silent

    def _on_lost(self) -> None:
        for channel in list(self._on_channels.values()):
            channel.lost()
        self._on_channels.clear()
        self._set_blocked("")

    async def end(self) -> None:
        """Close it, in bounded time."""
        if self.blocked:
            self._stream.writer.transport.abort()  # RabbitMQ does not read our farewell
        with suppress(*FAILURES):  # it was gone already
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self.close()

    def _set_blocked(self, reason: str) -> None:
        if reason == self.blocked:
            return
        self.blocked = reason
        (self.unblocked.clear if reason else self.unblocked.set)()
        if self.on_blocked:
            self.on_blocked()

    # aiormq's own answers to these two frames, which only log
    async def _Connection__handle_connection_blocked(self, frame: amqp.Connection.Blocked) -> None:
        self._set_blocked(frame.reason or "an alarm")

    async def _Connection__handle_connection_unblocked(self, _: amqp.Connection.Unblocked) -> None:
        self._set_blocked("")


class Connection:
    """A Link that is opened anew whenever it is lost."""

    def __init__(
        self,
        settings: AmqpSettings,
        name: str,
        tasks: TaskOwner,
        prepare: Callable[[Link], Awaitable[None]],
        on_state: Callable[[bool, str], None],
    ) -> None:
        """`prepare` does what is to be done first on each link, and raises FAILURES; `on_state(connected, why)`."""
        self._settings = settings
        self._name = name
        self._tasks = tasks
        self._prepare = prepare
        self._on_state = on_state
        self._link: Link | None = None
        self._connected = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        return self._connected.is_set()

    @property
    def link(self) -> Link:
        """Raises BrokerUnavailable."""
        if self._link is None or not self.connected:
            raise BrokerUnavailable("there is no connection to RabbitMQ")
        return self._link

    def start(self) -> None:
        """Begin to connect, and go on trying until it is closed."""
        self._keeper = self._tasks.own("amqp connection", self._keep())

    async def wait(self, timeout: float | None) -> None:
        """Until it is connected. Raises BrokerUnavailable when the time is over."""
        try:
            async with asyncio.timeout(timeout):
                await self._connected.wait()
        except TimeoutError:
            raise BrokerUnavailable(f"RabbitMQ at {address(self._settings)} does not answer") from None

    def another(self, name: str) -> Coroutine[Any, Any, Link]:
        """A second link to the same RabbitMQ. Raises FAILURES."""
        return Link.open(self._settings, f"{self._name} {name}", self._link)

    def unavailable(self, error: BaseException) -> BrokerUnavailable:
        """One of FAILURES, as others see it."""
        return BrokerUnavailable(f"RabbitMQ does not answer: {self.reason(error)}")

    def reason(self, error: BaseException) -> str:
        """One line without the password."""
        return _reason(error, self._settings)

    async def close(self) -> None:
        if self._keeper:
            await end_task(self._keeper)
        await self._drop()

    async def _drop(self) -> None:
        link, self._link = self._link, None
        self._connected.clear()
        if link:
            await link.end()

    async def _keep(self) -> None:
        backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        while True:
            try:
                self._link = await Link.open(self._settings, self._name)
                await self._prepare(self._link)
            except FAILURES as error:
                await self._drop()
                self._on_state(False, self.reason(error))
                await backoff.pause()
                continue
            backoff.reset()
            self._connected.set()
            self._on_state(True, "connected")
            await asyncio.wait([self._link.closing])
            await self._drop()
            self._on_state(False, "the connection to RabbitMQ was lost")


async def check(settings: AmqpSettings, timeout: float) -> None:
    """Connect once. Raises StartupError: one line that names the setting to look at."""
    try:
        async with asyncio.timeout(timeout):
            link = await Link.open(settings, "junebug check")
            await link.end()
    except FAILURES as error:
        raise refusal(error, settings) from None


def refusal(error: Exception, settings: AmqpSettings) -> StartupError:
    """Why nobody can connect: one line that names the setting to look at."""
    failures = error.failures if isinstance(error, NotConnected) else [(settings.addresses[0], error)]
    for host, each in failures:
        match each:
            case aiormq.exceptions.AuthenticationError() | aiormq.exceptions.ProbableAuthenticationError():
                return StartupError(f"amqp.username, amqp.password: RabbitMQ at {host} refuses them")
            case aiormq.exceptions.ConnectionNotAllowed():
                return StartupError(f"amqp.vhost: RabbitMQ at {host} has no such vhost for this user")
            case TlsError() | SSLError():
                return StartupError(f"amqp.tls: RabbitMQ at {host} cannot be used: {_reason(each, settings)}")
    reason = _reason(error, settings)
    # a wrong vhost is answered by closing the connection with the text NOT_ALLOWED
    setting = "amqp.hosts" if settings.hosts else "amqp.hostname, amqp.port"
    setting = "amqp.vhost" if "NOT_ALLOWED" in reason or "Connection.OpenOk" in reason else setting
    return StartupError(f"{setting}: RabbitMQ at {address(settings)} cannot be used: {reason}")


def address(settings: AmqpSettings) -> str:
    return ", ".join(map(str, settings.addresses))


def _reason(error: BaseException, settings: AmqpSettings) -> str:
    if isinstance(error, NotConnected):
        told = [(f"{host}: " * (len(settings.addresses) > 1)) + _reason(each, settings) for host, each in error.failures]
        return "; ".join(dict.fromkeys(told))
    if isinstance(error, TimeoutError):
        return "it does not answer"
    if isinstance(error, SSLError):
        return reason_of(error)
    text = " ".join(str(error).split()) or type(error).__name__
    return text.replace(settings.password, "********") if settings.password else text


async def _look_up(host: Address) -> list[Address]:
    """Its addresses at this moment: of a name of several another one each time. Raises OSError."""
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            found = await asyncio.get_running_loop().getaddrinfo(host.host, host.port, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise OSError("it is no host name") from None
    families = [each[0] for each in found]
    random.shuffle(found)
    found.sort(key=lambda each: families.index(each[0]))  # which family is better is known to the machine
    return [Address(*each[4][:2]) for each in found[:MOST_ADDRESSES]]
