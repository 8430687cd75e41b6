"""RabbitMQ: the only module that imports aio_pika. Connect and stay connected, declare, publish, consume.

Neighbours: amqp_channel.py does what comes once per message, amqp_consumer.py keeps consuming; names.py names the
queues. One Broker is one connection of one process. It reconnects by itself, for ever, with growing jittered pauses;
each time it declares the topology that it was asked for and restarts its consumers. What was delivered and not
acknowledged when the link broke comes again.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import aio_pika
import aiormq.exceptions
import structlog
from aiormq.abc import AbstractConnection

from junebug import names
from junebug.amqp.consumer import Consumer, walk
from junebug.amqp.frames import FAILURES, RPC_TIMEOUT, Delivery, FastChannel, close_channel
from junebug.config.declaration import AmqpSettings
from junebug.errors import BrokerUnavailable, StartupError, Unroutable
from junebug.runtime.loop import end_task

__all__ = ["Broker", "Consumer", "Delivery", "check"]

log = structlog.stdlib.get_logger(__name__)

CONNECT_TIMEOUT = 10.0
CONFIRM_TIMEOUT = 30.0
HEARTBEAT = 15
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0

QueueArguments = Mapping[str, Mapping[str, Any]]
"""Queue name -> its AMQP arguments."""


class Broker:
    """One process's connection to RabbitMQ."""

    def __init__(
        self, settings: AmqpSettings, name: str, on_state: Callable[[bool, str], None] | None = None
    ) -> None:
        """`name` is shown by RabbitMQ; `on_state(connected, why)` is called at each change."""
        self._settings = settings
        self._name = name
        self._on_state = on_state
        self._queues: dict[str, Mapping[str, Any]] = {}
        self._bindings: set[str] = set()
        self._consumers: list[Consumer] = []
        self._connected = asyncio.Event()
        self._reported: tuple[bool, str] | None = None
        self._connection: aio_pika.abc.AbstractConnection | None = None
        self._publisher: FastChannel | None = None
        self._apart: FastChannel | None = None
        self._opening_apart = asyncio.Lock()
        self._keeper: asyncio.Task[None] | None = None

    # --- the connection -----------------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        return self._connected.is_set()

    async def start(self, timeout: float | None = 0) -> None:
        """Begin to connect; wait up to `timeout` seconds (None: for ever, 0: not at all) for the first connection.

        Raises BrokerUnavailable when that time is over; the Broker goes on trying until it is closed.
        """
        self._keeper = asyncio.create_task(self._keep_connected())
        if timeout is None or timeout > 0:
            await self.wait_connected(timeout)

    async def wait_connected(self, timeout: float | None) -> None:
        """Raises BrokerUnavailable."""
        try:
            async with asyncio.timeout(timeout):
                await self._connected.wait()
        except TimeoutError:
            raise BrokerUnavailable(f"RabbitMQ at {_address(self._settings)} does not answer") from None

    async def close(self) -> None:
        """End consumers, then publishing, then the connection (late events still leave)."""
        for consumer in list(self._consumers):
            await consumer.cancel()
        if self._keeper:
            await end_task(self._keeper)
        await self._disconnect()

    async def _disconnect(self) -> None:
        connection, self._connection, self._publisher, self._apart = self._connection, None, None, None
        if connection:
            try:
                async with asyncio.timeout(RPC_TIMEOUT):
                    await connection.close()
            except FAILURES:
                pass  # it was gone already

    async def _keep_connected(self) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    underlay = await self._connect()
            except FAILURES as error:
                await self._disconnect()
                self._report(False, _reason(error, self._settings))
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(pause * 2, LONGEST_PAUSE)
                continue
            pause = FIRST_PAUSE
            self._connected.set()
            self._report(True, "connected")
            await asyncio.wait([underlay.closing])
            self._connected.clear()
            self._report(False, "the connection to RabbitMQ was lost")
            await self._disconnect()

    async def _connect(self) -> AbstractConnection:
        self._connection = await _open(self._settings, self._name)
        underlay = _underlay(self._connection)
        async with self._connection.channel(publisher_confirms=False) as channel:
            await channel.declare_exchange(names.EXCHANGE, names.EXCHANGE_TYPE, durable=True)
        if self._queues:
            await self._declare(self._queues, self._bindings)
        self._publisher = await FastChannel.open_on(underlay, publisher_confirms=True, timeout=RPC_TIMEOUT)
        return underlay

    def _report(self, connected: bool, why: str) -> None:
        if (connected, why) == self._reported:
            return
        self._reported = (connected, why)
        if self._on_state:
            self._on_state(connected, why)
        elif connected:
            log.info("amqp connected", address=_address(self._settings))
        else:
            log.warning("amqp not connected", address=_address(self._settings), reason=why)

    # --- topology -----------------------------------------------------------------------------------------------------

    async def declare(self, queues: QueueArguments, *, bind: bool = False, remember: bool = True) -> None:
        """Declare durable queues; with `bind`, bind each to the exchange `vumi` under its own name.

        With `remember` they are declared again after each reconnection (a RabbitMQ that lost its data gets them back).
        Raises BrokerUnavailable.
        """
        if remember:
            self._queues.update(queues)
            self._bindings.update(queues if bind else ())
        if self._connection is None or not self.connected:
            raise BrokerUnavailable("there is no connection to RabbitMQ")
        try:
            await self._declare(queues, set(queues) if bind else set())
        except FAILURES as error:
            raise BrokerUnavailable(f"cannot declare queues: {_reason(error, self._settings)}") from None

    async def _declare(self, queues: QueueArguments, bindings: set[str]) -> None:
        as_they_are: set[str] = set()
        while True:
            try:
                return await self._declare_all(queues, bindings, as_they_are)
            except _OtherArguments as other:
                is_ours_alone = other.queue not in bindings and "x-queue-type" not in queues[other.queue]
                # RabbitMQ takes the condition "if it is empty" for a quorum queue as an offence and closes the connection
                if not (is_ours_alone and await self._delete_idle(other.queue)):
                    log.warning("queue has other arguments, used as it is", queue=other.queue)
                    as_they_are.add(other.queue)

    async def _declare_all(self, queues: QueueArguments, bindings: set[str], as_they_are: set[str]) -> None:
        assert self._connection is not None
        async with asyncio.timeout(RPC_TIMEOUT), self._connection.channel(publisher_confirms=False) as channel:
            for name, arguments in queues.items():
                try:
                    queue = await channel.declare_queue(
                        name, durable=True, passive=name in as_they_are, arguments=dict(arguments) or None
                    )
                except aiormq.exceptions.ChannelPreconditionFailed:
                    raise _OtherArguments(name) from None
                if name in bindings:
                    await queue.bind(names.EXCHANGE, name)

    async def _delete_idle(self, queue: str) -> bool:
        """A queue that another version of Junebug declared with other arguments makes room if nothing is in it."""
        assert self._connection is not None
        try:
            async with asyncio.timeout(RPC_TIMEOUT), self._connection.channel(publisher_confirms=False) as channel:
                await channel.queue_delete(queue, if_unused=True, if_empty=True)
        except aiormq.exceptions.AMQPChannelError:
            return False  # it holds messages, or somebody consumes it
        return True

    def forget(self, queues: Sequence[str]) -> None:
        """Declare them no more at a reconnection."""
        for name in queues:
            self._queues.pop(name, None)
            self._bindings.discard(name)

    async def delete_queues(self, queues: Sequence[str]) -> None:
        """Delete the queues with what is in them; one that is not there is fine. Raises BrokerUnavailable."""
        self.forget(queues)
        for name in queues:
            async with self._admin_channel() as channel:  # for each, because some take RabbitMQ seconds (quorum queues)
                await channel.queue_delete(name)

    async def delete_idle_queue(self, queue: str) -> bool:
        """Delete a queue that is empty and that nobody consumes; False when it is not. Raises BrokerUnavailable."""
        if self._connection is None or not self.connected:
            raise BrokerUnavailable("there is no connection to RabbitMQ")
        try:
            return await self._delete_idle(queue)
        except FAILURES as error:
            raise BrokerUnavailable(f"RabbitMQ does not answer: {_reason(error, self._settings)}") from None

    async def queue_length(self, queue: str) -> int:
        """Messages that wait in the queue; 0 when there is none of that name. Raises BrokerUnavailable."""
        return (await self.queue_lengths((queue,)))[queue]

    async def queue_lengths(self, queues: Iterable[str]) -> dict[str, int]:
        """Messages that wait in each; 0 where there is none of that name. Raises BrokerUnavailable."""
        lengths: dict[str, int] = {}
        left = deque(queues)
        while left:
            try:
                async with self._admin_channel() as channel:
                    while left:
                        declared = await channel.declare_queue(left[0], passive=True)
                        lengths[left.popleft()] = declared.declaration_result.message_count or 0
            except _QueueMissing:
                lengths[left.popleft()] = 0
        return lengths

    async def browse(
        self,
        queue: str,
        visit: Callable[[Sequence[Delivery]], Awaitable[bool]],
        *,
        keeping: bool,
        most: int | None = None,
        exclusive: bool = True,
    ) -> int:
        """Go once through what waits in the queue, in its order; how many messages were seen.

        `visit` gets them in batches and answers whether to go on. What it acknowledges is gone; the rest is put back in
        its place at the end. `keeping`: it leaves many there (else they come as fast as it acknowledges). `most`: see no
        more than so many. `exclusive`: nobody else may consume the queue meanwhile.

        Raises QueueBusy when somebody consumes it already, BrokerUnavailable.
        """
        if self._connection is None or not self.connected:
            raise BrokerUnavailable("there is no connection to RabbitMQ")
        channel = None
        try:
            channel = await FastChannel.open_on(_underlay(self._connection), timeout=RPC_TIMEOUT)
            return await walk(channel, queue, visit, keeping=keeping, most=most, exclusive=exclusive)
        except aiormq.exceptions.ChannelNotFoundEntity:
            return 0
        except FAILURES as error:
            raise BrokerUnavailable(f"RabbitMQ does not answer: {_reason(error, self._settings)}") from None
        finally:
            if channel:
                await close_channel(channel)

    # --- for its consumers --------------------------------------------------------------------------------------------

    def link(self) -> AbstractConnection:
        """aiormq's connection. Raises ConnectionError."""
        if self._connection is None:
            raise ConnectionError("there is no connection to RabbitMQ")
        return _underlay(self._connection)

    async def declare_again(self, queues: Sequence[str]) -> None:
        """Those of them that were to be remembered. Raises what aiormq raises."""
        known = {queue: self._queues[queue] for queue in queues if queue in self._queues}
        await self._declare(known, self._bindings & known.keys())

    def reason(self, error: BaseException) -> str:
        """One line without the password."""
        return _reason(error, self._settings)

    def drop(self, consumer: Consumer) -> None:
        """It has ended for good."""
        if consumer in self._consumers:
            self._consumers.remove(consumer)

    def _admin_channel(self) -> _AdminChannel:
        if self._connection is None or not self.connected:
            raise BrokerUnavailable("there is no connection to RabbitMQ")
        return _AdminChannel(self._connection, self._settings)

    # --- messages -----------------------------------------------------------------------------------------------------

    async def publish(
        self,
        routing_key: str,
        body: bytes,
        *,
        exchange: str = "",
        expiration: float | None = None,
        timeout: float = CONFIRM_TIMEOUT,
    ) -> None:
        """Publish one message (see `publish_many`); concurrent calls share one write."""
        await self.publish_many(routing_key, (body,), exchange=exchange, expiration=expiration, timeout=timeout)

    async def publish_many(
        self,
        routing_key: str,
        bodies: Sequence[bytes],
        *,
        exchange: str = "",
        expiration: float | None = None,
        timeout: float = CONFIRM_TIMEOUT,
        apart: bool = False,
    ) -> None:
        """Publish persistent messages; return when RabbitMQ has confirmed them.

        `expiration`: seconds that they may wait in a queue. `apart`: over a channel of its own, a new one when that
        confirms nothing. RabbitMQ 3.10 may spoil a quorum queue when it is killed, and hangs for ever in a channel on
        which something is published to such a queue: nobody else's messages may be on that channel.

        Raises Unroutable when no queue takes one, BrokerUnavailable when there is no confirmation: then each of them
        may or may not have been taken, and publishing again is right for those who can bear a repeat.
        """
        publisher = await self._publisher_apart() if apart else self._publisher
        if publisher is None or not publisher.usable:
            raise BrokerUnavailable("there is no connection to RabbitMQ")
        try:
            async with asyncio.timeout(timeout):
                milliseconds = None if expiration is None else max(0, round(expiration * 1000))
                await publisher.publish_many(exchange, routing_key, bodies, milliseconds)
        except TimeoutError:
            if publisher is self._apart:
                self._apart = None
                publisher.abandon()
            raise BrokerUnavailable(f"RabbitMQ did not confirm within {timeout:g} s") from None

    async def _publisher_apart(self) -> FastChannel | None:
        async with self._opening_apart:
            if self._connection and self.connected and not (self._apart and self._apart.usable):
                try:
                    self._apart = await FastChannel.open_on(
                        _underlay(self._connection), publisher_confirms=True, timeout=RPC_TIMEOUT
                    )
                except FAILURES:
                    return None
            return self._apart

    async def publish_surely(
        self, routing_key: str, bodies: Sequence[bytes], *, exchange: str = "", expiration: float | None = None
    ) -> None:
        """Publish, again and again until RabbitMQ has confirmed: repeats are possible, loss is not.

        A queue of those declared that somebody deleted is declared anew. Raises only Unroutable, for another; ends
        otherwise when cancelled.
        """
        pause = FIRST_PAUSE
        while True:
            await self._connected.wait()
            try:
                return await self.publish_many(routing_key, bodies, exchange=exchange, expiration=expiration)
            except Unroutable:
                if exchange or routing_key not in self._queues:
                    raise
                await self._declare_again(routing_key)
            except BrokerUnavailable:
                pass
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _declare_again(self, queue: str) -> None:
        try:
            await self.declare({queue: self._queues[queue]}, bind=queue in self._bindings)
        except BrokerUnavailable:
            pass  # the caller tries again, as does the next connection

    def consume(
        self,
        queue: str | Sequence[str],
        on_delivery: Callable[[Delivery], None],
        *,
        prefetch: int,
        exclusive: bool = False,
        temporary: bool = False,
        halted: bool = False,
        on_lost: Callable[[], None] | None = None,
    ) -> Consumer:
        """Have `on_delivery` called (in the event loop, must not block) for each message, until cancelled.

        Of several queues each has its own `prefetch`. They must be among those declared, unless they are `temporary`:
        made by this consumer, for it alone, gone with its connection. `exclusive`: RabbitMQ lets nobody else consume
        them meanwhile. `halted`: it begins with `go_on`. `on_lost` is called when the link breaks: what was not
        acknowledged will be delivered again.
        """
        queues = (queue,) if isinstance(queue, str) else tuple(queue)
        consumer = Consumer(
            self,
            queues,
            on_delivery,
            prefetch=prefetch,
            exclusive=exclusive,
            temporary=temporary,
            halted=halted,
            on_lost=on_lost,
        )
        self._consumers.append(consumer)
        consumer.resume()
        return consumer


