"""What a request's JSON asks for of routers and destinations, and how they are shown: pure, but for a type's own checks.

Bodies come in here already checked by routing_schemas.py. Neighbours: views.py, for channels and messages; handlers/
does the I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from junebug.api.properties import Properties, is_same
from junebug.api.views import rates_json
from junebug.config_schema import load_object
from junebug.errors import InvalidBody
from junebug.logs.redaction import REDACTED
from junebug.model.messages import worst_status
from junebug.model.routing import DESTINATION_PROPERTIES, ROUTER_PROPERTIES, DestinationSpec, RouterSpec
from junebug.router_types import RouterTypes

TOKEN, OLD_TOKEN = "mo_url_auth_token", "mo_url_token"
"""Two names of one property."""

_ROUTER = Properties(ROUTER_PROPERTIES)
_DESTINATION = Properties(
    DESTINATION_PROPERTIES, secrets=("callback_secret", TOKEN), urls=("mo_url",), integers=("character_limit",)
)

# --- routers ----------------------------------------------------------------------------------------------------------


def new_router(router: str, body: Mapping[str, Any], types: RouterTypes) -> RouterSpec:
    """The router that a POST /routers/ asks for. Raises InvalidRouterType, InvalidRouterConfig."""
    types.of_router(body["type"]).validate(body["config"])
    return RouterSpec.from_properties(router, _ROUTER.read(body, {}), generation=1)


def changed_router(old: RouterSpec, body: Mapping[str, Any], types: RouterTypes, *, replaces: bool) -> RouterSpec:
    """`old` with the properties given in `body`, or with these alone; a secret that is sent back masked stays as it is.

    Raises InvalidRouterType, InvalidRouterConfig.
    """
    changes = _ROUTER.read(body, {})
    properties = changes if replaces else {**old.to_properties(), **changes}
    if "config" in changes:
        properties["config"] = types.of_router(properties["type"]).restore_redacted(changes["config"], old.config)
    new = RouterSpec.from_properties(old.id, properties, old.generation, old.stored)
    if needs_restart(old, new):
        types.of_router(new.type).validate(new.config)
    return new


def needs_restart(old: RouterSpec, new: RouterSpec) -> bool:
    """Whether what changed takes effect only by starting the router afresh."""
    return not is_same([old.type, old.config], [new.type, new.config])


@dataclass(frozen=True, slots=True)
class RouterCounts:
    """What of a router waits where."""

    callbacks_waiting: int
    dead_letters: int


def router_json(spec: RouterSpec, types: RouterTypes, status: Mapping[str, Any]) -> dict[str, Any]:
    """The router as the API shows it: its properties, secrets masked, `id` and `status`."""
    config = types.of_router(spec.type).redact(spec.config) if spec.type in types.names() else _hidden(spec.config)
    return {"id": spec.id, **spec.to_properties(), "config": config, "status": status}


def router_status_json(
    components: Mapping[str, Mapping[str, Any]], rates: Mapping[str, float], counts: RouterCounts | None
) -> dict[str, Any]:
    """What RabbitMQ does not tell is null."""
    return {
        "status": worst_status([str(body.get("status")) for body in components.values()]),
        "components": components,
        **rates_json(rates),
        "dropped_message_rate": rates.get("dropped_message", 0.0),
        "callbacks_waiting": counts.callbacks_waiting if counts else None,
        "dead_letters": counts.dead_letters if counts else None,
    }


NEW_ROUTER_STATUS = router_status_json({}, {}, RouterCounts(0, 0))
"""Of a router that has just been created."""

# --- destinations -----------------------------------------------------------------------------------------------------


def new_destination(destination: str, body: Mapping[str, Any], router: RouterSpec, types: RouterTypes) -> DestinationSpec:
    """The destination that a POST asks for. Raises InvalidRouterType, InvalidRouterDestinationConfig, InvalidBody."""
    types.of_destination(router.type).validate(body["config"])
    return DestinationSpec.from_properties(destination, _DESTINATION.read(_one_token(body), {}))


def changed_destination(
    old: DestinationSpec, body: Mapping[str, Any], router: RouterSpec, types: RouterTypes, *, replaces: bool
) -> DestinationSpec:
    """As `changed_router`. Raises InvalidRouterType, InvalidRouterDestinationConfig, InvalidBody."""
    before, schema = old.to_properties(), types.of_destination(router.type)
    changes = _DESTINATION.read(_one_token(body), before)
    if "config" in changes:
        changes["config"] = schema.restore_redacted(changes["config"], old.config)
    new = DestinationSpec.from_properties(old.id, changes if replaces else {**before, **changes}, old.stored)
    if not is_same(old.config, new.config):
        schema.validate(new.config)
    return new


def _one_token(body: Mapping[str, Any]) -> dict[str, Any]:
    """The body with the token under one name. Where only one of both is what was read, the other one is what is wanted. Raises
    InvalidBody when they contradict each other.
    """
    given = {name: value for name, value in body.items() if name != OLD_TOKEN}
    if OLD_TOKEN in body:
        tokens = (body.get(TOKEN, body[OLD_TOKEN]), body[OLD_TOKEN])
        wanted = [token for token in tokens if token != REDACTED] or [REDACTED]
        if any(token != wanted[0] for token in wanted):
            raise InvalidBody([(f"{OLD_TOKEN}: it is another name of {TOKEN}, which says something else",
                                ["properties", OLD_TOKEN])])  # fmt: skip
        given[TOKEN] = wanted[0]
    return given


def destination_json(
    spec: DestinationSpec, router: RouterSpec, types: RouterTypes, rates: Mapping[str, float]
) -> dict[str, Any]:
    """The destination as the API shows it: its properties, secrets masked, `id` and `status`."""
    known = router.type in types.names()
    config = types.of_destination(router.type).redact(spec.config) if known else _hidden(spec.config)
    shown = {**_DESTINATION.shown(spec.to_properties()), "config": config}
    if TOKEN in shown:
        shown[OLD_TOKEN] = shown[TOKEN]
    return {"id": spec.id, **shown, "status": rates_json(rates)}


def exclusive_words(router: RouterSpec, destination: DestinationSpec, types: RouterTypes) -> set[str]:
    """What no other destination of the router may have; "": it is the default one. Raises InvalidRouterType."""
    words = {""} if destination.config.get("default") else set()
    exclusive = types.get(router.type).exclusive
    return words | set(load_object(exclusive, "exclusive")(destination.config)) if exclusive else words


def _hidden(config: Mapping[str, Any]) -> dict[str, Any]:
    """All of an unknown type's values are taken for secrets."""
    return dict.fromkeys(config, REDACTED)
