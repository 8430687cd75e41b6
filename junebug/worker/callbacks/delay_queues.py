"""The queues where failed callbacks wait: declared when needed, noted so that a restarted worker finds them.

Neighbours: destinations.py puts single callbacks into retry queues, lane.py a host's into its waiting queue. RabbitMQ
removes each when nobody has used it for a while (names.delay_arguments); what it held has left it long before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from junebug import names
from junebug.amqp.broker import Broker
from junebug.errors import BrokerUnavailable, StoreUnavailable, Unroutable
from junebug.model.callbacks import Callback
from junebug.stores.delay_queues import DelayQueueStore
from junebug.worker.callbacks.retry_policy import LONGEST_RETRY_AFTER, Delay

log = structlog.stdlib.get_logger("forwarder")

WAITING_TIME = 300.0
"""Seconds after which what waits for a host comes by of itself, whoever has forgotten it."""
SETTLING = 2.0
"""Seconds before a new queue is trusted: RabbitMQ 3.10, killed within half a second of making a quorum queue, forgets
what it confirmed there. The queue is then a name without a queue behind it: whatever is published to it is never
confirmed.
"""
CONFIRM_TIMEOUT = 20.0
"""Seconds after which another queue is used in the stead of such a one."""
PAUSE = 0.1
MOST_NAMES = 2000


class DelayQueues:
    """Those of one channel."""

    def __init__(self, broker: Broker, store: DelayQueueStore, channel: str, delays: Sequence[float]) -> None:
        self._broker = broker
        self._store = store
        self._channel = channel
        self._ttl = max(*delays, WAITING_TIME, LONGEST_RETRY_AFTER) + 120.0
        self._declared: dict[str, float] = {}
        """Name -> until when it may hold something, in the loop's time; the last declared at the end."""
        self._leases: dict[str, float] = {}
        self._settled: dict[str, float] = {}
        """Name of a new queue -> when it can be trusted."""
        self._instead: dict[str, str] = {}
        """Name of a queue that confirms nothing -> the one that is used in its stead."""
        self._declaring = asyncio.Lock()
        self._noting: set[asyncio.Task[None]] = set()

    def names(self) -> list[str]:
        """Of the queues that may hold something."""
        now = asyncio.get_running_loop().time()
        return [name for name, until in self._declared.items() if until > now]

    def waiting(self, destination: str) -> str:
        """The name of the waiting queue of a destination."""
        name = names.waiting_queue(self._channel, destination)
        return self._instead.get(name, name)

    async def retry(self, callback: Callback, delay: Delay) -> None:
        """Have the callback come back to the callback queue after the delay; returns when RabbitMQ has confirmed it."""
        name = names.retry_queue(self._channel, delay.queue)
        until = asyncio.get_running_loop().time() + delay.seconds
        await self._put(name, delay.queue, (callback.to_wire(),), "", until)

    async def wait(self, destination: str, bodies: Sequence[bytes]) -> None:
        """Put these into the destination's waiting queue, in order; returns when RabbitMQ has confirmed them."""
        name = names.waiting_queue(self._channel, destination)
        await self._put(name, WAITING_TIME, bodies, destination, None)

    async def _put(
        self, wanted: str, seconds: float, bodies: Sequence[bytes], destination: str, until: float | None
    ) -> None:
        """`seconds`: the longest that the queue holds anything; `until`: when these are to leave it, in the loop's time."""
        loop = asyncio.get_running_loop()
        while True:
            name = self._instead.get(wanted, wanted)
            begun = loop.time()
            try:
                await self._declare(name, seconds, destination)
                begun = loop.time()
                expiration = None if until is None else max(0.0, until - begun)
                return await self._broker.publish_many(
                    name, bodies, expiration=expiration, timeout=CONFIRM_TIMEOUT, apart=True
                )
            except Unroutable:
                self._leases.pop(name, None)  # somebody deleted it, or RabbitMQ lost its data
                self._declared.pop(name, None)
            except BrokerUnavailable:
                if loop.time() >= begun + CONFIRM_TIMEOUT and self._broker.connected:
                    self._replace(wanted, name)
                await self._broker.wait_connected(None)
            await asyncio.sleep(PAUSE)

    def _replace(self, wanted: str, name: str) -> None:
        """If the queue lives after all, what is in it comes by when its time is over."""
        if self._instead.get(wanted, wanted) == name:
            self._instead[wanted] = names.another_queue(wanted)
            log.error("queue takes nothing: another is used", queue=name, instead=self._instead[wanted])

    async def _declare(self, name: str, seconds: float, destination: str) -> None:
        loop = asyncio.get_running_loop()
        async with self._declaring:
            if self._leases.get(name, 0.0) <= loop.time():
                await self._broker.declare({name: names.delay_arguments(self._channel, seconds)}, remember=False)
                if self._declared.get(name, 0.0) <= loop.time():
                    self._settled[name] = loop.time() + SETTLING
                self._leases[name] = loop.time() + names.DELAY_LEASE
                self._keep_name(name, loop.time() + seconds + 60.0)
                self._noting.add(task := asyncio.create_task(self._note(name, destination)))
                task.add_done_callback(self._noting.discard)
        if name in self._settled:
            await asyncio.sleep(max(0.0, self._settled[name] - loop.time()))
            self._settled.pop(name, None)

    def _keep_name(self, name: str, until: float) -> None:
        self._declared.pop(name, None)
        self._declared[name] = until
        while len(self._declared) > MOST_NAMES:
            oldest = next(iter(self._declared))
            del self._declared[oldest]
            self._leases.pop(oldest, None)

    async def _note(self, name: str, destination: str) -> None:
        try:
            await self._store.note(self._channel, name, destination, self._ttl)
        except StoreUnavailable as error:  # the next declaration notes it again; what waits comes by in any case
            log.warning("a delay queue could not be noted", queue=name, reason=str(error))

    async def hold(self, destination: str) -> str:
        """Declare a waiting queue that is to be consumed: until `release` it comes back whatever happens to RabbitMQ."""
        name = self.waiting(destination)
        await self._broker.declare({name: names.delay_arguments(self._channel, WAITING_TIME)})
        return name

    def release(self, destination: str) -> None:
        self._broker.forget([self.waiting(destination)])

    async def left_waiting(self) -> list[str]:
        """Destinations for which an earlier process left something. Raises StoreUnavailable, BrokerUnavailable."""
        noted = await self._store.noted(self._channel)
        lengths = await self._broker.queue_lengths(noted)
        until = asyncio.get_running_loop().time() + self._ttl
        for name, destination in noted.items():
            if lengths[name]:
                self._keep_name(name, until)
            if lengths[name] and destination and name != self.waiting(destination):
                self._instead[self.waiting(destination)] = name
        if empty := [name for name in noted if not lengths[name]]:
            await self._store.forget(self._channel, empty)
        return [destination for name, destination in noted.items() if destination and lengths[name]]

    async def close(self) -> None:
        for task in self._noting:
            task.cancel()
        await asyncio.gather(*self._noting, return_exceptions=True)
