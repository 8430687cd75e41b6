"""Outcomes: what became of each message, published to the channel's event queue: `submitted` before any report, always.

The sender tells of each message that it begins, and how it ended; the transport's reports come through here, too. A
message is acknowledged to RabbitMQ when its events are confirmed there. Those that nobody wants to be told of, as the message
has no event_url and the channel no amqp_queue and no router, are only kept in Redis, for who asks the API.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import structlog
from msgspec.structs import replace

from junebug import names
from junebug.amqp.frames import Delivery
from junebug.errors import StoreUnavailable
from junebug.model import event_batch, messages
from junebug.model.identity import Identity
from junebug.model.messages import DELIVERY_STATUSES, Event, UserMessage, event_of, timestamp_now
from junebug.runtime.families import MESSAGES, REPORTS
from junebug.transports.base import Accepted
from junebug.worker.context import ChannelContext
from junebug.worker.outbound.journal import Journal, Noted

log = structlog.stdlib.get_logger("sender")

MOST_REMEMBERED = 10_000
STORE_PAUSE = 5.0
"""Seconds in which Redis, when it did not answer, is not waited for again."""

_SUBMITTED, _REJECTED, _EXPIRED, _CANCELLED = (
    MESSAGES.field("outbound", outcome) for outcome in ("submitted", "rejected", "expired", "cancelled")
)
_REPORTED = {status: REPORTS.field(status) for status in DELIVERY_STATUSES}


@dataclass(eq=False, slots=True)
class InHand:
    """A message from its `send` on until RabbitMQ holds its ack."""

    delivery: Delivery
    message: UserMessage
    place: int
    """Its number among what came."""
    identity: Identity = ("", 0)
    before: Noted | None = None
    """It was accepted already, and is not sent again."""
    position: int | None = None
    """Of its note in the journal."""
    task: asyncio.Task[Any] | None = None
    """In which `send` runs, as long as it does: what is reported from within cannot wait for its end."""
    events: list[Event] = field(default_factory=list)
    on_reported: Callable[[], Awaitable[None]] | None = None
    pause: float = 0.0
    """Seconds, once it went back to its queue, before anything is fetched again."""
    released: asyncio.Event | None = None
    """There once a report waits for that."""
    is_told: bool = False
    """RabbitMQ holds its ack."""


class Outcomes:
    def __init__(
        self, context: ChannelContext, journal: Journal, acks: bool, counts: Counter[str], on_published: Callable[[int], None]
    ) -> None:
        """`acks`: whether the application hears of what was accepted. `counts`: label -> events, for the rates; the
        forwarder counts those that it gets. `on_published(n)`: n messages are done with.
        """
        self._publish = context.publish
        self._journal = journal
        self._channel = context.channel
        self._spec = context.spec
        self._is_shared = context.shards > 1
        self._store = context.stores.outbound
        self._counts = counts
        self._metrics = context.metrics.counts
        self._acks = acks
        self._log = log.bind()  # once: each message is logged
        self._on_published = on_published
        self._in_hand: dict[str, InHand] = {}
        """By message id. Of two with one id (one was delivered again) the first counts."""
        self._finished: list[InHand] = []
        self._reports: list[tuple[Event, asyncio.Future[None]]] = []
        """Events that are to be published, and who waits for that."""
        self._news = asyncio.Event()
        self._without_url: OrderedDict[str, None] = OrderedDict()
        """The last messages that have no event_url."""
        self._store_again_at = 0.0
        """When Redis is asked next, by the loop's clock, after it was away."""

    @property
    def unpublished(self) -> int:
        """Messages that ended and are not acknowledged."""
        return len(self._finished)

    def begin(self, held: InHand) -> None:
        """Its `send` begins, in this task."""
        held.task = asyncio.current_task()
        self._in_hand.setdefault(held.message.message_id, held)
        self._journal.begin(held.message.message_id)

    def release(self, held: InHand) -> None:
        """It is in hand no more: its ack is out, or it went back to its queue."""
        if self._in_hand.get(held.message.message_id) is held:
            del self._in_hand[held.message.message_id]
        if held.released:
            held.released.set()

    def noted(self, message: UserMessage, provider_id: str | None) -> None:
        """It was accepted, though its `send` has not ended."""
        held = self._in_hand.get(message.message_id)
        if held and held.message is message:
            held.position = self._journal.note(held.identity, provider_id)

    def accepted(self, held: InHand, accepted: Accepted) -> None:
        message = held.message
        if held.position is None:
            held.position = self._journal.note(held.identity, accepted.provider_id)
        self._log.info("message sent", message_id=message.message_id, to_addr=message.to_addr, from_addr=message.from_addr)
        self._metrics[_SUBMITTED] += 1
        sent_message_id = accepted.provider_id or message.message_id
        ack = event_of(message, self._channel, "ack", sent_message_id=sent_message_id)
        reports = [self._reported(message, report.status, report.details) for report in accepted.reports]
        for report in accepted.reports:
            self._log.info("delivery report", message_id=message.message_id, delivery_status=report.status)
            self._count_report(report.status)
        held.on_reported = accepted.on_reported
        self._finish(held, *([ack] if self._acks else ()), *reports)

    def cancelled(self, held: InHand) -> None:
        message = held.message
        log.warning("message cancelled, not sent", **_about(message))
        self._metrics[_CANCELLED] += 1
        self._finish(held, messages.cancelled(message, self._channel))

    def rejected(self, held: InHand, reason: str) -> None:
        message = held.message
        log.warning("message rejected", **_about(message), reason=reason)
        self._metrics[_REJECTED] += 1
        self._finish(held, messages.rejected(message, self._channel, reason))

    def expired(self, held: InHand) -> None:
        message = held.message
        log.warning("message expired, not sent", **_about(message), expires_at=message.expires_at)
        self._metrics[_EXPIRED] += 1
        self._finish(held, messages.expired(message, self._channel))

    def _reported(self, message: UserMessage, status: str, details: dict[str, Any]) -> Event:
        return event_of(message, self._channel, "delivery_report", delivery_status=status, transport_metadata=details)

    def _finish(self, held: InHand, *events: Event) -> None:
        """What was reported from within its `send` comes behind these, and later."""
        held.task = None
        held.events[:] = *events, *(replace(event, timestamp=timestamp_now()) for event in held.events)
        self._finished.append(held)
        if not held.message.event_url:
            self._without_url[held.message.message_id] = None
            if len(self._without_url) > MOST_REMEMBERED:
                self._without_url.popitem(last=False)
        self._news.set()

    async def report(self, event: Event) -> None:
        """Publish a delivery report, of a message that is in hand behind its ack. Returns once RabbitMQ holds it."""
        self._count_report(event.delivery_status)
        await self._journal.begun(event.user_message_id)
        held = self._in_hand.get(event.user_message_id)
        if held and held.task and held.task is asyncio.current_task():
            return held.events.append(event)
        if held and not (held.is_told or _is_confirmed.get()):
            held.released = held.released or asyncio.Event()
            await held.released.wait()
            event = replace(event, timestamp=timestamp_now())
        # where that channel sent what this tells of; or of one with shards, whose publishing waits for other shards' reports
        if event.transport_name != self._channel or self._is_shared:
            return await self._publish(names.event_queue(event.transport_name), (event.to_wire(),))
        published = asyncio.get_running_loop().create_future()
        self._reports.append((event, published))
        self._news.set()
        await published

    def _count_report(self, status: str | None) -> None:
        if field := _REPORTED.get(status or ""):
            self._metrics[field] += 1

    async def publish_forever(self) -> None:
        """Publish the events that gathered together, then acknowledge their messages."""
        try:
            while True:
                await self._news.wait()
                self._news.clear()
                await self._publish_gathered()
        finally:
            for _, published in self._reports:
                published.cancel()

    async def _publish_gathered(self) -> None:
        batch, reports = list(self._finished), list(self._reports)
        events = [event for held in batch for event in held.events] + [event for event, _ in reports]
        told = [event.to_wire() for event in await self._to_tell(events)]
        if told:
            await self._publish(names.event_queue(self._channel), event_batch.together(told))
        del self._reports[: len(reports)]
        for _, published in reports:
            if not published.done():
                published.set_result(None)
        for held in batch:
            held.is_told = True
            if held.position is not None:
                self._journal.told(held.position)
        if calls := [_call(held.on_reported) for held in batch if held.on_reported]:
            await asyncio.gather(*calls)
        for held in batch:
            held.delivery.ack()
            self.release(held)
        del self._finished[: len(batch)]
        if batch:
            self._on_published(len(batch))

    async def _to_tell(self, events: list[Event]) -> list[Event]:
        """Those that somebody is to be told of, or of which it is not known; the others are kept in Redis now."""
        now = asyncio.get_running_loop().time()
        quiet = [event for event in events if not event.event_url and event.user_message_id in self._without_url]
        if not quiet or self._spec().amqp_queue or self._spec().router or now < self._store_again_at:
            return events
        try:
            targets = await self._store.add_events(self._channel, [(event.to_wire(), event) for event in quiet])
        except StoreUnavailable:
            self._store_again_at = now + STORE_PAUSE
            return events
        # an older Junebug's message may have its event_url in Redis only
        kept = [event for event, target in zip(quiet, targets, strict=True) if not target.url]
        self._counts.update(event.api_type for event in kept)
        ids = {event.event_id for event in kept}
        return [event for event in events if event.event_id not in ids]


def _about(message: UserMessage) -> dict[str, str | None]:
    return {"message_id": message.message_id, "to_addr": message.to_addr, "from_addr": message.from_addr}


_is_confirmed = ContextVar("_is_confirmed", default=False)
"""Of what `on_reported` tells: RabbitMQ holds the message's ack, whatever else of this id is in hand."""


async def _call(on_reported: Callable[[], Awaitable[None]]) -> None:
    """In a task, and so in a context, of its own."""
    _is_confirmed.set(True)
    try:
        await on_reported()
    except Exception:
        log.exception("the channel could not note what was reported")
