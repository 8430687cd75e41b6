"""How many messages a second one channel carries, and what each costs: CPU time by process, beside the rate.

Load generator, the other ends, Junebug, RabbitMQ and Redis share the cores, so rates of one run are compared with each other;
CPU microseconds a message bear other load on the machine better. Where Kannel and wrk are installed (`apt-get install kannel
wrk`), `peers` has Kannel do the same between the same ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson

from bench.junebug import Junebug, Servers, cpu_seconds
from bench.load import post_messages
from bench.peer import Peer
from junebug.embedded import free_ports

MESSAGES, CONNECTIONS, WINDOW, BULK = 20_000, 16, 100, 1000
TIMEOUT = 180.0
SECONDS = 10
"""Of the load in a comparison."""

Pids = Mapping[str, Iterable[int]]


def cpu_of(processes: Pids) -> dict[str, float]:
    """Name -> seconds of CPU that its processes have used."""
    return {name: sum(map(cpu_seconds, pids)) for name, pids in processes.items()}


class World:
    """A `jb` with one SMPP channel, bound to the peer."""

    def __init__(self, servers: Servers, junebug: Junebug, peer: Peer, channel: str) -> None:
        self.junebug, self.peer, self.channel = junebug, peer, channel
        titles = junebug.processes()
        self.processes: Pids = {
            "channel": titles[f"channel:{channel}"],
            "api": [pid for title, pids in titles.items() if title.startswith("api") for pid in pids],
            **{name: pids for name, pids in servers.processes().items() if name != "epmd"},
        }
        self.path = f"/channels/{channel}/messages/"

    def body(self, number: int, *, told: bool) -> dict[str, Any]:
        body = {"to": f"+2782{number:07}", "from": "12345", "content": f"message {number}"}
        return {**body, "event_url": f"http://127.0.0.1:{self.peer.webhook_port}/event"} if told else body

    async def arrived(self, name: str, count: int) -> None:
        """Until so many of these are counted."""
        async with asyncio.timeout(TIMEOUT):
            while (await self.peer.counts())[name] < count:
                await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def world(servers: Servers, *, told: bool) -> AsyncIterator[World]:
    """`told`: the SMSC is asked for receipts."""
    async with Peer() as peer, Junebug(servers) as junebug:
        config = {
            "host": "127.0.0.1", "port": peer.smsc_port, "system_id": "bench", "password": "bench", "window_size": WINDOW,
            "registered_delivery": told,
        }  # fmt: skip
        body = {"type": "smpp", "mo_url": f"http://127.0.0.1:{peer.webhook_port}/mo", "config": config}
        channel = (await junebug.call("POST", "/channels/", body))["result"]["id"]
        await junebug.settled(channel)
        yield World(servers, junebug, peer, channel)
        await junebug.call("DELETE", f"/channels/{channel}")


async def _measured(servers: Servers, work: Callable[[World], Coroutine[Any, Any, dict[str, Any]]]) -> dict[str, Any]:
    """What `work` says, and the CPU microseconds of each of MESSAGES."""
    async with world(servers, told=work is cycles) as here:
        before = cpu_of(here.processes)
        row = await work(here)
        used = {name: round((spent - before[name]) / MESSAGES * 1e6) for name, spent in cpu_of(here.processes).items()}
    return {**row, **{f"{name}_us": spent for name, spent in used.items()}}


async def _post(here: World, *, told: bool) -> dict[str, Any]:
    async def arrive() -> None:
        await here.arrived("finals" if told else "submits", MESSAGES)
        if told:
            await here.arrived("calls", 2 * MESSAGES)

    bodies = [here.body(number, told=told) for number in range(MESSAGES)]
    return await post_messages(here.junebug, here.channel, bodies, CONNECTIONS, arrive, TIMEOUT)


async def messages(here: World) -> dict[str, Any]:
    """POST, one by one, to submit_sm."""
    return await _post(here, told=False)


async def cycles(here: World) -> dict[str, Any]:
    """POST with an event_url, submit_sm, receipt, both events at a webhook."""
    return await _post(here, told=True)


async def bulk(here: World) -> dict[str, Any]:
    """The same as `messages`, a thousand a request."""
    begun = time.perf_counter()
    async with here.junebug.connection() as connection:
        for first in range(0, MESSAGES, BULK):
            several = [here.body(number, told=False) for number in range(first, first + BULK)]
            status, _ = await connection.request("POST", f"{here.path}bulk", several)
            assert status == 201, status
    accepted = time.perf_counter() - begun
    await here.arrived("submits", MESSAGES)
    elapsed = time.perf_counter() - begun
    return {"accepted_per_s": round(MESSAGES / accepted), "arrived_per_s": round(MESSAGES / elapsed)}


async def inbound(here: World) -> dict[str, Any]:
    """As many deliver_sm as the window takes, each to the mo_url; the worker's memory at the most."""
    begun = time.perf_counter()
    await here.peer.counts(flood=MESSAGES)
    most = 0
    async with asyncio.timeout(TIMEOUT):
        while (await here.peer.counts())["calls"] < MESSAGES:
            most = max(most, here.junebug.pss(here.processes["channel"]))  # type: ignore[arg-type]
            await asyncio.sleep(0.2)
    return {"arrived_per_s": round(MESSAGES / (time.perf_counter() - begun)), "channel_pss_mb": round(most / 1e6, 1)}


