"""Which hosts live, and who runs what: membership and leases, in one script that each host runs every few seconds.

    junebug_host:<id>   string with a TTL: the host lives. Its value: its place, and what placement must know of it
    junebug_hosts       sorted set: ids of hosts -> when each was last here (Redis's clock)
    channel_leases      hash: id of a channel, one of its shards, or a router -> `<host> <fence>`
    lease_changes       stream: the last changes of channel_leases, each with an id that no other history has: `<fence>-<random>`
    lease_fence         string: the newest fence
    drained_hosts       set: hosts that are to run nothing
    <id>:hosts          sorted set with a TTL: hosts that ran it before, and so have a part of its log

A lease lasts as long as its host lives: to renew a thousand is to renew one key. Whose host lives no more can be claimed.
A host is told what changed since the change that it saw last; the whole table, when Redis does not know that one (any more).
A host that comes is a change without an id. If none came, and as many live as before, it is the same ones.
`lease_fence` has no TTL, as a fence must never be given twice; a Redis that lost it is told the newest one that a host knows, and
no fence is less than the seconds since 1970. That Redis has lost some shows by this, too: then claims are for a while taken only
from those who say that they run what they claim.

Neighbours: supervisor/leases.py runs the script, supervisor/placement.py decides what is claimed.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from junebug import names
from junebug.config.declaration import RedisSettings
from junebug.errors import HostTaken, StartupError, StoreUnavailable
from junebug.stores.client import RedisClient, milliseconds

FORGOTTEN_AFTER = 86_400
"""Seconds after which a host that is away is no more listed; 30 times as many, and a table that nobody touches is gone, and who
ran a channel is forgotten.
"""
LOOK_AGAIN = 0.5
HOLDERS_AT_ONCE = 1_000
MOST_HOSTS = 32
"""That are remembered to have run a channel."""
MOST_CHANGES = 10_000
"""That are remembered: 1 MB. Who has missed more reads the whole table."""
Labels = Mapping[str, str]
Lease = tuple[str, int]
"""Host and fence."""


@dataclass(frozen=True, slots=True)
class HostEntry:
    """A host as Redis knows it. `capacity`: channels and routers that it may run; 0: any number."""

    id: str
    capacity: int = 0
    labels: Labels = field(default_factory=dict)
    drained: bool = False
    has_broker: bool | None = None
    """It has had RabbitMQ for a while; false: for as long it has had none."""
    is_living: bool = True
    name: str = ""
    """Of its machine."""
    seen: int = 0
    """Seconds since 1970."""
    leases: int = 0


@dataclass(frozen=True, slots=True)
class Turn:
    """What the script found. `newest`: the newest fence; `seen`: the last change.

    `holders`: id -> (host, fence), the whole table; None: as before but for the `changes`, where None is a lease that is no more.
    """

    newest: int
    seen: str
    hosts: dict[str, HostEntry]
    holders: dict[str, Lease] | None
    changes: dict[str, Lease | None] = field(default_factory=dict)


class LeaseStore:
    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis

    async def turn(
        self, host: HostEntry, place: str, ttl: float, *, seen: str = "", newest: int = 0, alone: bool = True,
        hosts: Mapping[str, HostEntry] | None = None, release: Mapping[str, int] | None = None,
        claim: Mapping[str, int] | None = None,
    ) -> Turn:  # fmt: skip
        """Renew the host's membership, and with it all its leases; release and claim some.

        `release`: id -> the fence of the lease: a command that comes late leaves a later lease alone. `claim`: id -> fence, where
        it runs here and Redis may have lost that; 0: anew. What is held by a host that lives stays its. `seen`: the last change
        that is known; `hosts`: those that lived then; `newest`: the newest fence.
        Raises HostTaken: the id is another's, who lives; StoreUnavailable.
        """
        about = orjson.dumps({
            "capacity": host.capacity, "labels": dict(host.labels), "name": host.name, "has_broker": host.has_broker
        }).decode()  # fmt: skip
        released, claimed = _flat(release or {}), _flat(claim or {})
        keys = (*_keys(host.id), names.DRAINED_HOSTS, names.LEASES_SETTLING)
        (found,) = await self._redis.run((
            "EVAL", _TURN, len(keys), *keys, host.id, _mark(), names.change_topic(""), milliseconds(ttl), place, about,
            seen, newest, int(alone), names.host(""), FORGOTTEN_AFTER, len(hosts or ()), len(released), *released, *claimed,
        ))  # fmt: skip
        if found[0] == 0:
            _, _, text = str(found[1]).partition("\n")
            where = _read(text).get("name") or "some machine"
            raise HostTaken(f"another Junebug runs under the host id {host.id!r}, on {where}")
        _, fence, tip, living, drained, table, changes = found
        if living is None:
            there = {id: replace(each, drained=id in drained) for id, each in (hosts or {}).items()}
        else:
            there = {id: _host(id, text, id in drained) for id, text in _pairs(living)}
        whole = None if table is None else {id: _lease(text) for id, text in _pairs(table)}
        told = {id: _lease(text) if text else None for id, text in _pairs(changes) if id}
        return Turn(int(fence), str(tip), there, whole, told)

    async def leave(self, host: str, release: Mapping[str, int]) -> None:
        """The host ends, and has nothing any more; what it releases (as in `turn`) can be claimed at once."""
        keys = _keys(host)
        await self._redis.run(("EVAL", _LEAVE, len(keys), *keys, host, _mark(), names.change_topic(""), *_flat(release)))

    async def hosts(self) -> list[HostEntry]:
        """All that lived within a day."""
        seen, drained, table = await self._redis.run(
            ("ZRANGE", names.HOSTS, 0, -1, "WITHSCORES"), ("SMEMBERS", names.DRAINED_HOSTS), ("HVALS", names.LEASES)
        )
        held = Counter(_lease(text)[0] for text in table)
        ids = [str(id) for id, _ in seen]
        texts = await self._redis.run(*(("GET", names.host(id)) for id in ids)) if ids else []
        return [
            _host(str(id), text or "", id in drained, is_living=text is not None, seen=int(float(at)), leases=held[str(id)])
            for (id, at), text in zip(seen, texts, strict=True)
        ]

    async def hosts_of(self, units: Sequence[str]) -> dict[str, bool]:
        """Which hosts have parts of the logs of these channels, shards or routers, the last ones first -> whether they live."""
        if not units:
            return {}
        owners = dict.fromkeys(map(names.channel_of, units))
        holders, *before = await self._redis.run(
            ("HMGET", names.LEASES, *units), *(("ZREVRANGE", names.hosts_of(id), 0, MOST_HOSTS - 1) for id in owners)
        )
        hosts = dict.fromkeys([*(_lease(text)[0] for text in holders if text), *(str(each) for some in before for each in some)])
        alive = await self._redis.run(*(("EXISTS", names.host(each)) for each in hosts)) if hosts else []
        return {host: bool(is_there) for host, is_there in zip(hosts, alive, strict=True)}

    async def holders(self, ids: Sequence[str], but: str) -> dict[str, str] | None:
        """Id -> who has its lease, without those that this host has. None: there is no other host, as two commands told."""
        hosts, own = await self._redis.run(("ZCARD", names.HOSTS), ("ZSCORE", names.HOSTS, but))
        if hosts <= (own is not None):
            return None
        parts = [ids[at : at + HOLDERS_AT_ONCE] for at in range(0, len(ids), HOLDERS_AT_ONCE)]
        found = await self._redis.run(*(("HMGET", names.LEASES, *part) for part in parts)) if parts else []
        held = zip(ids, (lease for part in found for lease in part), strict=True)
        return {id: host for id, lease in held if lease and (host := _lease(lease)[0]) != but}

    async def drain(self, host: str, *, is_drained: bool) -> bool:
        """False: there is no such host."""
        (seen,) = await self._redis.run(("ZSCORE", names.HOSTS, host))
        command = ("SADD" if is_drained else "SREM", names.DRAINED_HOSTS, host)
        if seen is not None or not is_drained:
            await self._redis.run(command, ("PUBLISH", names.change_topic(""), ""))
        return seen is not None or not is_drained


async def check(settings: RedisSettings, timeout: float, host: str, place: str) -> None:
    """Nobody else runs under this host id, or StartupError. One that ran elsewhere is waited for: it may be over."""
    redis = RedisClient(settings, timeout)
    before = 0
    try:
        while True:
            there, left = await redis.run(("GET", names.host(host)), ("PTTL", names.host(host)))
            if there is None or str(there).startswith(f"{place}\n"):
                return
            if before and left > before:
                name = _read(str(there).partition("\n")[2]).get("name")
                raise StartupError(
                    f"host: another Junebug runs under the host id {host!r}, on {name or 'some machine'}; give each its own"
                    " (the setting host), and never copy a data_dir"
                )
            before = left
            await asyncio.sleep(min(max(0, left) / 1000 + 0.05, LOOK_AGAIN))
    except StoreUnavailable as error:
        raise StartupError(f"{redis.culprit(error)}: {error}") from None
    finally:
        await redis.close()


def _keys(host: str) -> tuple[str, ...]:
    return names.host(host), names.HOSTS, names.LEASES, names.LEASE_FENCE, names.LEASE_CHANGES


def _mark() -> int:
    """Of a turn's changes."""
    return random.getrandbits(48) + 1


