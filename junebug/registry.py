"""ChannelType and Registry: which kinds of channel there are, what each one's config may be, what in it is secret.

Neighbours: the API validates and redacts with it, the worker loads a type's transport through it. A type's light part
(name, schema, secrets) is imported here; its transport only in the process that runs it.
"""

from __future__ import annotations

import functools
import importlib
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from typing import Any

import jsonschema_rs
import orjson
import structlog

from junebug.config.declaration import Settings
from junebug.errors import ConfigError, InvalidBody, InvalidChannelConfig, InvalidChannelType, Rejected
from junebug.logs.redaction import REDACTED
from junebug.model.messages import UserMessage
from junebug.model.spec import PUBLIC_HTTP, ChannelSpec

log = structlog.stdlib.get_logger(__name__)

ENTRY_POINT_GROUP = "junebug.channel_types"
LONGEST_FIELD, LONGEST_PROBLEM, MOST_PROBLEMS = 100, 300, 20
MASK = "the value"
"""Stands for the value in what is said of a wrong body: it may be a secret, or a megabyte."""


@dataclass(frozen=True)
class ChannelType:
    """A kind of channel. Ship one as an entry point of the group `junebug.channel_types`.

    `transport`: where its Transport class is, `package.module:Class`.
    `config_schema`: JSON Schema (2020-12) of a channel's `config`.
    `secrets`: names of config fields never to be shown, texts or objects of such; a dot leads into an object.
    """

    name: str
    transport: str
    config_schema: dict[str, Any] = field(default_factory=lambda: {"type": "object"})
    secrets: tuple[str, ...] = ()
    check: str = ""
    """For what no schema can say: a function `package.module:name`, loaded when first needed, that takes a config which
    fits the schema and raises InvalidChannelConfig."""
    channel_data_schema: dict[str, Any] | None = None
    """JSON Schema of a message's `channel_data`; None: anything. One that it refuses reaches no transport."""
    check_message: str = ""
    """For what no schema can say: a function of (config, UserMessage), named likewise, that the API asks before it takes a
    message. It raises MessageTooLong for what can never be sent, or Rejected for its channel_data."""
    character_limit: int = 0
    """Of a channel that has none of its own: characters in a message at the most; 0: any number."""
    show_log: str = ""
    """A function of (config, entry), named likewise, by which the API shows an entry of a channel's log: what is logged for
    each message is written as briefly as may be."""
    preload: bool = True
    """Whether the supervisor imports the transport before it forks: its channels then share that memory, and every other
    process bears its page tables. False: for one with heavy imports, which the processes of its own channels alone make."""


