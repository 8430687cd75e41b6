"""`make soak`: steady traffic for ten minutes on a loopback, a telnet and an SMPP channel, while things break now and then.

The application fails in every way that tests/blackbox/receiver.py knows, channels' processes are killed. Prints the memory
of every process over time and what was sent, received and repeated. Exit code 1 when a message or an event is lost, or
when a process of ours grows: compared are the medians of the second and of the last quarter of the time.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import statistics
import sys
import time
from contextlib import AsyncExitStack
from typing import Any

from bench.junebug import Junebug, Servers
from junebug.embedded import free_ports
from tests.blackbox.receiver import WAYS, Receiver
from tests.blackbox.smsc import WireSmsc
from tests.blackbox.traffic import Traffic, everything_arrives, loopback_traffic, smpp_traffic, telnet_traffic
from tests.harness import Api, Channel

SECONDS = 600.0
PAUSE = 0.05
"""Between two messages of one kind: MTs of each channel, MOs of two."""
SAMPLES = 40
GROWTH, LEAST_GROWTH = 1.15, 3_000_000
"""More than this ratio and (bytes) more than this much is growth."""
SHORTEST_JUDGED = 120.0
"""Seconds: in less than that a process is still warming up."""
ARRIVAL_TIMEOUT = 90.0
FLAGS = ("--callback-retry-delays", "0.2,1,2", "--callback-timeout", "1")
THEIRS = ("redis", "epmd", "rabbitmq")

Memory = dict[str, int]
"""Process -> PSS in bytes."""


class Soak:
    """One run."""

    def __init__(self, servers: Servers, junebug: Junebug, seconds: float) -> None:
        self.servers = servers
        self.junebug = junebug
        self.seconds = seconds
        self.application = Receiver()
        self.smsc = WireSmsc()
        self.smsc.receipts = True
        self.channels: dict[str, Channel] = {}
        self.traffic: list[Traffic] = []
        self.samples: list[Memory] = []
        self.kills = 0

    async def run(self) -> bool:
        """Whether it went well."""
        async with AsyncExitStack() as stack:
            for each in (self.application, self.smsc):
                await stack.enter_async_context(each)  # type: ignore[arg-type]
            await self._make_channels(stack)
            async with AsyncExitStack() as flowing:
                for traffic in self.traffic:
                    await flowing.enter_async_context(traffic.flowing())
                try:
                    async with asyncio.timeout(self.seconds), asyncio.TaskGroup() as tasks:
                        for work in (self._fail(), self._kill(), self._measure()):
                            tasks.create_task(work)
                except TimeoutError:
                    pass  # the time is over
            lost = await self._lost()
            self._show_messages()
            return not lost and not self._growing()

    async def _make_channels(self, stack: AsyncExitStack) -> None:
        (port,) = free_ports(1)
        telnet = {"twisted_endpoint": f"tcp:{port}:interface=127.0.0.1"}
        reconnects = {"initial_reconnect_delay": 0.1, "max_reconnect_delay": 1.0}
        smpp = {"host": "127.0.0.1", "port": self.smsc.port, "system_id": "soak", "password": "soak", **reconnects}
        api = Api(f"http://127.0.0.1:{self.junebug.port}")
        for type, config in (("loopback", {}), ("telnet", telnet), ("smpp", smpp)):
            body = {"type": type, "config": config, "mo_url": self.application.url("/mo")}
            created = (await self.junebug.call("POST", "/channels/", body))["result"]
            await self.junebug.settled(created["id"])
            self.channels[type] = Channel(api, created, port)
        self.traffic = [
            loopback_traffic(self.channels["loopback"], self.application, PAUSE),
            await stack.enter_async_context(telnet_traffic(self.channels["telnet"], self.application, PAUSE)),
            smpp_traffic(self.channels["smpp"], self.application, self.smsc, PAUSE),
        ]

    # --- what breaks --------------------------------------------------------------------------------------------------

    async def _fail(self) -> None:
        pause = min(20.0, self.seconds / 6)
        while True:
            await asyncio.sleep(pause * 0.75)
            async with self.application.failing(random.choice(WAYS)):
                await asyncio.sleep(pause * 0.25)

    async def _kill(self) -> None:
        """Not telnet's: what its socket has received dies with it."""
        while True:
            await asyncio.sleep(min(60.0, self.seconds / 3))
            channel = self.channels[random.choice(("loopback", "smpp"))].id
            for pid in self.junebug.processes().get(f"channel:{channel}", []):
                os.kill(pid, signal.SIGKILL)
                self.kills += 1

    # --- memory -------------------------------------------------------------------------------------------------------

    async def _measure(self) -> None:
        await asyncio.sleep(min(2.0, self.seconds / SAMPLES))  # all are there
        begun = time.monotonic()
        names = list(self._memory())
        print("Memory in MB (PSS)\n" + "".join(name.rjust(12) for name in ("seconds", *names)), flush=True)
        while True:
            memory = self._memory()
            self.samples.append(memory)
            seconds = f"{time.monotonic() - begun:.0f}"
            cells = [f"{memory[name] / 1e6:.1f}" if name in memory else "-" for name in names]
            print("".join(cell.rjust(12) for cell in (seconds, *cells)), flush=True)
            await asyncio.sleep(self.seconds / SAMPLES)

    def _memory(self) -> Memory:
        types = {f"channel:{channel.id}": type for type, channel in self.channels.items()}
        processes = {types.get(title, title): pids for title, pids in self.junebug.processes().items()}
        found: Memory = {}
        for name, pids in (sorted(processes.items()) + list(self.servers.processes().items())):
            try:
                found[name] = self.junebug.pss(pids)
            except OSError:
                continue  # it has just been killed
        return found

    def _growing(self) -> bool:
        if self.seconds < SHORTEST_JUDGED:
            print(f"Growth is not judged in less than {SHORTEST_JUDGED:g} seconds.")
            return False
        grown = growth(self.samples)
        for name, (before, after) in grown.items():
            print(f"GROWS: {name}, from {before / 1e6:.1f} to {after / 1e6:.1f} MB")
        return bool(grown)

    # --- messages -----------------------------------------------------------------------------------------------------

    async def _lost(self) -> bool:
        try:
            await everything_arrives(self.traffic, self.application, ARRIVAL_TIMEOUT)
        except AssertionError as error:
            print(f"LOST: {error}")
            return True
        return False

    def _show_messages(self) -> None:
        rows: list[list[Any]] = [["", "sent", "refused", "said", "owed", "received", "repeated"]]
        for type, traffic in zip(self.channels, self.traffic, strict=True):
            owed = list(traffic.owed())
            counts = [self.application.taken[key] for key in owed]
            received = sum(map(bool, counts))
            sent = (len(traffic.load.accepted), traffic.load.refused, len(traffic.said))
            rows.append([type, *sent, len(owed), received, sum(counts) - received])
        print("\nMessages sent through the API and said by phones; callbacks owed to the application, received, repeated")
        for row in rows:
            print("".join(str(cell).rjust(12) for cell in row))
        application = self.application
        print(f"{application.failed} calls failed, {application.untold} were taken without an answer that arrived, "
              f"{self.kills} processes killed")  # fmt: skip


def growth(samples: list[Memory]) -> dict[str, tuple[float, float]]:
    """Process of ours -> (median of the second quarter, median of the last one), of those that grow."""
    quarter = len(samples) // 4
    found: dict[str, tuple[float, float]] = {}
    for name in {name for sample in samples for name in sample} - set(THEIRS):
        early, late = (
            [sample[name] for sample in part if name in sample]
            for part in (samples[quarter : 2 * quarter], samples[-quarter:] if quarter else [])
        )
        if early and late:
            before, after = statistics.median(early), statistics.median(late)
            if after > before * GROWTH and after - before > LEAST_GROWTH:
                found[name] = (before, after)
    return found


async def main(seconds: float) -> int:
    """The exit code."""
    with Servers() as servers:
        async with Junebug(servers, *FLAGS) as junebug:
            return 0 if await Soak(servers, junebug, seconds).run() else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="how long (%(default)g)")
    try:
        sys.exit(asyncio.run(main(parser.parse_args().seconds)))
    except KeyboardInterrupt:
        sys.exit(130)
