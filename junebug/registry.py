"""ChannelType and Registry: which kinds of channel there are, what each one's config may be, what in it is secret.

Neighbours: the API validates and redacts with it, the worker loads a type's transport through it. A type's light part
(name, schema, secrets) is imported here; its transport only in the process that runs it.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jsonschema_rs

from junebug.config.declaration import Settings
from junebug.config_schema import MASK, ConfigSchema, installed, load_object, texts_of
from junebug.errors import ConfigError, InvalidBody, InvalidChannelConfig, InvalidChannelType, Rejected
from junebug.logs.redaction import REDACTED
from junebug.model.messages import UserMessage
from junebug.model.plan import Plan, plain
from junebug.model.spec import PLACEMENT, PUBLIC_HTTP, SHARDS, ChannelSpec

ENTRY_POINT_GROUP = "junebug.channel_types"
LONGEST_FIELD, LONGEST_PROBLEM, MOST_PROBLEMS = 100, 300, 20


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
    plan: str = ""
    """A function of (config, UserMessage), named likewise, that tells how a message would leave: a model.plan.Plan, for who asks
    before he sends. Empty: as it is, in one. It raises nothing for a message that `check_message` takes."""
    preload: bool = True
    """Whether the supervisor imports the transport before it forks: its channels then share that memory, and every other
    process bears its page tables. False: for one with heavy imports, which the processes of its own channels alone make."""
    host_bound: bool = False
    """Whether others reach its channels by their host's address: they leave a host only when it is drained, or ends."""
    shardable: bool = False
    """Whether several processes, which know nothing of each other, may run one of its channels: `config.shards`."""


class Registry:
    """The channel types of this Junebug, by name."""

    def __init__(self, types: Iterable[ChannelType]) -> None:
        self._types = {channel_type.name: _with_common_options(channel_type) for channel_type in types}
        self._configs = {
            name: ConfigSchema(channel_type.config_schema, channel_type.secrets, InvalidChannelConfig, channel_type.check)
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
        if config.get("shards") is not None and not self.get(name).shardable:
            others = ", ".join(each for each in self.names() if self._types[each].shardable)
            problem = f"a channel of type {name} has one process; what can be divided: {others}"
            raise InvalidChannelConfig([("config.shards", problem)])
        self.get(name)
        self._configs[name].validate(config)

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

    def plan(self, name: str, config: dict[str, Any], message: UserMessage) -> Plan:
        """How a channel of this type would send it."""
        plan = self._types[name].plan if name in self._types else ""
        if not plan:
            return plain(message.content)
        found: Plan = load_object(plan, f"plan of channel type {name}")(config, message)
        return found

    def show_log(self, name: str, config: dict[str, Any], entries: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        """Entries of a channel's log as people want to see them."""
        show = self._types[name].show_log if name in self._types else ""
        if not show:
            return list(entries)
        function = load_object(show, f"show_log of channel type {name}")
        return [function(config, entry) for entry in entries]

    def without_unknown(self, name: str, config: dict[str, Any]) -> dict[str, Any]:
        """The config without options that the type does not know (an older Junebug stored anything), or that are null."""
        self.get(name)
        return self._configs[name].without_unknown(config)

    def redact(self, name: str, config: dict[str, Any]) -> dict[str, Any]:
        """The config with its secrets masked. All of an unknown type's values are taken for secrets."""
        return self._configs[name].redact(config) if name in self._types else dict.fromkeys(config, REDACTED)

    def restore_redacted(self, name: str, new: dict[str, Any], old: dict[str, Any]) -> dict[str, Any]:
        """`new` with each masked secret taken from `old`: what was read from the API can be sent back."""
        return self._configs[name].restore_redacted(new, old) if name in self._types else new

    def secret_values(self, spec: ChannelSpec, settings: Settings) -> list[str]:
        """The secrets themselves, for a channel's log, which must mask them wherever they turn up."""
        others = (settings.callback_secret, spec.callback_secret, spec.mo_url_auth_token, *settings.server_passwords)
        own = self._configs[spec.type].secret_values(spec.config) if spec.type in self._types else []
        return texts_of([*own, *others])

    def load_transport(self, name: str) -> type:
        """Import the type's Transport class: only in the process that runs it."""
        transport: type = load_object(self.get(name).transport, "transport")
        return transport


@functools.cache  # the supervisor makes it before it forks: its schemas are compiled once, in memory that all share
def _registry(channels: tuple[tuple[str, str], ...], replace_channels: bool) -> Registry:
    types = {} if replace_channels else installed(ENTRY_POINT_GROUP)
    for name, path in channels:
        types[name] = _type_of_class(name, path)
    return Registry(types.values())


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


def _with_common_options(channel_type: ChannelType) -> ChannelType:
    """Every channel may say where it is to run, some by how many processes; what listens on a `web_port` says in `public_http`
    how the nginx plugin is to expose it (spec 1.9.4).
    """
    properties = channel_type.config_schema.get("properties", {})
    common: dict[str, Any] = {"placement": PLACEMENT} | ({"public_http": PUBLIC_HTTP} if "web_port" in properties else {})
    if channel_type.shardable:
        common["shards"] = SHARDS
    schema = {**channel_type.config_schema, "properties": {**properties, **(common | properties)}}
    return replace(channel_type, config_schema=schema)
