"""The reconciler with real Redis, RabbitMQ and processes: specs go in, processes and statuses come out."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Sequence
from pathlib import Path
from typing import Any

import pytest

from junebug import names
from junebug.amqp.broker import Broker
from junebug.amqp.frames import Delivery
from junebug.config.declaration import RedisSettings, Settings
from junebug.logs.channel_log import append_line
from junebug.model.messages import Status
from junebug.model.routing import RouterSpec
from junebug.model.spec import ChannelSpec
from junebug.plugin import JunebugPlugin
from junebug.stores import Stores
from tests.polling import DEADLINE, eventually
from tests.processes import is_alive
from tests.servers import RedisServer
from tests.supervisor.conftest import FakeJunebug

TYPES = {"fake": "junebug.transports.loopback:CHANNEL_TYPE"}


class House:
    """A fake Junebug, and its Redis as the API uses it."""

    def __init__(self, settings: Settings) -> None:
        self.fake = FakeJunebug(settings)
        self.stores = Stores(settings)
        self.channels = self.stores.channels

    async def create(self, *channels: str, **properties: Any) -> None:
        for channel in channels:
            values: dict[str, Any] = {"type": "fake", "config": {}, **properties}
            await self.channels.create(ChannelSpec(id=channel, given=frozenset(values), **values))

    async def started(self, channel: str, other_than: int = 0, timeout: float = DEADLINE) -> dict[str, Any]:
        """What the channel's process was told."""

        async def look() -> dict[str, Any]:
            told = self.fake.launch(channel)
            return told if told.get("pid", 0) not in (0, other_than) else {}

        return dict(await eventually(look, timeout))

    async def gone(self, channel: str) -> None:
        async def look() -> bool:
            return channel not in self.fake.running()

        await eventually(look)

    async def told(self, channel: str, type: str) -> dict[str, Any]:
        """The component `worker`, once it is of this type."""

        async def look() -> Any:
            worker = (await self.stores.statuses.components(channel)).get("worker", {})
            return worker if worker.get("type") == type else None

        return dict(await eventually(look))

    def reconciler(self) -> int:
        return next(pid for pid, title in self.fake.children().items() if title == "junebug: reconciler")


@pytest.fixture
async def house(settings: Settings, request: pytest.FixtureRequest) -> AsyncIterator[House]:
    """A parameter is its reconcile_interval."""
    interval = getattr(request, "param", settings.reconcile_interval)
    changed = dataclasses.replace(
        settings, channels=TYPES, replace_channels=True, worker_timeout=2.0, reconcile_interval=interval
    )
    house = House(changed)
    await asyncio.to_thread(house.fake.start)
    yield house
    house.fake.destroy()
    await house.stores.close()


@pytest.mark.parametrize("house", [3600.0], indirect=True)
async def test_a_created_channel_starts_at_once_when_it_is_told(house: House) -> None:
    await house.create("first")
    await house.started("first")  # from now on the subscription stands
    await house.create("a")
    told = await house.started("a")
    assert told["generation"] == 1


async def test_a_changed_config_restarts_that_channel_only(house: House) -> None:
    await house.create("a", "b")
    first, other = (await house.started("a"))["pid"], (await house.started("b"))["pid"]
    spec = await house.channels.get("a")
    await house.channels.update(spec, dataclasses.replace(spec, config={"x": 1}), restart=True)
    assert (await house.started("a", other_than=first))["generation"] == 2
    spec = await house.channels.get("b")
    await house.channels.update(spec, dataclasses.replace(spec, label="new"), restart=False)
    await house.create("c")
    await house.started("c")  # so it has looked since
    assert house.fake.launch("b")["pid"] == other


