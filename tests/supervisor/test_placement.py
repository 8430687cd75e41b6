"""What runs where, decided by the real code in a simulated world of hosts that come, end, hang and are cut off."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

from junebug.supervisor.leases import MARGIN, STOP_AFTER
from junebug.supervisor.placement import Host, Need, choose, give_up, score, shares
from tests.harness import THOROUGH
from tests.tables import rows

ANYWHERE = Need()


def hosts(count: int) -> list[Host]:
    return [Host(f"h{number}") for number in range(count)]


def placed(needs: dict[str, Need], there: list[Host]) -> dict[str, str]:
    return {id: host for id, host in choose(needs, there, {}).items() if host}


@rows(["channels", "count"], [(100, 3), (1_000, 10), (5_000, 50)])
def test_the_load_is_balanced_within_a_tenth(channels: int, count: int) -> None:
    loads = Counter(placed({f"c{number}": ANYWHERE for number in range(channels)}, hosts(count)).values())
    fair = channels / count
    assert len(loads) == count
    assert all(0.9 * fair - 1 <= load <= 1.1 * fair + 1 for load in loads.values())


@rows(["channels", "count"], [(4, 1), (100, 3), (1_000, 10)])
def test_a_host_that_joins_gets_its_share_and_nothing_else_moves(channels: int, count: int) -> None:
    needs = {f"c{number}": ANYWHERE for number in range(channels)}
    holders = placed(needs, hosts(count))
    there = hosts(count + 1)
    moved = {id for host in there for id in give_up(host.id, needs, there, holders)}
    left = {id: host for id, host in holders.items() if id not in moved}
    chosen = choose(needs, there, left)
    fair = channels / (count + 1)
    assert {*chosen.values()} == {f"h{count}"}
    assert 0.9 * fair - 1 <= len(chosen) <= fair + 1
    settled = left | {id: host for id, host in chosen.items() if host}
    assert not any(give_up(host.id, needs, there, settled) for host in there)


def test_capacities_and_labels_are_kept() -> None:
    there = [Host("small", capacity=2), Host("north", labels={"site": "north"}), Host("drained", drained=True)]
    needs = {f"c{number}": ANYWHERE for number in range(8)} | {"n": Need({"site": "north"}), "s": Need({"site": "south"})}
    chosen = choose(needs, there, {})
    assert Counter(chosen.values()) == {"north": 7, "small": 2, None: 1}
    assert (chosen["n"], chosen["s"]) == ("north", None)
    assert shares(10, there[:2]) == {"small": 2, "north": 8}


@rows(["need", "there", "given"], [
    (ANYWHERE, [Host("me", drained=True), Host("other")], ["c"]),
    (Need(host_bound=True), [Host("me", drained=True), Host("other")], ["c"]),
    (ANYWHERE, [Host("me", drained=True)], []),
    (ANYWHERE, [Host("me", drained=True), Host("other", drained=True)], []),
    (Need({"site": "north"}), [Host("me"), Host("other")], ["c"]),
    (ANYWHERE, [Host("me"), Host("other")], []),
])  # fmt: skip
def test_who_gives_up_what_it_is_not_to_run(need: Need, there: list[Host], given: list[str]) -> None:
    assert give_up("me", {"c": need}, there, {"c": "me"}) == given


def test_what_is_bound_to_its_host_does_not_move_for_balance() -> None:
    needs = {f"c{number}": Need(host_bound=number % 2 == 0) for number in range(8)}
    given = give_up("h0", needs, hosts(2), dict.fromkeys(needs, "h0"))
    assert sorted(given) == ["c1", "c3", "c5", "c7"]


def test_scores_are_spread() -> None:
    best = Counter(max(range(8), key=lambda host: score(f"h{host}", f"c{id}")) for id in range(4_000))
    assert all(400 < count < 600 for count in best.values())


# --- schedules --------------------------------------------------------------------------------------------------------

TTL = 20.0
RENEW = TTL / 6
DRIFT = 0.01
"""How much faster or slower a host's clock may be than Redis's."""


@dataclass
class SimulatedRedis:
    """What the script in stores/leases.py does, by a clock of its own."""

    alive_until: dict[str, float] = field(default_factory=dict)
    holders: dict[str, tuple[str, int]] = field(default_factory=dict)
    fence: int = 0

    def living(self, now: float) -> set[str]:
        return {host for host, until in self.alive_until.items() if now < until}

    def turn(self, now: float, host: str, release: list[str], claim: list[str]) -> None:
        self.alive_until[host] = now + TTL
        living = self.living(now)
        for id in release:
            if self.holders.get(id, ("", 0))[0] == host:
                del self.holders[id]
        for id in claim:
            holder = self.holders.get(id, ("", 0))[0]
            if holder not in living and holder != host:
                self.fence += 1
                self.holders[id] = (host, self.fence)


@dataclass
class SimulatedHost:
    """One host's side of supervisor/leases.py; `rate`: seconds of its clock in one of Redis's."""

    id: str
    rate: float
    renewed: float = float("-inf")
    in_touch_since: float = float("inf")
    holders: dict[str, str] = field(default_factory=dict)
    living: set[str] = field(default_factory=set)
    runs: dict[str, int] = field(default_factory=dict)
    """Id -> fence."""
    until: float = float("-inf")
    giving: set[str] = field(default_factory=set)
    is_up: bool = True
    is_cut: bool = False
    stopped_until: float = 0.0
    next_turn: float = 0.0

    def clock(self, now: float) -> float:
        return now * self.rate

    def end_what_is_over(self, now: float) -> None:
        """The kernel's timers: they work in a host that is stopped, too."""
        if self.clock(now) > self.until:
            self.runs.clear()

    def look(self, now: float, redis: SimulatedRedis, needs: dict[str, Need], latency: tuple[float, float], moves: int) -> int:
        """Returns how many it began to give up."""
        sent = self.clock(now)
        if self.is_cut:
            if sent - self.renewed > TTL * STOP_AFTER:
                self.runs.clear()
            return 0
        known = {id: host for id, host in self.holders.items() if host in self.living}
        chosen = choose(needs, [Host(host) for host in sorted(self.living | {self.id})], known)
        may_take_over = sent - self.in_touch_since > TTL
        claim = [id for id, host in chosen.items() if host == self.id and (may_take_over or id not in self.holders)]
        release = [id for id in self.giving if id not in self.runs]
        redis.turn(now + latency[0], self.id, release, claim)
        if sent - self.renewed > TTL * (1 - MARGIN):
            self.in_touch_since = sent
        self.renewed, self.until = sent, sent + TTL * (1 - MARGIN)
        self.holders = {id: host for id, (host, _) in redis.holders.items()}
        self.living = redis.living(now + latency[0])
        mine = {id: fence for id, (host, fence) in redis.holders.items() if host == self.id}
        self.giving &= mine.keys()
        held = {id: host for id, host in self.holders.items() if id not in self.giving and host in self.living}
        given = give_up(self.id, needs, [Host(host) for host in sorted(self.living)], held)[:moves]
        self.giving.update(given)
        self.runs = {id: fence for id, fence in mine.items() if id not in self.giving}
        return len(given)


