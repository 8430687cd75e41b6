"""Redis' facts judged. Pure. Neighbour: stores/inspection.py asks for them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from junebug.client.doctor.finding import Finding, failed, ok, warning
from junebug.client.output import plural
from junebug.config.addresses import Address
from junebug.config.declaration import RedisSettings
from junebug.stores.inspection import RedisFacts

OLDEST = (6, 2)
"""GETDEL."""
TOO_OLD = f"install Redis {'.'.join(map(str, OLDEST))} or newer: Junebug needs its commands"
FEWEST_SENTINELS = 3
SLOW, VERY_SLOW = 0.01, 0.1
"""Seconds that it may take to answer: half of the answers come sooner."""
SKEWED, FAR_SKEWED = 1.0, 30.0
FULL = 0.9
CONNECTIONS = 2
"""Of each process."""


def judge(facts: RedisFacts, settings: RedisSettings, processes: int) -> Iterator[Finding]:
    """`processes`: of Junebug, that there will be."""
    where = settings.where
    text = facts.info.get("redis_version", "")
    version = tuple(map(int, re.findall(r"\d+", text)[:2]))
    if version < OLDEST:
        yield failed("redis", f"{where} is Redis {text}", TOO_OLD)
    else:
        yield ok("redis", f"Redis {text} answers at {where}, database {settings.db}")
    yield _writes(facts)
    if settings.sentinels:
        yield _failover(facts)
    yield from _persistence(facts)
    yield _memory(facts)
    yield _latency(facts)
    yield _clock(facts)
    yield from _clients(facts, processes)


def sentinels(said: Mapping[Address, Address | str]) -> Finding:
    """`said`: of each sentinel where the master is, or why it did not say it."""
    check, masters = "redis sentinels", {each for each in said.values() if isinstance(each, Address)}
    away = [why for why in said.values() if isinstance(why, str)]
    if not masters:
        return failed(check, "; ".join(away), "start them, or correct redis.sentinels, redis.master_name and sentinel_password")
    if away:
        return warning(check, "; ".join(away), "start it, or correct its line in redis.sentinels: a failover needs most of them")
    if len(masters) > 1:
        names = ", ".join(sorted(map(str, masters)))
        return warning(check, f"they name different masters: {names}", "ask again: in a failover it is so for seconds")
    shown = f"{plural(len(said), 'sentinel')}: the master is {masters.pop()}"
    if len(said) < FEWEST_SENTINELS:
        return warning(check, shown, f"name {FEWEST_SENTINELS} or more, on machines of their own: fewer agree on no failover")
    return ok(check, shown)


def _failover(facts: RedisFacts) -> Finding:
    check, least = "redis failover", facts.options.get("min-replicas-to-write", "")
    replicas = int(facts.info.get("connected_slaves") or 0)
    shown = f"{plural(replicas, 'replica')}, min-replicas-to-write {least or 'unknown'}"
    if not replicas:
        return warning(check, shown, "start a replica: there is none that could become the master")
    if least == "0":
        advice = "set `min-replicas-to-write 1` and `min-replicas-max-lag`: else a failover may lose more (docs/scale-out.md)"
        return warning(check, shown, advice)
    return ok(check, shown)


def _writes(facts: RedisFacts) -> Finding:
    check = "redis writes"
    if facts.info.get("role", "master") != "master":
        return failed(check, "it is a replica, which takes no writes", "name its master in redis.host and redis.port")
    if facts.refuses_writes:
        return failed(check, facts.refuses_writes, "free its disk or memory, as its log says; until then the API answers 503")
    return ok(check, "it takes what is written")


def _persistence(facts: RedisFacts) -> Iterator[Finding]:
    check, info = "redis persistence", facts.info
    aof, saves = info.get("aof_enabled") == "1", facts.options.get("save")
    if aof and info.get("aof_last_write_status", "ok") != "ok":
        yield failed(check, "its last write to the append-only file failed", "free its disk: what is written now may be lost")
    elif aof:
        yield ok(check, "append-only file")
    elif saves == "":
        advice = "set `appendonly yes` in redis.conf (or CONFIG SET appendonly yes, then CONFIG REWRITE)"
        yield failed(check, "none: a restart loses the channels", advice)
    else:
        advice = "set `appendonly yes`: a crash loses what came since the last snapshot, channels included"
        yield warning(check, "snapshots only" if saves else "no append-only file", advice)
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        stops = facts.options.get("stop-writes-on-bgsave-error", "yes") == "yes" and bool(saves)
        advice = "free its disk or memory (vm.overcommit_memory=1), as its log says"
        yield (failed if stops else warning)(check, "its last snapshot failed" + ", so it stops to take writes" * stops, advice)


def _memory(facts: RedisFacts) -> Finding:
    check = "redis memory"
    policy = facts.info.get("maxmemory_policy") or facts.options.get("maxmemory-policy", "")
    used, most = (int(facts.info.get(name) or 0) for name in ("used_memory", "maxmemory"))
    room = f"{most / 2**20:.0f} MB" if most else "as many as there are"
    shown = f"{used / 2**20:.0f} MB used of {room}, {policy or 'no policy told'}"
    if policy not in ("noeviction", "") and most:
        return failed(check, shown, "set `maxmemory-policy noeviction`: it throws channels and receipts away when it is full")
    if most and used > FULL * most:
        return warning(check, shown, "raise maxmemory: when it is full, the API answers 503")
    if policy not in ("noeviction", ""):
        return warning(check, shown, "set `maxmemory-policy noeviction` before anybody sets maxmemory")
    return ok(check, shown)


def _latency(facts: RedisFacts) -> Finding:
    middle, longest = facts.trips[len(facts.trips) // 2], facts.trips[-1]
    shown = f"{middle * 1000:.1f} ms, {longest * 1000:.1f} ms at the most"
    if middle < SLOW:
        return ok("redis latency", shown)
    advice = "bring Redis near to Junebug, and look at SLOWLOG GET: each message asks it several times"
    return (failed if middle >= VERY_SLOW else warning)("redis latency", shown, advice)


def _clock(facts: RedisFacts) -> Finding:
    off = max(abs(facts.ahead) - facts.trips[0] / 2, 0)
    shown = f"Redis' clock is {abs(facts.ahead):.3f} s {'ahead of' if facts.ahead > 0 else 'behind'} this machine's"
    if off < SKEWED:
        return ok("redis clock", shown)
    advice = "have both machines' clocks set by NTP: timestamps, TTLs and the order of statuses depend on them"
    return (failed if off >= FAR_SKEWED else warning)("redis clock", shown, advice)


def _clients(facts: RedisFacts, processes: int) -> Iterator[Finding]:
    most = facts.options.get("maxclients", "")
    wanted, present = CONNECTIONS * processes, int(facts.info.get("connected_clients") or 0)
    if most.isdigit():
        shown = f"{plural(present, 'client')} of {most}; Junebug needs about {wanted}"
        if wanted > int(most):
            yield failed("redis clients", shown, "raise maxclients in redis.conf, and its open files with it")
        else:
            yield ok("redis clients", shown)
