"""Servers and settings for every test: one private Redis for the whole run, and one private RabbitMQ for each process of it.

Tests are kept apart by a Redis database of their own and by channel ids, which name every queue. Those that kill or freeze
RabbitMQ do so to their process' one, in a vhost of their own: starting another would cost six seconds of CPU each time.
"""

from __future__ import annotations

import gc
import itertools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from junebug.amqp.broker import Broker
from junebug.config.declaration import AmqpSettings, RedisSettings, Settings
from tests.servers import RabbitmqServer, RedisServer, rabbitmq_server, redis_server

_REDIS = "JUNEBUG_TEST_REDIS"
_servers: list[RedisServer] = []
_databases = itertools.count()


LONGEST = (
    "tests/cluster/", "tests/blackbox/test_promises.py", "tests/blackbox/test_faults.py", "tests/blackbox/test_smpp_faults.py",
    "tests/blackbox/test_delivery.py", "tests/blackbox/test_deletion.py", "tests/test_demo.py", "tests/test_readme.py",
    "tests/console/", "tests/blackbox/test_cli.py", "tests/blackbox/test_processes.py", "tests/blackbox/test_callbacks.py",
    "tests/test_containers.py", "tests/worker/test_forwarder_faults.py", "tests/worker/test_forwarder.py",
    "tests/api/test_outages.py",
    "tests/blackbox/", "tests/supervisor/", "tests/worker/", "tests/amqp/", "tests/stores/", "tests/api/",
)  # fmt: skip
"""What comes first, so that no process is left alone with something long at the end."""
OF_A_MODULE = {"jb", "module_world", "documented_junebug"}
"""Fixtures of which one serves a module."""
TOGETHER = (
    "tests/cluster/", "tests/blackbox/", "tests/client/", "tests/console/", "tests/transports/test_irc.py",
    "tests/test_containers.py", "tests/test_packaging.py", "tests/test_readme.py",
)  # fmt: skip
OF_ONE_BROWSER = "tests/console/"
"""All of it stays in one process."""
APART = ("tests/blackbox/test_cli.py", "tests/blackbox/test_disk_full.py")
"""Modules whose tests stay in one process, for the sake of such a fixture or of another thing that is made once, like a wheel;
and those among them that have none.
"""


def _stays_together(path: str) -> bool:
    return path.startswith(TOGETHER) and path not in APART


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        return next((n for n, path in enumerate(LONGEST) if item.nodeid.startswith(path)), len(LONGEST))

    items.sort(key=place)  # within a module the order stays
    for item in items:
        module = item.nodeid.partition("::")[0]
        if OF_A_MODULE.intersection(getattr(item, "fixturenames", ())) and not _stays_together(module):
            raise pytest.UsageError(f"{module} has a fixture of which one is to serve the module: add it to TOGETHER")


def pytest_collection_finish() -> None:
    """Thousands of tests and the modules they need stay to the end: no collection of garbage need go through them again."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown() -> None:
    """A channel's log ends with its test: the next one in this process may look for what is printed."""
    structlog.reset_defaults()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """xdist's own `--dist loadgroup` writes a group into a test's id, where pytest 9.2 reads it no more: every process would
    start a `jb` of every module.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ModulesTogether(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            module = nodeid.partition("::")[0]
            if module.startswith(OF_ONE_BROWSER):
                return OF_ONE_BROWSER
            return module if _stays_together(module) else nodeid

    return ModulesTogether(config, log)


def pytest_configure(config: pytest.Config) -> None:
    """The controlling process starts Redis; the workers find its port in the environment."""
    if hasattr(config, "workerinput") or config.option.collectonly:
        return
    redis = redis_server()
    redis.start(wait=False)
    _servers.append(redis)
    os.environ[_REDIS] = str(redis.port)


def pytest_unconfigure(config: pytest.Config) -> None:
    while _servers:
        _servers.pop().destroy()


@pytest.fixture(scope="session")
def redis_server_shared() -> RedisServer:
    server = RedisServer(int(os.environ[_REDIS]), Path("/nonexistent"))
    server.wait_ready()
    return server


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[RabbitmqServer]:
    """This process' RabbitMQ, started when its first test needs one."""
    server = rabbitmq_server()
    try:
        server.start()
        yield server
    finally:
        server.destroy()


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
def amqp_settings(rabbitmq: RabbitmqServer) -> AmqpSettings:
    return rabbitmq.settings


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
    """A connection to RabbitMQ."""
    opened = Broker(amqp_settings, "test")
    opened.start()
    await opened.wait_connected(10)
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
def own_rabbitmq(rabbitmq: RabbitmqServer) -> Iterator[RabbitmqServer]:
    """RabbitMQ to be killed and restarted: nobody else uses it meanwhile."""
    with rabbitmq.own_vhost():
        yield rabbitmq
