"""The API put together: its routes, and its life as a process.

Neighbours: handlers/ has a file a resource, middleware.py what stands around each handler; cli.py calls `run` with
what sockets.py has bound.
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
from junebug.api.access import Guard, access, asks_for_token, is_loopback
from junebug.api.audit import AuditLog
from junebug.api.channel_queues import ChannelQueues
from junebug.api.channel_states import ChannelStates
from junebug.api.compose import Composer
from junebug.api.dry_run import DryRuns
from junebug.api.handlers import console
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
from junebug.api.http import PATIENCE, error_reply, http_error_reply, raw
from junebug.api.idempotency import Idempotency
from junebug.api.life.letters import LetterReader
from junebug.api.life.reader import LifeReader
from junebug.api.life.search import MessageSearch
from junebug.api.log_views import LogViews
from junebug.api.middleware import Handler, Protocol, middleware, pathwise
from junebug.api.request_meter import RequestMeter
from junebug.api.shelves import Shelves
from junebug.api.spec_cache import SpecCache
from junebug.api.submit import Submission
from junebug.config.declaration import Settings
from junebug.errors import BrokerUnavailable, Overloaded, StoreUnavailable
from junebug.logs.message_index import MessageIndex
from junebug.logs.setup import setup_process_logging
from junebug.model import urls
from junebug.registry import Registry
from junebug.router_types import RouterTypes
from junebug.runtime.heartbeat import keep_beating
from junebug.runtime.listener import Listener
from junebug.runtime.loop import run_async
from junebug.runtime.metrics import Metrics
from junebug.runtime.service import EXIT_FAILED, ServiceLife, bounded
from junebug.stores import Stores

log = structlog.stdlib.get_logger("api")

PREFIXES = ("", "/jb")
"""Everything is served under each: clients of a Junebug behind a proxy post to /jb/... (COMPAT §1)."""
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
    reporter = api_reporter(counted, stores, process, lost_lines)
    specs = SpecCache(stores.channels)
    asking = RpcClient(broker)
    queues = ChannelQueues(settings, stores, broker, specs, asking, counted)
    channels = Channels(stores, registry, specs, queues, asking)
    queue = QueueControl(broker, stores, specs, queues, asking, counted)
    shelves = Shelves(settings, stores, types, specs, queues)
    composer, idempotency = Composer(settings, registry), Idempotency(settings, stores.idempotency)
    submission = Submission(stores, queues, idempotency)
    dry_runs = DryRuns(stores, registry, specs, queues)
    messages = Messages(stores, composer, specs, submission, dry_runs)
    bulk = Bulk(stores, composer, specs, queues, idempotency)
    logs = Logs(settings, stores, registry, types)
    routers = Routers(stores, types, specs, queues, asking)
    destinations = Destinations(stores, types, asking)
    states = ChannelStates(specs, stores.statuses)
    routed = RoutedMessages(stores, types, composer, specs, states, submission, dry_runs)
    health = Health(settings, stores, broker)
    tokens = Tokens(stores)
    kinds = Types(registry, types)
    metrics = MetricsPage(stores.metrics, broker, reporter)
    guard = Guard(settings, stores.tokens, on_loopback=on_loopback)
    description = Description(registry, types, asks_for_token(settings, on_loopback=on_loopback))
    lives = LifeReader(settings, stores, registry, types, queues, LetterReader(broker, queues))
    search = MessageSearch(settings, stores, MessageIndex(settings.logging_path), queue)
    timeline = Timeline(stores, types, specs, lives, search)
    views = LogViews(settings, stores, registry, types)
    stream = EventStream(stores, guard, views, settings.channel_log_path, settings.max_connections)
    around = middleware(settings, guard, AuditLog(settings), RequestMeter(counted))

    app = web.Application(middlewares=[around], client_max_size=settings.max_body_size)
    app.cleanup_ctx.append(specs.listening)
    app.cleanup_ctx.append(queues.asking)
    app.on_shutdown.append(stream.close)
    app.cleanup_ctx.append(metrics.reporting)
    for prefix in PREFIXES:
        one = f"{prefix}/channels/{{channel_id}}"
        # aiohttp looks from the top: the busiest comes first
        _route(app, f"{one}/messages/", POST=messages.send, GET=queue.list_messages, DELETE=queue.cancel_all)
        _route(app, f"{one}/messages/bulk", POST=bulk.send)
        _route(app, f"{one}/messages.json", POST=messages.send)
        _route(app, f"{one}/messages/{_but('message_id', 'bulk')}", GET=messages.status, DELETE=queue.cancel_one)
        _route(app, f"{one}/messages/{{message_id}}/timeline", GET=timeline.of_channel)
        _route(app, f"{prefix}/channels/", GET=channels.list, POST=channels.create)
        _route(app, one, GET=channels.get, POST=channels.update, DELETE=channels.delete)
        _route(app, f"{one}/restart", POST=channels.restart)
        _route(app, f"{one}/pause", POST=queue.pause)
        _route(app, f"{one}/resume", POST=queue.resume)
        _route_dead_letters(app, one, DeadLetters(broker, queues, shelves.of_channel))
        _route(app, f"{one}/logs", GET=logs.get)

        router = f"{prefix}/routers/{{router_id}}"
        one = f"{router}/destinations/{{destination_id}}"
        _route(app, f"{one}/messages/", POST=routed.send)
        _route(app, f"{one}/messages.json", POST=routed.send)
        _route(app, f"{one}/messages/{{message_id}}", GET=routed.status)
        _route(app, f"{one}/messages/{{message_id}}/timeline", GET=timeline.of_destination)
        _route(app, f"{router}/messages/", POST=routed.send_by_router)
        _route(app, f"{router}/messages.json", POST=routed.send_by_router)
        _route(app, f"{router}/messages/{{message_id}}", GET=routed.status_by_router)
        _route(app, f"{router}/messages/{{message_id}}/timeline", GET=timeline.of_router)
        _route(app, f"{prefix}/messages", GET=timeline.find)
        _route(app, f"{prefix}/routers/", GET=routers.list, POST=routers.create)
        _route(app, router, GET=routers.get, PUT=routers.replace, PATCH=routers.update, DELETE=routers.delete)
        _route(app, f"{router}/restart", POST=routers.restart)
        _route(app, f"{router}/logs", GET=logs.of_router)
        _route_dead_letters(app, router, DeadLetters(broker, queues, shelves.of_router))
        _route(app, f"{router}/destinations/", GET=destinations.list, POST=destinations.create)
        _route(
            app, one, GET=destinations.get, PUT=destinations.replace, PATCH=destinations.update, DELETE=destinations.delete
        )
        _route(app, f"{one}/logs", GET=logs.of_destination)
        _route_dead_letters(app, one, DeadLetters(broker, queues, shelves.of_destination))

        _route(app, f"{prefix}/events/stream", GET=stream.get)
        _route(app, f"{prefix}/tokens/", GET=tokens.list, POST=tokens.create)
        _route(app, f"{prefix}/tokens/{{token_id}}", DELETE=tokens.revoke)
        _route(app, f"{prefix}/openapi.json", GET=description.get)
        _route(app, f"{prefix}/docs", GET=description.page)
        _route(app, f"{prefix}/metrics", GET=metrics.get)

        _route(app, f"{prefix}/channel-types/", GET=kinds.of_channels)
        _route(app, f"{prefix}/router-types/", GET=kinds.of_routers)
        if not settings.no_console:
            _route(app, f"{prefix}/console/", GET=console.page)
            _route(app, f"{prefix}/console/{{file}}", GET=console.file)

        for slash in ("", "/"):  # probes do not follow redirects
            app.router.add_get(f"{prefix}/health{slash}", health.get)
            app.router.add_get(f"{prefix}/health/live{slash}", health.live)
    return app


def _route_dead_letters(app: web.Application, one: str, dead_letters: DeadLetters) -> None:
    _route(app, f"{one}/dead-letters/", GET=dead_letters.list_letters, DELETE=dead_letters.delete_all)
    _route(app, f"{one}/dead-letters/replay", POST=dead_letters.replay)
    _route(app, f"{one}/dead-letters/{_but('letter_id', 'replay')}", DELETE=dead_letters.delete_one)


def _but(name: str, word: str) -> str:
    """A part of a path that is anything but this word, which is a path of its own, with methods of its own."""
    return f"{{{name}:(?!{word}(?:/|$))[^/]+}}"


def _route(app: web.Application, path: str, **handlers: Handler) -> None:
    """Serve `path`, and its other form with or without the slash at the end.

    There a GET is redirected; other methods are served, because HTTP clients turn a redirected POST into a GET.
    """
    here = app.router.add_resource(path)
    there = app.router.add_resource(path.removesuffix("/") if path.endswith("/") else f"{path}/")
    for method, handler in handlers.items():
        for served in ("GET", "HEAD") if method == "GET" else (method,):
            here.add_route(served, handler)
            there.add_route(served, redirect if method == "GET" else handler)


@access()
async def redirect(request: web.Request) -> web.Response:
    """301 to the same path with or without the slash at the end: relative, so that a proxy's scheme and host stay."""
    path = request.rel_url.raw_path
    where = path.removesuffix("/") if path.endswith("/") else f"{path}/"
    if query := request.rel_url.raw_query_string:
        where += f"?{query}"
    where = urls.carried(where)
    return http_error_reply(301, {"Location": where}, new_url=where)


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
