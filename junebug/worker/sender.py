"""The MT way's last part: a channel's outbound queue -> Transport.send -> ack or nack event -> acknowledged (DESIGN §2).

The outcome of each `send` decides (DESIGN §3): accepted -> ack event; rejected -> nack event; not sent -> kept and
tried again in order, the consumer paused while it lasts; unknown -> sent again, or nack where the channel's config says
`on_unknown: fail`. A message is acknowledged to RabbitMQ only after its event is confirmed there: a crash repeats, never
loses.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import structlog

from junebug import names
from junebug.broker import Broker, Consumer, Delivery
from junebug.errors import MalformedMessage, NotSent, Rejected, UnknownOutcome
from junebug.messages import Event, UserMessage
from junebug.worker import retry
from junebug.worker.transport import Transport

log = structlog.stdlib.get_logger("sender")

PREFETCH = 50
"""Few, so that priorities and the queue's length stay true; enough to batch acknowledgements."""
PAUSE_IN_PLACE = 1.0
"""Up to so many seconds a message that was not sent waits here; for longer all goes back to the queue."""
HOLD_PATIENCE = 60.0
FAULTY_ATTEMPTS = 3
"""A message on which `send` fails with an unforeseen error so often is rejected: it must not block the channel."""


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
    ) -> None:
        """`on_sent(n)` is told of every n messages that were settled (for the rates)."""
        self._broker = broker
        self._channel = channel
        self._transport = transport
        self._on_sent = on_sent
        self._resend_unknown = resend_unknown
        self._waiting: deque[Delivery] = deque()
        self._arrived = asyncio.Event()
        self._settled: list[tuple[Delivery, Event | None]] = []
        self._settled_event = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._holding = False
        self._progress = asyncio.Event()
        """Set whenever a send ends and whenever messages are settled."""
        self._sending = 0
        self._stopping = False
        self._consumers: dict[str, Consumer] = {}
        self._failures: dict[str, int] = {}

    def consume(self, queue: str, *, exclusive: bool) -> None:
        """Take messages from this queue too. `exclusive`: nobody else may (a second owner of the channel)."""
        self._consumers[queue] = self._broker.consume(
            queue,
            self._on_delivery,
            prefetch=max(PREFETCH, 2 * self._transport.window),
            exclusive=exclusive,
            on_lost=self._on_lost,
        )

    async def release(self, queue: str) -> None:
        """Take no more from this queue."""
        consumer = self._consumers.pop(queue, None)
        if consumer:
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
        try:
            async with asyncio.timeout(timeout):
                await self._idle.wait()
        except TimeoutError:
            log.warning("messages were still being sent at the stop and will be sent again")
        for queue in list(self._consumers):
            await self.release(queue)

    def _on_delivery(self, delivery: Delivery) -> None:
        if not (self._stopping or self._holding):
            self._waiting.append(delivery)
            self._idle.clear()
            self._arrived.set()

    def _on_lost(self) -> None:
        """The link broke: what waits here will be delivered again."""
        self._waiting = deque(delivery for delivery in self._waiting if delivery.alive)

    async def _send_forever(self) -> None:
        while True:
            if not self._waiting:
                self._arrived.clear()
                self._check_idle()
                await self._arrived.wait()
                continue
            delivery = self._waiting.popleft()
            if not delivery.alive:
                continue
            self._sending += 1
            try:
                await self._send(delivery)
            finally:
                self._sending -= 1
                self._progress.set()

    def _check_idle(self) -> None:
        if not (self._waiting or self._sending or self._settled):
            self._idle.set()

    async def _send(self, delivery: Delivery) -> None:
        try:
            message = UserMessage.from_wire(delivery.body)
        except MalformedMessage as error:
            log.error("unreadable message on the outbound queue: moved to the dead letters", reason=str(error))
            await self._broker.publish_surely(names.dead_queue(self._channel), (delivery.body,))
            delivery.ack()
            return
        while delivery.alive:
            try:
                if not self._transport.paces_itself:
                    await self._transport.context.permit()
                provider_id = await self._transport.send(message)
            except Rejected as error:
                return self._settle(delivery, message, nack_reason=error.reason)
            except NotSent as error:
                if not await self._wait_to_resend(message, error):
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

    async def _wait_to_resend(self, message: UserMessage, error: NotSent) -> bool:
        """True when the message is to be tried again here, False when it went back to its queue."""
        log.warning("not sent, kept", message_id=message.message_id, reason=str(error), retry_after=error.retry_after)
        if error.retry_after <= PAUSE_IN_PLACE:
            await asyncio.sleep(error.retry_after)
            return not self._stopping
        if not self._holding:
            await self._hold(error.retry_after)
        return False

    async def _hold(self, seconds: float) -> None:
        """Give what waits back to the queues, in its order, for so long; what is being sent is finished before that."""
        self._holding = True
        self._waiting.clear()
        try:
            async with asyncio.timeout(HOLD_PATIENCE):
                while self._sending > 1 or self._settled:
                    self._progress.clear()
                    await self._progress.wait()
        except TimeoutError:
            log.warning("messages that are still being sent will be sent again")
        for consumer in self._consumers.values():
            await consumer.pause()
        self._holding = False
        await asyncio.sleep(seconds)
        if not self._stopping:
            for consumer in self._consumers.values():
                consumer.resume()

    async def _is_hopeless(self, message: UserMessage) -> bool:
        attempts = self._failures.get(message.message_id, 0) + 1
        log.exception("send failed", message_id=message.message_id, attempt=attempts)
        if attempts >= FAULTY_ATTEMPTS:
            self._failures.pop(message.message_id, None)
            return True
        if len(self._failures) > 1000:
            self._failures.clear()
        self._failures[message.message_id] = attempts
        await asyncio.sleep(retry.pause(attempts))
        return False

    def _settle(
        self,
        delivery: Delivery,
        message: UserMessage,
        *,
        provider_id: str | None = None,
        nack_reason: str | None = None,
    ) -> None:
        event: Event | None
        if nack_reason is None:
            log.info("message sent", message_id=message.message_id, to_addr=message.to_addr)
            event = None
            if self._transport.acks:
                event = Event(
                    event_type="ack",
                    user_message_id=message.message_id,
                    sent_message_id=provider_id or message.message_id,
                    transport_name=self._channel,
                )
        else:
            log.warning("message rejected", message_id=message.message_id, reason=nack_reason)
            event = Event(
                event_type="nack",
                user_message_id=message.message_id,
                nack_reason=nack_reason,
                transport_name=self._channel,
            )
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
            self._progress.set()
            self._on_sent(len(batch))
            self._check_idle()
