"""What is typed at a prompt -> what the API takes: `key=value` by a type's schema, times, JSON files. Raises UsageError."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from junebug.model.messages import format_timestamp

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
TRUTHS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
LARGEST_FILE = 16 * 1024 * 1024

Json = dict[str, Any]


def assign(config: Mapping[str, Any], pairs: Iterable[str], schema: Mapping[str, Any], flag: str = "--config") -> Json:
    """`config` with each `key=value` put in; a dot in a key leads into an object. `schema`: says what a value is."""
    changed = dict(config)
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not key or not equals:
            raise click.UsageError(f"{flag}: expected KEY=VALUE, got {pair[:100]!r}")
        put(changed, key, value_of(text, _schema_at(schema, key), f"{flag} {key}"))
    return changed


def put(config: Json, key: str, value: Any) -> None:
    """At this key; what is on the way there is copied, not changed."""
    head, _, rest = key.partition(".")
    if not rest:
        config[head] = value
        return
    config[head] = dict(config[head]) if isinstance(config.get(head), dict) else {}
    put(config[head], rest, value)


def remove(config: Json, key: str) -> None:
    head, _, rest = key.partition(".")
    if not rest:
        config.pop(head, None)
    elif isinstance(config.get(head), dict):
        config[head] = dict(config[head])
        remove(config[head], rest)


def value_of(text: str, schema: Mapping[str, Any], what: str) -> Any:
    """A schema that says no type takes a text that is JSON for that, any other as it is."""
    given = schema.get("type")
    types = [given] if isinstance(given, str) else list(given or ())
    if types == ["string"]:
        return text
    if "boolean" in types and text.lower() in TRUTHS:
        return TRUTHS[text.lower()]
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = text
    if not types or _is(value, types):
        return value
    if "string" in types:
        return text
    raise click.UsageError(f"{what}: expected {' or '.join(types)}")


def _is(value: Any, types: Sequence[str]) -> bool:
    kinds: dict[str, tuple[type, ...]] = {
        "integer": (int,), "number": (int, float), "boolean": (bool,), "array": (list,), "object": (dict,), "null": (type(None),),
    }  # fmt: skip
    if isinstance(value, bool):
        return "boolean" in types
    return any(isinstance(value, kinds.get(each, ())) for each in types)


def _schema_at(schema: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """What is said of the value at this key; nothing, where nothing is."""
    for part in key.split("."):
        properties = schema.get("properties", {})
        rest = schema.get("additionalProperties")
        schema = properties.get(part) or (rest if isinstance(rest, dict) else {})
    return schema


def read_object(path: str) -> Json:
    """The JSON object of a file; `-` is stdin."""
    try:
        if path == "-":
            text = sys.stdin.read(LARGEST_FILE)
        else:
            with Path(path).open(encoding="utf-8") as file:
                text = file.read(LARGEST_FILE)
        found = json.loads(text)
    except OSError as error:
        raise click.UsageError(f"--file: {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"--file: {path}: it is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise click.UsageError(f"--file: {path}: expected a JSON object")
    return found


def read_text() -> str:
    """What is on stdin."""
    try:
        return sys.stdin.read(LARGEST_FILE)
    except UnicodeDecodeError:
        raise click.UsageError("stdin: it is not UTF-8") from None


def moment(text: str | None, now: datetime | None = None) -> str | None:
    """A time as the API has it: `2h` is two hours ago; anything else goes as it is."""
    found = re.fullmatch(r"(\d{1,6})([smhdw])", text or "")
    if not found:
        return text
    ago = timedelta(**{UNITS[found[2]]: int(found[1])})
    try:
        return format_timestamp((now or datetime.now(UTC)) - ago)
    except OverflowError:
        raise click.UsageError(f"{text}: it is too long ago") from None
