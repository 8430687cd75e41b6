"""`make bench`: what a channel costs, how fast channels start and come back, how many messages a second go through.

Runs a real `jb` between a private Redis and RabbitMQ, prints a table and then one line of JSON. Figures, no verdicts:
machines are noisy, so compare ratios of one run. Load generator, Junebug, Redis and RabbitMQ share this machine's cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import sys
import time
from typing import Any

from bench import routing, scale, scrape, smpp, throughput
from bench.junebug import Junebug, Servers
from bench.load import post_messages
from bench.scale import CHANNEL_PORTS, create_channels
from junebug.embedded import free_ports

SCALES = (50, 200)
RESTARTS = 10
MESSAGES = 10_000
CONNECTIONS = 32
ARRIVAL_TIMEOUT = 120.0


async def measure_scale(servers: Servers, count: int) -> dict[str, Any]:
    """Memory of that many channels and the time until all of them listen, from the start of `jb`."""
    ports = free_ports(count, CHANNEL_PORTS)
    async with Junebug(servers) as junebug:
        begun = time.perf_counter()
        ids = await create_channels(junebug, ports)
        created = time.perf_counter() - begun
    begun = time.perf_counter()
    async with Junebug(servers) as junebug:
        api_ready = time.perf_counter() - begun
        await junebug.listening(ports)
        ready = time.perf_counter() - begun
        await junebug.idle()
        pss = {title: junebug.pss(pids) for title, pids in junebug.processes().items()}
        per_channel = [value for title, value in pss.items() if title.startswith("channel:")]
        own = {title: round(value / 1e6, 1) for title, value in pss.items() if not title.startswith("channel:")}
        assert len(per_channel) == count, f"{len(per_channel)} channel processes instead of {count}"
        for channel in ids:
            await junebug.call("DELETE", f"/channels/{channel}")
    return {
        "channels": count,
        "pss_per_channel_mb": round(statistics.mean(per_channel) / 1e6, 2),
        "pss_per_channel_max_mb": round(max(per_channel) / 1e6, 2),
        "created_and_listening_s": round(created, 2),
        "jb_api_ready_s": round(api_ready, 2),
        "jb_all_listening_s": round(ready, 2),
        "other_processes_pss_mb": own,
    }


async def measure_restart(servers: Servers) -> dict[str, Any]:
    """How long a channel is gone after SIGKILL of its process, and after a restart through the API."""
    (port,) = free_ports(1, CHANNEL_PORTS)
    async with Junebug(servers) as junebug:
        (channel,) = await create_channels(junebug, [port])
        killed, restarted = [], []
        for _ in range(RESTARTS):
            await junebug.settled(channel)
            pid = junebug.processes()[f"channel:{channel}"][0]
            begun = time.perf_counter()
            os.kill(pid, signal.SIGKILL)
            await junebug.gone(pid)
            await junebug.listening([port])
            killed.append(time.perf_counter() - begun)
            # the first death of a run is answered at once, later ones wait longer: begin a new run
            pid = junebug.processes()[f"channel:{channel}"][0]
            await junebug.settled(channel)
            begun = time.perf_counter()
            await junebug.call("POST", f"/channels/{channel}/restart")
            await junebug.gone(pid)
            await junebug.listening([port])
            restarted.append(time.perf_counter() - begun)
        await junebug.call("DELETE", f"/channels/{channel}")
    return {
        "after_sigkill_median_s": round(statistics.median(killed), 3),
        "after_sigkill_max_s": round(max(killed), 3),
        "through_the_api_median_s": round(statistics.median(restarted), 3),
    }


async def measure_messages(servers: Servers, workers: int) -> dict[str, Any]:
    """Messages a second from POST to a telnet peer: accepted (201) and arrived."""
    (port,) = free_ports(1, CHANNEL_PORTS)
    async with Junebug(servers, "--workers", str(workers)) as junebug:
        (channel,) = await create_channels(junebug, [port])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        address = "{}:{}".format(*writer.get_extra_info("sockname"))

        async def arrive() -> None:
            for _ in range(MESSAGES):
                await reader.readline()

        bodies = [{"to": address, "content": f"message {number}"} for number in range(MESSAGES)]
        figures = await post_messages(junebug, channel, bodies, CONNECTIONS, arrive, ARRIVAL_TIMEOUT)
        writer.close()
        await junebug.call("DELETE", f"/channels/{channel}")
    return {"api_workers": workers, "messages": MESSAGES, "connections": CONNECTIONS, **figures}


def show(title: str, rows: list[dict[str, Any]]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row if not isinstance(row[name], dict)))
    widths = [max(len(name), *(len(str(row.get(name, ""))) for row in rows)) for name in names]
    print(f"\n{title}\n  " + "  ".join(name.rjust(width) for name, width in zip(names, widths, strict=True)))
    for row in rows:
        print("  " + "  ".join(str(row.get(name, "")).rjust(width) for name, width in zip(names, widths, strict=True)))


async def main(only: list[str], many: int) -> None:
    figures: dict[str, Any] = {"cores": os.cpu_count()}
    with Servers() as servers:
        if not only or "channels" in only:
            figures["channels"] = [await measure_scale(servers, count) for count in SCALES]
            show("Channels (telnet, idle, connected to Redis and RabbitMQ)", figures["channels"])
        if "scale" in only:
            figures["scale"] = await scale.measure(servers, many)
            show("Many channels, CPU in % of a core", figures["scale"])
        if "merging" in only:
            figures["merging"] = await scale.measure_merging(servers, many)
            show("Many channels, merge_memory", figures["merging"])
        if "scrape" in only:
            figures["scrape"] = await scrape.measure(servers, many)
            show("GET /metrics, of channels that counted everything", [figures["scrape"]])
        if not only or "restart" in only:
            figures["restart"] = await measure_restart(servers)
            show("A channel comes back", [figures["restart"]])
        if not only or "messages" in only:
            figures["messages"] = [await measure_messages(servers, workers) for workers in (1, 2)]
            show("POST to telnet peer, one channel", figures["messages"])
        if not only or "smpp" in only:
            figures["smpp"] = await asyncio.to_thread(smpp.measure)
            show("SMPP: submit_sm encoded, decoded, on one core", [figures["smpp"]["codec"]])
            show("SMPP: one session to a sink that answers at once", [figures["smpp"]["session"]])
        if not only or "routing" in only:
            figures["routing"] = await asyncio.to_thread(routing.measure)
            show(f"Routers' decisions, {routing.DESTINATIONS} destinations, on one core", figures["routing"])
        if not only or "throughput" in only:
            figures["throughput"] = await throughput.measure(servers)
            show(f"One SMPP channel, {throughput.MESSAGES} messages, CPU us a message", figures["throughput"])
        if not only or "peers" in only:
            if throughput.peers_are_here():
                figures["peers"] = await throughput.measure_peers(servers)
                show("The same load on others", figures["peers"])
            else:
                print("\nKannel and wrk are not installed: nothing to compare with (apt-get install kannel wrk)")
    print("\n" + json.dumps(figures))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "only", nargs="*", metavar="part",
        help="channels, restart, messages, smpp, routing, throughput, peers; scale, merging, scrape; all but these when none is"
             " given",
    )  # fmt: skip
    what = "of `scale`, `merging`, `scrape` (default: %(default)s)"
    parser.add_argument("--channels", type=int, default=1000, metavar="N", help=what)
    arguments = parser.parse_args()
    try:
        asyncio.run(main(arguments.only, arguments.channels))
    except KeyboardInterrupt:
        sys.exit(130)
