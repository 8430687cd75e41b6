"""The API put together, and its life as a process.

Neighbours: handlers/ has a file a resource, routes.py says which path is whose, middleware.py what stands around each handler;
cli.py calls `run` with what sockets.py has bound.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import structlog
from aiohttp import web

from junebug.amqp.broker import Broker
from junebug.amqp.rpc import RpcClient
from junebug.api.access import Guard, asks_for_token, is_loopback
from junebug.api.audit import AuditLog
from junebug.api.channel_queues import ChannelQueues
from junebug.api.channel_states import ChannelStates
from junebug.api.compose import Composer
from junebug.api.dry_run import DryRuns
from junebug.api.handlers.bulk import Bulk
from junebug.api.handlers.channels import Channels
from junebug.api.handlers.dead_letters import DeadLetters
from junebug.api.handlers.destinations import Destinations
from junebug.api.handlers.health import Health, alive
from junebug.api.handlers.logs import Logs
from junebug.api.handlers.messages import Messages
from junebug.api.handlers.metrics import MetricsPage, api_reporter
from junebug.api.handlers.openapi import Description
from junebug.api.handlers.queue import QueueControl
from junebug.api.handlers.routed_messages import RoutedMessages
from junebug.api.handlers.routers import Routers
from junebug.api.handlers.stream import EventStream
from junebug.api.handlers.timeline import Timeline
from junebug.api.handlers.tokens import Tokens
from junebug.api.handlers.types import Types
from junebug.api.http import PATIENCE, error_reply, raw
from junebug.api.idempotency import Idempotency
from junebug.api.life.letters import LetterReader
from junebug.api.life.reader import LifeReader
from junebug.api.life.search import MessageSearch
from junebug.api.log_views import LogViews
from junebug.api.middleware import Protocol, middleware, pathwise
from junebug.api.other_hosts import OtherHosts
from junebug.api.request_meter import RequestMeter
from junebug.api.routes import Handlers, add_routes
from junebug.api.shelves import Shelves
from junebug.api.spec_cache import SpecCache
from junebug.api.submit import Submission
from junebug.config.declaration import Settings
from junebug.errors import BrokerUnavailable, Overloaded, StoreUnavailable
from junebug.logs.message_index import MessageIndex
from junebug.logs.setup import setup_process_logging
from junebug.registry import Registry
from junebug.router_types import RouterTypes
from junebug.runtime.heartbeat import keep_beating
from junebug.runtime.listener import Listener
from junebug.runtime.loop import run_async
from junebug.runtime.metrics import Metrics
from junebug.runtime.service import EXIT_FAILED, ServiceLife, bounded
from junebug.stores import Stores

log = structlog.stdlib.get_logger("api")

_ASKS_FOR_LIFE = re.compile(rb"(?:GET|HEAD) (?:/jb)?/health/live/?[ ?]")
"""What is answered however many connections there are: a restart would cut all of them off."""
WAIT_FOR_SERVERS, WAIT_FOR_EMBEDDED_SERVERS = 5.0, 90.0
ASK_AGAIN = 0.1
CLOSE_TIMEOUT = 2.0


# --- the application --------------------------------------------------------------------------------------------------


def make_app(
    settings: Settings, stores: Stores, broker: Broker, registry: Registry, types: RouterTypes, *, on_loopback: bool,
    process: str = "api", lost_lines: Callable[[], int] = int,
) -> web.Application:  # fmt: skip
    """The API; whoever gives it `stores` and `broker` starts and closes them. `on_loopback`: only this machine reaches it.
    `process`: what it is called in the metrics; `lost_lines`: log lines of it that were lost so far.
    """
    counted = Metrics()
    specs, asking = SpecCache(stores.channels), RpcClient(broker)
    queues = ChannelQueues(settings, stores, broker, specs, asking, counted)
    shelves = Shelves(settings, stores, types, specs, queues)
    composer, idempotency = Composer(settings, registry), Idempotency(settings, stores.idempotency)
    submission, dry_runs = Submission(stores, queues, idempotency), DryRuns(stores, registry, specs, queues)
    states = ChannelStates(specs, stores.statuses)
    guard = Guard(settings, stores.tokens, on_loopback=on_loopback)
    others = OtherHosts.of(settings.host, settings.data_dir, stores.leases, asking)
    views = LogViews(settings, stores, registry, types)
    lives = LifeReader(settings, stores, registry, types, queues, LetterReader(broker, queues), others)
    queue = QueueControl(broker, stores, specs, queues, asking, counted)
    search = MessageSearch(settings, stores, MessageIndex(settings.logging_path), queue, others)
    handlers = Handlers(
        messages=Messages(stores, composer, specs, submission, dry_runs),
        bulk=Bulk(stores, composer, specs, queues, idempotency),
        queue=queue,
        channels=Channels(stores, registry, specs, queues, asking),
        dead_letters=DeadLetters(broker, queues, shelves.of_channel),
        routed=RoutedMessages(stores, types, composer, specs, states, submission, dry_runs),
        routers=Routers(stores, types, specs, queues, asking),
        dead_letters_of_router=DeadLetters(broker, queues, shelves.of_router),
        destinations=Destinations(stores, types, asking),
        dead_letters_of_destination=DeadLetters(broker, queues, shelves.of_destination),
        timeline=Timeline(stores, types, specs, lives, search),
        logs=Logs(settings, stores, registry, types, others),
        stream=EventStream(stores, guard, views, others, settings.channel_log_path, settings.max_connections),
        tokens=Tokens(stores),
        kinds=Types(registry, types),
        description=Description(registry, types, asks_for_token(settings, on_loopback=on_loopback)),
        metrics=MetricsPage(stores.metrics, broker, api_reporter(counted, stores, process, lost_lines)),
        health=Health(settings, stores, broker),
    )
    around = middleware(settings, guard, AuditLog(settings), RequestMeter(counted))
    app = web.Application(middlewares=[around], client_max_size=settings.max_body_size)
    app.cleanup_ctx.extend((specs.listening, queues.asking, handlers.metrics.reporting))
    app.on_shutdown.append(handlers.stream.close)
    add_routes(app, handlers, has_console=not settings.no_console)
    return app


# --- the process ------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def serving(
    app: web.Application, sockets: Sequence[socket.socket], shutdown_timeout: float, most: int
) -> AsyncIterator[None]:
    """Answer requests on the sockets, of `most` connections at a time. At the end the requests under way get
    `shutdown_timeout` seconds.
    """
    runner = web.AppRunner(app, shutdown_timeout=shutdown_timeout, access_log=None)
    await runner.setup()
    server = runner.server
    assert server is not None
    server.request_factory = pathwise(server.request_factory)
    refused = raw(error_reply(Overloaded("There are so many connections to Junebug that this one is refused")))
    living = raw(alive())

    def refusal(request: bytes) -> bytes:
        return living if _ASKS_FOR_LIFE.match(request) else refused

    listener = Listener("api", sockets, lambda over: Protocol(server, over), most, refusal, is_asked_first=True)
    try:
        yield
    finally:
        listener.close()
        await runner.cleanup()


def run(settings: Settings, sockets: Sequence[socket.socket], process: str = "api") -> int:
    """Answer requests on the sockets until SIGTERM or SIGINT; blocking. Returns the exit code: 0 = asked to stop.

    `process` names it in logs; the first one (`api`, or `api:1` of several) says where it listens.
    """
    logs = setup_process_logging(process, settings.logfile, settings.server_passwords, settings.sentry_dsn)
    try:
        return run_async(_run(settings, sockets, process, lambda: logs.lost_lines))
    except Exception:
        log.exception("the API failed")
        return EXIT_FAILED
    finally:
        logs.close()


async def _run(
    settings: Settings, sockets: Sequence[socket.socket], process: str, lost_lines: Callable[[], int]
) -> int:
    registry = Registry.from_settings(settings.channels, settings.replace_channels)
    types = RouterTypes.from_settings(settings.routers, settings.replace_routers)
    stores = Stores(settings, settings.request_timeout * PATIENCE)
    broker = Broker(settings.amqp, process)
    life = ServiceLife()
    served = AsyncExitStack()
    shutdown_timeout = min(settings.request_timeout, settings.stop_timeout * 0.6)

    async def start() -> None:
        broker.start()
        await _servers_answer(settings, stores, broker)
        on_loopback = is_loopback(sockets)
        app = make_app(
            settings, stores, broker, registry, types, on_loopback=on_loopback, process=process, lost_lines=lost_lines
        )
        await served.enter_async_context(serving(app, sockets, shutdown_timeout, settings.max_connections))
        if process in ("api", "api:1") and not life.is_stopping:
            print(f"Junebug is listening on {_url(settings, sockets)}", flush=True)

    async def stop() -> None:
        await bounded("requests", served.aclose(), shutdown_timeout + CLOSE_TIMEOUT)
        await bounded("broker", broker.close(), CLOSE_TIMEOUT)
        await bounded("stores", stores.close(), CLOSE_TIMEOUT)

    life.tasks.own("heartbeat", keep_beating())
    life.tasks.own("amqp", broker.tasks.failure())
    return await life.run(start, stop)


async def _servers_answer(settings: Settings, stores: Stores, broker: Broker) -> None:
    """Return when Redis and RabbitMQ are there, or when they have been waited for long enough."""
    seconds = WAIT_FOR_EMBEDDED_SERVERS if settings.embedded else WAIT_FOR_SERVERS
    try:
        async with asyncio.timeout(seconds):
            while True:
                try:
                    await stores.ping()
                    break
                except StoreUnavailable:
                    await asyncio.sleep(ASK_AGAIN)
            await broker.wait_connected(seconds)
    except (TimeoutError, BrokerUnavailable):
        log.warning("listening without Redis or RabbitMQ: requests that need them are answered 503 meanwhile")


def _url(settings: Settings, sockets: Sequence[socket.socket]) -> str:
    host = settings.interface or "localhost"
    with suppress(ValueError):
        host = f"[{host}]" if ipaddress.ip_address(host).version == 6 else host
    return f"http://{host}:{sockets[0].getsockname()[1]}"
