"""Order and pace of what leaves: who came first goes first, throttled or not."""

from __future__ import annotations

import asyncio

import pytest

from junebug.transports.smpp.submit_scheduler import Gate, GateClosed, Pace, Place


def test_the_window_bounds_how_many_are_under_way() -> None:
    pace = Pace(2, 0, 0.1)
    assert pace.wait(0) == 0
    left = [pace.leave(0), pace.leave(0)]
    assert pace.wait(0) is None
    pace.taken(left[0])
    assert pace.wait(0) == 0
    pace.gave_up()
    assert pace.under_way == 0


def test_so_many_a_second() -> None:
    pace = Pace(1000, 10, 0.1)
    now, left = 100.0, 0
    while now < 103:
        wait = pace.wait(now)
        assert wait is not None
        if wait == 0:
            pace.leave(now)
            left += 1
        else:
            now += wait + 0.001
    assert 29 <= left <= 31


def test_throttled_pauses_then_tries_one_alone() -> None:
    pace = Pace(10, 0, 0.1)
    left = [pace.leave(0) for _ in range(4)]
    pace.pushed_back(1.0)
    pace.taken(left[1])  # it left before: it does not end the throttling
    assert pace.throttled
    pace.pushed_back(1.01)
    pace.pushed_back(1.02)
    assert pace.wait(1.05) == pytest.approx(0.05)
    assert pace.wait(1.1) == 0
    probe = pace.leave(1.1)
    assert pace.wait(1.2) is None
    pace.taken(probe)
    assert not pace.throttled
    assert pace.wait(1.2) == 0


def test_throttled_again_and_again_the_pause_grows() -> None:
    pace, now, pauses = Pace(10, 0, 0.1), 0.0, []
    for _ in range(8):
        pace.leave(now)
        pace.pushed_back(now)
        pause = pace.wait(now)
        assert pause
        pauses.append(round(pause, 2))
        now += pause
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_after_throttling_fewer_go_at_a_time_then_more() -> None:
    pace = Pace(8, 0, 0.1)
    for _ in range(8):
        pace.leave(0)
    for _ in range(8):
        pace.pushed_back(0)
    probe = pace.leave(1)
    pace.taken(probe)
    at_once = 0
    while pace.wait(1) == 0:
        pace.leave(1)
        at_once += 1
    assert at_once == 4
    for _ in range(200):
        pace.taken(probe)
        pace.leave(2)
    while pace.wait(2) == 0:
        pace.leave(2)
        at_once += 1
    assert at_once == 8


async def test_they_leave_as_they_came() -> None:
    gate, told = Gate(Pace(2, 0, 0.01), lambda _: None), []
    gate.open()

    async def pass_through(number: int, joined: asyncio.Future[int]) -> None:
        left = await gate.turn(joined)
        told.append(number)
        await asyncio.sleep(0)
        gate.taken(left)

    joined = [(number, gate.join(Place(-1, number, 1))) for number in (3, 1, 2, 5, 4)]
    await asyncio.gather(*(pass_through(number, turn) for number, turn in joined))
    assert told == [1, 2, 3, 4, 5]


async def test_nobody_comes_while_the_line_is_long_or_there_is_no_bind() -> None:
    gate = Gate(Pace(1, 0, 0.01), lambda _: None, room=2)

    def has_room() -> bool:
        return gate._may_come.is_set()

    assert not has_room()
    gate.open()
    assert has_room()
    left = await gate.turn(gate.join(Place(-1, 1, 1)))
    line = [gate.join(Place(-1, number, 1)) for number in (2, 3)]
    assert not has_room()
    gate.taken(left)
    await gate.turn(line[0])
    assert has_room()
    gate.hold()
    assert not has_room()
    gate.close("down for long")
    await asyncio.wait_for(gate.has_room(), 10)
    with pytest.raises(GateClosed):
        await gate.turn(line[1])


async def test_the_urgent_leave_first() -> None:
    gate, told = Gate(Pace(1, 0, 0.01), lambda _: None), []
    joined = [(urgency, gate.join(Place(urgency, number, 1))) for number, urgency in enumerate((-1, -3, -5))]
    gate.open()
    for urgency, turn in reversed(joined):
        left = await gate.turn(turn)
        told.append(urgency)
        gate.taken(left)
    assert told == [-5, -3, -1]


async def test_a_throttled_one_goes_before_all_others() -> None:
    changes: list[bool] = []
    gate = Gate(Pace(1, 0, 0.01), changes.append)
    gate.open()
    first = gate.join(Place(-1, 1, 1))
    second = gate.join(Place(-1, 2, 1))
    await gate.turn(first)
    gate.pushed_back()
    again = gate.join(Place(-1, 1, 1))
    left = await gate.turn(again)
    assert not second.done()
    gate.taken(left)
    gate.taken(await gate.turn(second))
    assert changes == [True, False]


async def test_without_a_bind_nobody_passes() -> None:
    gate = Gate(Pace(1, 0, 0.01), lambda _: None)
    first, second = gate.join(Place(-1, 1, 1)), gate.join(Place(-1, 2, 1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not first.done()
    gate.open()
    left = await gate.turn(first)
    gate.hold()
    gate.taken(left)
    assert not second.done()
    gate.close("no bind for long")
    for joined in (second, gate.join(Place(-1, 3, 1))):
        with pytest.raises(GateClosed, match="no bind for long"):
            await gate.turn(joined)
    gate.open()
    await gate.turn(gate.join(Place(-1, 4, 1)))


async def test_who_is_cancelled_leaves_no_hole() -> None:
    pace = Pace(1, 0, 0.01)
    gate = Gate(pace, lambda _: None)
    gate.open()
    first, second = gate.join(Place(-1, 1, 1)), gate.join(Place(-1, 2, 1))
    waiting = asyncio.create_task(gate.turn(second))
    left = await gate.turn(first)
    waiting.cancel()
    await asyncio.wait([waiting])
    third = gate.join(Place(-1, 3, 1))
    gate.taken(left)
    await gate.turn(third)
    gate.leave_line(gate.join(Place(-1, 4, 1)))
    assert pace.under_way == 1
