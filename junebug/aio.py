"""Run a coroutine in an event loop of its own: uvloop's where it is installed."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

try:
    import uvloop
except ImportError:  # PyPy, Windows: the standard loop does
    uvloop = None

T = TypeVar("T")


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run until done; every process of Junebug has one call of this."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop if uvloop else None) as runner:
        return runner.run(work)
