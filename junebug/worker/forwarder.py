"""The MO and Event ways' last part: a channel's inbound and event queues -> application, by HTTP and/or AMQP (DESIGN §2).

A message is acknowledged only after everybody who is to have it has taken it. What fails is tried again in place, with
growing pauses, while others go on: the first attempts for one address keep their order, repeats do not hold it up.
What an application refuses for good (a 4xx, several times) goes to the channel's dead letters, never nowhere.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import structlog

from junebug import names
from junebug.broker import Broker, Delivery
from junebug.errors import BrokerUnavailable, MalformedMessage, StoreUnavailable, Unroutable
from junebug.messages import Event, UserMessage
from junebug.spec import ChannelSpec
from junebug.stores import Stores
from junebug.worker import retry
from junebug.worker.webhook import Outcome, Webhook

log = structlog.stdlib.get_logger("forwarder")

PREFETCH = 2000
"""Many: what waits here for a repeat must leave room for what can be delivered."""
ANSWER_GRACE = 2.0
"""Seconds that an event waits at the most until the application has had the answer with the message's id."""
ANSWER_POLL = 0.02
LONGEST_STORE_PAUSE = 2.0
"""Redis is ours and answers at once when it is back: everything waits for it, so nobody waits long."""

T = TypeVar("T")
Attempt = Callable[[], Awaitable[Outcome]]
SpecView = Callable[[], ChannelSpec]
"""The channel's spec as it is now: a changed mo_url holds from the next attempt on."""


