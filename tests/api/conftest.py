"""The API over real sockets, with real servers behind it: tests stand where a client stands."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from junebug import names
from junebug.amqp.broker import Broker
from junebug.amqp.frames import Delivery
from junebug.api.app import make_app, serving
from junebug.api.http import PATIENCE
from junebug.api.sockets import bind
from junebug.config.declaration import AmqpSettings, RedisSettings, Settings
from junebug.errors import BrokerUnavailable
from junebug.registry import ChannelType, Registry
from junebug.router_types import RouterType, RouterTypes
from junebug.routers.from_address import ROUTER_TYPE as FROM_ADDRESS
from junebug.routers.keyword import ROUTER_TYPE as KEYWORD
from junebug.routers.outbound import ROUTER_TYPE as OUTBOUND
from junebug.stores import Stores
from junebug.transports.smpp import CHANNEL_TYPE as SMPP
from tests.polling import eventually
from tests.test_packaging import declared_channel_types, declared_router_types

TIMEOUT = 10.0

REGISTRY = Registry(
    [
        ChannelType(
            "plain",
            "nowhere:Plain",
            {"type": "object", "properties": {"port": {"type": "integer"}}, "additionalProperties": False},
        ),
        ChannelType(
            "guarded",
            "nowhere:Guarded",
            {
                "type": "object",
                "properties": {"user": {"type": "string"}, "password": {"type": "string", "maxLength": 20}},
                "required": ["password"],
            },
            ("password",),
        ),
        SMPP,
    ]
)

ROUTER_TYPES = RouterTypes(
    [
        FROM_ADDRESS,
        KEYWORD,
        OUTBOUND,
        RouterType(
            "guarded",
            "nowhere:Guarded",
            {"type": "object", "properties": {"channel": {"type": "string"}, "password": {"type": "string"}}},
            {"type": "object", "properties": {"word": {"type": "string"}, "key": {"type": "string"}}},
            ("password",),
            ("key",),
        ),
    ]
)


OWN_TYPES: dict[str, Any] = {
    "registry": Registry(declared_channel_types()), "types": RouterTypes(declared_router_types()),
}  # fmt: skip
"""Those that Junebug ships."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """A response whose envelope was checked."""

    status: int
    headers: Any
    body: dict[str, Any]

    @property
    def result(self) -> Any:
        return self.body["result"]

    @property
    def description(self) -> Any:
        return self.body["description"]

    @property
    def errors(self) -> list[dict[str, Any]]:
        return self.body["result"]["errors"]


@dataclasses.dataclass
class Api:
    """A client, and what stands behind the API."""

    settings: Settings
    stores: Stores
    broker: Broker
    session: aiohttp.ClientSession
    url: str
    app: web.Application

    async def __call__(self, method: str, path: str, **options: Any) -> Answer:
        """Every answer must be the envelope: that is checked here, for each test."""
        options.setdefault("allow_redirects", False)
        async with self.session.request(method, aiohttp.client.URL(self.url + path, encoded=True), **options) as response:
            assert response.content_type == "application/json"
            body = await response.json()
        assert set(body) == {"status", "code", "description", "result"}
        assert (body["status"], body["code"]) == (response.status, response.reason)
        if response.status >= 300:
            assert all(error["type"] and error["message"] for error in body["result"]["errors"])
        return Answer(response.status, response.headers, body)

    async def create(self, **properties: Any) -> str:
        """A channel's id."""
        body = {"type": "plain", "config": {}, "mo_url": "http://127.0.0.1:1/mo", **properties}
        answer = await self("POST", "/channels/", json=body)
        assert answer.status == 201, answer.body
        return str(answer.result["id"])

    async def router(self, type: str = "from_address", **config: Any) -> str:
        """A router's id; with a channel of its own, where `config` is not given."""
        if not config:
            config = {"channel": await self.create(mo_url=None)}
        answer = await self("POST", "/routers/", json={"type": type, "config": config})
        assert (answer.status, answer.description) == (201, "router created"), answer.body
        return str(answer.result["id"])

    async def destination(self, router: str, **properties: Any) -> str:
        """A destination's id."""
        body = {"config": {"regular_expression": "^1"}, **properties}
        answer = await self("POST", f"/routers/{router}/destinations/", json=body)
        assert (answer.status, answer.description) == (201, "destination created"), answer.body
        return str(answer.result["id"])

    def log_path(self, id: str) -> Path:
        """Where the log of a channel or router is."""
        return Path(self.settings.channel_log_path(id))

    async def queued(self, channel: str, count: int = 1) -> list[Delivery]:
        """The deliveries that wait for the channel's worker, once there are `count`."""
        return await self.taken(names.outbound_queue(channel), count)

    async def taken(self, queue: str, count: int) -> list[Delivery]:
        """The deliveries of a queue, once there are `count`."""
        found: list[Delivery] = []
        consumer = self.broker.consume(queue, found.append, prefetch=count)
        try:
            await eventually(lambda: len(found) >= count)
            for delivery in found:
                delivery.ack()
        finally:
            await consumer.cancel()
        return found


@asynccontextmanager
async def running_api(
    settings: Settings, wait: float = TIMEOUT, *, on_loopback: bool = True, registry: Registry = REGISTRY,
    types: RouterTypes = ROUTER_TYPES,
) -> AsyncIterator[Api]:  # fmt: skip
    """An API of these settings, ready when RabbitMQ is (or `wait` seconds are over). `on_loopback` false: as if others reached
    it.
    """
    settings.log_dir.mkdir(parents=True, exist_ok=True)
    stores = Stores(settings, settings.request_timeout * PATIENCE)
    broker = Broker(settings.amqp, "test api")
    try:
        broker.start()
        await broker.wait_connected(wait)
    except BrokerUnavailable:
        pass
    sockets = bind(settings)
    url = f"http://127.0.0.1:{sockets[0].getsockname()[1]}"
    app = make_app(settings, stores, broker, registry, types, on_loopback=on_loopback)
    try:
        async with (
            serving(app, sockets, 2.0, settings.max_connections),
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session,
        ):
            yield Api(settings, stores, broker, session, url, app)  # its queues end with the server: deleting them costs as much
    finally:
        await broker.close()
        await stores.close()


@pytest.fixture
def redis_settings(request: pytest.FixtureRequest, redis_settings: RedisSettings) -> RedisSettings:
    if "own_redis" not in request.fixturenames:
        return redis_settings
    own_redis = request.getfixturevalue("own_redis")
    return RedisSettings(host=own_redis.host, port=own_redis.port)


@pytest.fixture
def amqp_settings(request: pytest.FixtureRequest, amqp_settings: AmqpSettings) -> AmqpSettings:
    if "own_rabbitmq" not in request.fixturenames:
        return amqp_settings
    settings: AmqpSettings = request.getfixturevalue("own_rabbitmq").settings
    return settings


@pytest.fixture
async def plain(api: Api) -> str:
    """The id of a channel, for tables of requests that change nothing: all their rows share it."""
    return await api.create()


@pytest.fixture
async def api(settings: Settings) -> AsyncIterator[Api]:
    async with running_api(settings) as running:
        yield running


@pytest.fixture
async def documented(settings: Settings) -> AsyncIterator[Api]:
    """An API with the types that Junebug ships."""
    async with running_api(settings, **OWN_TYPES) as running:
        yield running
