"""A channel's worker in this process, between real servers: what is put into a queue or a socket, what comes out."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from msgspec.structs import replace

from junebug import names
from junebug.amqp.broker import Broker
from junebug.amqp.rpc import RpcClient
from junebug.config.declaration import Settings
from junebug.logs.redaction import Redactor
from junebug.model.messages import UserMessage
from junebug.model.routing import DestinationSpec, RouterSpec
from junebug.model.spec import ChannelSpec, Launch
from junebug.stores import Stores
from junebug.worker.base import Worker
from junebug.worker.callbacks import delay_queues
from junebug.worker.process import ChannelWorker
from junebug.worker.router import RouterWorker
from tests.polling import DEADLINE, eventually
from tests.worker.scripted import ScriptedTransport


class Application:
    """An application's URL: it keeps what it was POSTed and answers as told."""

    def __init__(self, port: int | None = None) -> None:
        self.received: list[dict[str, Any]] = []
        self.requests: list[web.BaseRequest] = []
        self.answers: list[int] = []
        """Statuses of the next answers; `always` when there are none."""
        self.always = 200
        self.statuses: dict[str, int] = {}
        """Content of a message -> status of its answers."""
        self.retry_after: dict[str, str] = {}
        """Content of a message -> Retry-After of its answers."""
        self.going_on = asyncio.Event()
        """Clear: it does not answer."""
        self.going_on.set()
        self._server = TestServer(web.Application(), port=port)
        self._server.app.router.add_post("/{path:.*}", self._on_post)
        self._server.app.router.add_get("/{path:.*}", self._on_post)

    async def start(self) -> None:
        await self._server.start_server()

    async def stop(self) -> None:
        await self._server.close()

    def url(self, path: str = "/") -> str:
        return str(self._server.make_url(path))

    async def _on_post(self, request: web.Request) -> web.Response:
        self.requests.append(request)
        body = orjson.loads(await request.read() or b"{}")
        self.received.append(body)
        await self.going_on.wait()
        status = self.statuses.get(body.get("content"), self.always)
        headers = {"Retry-After": self.retry_after[content]} if (content := body.get("content")) in self.retry_after else {}
        return web.Response(status=self.answers.pop(0) if self.answers else status, headers=headers)

    async def wait(self, count: int, timeout: float = DEADLINE) -> list[dict[str, Any]]:
        async def enough() -> bool:
            return len(self.received) >= count

        await eventually(enough, timeout)
        return self.received


