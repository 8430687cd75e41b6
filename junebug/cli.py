"""The commands `jb`, `junebug-api`, `junebug-supervisor` and `junebug-worker`: settings in, processes composed, exit code out.

The one place that knows the API, the supervisor and the worker: it hands the first and the last to the second, which
forks them. Neighbour: settings_command.py, which makes a command.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import importlib
import os
import resource
import signal
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path
from socket import socket
from typing import Any

import click

from junebug import embedded, names
from junebug.amqp import broker
from junebug.api import app as api_app
from junebug.api.access import asks_for_token, is_loopback
from junebug.api.sockets import bind, bind_door
from junebug.config.declaration import Settings
from junebug.door import process as door_process
from junebug.errors import JunebugError, StartupError
from junebug.logs.files import trouble_in
from junebug.logs.setup import logging_disabled, silence_libraries
from junebug.model.spec import Launch
from junebug.registry import Registry
from junebug.runtime import merging
from junebug.settings_command import command
from junebug.stores import client as stores
from junebug.stores import leases, tokens
from junebug.supervisor import daemon
from junebug.worker import process as worker_process
from junebug.worker import router as router_process
from junebug.worker.callbacks.drain_process import drain
from junebug.worker.callbacks.http_client import tls_context

OPEN_FILES, FEW_FILES = 65_536, 8_192
CHECK_TIMEOUT = 10.0


# --- commands ---------------------------------------------------------------------------------------------------------


@command("jb", "Junebug. A system for managing text messaging transports via a RESTful HTTP interface.")
def jb(settings: Settings) -> int:
    """The API, the supervisor and every channel in one process tree (with --embedded Redis and RabbitMQ, too)."""
    servers: Sequence[embedded.ServerProgram] = ()
    sockets = bind(settings)
    if settings.embedded:
        os.umask(0o077)  # what is in the files of this Junebug is nobody else's
        _check_access(settings, sockets)
        settings, servers = embedded.embed(settings)
    else:
        _check_servers(settings)
        _check_access(settings, sockets)
    return _supervise(_at_port(settings, sockets), sockets, servers)


@command("junebug-api", "The API of Junebug alone; junebug-supervisor runs the channels.")
def api(settings: Settings) -> int:
    sockets = bind(settings)
    _check_servers(settings)
    _check_access(settings, sockets)
    settings = _at_port(settings, sockets)
    if settings.workers > 1:
        return _supervise(settings, sockets, channels=False)
    _prepare(settings)
    return api_app.run(settings, sockets)


@command("junebug-supervisor", "The channels of Junebug alone; junebug-api serves the API.")
def supervisor(settings: Settings) -> int:
    _check_servers(settings)
    return _supervise(settings)


@command(
    "junebug-worker",
    "One channel (or shard ID~K, or router:ID) in the foreground, without a supervisor: to debug it, or on a container platform.",
    click.Argument(["channel_id"]),
)
def worker(settings: Settings, channel_id: str) -> int:
    kind, _, id = channel_id.rpartition(":")
    is_id = names.is_channel_id if kind == names.ROUTER_GROUP else names.is_unit
    if kind not in ("", names.CHANNEL_GROUP, names.ROUTER_GROUP) or not is_id(id):
        raise StartupError(f"CHANNEL_ID: {channel_id[:100]!r} cannot be a channel's id")
    _check_servers(settings)
    _prepare(settings)
    if kind == names.ROUTER_GROUP:
        return router_process.run(settings, id, Launch())
    return worker_process.run(settings, id, Launch())


# --- parts ------------------------------------------------------------------------------------------------------------


def _supervise(
    settings: Settings, sockets: Sequence[socket] = (), servers: Sequence[embedded.ServerProgram] = (), channels: bool = True
) -> int:
    _prepare(settings)
    door = bind_door(settings) if channels else []
    programs = daemon.Programs(
        run_channel=worker_process.run if channels else None,
        run_router=router_process.run if channels else None,
        run_api=(lambda settings, number: api_app.run(settings, sockets, f"api:{number}")) if sockets else None,
        run_door=(lambda settings: door_process.run(settings, door)) if door else None,
        drain=drain,
        preload=functools.partial(_preload, settings),
        keep_descriptors=tuple(each.fileno() for each in (*sockets, *door)),
        servers=servers,
        check_host=(lambda *_: None) if settings.embedded else _check_host,
    )
    return daemon.run(settings, programs)


def _prepare(settings: Settings) -> None:
    """What every command needs before it works: limits, a directory to run in."""
    _raise_descriptor_limit()
    try:
        for directory in (settings.run_dir, settings.log_dir):
            directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StartupError(f"data_dir: cannot use {settings.data_dir!r}: {error.strerror}") from None
    if (trouble := trouble_in(Path(settings.logging_path))) and not logging_disabled():
        print(f"warning: logging_path: {settings.logging_path!r}: {trouble}: what channels log is lost", file=sys.stderr)


def _raise_descriptor_limit() -> None:
    """As far as we may: the supervisor needs a pipe for each channel, and the embedded RabbitMQ inherits the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in ((OPEN_FILES, max(hard, OPEN_FILES)), (min(hard, OPEN_FILES), hard)):
        if soft == resource.RLIM_INFINITY or soft >= wanted[0]:
            return
        try:
            return resource.setrlimit(resource.RLIMIT_NOFILE, wanted)
        except (OSError, ValueError):
            continue  # it is not permitted: what there is must do


