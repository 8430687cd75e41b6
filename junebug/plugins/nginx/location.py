"""Where a channel is to be seen from outside: `web_path`, `web_port` and `public_http` of its config. Pure.

What is written into a configuration of nginx comes from here. Whoever may create channels may not configure nginx: a path
has letters, digits and what has no meaning there, or the channel is not exposed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from junebug.errors import PluginError

LONGEST_PATH = 500
_PATH = re.compile(r"/[A-Za-z0-9/._~!*+,=:@-]*")
_PORT = re.compile(r"[0-9]{1,5}")
UPSTREAM = "http://127.0.0.1"


@dataclass(frozen=True, slots=True)
class Location:
    """`external_path`: in URLs of the world; `internal_path`: the channel's own, on `port` of this host."""

    external_path: str
    internal_path: str
    port: int

    @property
    def prefix(self) -> str:
        """What the paths below it begin with, and no sibling's: `/a/` for `/a`, which does not cover `/ab`."""
        return _below(self.external_path)

    @property
    def variables(self) -> dict[str, str]:
        """Of a location template."""
        base = f"{UPSTREAM}:{self.port}"
        return {
            "external_path": self.external_path,
            "internal_url": base + self.internal_path,
            "external_prefix": self.prefix,
            "internal_prefix_url": base + _below(self.internal_path),
        }


def location_of(config: Mapping[str, Any], public_http: Any = None) -> Location | None:
    """None: this is no HTTP channel, or it is not to be exposed. `public_http`: the channel's own, beside its config.

    Raises PluginError that names the option which is wrong.
    """
    public = {**_options(public_http), **_options(config.get("public_http"))}
    enabled = public.get("enabled")
    if enabled is False:
        return None
    path_name, path = _given(config, public, "web_path")
    port_name, port = _given(config, public, "web_port")
    if path is None or port is None:
        return None
    if enabled not in (None, True):
        raise PluginError("public_http.enabled: expected true or false; the channel is not exposed")
    external = _path(path_name, path)
    own = config.get("web_path")
    return Location(external, external if own is None else _path("web_path", own), _port(port_name, port))


def _options(public_http: Any) -> dict[str, Any]:
    """Null counts as not given."""
    if not isinstance(public_http, dict | None):
        raise PluginError("public_http: expected an object with web_path, web_port or enabled; the channel is not exposed")
    return {option: value for option, value in (public_http or {}).items() if value is not None}


def _given(config: Mapping[str, Any], public: Mapping[str, Any], option: str) -> tuple[str, Any]:
    """Name and value: that of `public_http` goes first."""
    return (f"public_http.{option}", public[option]) if option in public else (option, config.get(option))


def _path(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise PluginError(f"{name}: expected a text; the channel is not exposed")
    path = f"/{value.lstrip('/')}"
    if len(path) > LONGEST_PATH or not _PATH.fullmatch(path):
        raise PluginError(
            f"{name}: a path that nginx exposes has up to {LONGEST_PATH} characters, letters, digits and / . _ ~ ! * + , = : @ -"
            " only; the channel is not exposed"
        )
    if {"", ".", ".."}.intersection(path.removesuffix("/").split("/")[1:]):
        raise PluginError(f"{name}: a path that nginx exposes has no //, /./ or /../; the channel is not exposed")
    return path


def _port(name: str, value: Any) -> int:
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    is_digits = isinstance(value, str) and _PORT.fullmatch(value)
    port = int(value) if is_whole or is_digits else 0
    if not 0 < port < 65536:
        raise PluginError(f"{name}: expected a TCP port, 1 to 65535; the channel is not exposed")
    return port


def _below(path: str) -> str:
    return f"{path.rstrip('/')}/"
