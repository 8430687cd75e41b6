"""What deleted channels leave: on every host, and at a cost in proportion to how many they are."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from junebug import names
from junebug.amqp.broker import Broker
from junebug.config.declaration import HttpTypesSettings, Settings
from junebug.door import routes
from junebug.logs.channel_log import append_line
from junebug.model.spec import ChannelSpec
from junebug.stores import Stores, wanted
from junebug.supervisor.cleanup import Cleanup
from tests.polling import eventually

KEPT = ["b", "b.1", "b~1", "a.old", "ab", "a~1.old", "a~32", "junebug.log"]
LOGS = ["a", "a.1", "a.12", "a~1", "a~1.1", "a~31.2"]


@pytest.fixture
async def stores(settings: Settings) -> AsyncIterator[Stores]:
    opened = Stores(settings)
    yield opened
    await opened.close()


def host(settings: Settings, id: str) -> Settings:
    """Another one: with directories of its own, where processes of `a`, of its shards and of `b` have left something."""
    here, door = f"{settings.data_dir}/{id}", HttpTypesSettings(port=8081)
    found = dataclasses.replace(settings, data_dir=here, logging_path=f"{here}/logs", http_types=door, deleted_log_ttl=0.0)
    for path in (Path(found.logging_path), found.log_dir, found.suspects_dir, found.accepted_dir, cast(Path, found.door)):
        path.mkdir(parents=True)
    for name in (*LOGS, *KEPT):
        (Path(found.logging_path) / name).write_text("{}\n")
    append_line(Path(found.logging_path) / "a.7", "a.7", 20, "of a channel a.7, by an older Junebug", {})
    for unit in ("a", "a~1", "a.log", "b", "b~1"):
        notes = found.suspects_dir / unit, found.accepted_dir / unit, found.accepted_dir / f".{unit}"
        for path in (found.log_dir / f"channel-{unit}.log", found.log_dir / f"channel-{unit}.log.1", *notes):
            path.touch()
    (found.log_dir / "supervisor.log").touch()
    for channel in ("a", "b"):
        routes.write(cast(Path, found.door), routes.Route(channel, (f"/{channel}",), 1.0))
    return found


def cleanup(settings: Settings, stores: Stores, broker: Broker | None = None, drain: Any = None) -> Cleanup:
    return Cleanup(settings, cast(Broker, broker), stores, drain, lambda error: None)


@contextlib.asynccontextmanager
async def running(*some: Cleanup) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(each.run()) for each in some]
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def left(settings: Settings) -> list[str]:
    """Of `a`."""
    logs = [name for name in LOGS if (Path(settings.logging_path) / name).exists()]
    crashes = [path.name for path in settings.log_dir.glob("channel-a[.~]*") if not path.name.startswith("channel-a.log.log")]
    places = [settings.suspects_dir / unit for unit in ("a", "a~1")]
    places += [settings.accepted_dir / name for name in ("a", "a~1", ".a", ".a~1")]
    notes = [path.name for path in places if path.exists()]
    return [*logs, *crashes, *notes, *(path.name for path in routes.files_of(cast(Path, settings.door), "a") if path.exists())]


def assert_others_are_kept(settings: Settings) -> None:
    assert all((Path(settings.logging_path) / name).exists() for name in (*KEPT, "a.7"))
    crashes = {path.name for path in settings.log_dir.iterdir()}
    of_others = {f"channel-{unit}.log{end}" for unit in ("a.log", "b", "b~1") for end in ("", ".1")}
    assert crashes >= of_others | {"supervisor.log"}
    for directory in (settings.suspects_dir, settings.accepted_dir):
        assert {path.name for path in directory.iterdir()} >= {"a.log", "b", "b~1"}
    assert all(path.exists() for path in routes.files_of(cast(Path, settings.door), "b")[1:])


async def test_every_host_removes_what_it_has_of_a_deleted_channel(settings: Settings, stores: Stores) -> None:
    """Its logs and those of its shards, rotated ones too, what its processes printed, its routes; also a host that comes late."""
    hosts = [host(settings, id) for id in ("one", "two", "late")]
    async with running(*(cleanup(each, stores) for each in hosts[:2])):
        await asyncio.sleep(0.1)  # they have looked once
        assert all(left(each) for each in hosts)
        await stores.wanted.keep_logs("a", 0)
        await eventually(lambda: not any(map(left, hosts[:2])))
    assert len(left(hosts[2])) == len(LOGS) + 4 + 6 + 1
    async with running(cleanup(hosts[2], stores)):
        await eventually(lambda: not left(hosts[2]))
    for each in hosts:
        assert_others_are_kept(each)


Change = Callable[[Stores], Awaitable[Any]]


async def _made_anew(stores: Stores) -> None:
    await stores.channels.create(ChannelSpec(id="a", type="telnet", config={}, given=frozenset({"type", "config"})))


async def _deleted_again(stores: Stores) -> None:
    await _made_anew(stores)
    await stores.channels.delete("a")


async def _not_yet(stores: Stores) -> None:
    await stores.wanted.keep_logs("a", 3600)


async def _long_ago(stores: Stores) -> None:
    await stores.wanted.keep_logs("a", -wanted.NOTE_OF_LOGS_TTL - 60)


@pytest.mark.parametrize("change", [_made_anew, _deleted_again, _not_yet, _long_ago])
async def test_logs_are_kept_of_what_is_there_or_was_deleted_just_now(settings: Settings, stores: Stores, change: Change) -> None:
    await stores.wanted.keep_logs("a", 0)
    await change(stores)
    await stores.wanted.keep_logs("c", 0)
    here = host(settings, "one")
    gone = Path(here.logging_path) / "c"
    gone.touch()
    async with running(cleanup(here, stores)):
        await eventually(lambda: not gone.exists())
    assert {*LOGS} <= {*left(here)}
    noted = await stores.wanted._redis.run(("ZSCORE", names.DELETED_LOGS, "a"))
    assert (noted == [None]) is (change is _long_ago)


async def test_thousands_of_notes_cost_a_few_looks_at_the_directories(
    settings: Settings, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, count = host(settings, "one"), 2 * wanted.LOGS_AT_ONCE + 1
    ids = [f"x{number}" for number in range(count)]
    await stores.wanted._redis.run(*(("ZADD", names.DELETED_LOGS, int(time.time()) - 5, id) for id in ids))
    for id in ids:
        (Path(here.logging_path) / id).touch()
    looks = Counter[str]()
    seen = Cleanup._remove_all
    monkeypatch.setattr(Cleanup, "_remove_all", lambda self, some: looks.update([f"of {len(some)}"]) or seen(self, some))
    async with running(cleanup(here, stores)):
        await eventually(lambda: not any((Path(here.logging_path) / id).exists() for id in ids))
    assert looks == {f"of {wanted.LOGS_AT_ONCE}": 2, "of 1": 1}


async def test_many_deleted_at_once_are_cleaned_up_without_reading_all_for_each(
    settings: Settings, stores: Stores, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is read of Redis, for deletions as many as there are others, is in proportion to them."""
    count, redis = 60, stores.wanted._redis
    for kind in ("kept", "gone"):
        for number in range(count):
            values: dict[str, Any] = {"type": "telnet", "config": {}, "amqp_queue": f"app-{kind}-{number}"}
            await stores.channels.create(ChannelSpec(id=f"{kind}-{number}", given=frozenset(values), **values))
    for number in range(count):
        await stores.channels.delete(f"gone-{number}")
    drained: dict[str, Any] = {}

    async def drain(*given: Any) -> None:
        *_, spec, _, named = given
        drained[spec.id] = named

    run, asked = redis.run, Counter[str]()

    async def counted(*commands: Any, **more: Any) -> Any:
        asked.update(f"{command[0]} {command[1]}" if command[0] == "SMEMBERS" else command[0] for command in commands)
        return await run(*commands, **more)

    monkeypatch.setattr(redis, "run", counted)
    clean, began = cleanup(host(settings, "one"), stores, broker, drain), time.monotonic()
    async with running(clean):
        clean.put([f"gone-{number}" for number in range(count)])

        async def is_done() -> bool:
            return (await run(("SCARD", names.DELETED_CHANNELS))) == [0]

        await eventually(is_done)
    took = time.monotonic() - began
    assert drained == {f"gone-{number}": frozenset() for number in range(count)}
    assert asked["GET"] <= count * (2 + took)  # of all others once a second, and of each that is deleted its own
    assert asked[f"SMEMBERS {names.DELETED_CHANNELS}"] == 0


