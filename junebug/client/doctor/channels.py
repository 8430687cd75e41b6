"""Channels and routers that are down, or that can never run, with the reason."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from junebug import names
from junebug.client.doctor.finding import Finding, failed, ok, warning
from junebug.client.output import plural
from junebug.config.declaration import Settings
from junebug.errors import JunebugError, Unavailable
from junebug.model.routing import RouterSpec
from junebug.model.spec import ChannelSpec
from junebug.registry import Registry
from junebug.router_types import RouterTypes
from junebug.stores import Stores
from junebug.supervisor.client import SupervisorClient
from junebug.supervisor.reconcile import Running

SUPERVISOR_TIMEOUT = 3.0
MOST_SHOWN = 50
_BAD_STATES = ("STOPPED", "BACKOFF", "EXITED", "FATAL", "UNKNOWN")
_ADVICE = {
    "worker": "look at what its log ({log}) and {output} say last",
    "callbacks": "bring the application back; then `GET /channels/{id}/dead-letters/`, and replay them",
    "amqp": "see the lines on RabbitMQ",
    "redis": "see the lines on Redis",
    "outbound": "POST /channels/{id}/resume when it is to send again",
    "set_aside": "look at its dead letters, and report the one that killed it",
    "amqp_queue": "change the channel's amqp_queue: POST /channels/{id}",
}

Spec = ChannelSpec | RouterSpec
Components = Mapping[str, Mapping[str, Any]]


async def check(settings: Settings, stores: Stores) -> list[Finding]:
    """Raises StoreUnavailable."""
    wanted = await stores.wanted.wanted()
    specs = await stores.wanted.get_many(wanted.generations, wanted.routers)
    components = dict(zip(specs, await asyncio.gather(*map(stores.statuses.components, specs)), strict=True))
    running = await asyncio.to_thread(_running, settings)
    return [*_process(settings, running, len(specs)), *_channels(settings, specs, components, running)]


def _running(settings: Settings) -> dict[str, Running] | str:
    """What the supervisor of this data_dir says; a text: why it does not."""
    path: Path = settings.supervisor_socket
    if not path.exists():
        return "none runs there"
    try:
        return SupervisorClient(path, SUPERVISOR_TIMEOUT).running()
    except Unavailable as error:
        return str(error)


def _process(settings: Settings, running: dict[str, Running] | str, channels: int) -> Iterator[Finding]:
    where = f"data_dir {settings.data_dir!r}"
    if not isinstance(running, str):
        there = {*map(names.channel_of, running)}
        yield ok("supervisor", f"it runs in {where}, and has {plural(len(there), 'channel')}")
    elif channels:
        yield warning("supervisor", f"{where}: {running}", "start jb or junebug-supervisor, or give the doctor the same data_dir")
    else:
        yield ok("supervisor", f"{where}: {running}")


def _channels(
    settings: Settings, specs: Mapping[str, Spec], components: Mapping[str, Components], running: dict[str, Running] | str
) -> Iterator[Finding]:
    channel_types = Registry.from_settings(settings.channels, settings.replace_channels)
    router_types = RouterTypes.from_settings(settings.routers, settings.replace_routers)
    bad = 0
    for id, spec in sorted(specs.items()):
        if isinstance(spec, RouterSpec):
            found = _unrunnable_router(spec, router_types, specs)
        else:
            found = _unrunnable(spec, channel_types)
        units = [id] if isinstance(spec, RouterSpec) else names.units(id, spec.shards)
        found = found or _stopped(running, units) or _status(settings, spec, components[id])
        if found:
            bad += 1
            if bad <= MOST_SHOWN:
                kind = "router" if isinstance(spec, RouterSpec) else "channel"
                level, what, advice = found
                yield Finding(f"{kind} {id}", level, f"{spec.type}{f', {spec.label}' if spec.label else ''}: {what}", advice)
    if bad > MOST_SHOWN:
        yield failed("channels", f"and {bad - MOST_SHOWN} more that are not well", "begin with those above")
    if not bad:
        routers = sum(isinstance(spec, RouterSpec) for spec in specs.values())
        told = f"{plural(len(specs) - routers, 'channel')} and {plural(routers, 'router')}, all well"
        yield ok("channels", told if specs else "none yet")


Trouble = tuple[Any, str, str] | None


def _unrunnable(spec: ChannelSpec, types: Registry) -> Trouble:
    if not names.is_channel_id(spec.id):
        return "failed", "its id is not of letters, digits, `_`, `.` and `-`", f"remove it: redis-cli SREM channels {spec.id!r}"
    if spec.type not in types:
        advice = f"install the package that has it, or name its class in `channels`; known are {', '.join(types.names())}"
        return "failed", "there is no such channel type", advice
    try:
        types.validate_config(spec.type, types.without_unknown(spec.type, spec.config))
    except JunebugError as error:
        return "failed", f"its config cannot be used: {error}", f"POST /channels/{spec.id} with a config that has them right"
    return None


def _unrunnable_router(spec: RouterSpec, types: RouterTypes, specs: Mapping[str, Spec]) -> Trouble:
    if spec.type not in types.names():
        return "failed", "there is no such router type", f"name it in `routers`; known are {', '.join(types.names())}"
    try:
        schema = types.of_router(spec.type)
        schema.validate(schema.without_unknown(spec.config))
    except JunebugError as error:
        return "failed", f"its config cannot be used: {error}", f"PATCH /routers/{spec.id} with a config that has them right"
    if missing := [channel for channel in types.channels_of(spec) if channel not in specs]:
        return "failed", f"there is no channel {', '.join(missing)}", f"PATCH /routers/{spec.id} with channels that there are"
    return None


def _stopped(running: dict[str, Running] | str, units: Sequence[str]) -> Trouble:
    """Of further shards those that are on this host."""
    if isinstance(running, str):
        return None
    if units[0] not in running:
        return "failed", "the supervisor has no process for it", "look at its output, and at data_dir/log/supervisor.log"
    for unit in units:
        process = running.get(unit)
        if process and process.state in _BAD_STATES:
            which = "its process" if unit == units[0] else f"the process of its shard {names.shard_of(unit)}"
            how = f", {process.last_exit}" if process.last_exit else ""
            advice = "look at its log; start it with supervisorctl, or POST .../restart"
            return "failed", f"{which} is {process.state}{how}", advice
    return None


def _status(settings: Settings, spec: Spec, components: Components) -> Trouble:
    for wanted, level in (("down", "failed"), ("degraded", "warning")):
        for name, body in components.items():
            if body.get("status") == wanted:
                component, _, shard = name.partition("/")
                unit = names.unit(spec.id, int(shard)) if shard.isdecimal() else spec.id
                log = settings.channel_log_path(unit)
                advice = _ADVICE.get(component, "do what its message says; its log ({log}) has more")
                told = advice.format(id=spec.id, log=log, output=f"data_dir/log/{names.channel_program(unit)}")
                return level, f"{name} is {wanted} ({body.get('type')}): {body.get('message')}", told
    return None