class Forwarder:
    """Hands a channel's MO messages and events to its application."""

    def __init__(
        self,
        broker: Broker,
        stores: Stores,
        webhook: Webhook,
        spec: SpecView,
        count: Callable[[str], None],
        on_callback: Callable[[str, Outcome], None],
    ) -> None:
        """`count(rate label)` counts; `on_callback(what, outcome)` hears of each attempt (for the status)."""
        self._broker = broker
        self._stores = stores
        self._webhook = webhook
        self._spec = spec
        self._channel = spec().id
        self._count = count
        self._on_callback = on_callback
        self._tasks: dict[asyncio.Task[None], Delivery] = {}
        self._resting: set[asyncio.Task[Any]] = set()
        self._turns: dict[str, asyncio.Future[None]] = {}
        self._stopping = False

    def start(self) -> None:
        for queue, forward in (
            (names.inbound_queue(self._channel), self._forward_message),
            (names.event_queue(self._channel), self._forward_event),
        ):
            self._broker.consume(
                queue,
                functools.partial(self._take, forward),
                prefetch=PREFETCH,
                on_lost=self._on_lost,
            )

    async def stop(self, timeout: float) -> None:
        """Finish what is under way within `timeout` seconds; what waits for a repeat goes back to its queue."""
        self._stopping = True
        for task in self._resting:
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=timeout)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _take(self, forward: Callable[[Delivery], Coroutine[Any, Any, None]], delivery: Delivery) -> None:
        if self._stopping:
            return
        task = asyncio.create_task(self._guard(delivery, forward))
        self._tasks[task] = delivery
        task.add_done_callback(lambda done: self._tasks.pop(done, None))

    def _on_lost(self) -> None:
        """The link broke: what is in hand will be delivered again, so nobody goes on with it here."""
        for task, delivery in self._tasks.items():
            if not delivery.alive:
                task.cancel()

    async def _guard(self, delivery: Delivery, forward: Callable[[Delivery], Coroutine[Any, Any, None]]) -> None:
        try:
            await forward(delivery)
        except MalformedMessage as error:
            log.error("unreadable message: moved to the dead letters", reason=str(error))
            await self._bury(delivery)
        except Exception:
            log.exception("forwarding failed: moved to the dead letters")
            await self._bury(delivery)
        else:
            delivery.ack()

    async def _bury(self, delivery: Delivery) -> None:
        await self._broker.publish_surely(names.dead_queue(self._channel), (delivery.body,))
        delivery.ack()

    # --- MO -----------------------------------------------------------------------------------------------------------

    async def _forward_message(self, delivery: Delivery) -> None:
        message = UserMessage.from_wire(delivery.body)
        turn = self._take_turn(f"from {message.from_addr}")
        try:
            await self._until_stored(lambda: self._stores.inbound.put(self._channel, message, delivery.body))
            await turn.wait()
            taken = await self._to_all(delivery, turn, message.message_id, {
                "mo_url": self._message_to_url(message) if self._spec().mo_url else None,
                "amqp_queue": self._to_queue(names.inbound_queue, delivery.body) if self._spec().amqp_queue else None,
            })  # fmt: skip
        finally:
            turn.done()
        if not taken:
            log.warning("inbound message dropped: the channel has no destination", message_id=message.message_id)
        self._count("inbound_message")

    def _message_to_url(self, message: UserMessage) -> Attempt:
        async def attempt() -> Outcome:
            spec = self._spec()
            if not spec.mo_url:
                return Outcome(True)  # it was turned off meanwhile
            return await self._webhook.post(spec.mo_url, message.body(self._channel), spec.mo_url_auth_token)

        return attempt

    # --- events -------------------------------------------------------------------------------------------------------

    async def _forward_event(self, delivery: Delivery) -> None:
        event = Event.from_wire(delivery.body)
        turn = self._take_turn(f"event of {event.user_message_id}")
        try:
            to_url = None
            if event.user_message_id:
                to_url = await self._event_to_url(event)
            await turn.wait()
            await self._to_all(delivery, turn, event.user_message_id, {
                "event_url": to_url,
                "amqp_queue": self._to_queue(names.event_queue, delivery.body) if self._spec().amqp_queue else None,
            })  # fmt: skip
        finally:
            turn.done()
        self._count(event.api_type)

    async def _event_to_url(self, event: Event) -> Attempt | None:
        """None when nobody asked for this message's events (any more)."""
        outbound = self._stores.outbound
        target = await self._until_stored(lambda: outbound.add_event(self._channel, event))
        deadline = asyncio.get_running_loop().time() + ANSWER_GRACE
        while target.url and not target.answered and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(ANSWER_POLL)
            target = await self._until_stored(lambda: outbound.event_target(self._channel, event.user_message_id))
        if target.url is None:
            return None
        url, token, body = target.url, target.auth_token, event.body(self._channel)
        return lambda: self._webhook.post(url, body, token)

    # --- both ---------------------------------------------------------------------------------------------------------

    def _to_queue(self, queue: Callable[[str], str], body: bytes) -> Attempt:
        async def attempt() -> Outcome:
            amqp_queue = self._spec().amqp_queue
            if not amqp_queue:
                return Outcome(True)  # it was turned off meanwhile
            try:
                await self._broker.publish(queue(amqp_queue), body, exchange=names.EXCHANGE)
            except (Unroutable, BrokerUnavailable) as error:
                return Outcome(False, None, str(error))
            return Outcome(True)

        return attempt

    async def _to_all(self, delivery: Delivery, turn: Turn, message_id: str, attempts: dict[str, Attempt | None]) -> int:
        """Give it to each destination until each has taken it; how many there are."""
        wanted = {what: attempt for what, attempt in attempts.items() if attempt is not None}
        firsts = await asyncio.gather(*(self._try(what, attempt, message_id) for what, attempt in wanted.items()))
        turn.done()  # a repeat must not hold up what comes after it
        await asyncio.gather(
            *(
                self._repeat(delivery, what, attempt, message_id, first)
                for (what, attempt), first in zip(wanted.items(), firsts, strict=True)
                if not first.ok
            )
        )
        return len(wanted)

    async def _try(self, what: str, attempt: Attempt, message_id: str) -> Outcome:
        outcome = await attempt()
        if outcome.ok:
            log.info("forwarded", to=what, message_id=message_id)
        else:
            log.warning("forwarding failed", to=what, message_id=message_id, reason=outcome.reason)
        self._on_callback(what, outcome)
        return outcome

    async def _repeat(
        self, delivery: Delivery, what: str, attempt: Attempt, message_id: str, outcome: Outcome
    ) -> None:
        attempts = 1
        while not outcome.ok:
            if retry.is_refused_for_good(outcome.status, attempts):
                log.error("refused for good: moved to the dead letters", to=what, message_id=message_id)
                await self._broker.publish_surely(names.dead_queue(self._channel), (delivery.body,))
                return
            await self._rest(retry.pause(attempts, outcome.retry_after))
            outcome = await self._try(what, attempt, message_id)
            attempts += 1

    async def _until_stored(self, call: Callable[[], Awaitable[T]]) -> T:
        """The store's answer, however long Redis is away."""
        attempts = 0
        while True:
            try:
                return await call()
            except StoreUnavailable as error:
                attempts += 1
                log.warning("waiting for Redis", reason=str(error))
                await self._rest(min(retry.pause(attempts), LONGEST_STORE_PAUSE))

    async def _rest(self, seconds: float) -> None:
        """Wait; a worker that stops does not wait for us."""
        task = asyncio.current_task()
        assert task is not None
        if self._stopping:
            raise asyncio.CancelledError
        self._resting.add(task)
        try:
            await asyncio.sleep(seconds)
        finally:
            self._resting.discard(task)

    def _take_turn(self, key: str) -> Turn:
        return Turn(self._turns, key)


class Turn:
    """A place in the order of one address: `wait` until those before have had their first attempt, then be `done`."""

    def __init__(self, turns: dict[str, asyncio.Future[None]], key: str) -> None:
        self._turns = turns
        self._key = key
        self._before = turns.get(key)
        self._mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        turns[key] = self._mine

    async def wait(self) -> None:
        if self._before is not None and not self._before.done():
            await asyncio.wait([self._before])

    def done(self) -> None:
        if not self._mine.done():
            self._mine.set_result(None)
        if self._turns.get(self._key) is self._mine:
            del self._turns[self._key]
