"""Time limits of many tasks by one timer: what `asyncio.timeout` promises, they keep."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import nullcontext

import pytest

from junebug.runtime.time_limits import MOST_LENGTHS, TimeLimits
from tests.tables import rows

LONG, SHORT = 60.0, 0.01
Work = Callable[[], Awaitable[None]]


async def forever() -> None:
    await asyncio.Event().wait()


async def swallow_and_end() -> None:
    try:
        await forever()
    except asyncio.CancelledError:
        pass


async def fail_when_cancelled() -> None:
    try:
        await forever()
    except asyncio.CancelledError:
        raise KeyError("closing failed") from None


async def own_timeout() -> None:
    raise TimeoutError("its own")


@rows(("work", "raised", "expired"), [
    (forever, TimeoutError, True),
    (swallow_and_end, None, True),
    (fail_when_cancelled, KeyError, True),
    (own_timeout, TimeoutError, False),
])  # fmt: skip
async def test_what_comes_of_what_takes_too_long(work: Work, raised: type[Exception] | None, expired: bool) -> None:
    limit = TimeLimits()(SHORT)
    with pytest.raises(raised) if raised else nullcontext(), limit:
        await work()
    assert limit.expired is expired
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)  # nothing is left to be thrown into it


async def test_who_is_cancelled_by_another_is_cancelled() -> None:
    limits = TimeLimits()

    async def work() -> None:
        with limits(LONG):
            await forever()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_cancelled_and_too_late_at_the_same_time_is_cancelled() -> None:
    limit = TimeLimits()(LONG)

    async def work() -> None:
        with limit:
            await forever()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    limit.expire()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_inner_of_two_ends_alone() -> None:
    limits = TimeLimits()
    with limits(LONG) as outer:
        with pytest.raises(TimeoutError), limits(SHORT) as inner:
            await forever()
        await asyncio.sleep(0)
    assert (inner.expired, outer.expired) == (True, False)


async def test_each_has_its_own_end() -> None:
    """Those that are over in time keep nobody's timer, and hide nobody behind them."""
    limits, ended = TimeLimits(), []

    async def work(name: int, work: Work) -> None:
        try:
            with limits(SHORT * 3):
                await work()
        except TimeoutError:
            ended.append(name)

    async def some_turns() -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    async with asyncio.timeout(LONG):
        for round in range(3):
            some = (forever, lambda: asyncio.sleep(0), forever, some_turns)
            await asyncio.gather(*(work(10 * round + n, each) for n, each in enumerate(some)))
    assert ended == [0, 2, 10, 12, 20, 22]


async def test_what_is_over_is_not_kept() -> None:
    limits = TimeLimits()
    for _ in range(1000):
        with limits(LONG):
            pass
    assert len(limits._lines[LONG]._running) == 1
    for length in range(10 * MOST_LENGTHS):
        with limits(SHORT + length * 1e-9):
            pass
        await asyncio.sleep(0)

    async with asyncio.timeout(LONG):
        while any(line.is_used() for length, line in limits._lines.items() if length < LONG):
            await asyncio.sleep(SHORT)
    with limits(1.0):
        pass
    assert len(limits._lines) <= MOST_LENGTHS
