"""One attempt to give a callback to its destination, and what comes after it: done, a later one, or the dead letters.

Neighbours: target.py says where, webhook.py posts, retry_policy.py decides, delay_queues.py keeps what is tried again;
destination.py says when. A callback is finished only when its destination has it or RabbitMQ has confirmed it elsewhere.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeVar

import structlog
from msgspec.structs import replace

from junebug import names
from junebug.amqp.frames import Delivery
from junebug.errors import MalformedMessage, Unroutable
from junebug.model import event_batch, templates
from junebug.model.callbacks import Callback, DeadLetter, Reason, content_of
from junebug.model.messages import Content, Status, format_timestamp
from junebug.model.presenter import body_of
from junebug.runtime import families
from junebug.runtime.metrics import Counts
from junebug.worker.callbacks import retry_policy
from junebug.worker.callbacks.delay_queues import DelayQueues
from junebug.worker.callbacks.source import PendingCallback
from junebug.worker.callbacks.target import Target, target_of
from junebug.worker.callbacks.targets import Targets
from junebug.worker.callbacks.webhook import Outcome, Webhook
from junebug.worker.context import ChannelContext
from junebug.worker.suspects import WHY

log = structlog.stdlib.get_logger("forwarder")

STATUS_MAX_AGE = 3600.0
URI_TOO_LONG = 414
MOST_FAILING = 1000
FORGET_INTERVAL = 60.0
UNKNOWN = ""
"""The destination of a failure of which only the kind is known."""

T = TypeVar("T")


class Attempts:
    may_wait = True
    """Whether a callback may be tried later: not at the end of a channel."""

    def __init__(
        self, context: ChannelContext, is_superseded: Callable[[Status], bool], on_failing: Callable[[dict[str, str]], None]
    ) -> None:
        """`is_superseded(status)`: a newer one of its component is known. `on_failing`: see CallbackHealth."""
        self.delay_queues = DelayQueues(context)
        memory = 2 * max(*context.settings.callback_retry_delays, names.LONGEST_RETRY)
        self.health = CallbackHealth(memory, on_failing)
        self._context = context
        targets = Targets(context.settings, context.stores.redis_address)
        self._webhook = Webhook(context.settings.callback_timeout, targets)
        self._is_superseded = is_superseded
        self._log = log.bind()  # once: each callback is logged
        self._counts = context.metrics.counts
        self._measured = {to: Measured(self._counts, to) for to in families.TO}
        inbound, event = context.settings.callback_max_age, context.settings.outbound_message_ttl
        self._max_ages = {"inbound": inbound, "event": event, "status": STATUS_MAX_AGE}

    async def close(self) -> None:
        """No call is made any more."""
        self.health.close()
        await self._webhook.close()

    def target(self, callback: Callback) -> Target | None:
        """Where it is to go now; None when nobody wants it any more."""
        return target_of(callback, self._context.recipient(callback.destination))

    async def read_callbacks(self, deliveries: Sequence[Delivery]) -> list[PendingCallback]:
        """Of a queue of callbacks: those that are still to be made."""
        found = []
        for delivery, (callback, content) in await self.parse(deliveries, _callback_and_content):
            pending = PendingCallback(callback, content, delivery, delivery.ack)
            if isinstance(pending.content, Status) and self._is_superseded(pending.content):
                log.info("repeat of a status dropped: there is a newer one", **pending.fields())
                pending.finish()
            else:
                found.append(pending)
        return found

    async def call(self, pending: PendingCallback) -> Outcome | None:
        """One attempt. None: it needs no more care, and the destination has shown nothing."""
        try:
            target = self.target(pending.callback)
            if target is None:
                pending.finish()
                return None
            if not self._context.suspects.begin("callback", pending.callback.wire):
                await self._bury(pending, "failed", WHY)
                self._context.suspects.set_aside()
                return None
            destination, began = target.destination, time.perf_counter()
            outcome = await self._call(target, pending)
            took = time.perf_counter() - began
            self._measured[pending.callback.to](outcome.status, took, outcome.ok)
            if outcome.is_hopeless and pending.callback.to == "event_url":  # other URLs may be corrected meanwhile
                await self._bury(pending, "refused", outcome.reason)
                return None
        except Exception:
            log.exception("forwarding failed: moved to the dead letters", **pending.fields())
            await self._bury(pending, "failed", "see the channel's log")
            return None
        told = {"host": destination, "http_status": outcome.status, "ms": round(took * 1000, 1), **pending.fields()}
        if outcome.ok:
            self._log.info("forwarded", **told)
            self.health.worked(pending.callback.to, destination)
        else:
            log.warning("forwarding failed", reason=outcome.reason, **told)
            self.health.failed(pending.callback.to, destination, outcome.reason)
        return outcome

    async def _call(self, target: Target, pending: PendingCallback) -> Outcome:
        """While RabbitMQ is away, none for a queue is made."""
        callback = pending.callback
        if target.routing_key:
            try:
                await self._context.broker.publish_surely(target.routing_key, (callback.wire,), exchange=names.EXCHANGE)
            except Unroutable as error:
                return Outcome(False, None, str(error))
            return Outcome(True)
        body = body_of(pending.content, self._context.channel_of(pending.content))
        try:
            url = templates.expand(target.url, {**body.get("event_details", {}), **body})
        except ValueError as error:  # as a server would answer to it
            return Outcome(False, URI_TOO_LONG, str(error), is_hopeless=True)
        recipient = self._context.recipient(callback.destination)
        secret = (recipient and recipient.callback_secret) or self._context.settings.callback_secret
        return await self._webhook.post(url, body, target.auth_token, id=callback.id, secret=secret, trace=callback.trace)

    async def conclude(self, pending: PendingCallback, outcome: Outcome) -> None:
        """After an attempt that says nothing of its destination's other callbacks: finished, to be tried later, or dead."""
        if outcome.ok:
            return pending.finish()
        before, delays = pending.callback, self._context.settings.callback_retry_delays
        attempts, age, max_age = before.attempts + 1, time.time() - before.since, self._max_ages[before.kind]
        refusals = before.refusals + retry_policy.is_clients_error(outcome.status)
        pending.callback = replace(before, attempts=attempts, refusals=refusals, error=outcome.reason)
        step = retry_policy.next_step(attempts, refusals, outcome.retry_after, age, max_age, delays)
        if isinstance(step, retry_policy.Delay):
            retry_at = format_timestamp(datetime.fromtimestamp(time.time() + step.seconds, UTC))
            log.info("callback is repeated later", retry_at=retry_at, failures=attempts, **pending.fields())
            await self.delay_queues.put(pending.callback, step)
            pending.finish()
        else:
            await self._bury(pending, step, outcome.reason)

    def skip(self, pending: PendingCallback) -> None:
        """Where nothing may wait, and its destination does not answer: it is not called."""
        pending.finish()

    async def is_given_up(self, pending: PendingCallback, error: str) -> bool:
        """Whether it has waited for too long, and is a dead letter now."""
        if time.time() - pending.callback.since <= self._max_ages[pending.callback.kind]:
            return False
        await self._bury(pending, "too_old", pending.callback.error or error)
        return True

    async def parse(self, deliveries: Sequence[Delivery], parse: Callable[[bytes], T]) -> list[tuple[Delivery, T]]:
        """Those that can be read, with what they say; the others go to the dead letters: of a batch of events no more than
        the one that is at fault.
        """
        read = []
        for delivery in deliveries:
            if not self._context.may_begin(delivery):
                if not await self._taken_apart(delivery):
                    await self._context.set_aside(delivery)
                continue
            try:
                read.append((delivery, parse(delivery.body)))
            except MalformedMessage as error:
                if not await self._taken_apart(delivery):
                    await self._context.bury_unreadable(delivery, str(error))
        return read

    async def _taken_apart(self, delivery: Delivery) -> bool:
        """Whether it was a batch: each event in it comes again, alone."""
        events = event_batch.apart(delivery.body)
        if len(events) == 1:
            return False
        await self._context.broker.publish_surely(delivery.queue, events)
        delivery.ack_now()
        return True

    async def _bury(self, pending: PendingCallback, reason: Reason, error: str) -> None:
        letter = DeadLetter(reason=reason, error=error, callback=pending.callback)
        await self._context.put_away(letter)
        log.error("given up: moved to the dead letters", why=reason, reason=error, letter_id=letter.id, **pending.fields())
        pending.finish()


