"""The MO and Event ways' last part: a channel's inbound and event queues -> application, by HTTP and/or AMQP (DESIGN §2).

A message is acknowledged only after each destination has it, or has its callback waiting on RabbitMQ for a repeat.
Neighbours: destinations.py gets callbacks done; what is to be repeated comes back here through the callback queue.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import structlog

from junebug import names
from junebug.amqp.broker import Broker
from junebug.amqp.consumer import Consumer
from junebug.amqp.frames import Delivery
from junebug.errors import MalformedMessage, StoreUnavailable
from junebug.model.callbacks import Callback, Destination
from junebug.model.messages import Event, UserMessage
from junebug.stores import Stores
from junebug.stores.outbound import EventTarget
from junebug.worker.callbacks import retry_policy
from junebug.worker.callbacks.dispatcher import Destinations, SpecView
from junebug.worker.callbacks.pending_callback import Job
from junebug.worker.callbacks.target import event_callbacks

log = structlog.stdlib.get_logger("forwarder")

PREFETCH = 300
"""Of each queue: enough to keep every destination busy, little enough to cost no memory."""
ANSWER_GRACE = timedelta(milliseconds=150)
"""For so long an event is held: the application is to have had the answer with the message's id by then."""
LONGEST_STORE_PAUSE = 2.0
"""Redis is ours and answers at once when it is back: everything waits for it, so nobody waits long."""

T = TypeVar("T")


class Forwarder:
    """Hands a channel's MO messages and events to its application."""

    def __init__(
        self, broker: Broker, stores: Stores, destinations: Destinations, spec: SpecView, count: Callable[[str], None]
    ) -> None:
        """`count(rate label)` counts a message or an event, once."""
        self._broker = broker
        self._stores = stores
        self._destinations = destinations
        self._spec = spec
        self._channel = spec().id
        self._count = count
        self._tasks: dict[asyncio.Task[None], Delivery] = {}
        self._turns: dict[str, asyncio.Future[None]] = {}
        self._consumer: Consumer | None = None

    def start(self) -> None:
        handlers: dict[str, Callable[[Delivery], None]] = {
            names.inbound_queue(self._channel): lambda delivery: self._begin(delivery, self._forward_message),
            names.event_queue(self._channel): lambda delivery: self._begin(delivery, self._forward_event),
            names.callback_queue(self._channel): self._destinations.repeat,
        }
        self._consumer = self._broker.consume(
            tuple(handlers),
            lambda delivery: handlers[delivery.queue](delivery),
            prefetch=PREFETCH,
            on_lost=self._on_lost,
        )

    async def stop(self, timeout: float) -> None:
        """Take no more; finish what is under way within `timeout` seconds, the rest goes back to its queue."""
        if self._consumer:
            await self._consumer.stop_deliveries()
        await self._destinations.stop(timeout)
        await asyncio.sleep(0)  # those who waited for what is done acknowledge it
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _on_lost(self) -> None:
        """The link broke: what is in hand will be delivered again, so nobody goes on with it here."""
        self._destinations.drop_dead()
        for task, delivery in self._tasks.items():
            if not delivery.alive:
                task.cancel()

    def _begin(self, delivery: Delivery, forward: Callable[[Delivery], Awaitable[None]]) -> None:
        task = asyncio.create_task(self._guard(delivery, forward))
        self._tasks[task] = delivery
        task.add_done_callback(lambda done: self._tasks.pop(done, None))

    async def _guard(self, delivery: Delivery, forward: Callable[[Delivery], Awaitable[None]]) -> None:
        try:
            await forward(delivery)
        except MalformedMessage as error:
            self._destinations.bury_unreadable(delivery, str(error))
        except Exception as error:
            log.exception("forwarding failed: moved to the dead letters")
            self._destinations.bury_unreadable(delivery, f"{type(error).__name__}: see the channel's log")
        else:
            delivery.ack()

    # --- MO -----------------------------------------------------------------------------------------------------------

    async def _forward_message(self, delivery: Delivery) -> None:
        message = UserMessage.from_wire(delivery.body)
        with Turn(self._turns, f"from {message.from_addr}") as turn:
            await self._until_stored(lambda: self._stores.inbound.put(self._channel, message, delivery.body))
            await turn.come()
            to: list[Destination] = []
            if self._spec().mo_url:
                to.append("mo_url")
            if self._spec().amqp_queue:
                to.append("amqp_queue")
            callbacks = [Callback(to=each, kind="inbound", id=message.message_id, wire=delivery.body) for each in to]
            jobs = [self._destinations.deliver(callback, message, delivery) for callback in callbacks]
        if not jobs:
            log.warning("inbound message dropped: the channel has no destination", message_id=message.message_id)
        await self._finish(jobs)
        self._count("inbound_message")

    # --- events -------------------------------------------------------------------------------------------------------

    async def _forward_event(self, delivery: Delivery) -> None:
        event = Event.from_wire(delivery.body)
        with Turn(self._turns, f"event of {event.user_message_id}") as turn:
            target = await self._event_target(event)
            await turn.come()
            callbacks = [
                callback
                for callback in event_callbacks(event, delivery.body, target)
                if callback.to == "event_url" or self._spec().amqp_queue
            ]
            jobs = [self._destinations.deliver(callback, event, delivery) for callback in callbacks]
        await self._finish(jobs)
        self._count(event.api_type)

    async def _event_target(self, event: Event) -> EventTarget | None:
        """Where the message's events go, once the application knows its id; None when no message is named."""
        if not event.user_message_id:
            return None
        target = await self._until_stored(lambda: self._stores.outbound.add_event(self._channel, event))
        if target.url or event.event_url:
            happened = datetime.fromisoformat(event.timestamp).replace(tzinfo=UTC)
            held = happened + ANSWER_GRACE - datetime.now(UTC)
            await asyncio.sleep(min(held, ANSWER_GRACE).total_seconds())
        return target

    # --- both ---------------------------------------------------------------------------------------------------------

    async def _finish(self, jobs: list[Job]) -> None:
        for job in jobs:
            await job.done

    async def _until_stored(self, call: Callable[[], Awaitable[T]]) -> T:
        """The store's answer, however long Redis is away."""
        attempts = 0
        while True:
            try:
                return await call()
            except StoreUnavailable as error:
                attempts += 1
                log.warning("waiting for Redis", reason=str(error))
                await asyncio.sleep(min(retry_policy.pause(attempts), LONGEST_STORE_PAUSE))


class Turn:
    """A place in the order of one address: `come` is when those before have been handed on; left at the end."""

    def __init__(self, turns: dict[str, asyncio.Future[None]], key: str) -> None:
        self._turns = turns
        self._key = key
        self._before = turns.get(key)
        self._mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        turns[key] = self._mine

    def __enter__(self) -> Turn:
        return self

    async def come(self) -> None:
        if self._before is not None and not self._before.done():
            await asyncio.wait([self._before])

    def __exit__(self, *_: object) -> None:
        self._mine.set_result(None)
        if self._turns.get(self._key) is self._mine:
            del self._turns[self._key]