async def test_a_router_has_a_process_as_a_channel_has(house: House) -> None:
    """In a group of its own; started, restarted, kept alive and removed by the same looks."""
    routers = house.stores.routers
    await house.create("a")
    await routers.create(RouterSpec(id="r", type="keyword", config={"channel": "a"}), "a")
    first = (await house.started("r"))["pid"]
    other = (await house.started("a"))["pid"]
    assert "junebug: router:r" in Path(f"/proc/{first}/cmdline").read_text()
    assert {"router:r", "channel:a"} <= {line.split()[0] for line in house.fake.ctl("status").splitlines()}
    os.kill(first, signal.SIGKILL)
    second = await house.started("r", other_than=first)
    assert second["last_exit"] == "killed by SIGKILL"
    assert await routers.request_restart("r") == 2
    assert (await house.started("r", other_than=second["pid"]))["generation"] == 2
    await routers.delete("r")
    await house.gone("r")

    async def cleaned_up() -> bool:
        return not await house.stores.wanted.deleted()

    await eventually(cleaned_up)
    assert (await house.started("a"))["pid"] == other
    assert [each["channel"] for each in house.fake.drains()] == ["r"]


async def test_a_router_of_an_unknown_type_says_so(house: House) -> None:
    await house.stores.routers.create(RouterSpec(id="r", type="from_the_future", config={}), None)
    assert "There is no router type 'from_the_future' here" in (await house.told("r", "unknown_type"))["message"]


async def test_a_deleted_channel_leaves_nothing(house: House, settings: Settings) -> None:
    await house.create("a", "print-b")
    pid = (await house.started("a"))["pid"]
    await house.started("print-b")
    broker = Broker(settings.amqp, "test")
    broker.start()
    await broker.wait_connected(10)
    try:
        for channel in ("a", "print-b"):
            await broker.declare(names.channel_queues(channel), remember=False)
        of_other_kind = names.channel_queues("a", layout=names.Layout(is_quorum=True))
        await broker.declare(of_other_kind, remember=False)
        await house.stores.channels.note_priorities("a", (1, 11))
        await broker.publish(names.outbound_queue("a"), b"waits")
        delayed = [
            names.retry_queue("a", settings.callback_retry_delays[0]),
            names.backlog_queue("a", "event", "http://there"),
        ]
        for queue in delayed:
            await broker.declare({queue: names.waiting_arguments("a", 60)}, remember=False)
            await broker.publish(queue, b"waits")
        await house.stores.delay_queues.note("a", delayed[1], "http://there", 60)
        await house.channels.delete("a")
        await house.channels.delete("print-b")
        await house.gone("a")

        async def is_forgotten() -> bool:
            return not await house.stores.wanted.deleted()

        await eventually(is_forgotten)
        assert not is_alive(pid)
        assert not await broker.look_at_queues([*names.channel_queues("a"), *of_other_kind, *delayed])
        (keys,) = await house.stores._redis.run(("KEYS", "*a*"))
        others = {names.EPOCH, names.WANTED_CHANGES, names.LEASES, names.LEASE_CHANGES, names.LEASE_FENCE}
        others |= {key for key in keys if key.startswith((names.host(""), names.saved_metrics("")))}
        assert set(keys) <= {names.CHANNELS, names.GENERATIONS} | others
        said = {each["channel"]: each["delayed"] for each in house.fake.drains()}
        assert said.keys() == {"a", "print-b"}
        assert set(delayed) <= set(said["a"])
        assert not list(house.fake.settings.log_dir.glob("channel-*"))
    finally:
        await broker.close()


async def test_a_long_drain_keeps_nobody_waiting(house: House) -> None:
    await house.create("slow", "b", label="old")
    await house.started("slow")
    await house.started("b")
    await house.channels.delete("slow")
    await eventually(lambda: asyncio.to_thread(lambda: [each["label"] for each in house.fake.drains()] == ["old"]))
    await house.create("c")
    await house.started("c")
    await house.channels.delete("b")

    async def deleted() -> list[str]:
        return await house.stores.wanted.deleted()

    await eventually(lambda: _is(deleted(), ["slow"]))
    (house.fake.data_dir / "go").touch()
    await eventually(lambda: _is(deleted(), []))
    assert [each["channel"] for each in house.fake.drains()] == ["slow", "b"]


