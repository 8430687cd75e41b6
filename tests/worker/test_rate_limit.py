"""A channel's rate limit, without a clock."""

from __future__ import annotations

import asyncio

import pytest

from junebug.errors import NotSent
from junebug.worker.outbound.rate_limit import MOST_REMEMBERED, RateLimit, Window, shared


def leaving(window: Window, start: float, seconds: float) -> list[float]:
    """When they leave, as fast as they may, in so many seconds."""
    now, left = start, []
    while now < start + seconds:
        pause = window.wait(now)
        if pause <= 0:
            window.leave(now)
            left.append(now)
        else:
            now += pause
    return left


@pytest.mark.parametrize(("count", "seconds"), [(1, 1.0), (10, 1.0), (5, 60.0), (7, 0.5), (5_000, 10.0)])
def test_no_window_sees_more_than_its_count(count: int, seconds: float) -> None:
    left = leaving(Window(count, seconds, now=100.0), 100.0, seconds * 2)
    for first in left[:200]:
        assert sum(first <= time < first + seconds * 0.999 for time in left) <= count
    assert len(left) >= count * 0.99


def test_after_idle_time_the_whole_count_may_leave_at_once() -> None:
    window = Window(10, 60.0, now=0.0)
    assert [window.wait(100.0) for _ in range(10) if window.leave(100.0) is None] == [0.0] * 9 + [60.0]


def test_a_restart_is_no_way_to_a_second_burst() -> None:
    assert len(leaving(Window(10, 60.0, now=0.0), 0.0, 30.0)) <= 6


def test_a_huge_count_costs_no_more_memory() -> None:
    assert len(Window(2**31 - 1, 1.0, now=0.0)._left) <= MOST_REMEMBERED


async def test_the_urgent_leave_first_and_equals_in_their_order() -> None:
    limit = RateLimit()
    limit.set(1, 3600)
    left: list[str] = []

    async def leave(name: str, priority: int) -> None:
        await limit.permit(priority)
        left.append(name)

    waiting = [asyncio.create_task(leave(*each)) for each in (("a", 1), ("b", 3), ("c", 5), ("d", 1), ("e", 5))]
    await asyncio.sleep(0)
    waiting.pop(3).cancel()
    assert left == []
    limit.set(1000, 0.001)
    await asyncio.wait_for(asyncio.gather(*waiting), 10)
    assert left == ["c", "e", "b", "a"]


async def test_closing_ends_the_wait() -> None:
    limit = RateLimit()
    limit.set(1, 3600)
    waiting = asyncio.create_task(limit.permit(1))
    await asyncio.sleep(0)
    limit.close()
    for permit in (waiting, limit.permit(1)):
        with pytest.raises(NotSent):
            await asyncio.wait_for(permit, 10)


@pytest.mark.parametrize(("count", "seconds", "shards", "parts"), [
    (10, 1, 1, [(10, 1)]),
    (10, 1, 3, [(4, 1), (3, 1), (3, 1)]),
    (3, 60, 3, [(1, 60)] * 3),
    (1, 1, 4, [(1, 4.0)] * 4),
    (3, 2, 4, [(1, 8 / 3)] * 4),
    (None, None, 2, [(None, None)] * 2),
    (0, 5, 2, [(0, 5)] * 2),
])  # fmt: skip
def test_what_the_shards_may_is_together_what_the_channel_may(
    count: int | None, seconds: float | None, shards: int, parts: list[tuple[int | None, float | None]]
) -> None:
    assert [shared(count, seconds, shard, shards) for shard in range(shards)] == parts
    if count and seconds:
        assert sum((some or 0) / (each or 1) for some, each in parts) == pytest.approx(count / seconds)