def _flat(leases: Mapping[str, int]) -> list[str | int]:
    return [each for pair in leases.items() for each in pair]


def _pairs(flat: Sequence[Any]) -> list[tuple[str, str]]:
    return [(str(key), str(value)) for key, value in zip(flat[::2], flat[1::2], strict=True)]


def _lease(text: str) -> tuple[str, int]:
    host, _, fence = text.partition(" ")
    return host, int(fence) if fence.isdigit() else 0


def _read(text: str) -> dict[str, Any]:
    try:
        read = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return read if isinstance(read, dict) else {}


def _host(id: str, text: str, drained: bool, **more: Any) -> HostEntry:
    about = _read(text.partition("\n")[2])
    labels = about.get("labels")
    broker = about.get("has_broker")
    return HostEntry(
        id, int(about.get("capacity") or 0), labels if isinstance(labels, dict) else {}, drained,
        broker if isinstance(broker, bool) else None, name=str(about.get("name", "")), **more,
    )  # fmt: skip


_CHANGE = f"""
local host, mark, topic = ARGV[1], ARGV[2], ARGV[3]
local time = redis.call('TIME')
local now = tonumber(time[1])
local tip = redis.call('XREVRANGE', KEYS[5], '+', '-', 'COUNT', 1)[1]
tip = tip and tip[1]
local fence = tonumber(redis.call('GET', KEYS[4]) or 0)
local told = tip and tonumber(string.match(tip, '%d+')) or 0
if fence ~= told then
  redis.call('DEL', KEYS[5])
  tip = nil
end
fence = math.max(fence, told)
local function step()
  fence = math.max(fence + 1, now)
  redis.call('SET', KEYS[4], string.format('%d', fence))
end
local function add(id, lease)
  tip = redis.call('XADD', KEYS[5], 'MAXLEN', '~', {MOST_CHANGES}, string.format('%d-%s', fence, mark), id, lease)
end
local function holder(id)
  local lease = redis.call('HGET', KEYS[3], id)
  return lease and string.match(lease, '^%S+')
end
local function note(id, host)
  local owner = string.match(id, '^[^~]+')
  if redis.call('EXISTS', owner .. '{names.channel_properties("")}') == 0 then return end
  local key = owner .. '{names.hosts_of("")}'
  redis.call('ZADD', key, now, host)
  redis.call('ZREMRANGEBYRANK', key, 0, -1 - {MOST_HOSTS})
  redis.call('EXPIRE', key, {30 * FORGOTTEN_AFTER})
end
local function release(first, last)
  for n = first, last, 2 do
    if redis.call('HGET', KEYS[3], ARGV[n]) == host .. ' ' .. ARGV[n + 1] then
      redis.call('HDEL', KEYS[3], ARGV[n])
      note(ARGV[n], host)
      step()
      add(ARGV[n], '')
      redis.call('PUBLISH', topic .. ARGV[n], ARGV[n])
    end
  end
end
"""
"""`note`: who ran a channel that is not deleted, or runs a shard of it: not every reader knows how many there are. A fence that
is not the last change's is of a restored backup, or of a Junebug that kept no changes: then all are sent the whole table.
"""