class _OtherArguments(Exception):
    """A queue is there with other arguments than ours."""

    def __init__(self, queue: str) -> None:
        super().__init__(queue)
        self.queue = queue


class _QueueMissing(Exception):
    """A passive declaration found no queue."""


class _AdminChannel:
    """A channel for one errand: RabbitMQ closes a channel at the first refusal, so none is kept."""

    def __init__(self, connection: aio_pika.abc.AbstractConnection, settings: AmqpSettings) -> None:
        self._channel = connection.channel(publisher_confirms=False)
        self._settings = settings
        self._timeout = asyncio.timeout(RPC_TIMEOUT)

    async def __aenter__(self) -> Any:
        await self._timeout.__aenter__()
        try:
            return await self._channel.__aenter__()
        except BaseException as error:
            await self._translate(type(error), error)
            raise

    async def __aexit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        try:
            await self._channel.__aexit__(kind, error, trace)
        except FAILURES:
            pass
        await self._translate(kind, error)

    async def _translate(self, kind: Any, error: BaseException | None) -> None:
        try:
            await self._timeout.__aexit__(kind, error, None)
        except TimeoutError as timeout:
            error = timeout
        if isinstance(error, aiormq.exceptions.ChannelNotFoundEntity):
            raise _QueueMissing from None
        if isinstance(error, FAILURES):
            raise BrokerUnavailable(f"RabbitMQ does not answer: {_reason(error, self._settings)}") from None


