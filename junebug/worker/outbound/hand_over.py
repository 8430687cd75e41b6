"""One message, given to the transport until it is finished, or goes back to its queue.

Neighbours: sender.py chooses it; outcomes.py is told how it ended.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable

import structlog

from junebug.errors import Expired, NotSent, Rejected, UnknownOutcome
from junebug.model.messages import UserMessage
from junebug.runtime.backoff import least_pause
from junebug.transports.base import Accepted, Transport
from junebug.worker.outbound.journal import Noted
from junebug.worker.outbound.outcomes import InHand, Outcomes

log = structlog.stdlib.get_logger("sender")

PAUSE_IN_PLACE = 1.0
"""Up to so many seconds a message that was not sent waits here; for longer all goes back to the queue."""
FAULTY_ATTEMPTS = 3
"""A message on which `send` fails with an unforeseen error so often is rejected: it must not block the channel."""
FAULTY_PAUSE = 0.5
"""Seconds before the second attempt; twice as long before the third."""


class HandOver:
    def __init__(
        self, transport: Transport, outcomes: Outcomes, send_back: Callable[[InHand, float], Awaitable[None]],
        stopping: asyncio.Event, *, resends_unknown: bool,
    ) -> None:  # fmt: skip
        """`send_back`: to its queue, for at least so many seconds. `stopping`: no attempt begins any more. `resends_unknown`:
        what may have arrived is sent again.
        """
        self._transport = transport
        self._outcomes = outcomes
        self._send_back = send_back
        self._stopping = stopping
        self._resends_unknown = resends_unknown
        self._faults: Counter[str] = Counter()
        """Message id -> how often `send` failed on it, also before it went back to its queue."""

    async def __call__(self, held: InHand) -> None:
        """Until it is finished, or back in its queue."""
        if held.before:
            return await self._tell_again(held, held.before)
        message, attempt = held.message, 0
        while held.delivery.alive:
            attempt += 1
            if attempt > 1 and message.has_expired():
                return self._outcomes.expired(held)
            try:
                if attempt > 1:
                    await self._transport.context.permit(message.priority)
                accepted = await self._attempt(message)
            except Rejected as error:
                return self._outcomes.rejected(held, error.reason)
            except Expired:
                return self._outcomes.expired(held)
            except NotSent as error:
                pause = max(error.retry_after, least_pause(attempt))
                log.warning("not sent, kept", message_id=message.message_id, reason=str(error), retry_after=pause)
                if pause <= PAUSE_IN_PLACE:
                    await self.pause(pause)
                if pause > PAUSE_IN_PLACE or self._stopping.is_set():
                    return await self._send_back(held, pause)
            except UnknownOutcome as error:
                log.warning("outcome unknown", message_id=message.message_id, reason=str(error))
                if not self._resends_unknown:
                    return self._outcomes.rejected(held, f"Outcome unknown: {error}")
                if attempt > 1:  # the first time it is sent again in its place
                    await self.pause(least_pause(attempt - 1))
                    if self._stopping.is_set():
                        return await self._send_back(held, least_pause(attempt))
            except Exception:
                if len(self._faults) > 1000:
                    self._faults.clear()
                self._faults[message.message_id] += 1
                faults = self._faults[message.message_id]
                log.exception("send failed", message_id=message.message_id, attempt=faults)
                if faults >= FAULTY_ATTEMPTS:
                    del self._faults[message.message_id]
                    return self._outcomes.rejected(held, "The channel failed on this message, see its log")
                await self.pause(FAULTY_PAUSE * faults)
            else:
                return self._outcomes.accepted(held, accepted if isinstance(accepted, Accepted) else Accepted(accepted))

    async def pause(self, seconds: float) -> None:
        """Which a stop ends."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def _tell_again(self, held: InHand, before: Noted) -> None:
        """What was accepted before RabbitMQ knew of it, and was delivered again."""
        message_id = held.message.message_id
        log.warning("accepted before: it is not sent again, but its event is", message_id=message_id)
        accepted = Accepted(before.provider_id)
        if before.is_left:
            try:
                accepted = await self._transport.accepted_before(held.message, before.provider_id)
            except Exception:
                log.exception("the channel could not note what was accepted before", message_id=message_id)
        held.position = before.position
        self._outcomes.accepted(held, accepted)

    def _attempt(self, message: UserMessage) -> Awaitable[Accepted | str | None]:
        limit = self._transport.send_timeout
        return self._transport.send(message) if limit is None else self._send_in_time(message, limit)

    async def _send_in_time(self, message: UserMessage, limit: float) -> Accepted | str | None:
        try:
            async with asyncio.timeout(limit) as timeout:
                return await self._transport.send(message)
        except TimeoutError:
            if not timeout.expired():
                raise
            raise UnknownOutcome(f"the channel did nothing with it for {limit:g} seconds") from None
