"""The MT way's last part: a channel's outbound queues -> Transport.send -> ack or nack event -> acknowledged (DESIGN §2).

The outcome of each `send` decides (DESIGN §3): accepted -> ack event; rejected -> nack event; not sent -> kept and
tried again in order, nothing taken while it lasts; unknown -> sent again, or nack where the channel's config says
`on_unknown: fail`. A message is acknowledged to RabbitMQ only after its event is confirmed there: a crash repeats, never
loses; what was accepted by then is not sent again, as far as journal.py knows. The most urgent message goes first, also
among those that are here already; one that has expired is not sent. hand_over.py sends one, outcomes.py publishes what
became of each.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any

import structlog

from junebug import names
from junebug.amqp.consumer import Consumer
from junebug.amqp.frames import Delivery
from junebug.errors import InvalidBody, MalformedMessage, NotSent, QueueBusy
from junebug.model.identity import identity_of
from junebug.model.messages import UserMessage
from junebug.runtime import families, fence
from junebug.transports.base import Transport
from junebug.worker.context import ChannelContext
from junebug.worker.outbound.cancellations import Cancellations
from junebug.worker.outbound.hand_over import HandOver
from junebug.worker.outbound.journal import Journal
from junebug.worker.outbound.outcomes import InHand, Outcomes
from junebug.worker.outbound.waiting import Waiting

log = structlog.stdlib.get_logger("sender")

PREFETCH = 50
"""Of each priority. Few, because they are in memory; enough to batch acknowledgements."""
PAUSED, CANCELLING, BROWSING, NOT_SENT = "paused", "cancelling", "browsing", "not sent"
"""Why nothing is taken."""
FINISHING, FINISHING_PAUSE = 5.0, 0.02
"""Seconds in which what is being sent must be finished before others may go through a quorum queue; between two looks."""
_HELD, _SENDING = ({each: family.field(str(each)) for each in names.PRIORITIES} for family in (families.HELD, families.SENDING))


class Sender:
    """Sends what the channel's outbound queues hold."""

    def __init__(
        self,
        context: ChannelContext,
        transport: Transport,
        journal: Journal,
        counts: Counter[str],
        check_channel_data: Callable[[dict[str, Any]], None],
    ) -> None:
        """`counts["outbound_message"]`: messages that are done with (for the rates). `check_channel_data` raises InvalidBody
        for what the transport need not see: the API looks, too, but not every message comes over the API.
        """
        spec = context.spec()
        self.cancellations = Cancellations(context.stores.cancellations, context.channel)
        self._context = context
        self._transport = transport
        self._counts = counts
        self._check_channel_data = check_channel_data
        self._waiting = Waiting()
        self.in_hand, self.held = self._waiting.in_order, self._waiting.by_priority
        """What is here and not begun: in the order in which it is going to be sent; and priority -> messages."""
        self._vacant: list[asyncio.Future[InHand]] = []
        """Of tasks that have nothing to send."""
        self._vacated = asyncio.Event()
        self._unbegun = 0
        """Messages that are given to such a task, which has not run since."""
        self._permitted = False
        self._arrived = asyncio.Event()
        self._journal = journal
        for message_id in journal.left():
            self.cancellations.begin(message_id)
        self._outcomes = Outcomes(context, journal, transport.acks, counts, self._on_published)
        transport.on_accepted = self._outcomes.noted
        self.report = self._outcomes.report
        """Publish a delivery report, in its place."""
        self._idle = asyncio.Event()
        self._idle.set()
        self._sending: Counter[int] = Counter()
        self._stopping = asyncio.Event()
        self._consumers: dict[str, Consumer] = {}
        self._holds: set[str] = {PAUSED} if spec.paused else set()
        self._halted = bool(spec.paused)
        self._halting = asyncio.Lock()
        resends_unknown = spec.config.get("on_unknown", "resend") != "fail"
        self._hand_over = HandOver(
            transport, self._outcomes, self._send_back, self._stopping, resends_unknown=resends_unknown
        )
        self._in_turn = context.broker.is_quorum
        """Whether there are (or were) quorum queues."""

    def consume(self, queues: Iterable[str], *, exclusive: bool) -> Consumer:
        """Take messages from these queues too. `exclusive`: nobody else may (a second owner of the channel)."""
        queues = tuple(queues)
        consumer = self._consumers[queues[0]] = self._context.broker.consume(
            queues, self._on_delivery, prefetch=max(PREFETCH, 2 * self._transport.window), exclusive=exclusive,
            halted=self._halted, on_lost=self._waiting.drop_lost, on_begun=self.cancellations.may_have_missed_some,
        )  # fmt: skip
        self._in_turn |= consumer.in_turn
        return consumer

    async def consume_also(self, queues: Sequence[str], beside: str) -> None:
        """Take messages from these, too: all that are taken from together with `beside`, in the order of their coming."""
        for consumer in self._consumers.values():
            if beside in consumer.queues:
                await consumer.extend(queues)

    async def release(self, queue: str) -> None:
        """Take no more from this queue (and those named with it)."""
        if consumer := self._consumers.pop(queue, None):
            self._take_back(consumer.queues)
            await consumer.cancel()

    async def run(self) -> None:
        """Send and publish until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._outcomes.publish_forever())
            tasks.create_task(self._choose_forever())
            for _ in range(self._transport.window):
                tasks.create_task(self._send_forever())

    async def stop(self, timeout: float) -> None:
        """Take no more, finish within `timeout` seconds what is being sent; the rest goes back to the queue."""
        self._stopping.set()
        for consumer in list(self._consumers.values()):
            await consumer.stop_deliveries()
        self._waiting.clear()
        self._transport.stop_sending()
        self._check_idle()
        try:
            async with asyncio.timeout(timeout):
                await self._idle.wait()
        except TimeoutError:
            log.warning("messages were still being sent at the stop and will be sent again")
        for queue in list(self._consumers):
            await self.release(queue)

    # --- holding ------------------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def holding(self, reason: str) -> AsyncIterator[None]:
        """Hold meanwhile. Raises QueueBusy."""
        try:
            await self.hold(reason)
            yield
        finally:
            await self.let_go(reason)

    async def hold(self, reason: str) -> None:
        """Send no more until each reason is let go; what waits goes back to its queue, what is being sent is finished.

        While BROWSING what is in hand already is sent: others may go through the rest without harm to its order. Of quorum
        queues all goes back while BROWSING or CANCELLING (QueueBusy: what is being sent takes too long), and nothing otherwise.
        """
        self._holds.add(reason)
        if self._in_turn and reason in (BROWSING, CANCELLING):
            await self._finish_sending()
        async with self._halting:
            self._halted = True
            for consumer in list(self._consumers.values()):
                if not consumer.in_turn or self._holds & {BROWSING, CANCELLING}:
                    await consumer.halt(functools.partial(self._take_back, consumer.queues) if self._gives_back else tuple)

    async def _finish_sending(self) -> None:
        ends = time.monotonic() + FINISHING
        while self._sending.total() or self._outcomes.unpublished:
            if time.monotonic() > ends:
                raise QueueBusy(f"Messages are still being sent after {FINISHING:g} s: try again")
            await asyncio.sleep(FINISHING_PAUSE)

    async def let_go(self, reason: str) -> None:
        self._holds.discard(reason)
        self._arrived.set()
        async with self._halting:
            if self._halted and not self._holds and not self._stopping.is_set():
                self._halted = False
                for consumer in list(self._consumers.values()):
                    await consumer.go_on()

    @property
    def _gives_back(self) -> bool:
        """What waits goes back to its queue, or is about to: nothing of it begins, lest it pass what has gone back before."""
        return bool(self._holds if self._in_turn else self._holds - {BROWSING})

    def _take_back(self, queues: Sequence[str]) -> list[Delivery]:
        """What came from these queues and is not begun: it waits here no more."""
        taken = self._waiting.take(queues)
        self._check_idle()
        return taken

    async def cancel(self, message_id: str) -> bool:
        """Do not send it when its turn comes; at once, if it is here already. False when it has been begun."""
        if not self.cancellations.add(message_id):
            return False
        for held in self._waiting.take_by_id(message_id):
            self._reject_cancelled(held)
        return True

    def sending(self) -> Counter[int]:
        """Priority -> messages that the transport has now."""
        return +self._sending

    def gauges(self) -> dict[str, float]:
        """For the metrics; asked at each turn of a resting channel's clock."""
        if not self._waiting and self._idle.is_set():
            return {}
        held, sending = self.held(), self.sending()
        return {
            **{_HELD[priority]: count for priority, count in held.items()},
            **{_SENDING[priority]: count for priority, count in sending.items()},
        }

    # --- sending ------------------------------------------------------------------------------------------------------

    def _on_delivery(self, delivery: Delivery) -> None:
        if not self._stopping.is_set():
            self._waiting.add(delivery)
            self._idle.clear()
            self._arrived.set()

    async def _choose_forever(self) -> None:
        """One task chooses for all: what comes together leaves together, in one write to the provider."""
        while True:
            if self._unbegun >= self._transport.burst:
                await asyncio.sleep(0)  # all of them have begun then
            while not self._vacant:
                self._vacated.clear()
                await self._vacated.wait()
            held = await self._next()
            self._sending[held.message.priority] += 1
            self._unbegun += 1
            self._vacant.pop().set_result(held)

    async def _send_forever(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._vacant.append(given := loop.create_future())
            self._vacated.set()
            held = await given
            self._unbegun -= 1
            self._context.may_begin(held.delivery)  # it may, or it would not be here
            if not self._transport.is_fenced:
                fence.check()
            self._outcomes.begin(held)
            try:
                await self._hand_over(held)
            finally:
                self._sending[held.message.priority] -= 1
                if held.task:
                    self._outcomes.release(held)
                self._check_idle()
            if held.pause:
                await self._hand_over.pause(held.pause)
                await self.let_go(NOT_SENT)

    async def _next(self) -> InHand:
        """The most urgent message that is to be sent, once it may leave."""
        while True:
            if not self._waiting or self._gives_back:
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
            if self.cancellations.is_stale:
                await self.cancellations.load()
                continue
            priority, place, delivery = self._waiting.pop()
            if not delivery.alive:
                continue
            if not self._context.may_begin(delivery, is_half=True):
                await self._context.set_aside(delivery)
                continue
            try:
                message = UserMessage.from_wire(delivery.body, priority)
            except MalformedMessage as error:
                await self._context.bury_unreadable(delivery, str(error))
                continue
            held = InHand(delivery, message, place, identity_of(message))
            held.before = self._journal.find(held.identity)
            if not held.before and not self._may_be_sent(held):
                continue
            self._permitted = False
            self.cancellations.begin(message.message_id)
            return held

    def _may_be_sent(self, held: InHand) -> bool:
        """False: it is finished."""
        message = held.message
        if message.has_expired():
            self._outcomes.expired(held)
        elif message.message_id in self.cancellations:
            self._reject_cancelled(held)
        else:
            try:
                self._check_channel_data(message.helper_metadata)
            except InvalidBody as error:
                self._outcomes.rejected(held, str(error))
            else:
                return True
        return False

    def _check_idle(self) -> None:
        if not (self._waiting or self._sending.total() or self._outcomes.unpublished):
            self._idle.set()

    def _on_published(self, n: int) -> None:
        self._counts["outbound_message"] += n
        self._check_idle()

    async def _send_back(self, held: InHand, pause: float) -> None:
        """To its queue (of a quorum queue: to its place here). The first of several says how long nothing is fetched."""
        is_first = NOT_SENT not in self._holds
        if not self._stopping.is_set():
            await self.hold(NOT_SENT)
        if names.is_quorum(held.delivery.queue):
            if held.delivery.alive and not self._stopping.is_set():
                self._waiting.put_back(held)
        else:
            held.delivery.requeue()
        self.cancellations.not_begun(held.message.message_id)
        if is_first:
            held.pause = pause

    def _reject_cancelled(self, held: InHand) -> None:
        held.on_reported = functools.partial(self.cancellations.done, held.message.message_id)
        self._outcomes.cancelled(held)
