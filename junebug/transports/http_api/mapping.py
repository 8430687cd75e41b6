"""What an http_api config says: where a request's values stand, what a template becomes, what an answer means. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any
from xml.sax.saxutils import escape

import orjson
import re2

from junebug.errors import InvalidChannelConfig
from junebug.model import templates, urls
from junebug.model.reading import is_deeper
from junebug.transports import http_rpc
from junebug.transports.http_api import OWN_VARIABLES
from junebug.transports.http_rpc import parameters

DEEPEST = 20
PATTERNS = ("success_pattern", "reject_pattern", "retry_pattern", "id_pattern")
_VARIABLE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_INDEX = re.compile("[0-9]{1,5}")
_BODIES = ("form", "json", "xml")
_FRAMING = frozenset(
    ("connection", "content-length", "expect", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade")
)  # fmt: skip
"""Headers that say where a request ends, or what becomes of its connection: not the config's business."""


# --- what comes -------------------------------------------------------------------------------------------------------


def read(query: str, body: bytes, content_type: str) -> dict[str, Any]:
    """All that a request says: its JSON, or its form, and its query. Raises ValueError."""
    said: dict[str, Any] = dict(parameters.read(query, body, content_type))
    if content_type != parameters.FORM and body.lstrip()[:1] in (b"{", b"["):
        loaded = orjson.loads(body)
        if is_deeper(loaded, body, DEEPEST):
            raise ValueError(f"nested deeper than {DEEPEST} levels")
        items = enumerate(loaded) if isinstance(loaded, list) else loaded.items()
        said |= {str(name): value for name, value in items}
    return said


def items(said: Mapping[str, Any], path: str | None) -> list[Any] | None:
    """What a request brings: itself, or where `path` is given the list that stands there. None: there is none."""
    if path is None:
        return [said]
    found = _at(said, path)
    return found if isinstance(found, list) else None


def value_at(said: Any, path: str) -> str | None:
    """The text at a path such as `sms.0.text`; a name may hold dots itself. None: there is none."""
    value = _at(said, path)
    return value if value is None or isinstance(value, str) else orjson.dumps(value).decode()


def _at(said: Any, path: str) -> Any:
    if isinstance(said, dict) and path in said:
        return said[path]
    for part in path.split("."):
        if isinstance(said, dict):
            said = said.get(part)
        elif isinstance(said, list) and _INDEX.fullmatch(part) and int(part) < len(said):
            said = said[int(part)]
        else:
            return None
    return said


# --- what goes --------------------------------------------------------------------------------------------------------


def filled(template: str, values: Mapping[str, str | None]) -> str | None:
    """With each `{variable}` replaced; None where it is nothing but a variable without a value."""
    if alone := _VARIABLE.fullmatch(template):
        return values.get(alone[1], template)
    return _VARIABLE.sub(lambda found: (values[found[1]] or "") if found[1] in values else found[0], template)


def filled_json(template: Any, values: Mapping[str, str | None]) -> Any:
    """A JSON value in whose texts variables are replaced."""
    if isinstance(template, str):
        return filled(template, values)
    if isinstance(template, dict):
        return {name: filled_json(each, values) for name, each in template.items()}
    if isinstance(template, list):
        return [filled_json(each, values) for each in template]
    return template


def filled_xml(template: str, values: Mapping[str, str | None]) -> str:
    """A value is text there, whatever it holds."""
    quotes = {'"': "&quot;", "'": "&apos;"}
    safe = {name: escape(_NOT_XML.sub("", value), quotes) for name, value in values.items() if value is not None}
    return _VARIABLE.sub(lambda found: safe.get(found[1], "") if found[1] in values else found[0], template)


# --- what is wrong with a config --------------------------------------------------------------------------------------


def check(config: dict[str, Any]) -> None:
    """Raises InvalidChannelConfig for what the schema cannot say."""
    problems = [*_problems(config)]
    if problems:
        raise InvalidChannelConfig([(f"config.{field}", what) for field, what in problems])
    flat = {**config, "receipts.path": config.get("receipts", {}).get("path")}
    http_rpc.check({name: value for name, value in flat.items() if value is not None}, _PATHS)


_PATHS = ("web_path", "health_path", "receipts.path")


