"""ConfigSchema: what the `config` of a channel, a router or a destination may be, and what in it is secret. Pure.

Neighbours: registry.py and router_types.py have one for each type.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import entry_points
from typing import Any

import jsonschema_rs
import orjson
import structlog

from junebug.errors import ConfigError, InvalidConfig
from junebug.logs.redaction import REDACTED

log = structlog.stdlib.get_logger(__name__)

MASK = "the value"
"""Stands for the value in what is said of a wrong body: it may be a secret, or a megabyte."""


class ConfigSchema:
    """One type's. `refusal`: how a config is refused, with pairs of (field, what is wrong with it)."""

    def __init__(
        self, schema: dict[str, Any], secrets: Iterable[str], refusal: Callable[[list[tuple[str, str]]], InvalidConfig],
        check: str = "",
    ) -> None:  # fmt: skip
        """`secrets`: names of fields never to be shown; a dot leads into an object. `check`: a function of a config that fits
        the schema, `package.module:name`.
        """
        self._schema = schema
        self._secrets = [secret.split(".") for secret in secrets]
        self._refusal = refusal
        self._check = check
        self._validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True, mask=MASK)

    def validate(self, config: dict[str, Any]) -> None:
        """Raises the refusal; it names each field that is wrong, not its value."""
        given = _without_nulls(config)
        try:
            orjson.dumps(given)  # as it will be stored
            problems = [
                (".".join(["config", *map(str, error.instance_path)]), error.message)
                for error in self._validator.iter_errors(given)
            ]
        except (ValueError, TypeError) as error:  # nested too deep, half a surrogate pair
            problems = [("config", str(error))]
        masked = [path for path in self._secrets if _lookup(given, path) == REDACTED]
        nothing = "it is masked, and none is stored that the mask could stand for"
        problems += [(".".join(["config", *path]), nothing) for path in masked]
        if problems:
            raise self._refusal(problems)
        if self._check:
            load_object(self._check, "check of a type")(given)

    def without_unknown(self, config: dict[str, Any]) -> dict[str, Any]:
        """The config without options that the schema does not know (an older Junebug stored anything), or that are null."""
        given = _without_nulls(config)
        if self._schema.get("additionalProperties", True) is not False:
            return given
        return {option: value for option, value in given.items() if option in self._schema.get("properties", {})}

    def redact(self, config: dict[str, Any]) -> dict[str, Any]:
        """The config with its secrets masked."""
        redacted = config
        for path in self._secrets:
            redacted = _replace(redacted, path, lambda _: REDACTED)
        return redacted

    def restore_redacted(self, new: dict[str, Any], old: dict[str, Any]) -> dict[str, Any]:
        """`new` with each masked secret taken from `old`: what was read from the API can be sent back."""
        restored = new
        for path in self._secrets:
            stored = _lookup(old, path)
            if stored is not None:
                restored = _replace(restored, path, lambda value, s=stored: s if value == REDACTED else value)
        return restored

    def secret_values(self, config: dict[str, Any]) -> list[Any]:
        """The secrets themselves: texts, or objects of such."""
        return [_lookup(config, path) for path in self._secrets]


def texts_of(secrets: Sequence[Any]) -> list[str]:
    """All texts in what `secret_values` found."""
    texts = [text for value in secrets for text in (value.values() if isinstance(value, dict) else (value,))]
    return [text for text in texts if isinstance(text, str) and text]


@functools.cache
def load_object(path: str, setting: str) -> Any:
    """The object at `package.module:Name` or `package.module.Name`; ConfigError names the setting."""
    module_name, _, attribute = path.partition(":") if ":" in path else path.rpartition(".")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{setting}: cannot load {path!r}: {error}") from None


def installed(group: str) -> dict[str, Any]:
    """Name -> what the entry points of a group are; one that cannot be loaded is left out, and logged."""
    found = {}
    for entry in entry_points(group=group):
        try:
            found[entry.name] = load_object(entry.value, f"entry point {group}:{entry.name}")
        except ConfigError as error:
            log.error("type left out", reason=str(error))  # a broken package must not stop the others
    return found


def _without_nulls(config: dict[str, Any]) -> dict[str, Any]:
    """An option that is null counts as not given."""
    return {option: value for option, value in config.items() if value is not None}


def _lookup(config: Any, path: list[str]) -> Any:
    for part in path:
        if not isinstance(config, dict) or part not in config:
            return None
        config = config[part]
    return config


def _replace(config: Any, path: list[str], change: Any) -> Any:
    """A copy of `config` in which the value at `path`, where there is one, went through `change`."""
    if not isinstance(config, dict) or path[0] not in config:
        return config
    head, rest = path[0], path[1:]
    value = config[head]
    return {**config, head: _replace(value, rest, change) if rest else (change(value) if value is not None else None)}
