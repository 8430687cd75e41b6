"""A host that fails is probed by one of the channels that wait for it; all hear that it works again."""

from __future__ import annotations

from typing import Any, cast

import pytest

from junebug.config.declaration import Settings
from junebug.errors import StoreUnavailable
from junebug.stores import Stores
from junebug.stores.circuits import CircuitStore, Watch
from junebug.worker.callbacks import shared_circuit
from junebug.worker.callbacks.shared_circuit import GRACE, LONGEST_SPREAD, OWN_PAUSES, SharedCircuit, spread
from tests.polling import eventually
from tests.tables import rows
from tests.worker.conftest import Bench
from tests.worker.test_forwarder import DELAYS, Host, all_wait, host, loopback, mo, receive, set_up

__all__ = ["host"]

HOST = "http://a:80"


@rows(
    ("due_in", "pause", "first", "last"),
    [
        (30.0, 30.0, 30.0, 45.0),
        (4.0, 5.0, 4.0, 9.0),
        (0.5, 0.5, 0.5, 1.5),
        (600.0, 600.0, 600.0, 615.0),  # as a Retry-After asks
        (-3.0, 30.0, 0.0, 15.0),  # it is under way
    ],
)
def test_looks_are_spread_behind_the_probe(due_in: float, pause: float, first: float, last: float) -> None:
    watch = Watch(100.0, due_in, pause, "")
    assert (spread(watch, 0.0), spread(watch, 1.0)) == (first, last)


class OneWatch:
    """A store in which somebody else probes; what it is told."""

    def __init__(self, age: float = 0.0) -> None:
        self.watch: Watch | None = Watch(age, 30.0, 30.0, "HTTP 503")
        self.told: list[str] = []
        self.is_away = False

    async def take(self, *_: Any) -> Watch | None:
        if self.is_away:
            raise StoreUnavailable("away")
        return self.watch

    async def failed(self, *_: Any) -> None:
        self.told.append("failed")

    async def works(self, *_: Any) -> None:
        self.told.append("works")

    async def leave(self, *_: Any) -> None:
        self.told.append("leave")


class Waiting:
    """A destination's circuit at a time that the test says."""

    def __init__(self, age: float = 0.0) -> None:
        self.now = 1000.0
        self.store = OneWatch(age)
        self.circuit = SharedCircuit(cast(CircuitStore, self.store), HOST, "me", 10.0, lambda: self.now)


async def test_who_waits_for_anothers_probe_looks_after_it_and_probes_once_in_minutes_all_the_same() -> None:
    waiting = Waiting()
    probes = []
    while waiting.now < 1000.0 + 3600.0:
        pause = await waiting.circuit.wait()
        assert pause <= 30.0 + LONGEST_SPREAD
        if not pause:
            probes.append(waiting.now)
            await waiting.circuit.failed(30.0, "HTTP 503")
        waiting.now += pause or 0.001
    gaps = [after - before for before, after in zip([1000.0, *probes], probes, strict=False)]
    assert waiting.circuit.reason == "HTTP 503"
    assert not waiting.store.told  # it is not the one who probes for all
    assert OWN_PAUSES[0] * 0.75 <= gaps[0] <= OWN_PAUSES[0] * 1.25 + 0.01
    assert all(OWN_PAUSES[2] * 0.75 <= gap <= OWN_PAUSES[2] * 1.25 + 0.01 for gap in gaps[2:])


async def test_who_got_through_while_it_failed_for_others_waits_for_nobody_at_first() -> None:
    waiting = Waiting(age=600.0)
    waiting.circuit.showed_life()
    waiting.now += 60.0
    assert await waiting.circuit.wait() == 0.0
    waiting.now += OWN_PAUSES[0] + 1
    assert await waiting.circuit.wait() > 0.0


async def test_who_got_through_before_it_failed_for_all_waits() -> None:
    waiting = Waiting(age=10.0)
    waiting.circuit.showed_life()
    waiting.now += 60.0
    assert await waiting.circuit.wait() > 0.0


async def test_without_redis_everybody_probes_for_himself() -> None:
    waiting = Waiting()
    waiting.store.is_away = True
    assert [await waiting.circuit.wait() for _ in range(3)] == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("works", [True, False])
async def test_the_one_who_probes_says_how_it_goes(works: bool) -> None:
    waiting = Waiting()
    waiting.store.watch = None
    assert not await waiting.circuit.wait()
    await waiting.circuit.failed(30.0, "refused")
    await waiting.circuit.over(works=works)
    assert waiting.store.told == ["failed", "works" if works else "leave"]


