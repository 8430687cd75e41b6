"""Many hosts: schedules of a small fleet, simulated, and what a large one costs.

    python -m bench.hosts schedules [--first N] [--count N]   bench/fleet.py, by seed; what fails is named, and can be run alone
    python -m bench.hosts figures                             a table: placement, a host's look, a command of Redis's, by size

Redis is a real one, private; all hosts' commands come from this process, one after the other. One line of JSON a row.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from bench.fleet import ANYWHERE, INTERVAL, TTL, Fleet, simulate
from junebug import names
from junebug.config.declaration import RedisSettings
from junebug.embedded import free_ports, redis_program
from junebug.stores.client import Command, RedisClient, check
from junebug.stores.leases import HostEntry, LeaseStore
from junebug.stores.specs import note_of_change
from junebug.stores.wanted import WantedStore
from junebug.supervisor import placement
from junebug.supervisor.placement import Host, choose, give_up
from junebug.supervisor.reconcile import Running

T = TypeVar("T")
SIZES = ((1, 300), (10, 1_000), (100, 10_000), (1_000, 100_000))
RENEWALS, CLAIMS_AT_ONCE, TIMEOUT = 300, 1_000, 30.0
PROGRESS = 500


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """Milliseconds of this process's CPU, and the result."""
    begun = time.process_time()
    done = work()
    return round((time.process_time() - begun) * 1000, 2), done


def of_placement(hosts: list[Host], ids: list[str]) -> tuple[dict[str, Any], dict[str, str]]:
    needs, joined = dict.fromkeys(ids, ANYWHERE), [*hosts, Host("new")]
    anew, chosen = timed(lambda: choose(needs, hosts, {}))
    placed = {id: host for id, host in chosen.items() if host}
    loads = Counter(placed.values())
    nothing_new, _ = timed(lambda: (choose(needs, hosts, placed), give_up(hosts[0].id, needs, hosts, placed)))
    joins, _ = timed(lambda: give_up(hosts[0].id, needs, joined, placed))
    _, moves = placement._moves(joined, Counter(loads), needs, placed)
    left = {id: host for id, host in placed.items() if host != hosts[-1].id}
    dies, taken = timed(lambda: choose(needs, hosts[:-1], left))
    after = Counter([*left.values(), *(host for host in taken.values() if host)])
    return {
        "anew_ms": anew, "nothing_new_ms": nothing_new, "joins_ms": joins, "moved": sum(moves.values()), "dies_ms": dies,
        "taken_over": len(taken), "loads": [min(loads.values()), max(loads.values())],
        "after_a_death": [min(after.values(), default=0), max(after.values(), default=0)],
    }, placed  # fmt: skip


def of_look(hosts: list[Host], placed: dict[str, str]) -> dict[str, Any]:
    """A host's CPU for one look, and for one renewal, when there is nothing new."""
    took: dict[str, Any] = {}

    async def story(fleet: Fleet) -> None:
        host = fleet.hosts[0]
        host.id = hosts[0].id
        mine, needs, now = host.new_leases(), dict.fromkeys(placed, ANYWHERE), fleet.loop.time()
        for each in hosts[1:]:
            fleet.redis.turn(now, HostEntry(each.id), f"place of {each.id}", TTL)
        fleet.redis.leases = {id: (where, 1) for id, where in placed.items()}
        running = {id: Running("RUNNING", 1) for id, where in placed.items() if where == host.id}
        await mine._turn()
        await mine.share(needs, running)
        for name, work in (("look_ms", lambda: mine.share(needs, running)), ("renewal_ms", mine._turn)):
            begun = time.process_time()
            await work()
            took[name] = round((time.process_time() - begun) * 1000, 2)

    simulate(0, story)
    return took


