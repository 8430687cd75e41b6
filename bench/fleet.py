"""Hosts that share channels, simulated: the real `Leases` and placement; clock, network, Redis and supervisords are simulated.

    SimulatedHost  a machine: its clock, its network to Redis, its supervisord, and the loop of its reconciler
    Fleet          the hosts, what happens to them (seeded), and what must be true at every moment

A host's clock goes faster or slower than Redis's, requests and replies are late or lost, also one way only; hosts end, die, hang,
lose their reconciler, are drained, have no RabbitMQ; Redis is away, is emptied, or fails over to a copy that lacks the last
seconds.
Used by tests/supervisor/test_fleet.py and `python -m bench.hosts`.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from bench.simulated import Process, SimulatedLoop, SimulatedRedis, SimulatedSupervisor
from junebug.errors import HostTaken, StoreUnavailable, Unavailable
from junebug.runtime import fence
from junebug.stores.leases import Turn
from junebug.supervisor import leases
from junebug.supervisor.identity import Identity
from junebug.supervisor.placement import Need

TTL, INTERVAL, REQUEST_TIMEOUT = 20.0, 3.0, 5.0
DRIFT = 0.02
"""How much faster or slower a host's clock may be than Redis's."""
TROUBLE, QUIET, STEP = 150.0, 240.0, 0.5
"""Seconds in which things happen, in which nothing happens any more, and between two looks at all hosts."""
MOVES = 30
ANYWHERE, NORTH = Need(), Need({"site": "north"})


class SimulatedStore:
    """`Stores` of one host, as far as `Leases` uses it: the network between them and Redis."""

    def __init__(self, host: SimulatedHost, timeout: float) -> None:
        self.leases = self
        self._host = host
        self._timeout = timeout

    async def turn(self, *asked: Any, **more: Any) -> Turn:
        found: Turn = await self._call(lambda redis, now: redis.turn(now, *asked, **more))
        return found

    async def leave(self, host: str, release: Mapping[str, int]) -> None:
        await self._call(lambda redis, now: redis.leave(now, host, release))

    async def close(self) -> None: ...

    async def _call(self, ask: Callable[[SimulatedRedis, float], Any]) -> Any:
        """What is late is done all the same: the caller only does not hear of it. What a process sent that has died is lost."""
        host, fleet, life = self._host, self._host.fleet, self._host.life
        reply = fleet.loop.create_future()

        def arrive() -> None:
            if fleet.is_redis_away or host.life != life:
                return
            try:
                found = ask(fleet.redis, fleet.loop.time())
            except HostTaken as error:
                found = error
            if not host.hears_nothing:
                fleet.loop.call_later(fleet.delay(), answer, found)

        def answer(found: Any) -> None:
            if not reply.done():
                reply.set_result(found)

        if not host.says_nothing:
            fleet.loop.call_later(fleet.delay(), arrive)
        try:
            async with asyncio.timeout(self._timeout / host.rate):
                found = await reply
        except TimeoutError:
            found = StoreUnavailable("no answer")
        await host.awake()
        if isinstance(found, Exception):
            raise found
        return found


class SimulatedHost:
    """A machine with its supervisord, and its reconciler, which looks, claims, starts and stops."""

    def __init__(self, fleet: Fleet, id: str, labels: Mapping[str, str]) -> None:
        self.fleet, self.id, self.labels = fleet, id, labels
        self.rate = 1 + fleet.dice.uniform(-DRIFT, DRIFT)
        self.offset = fleet.dice.uniform(0, 1e6)
        self.asleep_until = 0.0
        self.says_nothing = self.hears_nothing = self.is_ending = False
        self.has_broker = True
        self.supervisor = SimulatedSupervisor(self)
        self.leases: leases.Leases | None = None
        self.life = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._woken = asyncio.Event()

    def clock(self) -> float:
        return self.offset + self.fleet.loop.time() * self.rate

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds) / self.rate)
        await self.awake()

    async def awake(self) -> None:
        while (left := self.asleep_until - self.fleet.loop.time()) > 0:
            await asyncio.sleep(left)

    @property
    def is_up(self) -> bool:
        return bool(self._tasks)

    def start(self) -> None:
        """The reconciler; what its supervisord has is still there."""
        self.kill_reconciler()
        self.is_ending = False
        self.fleet.came()
        mine = self.leases = self.new_leases()
        mine.broker(self.has_broker)
        context = contextvars.copy_context()
        self._tasks = [self.fleet.loop.create_task(work, context=context) for work in (mine.run(), self._look_forever(mine))]

    def new_leases(self) -> leases.Leases:
        """The caller's context is this host's from now on."""
        _here.set(self)
        settings: Any = SimpleNamespace(
            lease_ttl=TTL, reconcile_interval=INTERVAL, request_timeout=REQUEST_TIMEOUT, supervisor_socket=None, capacity=0,
            labels=self.labels, moves_per_minute=MOVES,
        )  # fmt: skip
        return leases.Leases(settings, Identity(self.id, f"place of {self.id}", self.id), self._woken.set)

    def reach_broker(self, reaches: bool) -> None:
        self.has_broker = reaches
        if self.leases and self.is_up:
            _here.set(self)
            self.leases.broker(reaches)

    def kill_reconciler(self) -> None:
        self.life += 1
        for task in self._tasks:
            task.cancel()
        self._tasks = []

    def die(self) -> None:
        self.kill_reconciler()
        self.supervisor = SimulatedSupervisor(self)

    async def _look_forever(self, mine: leases.Leases) -> None:
        while True:
            await self._look(mine)
            if self.is_ending and not self.supervisor.running():
                await mine.hand_over(leave=True)
                return self.die()
            await self.sleep(self.fleet.dice.uniform(0.05, 1))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1 if self.is_ending else INTERVAL / self.rate):
                    await self._woken.wait()
            await self.awake()
            self._woken.clear()

    async def _look(self, mine: leases.Leases) -> None:
        running = self.supervisor.running()
        if self.is_ending:
            self.supervisor.remove(running)
            return await mine.hand_over()
        if self.says_nothing or self.hears_nothing or self.fleet.is_redis_away:
            return
        needs = dict(self.fleet.needs)
        try:
            here = await mine.share(needs, running)
        except (HostTaken, Unavailable, StoreUnavailable):
            return
        self.supervisor.remove(id for id in running if id not in here)
        self.supervisor.start([id for id in here if id in needs and id not in running], mine.launch)
        self.fleet.check_moves(self, mine)


_here: contextvars.ContextVar[SimulatedHost] = contextvars.ContextVar("host")


class Fleet:
    """`live` is its story. Raises AssertionError, with the seed and the moment."""

    def __init__(self, seed: int, loop: SimulatedLoop) -> None:
        self.seed, self.loop, self.dice = seed, loop, random.Random(seed)
        self.redis = SimulatedRedis()
        self.is_redis_away = False
        self.lossy_until = 0.0
        """Redis has lost what nobody knew yet: RabbitMQ alone may keep a second process from its bind, for as long as the leases
        last that were given before."""
        self._emptied_at = -TTL
        self._slowness = self.dice.choice([0.002, 0.02, 0.3])
        has_labels = self.dice.random() < 0.3
        kinds = [ANYWHERE, NORTH] if has_labels else [ANYWHERE]
        self.needs = {f"c{n}": self.dice.choice(kinds) for n in range(self.dice.randint(20, 60))}
        labels = [{"site": "north"} if has_labels and n % 2 == 0 else {} for n in range(self.dice.randint(3, 8))]
        self.hosts = [SimulatedHost(self, f"h{n}", each) for n, each in enumerate(labels)]
        self._given: dict[str, set[str]] = {}
        self.moves = 0

    def delay(self) -> float:
        """Of a request or a reply, in seconds; in trouble a few are very late."""
        is_late = self.loop.time() < TROUBLE and self.dice.random() < 0.02
        return self.dice.uniform(0, 10) if is_late else self.dice.expovariate(1 / self._slowness)

    async def live(self) -> None:
        for host in self.hosts[: self.dice.randint(1, len(self.hosts))]:
            host.start()
        while self.loop.time() < TROUBLE:
            if self.dice.random() < 0.12 * STEP:
                self._happen()
            await asyncio.sleep(STEP)
            self._check()
        self._recover()
        while self.loop.time() < TROUBLE + QUIET:
            await asyncio.sleep(STEP)
            self._check()
        self._check_end()

    def _happen(self) -> None:
        host, dice = self.dice.choice(self.hosts), self.dice
        match dice.randrange(12):
            case 0:
                host.die()
            case 1 | 2:
                host.asleep_until = self.loop.time() + dice.uniform(1, 60)
            case 3:
                host.says_nothing = not host.says_nothing
            case 4:
                host.hears_nothing = not host.hears_nothing
            case 5:
                if host.is_up:
                    host.start()  # the reconciler had died
            case 6:
                host.is_ending = host.is_up
            case 7:
                self.redis.drained ^= {host.id}
            case 8:
                self.is_redis_away = not self.is_redis_away
            case 9:
                if dice.random() < 0.5:
                    self._empty()
                else:
                    self.loop.call_later(dice.uniform(0.1, 10), self._fail_over, self.redis.copied())
            case 10:
                self.needs[f"c{len(self.needs)}"] = ANYWHERE
            case 11:
                for each in self.hosts if dice.random() < 0.3 else [host]:
                    each.reach_broker(not host.has_broker)
        for each in self.hosts:
            if not each.is_up and dice.random() < 0.3:
                each.start()

    def _empty(self) -> None:
        self.redis, self._emptied_at = self.redis.emptied(), self.loop.time()
        if any(host.leases and not host.leases._newest for host in self.hosts if host.is_up):
            self._lose()

    def came(self) -> None:
        """A host that knows nothing: what Redis has lost a moment ago it cannot see."""
        if self.loop.time() - self._emptied_at < TTL / 2:
            self._lose()

    def _fail_over(self, copy: SimulatedRedis) -> None:
        if self.loop.time() < TROUBLE:
            self.redis = copy
            self._lose()

    def _lose(self) -> None:
        self.lossy_until = self.loop.time() + TTL

    def _recover(self) -> None:
        self.is_redis_away = False
        self.redis.drained.clear()
        for host in self.hosts:
            host.says_nothing = host.hears_nothing = False
            host.reach_broker(True)
            host.asleep_until = 0.0
            if host.is_ending or not host.is_up:
                host.die()
                host.start()

    # --- what must be true --------------------------------------------------------------------------------------------

    def _owners(self) -> dict[str, list[tuple[SimulatedHost, Process]]]:
        """Whose processes live: they were not stopped, and their lease is not over."""
        found: dict[str, list[tuple[SimulatedHost, Process]]] = {}
        now = self.loop.time()
        for host in self.hosts:
            clock = host.clock()
            for id, process in host.supervisor.processes.items():
                if lives := clock <= process.until and (process.gone_at is None or now < process.gone_at):
                    found.setdefault(id, []).append((host, process))
                process.is_bound = process.is_bound and lives and host.has_broker
        return found

    def _check(self) -> None:
        is_lossy = self.loop.time() < self.lossy_until
        for id, owners in self._owners().items():
            fenced = [process for _, process in owners if not process.alone]
            assert len(fenced) <= 1 or is_lossy, self._told(f"two own {id}: {[host.id for host, _ in owners]}")
            if not any(process.is_bound for _, process in owners):
                able = [
                    each for host, each in owners
                    if host.asleep_until <= self.loop.time() and each.gone_at is None and host.has_broker
                ]  # fmt: skip
                for process in able[:1]:
                    process.is_bound = True

    def check_moves(self, host: SimulatedHost, mine: leases.Leases) -> None:
        """Never more given up in a minute than is set; called at each look."""
        given = mine._given
        assert len(given) <= MOVES, self._told(f"{host.id} gives up {len(given)} in a minute")
        before = self._given.get(host.id, set())
        self.moves += len(mine._giving - before)
        self._given[host.id] = set(mine._giving)

    def _check_end(self) -> None:
        loads, running = Counter[str](), self._owners()
        for id, need in self.needs.items():
            owners = running.get(id, [])
            assert len(owners) == 1, self._told(f"in the end {id} is run by {[host.id for host, _ in owners]}")
            assert owners[0][1].is_bound, self._told(f"in the end {id} waits")
            assert need.labels.items() <= owners[0][0].labels.items(), self._told(f"{id} is where its labels are not")
            loads[owners[0][0].id] += 1
        if not any(need.labels for need in self.needs.values()):
            fair = loads.total() / len(self.hosts)
            tolerated = max(1, 0.1 * fair)
            assert all(abs(loads[host.id] - fair) <= tolerated for host in self.hosts), self._told(f"unbalanced: {loads}")

    def _told(self, what: str) -> str:
        alone = f"python -m bench.hosts schedules --first {self.seed} --count 1"
        return f"seed {self.seed}, second {self.loop.time():.1f}: {what}; it alone: {alone}"


def simulate(seed: int, live: Callable[[Fleet], Coroutine[Any, Any, None]] = Fleet.live) -> Fleet:
    """One schedule, start to end; or another story of such a fleet. Raises AssertionError."""
    loop = SimulatedLoop()
    fleet = Fleet(seed, loop)
    quiet = SimpleNamespace(**dict.fromkeys(("info", "warning", "error"), lambda *_, **__: None))
    with contextlib.ExitStack() as patched:
        for where, name, what in (
            (leases, "Stores", lambda settings, timeout: SimulatedStore(_here.get(), timeout)),
            (leases, "SupervisorClient", lambda path: _here.get().supervisor),
            (leases, "log", quiet),
            (leases, "asyncio", SimpleNamespace(
                sleep=lambda seconds: _here.get().sleep(seconds), to_thread=asyncio.to_thread, Lock=asyncio.Lock,
            )),
            (fence, "now", lambda: _here.get().clock()),
        ):  # fmt: skip
            patched.enter_context(patch.object(where, name, what))
        try:
            loop.run_until_complete(live(fleet))
        finally:
            if tasks := asyncio.all_tasks(loop):
                for task in tasks:
                    task.cancel()
                loop.run_until_complete(asyncio.wait(tasks))
            loop.close()
    return fleet