def _problems(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    inbound, outbound, receipts = (config.get(name) for name in ("inbound", "outbound", "receipts"))
    if not (inbound or outbound):
        yield "inbound", "either this or outbound is needed"
    if (inbound or receipts) and not config.get("web_path"):
        yield "web_path", "is needed for what the provider sends"
    if inbound:
        response = inbound.get("response", {})
        if "body" in response and "json" in response:
            yield "inbound.response", "body and json are two ways to say the same: give one of them"
        texts = _texts([response.get("body"), response.get("json")])
        if inbound.get("reply_in_response") and "{content}" not in texts:
            yield "inbound.response", "body or json must hold {content}, the application's reply"
        yield from _unknown("inbound.response", texts, ("content", "action"))
        if "json" in response.get("content_type", "") and "body" in response:
            yield "inbound.response", "a body of JSON is said in json, where values cannot change what stands around them"
        if inbound.get("reply_in_response") and "list" in inbound:
            yield "inbound.list", "a response holds one reply only: not together with reply_in_response"
        if "session_event" in inbound["parameters"] and not inbound.get("session_events"):
            yield "inbound.session_events", "is needed to understand the parameter session_event"
    if outbound:
        yield from _outbound_problems(outbound)
    if receipts:
        if not outbound:
            yield "outbound", "is needed where there are receipts"
        if not receipts["parameters"].keys() & {"provider_id", "message_id"}:
            yield "receipts.parameters", "provider_id or message_id is needed to know which message it tells of"
        if "message_id" not in receipts["parameters"] and outbound and not outbound.keys() & {"id_path", "id_pattern"}:
            yield "outbound.id_path", "this or id_pattern is needed, so that the provider's id is known"


def _outbound_problems(outbound: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    secrets = outbound.get("secrets")
    names = (*OWN_VARIABLES, *secrets) if isinstance(secrets, dict) else OWN_VARIABLES
    for name in secrets if isinstance(secrets, dict) else ():
        if not _VARIABLE.fullmatch(f"{{{name}}}") or name in OWN_VARIABLES:
            yield f"outbound.secrets.{name}", "expected a name of letters, digits and _ that no variable has"
    try:
        templates.check(outbound["url"], names)
        if urls.masked(outbound["url"]) != outbound["url"]:
            raise ValueError("who we are is said in username and password, or in secrets")
        urls.parse(templates.expand(outbound["url"], {}))
    except ValueError as error:
        yield "outbound.url", str(error)
    given = [name for name in _BODIES if name in outbound]
    if len(given) > 1:
        yield "outbound", f"{' and '.join(given)} are two bodies: give one of them"
    if given and outbound.get("method") == "GET":
        yield "outbound.method", f"a GET has no body, but there is {given[0]}"
    for name in ("headers", *_BODIES):
        yield from _unknown(f"outbound.{name}", _texts(outbound.get(name)), names)
    for name, value in outbound.get("headers", {}).items():
        if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}", name) or urls.CONTROL.search(value):
            yield "outbound.headers", "expected names and values as HTTP has them (RFC 9110)"
        if name.lower() in _FRAMING:
            yield "outbound.headers", f"{name} is not to be set: Junebug does"
        if name.lower() == "authorization" and outbound.get("username"):
            yield "outbound.headers", f"{name} is what username and password make: give one of them"
    if bool(outbound.get("username")) != bool(outbound.get("password")):
        yield "outbound.password", "username and password belong together"
    if ":" in outbound.get("username", ""):
        yield "outbound.username", "a user name with a colon cannot be sent (RFC 7617)"
    if ("success_path" in outbound) != ("success_values" in outbound):
        yield "outbound.success_values", "success_path and success_values belong together"
    for name in PATTERNS:
        if name in outbound:
            yield from _pattern_problems(f"outbound.{name}", outbound[name], groups=name == "id_pattern")
    if "id_path" in outbound and "id_pattern" in outbound:
        yield "outbound.id_path", "id_path and id_pattern are two ways to say the same: give one of them"


def _unknown(field: str, texts: str, names: Collection[str]) -> Iterator[tuple[str, str]]:
    for found in _VARIABLE.finditer(texts):
        if found[1] not in names:
            return (yield field, f"there is no variable {{{found[1][:50]}}}: there are {', '.join(names)}")


def _texts(template: Any) -> str:
    """All texts in a JSON value."""
    return "" if template is None else orjson.dumps(template).decode()


def _pattern_problems(field: str, pattern: str, *, groups: bool) -> Iterator[tuple[str, str]]:
    try:
        compiled = pattern_of(pattern)
    except ValueError as error:
        return (yield field, str(error))
    if groups and compiled.groups != 1:
        yield field, "expected one group: what it finds is the id"


def pattern_of(text: str) -> Any:
    """A regular expression in RE2's syntax, in linear time. Raises ValueError."""
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(text, options)
    except re2.error as error:
        raise ValueError(f"is no regular expression: {str(error)[:100]}") from None