@dataclass
class Bench:
    """What a worker test has at hand."""

    settings: Settings
    stores: Stores
    broker: Broker
    app: Application
    workers: dict[str, asyncio.Task[int]]
    _workers: dict[str, Worker]

    @functools.cached_property
    def asking(self) -> RpcClient:
        """As the API asks."""
        client = RpcClient(self.broker)
        client.start()
        return client

    async def channel(self, type: str, config: dict[str, Any], **properties: Any) -> str:
        """A new channel whose worker has started."""
        properties.setdefault("mo_url", self.app.url("/mo"))
        channel = str(uuid.uuid4())
        spec = ChannelSpec.from_properties(channel, {"type": type, "config": config, **properties})
        queues = names.channel_queues(channel, layout=self.layout(spec.shards))
        await self.broker.declare(queues, remember=False)
        await self.stores.channels.create(spec)
        self.start(channel)
        return channel

    def start(self, channel: str, launch: Launch = Launch()) -> None:  # noqa: B008 - frozen
        worker = ChannelWorker(self.settings, channel, launch, Redactor())
        self._workers[channel] = worker
        self.workers[channel] = asyncio.create_task(worker.run())

    async def router(self, type: str, config: dict[str, Any], destinations: Mapping[str, dict[str, Any]] | None = None) -> str:
        """A new router whose process has started. `destinations`: id -> properties."""
        router = str(uuid.uuid4())
        spec = RouterSpec.from_properties(router, {"type": type, "config": config})
        await self.stores.routers.create(spec, config.get("channel"))
        for id, properties in (destinations or {}).items():
            await self.stores.routers.put_destination(router, None, DestinationSpec.from_properties(id, properties), ())
        self.start_router(router)
        return router

    def start_router(self, router: str, launch: Launch = Launch()) -> None:  # noqa: B008 - frozen
        worker = RouterWorker(self.settings, router, launch, Redactor())
        self._workers[router] = worker
        self.workers[router] = asyncio.create_task(worker.run())

    async def running(self, channel: str) -> None:
        async def up() -> bool:
            assert not self.workers[channel].done(), self.workers[channel]
            if "worker" not in self._workers[channel]._levels:
                return False  # what Redis knows is of the one before
            return "worker" in await self.stores.statuses.components(channel)

        await eventually(up)

    async def stop(self, channel: str) -> int:
        self._workers[channel].stop()
        return await asyncio.wait_for(self.workers[channel], DEADLINE + 5)

    def layout(self, shards: int = 1) -> names.Layout:
        """As the settings are now."""
        return names.Layout(self.settings.amqp.queue_type == "quorum", shards > 1)

    def name(self, queue: str) -> str:
        """Of a queue on the way to the application (or from it), as the settings are now."""
        is_quorum = self.settings.amqp.queue_type == "quorum"
        if ".outbound" in queue and is_quorum:
            return queue.replace(".outbound", ".outbound.q")
        return queue if queue.endswith(".status") else names.of_kind(queue, is_quorum)

    async def put(self, queue: str, *bodies: bytes) -> None:
        """Into such a queue."""
        await self.broker.publish_many(self.name(queue), bodies)

    async def length(self, queue: str) -> int:
        """What waits in such a queue, of either kind."""
        return (await self.broker.kinds.lengths({queue: True}))[queue]

    def held(self, channel: str) -> int:
        """Callbacks that its process has taken, to wait."""
        worker = self._workers.get(channel)
        return worker._forwarder.held + worker._dispatcher.held if worker and not self.workers[channel].done() else 0

    async def send(self, channel: str, to: str, content: str, event_url: str | None = None, **fields: Any) -> str:
        """Queue an MT as the API does; its message id."""
        message = UserMessage(to_addr=to, from_addr=None, content=content, transport_name=channel, **fields)
        await self.stores.outbound.put(channel, replace(message, event_url=event_url))
        if message.priority > names.LOWEST_PRIORITY:
            await self.stores.channels.note_priorities(channel, (message.priority,))
        shards = (await self.stores.channels.get(channel)).shards
        await self.broker.publish(self.layout(shards).queue(channel, message.priority, to), message.to_wire())
        return message.message_id

    async def component(self, channel: str, component: str) -> dict[str, Any]:
        return (await self.stores.statuses.components(channel)).get(component, {})


@pytest.fixture
def queue_type() -> str:
    """What a test may be parametrized by."""
    return "classic"


@pytest.fixture
async def bench(settings: Settings, queue_type: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(delay_queues, "SETTLING", 0.0)  # for a RabbitMQ that nobody kills
    amqp = dataclasses.replace(settings.amqp, queue_type=queue_type)
    settings = dataclasses.replace(settings, amqp=amqp, callback_timeout=2.0)
    stores, broker, app = Stores(settings), Broker(settings.amqp, "test"), Application()
    await app.start()
    broker.start()
    await broker.wait_connected(10)
    bench = Bench(settings, stores, broker, app, {}, {})
    yield bench
    await broker.wait_connected(10)
    for channel, task in bench.workers.items():
        if not task.done():
            await bench.stop(channel)
    if "asking" in vars(bench):
        await bench.asking.stop()
    await broker.close()  # its queues end with the server: deleting them costs as much
    await stores.close()
    await app.stop()


@pytest.fixture
def scripted(bench: Bench) -> type[ScriptedTransport]:
    bench.settings = dataclasses.replace(
        bench.settings, channels={"scripted": "tests.worker.scripted:ScriptedTransport"}
    )
    ScriptedTransport.outcomes.clear()
    ScriptedTransport.sent.clear()
    return ScriptedTransport