async def of_redis(redis: RedisClient, hosts: list[Host], placed: dict[str, str]) -> dict[str, Any]:
    await redis.run(("FLUSHALL",))
    store = LeaseStore(redis)
    own: dict[str, list[str]] = {}
    for id, holder in placed.items():
        own.setdefault(holder, []).append(id)

    async def turn(host: str, **asked: Any) -> Any:
        return await store.turn(HostEntry(host, name="machine"), f"place of {host}", 3600, **asked)

    begun, known = time.perf_counter(), ""
    for host in hosts:
        ids = own.get(host.id, [])
        for at in range(0, len(ids), CLAIMS_AT_ONCE):
            known = (await turn(host.id, claim=dict.fromkeys(ids[at : at + CLAIMS_AT_ONCE], 0), seen=known)).seen
    claimed = time.perf_counter() - begun
    found = await turn(hosts[0].id)
    known, living = found.seen, found.hosts

    async def cost(times: int, **asked: Any) -> tuple[float, int]:
        """Microseconds of Redis's, and octets, of one command."""
        await redis.run(("CONFIG", "RESETSTAT"))
        for number in range(times):
            await turn(hosts[number % len(hosts)].id, **asked)
        commands, net = await redis.run(("INFO", "commandstats"), ("INFO", "stats"))
        return _number(commands, "cmdstat_eval:", "usec_per_call="), int(_number(net, "total_net_output_bytes:") / times)

    await cost(3 * RENEWALS, seen=known, hosts=living)  # until Redis's Lua has freed what the claims took
    renewal_us, renewal_octets = await cost(RENEWALS, seen=known, hosts=living)
    id, holder = next(iter(placed.items()))
    await turn(holder, release={id: (found.holders or {})[id][1]})
    change_us, change_octets = await cost(RENEWALS, seen=known, hosts=living)
    whole_us, whole_octets = await cost(5)
    ids = [*placed]
    for at in range(0, len(ids), CLAIMS_AT_ONCE):
        some = ids[at : at + CLAIMS_AT_ONCE]
        await redis.run(("SADD", names.CHANNELS, *some), ("HSET", names.GENERATIONS, *(each for id in some for each in (id, 1))))
    looking = WantedStore(redis, 60)
    await looking.look()

    async def look_cost(told: Sequence[Command]) -> tuple[float, int]:
        """Microseconds of Redis's, and octets, of one look."""
        took = octets = 0.0
        for _ in range(RENEWALS):
            if told:
                await redis.run(*told)
            await redis.run(("CONFIG", "RESETSTAT"))
            await looking.look()
            commands, net = await redis.run(("INFO", "commandstats"), ("INFO", "stats"))
            took += _number(commands, "cmdstat_eval:", "usec_per_call=")
            octets += _number(net, "total_net_output_bytes:")
        return round(took / RENEWALS, 1), int(octets / RENEWALS)

    wanted_look_us, wanted_look_octets = await look_cost(())
    wanted_change_us, wanted_change_octets = await look_cost(note_of_change(ids[0]))
    await redis.run(("CONFIG", "RESETSTAT"))
    for _ in range(5):
        await looking.wanted()
    (commands,) = await redis.run(("INFO", "commandstats"))
    wanted_us = sum(_number(commands, f"cmdstat_{each}:", "usec_per_call=") for each in ("hgetall", "smembers"))
    a_second = len(hosts) / min(INTERVAL, TTL / 6)
    return {
        "claims_s": round(claimed, 2), "commands_per_s": round(a_second, 1), "renewal_us": renewal_us,
        "redis_core_percent": round(a_second * renewal_us / 1e4, 2), "renewal_octets": renewal_octets, "change_us": change_us,
        "change_octets": change_octets - renewal_octets, "whole_ms": round(whole_us / 1000, 2), "whole_octets": whole_octets,
        "wanted_look_us": wanted_look_us, "wanted_look_octets": wanted_look_octets,
        "wanted_change_us": round(wanted_change_us - wanted_look_us, 1),
        "wanted_change_octets": wanted_change_octets - wanted_look_octets, "wanted_ms": round(wanted_us / 1000, 2),
    }  # fmt: skip


def _number(text: str, *after: str) -> float:
    for each in after:
        text = text.partition(each)[2]
    return float(text.split()[0].split(",")[0])


async def figures() -> None:
    with tempfile.TemporaryDirectory() as directory:
        (port,) = free_ports(1)
        program = redis_program(Path(directory), port)
        process = subprocess.Popen(program.command, env={**os.environ, **program.environment}, stdout=subprocess.DEVNULL)
        settings = RedisSettings(host="127.0.0.1", port=port)
        try:
            await _reachable(settings)
            redis = RedisClient(settings, TIMEOUT)
            for count, channels in SIZES:
                dice = random.Random(1)
                hosts = [Host(f"machine-{number}") for number in range(count)]
                row, placed = of_placement(hosts, [str(uuid.UUID(int=dice.getrandbits(128))) for _ in range(channels)])
                row |= await asyncio.to_thread(of_look, hosts, placed)
                row |= await of_redis(redis, hosts, placed)
                print(json.dumps({"hosts": count, "channels": channels} | row), flush=True)
            await redis.close()
        finally:
            process.kill()
            process.wait(TIMEOUT)


async def _reachable(settings: RedisSettings) -> None:
    async with asyncio.timeout(TIMEOUT):
        while True:
            try:
                return await check(settings, 1)
            except Exception:
                await asyncio.sleep(0.1)


def schedule(seed: int) -> str | int:
    """What is wrong, or how many channels moved."""
    try:
        return simulate(seed).moves
    except Exception as error:
        return str(error) if isinstance(error, AssertionError) else f"seed {seed}: {error!r}"


def schedules(first: int, count: int) -> int:
    """How many failed."""
    begun, failed, moves = time.perf_counter(), 0, 0
    with ProcessPoolExecutor() as pool:
        for number, found in enumerate(pool.map(schedule, range(first, first + count), chunksize=5), 1):
            if isinstance(found, str):
                failed += 1
                print(found, flush=True)
            else:
                moves += found
            if number % PROGRESS == 0:
                print(f"{number} of {count}, {failed} failed", file=sys.stderr, flush=True)
    row = {"schedules": count, "failed": failed, "moves": moves, "seconds": round(time.perf_counter() - begun)}
    print(json.dumps(row))
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    commands.add_parser("figures")
    some = commands.add_parser("schedules")
    some.add_argument("--first", type=int, default=0)
    some.add_argument("--count", type=int, default=10_000)
    asked = parser.parse_args()
    if asked.what == "figures":
        asyncio.run(figures())
    else:
        sys.exit(schedules(asked.first, asked.count) > 0)


if __name__ == "__main__":
    main()
