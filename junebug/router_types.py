"""RouterType and RouterTypes: which kinds of router there are, and what each one's config may be.

Neighbours: the API validates and redacts with it, a router's process loads a type's decisions through it. A type's light part
(name, schemas) is imported here; its Router only in the process that runs it. registry.py is the same for channels.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from junebug.config.declaration import Settings
from junebug.config_schema import ConfigSchema, installed, load_object, texts_of
from junebug.errors import ConfigError, InvalidRouterConfig, InvalidRouterDestinationConfig, InvalidRouterType
from junebug.model.messages import UserMessage
from junebug.model.routing import ChannelState, Choice, DestinationSpec, RouterSpec
from junebug.routers.base import Router

ENTRY_POINT_GROUP = "junebug.router_types"


@dataclass(frozen=True)
class RouterType:
    """A kind of router. Ship one as an entry point of the group `junebug.router_types`.

    `router`: where its Router class is, `package.module:Class`.
    `config_schema`, `destination_schema`: JSON Schemas (2020-12) of a router's `config`, and of a destination's.
    `secrets`, `destination_secrets`: names of fields never to be shown; a dot leads into an object.
    """

    name: str
    router: str
    config_schema: dict[str, Any] = field(default_factory=lambda: {"type": "object"})
    destination_schema: dict[str, Any] = field(default_factory=lambda: {"type": "object"})
    secrets: tuple[str, ...] = ()
    destination_secrets: tuple[str, ...] = ()
    check: str = ""
    """For what no schema can say: a function `package.module:name` of a config that fits the schema; raises
    InvalidRouterConfig."""
    check_destination: str = ""
    """The same of a destination's config; raises InvalidRouterDestinationConfig."""
    exclusive: str = ""
    """A function, named likewise, of a destination's config: the texts that no two destinations of a router may share, a set."""
    sends_by: str = ""
    """Of a type that sends through several channels: a function, named likewise, of (config, message, states): the router's
    config, the UserMessage that is to be sent, and channel id -> ChannelState. Returns a Choice. Empty: `config.channel` is the
    router's own channel, whose messages and events are for its destinations only."""

    def channels_of(self, config: dict[str, Any]) -> list[str]:
        """Ids of the channels that a router of this type with this config works with."""
        if not self.sends_by:
            return [str(config["channel"])] if config.get("channel") else []
        return [str(each["channel"]) for each in config.get("channels", ()) if isinstance(each, dict) and each.get("channel")]


class RouterTypes:
    """The router types of this Junebug, by name."""

    def __init__(self, types: Iterable[RouterType]) -> None:
        self._types = {each.name: each for each in types}
        self._routers = {
            name: ConfigSchema(each.config_schema, each.secrets, InvalidRouterConfig, each.check)
            for name, each in self._types.items()
        }
        self._destinations = {
            name: ConfigSchema(
                each.destination_schema, each.destination_secrets, InvalidRouterDestinationConfig, each.check_destination
            )
            for name, each in self._types.items()
        }

    @classmethod
    def from_settings(cls, routers: Mapping[str, str], replace_routers: bool = False) -> RouterTypes:
        """The installed types, and the settings' `routers` (type -> where its RouterType is) over or instead of them.

        Raises ConfigError that names the entry which cannot be loaded.
        """
        return _router_types(tuple(routers.items()), replace_routers)

    def names(self) -> list[str]:
        return sorted(self._types)

    def get(self, name: str) -> RouterType:
        """Raises InvalidRouterType, whose message lists the valid ones."""
        try:
            return self._types[name]
        except KeyError:
            known = ", ".join(self.names())
            raise InvalidRouterType(f"Invalid router type {name[:100]!r}, must be one of: {known}") from None

    def of_router(self, name: str) -> ConfigSchema:
        """What a router's config may be. Raises InvalidRouterType."""
        self.get(name)
        return self._routers[name]

    def of_destination(self, name: str) -> ConfigSchema:
        """What a config of one of its destinations may be. Raises InvalidRouterType."""
        self.get(name)
        return self._destinations[name]

    def channels_of(self, spec: RouterSpec) -> list[str]:
        """Ids of the channels that this router works with; none of a type that is not known here."""
        return self._types[spec.type].channels_of(spec.config) if spec.type in self._types else []

    def own_channel(self, spec: RouterSpec) -> str | None:
        """The channel whose messages and events are this router's alone; None where it has none."""
        known = self._types.get(spec.type)
        return None if known is None or known.sends_by else next(iter(known.channels_of(spec.config)), None)

    def choose(self, spec: RouterSpec, message: UserMessage, states: Mapping[str, ChannelState]) -> Choice:
        """By which channel a router that sends through several sends this message. Raises what its type does: NoChannel."""
        sends_by = load_object(self.get(spec.type).sends_by, f"sends_by of router type {spec.type}")
        choice: Choice = sends_by(self.of_router(spec.type).without_unknown(spec.config), message, states)
        return choice

    def secret_values(self, spec: RouterSpec, destinations: Iterable[DestinationSpec], settings: Settings) -> list[str]:
        """The secrets of a router and its destinations, for its log, which must mask them wherever they turn up."""
        found: list[Any] = [settings.callback_secret, *settings.server_passwords]
        known = spec.type in self._types
        found += self._routers[spec.type].secret_values(spec.config) if known else []
        for each in destinations:
            found += (each.callback_secret, each.mo_url_auth_token)
            found += self._destinations[spec.type].secret_values(each.config) if known else ()
        return texts_of(found)

    def load_router(self, spec: RouterSpec) -> Router:
        """The router's decisions: only in the process that runs it."""
        made: Router = load_object(self.get(spec.type).router, "router")(self.of_router(spec.type).without_unknown(spec.config))
        return made


@functools.cache  # as the registry's
def _router_types(routers: tuple[tuple[str, str], ...], replace_routers: bool) -> RouterTypes:
    types = {} if replace_routers else installed(ENTRY_POINT_GROUP)
    for name, path in routers:
        loaded = load_object(path, f"routers.{name}")
        if not isinstance(loaded, RouterType):
            raise ConfigError(f"routers.{name}: {path!r} is no RouterType")
        types[name] = replace(loaded, name=name)
    return RouterTypes(types.values())
