"""Waiting for what a test expects: asked again and again, with a deadline that a machine under load is no reason to miss."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any

DEADLINE = 60.0
"""Seconds that anything may take in these tests."""
SHARE = 0.1
"""How much of the waiting may be spent asking: two cores have more to do."""
POLL, LONGEST_POLL = 0.01, 0.5


def takes_less(seconds: float, work: Callable[[], object]) -> bool:
    """Of CPU: the best of a few tries, as others share the caches and the cores."""

    def cpu() -> float:
        began = time.process_time()
        work()
        return time.process_time() - began

    return any(cpu() < seconds for _ in range(5))


async def eventually(check: Callable[[], Any], timeout: float = DEADLINE, what: str = "") -> Any:
    """The first true answer of `check` (a function or a coroutine function).

    An AssertionError of its own counts as not yet.
    """
    deadline = time.monotonic() + timeout
    while True:
        found: Any
        problem: BaseException | None = None
        asked = time.monotonic()
        try:
            found = check()
            if inspect.isawaitable(found):
                found = await found
        except AssertionError as error:
            found, problem = None, error
        if found:
            return found
        pause = _pause(asked, deadline, timeout, what, found, problem)
        await asyncio.sleep(pause)


def eventually_blocking(check: Callable[[], Any], timeout: float = DEADLINE, what: str = "") -> Any:
    """The same for a test without an event loop."""
    deadline = time.monotonic() + timeout
    while True:
        asked = time.monotonic()
        if found := check():
            return found
        time.sleep(_pause(asked, deadline, timeout, what, found, None))


def _pause(
    asked: float, deadline: float, timeout: float, what: str, found: object, problem: BaseException | None
) -> float:
    """Seconds until it is asked again. Raises when there is no time left."""
    now = time.monotonic()
    if now > deadline:
        raise AssertionError(f"{what or 'it'} did not come within {timeout:g} s (last: {found!r})") from problem
    return min(max(POLL, (now - asked) / SHARE), LONGEST_POLL)
