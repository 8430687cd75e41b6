"""What is typed at a prompt becomes what the API takes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click
import pytest

from junebug.client.api import Api, _connection
from junebug.client.exits import Failure
from junebug.client.values import assign, moment, remove, value_of
from tests.tables import rows

STRING, INTEGER, NUMBER, BOOLEAN = ({"type": each} for each in ("string", "integer", "number", "boolean"))
PORT, ANY, LIST = {"type": ["integer", "string"]}, {"description": "no type"}, {"type": "array"}


@rows(
    ["text", "schema", "value"],
    [
        ("42", STRING, "42"), ("true", STRING, "true"), ("", STRING, ""), ("null", STRING, "null"), ("a=b", STRING, "a=b"),
        ("42", INTEGER, 42), ("-1", INTEGER, -1), ("42", NUMBER, 42), ("0.5", NUMBER, 0.5),
        ("true", BOOLEAN, True), ("Yes", BOOLEAN, True), ("off", BOOLEAN, False), ("0", BOOLEAN, False),
        ("2775", PORT, 2775), ("007", PORT, "007"), ("null", {"type": ["string", "null"]}, None),
        ("[1, 2]", LIST, [1, 2]), ('{"a": 1}', {"type": "object"}, {"a": 1}),
        ("42", ANY, 42), ("+27", ANY, "+27"), ("text", ANY, "text"), ('"42"', ANY, "42"), ("[", ANY, "["),
        ("[" * 100_000, ANY, "[" * 100_000),
    ],
)  # fmt: skip
def test_a_value_is_what_the_schema_says(text: str, schema: dict[str, Any], value: Any) -> None:
    found = value_of(text, schema, "--config x")
    assert (found, type(found)) == (value, type(value))


@rows(
    ["text", "schema"],
    [("x", INTEGER), ("1.5", INTEGER), ("true", INTEGER), ("", NUMBER), ("2", BOOLEAN), ("{}", LIST), ("1,2", LIST)],
)
def test_another_is_refused_by_its_name(text: str, schema: dict[str, Any]) -> None:
    with pytest.raises(click.UsageError, match="--config x: expected"):
        value_of(text, schema, "--config x")


def test_a_dot_leads_into_an_object_and_what_was_is_not_changed() -> None:
    tls = {"type": "object", "properties": {"verify": BOOLEAN}}
    schema = {"properties": {"tls": tls, "map": {"additionalProperties": STRING}}}
    old: dict[str, Any] = {"tls": {"ca_file": "x", "verify": True}, "host": "h"}
    new = assign(old, ["tls.verify=no", "map.a=1"], schema)
    assert new == {"tls": {"ca_file": "x", "verify": False}, "host": "h", "map": {"a": "1"}}
    remove(new, "tls.ca_file")
    remove(new, "nothing.there")
    assert new["tls"] == {"verify": False}
    assert old == {"tls": {"ca_file": "x", "verify": True}, "host": "h"}


@rows(
    ["text", "when"],
    [
        (None, None), ("2026-11-24 08:30", "2026-11-24 08:30"), ("yesterday", "yesterday"), ("5", "5"),
        ("90s", "2026-11-24 07:58:30.000000"), ("2h", "2026-11-24 06:00:00.000000"), ("7d", "2026-11-17 08:00:00.000000"),
    ],
)  # fmt: skip
def test_how_long_ago_is_a_time(text: str | None, when: str | None) -> None:
    assert moment(text, datetime(2026, 11, 24, 8, tzinfo=UTC)) == when


def test_before_time_began_is_told() -> None:
    with pytest.raises(click.UsageError, match="too long ago"):
        moment("999999w")


@rows(
    ["url", "token", "plain", "header"],
    [
        ("http://localhost:8080", None, "http://localhost:8080", ""),
        ("https://h/jb/", "T", "https://h/jb", "Bearer T"),
        ("http://T@h:1", None, "http://h:1", "Bearer T"),
        ("http://a%40b@h:1", None, "http://h:1", "Bearer a@b"),
        ("http://u:p%40@h:1", None, "http://h:1", "Basic dTpwQA=="),
        ("http://u:p@h:1", "T", "http://h:1", "Bearer T"),
        ("http://[::1]:8080/", None, "http://[::1]:8080", ""),
    ],
)
def test_who_asks_stands_in_the_url_or_is_a_token(url: str, token: str | None, plain: str, header: str) -> None:
    assert _connection(url, token) == (plain, header)


@rows(["url", "token"], [("http://h", "sec\nret"), ("http://sec%0Aret@h", None), ("http://h", "secrét")])
def test_what_is_no_token_is_told_without_being_shown(url: str, token: str | None) -> None:
    with pytest.raises(Failure, match=r"^--token: it has characters that no token has$"):
        _connection(url, token)


@rows("url", ["", "localhost:8080", "ftp://h", "http://", "http://h:x", "http://h/?a=1", "http://h#x", "http://[h", "http://h\x01"])
def test_what_is_no_url_is_told_without_being_shown(url: str) -> None:
    with pytest.raises(Failure, match=r"^--url: expected http://HOST:PORT") as raised:
        Api(url)
    assert raised.value.exit_code == 2
