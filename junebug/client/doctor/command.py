"""The command `junebug doctor`: every check, whatever else is broken, and an exit code."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import click
import structlog

from junebug import embedded
from junebug.amqp.probe import probe
from junebug.client.doctor import channels, dangers, import_check, machine, ports, rabbitmq, redis
from junebug.client.doctor.finding import Finding, failed, ok, show, warning
from junebug.config.declaration import Settings
from junebug.config.load import read_file
from junebug.errors import ConfigError, StartupError, StoreUnavailable
from junebug.settings_command import command, read_settings
from junebug.stores import Stores
from junebug.stores.client import RedisClient
from junebug.stores.inspection import RedisFacts, ask_sentinels, inspect

REDIS_TIMEOUT, AMQP_TIMEOUT, LONGEST = 5.0, 8.0, 20.0
"""Seconds: of one answer of Redis', of one step with RabbitMQ, of one check."""


@dataclass(frozen=True)
class Given:
    """What the settings are made of."""

    texts: Mapping[str, Any]
    environ: Mapping[str, str]
    config: str | None

    def settings(self) -> Settings:
        """Raises ConfigError."""
        loaded: Settings = read_settings(self.texts, self.environ, self.config)
        return loaded


@command(
    "doctor",
    "What may be wrong with this Junebug and its servers, and what to do. Exit code 1: something has failed.",
    click.Option(["--json", "as_json"], is_flag=True, help="As JSON."),
    click.Option(
        ["--import-check", "is_import"], is_flag=True,
        help="Instead: what of the Redis and the config file of a Junebug 0.1 or 0.2 will work here. Nothing is written.",
    ),
    read=Given,
)  # fmt: skip
def doctor(given: Given, as_json: bool, is_import: bool) -> int:
    silence()
    return show(asyncio.run(_examine_import(given) if is_import else examine(given)), as_json)


async def _examine_import(given: Given) -> list[Finding]:
    return await import_check.examine(given.texts, given.environ, given.config, REDIS_TIMEOUT)


def silence() -> None:
    """What our own parts would log is said by a finding."""
    logging.disable(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


async def examine(given: Given) -> list[Finding]:
    """Everything, in the order in which it is to be read."""
    found = [machine.installed_versions()]
    try:
        settings = given.settings()
    except (ConfigError, StartupError) as error:
        return [*found, failed("settings", str(error), "correct it: nothing starts like this, and nothing else was looked at")]
    found.append(ok("settings", "they can be read"))
    if given.config:
        found += dangers.config_file(given.config, read_file(given.config))
    if settings.embedded:
        try:
            settings = embedded.running(settings)
        except StartupError as error:
            return [*found, failed("embedded", str(error), "start `jb --embedded` with this data_dir, and ask again")]
    async for each in _of_settings(settings):
        found.append(each)
    return found


async def _of_settings(settings: Settings) -> AsyncIterator[Finding]:
    client = RedisClient(settings.redis, REDIS_TIMEOUT)
    facts = problem = None
    try:
        facts = await inspect(client)
    except StoreUnavailable as error:
        advice = f"start Redis, or correct {client.culprit(error)} (`redis-cli -h HOST -p PORT ping` answers PONG)"
        problem = failed("redis", str(error), redis.TOO_OLD if "HELLO" in str(error) else advice)
    finally:
        await client.close()
    processes = _processes(settings, facts)
    for each in _guarded("settings", lambda: dangers.check(settings, facts.counts["tokens"] if facts else None)):
        yield each
    if settings.redis.sentinels:
        yield redis.sentinels(await ask_sentinels(settings.redis))
    if problem:
        yield problem
    for each in _guarded("redis", lambda: redis.judge(facts, settings.redis, processes) if facts else ()):
        yield each
    async for each in _rabbitmq(settings, processes):
        yield each
    blocking: dict[str, Callable[[], Iterable[Finding]]] = {
        "port": lambda: ports.check(settings),
        "clock": lambda: [machine.clock(machine.clock_state())],
        "disk": lambda: machine.disks(settings),
        "files": lambda: machine.files(settings),
        "memory": lambda: [machine.memory(settings)],
        "open files": lambda: [machine.descriptors(settings, processes)],
    }
    for check, look in blocking.items():
        for each in _guarded(check, look):
            yield each
    if facts:
        async for each in _channels(settings):
            yield each
    else:
        yield failed("channels", "nobody knows them without Redis", "see the line on Redis")


def _processes(settings: Settings, facts: RedisFacts | None) -> int:
    """That Junebug has, or will have."""
    of_channels = facts.counts["channels"] + facts.counts["routers"] if facts else 0
    return of_channels + settings.workers + 1 + bool(settings.http_types.port)


async def _rabbitmq(settings: Settings, processes: int) -> AsyncIterator[Finding]:
    """Each of the hosts. One that is away is no failure while another one answers."""
    problems, answering = [], 0
    for amqp in settings.amqp.apart():
        try:
            facts = await probe(amqp, AMQP_TIMEOUT)
        except StartupError as error:
            problems.append(str(error))
            continue
        answering += 1
        (host,) = amqp.addresses
        files = embedded.descriptor_limit(host.port) if host.is_at_home else None
        for each in _guarded("rabbitmq", lambda: rabbitmq.judge(facts, amqp, processes, files)):  # noqa: B023
            yield each
    advice = "start RabbitMQ, or correct what is named (`rabbitmqctl list_users`, `list_permissions`, `list_vhosts`)"
    for problem in problems:
        yield (warning if answering else failed)("rabbitmq", problem, advice)


async def _channels(settings: Settings) -> AsyncIterator[Finding]:
    stores = Stores(settings, REDIS_TIMEOUT)
    try:
        async with asyncio.timeout(LONGEST):
            found = await channels.check(settings, stores)
    except (StoreUnavailable, TimeoutError) as error:
        found = [failed("channels", str(error) or f"no answer within {LONGEST:g} s", "see the lines on Redis")]
    finally:
        await stores.close()
    for each in found:
        yield each


def _guarded(check: str, look: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """A check that fails itself hides none of the others."""
    try:
        yield from look()
    except Exception as error:
        yield failed(check, f"the check itself failed: {type(error).__name__}: {error}", "please report this")
