"""Writes what the docs say of settings, channel types and router types from their declarations, so that the two cannot differ.

    python docs/generate.py           write what is generated in docs/*.md, and etc/junebug.yaml.example
    python docs/generate.py --check   write nothing; exit code 1 when one of them is out of date

In the pages only the part between `<!-- generated: NAME -->` and `<!-- end -->` is generated. The sources are
junebug.config.load.OPTIONS, the config schemas of each type that setup.cfg names, the parser of junebug-smsc,
and the commands of `junebug`.
"""

from __future__ import annotations

import argparse
import configparser
import itertools
import json
import re
import sys
import textwrap
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import click  # noqa: E402

from junebug import registry, router_types  # noqa: E402
from junebug.client.main import main as main_command  # noqa: E402
from junebug.config.declaration import OPTIONS, Option  # noqa: E402
from junebug.config_schema import load_object  # noqa: E402
from junebug.registry import ChannelType  # noqa: E402
from junebug.runtime import families  # noqa: E402
from junebug.smpp.simulator import command  # noqa: E402

CONFIGURATION = ROOT / "docs" / "configuration.md"
CHANNEL_TYPES = ROOT / "docs" / "channel-types.md"
ROUTERS = ROOT / "docs" / "routers.md"
METRICS = ROOT / "docs" / "metrics.md"
SMPP = ROOT / "docs" / "smpp.md"
COMMAND_LINE = ROOT / "docs" / "command-line.md"
EXAMPLE = ROOT / "etc" / "junebug.yaml.example"

_PART = re.compile(r"(<!-- generated: (?P<name>\S+) -->\n)(?:(?!<!-- end -->).)*(<!-- end -->)", re.DOTALL)
_TYPE_NAMES = {"switch": "bool", "mapping": "dict", "plugins": "list", "string": "str", "integer": "int",
               "number": "float", "boolean": "bool", "object": "dict", "array": "list"}  # fmt: skip
_EXAMPLE_INTRODUCTION = """\
## Every setting of Junebug with its default. Copy this file, take the `# ` away before what you change, and start
## `jb --config THE_FILE`. Flags and environment variables override it (docs/configuration.md).
## Written by docs/generate.py: change junebug/config/declaration.py instead."""


def main(arguments: list[str]) -> int:
    """Write or check every generated file; the exit code."""
    stale = [path for path, wanted in generated().items() if not path.exists() or path.read_text() != wanted]
    for path in stale:
        if "--check" in arguments:
            print(f"{path.relative_to(ROOT)} is out of date: run `make docs`", file=sys.stderr)
        else:
            path.write_text(generated()[path])
            print(f"wrote {path.relative_to(ROOT)}")
    return 1 if stale and "--check" in arguments else 0


def generated() -> dict[Path, str]:
    """Each generated file -> what it has to hold."""
    types = {f"type:{each.name}": _type_table(each) for each in channel_types()}
    return {
        CONFIGURATION: _filled(CONFIGURATION, {"settings": _settings_table()}.__getitem__),
        CHANNEL_TYPES: _filled(CHANNEL_TYPES, types.__getitem__),
        ROUTERS: _filled(ROUTERS, _router_tables().__getitem__),
        METRICS: _filled(METRICS, {"families": _family_table()}.__getitem__),
        SMPP: _filled(SMPP, {"command:junebug-smsc": _command_table(command.argument_parser())}.__getitem__),
        COMMAND_LINE: _filled(COMMAND_LINE, {"commands": "\n\n".join(_commands(main_command, "junebug"))}.__getitem__),
        EXAMPLE: "\n".join([_EXAMPLE_INTRODUCTION, *_example_lines()]) + "\n",
    }


def channel_types() -> list[ChannelType]:
    """The types that setup.cfg declares, whether this Junebug is installed or not."""
    return _declared(registry.ENTRY_POINT_GROUP)


def _declared(group: str) -> list[Any]:
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg")
    lines = setup["options.entry_points"][group].split("\n")
    paths = [line.partition("=")[2].strip() for line in lines if line.strip()]
    return [load_object(path, "setup.cfg") for path in paths]


def _filled(page: Path, part: Callable[[str], str]) -> str:
    """The page with each generated part made anew."""
    return _PART.sub(lambda found: f"{found[1]}\n{part(found['name'])}\n\n{found[3]}", page.read_text())


# --- settings ---------------------------------------------------------------------------------------------------------


def _settings_table() -> str:
    rows = [("In the file", "Flag", "Environment", "Type", "Default", "What it is")]
    for option in OPTIONS:
        flags = ", ".join(f"`{flag}`" for flag in (option.flag, option.short) if flag)
        variable = f"`{option.variable}`" if option.variable else ""
        rows.append((f"`{option.name}`", flags, variable, _option_type(option), _code(option.default), option.help))
    return _table(rows)


def _option_type(option: Option) -> str:
    name = _TYPE_NAMES.get(option.kind, option.kind)
    return name + (" or null" if option.optional else "") + _bounds(option.minimum, option.maximum)


def _example_lines() -> Iterator[str]:
    group = ""
    for option in OPTIONS:
        *groups, name = option.path
        if not groups or groups[0] != group:
            yield ""
            yield from (f"# {each}:" for each in groups)
        group = groups[0] if groups else ""
        indent = "  " * len(groups)
        about = option.help.replace("`", "").split(" (command line")[0]
        yield from textwrap.wrap(about, 118, initial_indent=f"## {indent}", subsequent_indent=f"## {indent}")
        yield f"# {indent}{name}: {_yaml(option.default)}"