def _preload(settings: Settings) -> None:
    """Import, before the forks, what a channel's process would import after them: each then shares that memory."""
    registry = Registry.from_settings(settings.channels, settings.replace_channels)
    for name in registry.names():
        try:
            if registry.get(name).preload:
                registry.load_transport(name)
        except JunebugError:
            pass  # its channels' processes say so, in their own logs and statuses
    tls_context()
    for module in ("encodings.idna", "uvloop", "hiredis", "shlex"):
        try:
            importlib.import_module(module)
        except ImportError:
            continue
    if settings.merge_memory and (trouble := merging.allow()):
        print(f"warning: merge_memory: {trouble}", file=sys.stderr)


def _check_servers(settings: Settings) -> None:
    """Redis and RabbitMQ answer, or StartupError."""
    _in_child(stores.check(settings.redis, CHECK_TIMEOUT))
    _in_child(broker.check(settings.amqp, CHECK_TIMEOUT))
    for address in settings.amqp.addresses:
        limit = embedded.descriptor_limit(address.port) if address.is_at_home and not logging_disabled() else None
        if limit is not None and limit < FEW_FILES:
            print(
                f"warning: RabbitMQ may open {limit} files only, and lets connections hang beyond (about"
                f" {limit * 4 // 5} channels): raise its limit, e.g. with LimitNOFILE=65536 in"
                " `systemctl edit rabbitmq-server`",
                file=sys.stderr,
            )


def _check_host(settings: Settings, host: str, place: str) -> None:
    _in_child(leases.check(settings.redis, CHECK_TIMEOUT, host, place))


def _check_access(settings: Settings, sockets: Sequence[socket]) -> None:
    """Whoever can reach the API from elsewhere must say who he is, or StartupError."""
    if settings.admin_token or not asks_for_token(settings, on_loopback=is_loopback(sockets)):
        return
    why = "require_auth: it is set" if settings.require_auth else f"interface: {settings.interface} can be reached from elsewhere"
    make = "make one with `junebug tokens create --scope admin NAME` and these settings of Redis, or "
    problem = (
        f"{why}, and there is no API token: {'' if settings.embedded else make}set admin_token (JUNEBUG_ADMIN_TOKEN) to a secret"
        " text; where a proxy in front authenticates, start with --no-auth"
    )
    if settings.embedded:
        raise StartupError(problem)
    _in_child(tokens.check(settings.redis, CHECK_TIMEOUT, problem))


def _at_port(settings: Settings, sockets: Sequence[socket]) -> Settings:
    """Port 0 is one that is known now: no callback goes to it."""
    return dataclasses.replace(settings, port=sockets[0].getsockname()[1])


def _in_child(work: Coroutine[Any, Any, None]) -> None:
    """Run it in a process of its own: the supervisor must never have had a loop, threads or connections."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        message = b""
        try:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            silence_libraries()
            asyncio.run(work)
        except StartupError as error:
            message = str(error).encode()
        except BaseException as error:
            message = f"{type(error).__name__}: {error}".encode()
        finally:
            os.write(write_end, message)
            os._exit(0)
    work.close()
    os.close(write_end)
    with open(read_end, "rb") as pipe:
        message = pipe.read()
    os.waitpid(pid, 0)
    if message:
        raise StartupError(message.decode())


if __name__ == "__main__":
    jb()
