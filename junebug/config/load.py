"""Merge the settings: command line over environment over file over default (spec 1.3, 1.4).

A wrong one is a ConfigError whose one line names the setting where it was given. Neighbour: declaration.py says which
there are.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

import yaml

from junebug import names
from junebug.config import redis_url
from junebug.config.addresses import parse_address
from junebug.config.declaration import (
    LONGEST_SOCKET_PATH,
    OPTIONS,
    AmqpSettings,
    HttpTypesSettings,
    Option,
    RedisSettings,
    Settings,
)
from junebug.errors import ConfigError
from junebug.logs.redaction import redact_url
from junebug.model import access
from junebug.model.signing import check_secret
from junebug.model.spec import is_label
from junebug.runtime.tls import TlsOptions

MOST_DELAYS, MOST_WORDS, MOST_LABELS = 20, 1000, 32


def load(
    given: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None, config_path: str | None = None
) -> Settings:
    """The settings. `given`: option name -> text (a list of texts where it is repeatable) from the command line.

    Raises ConfigError: one line that names the setting, and where it was given when not in the file.
    """
    in_file = read_file(config_path) if config_path else {}
    _refuse_unknown(in_file, config_path)
    return load_values(given or {}, environ or {}, in_file)


def load_values(given: Mapping[str, Any], environ: Mapping[str, str], in_file: Mapping[str, Any]) -> Settings:
    """The same of what the file holds. Raises ConfigError."""
    values: dict[str, Any] = {}
    for option in OPTIONS:
        text = given.get(option.name)
        if text not in (None, [], ()):
            value = _from_text(option, text, option.flag)
        elif option.variable and environ.get(option.variable):
            value = _from_text(option, environ[option.variable], option.variable)
        elif option.name in in_file:
            value = _checked(option, in_file[option.name], option.name)
        else:
            continue
        values[option.name] = value
    settings = Settings(
        redis=_redis(values),
        amqp=AmqpSettings(**_group(values, "amqp")),
        http_types=HttpTypesSettings(**_group(values, "http_types")),
        **{name: value for name, value in values.items() if "." not in name},
    )
    _refuse_both(values, "amqp.hosts", "amqp.hostname")
    if settings.callback_secret:
        try:
            check_secret(settings.callback_secret)
        except ValueError as error:
            raise ConfigError(f"callback_secret: {error}") from None
    if settings.host is not None and not names.is_channel_id(settings.host):
        raise ConfigError(f"host: expected letters, digits, `.`, `-` and `_`, got {settings.host[:100]!r}")
    if settings.no_auth and settings.require_auth:
        raise ConfigError("no_auth, require_auth: one of them says the opposite of the other; leave one out")
    if settings.admin_token is not None and not access.is_admin_token(settings.admin_token):
        raise ConfigError(
            f"admin_token: expected a text of {access.SHORTEST_ADMIN_TOKEN} characters or more of ASCII without blanks, or"
            " `sha256:` and 64 hexadecimal digits"
        )
    if len(str(settings.supervisor_socket.absolute()).encode()) > LONGEST_SOCKET_PATH:
        raise ConfigError(f"data_dir: {settings.data_dir!r} is too long a path for the sockets in it; choose a shorter one")
    return settings


def _refuse_both(values: Mapping[str, Any], one: str, *others: str) -> None:
    """Raises ConfigError where the first is given, and any of the others."""
    if values.get(one) and (given := [each for each in others if values.get(each) is not None]):
        raise ConfigError(f"{one}, {', '.join(given)}: they say the same; leave out what is not to be so")


def _redis(values: Mapping[str, Any]) -> RedisSettings:
    """Raises ConfigError."""
    given = _group(values, "redis")
    if given.get("sentinels"):
        _refuse_both(values, "redis.sentinels", "redis.url", "redis.host", "redis.port")
        if not given.get("master_name"):
            raise ConfigError("redis.master_name: the sentinels know the master by it; give it with redis.sentinels")
    elif alone := [f"redis.{name}" for name in ("master_name", "sentinel_password") if given.get(name) is not None]:
        raise ConfigError(f"{', '.join(alone)}: it goes with redis.sentinels, of which there are none")
    if not given.get("url"):
        return RedisSettings(**given)
    try:
        said = redis_url.parse(given["url"])
    except ValueError as error:
        raise ConfigError(f"redis.url: {error}") from None
    scheme = said.pop("scheme")
    _refuse_both(values, "redis.url", *(f"redis.{name}" for name in {"host": 0, "port": 0, **said}))
    if scheme == "rediss":
        said["tls"] = given.get("tls") or TlsOptions()
    elif given.get("tls"):
        raise ConfigError("redis.url, redis.tls: with TLS the URL begins with rediss://")
    return RedisSettings(**{**given, **said, "url": redact_url(given["url"])})


def _group(values: Mapping[str, Any], group: str) -> dict[str, Any]:
    return {name.partition(".")[2]: value for name, value in values.items() if name.startswith(f"{group}.")}


def read_file(path: str) -> dict[str, Any]:
    """Option name -> value as YAML has it, whatever it is. Raises ConfigError."""
    try:
        loaded = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--config: cannot read {path}: {error.strerror or error}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        raise ConfigError(f"--config: {path} is no valid YAML{where}") from None  # the text may hold a password
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise ConfigError(f"--config: {path}: expected settings as `name: value`, got {_kind_of(loaded)}")
    groups = {option.path[0] for option in OPTIONS if len(option.path) > 1}
    found: dict[str, Any] = {}
    for name, value in loaded.items():
        if name in groups:
            if not isinstance(value, dict):
                raise ConfigError(f"{name}: expected settings as `name: value`, got {_kind_of(value)}")
            found |= {f"{name}.{inner}": inner_value for inner, inner_value in value.items()}
        else:
            found[str(name)] = value
    return found


def _refuse_unknown(in_file: Mapping[str, Any], path: str | None) -> None:
    known = {option.name: option for option in OPTIONS}
    for name in in_file:
        if name not in known:
            raise ConfigError(f"{name}: unknown setting in {path}; known are {', '.join(_siblings(name, known))}")


def _siblings(name: str, known: Mapping[str, Option]) -> list[str]:
    group, dot, _ = name.rpartition(".")
    if dot and any(other.startswith(f"{group}.") for other in known):
        return [other for other in known if other.startswith(f"{group}.")]
    return list(dict.fromkeys(other.partition(".")[0] for other in known))


_OF_TLS = get_type_hints(TlsOptions)
_WANTED = {
    "str": "a text", "int": "a whole number", "float": "a number", "bool": "true or false", "switch": "true or false",
    "delays": "numbers that do not fall", "words": "a list of texts", "networks": "a list of networks, as 10.1.0.0/16",
    "servers": "a list of servers, each host, host:port or [IPv6]:port",
    "queue type": "classic or quorum",
    "tls": f"true, false or an object of {', '.join(_OF_TLS)}",
    "mapping": "channel types as `type: python.Class`", "labels": "labels as `name: value`, without blanks",
    "plugins": "a list of objects, each with a `type`",
}  # fmt: skip
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def _from_text(option: Option, text: Any, where: str) -> Any:
    """A value given as text, on the command line or in the environment."""
    match option.kind:
        case "str":
            return None if option.optional and text == "None" else text
        case "queue type":
            return _checked(option, text, where)
        case "int" | "float":
            try:
                return _checked(option, int(text) if option.kind == "int" else float(text), where)
            except ValueError:
                raise _wrong(option, where, text) from None
        case "bool" | "switch":
            lowered = str(text).strip().lower()
            if lowered in _TRUE or lowered in _FALSE:
                return lowered in _TRUE
            raise _wrong(option, where, text)
        case "delays":
            try:
                return _checked(option, [float(part) for part in text.split(",")], where)
            except ValueError:
                raise _wrong(option, where, text) from None
        case "words" | "networks" | "servers":
            return _checked(option, [part.strip() for part in text.split(",") if part.strip()], where)
        case "tls":
            lowered = str(text).strip().lower()
            try:
                value = lowered in _TRUE if lowered in (*_TRUE, *_FALSE) else json.loads(text)
            except json.JSONDecodeError:
                raise _wrong(option, where, text) from None
            return _checked(option, value, where)
        case "mapping" | "labels":
            pairs = [part.strip() for part in (text.split(",") if isinstance(text, str) else text)]
            mapping = {name: path for name, colon, path in (pair.partition(":") for pair in pairs) if colon}
            if len(mapping) < len(pairs):
                form = "name:value" if option.kind == "labels" else "type:python.Class"
                raise ConfigError(f"{where}: expected {form}, got {', '.join(pairs)!r}")
            return _checked(option, mapping, where)
        case _:
            plugins: list[Any] = []
            for each in [text] if isinstance(text, str) else text:
                try:
                    loaded = json.loads(each)
                except json.JSONDecodeError as error:
                    raise ConfigError(f"{where}: expected a JSON object with a `type`: {error}") from None
                plugins += loaded if isinstance(loaded, list) else [loaded]
            return _checked(option, plugins, where)


def _checked(option: Option, value: Any, where: str) -> Any:
    """A value of the right type and within its bounds."""
    if value is None and (option.optional or option.repeatable):
        return None if option.optional else type(option.default)()
    if option.kind == "float" and type(value) is int:
        value = float(value)
    if option.kind == "delays" and isinstance(value, list):
        value = [float(each) if type(each) is int else each for each in value]
    if option.kind == "str" and option.optional and value == "None":
        return None  # the documented spelling of "no logging"
    fits = {
        "str": lambda: isinstance(value, str),
        "int": lambda: type(value) is int,
        "float": lambda: isinstance(value, float) and value == value and abs(value) != float("inf"),
        "delays": lambda: isinstance(value, list)
        and 0 < len(value) <= MOST_DELAYS
        and all(isinstance(each, float) and each == each for each in value)
        and value == sorted(value),
        "words": lambda: _is_words(value),
        "networks": lambda: _is_words(value) and all(map(_is_network, value)),
        "servers": lambda: _is_words(value) and all(map(_is_address, value)),
        "tls": lambda: _is_tls(value),
        "queue type": lambda: value in ("classic", "quorum"),
        "bool": lambda: isinstance(value, bool),
        "switch": lambda: isinstance(value, bool),
        "mapping": lambda: isinstance(value, dict) and all(isinstance(v, str) for kv in value.items() for v in kv),
        "labels": lambda: isinstance(value, dict)
        and len(value) <= MOST_LABELS
        and all(isinstance(each, str) and is_label(each) for pair in value.items() for each in pair),
        "plugins": lambda: isinstance(value, list)
        and all(isinstance(each, dict) and isinstance(each.get("type"), str) for each in value),
    }
    if not fits[option.kind]():
        raise _wrong(option, where, value)
    numbers = value if isinstance(value, list) and option.kind == "delays" else [value]
    if any(
        (option.minimum is not None and number < option.minimum)
        or (option.maximum is not None and number > option.maximum)
        for number in numbers
    ):
        upper = f" to {option.maximum:g}" if option.maximum is not None else " or more"
        raise ConfigError(f"{where}: expected {_WANTED[option.kind]}, {option.minimum:g}{upper}, got {value}")
    return TlsOptions.from_config(value) if option.kind == "tls" else value


def _is_words(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= MOST_WORDS and all(isinstance(each, str) and each for each in value)


def _is_address(text: str) -> bool:
    try:
        parse_address(text, 1)
    except ValueError:
        return False
    return True


def _is_tls(value: Any) -> bool:
    return isinstance(value, bool) or (
        isinstance(value, dict)
        and value.keys() <= _OF_TLS.keys()
        and all(isinstance(each, get_args(_OF_TLS[name]) or _OF_TLS[name]) for name, each in value.items())
    )


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True


def _wrong(option: Option, where: str, value: Any) -> ConfigError:
    got = "" if option.secret or option.repeatable else f", got {value!r}"
    return ConfigError(f"{where}: expected {_WANTED[option.kind]}{got}")


def _kind_of(value: Any) -> str:
    return {list: "a list", str: "a text", int: "a number", dict: "an object", type(None): "nothing"}.get(
        type(value), type(value).__name__
    )
