"""ChannelSpec: what a channel is wanted to be, as the API takes it and Redis keeps it (COMPAT §1, §4).

Neighbours: stores.ChannelStore keeps it, registry.py checks its `config`, the reconciler and the worker act on it.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field, fields
from typing import Any, Self

from junebug import names

RESTARTING_PROPERTIES = frozenset({"type", "config", "public_http"})
"""A change of one of these starts the channel afresh; any other is applied by the running worker."""

_LABEL = r"^[0-9A-Za-z][0-9A-Za-z_./-]{0,62}$"
PUBLIC_HTTP: dict[str, Any] = {
    "type": ["object", "null"],
    "properties": {
        "enabled": {"type": ["boolean", "null"]},
        "web_path": {"type": ["string", "null"]},
        "web_port": {"type": ["integer", "null"], "minimum": 1, "maximum": 65535},
    },
    "additionalProperties": False,
}
"""JSON Schema (spec 1.9.4). Junebug 0.1.11 read it beside `config`, its documentation has it within: both are taken."""

PLACEMENT: dict[str, Any] = {
    "type": ["object", "null"],
    "properties": {
        "labels": {
            "type": ["object", "null"],
            "maxProperties": 32,
            "propertyNames": {"pattern": _LABEL},
            "additionalProperties": {"type": "string", "pattern": _LABEL},
            "description": "Labels that a host must have to run the channel.",
        },
    },
    "additionalProperties": False,
    "description": "Which hosts may run the channel, where several share the work.",
}
"""JSON Schema of `placement` in the config of every type."""

SHARDS: dict[str, Any] = {
    "type": ["integer", "null"],
    "minimum": 1,
    "maximum": names.MOST_SHARDS,
    "default": 1,
    "description": "So many processes run the channel, on any hosts: each sends to its part of the addresses.",
}
"""Likewise of `shards`, in the config of the types that can be divided."""


def is_label(text: str) -> bool:
    """Whether it can be the name or the value of a label."""
    return re.fullmatch(_LABEL, text) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelSpec:
    """One channel. `rate_limit_window` is in seconds, `character_limit` in characters; None or 0 means no limit."""

    id: str
    type: str
    config: dict[str, Any]
    label: str | None = None
    metadata: dict[str, Any] | None = None
    status_url: str | None = None
    mo_url: str | None = None
    mo_url_auth_token: str | None = None
    amqp_queue: str | None = None
    rate_limit_count: int | None = None
    rate_limit_window: int | None = None
    character_limit: int | None = None
    callback_secret: str | None = None
    """Signs callbacks (Standard Webhooks); None: the setting of that name does."""
    public_http: dict[str, Any] | None = None
    """How the nginx plugin is to expose the channel, as PUBLIC_HTTP says; what `config` has under this name goes first."""
    price: dict[str, Any] | None = None
    """Of a part of a message: `amount`, a number, and `currency`; for who asks what a message would cost."""
    paused: bool | None = None
    """Nothing is sent. Set by the API's pause and resume, not a property that users give."""
    given: frozenset[str] = field(default=frozenset(), compare=False)
    """Names of the properties that the user gave: only these are shown and stored."""
    stored: str = field(default="", compare=False, repr=False)
    """The properties as they were read from Redis, to see whether somebody else changed them since."""
    generation: int = 0
    """Raised when the channel must be started afresh (a change of RESTARTING_PROPERTIES, a restart)."""
    router: str | None = None
    """The router that its messages and events are for; None: its own mo_url and amqp_queue."""
    noted_priorities: frozenset[int] = frozenset()
    """Those that are known to have an outbound queue; where the lowest is missing, others may have one, too. Among them the
    numbers of layouts (names.layout_of) that have queues; where there are none, that is the plain one."""

    newest_layout: names.Layout | None = field(default=None, compare=False)
    """Of the queues to which messages are published: that which its processes took up last; None: it is not known."""

    @classmethod
    def from_properties(
        cls, channel_id: str, properties: dict[str, Any], generation: int = 0, stored: str = "",
        noted_priorities: frozenset[int] = frozenset(), router: str | None = None,
    ) -> Self:  # fmt: skip
        """From the properties as stored; one that is unknown (an older Junebug's) is left out."""
        known = {name: properties[name] for name in PROPERTIES if name in properties}
        known.setdefault("type", "")
        config = known.get("config")
        known["config"] = config if isinstance(config, dict) else {}
        return cls(
            id=channel_id, generation=generation, given=frozenset(known), stored=stored, noted_priorities=noted_priorities,
            router=router, newest_layout=_newest(noted_priorities), **known,
        )  # fmt: skip

    def to_properties(self) -> dict[str, Any]:
        """The properties that the user gave, ready for JSON, in their documented order."""
        return {
            name: getattr(self, name) for name in PROPERTIES if name in self.given or getattr(self, name) is not None
        }

    @property
    def priorities(self) -> Collection[int]:
        """Those that may have an outbound queue."""
        return self.noted_priorities if names.LOWEST_PRIORITY in self.noted_priorities else names.PRIORITIES

    @property
    def layouts(self) -> list[int]:
        """Numbers of the layouts that may have outbound queues, one after the other; none: it is not known."""
        noted = sorted(number for number in self.noted_priorities if number >= names.FIRST_LAYOUT)
        return noted or ([names.FIRST_LAYOUT] if names.LOWEST_PRIORITY in self.noted_priorities else [])

    @property
    def placement_labels(self) -> dict[str, str]:
        """Those that a host must have to run it."""
        placement = self.config.get("placement")
        labels = placement.get("labels") if isinstance(placement, dict) else None
        return labels if isinstance(labels, dict) else {}

    @property
    def shards(self) -> int:
        """How many processes run it."""
        shards = self.config.get("shards")
        return int(shards) if isinstance(shards, int | float) and 1 <= shards <= names.MOST_SHARDS else 1

    @property
    def has_destination(self) -> bool:
        """Whether an application hears of this channel's messages at all."""
        return bool(self.mo_url or self.amqp_queue)


def _newest(noted: frozenset[int]) -> names.Layout | None:
    newest = max(noted, default=0)
    if newest >= names.FIRST_LAYOUT:
        return names.layout_of(newest)
    return names.PLAIN if names.LOWEST_PRIORITY in noted else None


_NO_PROPERTIES = ("id", "given", "stored", "generation", "noted_priorities", "router", "newest_layout")
PROPERTIES = tuple(
    entry.name for entry in fields(ChannelSpec) if entry.name not in _NO_PROPERTIES
)


@dataclass(frozen=True, slots=True)
class Launch:
    """What a channel's or a router's process is told at its start, besides its id."""

    generation: int = 0
    restarts: int = 0
    """How often this process was started again since the supervisor or a user last started it on purpose."""
    last_exit: str | None = None
    """How the one before it ended, e.g. `killed by SIGKILL`; None for the first."""
    fence: int = 0
    """The number of its lease: a later one belongs to whoever came after it. 0: it has none."""
    is_shared: bool = False
    """There are other hosts, or the one before it ran on another: it is to wait for as long as RabbitMQ knows of a process."""
