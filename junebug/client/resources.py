"""Channels, routers and destinations listed, shown, made and changed: flags, a JSON file and the type's schema -> a body of the
API.

Neighbours: channels.py and routers.py have the commands.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import click

from junebug.client.command import Junebug
from junebug.client.completion import Complete
from junebug.client.exits import Exit, Failure
from junebug.client.output import Cell, shown, status_cell
from junebug.client.values import Json, assign, put, read_object, remove
from junebug.runtime.title import hide_secrets

if TYPE_CHECKING:
    from junebug.client.api import Api

AT_ONCE = 4
"""Of a list, that are asked for at a time."""
URLS = ("mo_url", "status_url")
COUNTS = ("character_limit", "rate_limit_count", "rate_limit_window")
HELP = {
    "label": "A name for people.",
    "mo_url": "Where inbound messages are POSTed to.",
    "status_url": "Where statuses are POSTed to.",
    "amqp_queue": "Messages and events go to and come from RabbitMQ under this name.",
    "character_limit": "The longest content, in characters; 0: no limit.",
    "rate_limit_count": "Messages in a window; 0: no limit.",
    "rate_limit_window": "The window, in seconds.",
}

Columns = Mapping[str, Callable[[Json], Cell]]
"""Of a list: heading -> cell."""
LISTED: Columns = {
    "ID": lambda each: each["id"], "TYPE": lambda each: each["type"], "LABEL": lambda each: each.get("label"),
    "STATUS": lambda each: status_cell(_state(each["status"])),
    "QUEUE": lambda each: each["status"].get("queue_length"),
    "CALLBACKS": lambda each: each["status"].get("callbacks_waiting"), "DEAD": lambda each: each["status"].get("dead_letters"),
}  # fmt: skip
Schema = Callable[[Json], tuple[Mapping[str, Any], Iterable[str]]]
"""Of what is to be sent: the schema of its `config`, and which of its fields are secret."""


def property_options(*names: str, is_edit: bool = False) -> list[click.Parameter]:
    """A flag for each property of that name, and those that every kind has."""
    empty = " Empty: none." if is_edit else ""
    options: list[click.Parameter] = []
    for name in names:
        kind, more = (int, "") if name in COUNTS else (str, empty)
        options.append(click.Option([f"--{name.replace('_', '-')}"], type=kind, help=HELP[name] + more))
    options += [
        click.Option(["--config"], multiple=True, metavar="KEY=VALUE",
                     help="One of the type's options; a dot in KEY leads into an object. May be repeated."),
        click.Option(["--metadata"], multiple=True, metavar="KEY=VALUE", help="Kept with it. May be repeated."),
        click.Option(["--ask"], multiple=True, metavar="NAME",
                     help="Ask for a secret, without showing it: a property, or config.KEY. Off a terminal: a line of stdin."),
        click.Option(["--file", "-f"], metavar="FILE", help="A JSON object with properties; -: stdin. Flags override it."),
    ]  # fmt: skip
    if is_edit:
        unset = "A key of config to remove. May be repeated."
        options.append(click.Option(["--unset"], multiple=True, metavar="KEY", help=unset))
    return options


def new_body(given: Mapping[str, Any], schema_of: Schema, what: str) -> Any:
    """`body_of` of what has a type, a channel or a router (`what`). Raises UsageError without one."""
    body = body_of(given, schema_of)
    if not body.get("type"):
        raise click.UsageError(f"--type: what kind of {what}?")
    return body


def body_of(given: Mapping[str, Any], schema_of: Schema, old: Mapping[str, Any] | None = None) -> Any:
    """What is to be sent, and looked at by the API. `given`: the values of flags; `old`: what is changed, as the API shows it.
    Secrets on the command line are masked in `ps`.
    """
    before = old or {}
    body: Json = read_object(given["file"]) if given["file"] else {}
    body |= {name: None if value == "" else value for name, value in given.items() if _is_property(name, value)}
    config = {**(before.get("config") or {}), **_object(body, "config")}
    for key in given.get("unset", ()):
        remove(config, key)
    if given["config"]:
        schema, secrets = schema_of({**before, **body})
        hide_secrets(pair.partition("=")[2] for pair in given["config"] if pair.partition("=")[0] in {*secrets})
        config = assign(config, given["config"], schema)
    for name in given["ask"]:
        holder, key = (config, name.removeprefix("config.")) if name.startswith("config.") else (body, name)
        put(holder, key, _asked(name))
    if old is None or config != before.get("config"):
        body["config"] = config
    if given["metadata"]:
        metadata = {**(before.get("metadata") or {}), **_object(body, "metadata")}
        body["metadata"] = assign(metadata, given["metadata"], {}, "--metadata")
    return body


def _asked(name: str) -> str:
    """A secret, which is not shown."""
    if sys.stdin.isatty():
        return str(click.prompt(name, hide_input=True, err=True))
    text = sys.stdin.readline().rstrip("\n")
    if not text:
        raise click.UsageError(f"--ask {name}: there is no line of stdin for it")
    return text


def _is_property(name: str, value: Any) -> bool:
    return value is not None and name not in ("config", "metadata", "ask", "file", "unset")


def _object(body: Json, name: str) -> Json:
    value = body.get(name) or {}
    if not isinstance(value, dict):
        raise click.UsageError(f"--file: {name}: expected a JSON object")
    return value


def channel_schema(api: Api) -> Schema:
    return lambda body: _schema(api, "channel_types", body.get("type"), "config_schema", "secrets", "ChannelConfig")


def router_schema(api: Api) -> Schema:
    return lambda body: _schema(api, "router_types", body.get("type"), "config_schema", "secrets", "RouterConfig")


def destination_schema(api: Api, router: Mapping[str, Any]) -> Schema:
    kind = router.get("type")
    return lambda body: _schema(api, "router_types", kind, "destination_schema", "destination_secrets", "DestinationConfig")


def _schema(
    api: Api, group: str, kind: Any, schema: str, secrets: str, described: str
) -> tuple[Mapping[str, Any], Iterable[str]]:
    """As it is installed here; of a type that is installed there only, as that Junebug describes it."""
    from junebug.config_schema import installed

    known = installed(f"junebug.{group}").get(str(kind))
    if known is not None:
        return getattr(known, schema), getattr(known, secrets)
    return api.get_openapi().get("components", {}).get("schemas", {}).get(f"{described}.{kind}", {}), ()


def type_option(complete: Complete, help: str) -> click.Option:
    return click.Option(["--type"], metavar="TYPE", shell_complete=complete, help=help)


def ids_option() -> click.Option:
    return click.Option(["--ids"], is_flag=True, help="Their ids alone: one request.")


def id_option() -> click.Option:
    return click.Option(["--id", "only_id"], is_flag=True, help="Print the id of what was made, and nothing else.")


def show_all(junebug: Junebug, ids: Sequence[str], get: Callable[[str], Any], columns: Columns, only_ids: bool = False) -> None:
    """Those of them that are there still, in their order."""
    if only_ids:
        return junebug.out.table(["ID"], [[id] for id in ids], ids)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = [each for each in pool.map(lambda id: _found(get, id), ids) if each is not None]
    junebug.out.table([*columns], [[cell(each) for cell in columns.values()] for each in found], found)


def _found(get: Callable[[str], Any], id: str) -> Any:
    """None: it is gone."""
    try:
        return get(id)
    except Failure as failure:
        if failure.exit_code is Exit.NOT_FOUND:
            return None
        raise


def _state(status: Json) -> str | None:
    return "paused" if (status.get("queue") or {}).get("paused") else status.get("status")


def show_made(junebug: Junebug, resource: Mapping[str, Any], only_id: bool) -> None:
    if not junebug.out.made(resource["id"], only_id):
        show(junebug, resource)


def show(junebug: Junebug, resource: Mapping[str, Any]) -> None:
    """One of them: its properties, its config, its status."""
    status = resource.get("status") or {}
    fields: dict[str, Cell] = {}
    for name, value in resource.items():
        if name == "config":
            fields |= {f"config.{key}": shown(each) for key, each in (value or {}).items()}
        elif name != "status":
            fields[name] = shown(value)
    for name, value in status.items():
        if name == "status":
            fields[name] = status_cell(value)
        elif name == "components":
            for component, told in value.items():
                fields[component] = status_cell(told.get("status")) + f" {told.get('type')}: {told.get('message')}"
        else:
            fields[name] = shown(value)
    junebug.out.fields(fields, resource)


def confirmed(question: str, yes: bool) -> None:
    """Return when it may be done. Raises Failure otherwise."""
    if yes:
        return
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort:
        raise Failure("nothing was deleted: nobody said yes; --yes does without asking", Exit.USAGE) from None
    if not agreed:
        raise Failure("nothing was deleted")


def yes_option() -> click.Option:
    return click.Option(["--yes", "-y"], is_flag=True, help="Do not ask.")
