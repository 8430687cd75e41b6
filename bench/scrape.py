"""What a scrape costs: `GET /metrics` of channels that have counted everything, from an API process alone, and how long other
requests wait beside it. `python -m bench scrape --channels N`.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Any

from bench.junebug import Junebug, Servers
from bench.throughput import cpu_of
from junebug.config.declaration import RedisSettings, Settings
from junebug.model.messages import Status
from junebug.runtime import families
from junebug.runtime.metrics import Batch, Metrics
from junebug.stores import Stores

SCRAPES = 10
AT_ONCE = 8
COMPONENTS = ("worker", "amqp", "redis", "smpp", "callbacks")


def busy_fields() -> dict[str, int]:
    """What an SMPP channel has counted that has seen everything but other statuses than three."""
    fields = dict.fromkeys(families.zeros(is_router=False), 7)
    for to in families.TO[:3]:
        fields |= {families.CALLBACKS.field(to, result): 7 for result in families.RESULTS}
        fields |= dict.fromkeys(families.CALLBACK_SECONDS.fields(to), 7)
    fields |= dict.fromkeys(families.RESPONSE_SECONDS.fields(), 7) | dict.fromkeys(families.LOOP_LAG.fields("worker"), 7)
    return fields | {families.RESPONSES.field(status): 7 for status in ("ESME_ROK", "ESME_RTHROTTLED", "ESME_RSUBMITFAIL")}


async def measure(servers: Servers, channels: int) -> dict[str, Any]:
    settings = Settings(redis=RedisSettings(host="127.0.0.1", port=servers.redis_port))
    async with Junebug(servers, command="junebug-api") as junebug:
        stores = Stores(settings)
        slots = asyncio.Semaphore(AT_ONCE)

        async def make(number: int) -> None:
            async with slots:
                body = {"type": "loopback", "config": {}, "mo_url": "http://127.0.0.1:1/"}
                channel = str((await junebug.call("POST", "/channels/", body))["result"]["id"])
                await stores.metrics.save(Metrics(channel), Batch(f"p{number}", 1, {channel: busy_fields()}, channel, {}))
                for component in COMPONENTS:
                    await stores.statuses.put(
                        Status(channel_id=channel, component=component, status="ok", type="fine", message="It works")
                    )

        await asyncio.gather(*map(make, range(channels)))
        seconds, octets, beside = [], 0, list[float]()
        processes = {"api": [junebug.pid], **servers.processes()}
        before = cpu_of(processes)
        for _ in range(SCRAPES):
            began = time.perf_counter()
            asking = asyncio.create_task(_scrape(junebug))
            while not asking.done():
                asked = time.perf_counter()
                async with junebug.connection() as connection:
                    await connection.request("GET", "/health/live")
                beside.append(time.perf_counter() - asked)
            octets = await asking
            seconds.append(time.perf_counter() - began)
        await stores.close()
        used = {name: seconds - before[name] for name, seconds in cpu_of(processes).items()}
        return {
            "channels": channels,
            "median_s": round(statistics.median(seconds), 3), "max_s": round(max(seconds), 3),
            "megabytes": round(octets / 1e6, 2),
            "cpu_ms": {name: round(each / SCRAPES * 1000, 1) for name, each in used.items()},
            "requests_beside_max_ms": round(max(beside) * 1000, 1),
            "requests_beside_median_ms": round(statistics.median(beside) * 1000, 1),
        }  # fmt: skip


async def _scrape(junebug: Junebug) -> int:
    async with junebug.connection() as connection:
        status, answer = await connection.request("GET", "/metrics")
    assert status == 200
    return len(answer)