_TURN = _CHANGE + """
local ttl, place, about, seen, known, prefix = ARGV[4], ARGV[5], ARGV[6], ARGV[7], tonumber(ARGV[8]), ARGV[10]
local there = redis.call('GET', KEYS[1])
if there and string.sub(there, 1, #place + 1) ~= place .. '\\n' then return {0, there} end
redis.call('SET', KEYS[1], place .. '\\n' .. about, 'PX', ttl)
redis.call('ZADD', KEYS[2], time[1] .. string.format('.%06d', time[2]), host)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - ARGV[11])
redis.call('EXPIRE', KEYS[2], 30 * ARGV[11])
if fence < known then
  fence = known
  step()
  add('', '')
  if ARGV[9] == '0' then redis.call('SET', KEYS[7], 1, 'PX', ttl) end
end
if not there or there ~= place .. '\\n' .. about or not tip then
  step()
  add('', '')
end
local first = 14 + ARGV[13]
release(14, first - 1)
if first <= #ARGV then
  local settling = redis.call('EXISTS', KEYS[7]) == 1
  for n = first, #ARGV, 2 do
    local by = holder(ARGV[n])
    if by ~= host and not (by and redis.call('EXISTS', prefix .. by) == 1) and (ARGV[n + 1] ~= '0' or not settling) then
      step()
      if by then note(ARGV[n], by) end
      local given = (not by and ARGV[n + 1] ~= '0') and ARGV[n + 1] or string.format('%d', fence)
      redis.call('HSET', KEYS[3], ARGV[n], host .. ' ' .. given)
      if string.find(ARGV[n], '~', 1, true) then note(ARGV[n], host) end
      add(ARGV[n], host .. ' ' .. given)
    end
  end
end
redis.call('EXPIRE', KEYS[3], 30 * ARGV[11])
redis.call('EXPIRE', KEYS[5], 30 * ARGV[11])
local table, changes, living = false, {}, false
local over = string.format('(%.6f', now + time[2] / 1e6 - ttl / 1000)
local is_same = redis.call('ZCOUNT', KEYS[2], over, '+inf') == tonumber(ARGV[12])
if tip ~= seen then
  if seen ~= '' and redis.call('XRANGE', KEYS[5], seen, seen)[1] then
    local since = redis.call('XRANGE', KEYS[5], seen, '+')
    for n = 2, #since do
      local change = since[n][2]
      if change[1] == '' then is_same = false end
      changes[#changes + 1] = change[1]
      changes[#changes + 1] = change[2]
    end
  else
    table, is_same = redis.call('HGETALL', KEYS[3]), false
  end
end
if not is_same then
  living = {}
  for _, id in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
    local about = redis.call('GET', prefix .. id)
    if about then
      living[#living + 1] = id
      living[#living + 1] = about
    end
  end
end
return {1, string.format('%d', fence), tip, living, redis.call('SMEMBERS', KEYS[6]), table, changes}
"""

_LEAVE = _CHANGE + """
release(4, #ARGV)
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], host)
"""
