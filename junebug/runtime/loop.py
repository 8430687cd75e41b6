"""The event loop (uvloop's where it is installed), its one odd error, how a task is ended for certain, and time limits of a task
that is being ended.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

try:
    from uvloop import new_event_loop
except ImportError:  # PyPy: the standard loop does
    from asyncio import new_event_loop  # type: ignore[assignment]

T = TypeVar("T")

YOUNG_OBJECTS = 20_000
"""That are made before garbage is looked for: of the few megabytes that hundreds of messages in hand are made of, nothing is
garbage, and to look for it after each 700 costs 7 % of a channel under load.
"""


def _mend_timeout() -> None:
    """`asyncio.timeout` in a task that is cancelled already raises TimeoutError. Before Python 3.11.3 (Debian 12 has 3.11.2) it
    raised CancelledError, so what a process does at its end ended with the first wait that took too long (gh-102780). For the
    libraries, too.
    """
    enter, leave = asyncio.Timeout.__aenter__, asyncio.Timeout.__aexit__

    @functools.wraps(enter)
    async def mended_enter(self: Any) -> asyncio.Timeout:
        entered = await enter(self)
        self._before = self._task.cancelling()
        return entered

    @functools.wraps(leave)
    async def mended_leave(self: Any, kind: type[BaseException] | None, error: BaseException | None, *trace: Any) -> None:
        await leave(self, kind, error, *trace)
        if self.expired() and self._task.cancelling() <= self._before and kind is asyncio.CancelledError:
            raise TimeoutError from error

    asyncio.Timeout.__aenter__, asyncio.Timeout.__aexit__ = mended_enter, mended_leave  # type: ignore[method-assign, assignment]


if sys.version_info < (3, 11, 3):
    _mend_timeout()


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run until done; every process of Junebug has one call of this."""
    gc.set_threshold(YOUNG_OBJECTS)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(work)


def is_transport_gone(error: BaseException) -> bool:
    """Whether this is uvloop's answer to the use of a transport that the other side has reset: a bare RuntimeError.

    (uvloop/handles/handle.pyx, _ensure_alive; basetransport.pyx, _wakeup_waiter.) Any other RuntimeError is our own bug.
    """
    text = str(error)
    return type(error) is RuntimeError and (
        (text.startswith("unable to perform operation on <") and text.endswith("; the handler is closed"))
        or text == "closed Transport handle and unset waiter"
    )


async def call_again(work: Callable[[], float]) -> None:
    """Call it, and again after so many seconds as it returns, until it raises; that is raised. One timer, which wakes no task."""
    loop = asyncio.get_running_loop()
    failure: asyncio.Future[None] = loop.create_future()
    timer: asyncio.Handle

    def call() -> None:
        nonlocal timer
        try:
            timer = loop.call_later(work(), call)
        except Exception as error:
            failure.set_exception(error)

    timer = loop.call_soon(call)
    try:
        await failure
    finally:
        timer.cancel()


async def end_task(task: asyncio.Task[Any]) -> None:
    """Cancel the task and wait for its end; what it raised is its own affair.

    Once is not always enough: in Python 3.11 `wait_for`, which libraries use, may swallow a cancellation.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=0.5)
    if not task.cancelled():
        task.exception()
