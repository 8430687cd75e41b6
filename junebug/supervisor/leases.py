"""Leases: what this host may run, asked in one place (`share`), kept by a renewal every few seconds, and given up in time.

    renewed        every RENEWALS-th of lease_ttl, or reconcile_interval where that is less; counted from before it was sent
    STOP_AFTER     of lease_ttl without a renewal: this host stops what it runs, in good order
    until          lease_ttl less MARGIN of it: what runs then still ends itself, or the kernel ends it (runtime/fence.py)
    lease_ttl      Redis forgets the host, others may claim what it had

A host that has had no RabbitMQ for lease_ttl, where another has had it for as long, is as good as drained: what it runs can do
nothing there. A RabbitMQ that is away for all, or comes back to one a moment before the others, moves nothing.

A host that has been alone for lease_ttl when Redis goes away goes on while its processes are connected to RabbitMQ: there is
nobody to claim anything, and one that comes meanwhile finds RabbitMQ's queues taken. Nobody takes what another had before it has
itself been in touch with Redis for lease_ttl: whoever is there has said so by then.

Neighbours: placement.py decides, stores/leases.py is one round trip, reconciler.py asks `share` at each look.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
from collections import deque
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType

import structlog

from junebug import names
from junebug.config.declaration import Settings
from junebug.errors import HostTaken, JunebugError, StoreUnavailable, Unavailable
from junebug.runtime import fence
from junebug.stores import Stores
from junebug.stores.leases import HostEntry
from junebug.supervisor import placement
from junebug.supervisor.client import SupervisorClient
from junebug.supervisor.identity import Identity
from junebug.supervisor.placement import Host, Need
from junebug.supervisor.reconcile import Running

log = structlog.stdlib.get_logger("leases")

RENEWALS, STOP_AFTER, MARGIN = 6, 0.5, 0.05
"""The last two: shares of lease_ttl."""
MOST_LOGGED = 10
MOST_AT_ONCE = 1_000
"""Leases claimed or released by one command: Redis does nothing else for some 10 ms."""
NOTHING: Mapping[str, int] = MappingProxyType({})


class Leases:
    """`run` is its life; `share` is asked at each look."""

    def __init__(self, settings: Settings, identity: Identity, on_change: Callable[[], None]) -> None:
        """`on_change`: it is worth looking at what is to run here."""
        self._settings = settings
        self._ttl = settings.lease_ttl
        self._pause = min(settings.reconcile_interval, self._ttl / RENEWALS)
        self._stores = Stores(settings, min(settings.request_timeout, self._ttl / RENEWALS))
        self._supervisor = SupervisorClient(settings.supervisor_socket)
        self._identity = identity
        self._self = HostEntry(identity.id, settings.capacity, settings.labels, name=identity.name)
        self._on_change = on_change
        self._turning = asyncio.Lock()
        self._seen, self._newest = "", 0
        """The last change of a lease that is known; the newest fence."""
        self._hosts: dict[str, HostEntry] = {}
        """Those that live."""
        self._holders: dict[str, tuple[str, int]] = {}
        self._held: dict[str, int] = {}
        """Of these what this host has: id -> fence."""
        self._renewed = self._in_touch_since = -math.inf
        """When the last renewal was sent, by fence.now; and the first of those without a gap before it."""
        self._accompanied, self._was_alone = -math.inf, True
        """When there may last have been another host, and whether that is long ago: an emptied Redis shows none for a while."""
        self._runs: frozenset[str] | None = None
        """What supervisord had at the last look, if there was one, and what it may have been told to start since."""
        self._taken_over: set[str] = set()
        self._giving: set[str] = set()
        self._has_broker, self._broker_since = False, fence.now()
        self._given: deque[float] = deque()
        self._stopped = False
        self.nowhere: frozenset[str] = frozenset()
        """What no host may run; told by one of them."""

    # --- asked by the reconciler --------------------------------------------------------------------------------------

    async def share(self, needs: Mapping[str, Need], running: Mapping[str, Running]) -> Collection[str]:
        """Which of these are this host's now, after it has claimed its share, and given up what it is to give up and is gone.

        Raises Unavailable: Redis or supervisord is away. `running`: what supervisord has.
        """
        self._runs = frozenset(running)
        if self._is_over:
            await self._turn()
        needs = {**needs, **dict.fromkeys(self._abandoned(needs), placement.Need())}
        claims = self._to_claim(needs)
        gone = {
            id: number for id, number in self._held.items() if id not in running and (id not in needs or id in self._giving)
        }
        self._taken_over.update(id for id in claims if id in self._holders)
        for some in _parts(gone):
            await self._turn(some)
        for some in _parts(dict.fromkeys(claims, 0)):
            await self._turn({}, some)
        self._giving &= self._held.keys()
        self._taken_over &= self._held.keys()
        self._choose_to_give(needs)
        self._stopped = False
        mine = self._held.keys() - self._giving
        self._runs = frozenset(running) | mine
        return mine

    def launch(self, id: str) -> tuple[int, bool]:
        """The fence of its lease, and whether there may be another process of it somewhere."""
        _, number = self._holders.get(id, ("", 0))
        return number, not self._was_alone or id in self._taken_over

    def fence(self, id: str) -> int:
        return self.launch(id)[0]

    def broker(self, connected: bool) -> None:
        """Whether this host has RabbitMQ; said whenever that may have changed."""
        if connected != self._has_broker:
            self._has_broker, self._broker_since = connected, fence.now()

    @property
    def hosts(self) -> int:
        """That live, as far as is known."""
        return max(1, len(self._hosts))

    def has_shards(self, channel: str) -> bool:
        """Whether a host that lives runs shards of it besides the first, as far as leases say."""
        units = names.units(channel, names.MOST_SHARDS)[1:]
        return any(self._holders[unit][0] in self._hosts for unit in units if unit in self._holders)

    async def hand_over(self, leave: bool = False) -> None:
        """This Junebug is ending: what is gone of it can be claimed at once. `leave`: it is the last that is asked of us."""
        try:
            running = await asyncio.to_thread(self._supervisor.running)
            left = {id for id, process in running.items() if process.pid}
            for some in _parts({id: number for id, number in self._held.items() if id not in left}):
                await self._turn(some)
            if leave and not left:
                await self._stores.leases.leave(self._identity.id, self._held)
        except JunebugError as error:
            log.warning("others take over later what ran here", reason=str(error))

    async def close(self) -> None:
        await self._stores.close()

    def _abandoned(self, needs: Mapping[str, Need]) -> list[str]:
        """Shards that are wanted no more, of hosts that are gone: their leases are claimed to be given up."""
        return [
            id for id, (host, _) in self._holders.items() if host not in self._hosts and id not in needs and names.shard_of(id)
        ]

    # --- decisions ----------------------------------------------------------------------------------------------------

    def _to_claim(self, needs: Mapping[str, Need]) -> list[str]:
        me = self._identity.id
        chosen = placement.choose(needs, self._placeable(), self._living_holders(needs))
        is_first = me == min(self._hosts, default=None)
        self.nowhere = frozenset(id for id, host in chosen.items() if host is None) if is_first else frozenset()
        may_take_over = fence.now() - self._in_touch_since > self._ttl
        return [id for id, host in chosen.items() if host == me and (may_take_over or id not in self._holders)]

    def _choose_to_give(self, needs: Mapping[str, Need]) -> None:
        if len(self._hosts) < 2 and not self._hosts[self._identity.id].labels and not self._any_labels(needs):
            return
        now = fence.now()
        while self._given and self._given[0] < now - 60:
            self._given.popleft()
        is_cut_off = self._is_cut_off(self._hosts[self._identity.id])
        free = None if is_cut_off else self._settings.moves_per_minute - len(self._given)
        if free is not None and free <= 0:
            return
        holders = self._living_holders(needs)
        given = placement.give_up(self._identity.id, needs, self._placeable(), holders, self._giving)[:free]
        if given:
            why = "RabbitMQ is away, and not for others" if is_cut_off else "for others to take"
            log.info("giving up", reason=why, channels=", ".join(given[:MOST_LOGGED]), number=len(given))
            self._giving.update(given)
            if not is_cut_off:
                self._given.extend([now] * len(given))

    def _living_holders(self, needs: Mapping[str, Need]) -> dict[str, str]:
        return {id: host for id, (host, _) in self._holders.items() if id in needs and host in self._hosts}

    @staticmethod
    def _any_labels(needs: Mapping[str, Need]) -> bool:
        return any(need.labels for need in needs.values())

    def _placeable(self) -> list[Host]:
        return [
            Host(each.id, each.capacity, each.labels, each.drained or self._is_cut_off(each)) for each in self._hosts.values()
        ]

    def _is_cut_off(self, host: HostEntry) -> bool:
        return host.has_broker is False and any(each.has_broker for each in self._hosts.values())

    # --- renewal ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Renew until cancelled; stop what runs here when that fails for too long."""
        while True:
            until_over = self._renewed + self._ttl * STOP_AFTER - fence.now()
            await asyncio.sleep(min(self._pause, until_over) if until_over > 0 else self._pause)
            try:
                await self._turn()
            except HostTaken as error:
                log.error("this host may run nothing", reason=str(error))
                await self._stop_all()
            except StoreUnavailable as error:
                await self._without_redis(error)
            except Unavailable as error:  # supervisord: who is not told, ends
                log.warning("leases could not be told", reason=str(error))

    async def _turn(self, release: Mapping[str, int] = NOTHING, claim: Mapping[str, int] = NOTHING) -> None:
        """One round trip, and supervisord told. Raises HostTaken, StoreUnavailable, Unavailable."""
        async with self._turning:
            if self._runs is None:
                self._runs = frozenset(await asyncio.to_thread(self._supervisor.running))
            sent = fence.now()
            was_away = sent - self._renewed > self._ttl * (1 - MARGIN)
            before, known = self._held, self._hosts
            is_news = await self._ask(release, claim, alone=self._was_alone and not was_away)
            lost = {id: number for id, number in before.items() if id in self._runs and id not in self._holders}
            missing = {id: number for id, number in lost.items() if id not in release}
            if missing and (self._was_alone or not was_away):  # else another may have taken them over before they were lost
                log.warning("Redis has lost leases: claimed again by who runs them", leases=len(missing))
                await self._ask({}, missing, alone=self._was_alone)
            if was_away:
                self._in_touch_since = sent
            if len(self._hosts) > 1 or (was_away and not self._was_alone):
                self._accompanied = sent
            self._was_alone = sent - self._accompanied > self._ttl
            self._renewed = sent
            await self._tell()
        if is_news or self._hosts != known:
            self._on_change()

    async def _ask(self, release: Mapping[str, int], claim: Mapping[str, int], alone: bool) -> bool:
        """Whether anything changed in who holds what. `alone`: nobody can have claimed anything since this host asked last."""
        has_broker = self._has_broker if fence.now() - self._broker_since > self._ttl else None
        about = dataclasses.replace(self._self, has_broker=has_broker)
        turn = await self._stores.leases.turn(
            about, self._identity.place, self._ttl, seen=self._seen, newest=self._newest, alone=alone,
            hosts=self._hosts, release=release, claim=claim,
        )  # fmt: skip
        self._hosts, self._seen = turn.hosts, turn.seen
        self._newest = max(self._newest, turn.newest)
        if turn.holders is None and not turn.changes:
            return False
        if turn.holders is not None:
            self._holders = turn.holders
        for id, lease in turn.changes.items():
            if lease:
                self._holders[id] = lease
            else:
                self._holders.pop(id, None)
        me = self._identity.id
        self._held = {id: number for id, (host, number) in self._holders.items() if host == me}
        return True

    async def _tell(self) -> None:
        lost = (self._runs or frozenset()) - self._held.keys()
        await asyncio.to_thread(self._supervisor.lease, self._renewed + self._ttl * (1 - MARGIN), False, lost)

    @property
    def _is_over(self) -> bool:
        """Whether this host is to stop what it runs."""
        return fence.now() - self._renewed > self._ttl * STOP_AFTER

    async def _without_redis(self, error: JunebugError) -> None:
        if not self._is_over or math.isinf(self._renewed):
            return
        if self._was_alone:
            try:
                await asyncio.to_thread(self._supervisor.lease, fence.now() + self._ttl * (1 - MARGIN), True, ())
            except Unavailable as away:
                log.warning("leases could not be told", reason=str(away))
        else:
            await self._stop_all(str(error))

    async def _stop_all(self, reason: str = "") -> None:
        if not self._stopped:
            log.error("stopping all that runs here: others may claim it soon", reason=reason)
            self._stopped = True
        try:
            running = await asyncio.to_thread(self._supervisor.running)
            await asyncio.to_thread(self._supervisor.remove, list(running))
        except Unavailable as error:
            log.warning("nothing could be stopped: it ends itself", reason=str(error))


def _parts(leases: Mapping[str, int]) -> list[dict[str, int]]:
    pairs = [*leases.items()]
    return [dict(pairs[at : at + MOST_AT_ONCE]) for at in range(0, len(pairs), MOST_AT_ONCE)]