async def _is(question: Awaitable[Any], wanted: Any) -> bool:
    return bool(await question == wanted)


async def test_an_interrupted_drain_is_made_again(house: House) -> None:
    await house.create("slow")
    await house.started("slow")
    await house.channels.delete("slow")
    await eventually(lambda: asyncio.to_thread(lambda: len(house.fake.drains()) == 1))
    os.kill(house.reconciler(), signal.SIGKILL)
    await eventually(lambda: asyncio.to_thread(lambda: len(house.fake.drains()) == 2))
    (house.fake.data_dir / "go").touch()
    await eventually(lambda: _is(house.stores.wanted.deleted(), []))


async def test_a_fault_in_a_drain_keeps_no_channel(house: House) -> None:
    await house.create("crash")
    await house.told("crash", "backoff")
    await house.channels.delete("crash")
    await eventually(lambda: _is(house.stores.wanted.deleted(), []))
    assert "a fault in the drain" in house.fake.out()


async def test_a_channel_deleted_while_no_supervisor_ran_is_drained(house: House) -> None:
    await house.create("a", label="kept")
    await house.started("a")
    await asyncio.to_thread(house.fake.terminate)
    await house.channels.delete("a")
    await asyncio.to_thread(house.fake.start)
    await eventually(lambda: _is(house.stores.wanted.deleted(), []))
    assert [each["label"] for each in house.fake.drains()] == ["kept"]


async def test_a_death_is_told_and_given_to_the_worker_to_be_posted(house: House, broker: Broker) -> None:
    await house.create("a", status_url="http://there/")
    await broker.declare({names.status_queue("a"): {}}, remember=False)
    pid = (await house.started("a"))["pid"]
    await eventually(lambda: asyncio.to_thread(lambda: house.fake.running()["a"].state == "RUNNING"))
    os.kill(pid, signal.SIGKILL)
    worker = await house.told("a", "died")
    assert worker["status"] == "down"
    assert worker["message"] == "Killed by SIGKILL, started again"
    assert worker["details"] == {"pid": pid, "exit": "killed by SIGKILL", "restarts": 1}
    given: list[Status] = []

    async def visit(deliveries: Sequence[Delivery]) -> bool:
        given.extend(Status.from_wire(delivery.body) for delivery in deliveries)
        return True

    async def is_given() -> bool:
        return bool(await broker.browse(names.status_queue("a"), visit, keeping=True))

    await eventually(is_given)
    assert (given[0].channel_id, given[0].component, given[0].type) == ("a", "worker", "died")


async def test_a_crash_loop_is_told(house: House) -> None:
    await house.create("crash")
    worker = await house.told("crash", "backoff")
    assert worker["message"].startswith("Ended with exit code 70; it is started again in ")


async def test_the_hung_is_noticed_and_replaced(house: House) -> None:
    await house.create("a", "b")
    first, other = (await house.started("a"))["pid"], (await house.started("b"))["pid"]
    os.kill(first, signal.SIGSTOP)
    assert (await house.told("a", "hung"))["details"]["pid"] == first
    assert (await house.started("a", other_than=first))["last_exit"] == "killed by SIGKILL"
    assert house.fake.launch("b")["pid"] == other


async def test_while_the_disk_takes_nothing_the_hung_is_replaced_and_nobody_else(settings: Settings, short_dir: Path) -> None:
    disk = short_dir / "var" / "run"
    disk.mkdir(parents=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "junebug-test", disk], capture_output=True).returncode:
        pytest.skip("mounting a file system is not allowed here")
    house = House(dataclasses.replace(settings, channels=TYPES, replace_channels=True, worker_timeout=2.0))
    try:
        await asyncio.to_thread(house.fake.start)
        await house.create("a", "b")
        first, other = (await house.started("a"))["pid"], (await house.started("b"))["pid"]
        with contextlib.suppress(OSError):
            (disk / "full").write_bytes(bytes(2**20))
        assert not shutil.disk_usage(disk).free
        os.kill(first, signal.SIGSTOP)
        await house.started("a", other_than=first)
        assert house.fake.launch("b")["pid"] == other
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)
        house.fake.destroy()
        await house.stores.close()


