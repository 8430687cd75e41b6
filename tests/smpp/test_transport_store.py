"""What a transport keeps in Redis: by names of its channel's own, each with a TTL."""

from __future__ import annotations

import dataclasses

import pytest

from junebug import names
from junebug.config.declaration import Settings
from junebug.errors import StoreUnavailable
from junebug.stores import Stores
from junebug.stores.transport import TransportStore


async def test_values(store: TransportStore) -> None:
    assert await store.put("a", "1", 60)
    assert not await store.put("a", "2", 60, only_if_absent=True)
    assert await store.get("a", "b") == ["1", None]
    assert await store.take("a") == "1"
    assert await store.take("a") is None


async def test_hashes(store: TransportStore) -> None:
    assert await store.put_fields("h", {"a": "1"}, 60, "h") == [{"a": "1"}]
    assert await store.put_fields("h", {"b": "2"}, 60) == []
    assert await store.fields("h", "i") == [{"a": "1", "b": "2"}, {}]
    await store.remove_fields("h", "a")
    assert await store.put_fields("i", {"d": "4"}, 60, "h", "i") == [{"b": "2"}, {"d": "4"}]
    assert await store.fields("h", "i") == [{"b": "2"}, {"d": "4"}]
    await store.remove_fields("h", "b")
    assert await store.fields("h") == [{}]


async def test_names_and_times_to_live(settings: Settings, store: TransportStore) -> None:
    stores = Stores(settings)
    await store.put("a", "1", 60)
    await store.put_fields("h", {"a": "1"}, 0.5)
    await store.expire("h", 3600)
    await store.shared("pair").put("a", "2", 60)
    keys = (names.transport_key("channel", "a"), names.transport_key("channel", "h"), names.shared_transport_key("pair", "a"))
    ttls = await stores._redis.run(*(("TTL", key) for key in keys))
    assert ttls == [60, 3600, 60]
    await store.remove("a", "h")
    assert await store.get("a") == [None]
    assert await stores.transport("other").shared("pair").get("a") == ["2"]
    await stores.close()


async def test_a_deleted_channels_are_gone(settings: Settings, store: TransportStore) -> None:
    stores = Stores(settings)
    await store.put("a", "1", 60)
    await stores.wanted.forget("channel")
    assert await store.get("a") == [None]
    await stores.close()


async def test_while_redis_is_away_it_says_so(settings: Settings) -> None:
    stores = Stores(dataclasses.replace(settings, redis=dataclasses.replace(settings.redis, port=1)))
    with pytest.raises(StoreUnavailable):
        await stores.transport("channel").get("a")
    await stores.close()
