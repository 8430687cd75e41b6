"""A process whose lease is over: it ends where it stands, or the kernel ends it, also while it is stopped."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import NoReturn

from junebug.runtime import fence
from junebug.runtime.heartbeat import Heartbeat, Heartbeats
from tests.polling import eventually_blocking


def in_fork(heartbeat: Heartbeat, work: Callable[[], None]) -> int:
    """The pid of a process that has adopted the heartbeat and does this."""

    def run() -> NoReturn:
        try:
            fence.adopt(heartbeat)
            work()
        finally:
            os._exit(1)

    pid = os.fork()
    return pid or run()


def ending(pid: int) -> int:
    """How it ended: an exit code, or less than 0: a signal."""

    def look() -> tuple[int] | None:
        found, status = os.waitpid(pid, os.WNOHANG)
        return (os.waitstatus_to_exitcode(status),) if found else None

    return eventually_blocking(look)[0]


def test_without_a_lease_it_works_for_ever() -> None:
    fence.check()
    fence.arm()
    assert not fence.is_alone()


def test_it_ends_with_its_first_look_after_its_lease() -> None:
    heartbeat = Heartbeats().add()
    heartbeat.lease(fence.now() + 0.3)
    began = fence.now()

    def look() -> None:
        while True:
            fence.check()

    assert ending(in_fork(heartbeat, look)) == fence.EXIT_FENCED
    assert fence.now() - began >= 0.3


def test_it_does_not_begin_when_its_lease_is_over() -> None:
    heartbeat = Heartbeats().add()
    assert ending(in_fork(heartbeat, lambda: time.sleep(60))) == fence.EXIT_FENCED


def test_the_kernel_ends_it_when_it_hangs_or_is_stopped() -> None:
    for work in (lambda: time.sleep(60), lambda: os.kill(os.getpid(), signal.SIGSTOP)):
        heartbeat = Heartbeats().add()
        heartbeat.lease(fence.now() + 1.0)  # in which it is forked and arms, on a loaded machine, too

        def hang(work: Callable[[], None] = work) -> None:
            fence.arm()
            work()

        assert ending(in_fork(heartbeat, hang)) == -signal.SIGKILL


def test_a_lease_that_is_renewed_goes_on() -> None:
    heartbeat = Heartbeats().add()
    heartbeat.lease(fence.now() + 0.3)

    def work() -> None:
        fence.arm()
        heartbeat.lease(fence.now() + 60, alone=True)
        fence.arm()
        time.sleep(0.5)
        fence.check()
        os._exit(7 if fence.is_alone() else 8)

    assert ending(in_fork(heartbeat, work)) == 7
