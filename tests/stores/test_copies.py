"""What a backup holds: a row for each family of keys, every type whole, other programs' keys left alone."""

from __future__ import annotations

import ast
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from junebug import names
from junebug.config.declaration import RedisSettings
from junebug.stores import copies
from junebug.stores.client import RedisClient
from junebug.stores.families import FAMILIES, LAST, family_of
from junebug.stores.key_lists import key_list
from tests.harness import ROOT
from tests.tables import rows

CHANNEL, ROUTER = "6a5c691e-140c-48b0-9f39-a53d4951d7fa", "r.1"
NO_KEYS = {"CHANGES", "ALL_CHANGES", "change_topic"}
"""Names of names.py's part on Redis that are topics of pub/sub, or no names of keys."""


def declared() -> set[str]:
    """What names.py has in its part on Redis, and key_lists.py."""
    text = (ROOT / "junebug" / "names.py").read_text()
    first, last = (text[: text.index(f"\n# --- {part} -")].count("\n") for part in ("Redis", "programs"))
    found = {key_list.__name__}
    for node in ast.parse(text).body:
        if first < node.lineno <= last:
            if isinstance(node, ast.Assign):
                found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
            elif isinstance(node, ast.FunctionDef):
                found.add(node.name)
    return found


def example(name: str) -> str:
    """A key of that family."""
    made: Any = key_list if name == key_list.__name__ else getattr(names, name)
    if isinstance(made, str):
        return made
    match name:
        case "key_list":
            return str(made(CHANNEL, 600, time.time())[0])
        case "circuit":
            return str(made("http://example.com"))
        case _:
            return str(made(CHANNEL, *["a:b"] * (made.__code__.co_argcount - 1)))


def test_every_family_of_names_has_its_row() -> None:
    assert declared() - NO_KEYS == {family.name for family in FAMILIES}, "say in stores/families.py whether a backup holds it"


@rows("family", FAMILIES)
def test_a_key_is_of_its_own_family(family: Any) -> None:
    key = example(family.name)
    assert family_of(key, {CHANNEL}) is family
    assert family_of(key) is family
    if family.key.startswith("ID:"):
        assert family_of(key, {"another"}) is None


@rows("key", ["user:status", "celery", "channels:x", f"{CHANNEL}:unknown", f"x:{CHANNEL}:status", "", "transport_shared:"])
def test_another_programs_key_is_of_none(key: str) -> None:
    assert family_of(key, {CHANNEL}) is None


@rows(
    ("key", "name"),
    [
        ("transport_shared:transport:m1", "shared_transport_key"),
        ("transport_shared:outbound_messages:a:b", "shared_transport_key"),
        ("transport_shared:status", "shared_transport_key"),
        ("transport_shared:pair:properties", "shared_transport_key"),
        ("transport_shared:x\ny:m", "shared_transport_key"),
        ("junebug_metrics:metrics", "saved_metrics"),
        ("circuit:status", "circuit"),
        ("junebug_metrics", "METRICS"),
        (f"{CHANNEL}:transport:transport_shared:x", "transport_key"),
        (f"{CHANNEL}:transport:a\nb", "transport_key"),
        (f"{CHANNEL}:metrics", "channel_metrics"),
        (f"{CHANNEL}:transport:", None),
        (f"{CHANNEL}:transport", None),
        (f"{CHANNEL}:status:", None),
        (f"{CHANNEL}:status:x", None),
        (f"{CHANNEL}:", None),
        (":status", None),
        ("ID:status", None),
        ("another:transport:x", None),
    ],
)
def test_the_fixed_parts_of_a_key_say_whose_it_is(key: str, name: str | None) -> None:
    """Shared keys whose word is a channel's family were taken for those of a channel `transport_shared`: no backup held them."""
    family = family_of(key, {CHANNEL})
    assert (family.name if family else None) == name
    assert name is None or family_of(key) is family


def test_the_docs_have_the_table() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    for family in FAMILIES:
        assert f"| `{family.key}` | {'yes' if family.is_kept else 'no'} | {family.why} |" in text, family


@pytest.fixture
async def redis(redis_settings: RedisSettings) -> AsyncIterator[RedisClient]:
    client = RedisClient(redis_settings, 10)
    yield client
    await client.close()


