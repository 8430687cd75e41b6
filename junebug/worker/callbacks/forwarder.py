"""The MO and Event ways' last part: a channel's inbound and event queues -> application, by HTTP and/or AMQP (DESIGN §2).

A message is acknowledged only after each destination has it, or has its callback waiting on RabbitMQ.
Neighbours: dispatcher.py brings callbacks to their destinations; what is tried again comes back here by the callback queue.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Container, Iterable, Sequence
from typing import Protocol, TypeVar

import structlog

from junebug import names
from junebug.amqp.frames import Delivery
from junebug.errors import ChannelNotFound, StoreUnavailable
from junebug.model import event_batch
from junebug.model.callbacks import Callback, Destination
from junebug.model.messages import Event, UserMessage, seconds_of
from junebug.runtime.backoff import Backoff
from junebug.runtime.families import MESSAGES
from junebug.worker.callbacks.attempts import Attempts
from junebug.worker.callbacks.dispatcher import Dispatcher
from junebug.worker.callbacks.source import PendingCallback, Read, Source, at_last, kind_of_source
from junebug.worker.callbacks.target import destination_of, event_callbacks
from junebug.worker.context import ChannelContext
from junebug.worker.take_over import TakeOver

log = structlog.stdlib.get_logger("forwarder")

PREFETCH = 300
"""Of each queue: enough to keep every destination busy, little enough to cost no memory."""
SPEC_PAUSE = 0.05
"""Seconds until a change of the spec that is not ours yet is looked for again."""
ANSWER_GRACE = 0.15
"""Seconds after a message's own timestamp in which its sender surely learns its id: an event is told no sooner."""
FIRST_STORE_PAUSE, LONGEST_STORE_PAUSE = 0.5, 2.0
"""Redis is ours and answers at once when it is back: everything waits for it, so nobody waits long."""

R = TypeVar("R")
_DELIVERED, _DROPPED = (MESSAGES.field("inbound", outcome) for outcome in ("delivered", "dropped"))
_OWN: Sequence[str] = ("",)
"""Where all messages of a channel go that has no router: to its own application."""


class Routing(Protocol):
    """Who gets a channel's messages and events, where a router decides."""

    channel: str
    """Whose; "": of none (any more)."""

    async def route(self, messages: Sequence[UserMessage]) -> list[Sequence[str] | None]:
        """Of each message the ids of its destinations; None: deciding it failed. Raises StoreUnavailable: it is asked again."""

    def on_event(self, destination: str, event: Event) -> None:
        """An event of a message that was sent through this destination; "": through none."""