@pytest.mark.parametrize(("amqp_queue", "kept"), [
    ("gone", ["gone.event", "gone.inbound", "gone.outbound"]),
    ("app", ["app.event", "app.inbound", "app.outbound"]),
    ("other", []),
])  # fmt: skip
async def test_a_queue_that_another_channel_names_is_left(
    settings: Settings, stores: Stores, broker: Broker, amqp_queue: str, kept: Sequence[str]
) -> None:
    for id, queue in (("gone", "app"), ("other", amqp_queue)):
        values: dict[str, Any] = {"type": "telnet", "config": {}, "amqp_queue": queue}
        await stores.channels.create(ChannelSpec(id=id, given=frozenset(values), **values))
    await stores.channels.delete("gone")
    await broker.declare(names.channel_queues("gone"), remember=False)
    await broker.publish(names.inbound_queue("gone"), b"waits")
    told: list[Any] = []

    async def drain(*given: Any) -> None:
        told.append(sorted(given[-1]))

    clean = cleanup(host(settings, "one"), stores, broker, drain)
    async with running(clean):
        clean.put(["gone"])

        async def is_done() -> bool:
            return not await stores.wanted.deleted()

        await eventually(is_done)
    assert told == [kept]
    lengths = await broker.queue_lengths([names.inbound_queue("gone")])
    assert lengths[names.inbound_queue("gone")] == (1 if amqp_queue == "gone" else 0)
    await broker.delete_queues([*names.channel_queues("gone")])
