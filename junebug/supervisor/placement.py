"""Which host runs what. Pure: every host decides alike from what all see; that two never run the same is the leases' affair.

    choose   what nobody runs -> the host that is to claim it
    give_up  what a host runs -> what it is to give up, in this order, so that others have their share

By rendezvous hashing (the host of the highest score for an id) among the hosts that have the labels and less than their share.
What runs stays where it is while its host lives and its load is not far from the others': a host that joins takes only its share,
one that leaves moves only what it had.

Neighbours: leases.py carries it out.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

TOLERATED = 0.05
"""How far from its share a host may be without a move."""


@dataclass(frozen=True, slots=True)
class Host:
    """`capacity`: what it may run at the most; 0: any number. `drained`: it is to run nothing."""

    id: str
    capacity: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    drained: bool = False

    def fits(self, need: Need) -> bool:
        return not need.labels or need.labels.items() <= self.labels.items()

    def room(self, load: int) -> float:
        return self.capacity - load if self.capacity else math.inf


@dataclass(frozen=True, slots=True)
class Need:
    """Of a channel or router. `host_bound`: it moves only when its host ends or is drained."""

    labels: Mapping[str, str] = field(default_factory=dict)
    host_bound: bool = False


def choose(needs: Mapping[str, Need], hosts: Iterable[Host], holders: Mapping[str, str]) -> dict[str, str | None]:
    """Id that nobody holds -> its host; None: no host may run it. `holders`: id -> host that lives."""
    open_hosts = [host for host in hosts if not host.drained]
    unheld = [id for id in needs if id not in holders]
    if not unheld:
        return {}
    loads = Counter(holders.values())
    most = {id: math.ceil(share) for id, share in shares(len(needs), open_hosts).items()}
    chosen: dict[str, str | None] = {}
    for id in sorted(unheld):
        possible = [host for host in open_hosts if host.fits(needs[id]) and host.room(loads[host.id]) > 0]
        light = [host for host in possible if loads[host.id] < most[host.id]]
        best = max(light or possible, key=lambda host: (score(host.id, id), host.id), default=None) if possible else None
        chosen[id] = best.id if best else None
        if best:
            loads[best.id] += 1
    return chosen


def give_up(me: str, needs: Mapping[str, Need], hosts: Iterable[Host], holders: Mapping[str, str]) -> list[str]:
    """What `me` holds and is to give up, the most fitting first; each time only what another may take."""
    known = {host.id: host for host in hosts}
    own = known.get(me)
    if own is None:
        return []
    loads = Counter(holders.values())
    others = [host for host in known.values() if host.id != me and not host.drained]
    mine = sorted(id for id, holder in holders.items() if holder == me and id in needs)
    misplaced = [id for id in mine if own.drained or not own.fits(needs[id])]
    given = []
    for id in misplaced:
        takers = [host for host in others if host.fits(needs[id]) and host.room(loads[host.id]) > 0]
        if takers or not own.fits(needs[id]):  # nothing runs on a host that has not its labels
            given.append(id)
            if takers:
                loads[max(takers, key=lambda host: score(host.id, id)).id] += 1
    loads[me] -= len(given)
    if own.drained:
        return given
    return given + _to_balance(own, {id: needs[id] for id in mine if id not in misplaced}, others, loads, len(needs))


def _to_balance(own: Host, mine: Mapping[str, Need], others: list[Host], loads: Counter[str], total: int) -> list[str]:
    by_host = shares(total, [own, *others])
    own_share = by_host[own.id]
    excess = loads[own.id] - math.ceil(own_share)
    if own.capacity and loads[own.id] > own.capacity:
        excess = max(excess, loads[own.id] - own.capacity)
    if excess <= 0:
        return []
    is_far = loads[own.id] >= own_share + max(1.0, own_share * TOLERATED)
    room = {}
    for host in others:
        share = by_host[host.id]
        room[host.id] = (math.ceil(share) if is_far else math.floor(share * (1 - TOLERATED))) - loads[host.id]
    takers = [host for host in others if room[host.id] > 0]
    if not takers:
        return []
    ranked = []
    for id, need in mine.items():
        fitting = [] if need.host_bound else [host for host in takers if host.fits(need)]
        if fitting:
            best = max(fitting, key=lambda host: score(host.id, id))
            ranked.append((score(own.id, id) - score(best.id, id), id))  # first what would be there anyway
    given: list[str] = []
    for _, id in sorted(ranked):
        fitting = [host for host in takers if room[host.id] > 0 and host.fits(mine[id])]
        if fitting and len(given) < excess:
            room[max(fitting, key=lambda host: score(host.id, id)).id] -= 1
            given.append(id)
    return given


def shares(total: int, hosts: Iterable[Host]) -> dict[str, float]:
    """Host -> its fair share of so many: the same for all, less where the capacity is less."""
    left, found = float(total), dict[str, float]()
    smallest_first = sorted(hosts, key=lambda host: host.capacity or math.inf)
    for number, host in enumerate(smallest_first):
        equal = left / (len(smallest_first) - number)
        found[host.id] = min(equal, host.capacity or equal)
        left -= found[host.id]
    return found


def score(host: str, id: str) -> int:
    """Of the host for that id: the highest has it."""
    mixed = (_hashed(host) ^ _hashed(id)) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF
    mixed = (mixed ^ mixed >> 29) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
    return mixed ^ mixed >> 32


@functools.lru_cache(maxsize=200_000)
def _hashed(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
