"""The MT way's last part: a channel's outbound queues -> Transport.send -> ack or nack event -> acknowledged (DESIGN §2).

The outcome of each `send` decides (DESIGN §3): accepted -> ack event; rejected -> nack event; not sent -> kept and
tried again in order, nothing taken while it lasts; unknown -> sent again, or nack where the channel's config says
`on_unknown: fail`. A message is acknowledged to RabbitMQ only after its event is confirmed there: a crash repeats, never
loses. The most urgent message goes first, also among those that are here already; one that has expired is not sent.
"""

from __future__ import annotations

import asyncio
import functools
import heapq
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import structlog

from junebug import names
from junebug.amqp.broker import Broker
from junebug.amqp.consumer import Consumer
from junebug.amqp.frames import Delivery
from junebug.errors import Expired, MalformedMessage, NotSent, Rejected, UnknownOutcome
from junebug.model.callbacks import DeadLetter
from junebug.model.messages import Event, UserMessage, event_of, rejected
from junebug.transports.base import Transport

log = structlog.stdlib.get_logger("sender")

PREFETCH = 50
"""Of each priority. Few, because they are in memory; enough to batch acknowledgements."""
PAUSE_IN_PLACE = 1.0
"""Up to so many seconds a message that was not sent waits here; for longer all goes back to the queue."""
FAULTY_ATTEMPTS = 3
"""A message on which `send` fails with an unforeseen error so often is rejected: it must not block the channel."""

FAULTY_PAUSE = 0.5