async def filled(redis: RedisClient) -> None:
    """A Redis with a channel, a router and all that they may have, and other programs' keys."""
    many = [str(number) for number in range(3 * copies.ELEMENTS + 1)]
    await redis.run(
        ("SADD", names.CHANNELS, CHANNEL, "half"), ("SADD", names.ROUTERS, ROUTER),
        ("SET", names.channel_properties(CHANNEL), '{"type": "loopback", "label": "\u4f60\u597d \U0001f41d \\u0000"}'),
        ("SET", names.channel_properties(ROUTER), "{}"),
        ("HSET", names.GENERATIONS, *(word for each in many for word in (f"c{each}", each))),
        ("RPUSH", "ID:keys:11:1".replace("ID", CHANNEL), *many), ("EXPIRE", f"{CHANNEL}:keys:11:1", 1000),
        ("ZADD", names.cancelled_messages(CHANNEL), "1.5", "a", "17000000000", "b"),
        ("SADD", names.DELETED_CHANNELS, *many),
        ("HSET", names.outbound_message(CHANNEL, "m"), "event_url", "http://x"),
        ("PEXPIRE", names.outbound_message(CHANNEL, "m"), 100_000),
        ("SET", names.EPOCH, 1), ("HSET", names.rate_bucket(CHANNEL, 1), "x", 1),
        ("SET", "user:status", "another program's"), ("SADD", "celery", "1"),
        ("SET", names.shared_transport_key("transport", "m"), "1", "EX", 100),
        ("SET", names.transport_key(CHANNEL, "big"), "x" * 3 * copies.LARGEST_PART, "EX", 100),
    )  # fmt: skip


async def everything(redis: RedisClient) -> dict[str, tuple[str, Any, float | None]]:
    """Key -> its type, its value, comparable, and its TTL in seconds, if it has one."""
    found = {}
    (keys,) = await redis.run(("KEYS", "*"))
    for key in keys:
        kind, ttl = await redis.run(("TYPE", key), ("PTTL", key))
        command = {"string": ("GET", key), "hash": ("HGETALL", key), "set": ("SMEMBERS", key),
                   "list": ("LRANGE", key, 0, -1), "zset": ("ZRANGE", key, 0, -1, "WITHSCORES")}[kind]  # fmt: skip
        (value,) = await redis.run(command)
        found[key] = (kind, {*value} if kind == "set" else value, None if ttl < 0 else ttl / 1000)
    return found


async def test_what_is_read_can_be_written_into_an_empty_redis(redis: RedisClient) -> None:
    await filled(redis)
    before = await everything(redis)
    parts = [part async for part in copies.read(redis)]
    assert all(map(copies.is_part, parts))
    assert [part["key"] for part in parts][-2:] == list(LAST)
    await redis.run(("FLUSHDB",))
    await copies.write(redis, parts, time.time())
    after = await everything(redis)
    gone = before.keys() - after.keys()
    assert gone == {names.EPOCH, names.rate_bucket(CHANNEL, 1), "user:status", "celery"}
    half = ("set", {CHANNEL}, None)  # no channel without its spec
    for key in after:
        kind, value, ttl = half if key == names.CHANNELS else before[key]
        assert after[key][:2] == (kind, value), key
        assert (after[key][2] is None) == (ttl is None), key
        if ttl is not None:  # both Redis' clock and ours count in it
            assert ttl - 60 < after[key][2] < ttl + 1, key


async def test_what_has_expired_is_not_restored(redis: RedisClient) -> None:
    await filled(redis)
    parts = [part async for part in copies.read(redis)]
    await redis.run(("FLUSHDB",))
    await copies.write(redis, parts, time.time() + 101)
    left = await everything(redis)
    assert names.outbound_message(CHANNEL, "m") not in left
    assert f"{CHANNEL}:keys:11:1" in left


async def test_what_is_removed_is_junebugs_alone(redis: RedisClient) -> None:
    await filled(redis)
    assert await copies.remove_all(redis) > 10
    assert (await everything(redis)).keys() == {names.EPOCH, "user:status", "celery"}


GOOD = {"key": "channels", "type": "set", "expires_at": None, "value": ["a"]}


@rows(
    "change",
    [
        {"key": "celery"}, {"key": names.EPOCH}, {"key": 1}, {"type": "stream"}, {"type": "hash"}, {"expires_at": "soon"},
        {"value": []}, {"value": [1]}, {"value": None}, {"value": "a"}, {"value": [["a", "b"]]}, {"other": 1},
        {"type": "zset", "value": [["a", "b"]]}, {"type": "zset", "value": [["a", "nan"]]}, {"type": "hash", "value": [["a"]]},
    ],
)  # fmt: skip
def test_what_is_no_part(change: dict[str, Any]) -> None:
    assert copies.is_part(GOOD)
    assert not copies.is_part({**GOOD, **change})


async def test_a_junebug_that_runs_is_seen(redis: RedisClient, redis_settings: RedisSettings) -> None:
    assert not await copies.is_used(redis, redis_settings.db)
    heard = redis.hear("psubscribe", names.ALL_CHANGES)
    assert await anext(heard) is None
    assert await copies.is_used(redis, redis_settings.db)
    assert not await copies.is_used(redis, redis_settings.db + 1)
    await heard.aclose()
