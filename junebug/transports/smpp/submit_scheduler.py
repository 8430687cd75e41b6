"""Gate: in which order and how fast submit_sm leave: first come first sent, mt_tps, the window, throttling.

A throttled one keeps its place before all that have not left yet: after a pause it goes first and alone; once it is taken,
the others follow, fewer at a time than before, then more and more again. Neighbours: transport.py passes every submit_sm
through here, session.py has the window that the SMSC is promised.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass

CATCH_UP = 0.05
"""Seconds of mt_tps that may be caught up on at once: timers are late by so much at times."""
LONGEST_GROWTH = 50
"""Throttled again and again, the pause grows up to so many times throttle_delay ..."""
LONGEST_PAUSE = 5.0
"""... but not beyond so many seconds, unless throttle_delay itself is longer."""


class GateClosed(Exception):
    """There has been no bind to send on for a while; nothing left."""


class Pace:
    """When the next may leave, and how many may be under way. Pure: `now` is an argument, in seconds."""

    def __init__(self, window: int, per_second: float, throttle_delay: float) -> None:
        self._window = window
        self._interval = 1 / per_second if per_second > 0 else 0.0
        self._throttle_delay = throttle_delay
        self._limit = float(window)
        self._next_at = 0.0
        self._paused_until = 0.0
        self._strikes = 0
        self._round = 0
        self.under_way = 0

    @property
    def throttled(self) -> bool:
        """Whether the SMSC said "not so fast" and has taken nothing since."""
        return self._strikes > 0

    def wait(self, now: float) -> float | None:
        """Seconds until the next may leave, 0 for now; None: when one that is under way is answered."""
        if self.under_way >= (1 if self.throttled else int(self._limit)):
            return None
        return max(0.0, self._paused_until - now, self._next_at - now if self._interval else 0.0)

    def leave(self, now: float) -> int:
        """One more is under way. Returns what `taken` wants to know of it."""
        self.under_way += 1
        if self._interval:
            self._next_at = max(self._next_at, now - CATCH_UP) + self._interval
        return self._round

    def taken(self, left_in: int) -> None:
        """The SMSC answered, with anything but "not so fast"; only what left after the last of those ends throttling."""
        self.under_way -= 1
        if left_in != self._round:
            return
        self._strikes = 0
        self._limit = min(self._window, self._limit + 1 / self._limit)

    def gave_up(self) -> None:
        """No answer: the link is gone, or it took too long."""
        self.under_way -= 1

    def pushed_back(self, now: float) -> None:
        """The SMSC said "not so fast"; those that left at the same time will hear it, too, and count as one."""
        if now >= self._paused_until:
            self._strikes += 1
            self._round += 1
            self._limit = max(1.0, min(self._limit, self.under_way) / 2)
            growth = min(2 ** (self._strikes - 1), LONGEST_GROWTH)
            longest = max(self._throttle_delay, LONGEST_PAUSE)
            self._paused_until = now + min(self._throttle_delay * growth, longest)
        self.under_way -= 1


@dataclass(slots=True, order=True)
class Place:
    """A place in the line: the most urgent message first, then by message, then by part."""

    urgency: int
    """The less, the more urgent."""
    message: int
    part: int


class Gate:
    """Numbers are given at `arrive`, in the order of the calls; who `join`s the line waits for its `turn`."""

    def __init__(self, pace: Pace, on_throttled: Callable[[bool], None], room: int = 1) -> None:
        """`on_throttled` is told when throttling begins and ends; with less than `room` in the line `has_room` returns."""
        self._pace = pace
        self._room = room
        self._may_come = asyncio.Event()
        self._on_throttled = on_throttled
        self._numbers = itertools.count(1)
        self._ties = itertools.count()
        self._line: list[tuple[Place, int, asyncio.Future[int]]] = []
        self._timer: asyncio.Handle | None = None
        self._open = False
        self._closed: str | None = None

    def arrive(self) -> int:
        """The number of a message that is to be sent, higher than that of every one before."""
        return next(self._numbers)

    async def has_room(self) -> None:
        """Return when who joins now would not wait for long; or at once when there is no bind for long, to be told so."""
        await self._may_come.wait()

    def _tell_room(self) -> None:
        if self._closed is not None or (self._open and len(self._line) < self._room):
            self._may_come.set()
        else:
            self._may_come.clear()

    def join(self, place: Place) -> asyncio.Future[int]:
        """Take that place in the line; the future is to be given to `turn`, or cancelled.

        Nobody is let pass before the loop's next iteration: all that join in one leave in the order of their places.
        """
        turn: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        if self._closed is not None:
            turn.set_exception(GateClosed(self._closed))
            return turn
        heapq.heappush(self._line, (place, next(self._ties), turn))
        self._tell_room()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_soon(self._let_pass)
        return turn

    async def turn(self, joined: asyncio.Future[int]) -> int:
        """Return when it may leave, with what `taken` wants to be told.

        Exactly one call of `taken`, `pushed_back` or `gave_up` is to follow. Raises GateClosed.
        """
        try:
            return await joined
        except asyncio.CancelledError:
            self.leave_line(joined)
            raise

    def leave_line(self, joined: asyncio.Future[int]) -> None:
        """It will not be sent after all."""
        if not joined.cancel() and not joined.cancelled() and joined.exception() is None:
            self.gave_up()  # it was let pass a moment ago

    def taken(self, left_in: int) -> None:
        throttled = self._pace.throttled
        self._pace.taken(left_in)
        if throttled and not self._pace.throttled:
            self._on_throttled(False)
        self._let_pass()

    def gave_up(self) -> None:
        self._pace.gave_up()
        self._let_pass()

    def pushed_back(self) -> None:
        throttled = self._pace.throttled
        self._pace.pushed_back(_now())
        if not throttled and self._pace.throttled:
            self._on_throttled(True)
        self._let_pass()

    def open(self) -> None:
        """There is a bind."""
        self._open, self._closed = True, None
        self._let_pass()

    def hold(self) -> None:
        """There is none for now: all wait."""
        self._open = False
        self._tell_room()

    def close(self, reason: str) -> None:
        """There is none for long: all that wait, and all that come, raise GateClosed."""
        self._open, self._closed = False, reason
        line, self._line = self._line, []
        for _, _, turn in line:
            if not turn.done():
                turn.set_exception(GateClosed(reason))
        self._tell_room()

    def _let_pass(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        self._pass_those_who_may()
        self._tell_room()

    def _pass_those_who_may(self) -> None:
        while self._line and self._open:
            if self._line[0][2].done():  # cancelled
                heapq.heappop(self._line)
                continue
            now = _now()
            wait = self._pace.wait(now)
            if wait is None:
                return
            if wait > 0:
                self._timer = asyncio.get_running_loop().call_later(wait, self._let_pass)
                return
            _, _, turn = heapq.heappop(self._line)
            turn.set_result(self._pace.leave(now))


def _now() -> float:
    return asyncio.get_running_loop().time()
