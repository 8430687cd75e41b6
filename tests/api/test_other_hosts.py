"""Several hosts, seen from the API of one: GET /events/stream, where what others log comes over RabbitMQ, in the order of its
times, each line once.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import orjson
import pytest

from junebug.amqp.broker import Broker
from junebug.amqp.rpc import RpcClient
from junebug.api import host_follower, stream_sources
from junebug.api.handlers import stream
from junebug.config.declaration import Settings
from junebug.errors import NotRunning
from junebug.logs import follow
from junebug.logs.files import LogFile
from junebug.stores import Stores
from junebug.stores.leases import HostEntry
from junebug.supervisor import followers
from junebug.supervisor.host_logs import HostLogs
from tests.api.conftest import Api, running_api
from tests.api.test_stream import following, numbered, written
from tests.polling import eventually
from tests.sse import Client

TTL = 60.0


@dataclasses.dataclass
class Host:
    """What of a supervisor has to do with logs: its leases, its files, and who answers questions about them."""

    id: str
    settings: Settings
    stores: Stores
    broker: Broker
    logs: HostLogs
    serving: asyncio.Task[None] | None = None

    async def runs(self, *channels: str) -> None:
        await self.stores.leases.turn(HostEntry(self.id), f"place of {self.id}", TTL, claim=dict.fromkeys(channels, 0))

    async def gives(self, channel: str) -> None:
        turn = await self.stores.leases.turn(HostEntry(self.id), f"place of {self.id}", TTL)
        assert turn.holders
        await self.stores.leases.turn(HostEntry(self.id), f"place of {self.id}", TTL, release={channel: turn.holders[channel][1]})

    async def listen(self) -> None:
        self.serving = asyncio.create_task(self.logs.serve())
        await asyncio.sleep(0)
        consumer = self.logs._server._consumer
        assert consumer
        await asyncio.wait_for(consumer.consuming.wait(), 10)

    async def end(self) -> None:
        if self.serving:
            self.serving.cancel()
            with suppress(asyncio.CancelledError):
                await self.serving
            await self.logs._server.stop()

    def log(self, channel: str, *entries: dict[str, Any]) -> None:
        lines = [orjson.dumps({"logger": channel, "level": 20, "timestamp": time.time(), **each}) + b"\n" for each in entries]
        written(LogFile(Path(self.settings.channel_log_path(channel))), lines)


@asynccontextmanager
async def host(settings: Settings, id: str, logs: Path) -> AsyncIterator[Host]:
    own = dataclasses.replace(settings, host=id, logging_path=str(logs), data_dir=f"{settings.data_dir}/{id}")
    stores, broker = Stores(own), Broker(own.amqp, f"reconciler of {id}")
    broker.start()
    await broker.wait_connected(10)
    made = Host(id, own, stores, broker, HostLogs(broker, id, own))
    try:
        await made.runs()
        await made.listen()
        yield made
    finally:
        await made.end()
        await broker.close()
        await stores.close()


@dataclasses.dataclass
class Two:
    """Host a, with the API, and host b."""

    a: Host
    b: Host
    api: Api


@pytest.fixture
async def two(settings: Settings, tmp_path: Path) -> AsyncIterator[Two]:
    async with AsyncExitStack() as stack:
        a = await stack.enter_async_context(host(settings, "a", tmp_path / "a"))
        b = await stack.enter_async_context(host(settings, "b", tmp_path / "b"))
        yield Two(a, b, await stack.enter_async_context(running_api(a.settings)))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "REFRESH", 0.1)
    monkeypatch.setattr(follow, "INTERVAL", 0.02)
    for module in (followers, host_follower):
        monkeypatch.setattr(module, "WAIT", 0.3)
    monkeypatch.setattr(host_follower, "PAUSE", 0.1)
    monkeypatch.setattr(followers, "LEASE", 0.9)


async def numbers(client: Client, count: int) -> list[int]:
    found = await client.some(count)
    assert "lost" not in {event.kind for event in found}, found
    return [event.data["n"] for event in found]


async def test_what_both_hosts_log_comes_as_they_do(two: Two) -> None:
    here, there = await two.api.create(), await two.api.create(type="guarded", config={"password": "hidden"})
    two.b.log(there, *numbered(0))
    await two.a.runs(here)
    await two.b.runs(there)
    async with following(two.api) as client:
        for n in (1, 2, 3):
            two.b.log(there, *numbered(n, more="hidden"))
            found = await client.some(1)
            assert (found[0].data["n"], found[0].data["message"]) == (n, f"line {n} ********")
            assert (found[0].kind, found[0].data["channel_id"]) == ("log", there)
        two.a.log(here, *numbered(4))
        assert await numbers(client, 1) == [4]
        created = await two.api.create()  # on the other host, meanwhile
        await two.b.runs(created)
        two.b.log(created, *numbered(5))
        assert await numbers(client, 1) == [5]
    async with following(two.api, f"?kind=status&channel_id={there}") as client:
        two.b.log(there, *numbered(6), {"message": "status", "n": 7})
        two.a.log(here, {"message": "status", "n": 8})
        two.b.log(there, {"message": "status", "n": 9})
        assert await numbers(client, 2) == [7, 9]


async def test_a_channel_that_moves_is_followed_there(two: Two) -> None:
    channel = await two.api.create()
    await two.a.runs(channel)
    async with following(two.api) as client:
        two.a.log(channel, *numbered(1))
        assert await numbers(client, 1) == [1]
        await two.a.gives(channel)
        await two.b.runs(channel)
        two.b.log(channel, *numbered(2))
        assert await numbers(client, 1) == [2]
        two.a.log(channel, *numbered(3))  # the last word of a process that ends
        assert await numbers(client, 1) == [3]


async def test_who_comes_back_is_told_what_he_missed_by_either_api(two: Two) -> None:
    """In the order of its times, each line once: whoever ran the channel is asked, also who does no more."""
    channel = await two.api.create()
    await two.a.runs(channel)
    async with following(two.api) as client:
        two.a.log(channel, *numbered(0))
        assert await numbers(client, 1) == [0]
    begun = time.time()
    for n in range(1, 2001):
        one = two.b if 500 <= n < 1500 else two.a
        if n == 500:
            await two.a.gives(channel)
            await two.b.runs(channel)
        if n == 1500:
            await two.b.gives(channel)
            await two.a.runs(channel)
        one.log(channel, {"message": "x" * 200, "n": n, "timestamp": begun + n / 1000})
    query = f"?last_event_id={client.last_id}"
    async with following(two.api, query) as client:
        assert await numbers(client, 900) == [*range(1, 901)]
    async with running_api(two.b.settings) as other, following(other, f"?last_event_id={client.last_id}") as client:
        assert await numbers(client, 1100) == [*range(901, 2001)]
        two.a.log(channel, *numbered(2001))
        assert await numbers(client, 1) == [2001]


async def test_a_host_that_does_not_answer_is_named_and_told_on_when_it_does(two: Two) -> None:
    channel, here = await two.api.create(), await two.api.create()
    await two.a.runs(here)
    await two.b.runs(channel)
    async with following(two.api) as client:
        two.b.log(channel, *numbered(1))
        assert await numbers(client, 1) == [1]
        await two.b.end()
        (lost,) = await client.some(1)
        assert (lost.kind, lost.data) == ("lost", {
            "kind": "lost", "channel_id": None, "left_out": None,
            "reason": "host b does not listen: what it logs comes when it does",
        })  # fmt: skip
        two.b.log(channel, *numbered(2, 3))
        two.a.log(here, *numbered(4))
        assert await numbers(client, 1) == [4]
        await two.b.listen()
        assert await numbers(client, 2) == [2, 3]


async def test_an_answer_that_was_lost_is_told_again(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    channel = await two.api.create()
    await two.b.runs(channel)
    ask, lost = RpcClient.ask, list[int]()

    async def losing(self: RpcClient, *args: Any, **more: Any) -> Any:
        answer = await ask(self, *args, **more)
        if answer.get("steps") and is_begun and len(lost) < 2:
            lost.append(1)
            raise NotRunning("it died over it")
        return answer

    is_begun = False
    monkeypatch.setattr(RpcClient, "ask", losing)
    async with following(two.api) as client:
        two.b.log(channel, *numbered(0))
        assert await numbers(client, 1) == [0]
        is_begun = True
        for n in range(1, 6):
            two.b.log(channel, *numbered(n))
        found = list[int]()
        while len(found) < 5:
            (event,) = await client.some(1)
            found += [event.data["n"]] if event.kind != "lost" else []
    assert (found, lost) == ([1, 2, 3, 4, 5], [1, 1])


async def test_one_directory_that_two_hosts_read_is_told_once(settings: Settings, tmp_path: Path) -> None:
    async with (
        host(settings, "a", tmp_path) as a, host(settings, "b", tmp_path) as b, running_api(a.settings) as api,
        following(api) as client,
    ):  # fmt: skip
        channel = await api.create()
        a.log(channel, *numbered(0))
        assert await numbers(client, 1) == [0]  # when nobody knows of the other one
        await b.runs(channel)
        for n in range(1, 30):
            a.log(channel, *numbered(n))
            assert await numbers(client, 1) == [n]


async def test_nobody_reads_for_a_client_that_is_gone(two: Two) -> None:
    channel = await two.api.create()
    await two.b.runs(channel)
    async with following(two.api) as client:
        two.b.log(channel, *numbered(1))
        assert await numbers(client, 1) == [1]
        assert two.b.logs._followers.is_reading
    await eventually(lambda: not two.b.logs._followers.is_reading)
    assert two.b.logs._followers._timer is None


async def test_a_client_that_takes_nothing_has_nothing_sent_to_it(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other host's files are the buffer."""
    monkeypatch.setattr(stream, "SLOW", 600.0)
    channel = await two.api.create()
    await two.b.runs(channel)
    asked = list[int]()
    ask = RpcClient.ask

    async def counted(self: RpcClient, *args: Any, **more: Any) -> Any:
        answer = await ask(self, *args, **more)
        asked.append(len(answer.get("steps", ())))
        return answer

    monkeypatch.setattr(RpcClient, "ask", counted)
    lines = 16_000
    async with following(two.api) as client:
        for n in range(0, lines, 100):
            two.b.log(channel, *numbered(*range(n, n + 100), more="x" * 1000))
        await eventually(lambda: len(asked) > 3)
        was = -1

        async def is_quiet() -> bool:
            nonlocal was
            before, was = was, sum(asked)
            await asyncio.sleep(0.3)
            return before == sum(asked)

        await eventually(is_quiet)
        assert sum(asked) < lines
        for n in range(0, lines, 100):
            assert await numbers(client, 100) == [*range(n, n + 100)]


async def test_where_there_is_no_other_host_nothing_is_asked(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("asked")

    monkeypatch.setattr(RpcClient, "ask", never)
    looks = list[int]()
    look = stream_sources.StreamSources.look

    async def counted(self: stream_sources.StreamSources, logs: frozenset[str]) -> None:
        await look(self, logs)
        looks.append(len(self._hosts))

    monkeypatch.setattr(stream_sources.StreamSources, "look", counted)
    async with host(settings, "a", tmp_path) as a, running_api(a.settings) as api, following(api) as client:
        channel = await api.create()
        await a.runs(channel)
        a.log(channel, *numbered(1))
        assert await numbers(client, 1) == [1]
        await eventually(lambda: len(looks) > 3)
    assert set(looks) == {0}