class Registry:
    """The channel types of this Junebug, by name."""

    def __init__(self, types: Iterable[ChannelType]) -> None:
        self._types = {channel_type.name: _with_public_http(channel_type) for channel_type in types}
        self._validators = {
            name: jsonschema_rs.Draft202012Validator(channel_type.config_schema, validate_formats=True, mask=MASK)
            for name, channel_type in self._types.items()
        }
        self._message_validators = {
            name: jsonschema_rs.Draft202012Validator(channel_type.channel_data_schema, validate_formats=True, mask=MASK)
            for name, channel_type in self._types.items()
            if channel_type.channel_data_schema is not None
        }

    @classmethod
    def from_settings(cls, channels: Mapping[str, str], replace_channels: bool = False) -> Registry:
        """The installed types, and the settings' `channels` (type -> python.Class) over or instead of them.

        Raises ConfigError that names the entry which cannot be loaded.
        """
        return _registry(tuple(channels.items()), replace_channels)

    def names(self) -> list[str]:
        return sorted(self._types)

    def __contains__(self, name: str) -> bool:
        return name in self._types

    def get(self, name: str) -> ChannelType:
        """Raises InvalidChannelType, whose message lists the valid ones."""
        try:
            return self._types[name]
        except KeyError:
            raise InvalidChannelType(
                f"Invalid channel type {name!r}, must be one of: {', '.join(self.names())}"
            ) from None

    def character_limit(self, name: str) -> int:
        """Of a channel of this type that says nothing; 0: none."""
        return self._types[name].character_limit if name in self._types else 0

    def validate_config(self, name: str, config: dict[str, Any]) -> None:
        """Raises InvalidChannelType or InvalidChannelConfig; the latter names each field that is wrong, not its value."""
        check = self.get(name).check
        given = _without_nulls(config)
        try:
            orjson.dumps(given)  # as it will be stored
            problems = [
                (".".join(["config", *map(str, error.instance_path)]), error.message)
                for error in self._validators[name].iter_errors(given)
            ]
        except (ValueError, TypeError) as error:  # nested too deep, half a surrogate pair
            problems = [("config", str(error))]
        masked = [path for path in self._secrets(name) if _lookup(given, path) == REDACTED]
        nothing = "it is masked, and none is stored that the mask could stand for"
        problems += [(".".join(["config", *path]), nothing) for path in masked]
        if problems:
            raise InvalidChannelConfig(problems)
        if check:
            load_object(check, f"check of channel type {name}")(given)

    def validate_channel_data(self, name: str, channel_data: dict[str, Any]) -> None:
        """Raises InvalidBody, which names each field that is wrong, not its value."""
        validator = self._message_validators.get(name)
        if not channel_data or validator is None or validator.is_valid(channel_data):
            return
        raise InvalidBody([
            (".".join(["channel_data", *map(str, error.instance_path)])[:LONGEST_FIELD] + f": {error.message[:LONGEST_PROBLEM]}",
             ["properties", "channel_data", *error.schema_path])
            for error in itertools.islice(validator.iter_errors(channel_data), MOST_PROBLEMS)
        ])  # fmt: skip

    def check_message(self, name: str, config: dict[str, Any], message: UserMessage) -> None:
        """Whether a channel of this type could send it. Raises InvalidBody, MessageTooLong."""
        self.validate_channel_data(name, message.helper_metadata)
        check = self._types[name].check_message if name in self._types else ""
        if check:
            try:
                load_object(check, f"check_message of channel type {name}")(config, message)
            except Rejected as error:
                raise InvalidBody([(error.reason, ["properties", "channel_data"])]) from None

    def show_log(self, name: str, config: dict[str, Any], entries: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """Entries of a channel's log as people want to see them."""
        show = self._types[name].show_log if name in self._types else ""
        if not show:
            return list(entries)
        function = load_object(show, f"show_log of channel type {name}")
        return [function(config, entry) for entry in entries]

    def without_unknown(self, name: str, config: dict[str, Any]) -> dict[str, Any]:
        """The config without options that the type does not know (an older Junebug stored anything), or that are null."""
        schema, given = self.get(name).config_schema, _without_nulls(config)
        if schema.get("additionalProperties", True) is not False:
            return given
        return {option: value for option, value in given.items() if option in schema.get("properties", {})}

    def redact(self, name: str, config: dict[str, Any]) -> dict[str, Any]:
        """The config with its secrets masked. All of an unknown type's values are taken for secrets."""
        if name not in self._types:
            return dict.fromkeys(config, REDACTED)
        redacted = config
        for path in self._secrets(name):
            redacted = _replace(redacted, path, lambda _: REDACTED)
        return redacted

    def restore_redacted(self, name: str, new: dict[str, Any], old: dict[str, Any]) -> dict[str, Any]:
        """`new` with each masked secret taken from `old`: what was read from the API can be sent back."""
        restored = new
        for path in self._secrets(name):
            stored = _lookup(old, path)
            if stored is not None:
                restored = _replace(restored, path, lambda value, s=stored: s if value == REDACTED else value)
        return restored

    def secret_values(self, spec: ChannelSpec, settings: Settings) -> list[str]:
        """The secrets themselves, for a channel's log, which must mask them wherever they turn up."""
        others = (settings.callback_secret, spec.callback_secret, spec.mo_url_auth_token, *settings.server_passwords)
        found = (*(_lookup(spec.config, path) for path in self._secrets(spec.type)), *others)
        texts = [text for value in found for text in (value.values() if isinstance(value, dict) else (value,))]
        return [text for text in texts if isinstance(text, str) and text]

    def _secrets(self, name: str) -> list[list[str]]:
        return [secret.split(".") for secret in self._types[name].secrets] if name in self._types else []

    def load_transport(self, name: str) -> type:
        """Import the type's Transport class: only in the process that runs it."""
        transport: type = load_object(self.get(name).transport, "transport")
        return transport


@functools.cache
def load_object(path: str, setting: str) -> Any:
    """The object at `package.module:Name` or `package.module.Name`; ConfigError names the setting."""
    module_name, _, attribute = path.partition(":") if ":" in path else path.rpartition(".")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{setting}: cannot load {path!r}: {error}") from None


@functools.cache  # the supervisor makes it before it forks: its schemas are compiled once, in memory that all share
def _registry(channels: tuple[tuple[str, str], ...], replace_channels: bool) -> Registry:
    types = {} if replace_channels else _installed_types()
    for name, path in channels:
        types[name] = _type_of_class(name, path)
    return Registry(types.values())


def _installed_types() -> dict[str, ChannelType]:
    found = {}
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        try:
            found[entry.name] = load_object(entry.value, f"entry point {ENTRY_POINT_GROUP}:{entry.name}")
        except ConfigError as error:
            log.error("channel type left out", reason=str(error))  # a broken package must not stop the other channels
    return found


def _type_of_class(name: str, path: str) -> ChannelType:
    """A type from `channels`: a Transport class with `config_schema` and `secrets`, or a ChannelType."""
    loaded = load_object(path, f"channels.{name}")
    if isinstance(loaded, ChannelType):
        return replace(loaded, name=name)
    if not isinstance(loaded, type):
        raise ConfigError(f"channels.{name}: {path!r} is neither a Transport class nor a ChannelType")
    schema = getattr(loaded, "config_schema", {"type": "object"})
    secrets, of_data = tuple(getattr(loaded, "secrets", ())), getattr(loaded, "channel_data_schema", None)
    return ChannelType(name, path, schema, secrets, channel_data_schema=of_data)


def _with_public_http(channel_type: ChannelType) -> ChannelType:
    """Whatever listens on a `web_port` may say in `public_http` how the nginx plugin is to expose it (spec 1.9.4)."""
    properties = channel_type.config_schema.get("properties", {})
    if "web_port" not in properties or "public_http" in properties:
        return channel_type
    schema = {**channel_type.config_schema, "properties": {**properties, "public_http": PUBLIC_HTTP}}
    return replace(channel_type, config_schema=schema)


def _without_nulls(config: dict[str, Any]) -> dict[str, Any]:
    """An option that is null counts as not given."""
    return {option: value for option, value in config.items() if value is not None}


def _lookup(config: Any, path: list[str]) -> Any:
    for part in path:
        if not isinstance(config, dict) or part not in config:
            return None
        config = config[part]
    return config


def _replace(config: Any, path: list[str], change: Any) -> Any:
    """A copy of `config` in which the value at `path`, where there is one, went through `change`."""
    if not isinstance(config, dict) or path[0] not in config:
        return config
    head, rest = path[0], path[1:]
    value = config[head]
    return {**config, head: _replace(value, rest, change) if rest else (change(value) if value is not None else None)}
