"""Servers and settings for every test: one private Redis and RabbitMQ for the whole run, shared by all xdist workers.

Tests are kept apart by a Redis database of their own and by channel ids, which name every queue.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from junebug.amqp.broker import Broker
from junebug.config.declaration import AmqpSettings, RedisSettings, Settings
from tests.servers import RabbitmqServer, RedisServer, rabbitmq_server, redis_server

_SHARED = "JUNEBUG_TEST_SERVERS"
_servers: list[RedisServer | RabbitmqServer] = []
_databases = itertools.count()


def pytest_configure(config: pytest.Config) -> None:
    """The controlling process starts the servers; the workers find their ports in the environment."""
    if hasattr(config, "workerinput") or config.option.collectonly:
        return
    redis, rabbitmq = redis_server(), rabbitmq_server()
    _servers.extend((redis.start(wait=False), rabbitmq.start(wait=False)))  # type: ignore[arg-type]
    os.environ[_SHARED] = json.dumps({"redis": redis.port, "rabbitmq": rabbitmq.ports})


def pytest_unconfigure(config: pytest.Config) -> None:
    while _servers:
        _servers.pop().destroy()


@pytest.fixture(scope="session")
def redis_server_shared() -> RedisServer:
    server = RedisServer(json.loads(os.environ[_SHARED])["redis"], Path("/nonexistent"))
    server.wait_ready()
    return server


@pytest.fixture(scope="session")
def rabbitmq_shared() -> RabbitmqServer:
    server = RabbitmqServer(tuple(json.loads(os.environ[_SHARED])["rabbitmq"]), Path("/nonexistent"))
    server.wait_ready()
    return server


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A directory with a short path (a unix socket's is limited to 107 bytes)."""
    directory = Path(tempfile.mkdtemp(prefix="jb-"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def redis_settings(redis_server_shared: RedisServer) -> RedisSettings:
    """A Redis database that no other test uses."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    return RedisSettings(host=redis_server_shared.host, port=redis_server_shared.port, db=worker * 1000 + next(_databases))


@pytest.fixture
def amqp_settings(rabbitmq_shared: RabbitmqServer) -> AmqpSettings:
    return AmqpSettings(hostname=rabbitmq_shared.host, port=rabbitmq_shared.port)


@pytest.fixture
def settings(redis_settings: RedisSettings, amqp_settings: AmqpSettings, short_dir: Path) -> Settings:
    return Settings(
        interface="127.0.0.1",
        port=0,
        redis=redis_settings,
        amqp=amqp_settings,
        data_dir=str(short_dir / "var"),
        logging_path=str(short_dir / "logs"),
        metric_window=1.0,
        reconcile_interval=1.0,
    )


@pytest.fixture
async def broker(amqp_settings: AmqpSettings) -> AsyncIterator[Broker]:
    """A connection to the shared RabbitMQ."""
    opened = Broker(amqp_settings, "test")
    await opened.start(timeout=10)
    yield opened
    await opened.close()


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A Redis of this test's own, to be killed, emptied and restarted."""
    server = redis_server()
    server.start()
    yield server
    server.destroy()


@pytest.fixture
def own_rabbitmq() -> Iterator[RabbitmqServer]:
    """A RabbitMQ of this test's own, to be killed and restarted."""
    server = rabbitmq_server()
    server.start()
    yield server
    server.destroy()
