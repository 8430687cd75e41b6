"""What is wanted, as a host's looks find it: told by whoever changed it, or found though nobody told. On a real Redis."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from junebug import names
from junebug.config.declaration import RedisSettings, Settings
from junebug.errors import ChannelNotFound, StoreUnavailable
from junebug.model.routing import RouterSpec
from junebug.model.spec import ChannelSpec
from junebug.router_types import RouterTypes
from junebug.stores import Stores, specs
from junebug.stores.wanted import WantedStore
from junebug.supervisor.spec_memory import SpecMemory
from tests.servers import RedisServer
from tests.stores.test_stores import commands_while

READS_ALL = {"smembers", "hgetall"}


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[Stores]:
    opened = Stores(settings)
    yield opened
    await opened.close()


def spec(channel: str, **properties: Any) -> ChannelSpec:
    return ChannelSpec.from_properties(channel, {"type": "telnet", "config": {}, **properties})


def host(store: Stores) -> WantedStore:
    """Another host's looks."""
    return WantedStore(store._redis, 60)


async def test_a_look_is_told_what_changed_and_reads_nothing_else(own_redis: RedisServer) -> None:
    store = Stores(Settings(redis=RedisSettings(host=own_redis.host, port=own_redis.port)))
    mine = host(store)
    for channel in ("a", "b", "c"):
        await store.channels.create(spec(channel))
    assert (await mine.look()).changed == {""}  # the first one
    asked = await commands_while(store, mine.look())
    assert {name: count for name, count in asked.items() if not name.startswith("config")} == {
        "eval": 1, "xrevrange": 1, "xrange": 1, "scard": 2, "hlen": 1, "get": 1
    }  # fmt: skip
    await store.channels.update(await store.channels.get("a"), spec("a", label="x"), restart=False)
    await store.channels.request_restart("b")
    await store.channels.delete("c")
    await store.routers.create(RouterSpec(id="r", type="keyword", config={}), None)
    asked = await commands_while(store, mine.look())
    assert not READS_ALL & asked.keys()
    await store.channels.create(spec("d"))
    found = await mine.look()
    assert (found.generations, found.routers, found.changed) == ({"a": 1, "b": 2, "r": 1, "d": 1}, {"r"}, {"d"})
    await store.routers.delete("r")
    found = await mine.look()
    assert (found.generations, found.routers, found.changed) == ({"a": 1, "b": 2, "d": 1}, frozenset(), {"r"})
    assert found.generations == (await mine.wanted()).generations
    await store.close()


async def test_every_change_is_noted_with_what_it_changes(store: Stores) -> None:
    """In one trip: an API process that dies between two would leave a change that nobody is told."""
    await store.channels.create(spec("a"))
    router = RouterSpec(id="r", type="keyword", config={})
    await store.routers.create(router, None)
    mine = host(store)
    await mine.look()
    calls = {
        "a": (
            lambda: store.channels.request_restart("a"),
            lambda: _changed(store, "a"),
            lambda: store.channels.delete("a"),
        ),
        "r": (lambda: store.routers.request_restart("r"), lambda: store.routers.delete("r")),
    }
    for id, some in calls.items():
        for call in some:
            await call()
            assert (await mine.look()).changed == {id}
    with pytest.raises(ChannelNotFound):
        await store.channels.delete("never")
    assert (await mine.look()).generations == {}
    (ttl,) = await store._redis.run(("TTL", names.WANTED_CHANGES))
    assert 0 < ttl <= specs.CHANGES_TTL


async def _changed(store: Stores, channel: str) -> None:
    await store.channels.update(await store.channels.get(channel), spec(channel, label="new"), restart=True)


