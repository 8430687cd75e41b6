"""All callbacks of one destination (a host's mo_url, event_urls or status_url, an AMQP queue): in their order, so many at a
time, none while it is down.

    offer -> keyed queue -> call -> concluded: done, a retry queue, the dead letters
        |                    `--> failed: nobody knows yet whether that lies with it or with the host
        `--> home: the queue that is the destination's alone, or its backlog, while the host is down or too slow

A callback that failed stays here until another one succeeds (then the fault is its own: it is tried again later, alone) or
the circuit opens. Then all goes home, to its place there, what failed before what came after it, and now and then what
waits for longest probes the host: so order is kept for as long as it takes.

Neighbours: circuit_breaker.py and keyed_queue.py decide, shared_circuit.py says who probes for all channels, attempts.py makes
the calls, backlog.py and source.py keep what waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence

import structlog

from junebug.errors import BrokerUnavailable
from junebug.worker.callbacks import retry_policy
from junebug.worker.callbacks.attempts import Attempts
from junebug.worker.callbacks.backlog import Backlog
from junebug.worker.callbacks.circuit_breaker import CircuitBreaker
from junebug.worker.callbacks.keyed_queue import KeyedQueue
from junebug.worker.callbacks.shared_circuit import SharedCircuit
from junebug.worker.callbacks.source import Dispatch, PendingCallback, Source
from junebug.worker.callbacks.webhook import Outcome
from junebug.worker.context import ChannelContext

log = structlog.stdlib.get_logger("forwarder")

PATIENCE = 1.0
"""Seconds that a callback waits here for a slow host; then it and what follows it wait in the backlog, so that it takes
no room from other destinations' in the hands of their common queue.
"""
SAMPLE = 20
"""Callbacks that are looked at for a probe."""
STUCK = 3
"""Probes with one callback after which another one is tried beside it."""
PAUSE = 0.1


class Destination:
    def __init__(self, context: ChannelContext, attempts: Attempts, kind: str, name: str, dispatch: Dispatch) -> None:
        """`kind`: what a callback is `to`; `name`: see Target.destination. `dispatch` takes what may be for others now."""
        self.kind = kind
        self.name = name
        self.backlog = Backlog(context, attempts, kind, name, dispatch, self.drop_dead)
        self._context = context
        self._attempts = attempts
        self._dispatch = dispatch
        self._delays = context.settings.callback_retry_delays
        self._breaker = CircuitBreaker(self._delays)
        self._circuit: SharedCircuit | None = None
        if attempts.may_wait and kind != "amqp_queue":  # a queue is RabbitMQ's, and asking it costs as much as looking
            prober, timeout = f"{context.channel} {kind}", context.settings.callback_timeout
            self._circuit = SharedCircuit(context.stores.circuits, name, prober, timeout)
        self._queue: KeyedQueue[PendingCallback] = KeyedQueue(context.settings.callback_concurrency)
        self._calls: dict[asyncio.Task[None], PendingCallback] = {}
        self._conclusions: set[asyncio.Task[None]] = set()
        self._failed: dict[PendingCallback, Outcome] = {}
        """What failed since the destination last showed life."""
        self._homes: set[Source] = set()
        """Queues that are for it alone, besides its backlog."""
        self._is_standing_still = False
        """All has gone home; what comes goes there, too."""
        self._has_answered = False
        """Why it stands still no more."""
        self._recovery: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._stuck: tuple[str, int] = ("", 0)
        """The callback that was the last to probe, and how often."""
        self._verdict: asyncio.TimerHandle | None = None
        self._patience: asyncio.TimerHandle | None = None
        self._stopping = False

    @property
    def is_idle(self) -> bool:
        """Whether it may be forgotten."""
        under_way = (self._queue, self._calls, self._failed, self._conclusions, self._recovery)
        return self.backlog.is_idle and not any(under_way)

    @property
    def is_down(self) -> bool:
        """Whether it is only probed."""
        return self._breaker.is_open

    # --- what comes ---------------------------------------------------------------------------------------------------

    def offer(self, pending: PendingCallback) -> None:
        """Get it done, in its order."""
        if self._stopping:
            return  # RabbitMQ has it
        home = pending.home
        if home and home is not self.backlog.source and home not in self._homes:
            self._homes.add(home)
            if self._is_standing_still:
                self._context.own("halt", home.halt())
        if self._breaker.is_open and not self._attempts.may_wait:
            self._attempts.skip(pending)
        elif self._is_standing_still:
            self._send_home(pending)
        elif self.backlog.in_use and (home is None or home is not self.backlog.source):  # which may not be there yet
            self.backlog.append(pending)
        else:
            self._queue.add(pending)
            self._begin_calls()
            if home is None and self._patience is None and self._attempts.may_wait:
                self._be_patient()

    def _send_home(self, pending: PendingCallback) -> None:
        if not pending.is_wanted:
            return
        if pending.home:
            pending.give_back()
        else:
            self.backlog.append(pending)

    def _take_all(self, leaves: Callable[[PendingCallback], bool] = lambda pending: True) -> list[PendingCallback]:
        """What has not begun, and what failed, in the order in which it came."""
        failed = list(filter(leaves, self._failed))
        for pending in failed:
            del self._failed[pending]
        return sorted([*failed, *self._queue.leave(leaves)], key=lambda pending: pending.number)

    def find_backlog(self, queue: str = "") -> None:
        """Something waits there (in this queue) since before this process: ask before anything else."""
        self.backlog.may_have_former |= queue == self.backlog.former
        if not self.backlog.in_use:
            self._breaker.suspect(time.monotonic())
            self.backlog.begin()
            self._stand_still()

    def find_home(self, home: Source) -> None:
        """A queue that is for it alone stands still since before this process, as it failed then: ask before anything else."""
        self._homes.add(home)
        self._breaker.suspect(time.monotonic())
        self._stand_still()

    def release(self) -> None:
        """The channel's settings changed: what has not begun may be meant for others now."""
        for pending in self._take_all():
            self._dispatch(pending)
        self._breaker.answered()
        self._wake.set()

    # --- calls --------------------------------------------------------------------------------------------------------

    def _begin_calls(self) -> None:
        while pending := self._next():
            task = self._context.own("callbacks", self._call_on(pending))
            self._calls[task] = pending
            task.add_done_callback(self._on_ended)

    def _next(self) -> PendingCallback | None:
        return None if self._breaker.is_open else self._queue.begin()

    async def _call_on(self, pending: PendingCallback | None) -> None:
        """One after the other, as long as there are any: a task for each would cost as much as half of its call."""
        task = asyncio.current_task()
        assert task
        while pending:
            self._calls[task] = pending
            outcome = await self._attempts.call(pending) if pending.is_wanted else None
            del self._calls[task]
            self._learn(pending, outcome)
            pending = self._next()

    def _on_ended(self, task: asyncio.Task[None]) -> None:
        """Cancelled, it may be before it began; or there was no more to call."""
        if pending := self._calls.pop(task, None):
            self._learn(pending, None)
        self._begin_calls()

    def _learn(self, pending: PendingCallback, outcome: Outcome | None) -> None:
        self._queue.done(pending)
        if outcome is None:
            return
        if _shows_life(outcome) or not self._attempts.may_wait:
            self._conclude(pending, outcome)
        else:
            self._failed[pending] = outcome
        if self._stopping:
            return
        if _shows_life(outcome):
            self._on_life()
        elif self._breaker.failed(time.monotonic(), pending.callback.id, outcome.reason, outcome.retry_after):
            self._on_open()
        elif self._verdict is None and self._failed:
            self._verdict = asyncio.get_running_loop().call_later(self._delays[0], self._suspect)

    def _on_life(self) -> None:
        if self._circuit:
            self._circuit.showed_life()
        if self._breaker.answered():
            self._has_answered = True
            log.info("destination works again", destination=self.name)
            self._wake.set()
        failed, self._failed = self._failed, {}
        for pending, outcome in failed.items():
            self._conclude(pending, outcome)

    def _suspect(self) -> None:
        """Nobody has shown life since one failed."""
        self._verdict = None
        if self._failed and not self._breaker.is_open:
            retry_after = max(outcome.retry_after or 0.0 for outcome in self._failed.values())
            self._breaker.suspect(time.monotonic() + max(0.0, retry_after - self._delays[0]))
            self._on_open()

    def _on_open(self) -> None:
        log.warning("destination fails: it is only probed", destination=self.name, reason=self._breaker.reason)
        if self._attempts.may_wait:
            self._stand_still()
        else:
            for pending in self._queue.leave(lambda pending: True):
                self._attempts.skip(pending)

    def _conclude(self, pending: PendingCallback, outcome: Outcome) -> None:
        if outcome.ok:
            return pending.finish()  # at once: no task a callback
        task = self._context.own("callback", self._attempts.conclude(pending, outcome))
        self._conclusions.add(task)
        task.add_done_callback(self._conclusions.discard)

    # --- while it is down ---------------------------------------------------------------------------------------------

    def _stand_still(self) -> None:
        if self._recovery is None:
            self._recovery = self._context.own(f"recovery of {self.name}", self._recover())

    async def _recover(self) -> None:
        """From the moment it is down until it works again."""
        while self._breaker.is_open:
            self._has_answered = False
            self.backlog.pause()
            for home in self._all_homes():
                await home.halt()
            while self._calls:
                await asyncio.wait(list(self._calls))  # they were before all that is to go home now
            if self._breaker.is_open:
                self._is_standing_still = True
                for pending in self._take_all():
                    self._send_home(pending)
            while self._breaker.is_open:
                try:
                    await self._until_probe()
                    if self._breaker.is_open and await self._is_our_turn():
                        await self._probe()
                except BrokerUnavailable:
                    await self._context.broker.wait_connected(None)
                    await asyncio.sleep(PAUSE)
            if self._circuit:
                self._context.own("news of a host", self._circuit.over(works=self._has_answered))
            self._is_standing_still = False
            self.backlog.drain()
            homes = self._all_homes()
            self._homes.clear()
            for home in homes:
                await home.go_on()
        self._recovery = None
        self._begin_calls()

    def _all_homes(self) -> list[Source]:
        return [*([self.backlog.source] if self.backlog.source else []), *self._homes]

    async def _until_probe(self) -> None:
        self._wake.clear()
        if (left := self._breaker.probe_at - time.monotonic()) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._wake.wait()

    async def _is_our_turn(self) -> bool:
        """Whether to probe now; else another one does, and it is looked at later how that goes."""
        if self._circuit is None or not (pause := await self._circuit.wait()):
            return True
        self._breaker.probe_at = time.monotonic() + pause
        if self._circuit.reason:
            self._attempts.health.failed(self.kind, self.name, self._circuit.reason)
        return False

    async def _probe(self) -> None:
        """A call with what waits for longest; it keeps its place when the host does not answer."""
        if self.backlog.is_writing:
            await asyncio.sleep(PAUSE)
            return
        for home in self._all_homes():
            if await home.browse(SAMPLE, self._probe_with):
                return
        self._breaker.answered()  # nothing waits

    async def _probe_with(self, sample: Sequence[PendingCallback]) -> None:
        mine: list[PendingCallback] = []
        for pending in sample:
            target = self._attempts.target(pending.callback)
            if target is None:
                pending.finish()
            elif target.destination == self.name and not await self._attempts.is_given_up(pending, self._breaker.reason):
                mine.append(pending)
        if not mine:
            return
        first = mine[0]
        id = first.callback.id
        self._stuck = (id, self._stuck[1] + 1 if self._stuck[0] == id else 1)
        outcome = await self._attempts.call(first)
        if outcome is None:
            return
        other = self._other(mine) if outcome.status == 500 or self._stuck[1] > STUCK else None
        if other and not _shows_life(outcome):
            second = await self._attempts.call(other)
            if second and _shows_life(second):  # so it is the first one that the application cannot bear
                await self._attempts.conclude(other, second)
                await self._attempts.conclude(first, outcome)
                return self._on_life()
        if _shows_life(outcome):
            await self._attempts.conclude(first, outcome)
            self._on_life()
        else:
            self._breaker.probe_failed(time.monotonic(), outcome.reason, outcome.retry_after)
            if self._circuit:
                await self._circuit.failed(self._breaker.probe_at - time.monotonic(), outcome.reason)

    def _other(self, sample: Sequence[PendingCallback]) -> PendingCallback | None:
        """The last that overtakes nobody of its own key but the first one."""
        firsts: dict[str, PendingCallback] = {}
        for pending in sample[1:]:
            firsts.setdefault(pending.key, pending)
        return next(reversed(firsts.values()), None)

    # --- while it is slow ---------------------------------------------------------------------------------------------

    def _be_patient(self) -> None:
        self._patience = asyncio.get_running_loop().call_later(PATIENCE / 2, self._lose_patience)

    def _lose_patience(self) -> None:
        self._patience = None
        waiting = [pending for pending in self._queue if pending.home is None]
        if not waiting:
            return
        if min(pending.since for pending in waiting) > time.monotonic() - PATIENCE:
            return self._be_patient()
        for pending in self._take_all(lambda pending: pending.home is None):
            self.backlog.append(pending)

    # --- the end ------------------------------------------------------------------------------------------------------

    def drop_dead(self) -> None:
        """The link to RabbitMQ broke: what came over it will come again, so nobody goes on with it here."""
        self._take_all(lambda pending: not pending.is_wanted)
        for task, pending in self._calls.items():
            if not pending.is_wanted:
                task.cancel()

    async def stop(self, timeout: float) -> None:
        """Finish what is under way within `timeout` seconds; all else goes back to its queue."""
        self._stopping = True
        for timer in (self._verdict, self._patience):
            if timer:
                timer.cancel()
        if self._recovery:
            self._recovery.cancel()
        self._queue.leave(lambda pending: pending.delivery is not None)
        ends = time.monotonic() + timeout
        while self._calls and time.monotonic() < ends:
            await asyncio.wait(list(self._calls), timeout=ends - time.monotonic())
        await self.backlog.stop(max(0.0, ends - time.monotonic()))
        if self._conclusions:
            await asyncio.wait(list(self._conclusions), timeout=max(0.0, ends - time.monotonic()))
        for task in (*self._calls, *self._conclusions):
            task.cancel()


def _shows_life(outcome: Outcome) -> bool:
    return outcome.ok or retry_policy.is_clients_error(outcome.status)