async def check(settings: AmqpSettings, timeout: float) -> None:
    """Connect once. Raises StartupError: one line that names the setting to look at."""
    where = _address(settings)
    try:
        async with asyncio.timeout(timeout):
            connection = await _open(settings, "junebug check")
            await connection.close()
    except (aiormq.exceptions.AuthenticationError, aiormq.exceptions.ProbableAuthenticationError):
        raise StartupError(f"amqp.username, amqp.password: RabbitMQ at {where} refuses them") from None
    except aiormq.exceptions.ConnectionNotAllowed:
        raise StartupError(f"amqp.vhost: RabbitMQ at {where} has no such vhost for this user") from None
    except FAILURES as error:
        reason = _reason(error, settings)
        # a wrong vhost is answered by closing the connection with the text NOT_ALLOWED
        setting = "amqp.vhost" if "NOT_ALLOWED" in reason or "Connection.OpenOk" in reason else "amqp.hostname, amqp.port"
        raise StartupError(f"{setting}: RabbitMQ at {where} cannot be used: {reason}") from None


async def _open(settings: AmqpSettings, name: str) -> aio_pika.abc.AbstractConnection:
    return await aio_pika.connect(
        host=settings.hostname,
        port=settings.port,
        login=settings.username,
        password=settings.password or "",
        virtualhost=settings.vhost,
        heartbeat=HEARTBEAT,
        client_properties={"connection_name": name},
        timeout=CONNECT_TIMEOUT,
    )


def _underlay(connection: aio_pika.abc.AbstractConnection) -> AbstractConnection:
    if connection.transport is None:
        raise ConnectionError("the connection to RabbitMQ was lost")
    return connection.transport.connection


def _address(settings: AmqpSettings) -> str:
    return f"{settings.hostname}:{settings.port}"


def _reason(error: BaseException, settings: AmqpSettings) -> str:
    """One line without the password."""
    if isinstance(error, TimeoutError):
        return "it does not answer"
    text = " ".join(str(error).split()) or type(error).__name__
    return text.replace(settings.password, "********") if settings.password else text