def _yaml(value: Any) -> str:
    if isinstance(value, str):
        return value if re.fullmatch(r"[a-z][a-z/]*", value) else json.dumps(value)
    return json.dumps(value)


# --- channel types ----------------------------------------------------------------------------------------------------


def _type_table(channel_type: ChannelType) -> str:
    return _schema_table(channel_type.config_schema, channel_type.secrets)


def _router_tables() -> dict[str, str]:
    """Of each router type, what a router's config may be, and a destination's."""
    found = {}
    for each in _declared(router_types.ENTRY_POINT_GROUP):
        found[f"router:{each.name}"] = _schema_table(each.config_schema, each.secrets)
        found[f"destination:{each.name}"] = _schema_table(each.destination_schema, each.destination_secrets)
    return found


def _schema_table(schema: Mapping[str, Any], secrets: Container[str]) -> str:
    options = _option_rows(schema.get("properties", {}), schema.get("required", ()), secrets)
    return _table([("Option", "Type", "Default", "What it is"), *options])


def _option_rows(
    options: Mapping[str, Any], required: Container[str], secrets: Container[str], inside: str = ""
) -> Iterator[tuple[str, ...]]:
    """A row for each option; an object's own options follow it, unless they are those that it lies among."""
    for name, schema in options.items():
        path = inside + name
        kind = _kind(schema) + (", secret" if path in secrets else "")
        default = _code(schema["default"]) if "default" in schema else "required" if name in required else ""
        yield f"`{path}`", kind, default, schema.get("description", "")
        if "items" in schema:
            path, schema = f"{path}[]", schema["items"]
        nested = schema.get("properties", {})
        if not nested.keys() <= options.keys():
            yield from _option_rows(nested, schema.get("required", ()), secrets, f"{path}.")


def _kind(schema: Mapping[str, Any]) -> str:
    """Of what type a value is. Digits in a string, where they do as well as a number, are not told at each option."""
    if "enum" in schema:
        values = {str(value): _code(value) for value in reversed(schema["enum"])}
        return ", ".join(reversed(values.values()))
    types = schema.get("type", "any")
    types = [types] if isinstance(types, str) else types
    if {"integer", "number"} & {*types}:
        types = [each for each in types if each != "string"]
    names = " or ".join(_TYPE_NAMES.get(each, each) for each in types)
    return names + _bounds(schema.get("minimum"), schema.get("maximum"))


# --- metrics ----------------------------------------------------------------------------------------------------------


def _family_table() -> str:
    rows = [("Name", "Type", "Labels", "What it is")]
    for family in families.SHOWN:
        name = f"{family.name}_total" if family.kind == "counter" else family.name
        owner = [] if not family.owned else ["`channel_id`"] if not family.by_router else ["`channel_id` or `router_id`"]
        labels = [f"`{label}`" + _values((family.values or {}).get(label, ())) for label in family.labels]
        rows.append((f"`{name}`", family.kind, ", ".join([*owner, *labels]), family.help))
    return _table(rows)


def _values(known: Sequence[str]) -> str:
    return f" ({', '.join(known)})" if known else ""


# --- commands ---------------------------------------------------------------------------------------------------------


def _command_table(parser: argparse.ArgumentParser) -> str:
    rows = [("Option", "What it is")]
    for action in parser._actions:
        if action.help and action.default != argparse.SUPPRESS:
            values = "|".join(action.choices) if action.choices else action.metavar or action.dest.upper()
            value = "" if action.nargs == 0 else f" {values}"
            rows.append((f"`{action.option_strings[-1]}{value}`", action.help % vars(action)))
    return _table(rows)


def _commands(group: click.Group, path: str) -> Iterator[str]:
    """Each command below the group: how it is called, what it does, its options but those of all."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from _commands(command, f"{path} {name}")
            continue
        own = [*itertools.takewhile(lambda each: each.name != "version", command.params)]  # Junebug's settings follow it
        arguments = [_argument(each) for each in own if isinstance(each, click.Argument)]
        about = " ".join((command.help or "").split())
        parts = [f"**`{' '.join([path, name, *arguments])}`**: {about}"]
        rows: list[tuple[str, ...]] = [
            (f"`{', '.join(each.opts)}{'' if each.is_flag else f' {_metavar(each, context)}'}`", each.help or "")
            for each in own
            if isinstance(each, click.Option) and each.name not in ("url", "token", "as_json")
        ]
        yield "\n\n".join([*parts, *([_table([("Option", "What it is"), *rows])] if rows else [])])


def _argument(argument: click.Argument) -> str:
    name = str(argument.name).upper()
    return name if argument.required else f"[{name}]"


def _metavar(option: click.Option, context: click.Context) -> str:
    if isinstance(option.type, click.Choice):
        return "|".join(map(str, option.type.choices))
    return option.metavar or option.type.name.partition(" ")[0].upper()


# --- all --------------------------------------------------------------------------------------------------------------


def _bounds(minimum: float | None, maximum: float | None) -> str:
    if minimum is None and maximum is None:
        return ""
    if maximum is None:
        return f", {minimum:.9g} or more"
    return f", {minimum:.9g} to {maximum:.9g}" if minimum is not None else f", up to {maximum:.9g}"


def _code(value: Any) -> str:
    return f"`{json.dumps(value)}`"


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    head, *body = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join([head, "|" + "---|" * len(rows[0]), *body])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
