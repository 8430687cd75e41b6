"""Reading what others wrote: whatever it is, there is one way out, MalformedMessage, which names the field. Pure.

Neighbour: messages.py and callbacks.py say what is expected.
"""

from __future__ import annotations

import functools
import reprlib
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import orjson

from junebug.errors import MalformedMessage

DEEPEST = 100
"""Levels of lists and objects in one another. More can be read, but not written again: orjson ends at 254."""

P = ParamSpec("P")
T = TypeVar("T")

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80


def shown(value: object) -> str:
    """A foreign value in an error's text, in constant time however large and deep it is."""
    return _short.repr(value)


def reader(parse: Callable[P, T]) -> Callable[P, T]:
    """Of foreign bytes: whatever is wrong with them, there is one way out, MalformedMessage."""

    @functools.wraps(parse)
    def read(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return parse(*args, **kwargs)
        except MalformedMessage:
            raise
        except Exception as error:
            raise MalformedMessage(f"{type(error).__name__}: {str(error)[:200]}") from None

    return read


def brackets(body: bytes) -> int:
    """Those that open a list or an object: nothing is in more of them than these. A fourth of what `count` takes, which looks at
    octet after octet.
    """
    return 2 * len(body) - len(body.replace(b"[", b"")) - len(body.replace(b"{", b""))


def is_deeper(loaded: Any, body: bytes, levels: int) -> bool:
    """Whether lists and objects in what was loaded from `body` are in one another more than so deep."""
    if brackets(body) <= levels:
        return False
    level = [loaded]
    for _ in range(levels):
        lists = [item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list)]
        level = [item for each in lists for item in each]
    return any(isinstance(item, dict | list) for item in level)


def load_object(body: bytes, deepest: int = DEEPEST) -> dict[str, Any]:
    """Raises MalformedMessage for what is no JSON object."""
    try:
        loaded = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedMessage(f"not JSON: {error}") from None
    if not isinstance(loaded, dict):
        raise MalformedMessage(f"expected a JSON object, got {type(loaded).__name__}")
    if is_deeper(loaded, body, deepest):
        raise MalformedMessage(f"nested deeper than {deepest} levels")
    return loaded


def load(body: bytes, message_type: str) -> dict[str, Any]:
    """An object of this message_type, where it says one. Raises MalformedMessage."""
    loaded = load_object(body)
    found = loaded.get("message_type", message_type)
    if found != message_type:
        raise MalformedMessage(f"message_type: expected {message_type!r}, got {shown(found)}")
    return loaded


def text_of(wire: dict[str, Any], name: str, *, required: bool = False) -> str | None:
    """Raises MalformedMessage for what is no text."""
    value = wire.get(name)
    if isinstance(value, str) or (value is None and not required):
        return value
    raise MalformedMessage(f"{name}: expected a string, got {shown(value)}")


def dict_of(wire: dict[str, Any], name: str) -> dict[str, Any]:
    """Empty for null. Raises MalformedMessage for what is no object."""
    value = wire.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise MalformedMessage(f"{name}: expected an object, got {shown(value)}")
    return value


def optional(wire: dict[str, Any], texts: tuple[str, ...], dicts: tuple[str, ...]) -> dict[str, Any]:
    """Those fields, which may be missing. Raises MalformedMessage, naming one."""
    found = {name: wire.get(name) for name in texts}
    if not _TEXT_TYPES.issuperset(map(type, found.values())):
        for name in texts:
            text_of(wire, name)
    for name in dicts:
        found[name] = dict_of(wire, name)
    return found


_TEXT_TYPES = frozenset((str, type(None)))


