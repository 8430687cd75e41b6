"""Order and window of what leaves: who came first goes first, throttled or not."""

from __future__ import annotations

import asyncio

import pytest

from junebug.smpp.window import Window
from junebug.transports.smpp.submit_scheduler import SchedulerClosed, SubmitScheduler, Ticket


def test_it_bounds_how_many_are_unanswered() -> None:
    window = Window(2, 0, 0.1)
    assert window.wait(0) == 0
    left = [window.leave(0), window.leave(0)]
    assert window.wait(0) is None
    window.taken(left[0])
    assert window.wait(0) == 0
    window.lost()
    assert window.unanswered == 0


def test_so_many_a_second() -> None:
    window = Window(1000, 10, 0.1)
    now, left = 100.0, 0
    while now < 103:
        wait = window.wait(now)
        assert wait is not None
        if wait == 0:
            window.leave(now)
            left += 1
        else:
            now += wait + 0.001
    assert 29 <= left <= 31


def test_the_slowest_pace_is_one_that_a_timer_takes() -> None:
    window = Window(10, 1e-320)
    window.leave(0)
    assert 0 < (window.wait(0) or 0) <= 1e8


def test_throttled_pauses_then_tries_one_alone() -> None:
    window = Window(10, 0, 0.1)
    left = [window.leave(0) for _ in range(4)]
    window.throttle(1.0)
    window.taken(left[1])  # it left before: it does not end the throttling
    assert window.throttled
    window.throttle(1.01)
    window.throttle(1.02)
    assert window.wait(1.05) == pytest.approx(0.05)
    assert window.wait(1.1) == 0
    probe = window.leave(1.1)
    assert window.wait(1.2) is None
    window.taken(probe)
    assert not window.throttled
    assert window.wait(1.2) == 0


def test_throttled_again_and_again_the_pause_grows() -> None:
    window, now, pauses = Window(10, 0, 0.1), 0.0, []
    for _ in range(8):
        window.leave(now)
        window.throttle(now)
        pause = window.wait(now)
        assert pause
        pauses.append(round(pause, 2))
        now += pause
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_after_throttling_fewer_go_at_a_time_then_more() -> None:
    window = Window(8, 0, 0.1)
    for _ in range(8):
        window.leave(0)
    for _ in range(8):
        window.throttle(0)
    probe = window.leave(1)
    window.taken(probe)
    at_once = 0
    while window.wait(1) == 0:
        window.leave(1)
        at_once += 1
    assert at_once == 4
    for _ in range(200):
        window.taken(probe)
        window.leave(2)
    while window.wait(2) == 0:
        window.leave(2)
        at_once += 1
    assert at_once == 8


async def test_they_leave_as_they_came() -> None:
    scheduler, told = SubmitScheduler(Window(2), lambda _: None), []
    scheduler.open()

    async def pass_through(ticket: Ticket) -> None:
        await scheduler.turn(ticket)
        told.append(ticket.message)
        await asyncio.sleep(0)
        scheduler.taken(ticket)

    tickets = [Ticket(-1, number, 1) for number in (3, 1, 2, 5, 4)]
    for ticket in tickets:
        scheduler.enqueue(ticket)
    await asyncio.gather(*map(pass_through, tickets))
    assert told == [1, 2, 3, 4, 5]


def queued(scheduler: SubmitScheduler, message: int, urgency: int = -1) -> Ticket:
    ticket = Ticket(urgency, message, 1)
    scheduler.enqueue(ticket)
    return ticket


async def test_no_more_are_unanswered_than_the_window_has_places() -> None:
    scheduler = SubmitScheduler(Window(3), lambda _: None)
    scheduler.open()
    tickets = [queued(scheduler, number) for number in range(10)]
    for number, ticket in enumerate(tickets):
        await scheduler.turn(ticket)
        if number >= 2:
            assert not any(later.may_leave.done() for later in tickets[number + 1 :])
            scheduler.taken(tickets[number - 2])


