"""Router specs, their destinations, and whose channels are whose."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import orjson

from junebug import names
from junebug.errors import (
    DestinationNotFound,
    InvalidRouterConfig,
    InvalidRouterDestinationConfig,
    RouterChanged,
    RouterNotFound,
)
from junebug.model.routing import DestinationSpec, RouterSpec
from junebug.stores.specs import SpecStore, change_of, dumps, loads, spec_keys


class RouterStore(SpecStore[RouterSpec]):
    """`channel`: the one whose messages and events are the router's alone; a channel is one router's at most."""

    kind, missing, changed, index = "router", RouterNotFound, RouterChanged, names.ROUTERS
    deleted_index = names.DELETED_ROUTERS

    async def get(self, router: str) -> RouterSpec:
        """Raises RouterNotFound."""
        stored, generation, is_one = await self._redis.run(
            ("GET", names.channel_properties(router)), ("HGET", names.GENERATIONS, router), ("SISMEMBER", names.ROUTERS, router)
        )
        if stored is None or not is_one:
            raise self.not_found(router)
        return router_spec(router, stored, generation)

    async def create(self, spec: RouterSpec, channel: str | None, seen: str = "") -> None:
        """`seen`: the channel's properties as they were found good, where they must still be so.

        Raises InvalidRouterConfig when the channel is another router's, RouterChanged when it is not as it was seen.
        """
        keys = (*spec_keys(spec.id), names.ROUTERS, names.ROUTED_CHANNELS, names.channel_properties(channel or ""))
        arguments = (spec.id, dumps(spec.to_properties()), channel or "", seen)
        outcome = await self._change(spec.id, ("EVAL", _CREATE, len(keys), *keys, *arguments))
        _refuse_held(outcome, channel)
        self._checked(spec.id, outcome)
        await self._notify(channel)

    async def update(
        self, old: RouterSpec, new: RouterSpec, *, restart: bool, before: str | None, channel: str | None, seen: str = ""
    ) -> RouterSpec:
        """Put `new` where `old` was read; with `restart` it is started afresh. Returns what is stored. `before`: the channel that
        was its own, None: whichever it has; `seen`: as in `create`.

        Raises RouterNotFound, RouterChanged when somebody else changed it, and what `create` raises.
        """
        properties = dumps(new.to_properties())
        keys = (*spec_keys(new.id), names.ROUTED_CHANNELS, names.channel_properties(channel or ""))
        arguments = (new.id, old.stored, properties, int(restart), before or "", channel or "", seen)
        outcome = await self._change(new.id, ("EVAL", _UPDATE, len(keys), *keys, *arguments))
        _refuse_held(outcome, channel)
        stored, released = outcome if isinstance(outcome, list) else (outcome, ())
        generation = self._checked(new.id, stored)
        await self._notify(channel, *released)
        return router_spec(new.id, properties, generation)

    async def delete(self, id: str, channel: str | None = None) -> None:
        """As of a channel; `channel` is its own again, None: whichever it has. Raises RouterNotFound."""
        existed, released, *_ = await self._redis.run(
            self._deletion(id), ("EVAL", _RELEASE, 1, names.ROUTED_CHANNELS, channel or "", id), *change_of(id)
        )
        if not existed:
            raise self.not_found(id)
        await self._notify(channel, *released)

    async def claim_again(self, router: str, channel: str | None, destinations: Mapping[str, DestinationSpec]) -> None:
        """Redis was emptied: what the router's process knows is written back; what was written since stays as it is."""
        key = names.destinations(router)
        claim = [("HSETNX", names.ROUTED_CHANNELS, channel, router)] if channel else []
        again = (("HSETNX", key, each.id, dumps(each.to_properties())) for each in destinations.values())
        if commands := [*claim, *again]:
            await self._redis.run(*commands)

    async def _notify(self, *ids: str | None) -> None:
        for each in filter(None, {*ids}):
            await self.notify_changed(each)

    # --- destinations -------------------------------------------------------------------------------------------------

    async def destination_ids(self, router: str) -> list[str]:
        """Raises RouterNotFound."""
        (is_one, ids) = await self._redis.run(("SISMEMBER", names.ROUTERS, router), ("HKEYS", names.destinations(router)))
        if not is_one:
            raise self.not_found(router)
        return sorted(ids)

    async def destinations(self, router: str) -> dict[str, DestinationSpec]:
        """All there are, also of a router that was deleted a moment ago."""
        (found,) = await self._redis.run(("HGETALL", names.destinations(router)))
        return destination_specs(found)

    async def some_destinations(self, router: str, ids: Collection[str]) -> dict[str, DestinationSpec | None]:
        """Those of these ids; None: there is none."""
        asked = list(ids)
        if not asked:
            return {}
        (found,) = await self._redis.run(("HMGET", names.destinations(router), *asked))
        return {
            id: destination_spec(id, stored) if stored is not None else None for id, stored in zip(asked, found, strict=True)
        }

    async def with_destination(self, router: str, destination: str) -> tuple[RouterSpec, DestinationSpec]:
        """Both, in one round trip. Raises RouterNotFound, DestinationNotFound."""
        stored, generation, is_one, found = await self._redis.run(
            ("GET", names.channel_properties(router)), ("HGET", names.GENERATIONS, router),
            ("SISMEMBER", names.ROUTERS, router), ("HGET", names.destinations(router), destination),
        )  # fmt: skip
        if stored is None or not is_one:
            raise self.not_found(router)
        if found is None:
            raise _no_destination(router, destination)
        return router_spec(router, stored, generation), destination_spec(destination, found)

    async def put_destination(
        self, router: str, old: DestinationSpec | None, new: DestinationSpec, words: Iterable[str], former: Iterable[str] = ()
    ) -> None:
        """Put `new` where `old` was read, None: where none was. `words`: what no other destination of the router may have;
        `former`: those of `old`.

        Raises RouterNotFound, DestinationNotFound, RouterChanged, and InvalidRouterDestinationConfig that names who has a word.
        """
        keys = (names.channel_properties(router), names.destinations(router), names.destination_words(router))
        lists = orjson.dumps([sorted(set(words)), sorted(set(former))])
        (outcome,) = await self._redis.run(
            ("EVAL", _PUT, len(keys), *keys, new.id, "" if old is None else old.stored, dumps(new.to_properties()), lists)
        )
        if isinstance(outcome, list):
            word, holder = outcome
            raise InvalidRouterDestinationConfig([("config", f"destination {holder} has {word or 'default'!r} already")])
        self._destination_checked(router, new.id, outcome)

    async def delete_destination(self, router: str, old: DestinationSpec, words: Iterable[str] | None) -> None:
        """`words`: its own, None: whichever it has. Raises RouterNotFound, DestinationNotFound, RouterChanged."""
        keys = (names.channel_properties(router), names.destinations(router), names.destination_words(router))
        (outcome,) = await self._redis.run(
            ("EVAL", _DELETE, len(keys), *keys, old.id, old.stored, "" if words is None else orjson.dumps(sorted({*words})))
        )
        self._destination_checked(router, old.id, outcome)

    def _destination_checked(self, router: str, destination: str, outcome: Any) -> None:
        if outcome == -3:
            raise _no_destination(router, destination)
        self._checked(router, outcome)

    # --- sessions -----------------------------------------------------------------------------------------------------

    async def sessions(self, router: str, keys: Collection[str]) -> dict[str, list[str]]:
        """Session -> the destinations that its messages go to, of those that are known."""
        asked = list(keys)
        if not asked:
            return {}
        found = await self._redis.run(*(("GET", names.router_session(router, key)) for key in asked))
        return {key: orjson.loads(stored) for key, stored in zip(asked, found, strict=True) if stored}

    async def put_sessions(self, router: str, sessions: Mapping[str, list[str] | None], ttl: int) -> None:
        """For `ttl` seconds from now on; None: the session is over."""
        keys = {key: names.router_session(router, key) for key in sessions}
        commands = [
            ("DEL", keys[key]) if found is None else ("SET", keys[key], orjson.dumps(found), "EX", ttl)
            for key, found in sessions.items()
        ]
        if commands:
            await self._redis.make(router, ttl, list(keys.values()), *commands)


