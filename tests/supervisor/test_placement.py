"""What runs where: the decision alone. In a world of hosts that come, end, hang and are cut off: test_fleet.py."""

from __future__ import annotations

import random
from collections import Counter

from junebug.supervisor.placement import Host, Need, choose, give_up, shares
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
    assert shares(Counter(small=2, north=8), there[:2]) == {"small": 2, "north": 8}


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


@rows(["loads", "given"], [
    ([12, 12] + 7 * [11] + [0], 10),  # 101 on 9 hosts, and one that joins: not 2 for it, as only two have more than the others
    ([11, 10, 9], 1),
    ([34, 34, 32], 0),
    ([104, 100, 96], 0),
    ([106, 100, 94], 6),
    ([90, 100, 100, 110, 100], 10),
    ([95, 95, 95, 95, 0], 76),
    ([1, 1, 0, 0], 0),
])  # fmt: skip
def test_moves_are_as_few_as_bring_each_near_to_its_share(loads: list[int], given: int) -> None:
    holders = {f"c{number}.{n}": f"h{number}" for number, load in enumerate(loads) for n in range(load)}
    needs, there = dict.fromkeys(holders, ANYWHERE), hosts(len(loads))
    moved = {id for host in there for id in give_up(host.id, needs, there, holders)}
    assert len(moved) == given
    settled = {id: host for id, host in holders.items() if id not in moved}
    settled |= {id: host for id, host in choose(needs, there, settled).items() if host}
    fair = sum(loads) / len(loads)
    assert all(abs(load - fair) <= max(1, 0.1 * fair) for load in (Counter(settled.values())[host.id] for host in there))
    assert not any(give_up(host.id, needs, there, settled) for host in there)


def test_what_is_being_given_up_is_not_given_up_twice() -> None:
    holders = {f"c{number}": f"h{number % 2}" for number in range(100)}
    needs, there = dict.fromkeys(holders, ANYWHERE), hosts(3)
    giving = give_up("h0", needs, there, holders)
    assert len(giving) in (16, 17)
    assert give_up("h0", needs, there, holders, giving) == []
    assert give_up("h0", needs, there, holders, giving[:5]) == [id for id in giving if id not in giving[:5]]


def test_hosts_that_claim_one_after_the_other_want_what_they_wanted_at_first() -> None:
    """Each decides anew when another has claimed its part; and knows of nearly the same when it does not know of some yet."""
    dice = random.Random(7)
    for _ in range(200):
        there = [Host(f"h{n}", dice.choice([0, 0, 3]), dice.choice([{}, {"site": "north"}])) for n in range(dice.randint(1, 9))]
        needs = {f"c{n}": dice.choice([ANYWHERE, Need({"site": "north"})]) for n in range(dice.randint(1, 60))}
        holders = {id: dice.choice(there).id for id in needs if dice.random() < 0.3}
        chosen = choose(needs, there, holders)
        for host in dice.sample(there, len(there)):
            assert {id: where for id, where in chosen.items() if id not in holders} == choose(needs, there, holders)
            holders |= {id: where for id, where in chosen.items() if where == host.id}
    needs = {f"c{n}": ANYWHERE for n in range(1_000)}
    known, less = choose(needs, hosts(10), {}), choose({id: need for id, need in needs.items() if id != "c500"}, hosts(10), {})
    assert sum(known[id] != less[id] for id in less) < 50


def test_what_labels_leave_is_spread_as_evenly_as_they_allow() -> None:
    north = [Host(f"n{number}", labels={"site": "north"}) for number in range(4)]
    needs = {f"n{number}": Need({"site": "north"}) for number in range(90)} | {f"c{n}": ANYWHERE for n in range(10)}
    loads = Counter(choose(needs, [*hosts(5), *north], {}).values())
    assert sorted(loads.values()) == [2, 2, 2, 2, 2, 22, 22, 23, 23]
