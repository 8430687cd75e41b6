"""RouterSpec and DestinationSpec: what a router is wanted to be, and each application behind it (COMPAT §7), pure.

Neighbours: stores/routers.py keeps them, router_types.py checks their `config`, the reconciler runs a process for each router.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

from msgspec.structs import replace

from junebug.model.messages import UserMessage
from junebug.model.spec import ChannelSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterSpec:
    """One router."""

    id: str
    type: str
    config: dict[str, Any]
    label: str | None = None
    metadata: dict[str, Any] | None = None
    given: frozenset[str] = field(default=frozenset(), compare=False)
    """Names of the properties that the user gave: only these are shown and stored."""
    stored: str = field(default="", compare=False, repr=False)
    """The properties as they were read from Redis, to see whether somebody else changed them since."""
    generation: int = 0
    """Raised when the router must be started afresh."""
    status_url = mo_url = mo_url_auth_token = amqp_queue = callback_secret = router = None
    """Nobody is told of it but its destinations."""

    @classmethod
    def from_properties(cls, router_id: str, properties: dict[str, Any], generation: int = 0, stored: str = "") -> Self:
        """From the properties as stored; one that is unknown is left out."""
        known = _known(properties, ROUTER_PROPERTIES)
        return cls(id=router_id, generation=generation, given=frozenset(known), stored=stored, **known)

    def to_properties(self) -> dict[str, Any]:
        """The properties that the user gave, ready for JSON."""
        return _given(self, ROUTER_PROPERTIES)


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationSpec:
    """One application of a router. `character_limit` is in characters; None or 0 means the channel's own."""

    id: str
    config: dict[str, Any]
    label: str | None = None
    metadata: dict[str, Any] | None = None
    mo_url: str | None = None
    mo_url_auth_token: str | None = None
    amqp_queue: str | None = None
    character_limit: int | None = None
    callback_secret: str | None = None
    """Signs callbacks (Standard Webhooks); None: the setting of that name does."""
    given: frozenset[str] = field(default=frozenset(), compare=False)
    stored: str = field(default="", compare=False, repr=False)

    @classmethod
    def from_properties(cls, destination_id: str, properties: dict[str, Any], stored: str = "") -> Self:
        """From the properties as stored; one that is unknown is left out."""
        known = _known(properties, DESTINATION_PROPERTIES)
        return cls(id=destination_id, given=frozenset(known), stored=stored, **known)

    def to_properties(self) -> dict[str, Any]:
        """The properties that the user gave, ready for JSON."""
        return _given(self, DESTINATION_PROPERTIES)


_NO_PROPERTIES = ("id", "given", "stored", "generation")
ROUTER_PROPERTIES = tuple(entry.name for entry in fields(RouterSpec) if entry.name not in _NO_PROPERTIES)
DESTINATION_PROPERTIES = tuple(entry.name for entry in fields(DestinationSpec) if entry.name not in _NO_PROPERTIES)


def _known(properties: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    known = {name: properties[name] for name in names if name in properties}
    if "type" in names:
        known.setdefault("type", "")
    if not isinstance(known.get("config"), dict):
        known["config"] = {}
    return known


def _given(spec: RouterSpec | DestinationSpec, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(spec, name) for name in names if name in spec.given or getattr(spec, name) is not None}


# --- sending through one of several channels --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ChannelState:
    """Whether a channel could send now, and why (not), for people: `ok`, `paused`, `smpp: connection_lost` ..."""

    is_ready: bool
    reason: str


def state_of(spec: ChannelSpec | None, components: Mapping[str, Mapping[str, Any]]) -> ChannelState:
    """Of a channel (None: there is none), by the last status of each of its components."""
    if spec is None:
        return ChannelState(False, "there is no such channel")
    if spec.paused:
        return ChannelState(False, "paused")
    if not components:
        return ChannelState(False, "it has not started yet")
    for name, body in components.items():
        if body.get("status") == "down":
            return ChannelState(False, f"{name}: {body.get('type')}")
    return ChannelState(True, "ok")


@dataclass(frozen=True, slots=True)
class Choice:
    """Which channel takes a message, and how each one that there is fared."""

    channel: str
    reason: str
    candidates: tuple[dict[str, Any], ...] = ()
    """In the router's order: `channel`, `prefix` (what of its prefixes the number begins with; null: none does), `weight`,
    `cost`, `ready`, `reason`, and `share`: of such messages, the part (0 to 1) that it gets at this moment.
    """


def routed(message: UserMessage, router: str, destination: str) -> UserMessage:
    """The message as it goes through a router: its events find to the destination by what it bears, even if Redis was emptied."""
    return replace(message, routing_metadata={**message.routing_metadata, "router": router, "destination": destination})
