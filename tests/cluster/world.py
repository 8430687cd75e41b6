"""Three Junebugs of a laboratory, channels of SMPP that they share, and one scenario after another done to one of them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.blackbox.receiver import Receiver
from tests.blackbox.smsc import SmscLink
from tests.blackbox.test_smpp import config_for
from tests.cluster.lab import Host, Net
from tests.cluster.ledger import CountingSmsc, Ledger, Row, Traffic
from tests.harness import gather_limited, unique
from tests.polling import eventually

CHANNELS = 6
TOLD = 4000
"""Characters of each host's output that a failure shows."""
MORE = 10
"""Messages of each channel before, while and after something happens."""


@dataclass
class World:
    """`lease`: seconds."""

    net: Net
    hosts: Sequence[Host]
    lease: float
    rows: list[Row] = field(default_factory=list)

    @asynccontextmanager
    async def scenario(self, name: str, *, is_fenced: bool = True, receives: bool = False) -> AsyncIterator[Scenario]:
        """All hosts run, each has its share of new channels, and messages flow (`receives`: both ways). What it came to is held
        against the promises.
        """
        await asyncio.to_thread(self.heal)
        async with CountingSmsc(self.net.home, self._has_open) as smsc, Receiver(self.net.home) as application:
            mo_url = application.url("/mo")
            channels = dict(await gather_limited(2, [self._create(smsc, f"esme{n}", mo_url) for n in range(CHANNELS)]))
            words, mos = unique(name.replace(" ", "-")), smsc if receives else None
            traffic = Traffic([host.api for host in self.hosts], channels, application, words, mos)
            at = Scenario(self, smsc, traffic, channels, Ledger(name, smsc, traffic, self.lease if is_fenced else math.inf))
            try:
                await at.shared()
                async with traffic.flowing():
                    await traffic.more(MORE)
                    yield at
                    await at.shared()
                    await traffic.more(MORE)
                row = await at.ledger.close()
                self.rows.append(row)
                print(f"\n{Row.table([row])}")
                assert (row.lost, row.untold, smsc.doubles, row.late) == (0, 0, [], 0), row
            finally:
                await asyncio.to_thread(self.heal)
                for id in channels.values():
                    await self.hosts[0].api.delete(f"/channels/{id}")
                await eventually(self._is_tidy, 120, "what was deleted is gone")  # until then it counts as a load

    async def _is_tidy(self) -> bool:
        return not await asyncio.to_thread(self.hosts[0].leases)

    async def _create(self, smsc: CountingSmsc, owner: str, mo_url: str) -> tuple[str, str]:
        config = {**config_for(smsc.port), "host": smsc.host, "system_id": owner}
        answer = await self.hosts[0].api.post("/channels/", {"type": "smpp", "mo_url": mo_url, "config": config})
        assert answer.status == 201, answer
        return owner, str(answer.result["id"])

    def _has_open(self, link: SmscLink) -> bool:
        """As the host sees it that opened it: nobody has told the SMSC what happened behind a cut."""
        machine = next((host for host in self.hosts if host.namespace and host.address == link.peer), None)
        return machine.has_open(link.peer_port) if machine else link.is_open

    def heal(self) -> None:
        """Every host runs, and is reached."""
        for host in self.hosts:
            host.heal()
            host.resume()
            process = host.junebug.process
            if process is None or process.poll() is not None:
                host.start(wait=False)
        for host in self.hosts:
            host.junebug.wait_listening()


@dataclass
class Scenario:
    world: World
    smsc: CountingSmsc
    traffic: Traffic
    channels: dict[str, str]
    """system_id -> channel id."""
    ledger: Ledger

    @property
    def victim(self) -> Host:
        return self.world.hosts[-1]

    def hit(self) -> list[SmscLink]:
        """What happens to the victim, happens now. Its links to the SMSC."""
        return self.ledger.hit(self.owners(self.victim))

    async def resumed(self) -> None:
        """When all that the victim ran sends again, elsewhere or there."""
        await eventually(self.ledger.resumed, 60, "the channels send again")

    async def lasting(self, seconds: float) -> None:
        """Until so long after it."""
        await eventually(lambda: self.ledger.age > seconds, seconds + 60)

    def owners(self, host: Host) -> set[str]:
        running = host.channels()
        return {owner for owner, id in self.channels.items() if id in running}

    async def shared(self) -> None:
        """When each host has its share, and all are bound."""
        share = CHANNELS // len(self.world.hosts)

        def is_shared() -> bool:
            shares = [self.owners(host) for host in self.world.hosts]
            return {*map(len, shares)} == {share} and len(self.smsc.bound()) == CHANNELS

        try:
            await eventually(is_shared, 120, "each has its share")
        except AssertionError as error:
            told = [f"{host.id}: {sorted(self.owners(host))}\n{host.junebug.output()[-TOLD:]}" for host in self.world.hosts]
            raise AssertionError("\n".join([str(error), f"bound: {self.smsc.bound()}", *told])) from None


@contextmanager
def hosts_on(net: Net, ids: str, lease: float, where: dict[str, Any]) -> Iterator[World]:
    """Hosts that their first scenario starts, and what all scenarios came to. `where`: flags that name Redis and RabbitMQ."""
    flags = {**where, "lease-ttl": lease, "moves-per-minute": 600}
    world = World(net, [Host(net.machine(), id, flags) for id in ids], lease)
    try:
        yield world
        print(f"\nlease_ttl {lease:g} s\n{Row.table(world.rows)}")
    finally:
        for host in world.hosts:
            host.destroy()