def simulate(seed: int) -> None:
    dice = random.Random(seed)
    redis = SimulatedRedis()
    there = [SimulatedHost(f"h{n}", 1 + dice.uniform(-DRIFT, DRIFT)) for n in range(dice.randint(2, 4))]
    needs = {f"c{n}": ANYWHERE for n in range(dice.randint(1, 16))}
    newest: dict[str, int] = {}
    now, moves = 0.0, 0
    while now < 140:
        now += 1
        if now < 80 and dice.random() < 0.2:
            host = dice.choice(there)
            match dice.randrange(4):
                case 0:
                    host.is_up = not host.is_up
                    host.runs.clear()
                    host.until = float("-inf")
                case 1:
                    host.is_cut = not host.is_cut
                case 2:
                    host.stopped_until = now + dice.uniform(1, 60)
                case 3:
                    there.append(SimulatedHost(f"h{len(there)}", 1 + dice.uniform(-DRIFT, DRIFT), next_turn=now))
        if now == 80:
            for host in there:
                host.is_up, host.is_cut, host.stopped_until = True, False, 0.0
        for host in there:
            host.end_what_is_over(now)
            if host.is_up and now >= host.stopped_until and now >= host.next_turn:
                host.next_turn = now + RENEW * dice.uniform(0.8, 1.2)
                moves += host.look(now, redis, needs, (dice.uniform(0, 0.3), 0.3), moves=10)
        for id in needs:
            owners = [(host.runs[id], host.id) for host in there if id in host.runs]
            assert len(owners) <= 1, (seed, now, id, owners)
            if owners:
                assert owners[0][0] >= newest.get(id, 0), (seed, now, id)
                newest[id] = owners[0][0]
    loads = Counter(host.id for host in there for _ in host.runs)
    assert loads.total() == len(needs), (seed, loads)
    assert max(loads.values()) <= 1.1 * len(needs) / len(there) + 1, (seed, loads)
    assert moves <= len(needs) * len(there) * 4, (seed, moves)


def test_there_are_never_two_owners_whatever_happens_to_hosts() -> None:
    """And in the end all runs, in balance, after a bounded number of moves."""
    for seed in range(150 if THOROUGH == 1 else 1_000 * THOROUGH):
        simulate(seed)
