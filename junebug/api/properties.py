"""Properties: what a body says of a channel, a router or a destination, and how that is shown: the secrets of both, pure.

Neighbours: views.py for channels, routing_views.py for routers and destinations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from junebug.errors import InvalidBody
from junebug.logs.redaction import REDACTED
from junebug.model import urls


@dataclass(frozen=True)
class Properties:
    """Those of one kind of thing. `urls`: whose userinfo is a secret."""

    names: tuple[str, ...]
    secrets: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()
    integers: tuple[str, ...] = ()

    def read(self, body: Mapping[str, Any], stored: Mapping[str, Any]) -> dict[str, Any]:
        """The body's; what only the server sets is left out, 10.0 becomes 10, what is masked is what is stored.

        Raises InvalidBody where nothing is stored that a mask could stand for.
        """
        properties = {name: body[name] for name in self.names if name in body}
        for name in self.secrets:
            if properties.get(name) == REDACTED:
                if not stored.get(name):
                    raise _not_stored(name, "it is masked, and none is stored that the mask could stand for")
                properties[name] = stored[name]
        for name in self.urls:
            if properties.get(name):
                try:
                    properties[name] = urls.unmasked(properties[name], stored.get(name))
                except ValueError as error:
                    raise _not_stored(name, str(error)) from None
        for name in self.integers:
            if properties.get(name) is not None:
                properties[name] = int(properties[name])
        return properties

    def shown(self, properties: Mapping[str, Any]) -> dict[str, Any]:
        """With its secrets masked."""
        given = {name: value for name, value in properties.items() if value}
        masked = {name: REDACTED for name in self.secrets if name in given}
        return {**properties, **masked, **{name: urls.masked(given[name]) for name in self.urls if name in given}}


def is_same(one: Any, other: Any) -> bool:
    """As JSON sees it: for Python, 1 and true are equal."""
    return orjson.dumps(one, option=orjson.OPT_SORT_KEYS) == orjson.dumps(other, option=orjson.OPT_SORT_KEYS)


def _not_stored(name: str, message: str) -> InvalidBody:
    return InvalidBody([(f"{name}: {message}", ["properties", name])])
