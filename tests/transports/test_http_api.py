"""Channel type http_api, its pure parts: what a config makes of requests, messages and answers, and what is wrong with it."""

from __future__ import annotations

from typing import Any

import pytest

from junebug.errors import InvalidChannelConfig, NotSent, Rejected, UnknownOutcome
from junebug.model.messages import UserMessage
from junebug.registry import Registry
from junebug.transports.http_api import mapping
from junebug.transports.http_api.outbound import LARGEST_ANSWER, LONGEST_ID, Outbound
from tests.tables import rows

URL = "https://a.example/send"


def message(content: str | None = "hello", to: str | None = "+27", **fields: Any) -> UserMessage:
    return UserMessage(to_addr=to, from_addr="8110", content=content, transport_name="c", transport_type="sms", **fields)


ID = {"id_path": "messages.0.id"}
STATUS = {"success_path": "status", "success_values": ["0", "true"], "id_path": "id"}


@rows(
    ("config", "status", "body", "expected"),
    [
        ({}, 200, b"", None),
        ({}, 204, b"", None),
        (ID, 200, b'{"messages": [{"id": "abc"}]}', "abc"),
        (ID, 201, b'{"messages": [{"id": 12345}]}', "12345"),
        (ID, 200, b'{"messages": []}', None),
        (ID, 200, b'{"messages": [{"id": ""}]}', None),
        (ID, 200, b"<html>", None),
        (ID, 200, b"\xff\xfe\x00", None),
        (ID, 200, b"[" * 5000, None),
        (ID, 200, b'{"messages": [{"id": "' + b"x" * (LONGEST_ID + 1) + b'"}]}', None),
        ({"id_pattern": "ID: ([0-9]+)"}, 200, b"OK ID: 77", "77"),
        ({"id_pattern": "ID: ([0-9]+)?"}, 200, b"OK ID: ", None),
        ({"id_pattern": "ID: ([0-9]+)"}, 200, b"OK", None),
        ({"success_pattern": "^OK"}, 200, b"OK 1", None),
        ({"success_pattern": "^OK"}, 200, b"ERR 1", Rejected("HTTP 200 ERR 1")),
        ({"success_pattern": "^OK"}, 200, b"x" * LARGEST_ANSWER, UnknownOutcome(f"HTTP 200 {'x' * 200}")),
        (STATUS, 200, b'{"status": 0, "id": "a"}', "a"),
        (STATUS, 200, b'{"status": "0", "id": "a"}', "a"),
        (STATUS, 200, b'{"status": true, "id": "a"}', "a"),
        (STATUS, 200, b'{"status": 9}', Rejected('HTTP 200 {"status": 9}')),
        (STATUS, 200, b'{"status": null}', Rejected('HTTP 200 {"status": null}')),
        (STATUS, 200, b"", Rejected("HTTP 200")),
        ({"success_pattern": "^OK", "retry_pattern": "busy"}, 200, b"ERR busy", NotSent("HTTP 200 ERR busy", 5)),
        ({"retry_pattern": "credit"}, 400, b"no credit", NotSent("HTTP 400 no credit", 5)),
        ({"reject_pattern": "^ERR"}, 200, b"ERR 1", Rejected("HTTP 200 ERR 1")),
        ({"reject_pattern": "barred"}, 503, b"barred", Rejected("HTTP 503 barred")),
        ({}, 400, b" no\r\n such \tnumber ", Rejected("HTTP 400 no such number")),
        ({}, 422, b"", Rejected("HTTP 422")),
        ({"reject_status": [403]}, 403, b"", Rejected("HTTP 403")),
        ({"reject_status": [403]}, 400, b"", NotSent("HTTP 400", 5)),
        ({}, 401, b"", NotSent("HTTP 401", 5)),
        ({"retry_delay": 7}, 402, b"", NotSent("HTTP 402", 7)),
        ({}, 429, b"", NotSent("HTTP 429", 5)),
        ({}, 503, b"", NotSent("HTTP 503", 5)),
        ({}, 302, b"", NotSent("HTTP 302", 5)),
        ({}, 500, b"", UnknownOutcome("HTTP 500")),
        ({}, 502, b"bad gateway", UnknownOutcome("HTTP 502 bad gateway")),
        ({}, 504, b"", UnknownOutcome("HTTP 504")),
        ({"reject_status": [500]}, 500, b"", Rejected("HTTP 500")),
        ({"secrets": {"k": "open sesame", "t": "a/b+c"}, "password": "pass"}, 400,
         b"k=open+sesame open%20sesame a/b+c a%2Fb%2Bc pass",
         Rejected("HTTP 400 k=******** ******** ******** ******** ********")),
    ],
)  # fmt: skip
def test_what_an_answer_means(config: dict[str, Any], status: int, body: bytes, expected: Any) -> None:
    outbound = Outbound({"url": URL, **config})
    if not isinstance(expected, Exception):
        assert outbound.understood(status, {}, body) == expected
        return
    with pytest.raises(type(expected)) as raised:
        outbound.understood(status, {}, body)
    assert str(raised.value) == str(expected)
    assert getattr(raised.value, "retry_after", None) == getattr(expected, "retry_after", None)