async def test_nobody_comes_while_the_line_is_long_or_there_is_no_bind() -> None:
    scheduler = SubmitScheduler(Window(1), lambda _: None, room=2)

    def has_room() -> bool:
        return scheduler._may_come.is_set()

    assert not has_room()
    scheduler.open()
    assert has_room()
    first = queued(scheduler, 1)
    await scheduler.turn(first)
    line = [queued(scheduler, number) for number in (2, 3)]
    assert not has_room()
    scheduler.taken(first)
    await scheduler.turn(line[0])
    assert has_room()
    scheduler.hold()
    assert not has_room()
    scheduler.close("down for long")
    await asyncio.wait_for(scheduler.has_room(), 10)
    with pytest.raises(SchedulerClosed):
        await scheduler.turn(line[1])


async def test_the_urgent_leave_first() -> None:
    scheduler, told = SubmitScheduler(Window(1), lambda _: None), []
    tickets = [queued(scheduler, number, urgency) for number, urgency in enumerate((-1, -3, -5))]
    scheduler.open()
    for ticket in reversed(tickets):
        await scheduler.turn(ticket)
        told.append(ticket.urgency)
        scheduler.taken(ticket)
    assert told == [-5, -3, -1]


async def test_a_throttled_one_goes_before_all_others() -> None:
    changes: list[bool] = []
    scheduler = SubmitScheduler(Window(1, throttle_delay=0.01), changes.append)
    scheduler.open()
    first, second = queued(scheduler, 1), queued(scheduler, 2)
    await scheduler.turn(first)
    scheduler.throttled(first)
    await scheduler.turn(first)
    assert not second.may_leave.done()
    scheduler.taken(first)
    await scheduler.turn(second)
    scheduler.taken(second)
    assert changes == [True, False]


async def test_without_a_bind_nobody_leaves() -> None:
    scheduler = SubmitScheduler(Window(1), lambda _: None)
    first, second = queued(scheduler, 1), queued(scheduler, 2)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not first.may_leave.done()
    scheduler.open()
    await scheduler.turn(first)
    scheduler.hold()
    scheduler.taken(first)
    assert not second.may_leave.done()
    scheduler.close("no bind for long")
    for ticket in (second, queued(scheduler, 3)):
        with pytest.raises(SchedulerClosed, match="no bind for long"):
            await scheduler.turn(ticket)
    scheduler.open()
    await scheduler.turn(queued(scheduler, 4))


async def test_who_is_cancelled_leaves_no_hole() -> None:
    window = Window(1)
    scheduler = SubmitScheduler(window, lambda _: None)
    scheduler.open()
    first, second = queued(scheduler, 1), queued(scheduler, 2)
    waiting = asyncio.create_task(scheduler.turn(second))
    await scheduler.turn(first)
    waiting.cancel()
    await asyncio.wait([waiting])
    third = queued(scheduler, 3)
    scheduler.taken(first)
    await scheduler.turn(third)
    let_go = asyncio.create_task(scheduler.turn(queued(scheduler, 4)))
    await asyncio.sleep(0)
    scheduler.taken(third)
    assert window.unanswered == 1
    let_go.cancel()  # before it saw that it may leave
    await asyncio.wait([let_go])
    assert window.unanswered == 0


async def test_who_is_cancelled_and_comes_again_takes_its_own_place() -> None:
    """The message is sent again, with its number, while its withdrawn ticket is still in the line."""
    scheduler = SubmitScheduler(Window(1), lambda _: None)
    scheduler.open()
    first, second, third = (queued(scheduler, number) for number in (1, 2, 3))
    await scheduler.turn(first)
    waiting = asyncio.create_task(scheduler.turn(second))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    again = [queued(scheduler, 2), queued(scheduler, 2)]
    for before, ticket in ((first, again[0]), (again[0], again[1]), (again[1], third)):
        scheduler.taken(before)
        await scheduler.turn(ticket)