@pytest.mark.parametrize(("ttl", "is_kept"), [(0.0, False), (1.5, False), (3600.0, True)])
async def test_logs_of_deleted_channels_are_removed_in_time(settings: Settings, ttl: float, is_kept: bool) -> None:
    changed = dataclasses.replace(settings, channels=TYPES, replace_channels=True, deleted_log_ttl=ttl)
    house = House(changed)
    logs = Path(settings.logging_path)
    logs.mkdir()
    own = [logs / name for name in ("a", "a.1", "a.12", "a~1", "a~31.2")]
    others = [logs / name for name in ("b", "b.1", "a.old", "ab", "junebug.log", "a~1.old", "a~32", "b~1")]
    for path in [*own, *others]:
        path.write_text("{}\n")
    await asyncio.to_thread(house.fake.start)
    try:
        await house.create("a", "b")
        await house.started("a")
        await house.channels.delete("a")

        async def is_forgotten() -> bool:
            return "a" not in await house.stores.wanted.deleted()

        await eventually(is_forgotten)
        if is_kept:
            await asyncio.sleep(2)
            assert all(path.exists() for path in own)
            (left,) = await house.stores._redis.run(("TTL", names.DELETED_LOGS))
            assert left > ttl
        else:
            await eventually(lambda: not any(path.exists() for path in own))
        assert all(path.exists() for path in others)
    finally:
        house.fake.destroy()
        await house.stores.close()


async def test_logs_that_an_older_junebug_wrote_are_given_their_names(house: House, settings: Settings) -> None:
    """Also of a router, and of what does not run here."""
    logs = Path(settings.logging_path)
    logs.mkdir(exist_ok=True)
    for log, name in (("a.1", "a.1"), ("a.1", "a.1.1"), ("a", "a"), ("a", "a.2"), ("r.7", "r.7")):
        append_line(logs / name, log, 20, "old", {})
    await house.create("a", "a.1", config={"placement": {"labels": {"site": "elsewhere"}}})
    await house.stores.routers.create(RouterSpec(id="r.7", type="keyword", config={"channel": "a"}), "a")
    await eventually(lambda: {path.name for path in logs.iterdir()} >= {"a.1~0", "a.1~0.1", "a", "a.2", "r.7~0"})
    assert sorted(path.name for path in logs.iterdir() if path.name in ("a.1", "a.1.1", "r.7")) == []


async def test_an_operators_stop_holds_until_the_channel_is_restarted(house: House) -> None:
    await house.create("a")
    first = (await house.started("a"))["pid"]
    await asyncio.to_thread(house.fake.ctl, "stop", "channel:a")
    await house.told("a", "stopped")
    assert house.fake.running()["a"].state == "STOPPED"
    await house.channels.request_restart("a")
    assert (await house.started("a", other_than=first))["generation"] == 2


async def test_an_unknown_type_is_told_and_hurts_no_other(house: House) -> None:
    await house.create("a", type="fax")
    await house.create("b")
    await house.started("b")
    worker = await house.told("a", "unknown_type")
    assert "'fax'" in worker["message"]
    assert "a" not in house.fake.running()
    spec = await house.channels.get("a")
    await house.channels.update(spec, dataclasses.replace(spec, type="fake"), restart=True)
    await house.started("a")


async def test_a_reconciler_that_dies_is_replaced_and_finds_everything_again(house: House) -> None:
    await house.create("a")
    pid = (await house.started("a"))["pid"]
    os.kill(house.reconciler(), signal.SIGKILL)
    await house.create("b")
    await house.started("b")
    assert house.fake.launch("a")["pid"] == pid


