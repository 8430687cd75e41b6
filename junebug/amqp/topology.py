"""Queues and the exchange: declared, remembered and declared again, measured, deleted.

Neighbours: names.py names them and says their arguments; connection.py keeps the connection.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, TypeVar

import aiormq.exceptions
import structlog
from pamqp import commands as amqp
from pamqp.base import Frame

from junebug import names
from junebug.amqp.connection import FAILURES, Connection, Link, is_away
from junebug.amqp.frames import Channel
from junebug.errors import BrokerUnavailable

log = structlog.stdlib.get_logger(__name__)

PAUSE = 0.1
BEFORE_ANEW = 0.5
"""Seconds before a quorum queue that somebody deleted is made anew: if it is there again before RabbitMQ (3.10) has told its
consumers that it was gone, they count as the new one's, and what it gives them does not arrive.
"""

T = TypeVar("T")


class Seen(NamedTuple):
    """What RabbitMQ says of a queue: messages that wait in it, and how many consume it."""

    messages: int
    consumers: int


QueueArguments = Mapping[str, Mapping[str, Any]]
"""Queue name -> its AMQP arguments."""


class Topology:
    """What of it is to be there, and how it is made. Its methods raise BrokerUnavailable; others call them as Broker's."""

    def __init__(self) -> None:
        self.connection: Connection
        self._queues: dict[str, Mapping[str, Any]] = {}
        self._restored: frozenset[str] = frozenset()
        """Queues that were declared when the present link was opened."""
        self._bindings: set[str] = set()

    async def restore(self, link: Link) -> None:
        """The exchange and all that is remembered, on a new link (or when somebody deleted some). Raises FAILURES."""
        async with _errand(link) as channel:
            try:
                kind = names.EXCHANGE_TYPE
                await channel.ask(amqp.Exchange.Declare(exchange=names.EXCHANGE, exchange_type=kind, durable=True))
            except aiormq.exceptions.ChannelPreconditionFailed as error:
                log.error("exchange has other properties, used as it is", exchange=names.EXCHANGE, reason=str(error))
        queues = dict(self._queues)
        await _declare(link, queues, set(self._bindings))
        self._restored = frozenset(queues)

    async def declare(self, queues: QueueArguments, *, bind: bool = False, remember: bool = True, anew: bool = False) -> None:
        """Declare durable queues; with `bind`, bind each to the exchange `vumi` under its own name. `anew`: some were deleted.

        With `remember` they are declared again after each reconnection (a RabbitMQ that lost its data gets them back).
        """
        if remember:
            self._queues.update(queues)
            self._bindings.update(queues if bind else ())
        await self._make(queues, queues if bind else (), anew)

    async def declare_surely(self, queues: QueueArguments) -> None:
        """Likewise, however long RabbitMQ is away."""
        if not self.connection.connected:
            self._queues.update(queues)
            await self.connection.wait(None)
            if queues.keys() <= self._restored:
                return
        await self.surely(lambda: self.declare(queues))

    async def surely(self, call: Callable[[], Awaitable[T]]) -> T:
        """What the call returns, made again however long RabbitMQ is away."""
        while True:
            try:
                return await call()
            except BrokerUnavailable:
                await self.connection.wait(None)
                await asyncio.sleep(PAUSE)

    def remembers(self, queue: str) -> bool:
        return queue in self._queues

    async def declare_again(self, queues: Iterable[str]) -> None:
        """Those of them that are remembered: somebody deleted them."""
        known = {queue: self._queues[queue] for queue in queues if queue in self._queues}
        await self._make(known, self._bindings & known.keys(), anew=True)

    async def _make(self, queues: QueueArguments, bindings: Collection[str], anew: bool) -> None:
        if anew and any(map(names.is_quorum, queues)):
            await asyncio.sleep(BEFORE_ANEW)
        async with self._link() as link:
            await _declare(link, queues, bindings)

    async def restore_all(self) -> None:
        async with self._link() as link:
            await self.restore(link)

    def forget(self, queues: Iterable[str]) -> None:
        """Declare them no more at a reconnection."""
        for name in queues:
            self._queues.pop(name, None)
            self._bindings.discard(name)
        self._restored = self._restored.difference(queues)

    async def delete(self, queues: Sequence[str]) -> int:
        """Delete the queues with what is in them, which is so many messages; one that is not there is fine."""
        self.forget(queues)
        messages = 0
        async with self._link() as link, _errand(link) as channel:
            for name in queues:  # one after the other: some take RabbitMQ seconds (quorum queues)
                messages += (await channel.ask(amqp.Queue.Delete(queue=name))).message_count or 0
        return messages

    async def delete_idle(self, queue: str) -> bool:
        """Delete a queue that is empty and that nobody consumes; False when it is not."""
        return not await self.without_idle((queue,))

    async def without_idle(self, queues: Iterable[str]) -> list[str]:
        """Those of these classic queues that are still there, or may be: in which something waits, or that are consumed. The
        others are deleted: to say of each that there is none would cost RabbitMQ as much as to make one, and a line in its log.
        """
        async with self._link() as link:
            return await _without_idle(link, list(queues))

    async def exists(self, queue: str) -> bool:
        async with self._link() as link:
            try:
                async with _errand(link) as channel:
                    await channel.ask(amqp.Queue.Declare(queue=queue, passive=True))
            except aiormq.exceptions.ChannelNotFoundEntity as error:
                if is_away(error):
                    raise
                return False
        return True

    async def has_leader(self, queue: str) -> bool:
        """Whether this quorum queue, in which nothing waits, can be consumed. One that was made in the moment before RabbitMQ was
        killed is there ever after, and answers nothing (3.10, a single node).
        """
        async with self._link() as link, _errand(link) as channel:
            try:
                await channel.ask(amqp.Basic.Consume(queue=queue))
            except TimeoutError:
                return False
        return True

    async def missing(self, queue: str) -> bool:
        """Whether nobody has such a queue, as far as RabbitMQ can be asked: one on a node that is away is none of them."""
        try:
            return not await self.exists(queue)
        except BrokerUnavailable:
            return False

    async def length(self, queue: str) -> int:
        """Messages that wait in the queue; 0 when there is none of that name."""
        return (await self.lengths((queue,)))[queue]

    async def lengths(self, queues: Iterable[str]) -> dict[str, int]:
        """Messages that wait in each; 0 where there is none of that name."""
        asked = list(queues)
        found = await self.look(asked)
        return {queue: found[queue].messages if queue in found else 0 for queue in asked}

    async def look(self, queues: Iterable[str]) -> dict[str, Seen]:
        """Those of them that are there."""
        asked = list(queues)

        def is_missing(refusal: Exception) -> bool:
            return isinstance(refusal, aiormq.exceptions.ChannelNotFoundEntity) and not is_away(refusal)

        async with self._link() as link:
            told = await _ask_each(link, [amqp.Queue.Declare(queue=queue, passive=True) for queue in asked], is_missing)
        return {
            queue: Seen(declared.message_count or 0, declared.consumer_count or 0)
            for queue, declared in zip(asked, told, strict=True)
            if declared is not None
        }

    @asynccontextmanager
    async def _link(self) -> AsyncIterator[Link]:
        try:
            yield self.connection.link
        except FAILURES as error:
            raise self.connection.unavailable(error) from None


