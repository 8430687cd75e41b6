"""One attempt to give a callback to its destination, and what comes after it: done, a later one, or the dead letters.

Neighbours: target.py makes the call, retry_policy.py decides, delay_queues.py keeps what is tried again; destination.py
says when. A callback is finished only when its destination has it or RabbitMQ has confirmed it elsewhere.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence

import structlog

from junebug.amqp import dead_letters
from junebug.amqp.frames import Delivery
from junebug.errors import MalformedMessage
from junebug.model.callbacks import Callback, DeadLetter, Reason, content_of
from junebug.model.messages import Status
from junebug.worker.callbacks import retry_policy
from junebug.worker.callbacks.delay_queues import DelayQueues
from junebug.worker.callbacks.health import CallbackHealth
from junebug.worker.callbacks.pending_callback import PendingCallback
from junebug.worker.callbacks.target import Target, call, target_of
from junebug.worker.callbacks.webhook import Outcome, Webhook
from junebug.worker.context import ChannelContext

log = structlog.stdlib.get_logger("forwarder")

STATUS_MAX_AGE = 3600.0


class Attempts:
    """Those of one channel."""

    may_wait = True
    """Whether a callback may be tried later: not at the end of a channel."""

    def __init__(
        self,
        context: ChannelContext,
        webhook: Webhook,
        delay_queues: DelayQueues,
        health: CallbackHealth,
        is_superseded: Callable[[Status], bool],
    ) -> None:
        """`is_superseded(status)`: a newer one of its component is known."""
        self._context = context
        self._webhook = webhook
        self._delay_queues = delay_queues
        self._health = health
        self._is_superseded = is_superseded

    def target(self, callback: Callback) -> Target | None:
        """Where it is to go now; None when nobody wants it any more."""
        return target_of(callback, self._context.spec())

    async def read_callbacks(self, deliveries: Sequence[Delivery]) -> list[PendingCallback]:
        """Of a queue of callbacks: those that are still to be made."""
        found = []
        for delivery in deliveries:
            try:
                callback = Callback.from_wire(delivery.body)
                pending = PendingCallback(callback, content_of(callback), delivery, delivery.ack)
            except MalformedMessage as error:
                await self.bury_unreadable(delivery, str(error))
                continue
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
            outcome = await call(self._context, self._webhook, target, pending)
        except Exception:
            log.exception("forwarding failed: moved to the dead letters", **pending.fields())
            await self._bury(pending, "failed", "see the channel's log")
            return None
        if outcome.ok:
            log.info("forwarded", **pending.fields())
            self._health.worked(pending.callback.to, target.destination)
        else:
            log.warning("forwarding failed", reason=outcome.reason, **pending.fields())
            self._health.failed(pending.callback.to, target.destination, outcome.reason)
        return outcome

    async def conclude(self, pending: PendingCallback, outcome: Outcome) -> None:
        """After an attempt that says nothing of its destination's other callbacks: finished, to be tried later, or dead."""
        if outcome.ok:
            pending.finish()
            return
        before = pending.callback
        pending.callback = dataclasses.replace(before, attempts=before.attempts + 1, error=outcome.reason)
        step = retry_policy.next_step(
            pending.callback.attempts,
            outcome.status,
            outcome.retry_after,
            time.time() - before.since,
            self._max_age(pending),
            self._context.settings.callback_retry_delays,
        )
        if isinstance(step, retry_policy.Delay):
            await self.postpone(pending, step)
        else:
            await self._bury(pending, step, outcome.reason)

    async def postpone(self, pending: PendingCallback, delay: retry_policy.Delay) -> None:
        """It comes back through the callback queue."""
        await self._delay_queues.put(pending.callback, delay)
        pending.finish()

    def skip(self, pending: PendingCallback) -> None:
        """Where nothing may wait, and its destination does not answer: it is not called."""
        pending.finish()

    async def is_given_up(self, pending: PendingCallback, error: str) -> bool:
        """Whether it has waited for too long, and is a dead letter now."""
        if time.time() - pending.callback.since <= self._max_age(pending):
            return False
        await self._bury(pending, "too_old", pending.callback.error or error)
        return True

    async def bury_unreadable(self, delivery: Delivery, error: str) -> None:
        """What nobody can read goes to the dead letters."""
        log.error("unreadable message: moved to the dead letters", reason=error)
        await dead_letters.bury_unreadable(self._context.broker, self._context.channel, delivery, error)

    async def _bury(self, pending: PendingCallback, reason: Reason, error: str) -> None:
        letter = DeadLetter(reason=reason, error=error, callback=pending.callback)
        await dead_letters.bury(self._context.broker, self._context.channel, letter)
        log.error("given up: moved to the dead letters", why=reason, reason=error, **pending.fields())
        pending.finish()

    def _max_age(self, pending: PendingCallback) -> float:
        match pending.callback.kind:
            case "inbound":
                return self._context.settings.callback_max_age
            case "event":
                return self._context.settings.outbound_message_ttl
            case "status":
                return STATUS_MAX_AGE
