"""`junebug doctor --import-check`: before the change from Junebug 0.1 or 0.2: what of its Redis and config file will work here.

It reads, and writes nothing. Neighbour: old_junebug.py has what was otherwise; docs/upgrading.md is the way.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from yarl import URL

from junebug import embedded, names
from junebug.client.doctor import old_junebug
from junebug.client.doctor.dangers import is_loopback
from junebug.client.doctor.finding import Finding, failed, ok, warning
from junebug.client.output import plural
from junebug.config.declaration import OPTIONS, Settings
from junebug.config.load import load_values, read_file
from junebug.config_schema import load_object
from junebug.errors import ConfigError, JunebugError, PluginError, StartupError, StoreUnavailable
from junebug.model.spec import PROPERTIES, ChannelSpec
from junebug.plugins.nginx.plugin import Options
from junebug.registry import Registry
from junebug.stores.client import RedisClient
from junebug.transports.telnet.protocol import parse_endpoint
from junebug.worker.callbacks.targets import Refused, Targets

CHUNK = 200
PRIVILEGED = 1024


async def examine(given: Mapping[str, Any], environ: Mapping[str, str], config: str | None, timeout: float) -> list[Finding]:
    """The config file first, then the channels, one after the other."""
    try:
        in_file = read_file(config) if config else {}
    except ConfigError as error:
        return [failed("config file", str(error), "correct it; the channels were not looked at")]
    findings, settings = _settings(given, environ, in_file)
    if settings is None:
        return findings
    try:
        settings = embedded.running(settings) if settings.embedded else settings
    except StartupError as error:
        return [*findings, failed("embedded", str(error), "leave --embedded out: the old Junebug had no such Redis")]
    findings += _of_config(settings)
    types, channel_findings = _types(settings)
    findings += channel_findings
    prefix = f"{in_file['redis.key_prefix']}:" if in_file.get("redis.key_prefix") else ""
    redis = RedisClient(settings.redis, timeout)
    try:
        async for each in _Channels(settings, types, redis, prefix).examine():
            findings.append(each)
    except StoreUnavailable as error:
        findings.append(failed("redis", str(error), f"start it, or correct {redis.culprit(error)}"))
    finally:
        await redis.close()
    return findings


# --- the config file --------------------------------------------------------------------------------------------------


def _settings(
    given: Mapping[str, Any], environ: Mapping[str, str], in_file: Mapping[str, Any]
) -> tuple[list[Finding], Settings | None]:
    """As they are without what cannot be read."""
    known, left = {option.name for option in OPTIONS}, dict(in_file)
    findings = []
    for name in sorted(in_file.keys() - known):
        why, advice = old_junebug.SETTINGS.get(name, ("there is no such setting", "take it out, or correct its name"))
        findings.append(failed(f"setting {name}", f"{why}: with it in the file this Junebug does not start", advice))
        del left[name]
    while True:
        try:
            settings = load_values(given, environ, left)
        except ConfigError as error:
            name = str(error).partition(":")[0]
            findings.append(failed(f"setting {name}", str(error), "correct it: this Junebug does not start with it"))
            if left.pop(name.partition(",")[0], None) is None:
                return findings, None
        else:
            return findings or [ok("settings", "the config file is read as it is")], settings


def _of_config(settings: Settings) -> Iterator[Finding]:
    """Settings that this Junebug takes otherwise."""
    if not (is_loopback(settings.interface) or settings.admin_token or settings.no_auth):
        advice = "junebug tokens create --scope admin NAME, for the clients; or no_auth, where a proxy in front authenticates"
        yield warning("setting interface", f"{settings.interface} can be reached by others: requests need an API token", advice)
    for number, plugin in enumerate(settings.plugins):
        yield _plugin(f"plugin {number + 1}", plugin)


def _plugin(check: str, plugin: Mapping[str, Any]) -> Finding:
    path = str(plugin["type"])
    try:
        load_object(path, "type")
        if path == old_junebug.NGINX:
            Options.from_config(plugin)
    except PluginError as error:
        return failed(check, f"{path}: {error}", "take that option out, or correct it")
    except Exception as error:  # a module of Python 2 may raise anything
        reason = f"{path} cannot be loaded here: {str(error)[:200]}"
        advice = "install it, written for Python 3 without Twisted, or take it out: Junebug does not start with it"
        return failed(check, reason, advice)
    if path == old_junebug.NGINX:
        return ok(check, f"{path} is here, too")
    advice = "a method that returns a Deferred must become a coroutine (docs/plugins.md)"
    return warning(check, f"{path} can be loaded; its methods may be plain or coroutines", advice)


def _types(settings: Settings) -> tuple[Registry, list[Finding]]:
    """Those there will be, and what is to be said of `channels`."""
    usable, findings = {}, []
    for name, path in settings.channels.items():
        try:
            Registry.from_settings({name: path}, True)
            usable[name] = path
        except Exception as error:
            found = f"{path} cannot be loaded here: {str(error)[:200]}"
            ours = old_junebug.CLASSES.get(path.rpartition(".")[2])
            advice = f"take it out of `channels`; its channels: type {ours}" if ours else (
                "write it as a type of this Junebug (docs/channel-types.md), or use http_api where the provider speaks HTTP"
            )  # fmt: skip
            findings.append(failed(f"channel type {name}", found, f"{advice}. Junebug does not start with it"))
    return Registry.from_settings(usable, settings.replace_channels), findings


# --- the channels -----------------------------------------------------------------------------------------------------


@dataclass
class _Channels:
    settings: Settings
    types: Registry
    redis: RedisClient
    prefix: str
    ports: dict[int, str] = field(default_factory=dict)
    """Port -> who listens there."""
    queues: dict[str, str] = field(default_factory=dict)
    """amqp_queue -> whose it is."""

    async def examine(self) -> AsyncIterator[Finding]:
        self.ports[self.settings.port] = "the API"
        kind, routers = await self.redis.run(("TYPE", self._key(names.CHANNELS)), ("TYPE", self._key(names.ROUTERS)))
        ids = await self._members(names.CHANNELS) if kind == "set" else []
        where = f"Redis at {self.settings.redis.where}, database {self.settings.redis.db}"
        if kind not in ("set", "none"):
            advice = "name the Redis, and the database, of the old Junebug"
            yield failed("channels", f"{where}: the key {self._key(names.CHANNELS)!r} is a {kind}, none of Junebug's", advice)
        elif not ids:
            yield warning("channels", f"{where} holds none", "is it the old Junebug's Redis and database (redis.db)?")
        else:
            yield ok("channels", f"{where} holds {plural(len(ids), 'channel')}")
        for start in range(0, len(ids), CHUNK):
            some = ids[start : start + CHUNK]
            stored = await self.redis.run(*(("GET", self._key(names.channel_properties(id))) for id in some))
            for id, text in zip(some, stored, strict=True):
                found = [each async for each in self._channel(id, text)]
                for each in found or [ok(f"channel {id}", "it works as before")]:
                    yield each
        if routers == "set":
            for id in await self._members(names.ROUTERS):
                yield await self._router(id)

    async def _members(self, index: str) -> list[str]:
        (found,) = await self.redis.run(("SMEMBERS", self._key(index)))
        return sorted(map(str, found))

    def _key(self, name: str) -> str:
        return self.prefix + name

    async def _channel(self, id: str, stored: str | None) -> AsyncIterator[Finding]:
        check = f"channel {id}"
        if not names.is_channel_id(id):
            advice = "make it anew with POST /channels/; ids are of letters, digits, `_`, `.` and `-`"
            yield failed(check, "this id can be none here", advice)
            return
        properties = _object(stored)
        if properties is None:
            yield failed(check, "it has no properties that can be read", f"make it anew, and `redis-cli SREM channels {id}`")
            return
        spec = ChannelSpec.from_properties(id, properties)
        about = f"{spec.type}{f', {spec.label}' if isinstance(spec.label, str) else ''}: "
        for unknown in sorted(properties.keys() - {*PROPERTIES, "id", "status"}):
            yield warning(check, f"{about}the property {unknown!r} is not known, and left out", "nothing, if nobody reads it")
        for each in (*self._type(spec, check, about), *self._config(spec, check, about), *self._ports(spec, check, about)):
            yield each
        async for each in self._application(spec, check, about):
            yield each

    def _type(self, spec: ChannelSpec, check: str, about: str) -> Iterator[Finding]:
        if spec.type in self.types:
            return
        ours = old_junebug.CLASSES.get(self.settings.channels.get(spec.type, "").rpartition(".")[2])
        advice = f"POST /channels/{spec.id} with type {ours}" if ours else (
            f"known are {', '.join(self.types.names())}; http_api speaks to most HTTP providers"
        )  # fmt: skip
        yield failed(check, f"{about}there is no such type here: the channel does not run", advice)

    def _config(self, spec: ChannelSpec, check: str, about: str) -> Iterator[Finding]:
        if spec.type not in self.types:
            return
        known = self.types.without_unknown(spec.type, spec.config)
        for option in sorted(option for option in spec.config.keys() - known.keys() if spec.config[option] is not None):
            advice = old_junebug.WORKER_OPTIONS.get(option, f"see what {spec.type} has (docs/channel-types.md)")
            yield warning(check, f"{about}config.{option} is not known, and has no effect", advice)
        try:
            self.types.validate_config(spec.type, known)
        except JunebugError as error:
            yield failed(check, f"{about}its config cannot be used: {error}", f"POST /channels/{spec.id} with it corrected")
            return
        given = {*spec.config, *(name for value in spec.config.values() if isinstance(value, dict) for name in value)}
        for unless, what, advice in old_junebug.NOTES.get(spec.type, ()):
            if given.isdisjoint(unless):
                yield warning(check, f"{about}{what}", advice)

    def _ports(self, spec: ChannelSpec, check: str, about: str) -> Iterator[Finding]:
        port = _port(spec)
        if port is None:
            return
        if port in self.ports:
            advice = "give one of them another port: here they are processes of their own, and the second does not start"
            yield failed(check, f"{about}port {port} is also that of {self.ports[port]}", advice)
        elif port < PRIVILEGED:
            advice = "AmbientCapabilities=CAP_NET_BIND_SERVICE in the unit (docs/operations.md), unless it runs as root"
            yield warning(check, f"{about}it listens on port {port}", advice)
        self.ports.setdefault(port, f"channel {spec.id}")

    async def _application(self, spec: ChannelSpec, check: str, about: str) -> AsyncIterator[Finding]:
        if queue := spec.amqp_queue:
            if not names.is_amqp_queue(str(queue)):
                yield failed(check, f"{about}no queue can have the name {str(queue)[:100]!r}", "change its amqp_queue")
            elif queue in self.queues:
                advice = "give each its own: either takes what is to be sent by the other, as before"
                yield warning(check, f"{about}amqp_queue {queue!r} is also that of channel {self.queues[queue]}", advice)
            else:
                advice = (
                    f"see that the application has declared {queue}.inbound and {queue}.event (durable, no arguments) and bound"
                    " them to the exchange vumi"
                )
                yield warning(check, f"{about}what no queue takes is tried again, and told; the old one dropped it", advice)
            self.queues.setdefault(str(queue), spec.id)
        targets = Targets(self.settings)
        for name in ("mo_url", "status_url"):
            if why := await _refused(targets, getattr(spec, name)):
                advice = "another address, or callback_deny and callback_allow (docs/access.md)"
                yield failed(check, f"{about}{name} is not called: {why}", advice)

    async def _router(self, id: str) -> Finding:
        check = f"router {id}"
        ours, old = await self.redis.run(
            ("EXISTS", self._key(names.channel_properties(id))), ("EXISTS", self._key(f"{names.ROUTERS}:{id}"))
        )
        if ours:
            return ok(check, "it is one of this Junebug's")
        how = "Junebug 0.2 kept routers in another form" if old else "it has no properties"
        advice = f"make it and its destinations anew (POST /routers/, docs/routers.md), and `redis-cli SREM routers {id}`"
        return failed(check, f"{how}: it does not run", advice)


def _object(stored: str | None) -> dict[str, Any] | None:
    try:
        found = orjson.loads(stored or "")
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def _port(spec: ChannelSpec) -> int | None:
    """Where it listens."""
    if spec.type.startswith("telnet"):
        try:
            return int(parse_endpoint(spec.config)[1])
        except (JunebugError, ValueError, TypeError, KeyError):
            return None
    port = spec.config.get("web_port")
    return port if isinstance(port, int) else None


async def _refused(targets: Targets, url: Any) -> str:
    """Why it may never be called, as far as its text says; nobody is asked for addresses of names."""
    if not isinstance(url, str):
        return ""
    try:
        parsed = URL(url)
        host = "127.0.0.1" if parsed.host == "localhost" else str(parsed.host)
        address = ipaddress.ip_address(host)
        port = parsed.port or 0
    except ValueError:
        return ""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        async with asyncio.timeout(5):
            await targets.permitted(str(parsed.host), [(family, socket.SOCK_STREAM, 0, "", (host, port))], port)
    except (Refused, TimeoutError) as error:
        return str(error)
    return ""
