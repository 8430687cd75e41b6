"""SubmitScheduler: in which order submit_sm leave: first come first sent, as fast as the window allows, while there is a bind.

A throttled one goes before all that have not left yet. Neighbours: smpp/window.py decides when (pace, throttling),
transport.py passes every submit_sm through here.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from junebug.smpp.window import Window


class SchedulerClosed(Exception):
    """There has been no bind to send on for a while; nothing left."""


@dataclass(slots=True, eq=False)
class Ticket:
    """A place in the line: the most urgent message first, then by message, then by part."""

    urgency: int
    """The less, the more urgent."""
    message: int
    """Its number, in the order of their coming."""
    part: int
    may_leave: asyncio.Future[None] = field(init=False)
    round: int = field(init=False)
    """In which it left."""


class SubmitScheduler:
    """Each ticket waits in the line for its `turn`."""

    def __init__(self, window: Window, on_throttled: Callable[[bool], None], room: int = 1) -> None:
        """`on_throttled` is told when throttling begins and ends; with less than `room` in the line `has_room` returns."""
        self._window = window
        self._room = room
        self._may_come = asyncio.Event()
        self._on_throttled = on_throttled
        self._line: list[tuple[int, int, int, int, Ticket]] = []
        """With what it goes by, and a number: two may have the same place, of which one is withdrawn. A heap compares tuples
        without a call each.
        """
        self._numbers = itertools.count()
        self._timer: asyncio.Handle | None = None
        self._open = False
        self._closed: str | None = None

    async def has_room(self) -> None:
        """Return when who comes now would not wait for long; or at once when there is no bind for long, to be told so."""
        await self._may_come.wait()

    def enqueue(self, ticket: Ticket) -> None:
        """Into the line, or into it again: `turn` is to be awaited then.

        Nobody is let go before the loop's next iteration: all that come in one leave in the order of their tickets.
        """
        loop = asyncio.get_running_loop()
        ticket.may_leave = loop.create_future()
        if self._closed is not None:
            ticket.may_leave.set_exception(SchedulerClosed(self._closed))
            return
        heapq.heappush(self._line, (ticket.urgency, ticket.message, ticket.part, next(self._numbers), ticket))
        self._tell_room()
        if self._timer is None:
            self._timer = loop.call_soon(self._let_go)

    async def turn(self, ticket: Ticket) -> None:
        """Return when it may leave. Exactly one call of `taken`, `throttled` or `lost` is to follow. Raises SchedulerClosed."""
        try:
            await ticket.may_leave
        except asyncio.CancelledError:
            self.withdraw(ticket)
            raise

    def withdraw(self, ticket: Ticket) -> None:
        """It will not be sent after all."""
        waiting = ticket.may_leave
        if not waiting.cancel() and not waiting.cancelled() and waiting.exception() is None:
            self.lost()  # it was let go a moment ago

    def taken(self, ticket: Ticket) -> None:
        """Answered, with anything but "not so fast"."""
        throttled = self._window.throttled
        self._window.taken(ticket.round)
        if throttled and not self._window.throttled:
            self._on_throttled(False)
        self._let_go()

    def lost(self) -> None:
        """There will be no answer, or it never left."""
        self._window.lost()
        self._let_go()

    def throttled(self, ticket: Ticket) -> None:
        """Answered "not so fast": it is in the line again, before all that have not left."""
        throttled = self._window.throttled
        self._window.throttle(_now())
        if not throttled and self._window.throttled:
            self._on_throttled(True)
        self.enqueue(ticket)
        self._let_go()

    def open(self) -> None:
        """There is a bind."""
        self._open, self._closed = True, None
        self._let_go()

    def hold(self) -> None:
        """There is none for now: all wait."""
        self._open = False
        self._tell_room()

    def close(self, reason: str) -> None:
        """There is none for long: all that wait, and all that come, raise SchedulerClosed."""
        self._open, self._closed = False, reason
        line, self._line = self._line, []
        for *_, ticket in line:
            if not ticket.may_leave.done():
                ticket.may_leave.set_exception(SchedulerClosed(reason))
        self._tell_room()

    def _tell_room(self) -> None:
        if self._closed is not None or (self._open and len(self._line) < self._room):
            self._may_come.set()
        else:
            self._may_come.clear()

    def _let_go(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        while self._line and self._open:
            ticket = self._line[0][-1]
            if ticket.may_leave.done():  # withdrawn
                heapq.heappop(self._line)
                continue
            now = _now()
            wait = self._window.wait(now)
            if wait:
                self._timer = asyncio.get_running_loop().call_later(wait, self._let_go)
            if wait != 0:
                break
            heapq.heappop(self._line)
            ticket.round = self._window.leave(now)
            ticket.may_leave.set_result(None)
        self._tell_room()


def _now() -> float:
    return asyncio.get_running_loop().time()
