"""Whether this process may still work: its lease, which lies in memory that it shares with the supervisor.

Past it, it is over at once: `check` ends the process where it stands, and the kernel does the same at that moment if the process
hangs or is stopped (a timer of its own, `arm`). The kernel then closes its links: nothing more is sent, and RabbitMQ has back
what was in hand. A process that has no lease (junebug-worker, the API) works for ever.

The clock is the same in all processes of a machine, is never set, and counts while the machine sleeps.
Neighbours: heartbeat.py has the memory; supervisor/leases.py renews the lease and leaves time for an orderly stop before this.
"""

from __future__ import annotations

import ctypes
import functools
import math
import os
import signal
import time
from array import array
from collections.abc import Callable, Sequence
from typing import NoReturn

from junebug.runtime.heartbeat import Heartbeat

EXIT_FENCED = 72

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_gettime = time.clock_gettime
now: Callable[[], float] = functools.partial(time.clock_gettime, _CLOCK)
"""Seconds; no system call (the kernel's vDSO)."""

_lease: Sequence[float] = array("d", [math.inf, 0.0])


def adopt(heartbeat: Heartbeat) -> None:
    """This process, which was just forked, works as long as its place there says."""
    global _lease
    _lease = heartbeat.shared()
    check()


def check() -> None:
    """To be called before anything leaves. Returns while the lease lasts."""
    if _gettime(_CLOCK) > _lease[0]:
        leave("its lease is over")


def is_alone() -> bool:
    """Whether the lease holds only while this process is connected to RabbitMQ, which then alone keeps others away."""
    return bool(_lease[1])


def leave(why: str) -> NoReturn:
    """End at once; nothing is written, flushed or handed back on the way."""
    os.write(2, f"pid {os.getpid()} ends at once: {why}\n".encode())
    os._exit(EXIT_FENCED)


# --- for a process that does not come to check ------------------------------------------------------------------------


class _Event(ctypes.Structure):
    """struct sigevent (sigevent(3type)), as far as a signal needs it."""

    _fields_ = [
        ("value", ctypes.c_void_p), ("number", ctypes.c_int), ("notify", ctypes.c_int), ("rest", ctypes.c_char * 48),
    ]  # fmt: skip


class _Setting(ctypes.Structure):
    """struct itimerspec (timer_settime(2))."""

    _fields_ = [(name, ctypes.c_long) for name in ("interval", "interval_ns", "seconds", "nanoseconds")]


_SIGEV_SIGNAL, _TIMER_ABSTIME = 0, 1
_libc = ctypes.CDLL(None, use_errno=True)  # loaded here: not in each child
_timer: ctypes.c_void_p | None = None
_armed = math.inf


def arm() -> None:
    """Have the kernel kill this process when the lease of this moment is over, also while it hangs or is stopped.

    To be called every few seconds; a system call only when the lease was renewed meanwhile.
    """
    global _timer, _armed
    check()
    until = _lease[0]
    if until == _armed:
        return
    _armed = until
    if _timer is None:
        timer, event = ctypes.c_void_p(), _Event(None, signal.SIGKILL, _SIGEV_SIGNAL)
        if _call("timer_create", _CLOCK, ctypes.byref(event), ctypes.byref(timer)):
            return  # none can be had here: `check` must do
        _timer = timer
    seconds = min(until, 2.0**40)
    setting = _Setting(0, 0, int(seconds), int(seconds % 1 * 1e9))
    _call("timer_settime", _timer, _TIMER_ABSTIME, ctypes.byref(setting), None)


def _call(name: str, *arguments: object) -> bool:
    """Whether it failed."""
    function = getattr(_libc, name, None)
    return function is None or function(*arguments) != 0
