"""What is made good of Python's: time limits of a task that is being ended."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

import junebug.runtime.loop  # noqa: F401 - mends asyncio.timeout of old versions


async def ended(cancellations: int, limit: float) -> str:
    """What somebody who cleans up after so many cancellations is told by a time limit."""
    told = ""

    async def work() -> None:
        nonlocal told
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            with suppress(asyncio.CancelledError):  # of the second one
                await asyncio.sleep(0)
            try:
                async with asyncio.timeout(limit):
                    await asyncio.sleep(0.01)
                told = "in time"
            except TimeoutError:
                told = "too late"
            raise

    task = asyncio.create_task(work())
    for _ in range(cancellations):
        await asyncio.sleep(0)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return told


@pytest.mark.parametrize("cancellations", [1, 2])
@pytest.mark.parametrize(("limit", "told"), [(0.0, "too late"), (0.001, "too late"), (10.0, "in time")])
async def test_a_time_limit_holds_in_a_task_that_is_being_cancelled(cancellations: int, limit: float, told: str) -> None:
    assert await ended(cancellations, limit) == told


async def test_a_cancellation_from_outside_is_none_of_a_time_limits() -> None:
    async def work() -> None:
        async with asyncio.timeout(0.001):
            try:
                await asyncio.Event().wait()
            finally:
                task.cancel()

    task = asyncio.create_task(work())
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_nested_time_limits_are_told_apart() -> None:
    async with asyncio.timeout(10) as outer:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
    assert not outer.expired()