@rows(
    ("retry_after", "least", "most"),
    [
        ("0", 0, 0), (" 17 ", 17, 17), ("99999999999999999999", 3600, 3600), ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
        ("Fri, 01 Jan 2100 00:00:00 GMT", 3600, 3600), ("", 5, 5), ("soon", 5, 5), ("-1", 5, 5), ("1.5", 5, 5), ("²", 5, 5),
        ("\x00" * 1000, 5, 5), ("9" * 5000, 3600, 3600),
    ],
)  # fmt: skip
def test_how_long_a_provider_wants_to_be_left_alone(retry_after: str, least: float, most: float) -> None:
    with pytest.raises(NotSent) as raised:
        Outbound({"url": URL}).understood(429, {"Retry-After": retry_after}, b"")
    assert least <= raised.value.retry_after <= most


async def test_what_a_message_becomes() -> None:
    config = {
        "url": URL + "{?to,key}", "secrets": {"key": "a&b"}, "username": "u", "password": "pä",
        "headers": {"X-Text": "{content}", "content-type": "application/vnd.api+json", "accept-encoding": "br"},
        "json": {"t": "{content}", "g": "{group}", "both": "{from}->{to}", "n": 1, "list": [None, True, "{message_id}"]},
    }  # fmt: skip
    sent = message('Zoë "\\ {to} 💐')
    request = Outbound(config).request(sent, None)
    assert (request.method, str(request.url)) == ("POST", "https://a.example/send?to=%2B27&key=a%26b")
    assert dict(request.headers) == {
        "X-Text": 'Zoë "\\ {to} 💐', "content-type": "application/vnd.api+json", "accept-encoding": "br",
        "User-Agent": "Junebug", "Authorization": "Basic dTpww6Q=",
    }  # fmt: skip
    assert mapping.read("", request.body or b"", "") == {
        "t": 'Zoë "\\ {to} 💐', "g": None, "both": "8110->+27", "n": 1, "list": [None, True, sent.message_id],
    }  # fmt: skip
    for wrong in ("a\r\nX-Evil: b", "\x00"):
        with pytest.raises(Rejected, match="X-Text would hold a control character"):
            Outbound(config).request(message(wrong), None)
    with pytest.raises(Rejected, match="too long for a URL"):
        Outbound(config).request(message(to="1" * 40_000), None)
    form = Outbound({"url": URL, "form": {"text": "{content}", "group": "{group}", "empty": ""}}).request(message("a&b= ü"), None)
    assert (form.body, form.headers["Content-Type"]) == (b"text=a%26b%3D+%C3%BC&empty=", "application/x-www-form-urlencoded")
    nothing = Outbound({"url": URL, "json": {"t": "{content}"}}).request(message(None, to=None), None)
    assert nothing.body == b'{"t":null}'