async def test_what_an_older_junebug_changes_is_found(store: Stores) -> None:
    """It notes nothing: what it makes and deletes shows by the counts, a restart by being told, or by a thorough look."""
    mine = host(store)
    await store.channels.create(spec("a"))
    await mine.look()
    made = (("SET", names.channel_properties("old"), "{}"), ("SADD", names.CHANNELS, "old"))
    await store._redis.run(*made)
    found = await mine.look()
    assert (found.generations, found.changed) == ({"a": 1, "old": 0}, {"old"})
    await store._redis.run(("SREM", names.CHANNELS, "old"))
    found = await mine.look()
    assert (found.generations, found.changed) == ({"a": 1}, {"old"})
    await store._redis.run(("HINCRBY", names.GENERATIONS, "a", 1))
    assert (await mine.look()).generations == {"a": 1}
    assert (await mine.look({"a"})).generations == {"a": 2}
    await store._redis.run(("HINCRBY", names.GENERATIONS, "a", 1))
    found = await mine.look(thorough=True)
    assert (found.generations, found.changed) == ({"a": 3}, {""})


async def test_who_has_missed_too_much_reads_all(store: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(specs, "MOST_CHANGES", 10)
    mine = host(store)
    await store.channels.create(spec("a"))
    await mine.look()
    for _ in range(300):  # Redis drops them a hundred at a time
        await store.channels.request_restart("a")
    found = await mine.look()
    assert (found.generations, found.changed) == ({"a": 301}, {""})
    assert (await mine.look()).changed == frozenset()


@pytest.mark.parametrize("is_followed", [False, True])
async def test_a_failover_to_an_older_copy_is_found(store: Stores, is_followed: bool) -> None:
    """Also where another change took the lost one's place, at the same millisecond."""
    keys = (names.WANTED_CHANGES, names.CHANNELS, names.GENERATIONS)
    mine = host(store)
    await store.channels.create(spec("a"))
    await store._redis.run(*(("COPY", key, f"copy of {key}") for key in keys))
    await store.channels.update(await store.channels.get("a"), spec("a", label="lost"), restart=False)
    assert (await mine.look()).generations == {"a": 1}
    (((last, _),),) = await store._redis.run(("XREVRANGE", names.WANTED_CHANGES, "+", "-", "COUNT", 1))
    await store._redis.run(*(("COPY", f"copy of {key}", key, "REPLACE") for key in keys))
    if is_followed:
        await store._redis.run(("XADD", names.WANTED_CHANGES, last, "a", specs.new_number()))
    assert (await mine.look()).changed == {""}
    assert (await mine.look()).changed == frozenset()


async def test_an_emptied_redis_is_filled_again_and_another_host_is_told(settings: Settings, store: Stores) -> None:
    await store.channels.create(spec("a", label="kept"))
    types = RouterTypes.from_settings(settings.routers, settings.replace_routers)
    first, second = (SpecMemory(host(store), types) for _ in range(2))
    assert [*(await first.read(False)).specs] == [*(await second.read(False)).specs] == ["a"]
    await store._redis.run(("FLUSHDB",))
    found = await first.read(False)
    assert found.was_emptied
    assert found.specs["a"].to_properties()["label"] == "kept"
    assert not (await second.read(False)).was_emptied
    assert await store.channels.ids() == ["a"]


async def test_a_spec_that_could_not_be_read_is_read_the_next_time(
    settings: Settings, store: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = SpecMemory(store.wanted, RouterTypes.from_settings(settings.routers, settings.replace_routers))
    await store.channels.create(spec("a"))
    await memory.read(False)
    await store.channels.update(await store.channels.get("a"), spec("a", label="new"), restart=False)
    with monkeypatch.context() as patched:
        patched.setattr(store.wanted, "get_many", _away)
        with pytest.raises(StoreUnavailable):
            await memory.read(False)
    assert (await memory.read(False)).specs["a"].to_properties()["label"] == "new"


async def _away(*_: Any) -> Any:
    raise StoreUnavailable("away")


def test_the_more_hosts_there_are_the_more_rarely_each_reads_all(store: Stores, settings: Settings) -> None:
    memory = SpecMemory(store.wanted, RouterTypes.from_settings(settings.routers, settings.replace_routers))
    assert memory.may_read_all(1000)
    memory._took, memory._read_all_at = 0.5, time.monotonic() - 60
    assert memory.may_read_all(20)
    assert not memory.may_read_all(40)