@asynccontextmanager
async def _errand(link: Link) -> AsyncIterator[Channel]:
    """A channel for one errand: RabbitMQ closes a channel at the first refusal, so none is kept."""
    channel = await Channel.open(link)
    try:
        yield channel
    finally:
        channel.close_soon()


async def _ask_each(link: Link, methods: Sequence[Frame], may_refuse: Callable[[Exception], bool]) -> list[Any]:
    """RabbitMQ's answers, at one go, and again behind each that it refuses, which is None. Raises a refusal that may not be."""
    answers: list[Any] = []
    while len(answers) < len(methods):
        async with _errand(link) as channel:
            answers += await channel.ask_all(methods[len(answers) :])
        if len(answers) < len(methods):
            if not may_refuse(channel.refusal):
                raise channel.refusal
            answers.append(None)
    return answers


async def _declare(link: Link, queues: QueueArguments, bindings: Collection[str]) -> None:
    """At one go, and again behind each one that is there with other arguments than ours."""
    left = deque(queues)
    as_it_is = ""
    while left:
        methods: list[amqp.Queue.Declare | amqp.Queue.Bind] = []
        for name in left:
            arguments = dict(queues[name]) or None
            methods.append(amqp.Queue.Declare(queue=name, durable=True, passive=name == as_it_is, arguments=arguments))
            if name in bindings:
                methods.append(amqp.Queue.Bind(queue=name, exchange=names.EXCHANGE, routing_key=name))
        async with _errand(link) as channel:
            answered = len(await channel.ask_all(methods))
        if answered < len(methods):
            if not isinstance(channel.refusal, aiormq.exceptions.ChannelPreconditionFailed):
                raise channel.refusal
            name = methods[answered].queue
            while left[0] != name:
                left.popleft()
            is_ours_alone = name not in bindings and "x-queue-type" not in queues[name]
            # RabbitMQ takes the condition "if it is empty" for a quorum queue as an offence and closes the connection
            if not (is_ours_alone and not await _without_idle(link, [name])):
                log.warning("queue has other arguments, used as it is", queue=name)
                as_it_is = name
        else:
            left.clear()


async def _without_idle(link: Link, queues: Sequence[str]) -> list[str]:
    methods = [amqp.Queue.Delete(queue=queue, if_unused=True, if_empty=True) for queue in queues]
    told = await _ask_each(link, methods, lambda _: True)
    return [queue for queue, deleted in zip(queues, told, strict=True) if deleted is None]
