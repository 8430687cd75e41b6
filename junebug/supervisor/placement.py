"""Which host runs what. Pure: every host decides alike from what all see; that two never run the same is the leases' affair.

    choose   what nobody runs -> the host that is to claim it
    give_up  what a host runs -> what it is to give up, in this order, so that others have their share

What nobody runs goes to the least loaded of the hosts that have the labels, which are raised to one level (water-filling). Which
of them gets what, a hash says: so hosts agree on nearly all also when one knows of a channel that another does not know yet, and
on all when some have claimed already. What runs stays where it is while its host lives and no load is far from its share: a
host that joins takes only its share, one that leaves moves only what it had.

The cost is that of a sort: nothing is computed for each pair of a host and a channel. Neighbours: leases.py carries it out.
"""

from __future__ import annotations

import bisect
import dataclasses
import sys
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
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

    def fits(self, labels: Mapping[str, str]) -> bool:
        return labels.items() <= self.labels.items()

    def room(self, load: int) -> int:
        return max(0, (self.capacity or sys.maxsize) - load)


@dataclass(frozen=True, slots=True)
class Need:
    """Of a channel or router. `host_bound`: it moves only when its host ends or is drained."""

    labels: Mapping[str, str] = field(default_factory=dict)
    host_bound: bool = False


def choose(needs: Mapping[str, Need], hosts: Iterable[Host], holders: Mapping[str, str]) -> dict[str, str | None]:
    """Id that nobody holds -> its host; None: no host may run it. `holders`: id -> host that lives."""
    unheld = needs.keys() - holders.keys()
    if not unheld:
        return {}
    return _placed(sorted(unheld), needs, [host for host in hosts if not host.drained], Counter(holders.values()))


def give_up(
    me: str, needs: Mapping[str, Need], hosts: Iterable[Host], holders: Mapping[str, str], giving: Collection[str] = ()
) -> list[str]:
    """What `me` holds and is to give up besides `giving`, which it still holds; each time only what another may take."""
    known = {host.id: host for host in hosts}
    own = known.get(me)
    if own is None:
        return []
    others = [host for host in known.values() if host.id != me and not host.drained]
    loads = Counter(holders.values())
    loads.update(host for host in choose(needs, known.values(), holders).values() if host)
    mine = sorted(id for id, holder in holders.items() if holder == me and id in needs and id not in giving)
    misplaced = [id for id in mine if own.drained or not own.fits(needs[id].labels)]
    given: list[str] = []
    if misplaced:
        placed = _placed([*(id for id in giving if id in needs), *misplaced], needs, others, Counter(loads))
        given = [id for id in misplaced if placed[id] or not own.fits(needs[id].labels)]  # it runs nowhere without its labels
    if own.drained or not others:
        return given
    takers, moves = _moves([own, *others], loads, needs, holders)
    free = moves.get(me, 0) - len(giving) - len(given)
    if free <= 0:
        return given
    movable = [id for id in mine if id not in given and not needs[id].host_bound]
    placed = _placed(movable, needs, takers, Counter(loads))
    return given + [id for id in movable if placed[id]][:free]


def _moves(
    hosts: list[Host], loads: Counter[str], needs: Mapping[str, Need], holders: Mapping[str, str]
) -> tuple[list[Host], dict[str, int]]:
    """Who is to get more, with its share as its capacity, and how many each of the others is to give up for that."""
    share = shares(loads, hosts)
    over = {host.id: loads[host.id] - share[host.id] for host in hosts}
    far = [excess for id, excess in over.items() if abs(excess) > share[id] * TOLERATED]
    takers = [dataclasses.replace(host, capacity=share[host.id]) for host in hosts if over[host.id] < 0]
    if not far or not takers:
        return [], {}
    fitting: dict[frozenset[tuple[str, str]], bool] = {}

    def may_move(need: Need) -> bool:
        key = frozenset(need.labels.items())
        if key not in fitting:
            fitting[key] = any(host.fits(need.labels) for host in takers)
        return fitting[key] and not need.host_bound

    movable = Counter(host for id, host in holders.items() if id in needs and may_move(needs[id]))
    givers = sorted(id for id, excess in over.items() if excess > 0)
    wanted = max(sum(excess for excess in far if excess > 0), -sum(excess for excess in far if excess < 0))
    most = [min(over[id], movable[id]) for id in givers]
    return takers, dict(zip(givers, _filled([-over[id] for id in givers], most, wanted), strict=True))


def shares(loads: Counter[str], hosts: Iterable[Host]) -> dict[str, int]:
    """Host -> its fair share of all: the same for each, less where the capacity is less; one more for some that have it."""
    ordered = sorted(hosts, key=lambda host: (-loads[host.id], host.id))
    found = _filled([0] * len(ordered), [host.room(0) for host in ordered], loads.total())
    return {host.id: share for host, share in zip(ordered, found, strict=True)}


def _placed(
    ids: Iterable[str], needs: Mapping[str, Need], hosts: Sequence[Host], loads: Counter[str]
) -> dict[str, str | None]:
    """Id -> the host that is to have it, or None; counted in `loads`. Who fits few hosts chooses first."""
    by_labels: dict[frozenset[tuple[str, str]], list[str]] = {}
    for id in ids:
        by_labels.setdefault(frozenset(needs[id].labels.items()), []).append(id)
    ordered = sorted(hosts, key=lambda host: host.id)
    groups = [(sorted(some), [host for host in ordered if host.fits(dict(some))], alike) for some, alike in by_labels.items()]
    placed: dict[str, str | None] = {}
    for _, fitting, alike in sorted(groups, key=lambda group: (len(group[1]), group[0])):
        held = [loads[host.id] for host in fitting]
        free = _filled(held, [host.room(load) for host, load in zip(fitting, held, strict=True)], len(alike))
        loads.update({host.id: number for host, number in zip(fitting, free, strict=True)})
        fit = sum(free)
        placed.update(dict.fromkeys(alike[fit:]))
        after = [*range(1, len(free)), 0]
        for id in alike[:fit]:
            at = zlib.crc32(id.encode()) % len(free)
            while not free[at]:  # the next that has room, over those that have been found full
                full, at = at, after[at]
                if not free[at]:
                    after[full] = after[at]
            free[at] -= 1
            placed[id] = fitting[at].id
    return placed


def _filled(loads: Sequence[int], rooms: Sequence[int], count: int) -> list[int]:
    """How many of `count` each gets, so that the lowest loads are raised to one level; what is left over, the first ones get."""
    if not loads:
        return []

    def raised(level: int) -> list[int]:
        return [min(max(0, level - load), room) for load, room in zip(loads, rooms, strict=True)]

    levels = range(min(loads), max(loads) + count + 1)
    level = levels[bisect.bisect_right(levels, count, key=lambda level: sum(raised(level))) - 1]
    found = raised(level)
    left = count - sum(found)
    for at, (load, room) in enumerate(zip(loads, rooms, strict=True)):
        if left and load <= level and found[at] < room:
            found[at] += 1
            left -= 1
    return found