class Sender:
    """Sends what the channel's outbound queues hold."""

    def __init__(
        self,
        broker: Broker,
        channel: str,
        transport: Transport,
        on_sent: Callable[[int], None],
        *,
        resend_unknown: bool = True,
        paused: bool = False,
    ) -> None:
        """`on_sent(n)` is told of every n messages that were settled (for the rates). `paused`: until `resume`."""
        self._broker = broker
        self._channel = channel
        self._transport = transport
        self._on_sent = on_sent
        self._resend_unknown = resend_unknown
        self._waiting: list[tuple[int, int, Delivery]] = []
        """A heap: the most urgent first, those of one priority in the order of their coming."""
        self._numbers = itertools.count()
        self._choosing = asyncio.Lock()
        self._permitted = False
        self._arrived = asyncio.Event()
        self._settled: list[tuple[Delivery, Event | None]] = []
        self._settled_event = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._sending: Counter[int] = Counter()
        self._stopping = False
        self._consumers: dict[str, Consumer] = {}
        self._holds: set[str] = {"pause"} if paused else set()
        self._halted = paused
        self._halting = asyncio.Lock()
        self._failures: dict[str, int] = {}

    def consume(self, queues: Iterable[str], *, exclusive: bool) -> None:
        """Take messages from these queues too. `exclusive`: nobody else may (a second owner of the channel)."""
        queues = tuple(queues)
        self._consumers[queues[0]] = self._broker.consume(
            queues,
            self._on_delivery,
            prefetch=max(PREFETCH, 2 * self._transport.window),
            exclusive=exclusive,
            halted=self._halted,
            on_lost=self._on_lost,
        )

    async def release(self, queue: str) -> None:
        """Take no more from this queue (and those named with it)."""
        consumer = self._consumers.pop(queue, None)
        if consumer:
            self._take_back(consumer.queues)
            await consumer.cancel()

    async def run(self) -> None:
        """Send and settle until cancelled."""
        window = self._transport.window
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._settle_forever())
            for _ in range(window):
                tasks.create_task(self._send_forever())

    async def stop(self, timeout: float) -> None:
        """Take no more, finish within `timeout` seconds what is being sent; the rest goes back to the queue."""
        self._stopping = True
        for consumer in self._consumers.values():
            await consumer.stop_deliveries()
        self._waiting.clear()
        self._check_idle()
        try:
            async with asyncio.timeout(timeout):
                await self._idle.wait()
        except TimeoutError:
            log.warning("messages were still being sent at the stop and will be sent again")
        for queue in list(self._consumers):
            await self.release(queue)

    # --- holding ------------------------------------------------------------------------------------------------------

    async def pause(self) -> None:
        """Send nothing more until `resume`; what waits goes back to its queue, what is being sent is finished."""
        await self._hold("pause")

    async def resume(self) -> None:
        await self._let_go("pause")

    @asynccontextmanager
    async def standing_still(self) -> AsyncIterator[None]:
        """Meanwhile all that waits is in the queues, where it can be looked at and cancelled."""
        await self._hold("visit")
        try:
            yield
        finally:
            await self._let_go("visit")

    async def _hold(self, reason: str) -> None:
        self._holds.add(reason)
        async with self._halting:
            if not self._halted:
                self._halted = True
                for consumer in list(self._consumers.values()):
                    await consumer.halt(functools.partial(self._take_back, consumer.queues))

    async def _let_go(self, reason: str) -> None:
        self._holds.discard(reason)
        async with self._halting:
            if self._halted and not self._holds and not self._stopping:
                self._halted = False
                for consumer in list(self._consumers.values()):
                    await consumer.go_on()

    def _take_back(self, queues: Iterable[str]) -> list[Delivery]:
        """What came from these queues and is not begun: it waits here no more."""
        taken = [delivery for _, _, delivery in self._waiting if delivery.queue in queues]
        self._waiting = [entry for entry in self._waiting if entry[2].queue not in queues]
        heapq.heapify(self._waiting)
        self._check_idle()
        return taken

    def held(self) -> Counter[int]:
        """Priority -> messages that are here and not begun."""
        return Counter(-urgency for urgency, _, _ in self._waiting)

    def sending(self) -> Counter[int]:
        """Priority -> messages that the transport has now."""
        return +self._sending

    # --- sending ------------------------------------------------------------------------------------------------------

    def _on_delivery(self, delivery: Delivery) -> None:
        if not self._stopping:
            urgency = -names.priority_of(delivery.queue, delivery.priority)
            heapq.heappush(self._waiting, (urgency, next(self._numbers), delivery))
            self._idle.clear()
            self._arrived.set()

    def _on_lost(self) -> None:
        """The link broke: what waits here will be delivered again."""
        self._waiting = [entry for entry in self._waiting if entry[2].alive]
        heapq.heapify(self._waiting)

    async def _send_forever(self) -> None:
        while True:
            delivery, message = await self._next()
            self._sending[message.priority] += 1
            try:
                await self._send(delivery, message)
            finally:
                self._sending[message.priority] -= 1
                self._check_idle()

    async def _next(self) -> tuple[Delivery, UserMessage]:
        """The most urgent message that is to be sent, once it may leave."""
        async with self._choosing:
            while True:
                if not self._waiting:
                    self._arrived.clear()
                    self._check_idle()
                    await self._arrived.wait()
                    continue
                if not self._permitted:
                    await self._transport.ready()
                    try:
                        await self._transport.context.permit(names.HIGHEST_PRIORITY)
                    except NotSent:  # the channel stops
                        self._waiting.clear()
                        continue
                    self._permitted = True  # for whichever is the most urgent now
                    continue
                urgency, _, delivery = heapq.heappop(self._waiting)
                if not delivery.alive:
                    continue
                try:
                    message = UserMessage.from_wire(delivery.body, priority=-urgency)
                except MalformedMessage as error:
                    await self._bury(delivery, error)
                    continue
                if message.has_expired(datetime.now(UTC)):
                    self._expire(delivery, message)
                    continue
                self._permitted = False
                return delivery, message

    def _check_idle(self) -> None:
        if not (self._waiting or self._sending.total() or self._settled):
            self._idle.set()

    async def _bury(self, delivery: Delivery, error: MalformedMessage) -> None:
        log.error("unreadable message on the outbound queue: moved to the dead letters", reason=str(error))
        letter = DeadLetter(reason="unreadable", error=str(error), queue=delivery.queue, body=delivery.body)
        await self._broker.publish_surely(names.dead_queue(self._channel), (letter.to_wire(),))
        delivery.ack()

    async def _send(self, delivery: Delivery, message: UserMessage) -> None:
        attempt = 0
        while delivery.alive:
            attempt += 1
            if attempt > 1 and message.has_expired(datetime.now(UTC)):
                return self._expire(delivery, message)
            try:
                if attempt > 1:
                    await self._transport.context.permit(message.priority)
                provider_id = await self._transport.send(message)
            except Rejected as error:
                return self._settle(delivery, message, nack_reason=error.reason)
            except Expired:
                return self._expire(delivery, message)
            except NotSent as error:
                if not await self._wait_to_resend(delivery, message, error):
                    return
            except UnknownOutcome as error:
                log.warning("outcome unknown", message_id=message.message_id, reason=str(error))
                if not self._resend_unknown:
                    return self._settle(delivery, message, nack_reason=f"Outcome unknown: {error}")
            except Exception:
                if await self._is_hopeless(message):
                    return self._settle(delivery, message, nack_reason="The channel failed on this message, see its log")
            else:
                return self._settle(delivery, message, provider_id=provider_id)

    async def _wait_to_resend(self, delivery: Delivery, message: UserMessage, error: NotSent) -> bool:
        """True when the message is to be tried again here, False when it went back to its queue."""
        log.warning("not sent, kept", message_id=message.message_id, reason=str(error), retry_after=error.retry_after)
        if error.retry_after <= PAUSE_IN_PLACE:
            await asyncio.sleep(error.retry_after)
            return not self._stopping
        is_first = "not sent" not in self._holds
        await self._hold("not sent")
        delivery.requeue()
        if is_first:
            await asyncio.sleep(error.retry_after)
            await self._let_go("not sent")
        return False

    async def _is_hopeless(self, message: UserMessage) -> bool:
        attempts = self._failures.get(message.message_id, 0) + 1
        log.exception("send failed", message_id=message.message_id, attempt=attempts)
        if attempts >= FAULTY_ATTEMPTS:
            self._failures.pop(message.message_id, None)
            return True
        if len(self._failures) > 1000:
            self._failures.clear()
        self._failures[message.message_id] = attempts
        await asyncio.sleep(FAULTY_PAUSE * attempts)
        return False

    def _settle(
        self,
        delivery: Delivery,
        message: UserMessage,
        *,
        provider_id: str | None = None,
        nack_reason: str | None = None,
    ) -> None:
        if nack_reason is not None:
            log.warning("message rejected", message_id=message.message_id, reason=nack_reason)
            return self._settle_with(delivery, rejected(message, self._channel, nack_reason))
        log.info("message sent", message_id=message.message_id, to_addr=message.to_addr)
        accepted = event_of(message, self._channel, "ack", sent_message_id=provider_id or message.message_id)
        self._settle_with(delivery, accepted if self._transport.acks else None)

    def _expire(self, delivery: Delivery, message: UserMessage) -> None:
        log.warning("message expired, not sent", message_id=message.message_id, expires_at=message.expires_at)
        reason = {"reason": "expired"}
        failed = event_of(message, self._channel, "delivery_report", delivery_status="failed", transport_metadata=reason)
        self._settle_with(delivery, failed)

    def _settle_with(self, delivery: Delivery, event: Event | None) -> None:
        self._settled.append((delivery, event))
        self._settled_event.set()

    async def _settle_forever(self) -> None:
        """Publish the events that gathered as one batch, then acknowledge their messages."""
        queue = names.event_queue(self._channel)
        while True:
            await self._settled_event.wait()
            self._settled_event.clear()
            batch = list(self._settled)
            events = [event.to_wire() for _, event in batch if event]
            if events:
                await self._broker.publish_surely(queue, events)
            for delivery, _ in batch:
                delivery.ack()
            del self._settled[: len(batch)]
            self._on_sent(len(batch))
            self._check_idle()