def router_spec(router: str, stored: str, generation: Any) -> RouterSpec:
    return RouterSpec.from_properties(router, loads(stored), int(generation or 0), stored)


def destination_spec(destination: str, stored: str) -> DestinationSpec:
    return DestinationSpec.from_properties(destination, loads(stored), stored)


def destination_specs(found: Mapping[str, str]) -> dict[str, DestinationSpec]:
    return {id: destination_spec(id, stored) for id, stored in found.items()}


def _no_destination(router: str, destination: str) -> DestinationNotFound:
    return DestinationNotFound(f"Router {router!r} has no destination with id {destination[:100]!r}")


def _refuse_held(holder: Any, channel: str | None) -> None:
    if isinstance(holder, str) and holder:
        raise InvalidRouterConfig([("config.channel", f"Router {holder} is already routing channel {channel}")])


_CREATE = """
if ARGV[4] ~= '' and redis.call('GET', KEYS[5]) ~= ARGV[4] then return -2 end
if ARGV[3] ~= '' then
  local holder = redis.call('HGET', KEYS[4], ARGV[3])
  if holder and holder ~= ARGV[1] then return holder end
  redis.call('HSET', KEYS[4], ARGV[3], ARGV[1])
end
redis.call('SET', KEYS[1], ARGV[2])
redis.call('SADD', KEYS[3], ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], 1)
return 1
"""