class FilePlugin(JunebugPlugin):
    """Writes what it hears to the file that its config names."""

    def start_plugin(self, config: dict[str, Any], junebug_config: Settings) -> None:
        self.path = Path(config["path"])

    async def channel_started(self, channel: ChannelSpec) -> None:
        self.write("started", channel)

    def channel_stopped(self, channel: ChannelSpec) -> None:
        self.write("stopped", channel)

    def write(self, what: str, channel: ChannelSpec) -> None:
        with self.path.open("a") as file:
            file.write(f"{what} {channel.id} {channel.config}\n")


async def test_plugins_hear_of_starts_and_stops(settings: Settings, short_dir: Path) -> None:
    path = short_dir / "heard"
    plugins = [{"type": f"{__name__}.FilePlugin", "path": str(path)}]
    house = House(dataclasses.replace(settings, channels=TYPES, replace_channels=True, plugins=plugins))

    async def heard(*lines: str) -> None:
        await eventually(lambda: asyncio.to_thread(lambda: path.exists() and path.read_text().splitlines() == list(lines)))

    await house.create("a")
    await asyncio.to_thread(house.fake.start)
    try:
        await heard("started a {}")
        spec = await house.channels.get("a")
        await house.channels.update(spec, dataclasses.replace(spec, config={"x": 1}), restart=True)
        changed = ["started a {}", "stopped a {}", "started a {'x': 1}"]
        await heard(*changed)
        await house.channels.delete("a")
        await heard(*changed, "stopped a {'x': 1}")
    finally:
        house.fake.destroy()
        await house.stores.close()


async def test_a_restarted_supervisor_starts_all_channels_again(house: House) -> None:
    await house.create("a", "b", "c")
    pids = {channel: (await house.started(channel))["pid"] for channel in "abc"}
    assert house.fake.process
    house.fake.process.kill()
    house.fake.process.wait()
    await asyncio.to_thread(house.fake.start)
    for channel, pid in pids.items():
        await house.started(channel, other_than=pid)


async def test_redis_away_emptied_and_back(own_redis: RedisServer, settings: Settings) -> None:
    changed = dataclasses.replace(
        settings, redis=RedisSettings(port=own_redis.port), channels=TYPES, replace_channels=True, request_timeout=1.0
    )
    house = House(changed)
    await asyncio.to_thread(house.fake.start)
    try:
        await house.create("a", "b", label="kept")
        pids = {channel: (await house.started(channel))["pid"] for channel in "ab"}
        await house.stores._redis.run(("FLUSHALL",))

        async def is_restored() -> bool:
            return await house.channels.ids() == ["a", "b"]

        await eventually(is_restored)
        assert (await house.channels.get("a")).label == "kept"
        await asyncio.to_thread(own_redis.kill)
        os.kill(pids["a"], signal.SIGKILL)  # respawned without Redis
        again = await house.started("a", other_than=pids["a"])
        await eventually(lambda: asyncio.to_thread(lambda: "what=redis" in house.fake.out()))  # it has looked
        assert {c: p.pid for c, p in house.fake.running().items()} == {"a": again["pid"], "b": pids["b"]}
        await asyncio.to_thread(own_redis.restart)
        await house.stores._redis.run(("FLUSHALL",))
        await eventually(is_restored)
        await house.create("c")
        await house.started("c")
        assert {c: p.pid for c, p in house.fake.running().items() if c != "c"} == {"a": again["pid"], "b": pids["b"]}

        # emptied while the reconciler was not looking: nobody deleted them, so they run on
        os.kill(house.reconciler(), signal.SIGSTOP)
        await house.stores._redis.run(("FLUSHALL",))
        os.kill(house.reconciler(), signal.SIGKILL)
        await house.create("d")
        await house.started("d")
        assert house.fake.running().keys() == {"a", "b", "c", "d"}
    finally:
        house.fake.destroy()
        await house.stores.close()