KINDS = (messages, cycles, bulk, inbound)


async def measure(servers: Servers) -> list[dict[str, Any]]:
    """A row for each kind."""
    return [{"what": work.__name__, **await _measured(servers, work)} for work in KINDS]


# --- Kannel -----------------------------------------------------------------------------------------------------------


def peers_are_here() -> bool:
    return all(map(shutil.which, ("bearerbox", "smsbox", "wrk")))


async def measure_peers(servers: Servers) -> list[dict[str, Any]]:
    """Rates of ours and Kannel's, by the same load, to the same ends."""
    rows = []
    for told in (False, True):
        rows.append(await _ours(servers, told))
        for store in ("spool", "file"):
            rows.append(await _kannels(store, told))
            rows[-1]["ours_to_it"] = round(rows[-2 if store == "spool" else -3]["arrived_per_s"] / rows[-1]["arrived_per_s"], 2)
    return rows


async def _load(peer: Peer, name: str, url: str, script: str = "") -> dict[str, Any]:
    """wrk for SECONDS; what arrived until nothing more does."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        options = ["-s", file.name] if script else []
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", *options, url]
        begun, before = time.perf_counter(), (await peer.counts())[name]
        wrk = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        output, _ = await wrk.communicate()
    said = output.decode()
    refused = sum(map(int, re.findall(r"Non-2xx or 3xx responses: (\d+)", said)))
    accepted = int(re.findall(r"(\d+) requests in", said)[0]) - refused
    last, changed = before, time.perf_counter()
    while (now := (await peer.counts())[name]) < before + accepted and time.perf_counter() < changed + 5:
        if now != last:
            last, changed = now, time.perf_counter()
        await asyncio.sleep(0.02)
    elapsed = (changed if now < before + accepted else time.perf_counter()) - begun
    return {"accepted_per_s": round(accepted / SECONDS), "arrived_per_s": round((now - before) / elapsed)}


async def _ours(servers: Servers, told: bool) -> dict[str, Any]:
    async with world(servers, told=told) as here:
        body = orjson.dumps(here.body(1, told=told)).decode()
        script = f"wrk.method = 'POST'\nwrk.body = [[{body}]]\n"
        url = f"http://127.0.0.1:{here.junebug.port}{here.path}"
        row = await _load(here.peer, "finals" if told else "submits", url, script)
    return {"who": "Junebug", "what": "cycles" if told else "messages", **row, "ours_to_it": 1.0}


async def _kannels(store: str, told: bool) -> dict[str, Any]:
    async with Peer() as peer:
        directory = Path(tempfile.mkdtemp(prefix="jb-bench-"))
        admin, box, http = free_ports(3)
        (directory / "spool").mkdir()
        where = directory / ("spool" if store == "spool" else "store")
        config = f"""
group = core
admin-port = {admin}
admin-password = x
smsbox-port = {box}
store-type = {store}
store-location = {where}
dlr-storage = internal
box-allow-ip = 127.0.0.1
log-level = 4

group = smsc
smsc = smpp
host = 127.0.0.1
port = {peer.smsc_port}
smsc-username = bench
smsc-password = bench
system-type = VMA
transceiver-mode = true
max-pending-submits = {WINDOW}

group = smsbox
bearerbox-host = 127.0.0.1
sendsms-port = {http}
log-level = 4

group = sendsms-user
username = u
password = p

group = sms-service
keyword = default
text = none
"""
        (directory / "kannel.conf").write_text(config)
        quiet = subprocess.DEVNULL
        boxes = []
        try:
            for name in ("bearerbox", "smsbox"):
                command = [name, "-v", "4", str(directory / "kannel.conf")]
                boxes.append(subprocess.Popen(command, stdout=quiet, stderr=quiet, cwd=directory))
                await asyncio.sleep(3)
            query = "username=u&password=p&from=12345&to=27820000001&text=message+1"
            if told:
                query += f"&dlr-mask=1&dlr-url=http%3A%2F%2F127.0.0.1%3A{peer.webhook_port}%2Fdelivered"
            url = f"http://127.0.0.1:{http}/cgi-bin/sendsms?{query}"
            row = await _load(peer, "finals" if told else "submits", url)
        finally:
            for process in reversed(boxes):
                process.send_signal(signal.SIGKILL)
                process.wait(10)
            shutil.rmtree(directory, ignore_errors=True)
    return {"who": f"Kannel, {store}", "what": "cycles" if told else "messages", **row}