class Forwarder:
    """Hands a channel's MO messages and events to its application."""

    def __init__(
        self, context: ChannelContext, attempts: Attempts, dispatcher: Dispatcher, counts: Counter[str], more: Iterable[str] = (),
        routing: Routing | None = None,
    ) -> None:  # fmt: skip
        """`counts`: rate label -> messages or events, each once. `more`: other queues that hold callbacks. `routing`: of a
        router, who gets them.
        """
        self._context = context
        self._attempts = attempts
        self._dispatcher = dispatcher
        self._counts = counts
        self._metrics = context.metrics.counts
        self._callback_queues = (names.of_kind(names.callback_queue(context.channel), context.prefers_quorum), *more)
        self._routing = routing
        self.channel = routing.channel if routing else context.channel
        """Whose queues it takes from; "": of none."""
        self._is_quorum = context.prefers_quorum
        self._inbound: Source | None = None
        self._events: Source | None = None
        self._was_routed = False
        self._sources: list[Source] = []

    def start(self, failing: Container[str] = ()) -> None:
        """`failing`: kinds of destinations that failed when the process before this one ended."""
        dispatcher, spec = self._dispatcher, self._context.spec()

        def source(queue: str, read: Read, **how: bool) -> Source:
            dispatch, on_lost = dispatcher.dispatch, dispatcher.drop_dead
            return kind_of_source(queue)(self._context, queue, read, dispatch, prefetch=PREFETCH, on_lost=on_lost, **how)

        self._sources = [source(queue, self._attempts.read_callbacks) for queue in self._callback_queues]
        if not self.channel:
            return
        self._was_routed = bool(spec.router)
        mo_url = spec.mo_url if "mo_url" in failing and not spec.amqp_queue else None
        inbound, event = (names.of_kind(name(self.channel), self._is_quorum) for name in (names.inbound_queue, names.event_queue))
        self._inbound = source(inbound, self._read_messages, halted=bool(mo_url), left=self._was_routed)
        if mo_url and not spec.router:
            dispatcher.find_home("mo_url", mo_url, self._inbound)
        self._events = source(event, self._read_events, left=self._was_routed)
        self._sources += [self._inbound, self._events]

    async def follow(self) -> None:
        """The channel's spec changed: what a router is for is left to it."""
        is_routed = bool(self._context.spec().router)
        if is_routed == self._was_routed:
            return
        self._was_routed = is_routed
        if is_routed:
            await asyncio.gather(*(source.leave() for source in self._incoming()))
        else:
            self._context.own("messages and events", self._come_back())

    def _incoming(self) -> list[Source]:
        return [*filter(None, (self._inbound, self._events))]

    async def _come_back(self) -> None:
        """The router may have had them in queues of the other kind."""
        broker, queues = self._context.broker, names.incoming_queues(self.channel, self._is_quorum)
        await broker.declare_surely(queues)
        await TakeOver(self._context, queues, is_quorum=self._is_quorum).run(is_likely=True)
        for source in () if self._was_routed else self._incoming():
            await source.come_back()

    @property
    def in_hand(self) -> int:
        """Messages that came and are not acknowledged."""
        return sum(source.in_hand for source in self._sources)

    @property
    def held(self) -> int:
        """Of these, what waits for a host that fails."""
        return sum(source.held for source in self._sources)

    async def stop(self, timeout: float) -> None:
        """Take no more; finish what is under way within `timeout` seconds, the rest goes back to its queue."""
        await asyncio.gather(*(source.stop_deliveries() for source in self._sources))
        await self._dispatcher.stop(timeout)
        await asyncio.gather(*(source.stop() for source in self._sources))

    # --- MO -----------------------------------------------------------------------------------------------------------

    async def _read_messages(self, deliveries: Sequence[Delivery]) -> list[PendingCallback]:
        read = await self._attempts.parse(deliveries, UserMessage.from_wire)
        inbound, channel = self._context.stores.inbound, self.channel
        stored = [(message.message_id, delivery.body) for delivery, message in read]
        await self._until_stored(lambda: inbound.put_all(channel, stored))
        if self._routing:
            routes = await self._until_stored(functools.partial(self._routing.route, [message for _, message in read]))
        else:
            routes = list[Sequence[str] | None]([_OWN]) * len(read)
            if not self._context.spec().has_destination and await self._is_routed():
                assert self._inbound
                for delivery, _ in read:
                    self._inbound.put_back(delivery)
                return []
        found = []
        for (delivery, message), destinations in zip(read, routes, strict=True):
            if destinations is None:
                await self._context.set_aside(delivery, "the router failed over it: see its log")
                continue
            to = [(each, kind) for each in destinations for kind in self._kinds(each)]
            if not to and not self._routing:
                log.warning("inbound message dropped: the channel has no destination", message_id=message.message_id)
            finish = self._finish("inbound_message", len(to), delivery.ack)
            home = self._inbound if len(to) == 1 and not self._routing else None
            for destination, kind in to:
                since = seconds_of(message.timestamp)
                callback = Callback(
                    to=kind, kind="inbound", id=message.message_id, wire=delivery.body, since=since, destination=destination,
                    trace=message.trace,
                )  # fmt: skip
                found.append(PendingCallback(callback, message, delivery, finish, home))
        return found

    def _kinds(self, destination: str) -> list[Destination]:
        """How its application is told of a message."""
        recipient = self._context.recipient(destination)
        if recipient is None:
            return []
        urls: list[tuple[Destination, str | None]] = [("mo_url", recipient.mo_url), ("amqp_queue", recipient.amqp_queue)]
        return [kind for kind, url in urls if url]

    async def _is_routed(self) -> bool:
        """Whether the channel, which had no destination when we last looked, has become a router's meanwhile: then this is the
        router's. If it has one of its own now, that is known when this returns.
        """
        while True:
            try:
                spec = await self._until_stored(lambda: self._context.stores.channels.get(self.channel))
            except ChannelNotFound:
                return False
            if spec.router or not spec.has_destination or self._context.spec().has_destination:
                break
            await asyncio.sleep(SPEC_PAUSE)  # the look at it is under way
        if spec.router:
            self._was_routed = True
            for source in self._incoming():
                self._context.own("halt", source.leave())
        return bool(spec.router)

    # --- events -------------------------------------------------------------------------------------------------------

    async def _read_events(self, deliveries: Sequence[Delivery]) -> list[PendingCallback]:
        read = await self._attempts.parse(deliveries, _events)
        events = [each for _, together in read for each in together]
        outbound, channel = self._context.stores.outbound, self.channel
        targets = iter(await self._until_stored(lambda: outbound.add_events(channel, events)))
        found = []
        told_at = ""
        for delivery, together in read:
            acknowledge = at_last(len(together), delivery.ack)
            for wire, event in together:
                target = next(targets)
                destination = destination_of(event, target) if self._routing else ""
                recipient = self._context.recipient(destination)
                callbacks = event_callbacks(event, wire, target, recipient.amqp_queue if recipient else None, destination)
                if self._routing:
                    self._routing.on_event(destination, event)
                finish = self._finish(event.api_type, len(callbacks), acknowledge)
                found += [PendingCallback(callback, event, delivery, finish) for callback in callbacks]
                if callbacks and event.message_timestamp:
                    told_at = max(told_at, event.message_timestamp)
        if told_at and (left := seconds_of(told_at) + ANSWER_GRACE - time.time()) > 0:
            await asyncio.sleep(min(left, ANSWER_GRACE))
        return found

    # --- both ---------------------------------------------------------------------------------------------------------

    def _finish(self, label: str, callbacks: int, acknowledge: Callable[[], None]) -> Callable[[], None]:
        """To be called at the end of each of its callbacks: with the last one it is counted, and acknowledged."""

        outcome = (_DELIVERED if callbacks else _DROPPED) if label == "inbound_message" else ""

        def finish() -> None:
            self._counts[label] += 1
            if outcome:
                self._metrics[outcome] += 1
            acknowledge()

        if not callbacks:
            finish()
        return at_last(callbacks, finish)

    async def _until_stored(self, call: Callable[[], Awaitable[R]]) -> R:
        """The store's answers, however long Redis is away."""
        backoff = Backoff(FIRST_STORE_PAUSE, LONGEST_STORE_PAUSE)
        while True:
            try:
                return await call()
            except StoreUnavailable as error:
                if not self._attempts.may_wait:
                    raise
                log.warning("waiting for Redis", reason=str(error))
                await backoff.pause()


def _events(body: bytes) -> list[tuple[bytes, Event]]:
    """Those in a message of the event queue, each as it stands there. Raises MalformedMessage."""
    return [(wire, Event.from_wire(wire)) for wire in event_batch.apart(body)]
