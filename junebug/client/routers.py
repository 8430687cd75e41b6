"""`junebug routers`: list, show, create, edit, restart, delete, and their destinations."""

from __future__ import annotations

from functools import partial
from typing import Any

from junebug.client.command import Junebug, api_command, group
from junebug.client.completion import router_types
from junebug.client.resources import (
    LISTED,
    Columns,
    body_of,
    confirmed,
    destination_schema,
    id_option,
    ids_option,
    new_body,
    property_options,
    router_schema,
    show,
    show_all,
    show_made,
    type_option,
    yes_option,
)
from junebug.client.targets import destination_argument, router_argument

ROUTERS: Columns = {name: cell for name, cell in LISTED.items() if name != "QUEUE"}
DESTINATIONS: Columns = {
    "ID": lambda each: each["id"], "LABEL": lambda each: each.get("label"), "MO URL": lambda each: each.get("mo_url"),
    "AMQP QUEUE": lambda each: each.get("amqp_queue"),
    "CONFIG": lambda each: ", ".join(f"{name}={value}" for name, value in each["config"].items()),
}  # fmt: skip
DESTINATION = ("label", "mo_url", "amqp_queue", "character_limit")


@api_command("list", "The routers, and how each is.", ids_option())
def list_routers(junebug: Junebug, ids: bool) -> None:
    show_all(junebug, junebug.api.list_routers(), junebug.api.get_router, ROUTERS, ids)


@api_command("show", "A router: its properties, its config and its status.", router_argument())
def show_router(junebug: Junebug, router: str) -> None:
    show(junebug, junebug.api.get_router(router))


@api_command(
    "create", "Make a router, from flags or a JSON file.",
    type_option(router_types, "As `from_address` or `outbound`: docs/routers.md."), *property_options("label"), id_option(),
)  # fmt: skip
def create(junebug: Junebug, only_id: bool, **given: Any) -> None:
    show_made(junebug, junebug.api.create_router(new_body(given, router_schema(junebug.api), "router")), only_id)


@api_command(
    "edit", "Change a router: what is given changes, the rest stays, also within its config.",
    router_argument(), *property_options("label", is_edit=True),
)  # fmt: skip
def edit(junebug: Junebug, router: str, **given: Any) -> None:
    old = junebug.api.get_router(router)
    show(junebug, junebug.api.update_router(router, body_of(given, router_schema(junebug.api), old)))


@api_command("restart", "End a router's process and start it anew.", router_argument())
def restart(junebug: Junebug, router: str) -> None:
    junebug.api.restart_router(router)
    junebug.out.done(f"restarted {router}", {})


@api_command("delete", "Delete a router and its destinations; its channel is free then.", router_argument(), yes_option())
def delete(junebug: Junebug, router: str, yes: bool) -> None:
    confirmed(f"Delete router {router} and its destinations?", yes)
    junebug.api.delete_router(router)
    junebug.out.done(f"deleted {router}", {})


# --- destinations -----------------------------------------------------------------------------------------------------


@api_command("list", "The destinations of a router.", router_argument())
def list_destinations(junebug: Junebug, router: str) -> None:
    get = partial(junebug.api.get_destination, router)
    show_all(junebug, junebug.api.list_destinations(router), get, DESTINATIONS)


@api_command("show", "A destination: its properties, its config and its rates.", router_argument(), destination_argument())
def show_destination(junebug: Junebug, router: str, destination: str) -> None:
    show(junebug, junebug.api.get_destination(router, destination))


@api_command(
    "create", "Make a destination, from flags or a JSON file.", router_argument(), *property_options(*DESTINATION), id_option()
)
def create_destination(junebug: Junebug, router: str, only_id: bool, **given: Any) -> None:
    body = body_of(given, destination_schema(junebug.api, junebug.api.get_router(router)))
    show_made(junebug, junebug.api.create_destination(router, body), only_id)


@api_command(
    "edit", "Change a destination: what is given changes, the rest stays, also within its config.",
    router_argument(), destination_argument(), *property_options(*DESTINATION, is_edit=True),
)  # fmt: skip
def edit_destination(junebug: Junebug, router: str, destination: str, **given: Any) -> None:
    old = junebug.api.get_destination(router, destination)
    body = body_of(given, destination_schema(junebug.api, junebug.api.get_router(router)), old)
    show(junebug, junebug.api.update_destination(router, destination, body))


@api_command("delete", "Delete a destination.", router_argument(), destination_argument(), yes_option())
def delete_destination(junebug: Junebug, router: str, destination: str, yes: bool) -> None:
    confirmed(f"Delete destination {destination}?", yes)
    junebug.api.delete_destination(router, destination)
    junebug.out.done(f"deleted {destination}", {})


destinations = group(
    "destinations", "Destinations: the applications behind a router.",
    list_destinations, show_destination, create_destination, edit_destination, delete_destination,
)  # fmt: skip
routers = group(
    "routers", "Routers: one number for several applications, or several channels for one.",
    list_routers, show_router, create, edit, restart, delete, destinations,
)  # fmt: skip
