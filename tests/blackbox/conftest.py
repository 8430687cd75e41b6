"""One `jb` for each module here; tests that break things have servers to themselves (world.py).

A module may set `FLAGS` (flag without dashes -> value) and `ENVIRONMENT` for its `jb`.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.blackbox.receiver import Receiver
from tests.harness import AT_ONCE, Api, AppQueues, Channel, JunebugProcess, WebhookSink, free_port, unique
from tests.servers import RabbitmqServer, RedisServer

QUICK = {"metric-window": 1, "reconcile-interval": 1, "callback-timeout": 3}
"""Flags of every `jb` here: what happens rarely happens soon."""
SETTLING, SETTLING_PAUSE = 5, 0.1
"""How often, and after how many seconds each, a channel is asked whether anything waits there."""
_databases = itertools.count(500)


def own_database() -> int:
    """A database of the shared Redis that no other test uses."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    return worker * 1000 + next(_databases)


def server_flags(redis: RedisServer, rabbitmq: RabbitmqServer, db: int | None = None) -> dict[str, Any]:
    """The flags that say where the servers are."""
    return {
        "redis-host": "127.0.0.1",
        "redis-port": redis.port,
        "redis-db": own_database() if db is None else db,
        "amqp-port": rabbitmq.port,
        "amqp-vhost": rabbitmq.vhost,
    }


StartJunebug = Callable[..., JunebugProcess]


@contextmanager
def running_jb(flags: Mapping[str, Any], **options: Any) -> Iterator[JunebugProcess]:
    """A `jb` in a directory of its own; at the end it must stop as promised, having shown no traceback."""
    with tempfile.TemporaryDirectory(prefix="jb-", ignore_cleanup_errors=True) as directory:
        junebug = JunebugProcess(Path(directory), {**QUICK, **flags}, **options)
        try:
            yield junebug.start()
            assert junebug.stop() == 0
            assert "Traceback" not in junebug.output()
        finally:
            junebug.destroy()


@pytest.fixture(scope="module")
def jb(
    request: pytest.FixtureRequest, redis_server_shared: RedisServer, rabbitmq: RabbitmqServer
) -> Iterator[JunebugProcess]:
    """The module's own."""
    flags = {**server_flags(redis_server_shared, rabbitmq), **getattr(request.module, "FLAGS", {})}
    with running_jb(flags, environment=getattr(request.module, "ENVIRONMENT", {}), constants=AT_ONCE) as junebug:
        yield junebug


@pytest.fixture
def start_junebug(
    short_dir: Path, redis_server_shared: RedisServer, rabbitmq: RabbitmqServer
) -> Iterator[StartJunebug]:
    """`start_junebug(flags, redis=, rabbitmq=, wait=, ...)`: one of the test's own, in a directory of its own."""
    with ExitStack() as stack:
        numbers = itertools.count(1)

        def start(
            flags: Mapping[str, Any] | None = None,
            *,
            redis: RedisServer = redis_server_shared,
            rabbitmq: RabbitmqServer = rabbitmq,
            wait: bool = True,
            **options: Any,
        ) -> JunebugProcess:
            directory = short_dir / str(next(numbers))
            directory.mkdir()
            merged = {**server_flags(redis, rabbitmq), **QUICK, **(flags or {})}
            junebug = JunebugProcess(directory, merged, **options)
            stack.callback(junebug.destroy)
            return junebug.start(wait=wait)

        yield start


@pytest.fixture
def api(jb: JunebugProcess) -> Api:
    return jb.api


@pytest.fixture
async def sink() -> AsyncIterator[WebhookSink]:
    async with WebhookSink() as webhooks:
        yield webhooks


@pytest.fixture
async def app(rabbitmq: RabbitmqServer) -> AsyncIterator[AppQueues]:
    """An application on RabbitMQ under a name of its own; it has declared nothing yet."""
    async with AppQueues(rabbitmq.port, unique("app")) as queues:
        yield queues


class Channels:
    """Makes channels, and deletes them when the test ends."""

    def __init__(self, api: Api, sink: WebhookSink | Receiver) -> None:
        self._api = api
        self._sink = sink
        self._made: list[Channel] = []

    async def create(self, type: str, config: Mapping[str, Any], port: int = 0, **properties: Any) -> Channel:
        """A new one; its messages go to the sink's /mo unless something else is said."""
        properties.setdefault("mo_url", self._sink.url("/mo"))
        body = {"type": type, "config": dict(config), **properties}
        answer = await self._api.post("/channels/", {name: value for name, value in body.items() if value is not None})
        assert answer.status == 201, answer
        channel = Channel(self._api, answer.result, port)
        self._made.append(channel)
        return channel

    async def telnet(self, config: Mapping[str, Any] | None = None, **properties: Any) -> Channel:
        """A telnet channel that listens."""
        port = free_port()
        endpoint = {"twisted_endpoint": f"tcp:{port}:interface=127.0.0.1", **(config or {})}
        return await (await self.create("telnet", endpoint, port, **properties)).running()

    async def loopback(self, config: Mapping[str, Any] | None = None, **properties: Any) -> Channel:
        """A loopback channel that runs."""
        return await (await self.create("loopback", config or {}, **properties)).running()

    async def delete_all(self) -> None:
        for channel in self._made:
            await self._settled(channel)
            await self._api.delete(channel.path)

    async def _settled(self, channel: Channel) -> None:
        """When nothing waits in its queues any more, or after a moment: a drain costs half a second of CPU."""
        for _ in range(SETTLING):
            answer = await self._api.get(channel.path)
            status = answer.result["status"] if answer.status == 200 else {}
            if not status.get("queue_length") and not status.get("callbacks_waiting"):
                return
            await asyncio.sleep(SETTLING_PAUSE)


@pytest.fixture
async def channels(jb: JunebugProcess, sink: WebhookSink) -> AsyncIterator[Channels]:
    made = Channels(jb.api, sink)
    yield made
    await made.delete_all()


@pytest.fixture
async def loopback(channels: Channels) -> Channel:
    """One that runs, for tables of requests: all their rows share it."""
    return await channels.loopback()