_RELEASES = """
local function release(key, holder, field, kept)
  local held = {field, redis.call('HGET', key, field)}
  if field == '' then held = redis.call('HGETALL', key) end
  local released = {}
  for n = 1, #held, 2 do
    if held[n + 1] == holder and held[n] ~= kept then
      redis.call('HDEL', key, held[n])
      table.insert(released, held[n])
    end
  end
  return released
end
"""
"""Of a hash of what is whose: one that is this holder's, or, where none is named, all of them."""

_UPDATE = (
    _RELEASES
    + """
local stored = redis.call('GET', KEYS[1])
if not stored then return -1 end
if stored ~= ARGV[2] then return -2 end
if ARGV[7] ~= '' and redis.call('GET', KEYS[4]) ~= ARGV[7] then return -2 end
if ARGV[6] ~= '' then
  local holder = redis.call('HGET', KEYS[3], ARGV[6])
  if holder and holder ~= ARGV[1] then return holder end
  redis.call('HSET', KEYS[3], ARGV[6], ARGV[1])
end
local released = release(KEYS[3], ARGV[1], ARGV[5], ARGV[6])
redis.call('SET', KEYS[1], ARGV[3])
return {redis.call('HINCRBY', KEYS[2], ARGV[1], ARGV[4]), released}
"""
)

_RELEASE = _RELEASES + "return release(KEYS[1], ARGV[2], ARGV[1])"

_PUT = """
if redis.call('EXISTS', KEYS[1]) == 0 then return -1 end
local stored = redis.call('HGET', KEYS[2], ARGV[1])
if ARGV[2] ~= '' then
  if not stored then return -3 end
  if stored ~= ARGV[2] then return -2 end
end
local lists = cjson.decode(ARGV[4])
for _, word in ipairs(lists[1]) do
  local holder = redis.call('HGET', KEYS[3], word)
  if holder and holder ~= ARGV[1] then return {word, holder} end
end
for _, word in ipairs(lists[2]) do
  if redis.call('HGET', KEYS[3], word) == ARGV[1] then redis.call('HDEL', KEYS[3], word) end
end
for _, word in ipairs(lists[1]) do redis.call('HSET', KEYS[3], word, ARGV[1]) end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
return 1
"""

_DELETE = (
    _RELEASES
    + """
if redis.call('EXISTS', KEYS[1]) == 0 then return -1 end
local stored = redis.call('HGET', KEYS[2], ARGV[1])
if not stored then return -3 end
if stored ~= ARGV[2] then return -2 end
if ARGV[3] == '' then
  release(KEYS[3], ARGV[1], '')
else
  for _, word in ipairs(cjson.decode(ARGV[3])) do
    if redis.call('HGET', KEYS[3], word) == ARGV[1] then redis.call('HDEL', KEYS[3], word) end
  end
end
redis.call('HDEL', KEYS[2], ARGV[1])
return 1
"""
)