async def test_redis_knows_one_prober_a_host_until_it_is_late_or_leaves(settings: Settings) -> None:
    stores = Stores(settings)
    store = stores.circuits
    try:
        assert await store.take(HOST, "a", 60.0) is None
        assert await store.take(HOST, "a", 60.0) is None  # as after its restart
        assert await store.take("http://b:80", "b", 60.0) is None
        found = await store.take(HOST, "b", 60.0)
        assert found
        assert found.due_in <= 0.0  # under way
        await store.failed(HOST, "a", 30.0, GRACE, "HTTP 503")
        await store.failed(HOST, "b", 3.0, GRACE, "it is not the one")
        found = await store.take(HOST, "b", 60.0)
        assert found
        assert (found.pause, found.reason) == (30.0, "HTTP 503")
        assert 20.0 < found.due_in <= 30.0
        assert 0.0 <= found.age < 20.0
        await store.leave(HOST, "b")
        assert await store.take(HOST, "b", 60.0)
        await store.leave(HOST, "a")
        assert await store.take(HOST, "b", 60.0) is None
        await store.works(HOST)
        assert [await store.take(HOST, name, 60.0) for name in "cde"] == [None, None, None]  # nobody waits
        await store.failed(HOST, "d", 0.01, 0.01, "again")
        assert not (await store.take(HOST, "d", 0.01))

        async def is_late() -> bool:
            return await store.take(HOST, "e", 60.0) is None

        await eventually(is_late)
    finally:
        await stores.close()


@pytest.fixture
def impatient(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Pauses short enough to be waited for."""
    monkeypatch.setattr(shared_circuit, "SHORTEST_SPREAD", 0.1)
    set_up(bench, callback_retry_delays=DELAYS)
    return bench


async def test_of_two_channels_whose_application_is_dead_one_probes_and_both_deliver_when_it_is_back(
    impatient: Bench, host: Host
) -> None:
    bench = impatient
    host.always = 503
    await host.start()
    first = await loopback(bench, mo_url=host.url("/first"))
    await receive(bench, first, *(mo(f"first {n}", f"+{n}") for n in range(3)))
    await host.wait(3 + 2)  # each once, and two probes
    second = await loopback(bench, mo_url=host.url("/second"))
    await receive(bench, second, *(mo(f"second {n}", f"+{n}") for n in range(3)))

    def seconds() -> int:
        return sum(each["content"].startswith("second") for each in host.received)

    await eventually(lambda: seconds() == 3)
    await host.wait(len(host.received) + 4)
    assert seconds() == 3
    assert (await bench.component(second, "callbacks"))["status"] == "degraded"
    await bench.stop(second)
    bench.start(second)
    await bench.running(second)
    await host.wait(len(host.received) + 3)
    assert seconds() == 3
    host.always = 200
    host.received.clear()

    async def all_came() -> bool:
        return {each["content"] for each in host.received} >= {f"{name} {n}" for name in ("first", "second") for n in range(3)}

    await eventually(all_came)

    async def all_is_well() -> bool:
        return [(await bench.component(each, "callbacks"))["status"] for each in (first, second)] == ["ok", "ok"]

    await eventually(all_is_well)


async def test_what_failed_before_a_restart_and_works_after_it_is_told(impatient: Bench, host: Host) -> None:
    bench = impatient
    channel = await loopback(bench, mo_url=host.url())
    await receive(bench, channel, mo("1"))

    async def has(status: str) -> bool:
        return (await bench.component(channel, "callbacks")).get("status") == status

    await eventually(lambda: has("degraded"))
    await bench.stop(channel)
    await host.start()
    bench.start(channel)
    await host.wait(1)
    await eventually(lambda: has("ok"))


async def test_the_next_one_probes_when_the_prober_is_gone(impatient: Bench, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = impatient
    monkeypatch.setattr(shared_circuit, "GRACE", 0.2)
    set_up(bench, callback_timeout=0.3)
    first, second = [await loopback(bench, mo_url=host.url(f"/{name}")) for name in "ab"]
    await receive(bench, first, mo("first"))
    await all_wait(bench, first, 1)
    await receive(bench, second, mo("second"))
    await all_wait(bench, second, 1)
    await bench.stop(first)
    await host.start()
    await host.wait(1)
    assert host.contents() == ["second"]