class Measured:
    """How attempts went, of one that callbacks may be `to`."""

    def __init__(self, counts: Counts, to: str) -> None:
        self._counts = counts
        self._took = families.CALLBACK_SECONDS.observer(counts, to)
        ok, no_answer, *by_hundreds, self._other = (families.CALLBACKS.field(to, each) for each in families.RESULTS)
        self._ok, self._results = ok, {0: no_answer, **dict(zip((3, 4, 5), by_hundreds, strict=True))}

    def __call__(self, status: int | None, seconds: float, ok: bool) -> None:
        self._counts[self._ok if ok else self._results.get((status or 0) // 100, self._other)] += 1
        self._took(seconds)


def _callback_and_content(body: bytes) -> tuple[Callback, Content]:
    callback = Callback.from_wire(body)
    return callback, content_of(callback)


class CallbackHealth:
    """Which destinations fail at the moment, for the component `callbacks`: tells when other kinds of them do than before."""

    def __init__(
        self, memory: float, on_change: Callable[[dict[str, str]], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`memory`: seconds after which a failure counts no more when no other call was made since (nothing waits).

        `on_change` is given kind -> reason; nothing when all is well.
        """
        self._memory = memory
        self._on_change = on_change
        self._clock = clock
        self._failing: dict[tuple[str, str], tuple[str, float]] = {}
        """(destination's kind, destination) -> reason and when."""
        self._told: dict[str, str] = {}
        self._timer: asyncio.TimerHandle | None = None

    def inherit(self, failing: Mapping[str, str]) -> None:
        """What the process before this one has told."""
        now = self._clock()
        self._failing = {(kind, UNKNOWN): (reason, now) for kind, reason in failing.items()}
        self._told = dict(failing)
        self._age_later()

    def failed(self, kind: str, destination: str, reason: str) -> None:
        self._failing.pop((kind, UNKNOWN), None)
        self._failing[kind, destination] = (reason, self._clock())
        if len(self._failing) > MOST_FAILING:
            del self._failing[next(iter(self._failing))]
        self._tell()
        self._age_later()

    def worked(self, kind: str, destination: str) -> None:
        known = len(self._failing)
        for name in (destination, UNKNOWN):
            self._failing.pop((kind, name), None)
        if len(self._failing) < known:
            self._tell()

    @property
    def is_failing(self) -> bool:
        return bool(self._failing)

    def forget(self, is_wanted: Callable[[str, str], bool] = lambda kind, destination: True) -> None:
        """Drop what is long ago, and what is no destination (kind, destination) of the channel any more."""
        for key, (_, when) in list(self._failing.items()):
            if when + self._memory < self._clock() or not is_wanted(*key):
                del self._failing[key]
        self._tell()

    def _age(self) -> None:
        self._timer = None
        self.forget()
        self._age_later()

    def _age_later(self) -> None:
        if self._failing and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FORGET_INTERVAL, self._age)

    def _tell(self) -> None:
        failing = {kind: reason for (kind, _), (reason, _) in self._failing.items()}
        if failing.keys() != self._told.keys():
            self._told = failing
            self._on_change(failing)

    def close(self) -> None:
        if self._timer:
            self._timer.cancel()
