"""A channel's rate limit, without a clock."""

from __future__ import annotations

import pytest

from junebug.worker.rate_limit import MOST_REMEMBERED, Window


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


@pytest.mark.parametrize(("count", "seconds"), [(1, 1.0), (10, 1.0), (5, 60.0), (7, 0.5), (50_000, 10.0)])
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
