"""What many channels cost: made, started, at rest, and while their application is down. `python -m bench scale --channels N`.

Telnet channels in one `jb`. CPU is in percent of one core, over WINDOW seconds, by process. Two rows: `well`, the application
never asked; `dead`, nobody listens at the mo_url and two messages wait in each channel, until the application is there.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import statistics
import time
from collections import Counter
from pathlib import Path
from typing import Any

from bench.junebug import Junebug, Servers
from bench.throughput import Pids, cpu_of
from junebug.embedded import free_ports
from junebug.runtime import merging

CHANNEL_PORTS = (10_000, 19_000)
"""Apart from those of embedded and test servers, which may be running beside."""
AT_ONCE = 4
WINDOW = 30.0
STEP = 60.0
SETTLING = 45.0
"""Seconds after a start, or the application's end, before its cost is measured: what is due once is over."""
CHANGES, KILLS, KILL_PAUSE = 20, 5, 12.0
WAITING = 2
"""Callbacks a channel: a peer of telnet comes, and goes."""
TIMEOUT = 600.0
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class Application:
    """Takes every callback at once; how many came in which second."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.seconds: Counter[int] = Counter()

    async def __aenter__(self) -> Application:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port, backlog=4096)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                found = _LENGTH.search(head)
                await reader.readexactly(int(found[1]) if found else 0)
                self.seconds[int(time.monotonic())] += 1
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


async def create_channels(junebug: Junebug, ports: list[int], mo_url: str = "http://127.0.0.1:1/") -> list[str]:
    """A telnet channel for each port, listening."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def create(port: int) -> str:
        async with slots:
            config = {"twisted_endpoint": f"tcp:{port}:interface=127.0.0.1"}
            body = {"type": "telnet", "mo_url": mo_url, "config": config}
            return str((await junebug.call("POST", "/channels/", body))["result"]["id"])

    ids = await asyncio.gather(*map(create, ports))
    await junebug.listening(ports)
    return list(ids)


async def measure(servers: Servers, count: int) -> list[dict[str, Any]]:
    """A row `well` and a row `dead`."""
    ports, (app_port,) = free_ports(count, CHANNEL_PORTS), free_ports(1)
    well: dict[str, Any] = {"application": "well", "channels": count}
    dead: dict[str, Any] = {"application": "dead", "channels": count}
    async with Junebug(servers) as junebug:
        begun = time.perf_counter()
        ids = await create_channels(junebug, ports, f"http://127.0.0.1:{app_port}/mo")
        well["created_s"] = _since(begun)
    begun = time.perf_counter()
    async with Junebug(servers) as junebug:
        await junebug.listening(ports)
        well["restart_s"] = _since(begun)
        await _at_rest(servers, junebug, ids, well)
        well["killed_s"] = await _killed(junebug, ids[0], ports[0])
        for port in ports:
            await _come_and_go(port)
        await _all_wait(junebug, ids)
        await _at_rest(servers, junebug, ids, dead)
    begun = time.perf_counter()
    async with Junebug(servers) as junebug:
        await junebug.listening(ports)
        dead["restart_s"] = _since(begun)
        await asyncio.sleep(SETTLING)
        begun = time.perf_counter()
        async with Application(app_port) as application, asyncio.timeout(TIMEOUT):
            while application.seconds.total() < WAITING * count:
                await asyncio.sleep(0.05)
            dead["delivered_s"] = _since(begun)
            dead["peak_per_s"] = max(application.seconds.values())
            dead["repeats"] = application.seconds.total() - WAITING * count
        for channel in ids:
            await junebug.call("DELETE", f"/channels/{channel}")
    return [well, dead]


async def measure_merging(servers: Servers, count: int) -> list[dict[str, Any]]:
    """Memory a channel while Linux merges it, a row each STEP until it hardly changes any more. Raises RuntimeError."""
    if trouble := merging.off():
        raise RuntimeError(trouble)
    (ksmd,) = (int(path.parent.name) for path in Path("/proc").glob("[0-9]*/comm") if path.read_text() == "ksmd\n")
    ports, rows = free_ports(count, CHANNEL_PORTS), list[dict[str, Any]]()
    async with Junebug(servers, "--merge-memory") as junebug:
        ids = await create_channels(junebug, ports)
        begun = time.perf_counter()
        processes = {"channels": _by_part(servers, junebug)["channels"], "ksmd": [ksmd]}
        while len(rows) < 3 or rows[-1]["pss_mb"] < 0.99 * rows[-3]["pss_mb"]:
            spent = await _spent(processes, STEP)
            rows.append({"channels": count, "after_s": _since(begun), **spent, "pss_mb": _pss(junebug, processes)})
        for channel in ids:
            await junebug.call("DELETE", f"/channels/{channel}")
    return rows


def _since(begun: float) -> float:
    return round(time.perf_counter() - begun, 2)


async def _at_rest(servers: Servers, junebug: Junebug, ids: list[str], row: dict[str, Any]) -> None:
    await asyncio.sleep(SETTLING)
    processes = _by_part(servers, junebug)
    row.update(await _spent(processes, WINDOW))
    row["pss_mb"] = _pss(junebug, processes)
    row["label_ms"] = await _label_changes(junebug, ids)


async def _spent(processes: Pids, seconds: float) -> dict[str, float]:
    """CPU of each part in these seconds, in percent of a core."""
    before, begun = cpu_of(processes), time.monotonic()
    await asyncio.sleep(seconds)
    elapsed = time.monotonic() - begun
    return {f"{name}_%": round((spent - before[name]) / elapsed * 100, 1) for name, spent in cpu_of(processes).items()}


def _pss(junebug: Junebug, processes: Pids) -> float:
    """Of a channel, in MB."""
    channels = list(processes["channels"])
    return round(junebug.pss(channels) / len(channels) / 1e6, 2)


def _by_part(servers: Servers, junebug: Junebug) -> Pids:
    parts: dict[str, list[int]] = {"channels": []}
    for title, pids in junebug.processes().items():
        parts.setdefault("channels" if title.startswith("channel:") else title.partition(":")[0], []).extend(pids)
    return {**parts, **{name: pids for name, pids in servers.processes().items() if name != "epmd"}}


async def _label_changes(junebug: Junebug, ids: list[str]) -> float:
    """Milliseconds until one is answered, the median."""
    took = []
    for number in range(CHANGES):
        begun = time.perf_counter()
        await junebug.call("POST", f"/channels/{ids[number % len(ids)]}", {"label": f"label {begun}"})
        took.append((time.perf_counter() - begun) * 1000)
        await asyncio.sleep(0.1)
    return round(statistics.median(took), 1)


async def _killed(junebug: Junebug, channel: str, port: int) -> float:
    """Seconds until a channel that was killed listens again, the median."""
    took = []
    for _ in range(KILLS):
        await junebug.settled(channel)
        (pid,) = junebug.processes()[f"channel:{channel}"]
        begun = time.perf_counter()
        os.kill(pid, signal.SIGKILL)
        await junebug.gone(pid)
        await junebug.listening([port])
        took.append(time.perf_counter() - begun)
        await asyncio.sleep(KILL_PAUSE)  # the first death of a run is answered at once, later ones wait longer
    return round(statistics.median(took), 3)


async def _come_and_go(port: int) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()
    await writer.wait_closed()


async def _all_wait(junebug: Junebug, ids: list[str]) -> None:
    async with asyncio.timeout(TIMEOUT):
        for channel in ids:
            while (await junebug.call("GET", f"/channels/{channel}"))["result"]["status"]["callbacks_waiting"] < WAITING:
                await asyncio.sleep(0.1)
