"""RouterType and RouterTypes: which kinds of router there are, and what each one's config may be.

Neighbours: the API validates and redacts with it, a router's process loads a type's decisions through it. A type's light part
(name, schemas) is imported here; its Router only in the process that runs it. registry.py is the same for channels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

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
    sends_by: str = ""
    """Of a type that sends through several channels: a function, named likewise, of (config, message, states): the router's
    config, the UserMessage that is to be sent, and channel id -> ChannelState. Returns a Choice. Empty: `config.channel` is the
    router's own channel, whose messages and events are for its destinations only."""

    def channels_of(self, config: dict[str, Any]) -> list[str]:
        """Ids of the channels that a router of this type with this config works with."""
        if not self.sends_by:
            return [str(config["channel"])] if config.get("channel") else []
        return [str(each["channel"]) for each in config.get("channels", ()) if isinstance(each, dict) and each.get("channel")]
