"""Messages POSTed one by one over several connections, and how fast they were taken and arrived."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from bench.junebug import Junebug


async def post_messages(
    junebug: Junebug, channel: str, bodies: list[dict[str, Any]], connections: int,
    arrive: Callable[[], Coroutine[Any, Any, None]], patience: float,
) -> dict[str, Any]:  # fmt: skip
    """POST them all; `arrive` returns when the other end has all of them, within `patience` seconds."""
    path = f"/channels/{channel}/messages/"
    left = iter(bodies)
    latencies: list[float] = []

    async def client() -> None:
        async with junebug.connection() as connection:
            for body in left:
                begun = time.perf_counter()
                status, _ = await connection.request("POST", path, body)
                latencies.append(time.perf_counter() - begun)
                assert status == 201, status

    async def arrival() -> float:
        await arrive()
        return time.perf_counter()

    begun = time.perf_counter()
    receiving = asyncio.create_task(arrival())
    await asyncio.gather(*(client() for _ in range(connections)))
    accepted = time.perf_counter() - begun
    arrived = await asyncio.wait_for(receiving, patience) - begun
    latencies.sort()
    return {
        "accepted_per_s": round(len(bodies) / accepted),
        "arrived_per_s": round(len(bodies) / arrived),
        "post_median_ms": round(latencies[len(latencies) // 2] * 1000, 1),
        "post_p99_ms": round(latencies[int(len(latencies) * 0.99)] * 1000, 1),
    }
