"""The queues where callbacks wait for a later attempt: declared when needed, noted so that others can count and remove them.

Neighbour: attempts.py puts callbacks in; they come back by the callback queue. RabbitMQ removes each queue when nobody has
used it for a while (names.delay_arguments); what it held has left it long before.
"""

from __future__ import annotations

import asyncio

import structlog

from junebug import names
from junebug.errors import BrokerUnavailable, StoreUnavailable, Unroutable
from junebug.model.callbacks import Callback
from junebug.worker.callbacks.retry_policy import Delay
from junebug.worker.context import ChannelContext

log = structlog.stdlib.get_logger("forwarder")

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

    def __init__(self, context: ChannelContext) -> None:
        self._context = context
        self._declared: dict[str, float] = {}
        """Name -> until when it may hold something, in the loop's time; the last declared at the end."""
        self._leases: dict[str, float] = {}
        self._trusted_at: dict[str, float] = {}
        """Name of a new queue -> when it can be trusted."""
        self._instead: dict[str, str] = {}
        """Name of a queue that confirms nothing -> the one that is used in its stead."""
        self._declaring = asyncio.Lock()

    def names(self) -> list[str]:
        """Of the queues that may hold something."""
        now = asyncio.get_running_loop().time()
        return [name for name, until in self._declared.items() if until > now]

    async def put(self, callback: Callback, delay: Delay) -> None:
        """Have the callback come back to the callback queue after the delay; returns when RabbitMQ has confirmed it."""
        loop = asyncio.get_running_loop()
        due = loop.time() + delay.seconds
        wanted = names.retry_queue(self._context.channel, delay.queue)
        while True:
            name = self._instead.get(wanted, wanted)
            begun = loop.time()
            try:
                await self._declare(name, delay.queue)
                begun = loop.time()
                return await self._context.broker.publish_many(
                    name,
                    (callback.to_wire(),),
                    expiration=max(0.0, due - begun),
                    timeout=CONFIRM_TIMEOUT,
                    apart=True,
                )
            except Unroutable:
                self._leases.pop(name, None)  # somebody deleted it, or RabbitMQ lost its data
                self._declared.pop(name, None)
            except BrokerUnavailable:
                if loop.time() >= begun + CONFIRM_TIMEOUT and self._context.broker.connected:
                    self._replace(wanted, name)
                await self._context.broker.wait_connected(None)
            await asyncio.sleep(PAUSE)

    def _replace(self, wanted: str, name: str) -> None:
        """If the queue lives after all, what is in it comes by when its time is over."""
        if self._instead.get(wanted, wanted) == name:
            self._instead[wanted] = names.another_queue(wanted)
            log.error("queue takes nothing: another is used", queue=name, instead=self._instead[wanted])

    async def _declare(self, name: str, seconds: float) -> None:
        """`seconds`: the longest that the queue holds anything."""
        loop = asyncio.get_running_loop()
        async with self._declaring:
            if self._leases.get(name, 0.0) <= loop.time():
                arguments = names.delay_arguments(self._context.channel, seconds)
                await self._context.broker.declare({name: arguments}, remember=False)
                if self._declared.get(name, 0.0) <= loop.time():
                    self._trusted_at[name] = loop.time() + SETTLING
                self._leases[name] = loop.time() + names.DELAY_LEASE
                self._keep_name(name, loop.time() + seconds + 60.0)
                self._context.own("delay queue note", self._note(name, seconds))
        if name in self._trusted_at:
            await asyncio.sleep(max(0.0, self._trusted_at[name] - loop.time()))
            self._trusted_at.pop(name, None)

    def _keep_name(self, name: str, until: float) -> None:
        self._declared.pop(name, None)
        self._declared[name] = until
        while len(self._declared) > MOST_NAMES:
            oldest = next(iter(self._declared))
            del self._declared[oldest]
            self._leases.pop(oldest, None)

    async def _note(self, name: str, seconds: float) -> None:
        try:
            await self._context.stores.delay_queues.note(self._context.channel, name, "", seconds + 120.0)
        except StoreUnavailable as error:  # the next declaration notes it again; what waits comes by in any case
            log.warning("a delay queue could not be noted", queue=name, reason=str(error))
