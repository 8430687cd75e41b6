"""After a restart was asked for: until the process that was there before has ended."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable

from junebug.amqp.rpc import RpcClient
from junebug.errors import BrokerUnavailable, NotRunning

PATIENCE = 5.0
"""Seconds that a restart is waited for."""
ANSWER, PAUSE = 0.5, 0.05
"""Seconds for an answer, and until the next question."""


async def all_ended(asking: RpcClient, units: Iterable[str], generation: float = math.inf) -> None:
    """`ended`, of all of these."""
    await asyncio.gather(*(ended(asking, unit, generation) for unit in units))


async def ended(asking: RpcClient, id: str, generation: float = math.inf) -> None:
    """Return when no process of an older generation (of any, where none is said) holds the channel's port or bind, or routes as
    the router did: who connects after our answer is not cut off by what he asked for. In bounded time.
    """
    ends = asyncio.get_running_loop().time() + PATIENCE
    while asyncio.get_running_loop().time() < ends:
        try:
            if await asking.generation(id, ANSWER) >= generation:
                return
        except TimeoutError:
            continue  # it may have ended over the question
        except (NotRunning, BrokerUnavailable):
            return
        await asyncio.sleep(PAUSE)
