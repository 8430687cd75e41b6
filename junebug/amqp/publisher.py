"""Publishing: persistent messages in batches, each confirmed by RabbitMQ before anybody relies on it.

A Publisher has a link of its own (opened with the first message, so that an alarm, which blocks links that publish, never keeps
anybody from consuming) and a channel on it (confirm_channel.py), opened anew on demand.

Neighbours: connection.py, topology.py; broker.py composes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress

import structlog
from pamqp import commands as amqp

from junebug.amqp.confirm_channel import ConfirmChannel, Refused
from junebug.amqp.connection import FAILURES, FIRST_PAUSE, LONGEST_PAUSE, Connection, Link
from junebug.amqp.topology import Topology
from junebug.errors import BrokerUnavailable, Unroutable
from junebug.runtime.backoff import Backoff
from junebug.runtime.loop import end_task
from junebug.runtime.tasks import TaskOwner
from junebug.runtime.time_limits import TimeLimits

log = structlog.stdlib.get_logger(__name__)

CONFIRM_TIMEOUT = 30.0
AFTER_REFUSAL = (0.05, 0.1, 0.2, 0.4)
"""Seconds before what RabbitMQ refused is published again. Of two who declare a quorum queue it (3.10) tells the second that it
is there while it is still being made, and takes nothing for it yet.
"""


class Publisher:
    """What a process publishes; others call its methods as Broker's."""

    def __init__(
        self, connection: Connection, topology: Topology, tasks: TaskOwner, on_blocked: Callable[[], None]
    ) -> None:
        self._connection = connection
        self._topology = topology
        self._tasks = tasks
        self._on_blocked = on_blocked
        self._link: Link | None = None
        self._channel: ConfirmChannel | None = None
        self._opening: asyncio.Task[ConfirmChannel] | None = None
        self._limits = TimeLimits()

    @property
    def blocked(self) -> str:
        """Why RabbitMQ takes no messages at the moment; empty: it does."""
        return self._link.blocked if self._link else ""

    async def publish(
        self, routing_key: str, body: bytes, *, exchange: str = "", expiration: float | None = None,
        timeout: float = CONFIRM_TIMEOUT,
    ) -> None:  # fmt: skip
        """Publish one message (see `publish_many`); concurrent calls share one write."""
        await self.publish_many(routing_key, (body,), exchange=exchange, expiration=expiration, timeout=timeout)

    async def publish_many(
        self, routing_key: str, bodies: Sequence[bytes], *, exchange: str = "", expiration: float | None = None,
        timeout: float | None = CONFIRM_TIMEOUT,
    ) -> None:  # fmt: skip
        """Publish persistent messages; return when RabbitMQ has confirmed them.

        `expiration`: seconds that they may wait in a queue.

        Raises Unroutable when no queue takes one, BrokerUnavailable when there is no confirmation (at once while
        RabbitMQ is away or blocks): then each of those that were written may or may not have been taken, and publishing
        again is right for those who can bear a repeat.
        """
        if not bodies:
            return
        milliseconds = None if expiration is None else max(0, round(expiration * 1000))
        try:
            with nullcontext() if timeout is None else self._limits(timeout):
                channel = await self._usable_channel()
                try:
                    await channel.publish(exchange, routing_key, bodies, milliseconds)
                except Refused as error:
                    await self._publish_again(error, exchange, routing_key, bodies, milliseconds)
        except TimeoutError:
            raise BrokerUnavailable(f"RabbitMQ did not confirm within {timeout:g} s") from None

    async def _publish_again(
        self, error: Refused, exchange: str, routing_key: str, bodies: Sequence[bytes], expiration: int | None
    ) -> None:
        """Those that were refused. Raises as `publish_many` does."""
        left = error.refused
        for pause in AFTER_REFUSAL:
            if not left:
                break
            log.warning("RabbitMQ refused messages: they are published again", routing_key=routing_key, messages=len(left))
            await asyncio.sleep(pause)
            channel = await self._usable_channel()
            try:
                return await channel.publish(exchange, routing_key, [bodies[at] for at in left], expiration)
            except Refused as again:
                left = [left[at] for at in again.refused]
            except Unroutable as again:
                again.returned = [left[at] for at in again.returned]
                raise
        raise BrokerUnavailable(str(error)) from None

    async def publish_surely(
        self, routing_key: str, bodies: Sequence[bytes], *, exchange: str = "", expiration: float | None = None
    ) -> None:
        """Publish until RabbitMQ has confirmed, once more only when the channel ended before: repeats are possible, loss
        is not.

        A queue of those declared that somebody deleted is declared anew. Raises only Unroutable, for another; ends
        otherwise when cancelled.
        """
        backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        while True:
            if not self._connection.connected:
                await self._connection.wait(None)
            if self.blocked and self._link:
                await self._link.unblocked.wait()
            try:
                return await self.publish_many(
                    routing_key, bodies, exchange=exchange, expiration=expiration, timeout=None
                )
            except Unroutable:
                if not exchange and self._topology.remembers(routing_key):
                    with suppress(BrokerUnavailable):  # tried again here, and by the next connection
                        await self._topology.declare_again((routing_key,))
                elif exchange or await self._topology.missing(routing_key):
                    raise
            except BrokerUnavailable:
                pass
            await backoff.pause()

    async def ping(self, timeout: float) -> None:
        """Publish something that no queue takes, and have it confirmed. Raises BrokerUnavailable."""
        with suppress(Unroutable):  # as it should be: RabbitMQ has read it, looked for a queue and confirmed
            await self.publish("junebug.ping", b"{}", timeout=timeout)

    async def close(self) -> None:
        if self._opening:
            await end_task(self._opening)
        link, self._link = self._link, None
        if link:
            await link.end()

    # --- the link and its channel -------------------------------------------------------------------------------------

    async def _usable_channel(self) -> ConfirmChannel:
        """Opened anew if need be, by one task for all who need it at the same time. Raises BrokerUnavailable."""
        if self._channel and self._channel.usable:
            return self._channel
        self._connection.link  # noqa: B018 - raises at once while RabbitMQ is away
        if self._opening is None or self._opening.done():
            self._opening = asyncio.create_task(self._open())
        opening = self._opening
        await asyncio.wait([opening])  # whoever gives up waiting leaves it alone
        try:
            return opening.result()
        except asyncio.CancelledError:
            raise BrokerUnavailable("this process closes its connection to RabbitMQ") from None
        except FAILURES as error:
            raise self._connection.unavailable(error) from None

    async def _open(self) -> ConfirmChannel:
        """Raises FAILURES, BrokerUnavailable."""
        if self._link is None or self._link.is_closed:
            self._link = await self._connection.another("publishing")
            self._link.on_blocked = self._blocked_or_not
        elif self._channel:
            log.warning("publishing channel opened anew", reason=str(self._channel.ended_by))
            await self._topology.restore_all()  # RabbitMQ closed it: perhaps somebody deleted the exchange
        channel = await ConfirmChannel.open(self._link)
        await channel.ask(amqp.Confirm.Select())
        self._tasks.own("amqp publishing", channel.write_forever())
        self._channel = channel
        return channel

    def _blocked_or_not(self) -> None:
        if self.blocked and self._channel:
            self._channel.refuse_unwritten()
        self._on_blocked()