@rows(
    ("query", "body", "content_type", "expected"),
    [
        ("a=1", b'{"a": 2, "b": {"c": [1]}}', "application/json", {"a": 2, "b": {"c": [1]}}),
        ("", b' \n[{"a": 1}]', "text/plain", {"0": {"a": 1}}),
        ("a=1", b"", "application/json", {"a": "1"}),
        ("", b"a=1", "application/x-www-form-urlencoded", {"a": "1"}),
        ("", b'{"a": 1}', "application/x-www-form-urlencoded", {'{"a": 1}': ""}),
        ("", b"\xef\xbb\xbf{}", "application/json", {}),
        ("", b'{"a": "\xff"}', "application/json", None),
        ("", b'{"a": "\\ud800"}', "application/json", None),
        ("", b'{"a": NaN}', "application/json", None),
        ("", b"{" + b'"a":{' * 25 + b"}" * 26, "application/json", None),
        ("", b"[" * 30 + b"]" * 30, "application/json", None),
        ("", b'{"a":' * 20_000 + b"1" + b"}" * 20_000, "application/json", None),
        ("", b"{", "application/json", None),
    ],
)
def test_what_a_request_says(query: str, body: bytes, content_type: str, expected: dict[str, Any] | None) -> None:
    if expected is None:
        with pytest.raises(ValueError, match="."):
            mapping.read(query, body, content_type)
    else:
        assert mapping.read(query, body, content_type) == expected


@rows(
    ("said", "path", "expected"),
    [
        ({"a": "1"}, None, [{"a": "1"}]),
        ({"results": [{"a": 1}, 5]}, "results", [{"a": 1}, 5]),
        ({"0": {"results": []}}, "0.results", []),
        ({"results": {"a": 1}}, "results", None),
        ({"results": "x"}, "results", None),
        ({}, "results", None),
    ],
)
def test_what_a_request_brings(said: dict[str, Any], path: str | None, expected: list[Any] | None) -> None:
    assert mapping.items(said, path) == expected


OUTBOUND = {"url": URL}
INBOUND = {"parameters": {"from": "f", "content": "c"}}


@rows(
    ("config", "problems"),
    [
        ({"outbound": OUTBOUND, "on_unknown": "fail"}, {}),
        ({"outbound": OUTBOUND, "on_unknown": "guess"}, {"on_unknown": 'not one of "resend" or "fail"'}),
        ({"outbound": {**OUTBOUND, "headers": {"Content-length": "5"}}}, {"outbound.headers": "not to be set"}),
        ({"outbound": {**OUTBOUND, "headers": {"authorization": "x"}, "username": "u", "password": "p"}},
         {"outbound.headers": "give one of them"}),
        ({"outbound": {**OUTBOUND, "username": "u:v", "password": "p"}}, {"outbound.username": "colon"}),
        ({"outbound": {**OUTBOUND, "secrets": {"a": "b", "c": "********"}}}, {"outbound.secrets.c": "give each of them"}),
        ({"outbound": {**OUTBOUND, "secrets": "********"}}, {"outbound.secrets": "masked"}),
        ({"outbound": {**OUTBOUND, "success_path": "a"}}, {"outbound.success_values": "belong together"}),
        ({"outbound": {**OUTBOUND, "retry_pattern": "*"}}, {"outbound.retry_pattern": "no regular expression"}),
        ({"outbound": {"url": "https://a b.example/{to}"}}, {"outbound.url": "host"}),
        ({"outbound": {"url": "https://u:p@a.example/{to}"}}, {"outbound.url": "secrets"}),
        ({"outbound": {"url": "https://a.example/?x=@{to}"}}, {}),
        ({"outbound": {"url": "https://a.example/\r\n"}}, {"outbound.url": "control character"}),
        ({"outbound": {**OUTBOUND, "timeout": 0}}, {"outbound.timeout": "minimum"}),
        ({"web_path": "x", "inbound": {**INBOUND, "list": ""}}, {"inbound.list": "shorter"}),
        ({"web_path": "x", "inbound": {**INBOUND, "list": "a", "reply_in_response": True, "response": {"body": "{content}"}}},
         {"inbound.list": "one reply"}),
        ({"web_path": "x", "inbound": {**INBOUND, "response": {"body": "x", "content_type": "application/json"}}},
         {"inbound.response": "said in json"}),
        ({"web_path": "x", "inbound": {**INBOUND, "response": {"content_type": "a/b\r\nX: y"}}},
         {"inbound.response.content_type": "match"}),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_config_is_told_by_the_name_of_its_field(config: dict[str, Any], problems: dict[str, str]) -> None:
    try:
        Registry.from_settings({}).validate_config("http_api", config)
        found: dict[str, str] = {}
    except InvalidChannelConfig as error:
        found = dict(error.problems)
    assert found.keys() == {f"config.{field}" for field in problems}
    for field, said in problems.items():
        assert said in found[f"config.{field}"]
