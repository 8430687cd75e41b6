"""Every error is the envelope, with the types and descriptions that clients know; never a 5xx (COMPAT §1).

`Api.request` checks the envelope itself (its four keys, status and code) of every answer.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest

from tests.blackbox.conftest import Channels
from tests.harness import Api, Channel, JunebugProcess
from tests.polling import DEADLINE
from tests.tables import rows

FLAGS = {"max-body-size": 20_000}
UNKNOWN = "/channels/11111111-2222-3333-4444-555555555555"


def assert_invalid_body(answer: Any, *fields: str) -> None:
    assert (answer.status, answer.description) == (400, "api usage error")
    assert answer.error_types == {"invalid_body"}
    for error in answer.errors:
        assert set(error) == {"type", "message", "schema_path"}
        assert isinstance(error["schema_path"], list)
    for field in fields:
        assert any(field in error["message"] for error in answer.errors), (field, answer.errors)


# --- bodies -----------------------------------------------------------------------------------------------------------


@rows(
    ("body", "fields"),
    [
        ({}, ["type", "config"]),
        ({"type": "loopback"}, ["config"]),
        ({"config": {}}, ["type"]),
        ({"type": 5, "config": {}}, ["type"]),
        ({"type": "loopback", "config": []}, ["config"]),
        ({"type": "loopback", "config": None}, ["config"]),
        ({"type": "loopback", "config": {}, "mo_url": 5}, ["mo_url"]),
        ({"type": "loopback", "config": {}, "label": 5}, ["label"]),
        ({"type": "loopback", "config": {}, "metadata": "x"}, ["metadata"]),
        ({"type": "loopback", "config": {}, "rate_limit_count": -1}, ["rate_limit_count"]),
        ({"type": "loopback", "config": {}, "rate_limit_window": "10"}, ["rate_limit_window"]),
        ({"type": "loopback", "config": {}, "character_limit": 1.5}, ["character_limit"]),
        ({"type": "loopback", "config": {}, "amqp_queue": 7}, ["amqp_queue"]),
        ({"type": "loopback", "config": {}, "mo_url": 5, "label": []}, ["mo_url", "label"]),
        ([], []),
        ("text", []),
        (None, []),
    ],
)
async def test_a_channel_body_that_the_schema_refuses_gets_one_entry_for_each_problem(
    api: Api, body: Any, fields: list[str]
) -> None:
    before = (await api.get("/channels/")).result
    answer = await api.request("POST", "/channels/", data=json.dumps(body).encode())
    assert_invalid_body(answer, *fields)
    assert len(answer.errors) >= len(fields)
    assert (await api.get("/channels/")).result == before


@rows("body", [{"rate_limit_count": -1}, {"type": None}, {"config": "x"}, {"mo_url": 5}, []])
async def test_an_update_that_the_schema_refuses_changes_nothing(channels: Channels, api: Api, body: Any) -> None:
    channel = await channels.create("loopback", {}, label="kept")
    before = await channel.get()
    assert_invalid_body(await api.request("POST", channel.path, data=json.dumps(body).encode()))
    assert {**await channel.get(), "status": None} == {**before, "status": None}


@rows(
    ("body", "field"),
    [
        ({"to": "+27"}, "content"),
        ({"to": "+27", "content": 5}, "content"),
        ({"to": 27, "content": "x"}, "to"),
        ({"to": "+27", "content": "x", "from": 5}, "from"),
        ({"to": "+27", "content": "x", "unknown": 1}, "unknown"),
        ({"to": "+27", "content": "x", "event_url": 5}, "event_url"),
        ({"to": "+27", "content": "x", "channel_data": []}, "channel_data"),
        ({"to": "+27", "content": "x", "event_auth_token": 5}, "event_auth_token"),
        ({"reply_to": 5, "content": "x"}, "reply_to"),
    ],
)
async def test_a_message_body_that_the_schema_refuses(
    loopback: Channel, api: Api, body: dict[str, Any], field: str
) -> None:
    assert_invalid_body(await api.post(f"{loopback.path}/messages/", body), field)


@rows("data", [b"", b"{", b"nonsense", b"\xff\xfe", b'{"a": NaN}', b"{'a': 1}", b'{"a":1} x'])
@rows("path", ["/channels/", "{}", "{}/messages/"])
async def test_a_body_that_is_no_json_is_400(loopback: Channel, api: Api, path: str, data: bytes) -> None:
    answer = await api.request("POST", path.format(loopback.path), data=data)
    assert (answer.status, answer.description) == (400, "json decode error")
    assert answer.error_types == {"JsonDecodeError"}


async def test_deeply_nested_json_is_400(api: Api) -> None:
    data = b'{"type": "loopback", "config": ' + b"[" * 9000 + b"]" * 9000 + b"}"
    answer = await api.request("POST", "/channels/", data=data)
    assert answer.status == 400


async def test_a_body_over_the_limit_is_413(channels: Channels, api: Api) -> None:
    channel = await channels.create("loopback", {})
    path = f"{channel.path}/messages/"
    assert (await api.post(path, {"to": "+27", "content": "x" * 19_000})).status == 201
    assert (await api.post(path, {"to": "+27", "content": "x" * 20_000})).status == 413

    async def chunks() -> Any:
        for _ in range(30):
            yield b"x" * 1000

    assert (await api.request("POST", path, data=chunks())).status == 413


# --- channels and their types -----------------------------------------------------------------------------------------


async def test_an_unknown_channel_is_404_everywhere(api: Api) -> None:
    message = {"to": "+27", "content": "x"}
    for method, path, body in (
        ("GET", "", None), ("POST", "", {"label": "x"}), ("DELETE", "", None), ("POST", "/restart", None),
        ("GET", "/logs", None), ("POST", "/messages/", message), ("GET", f"/messages/{'0' * 32}", None),
    ):  # fmt: skip
        answer = await api.request(method, UNKNOWN + path, json=body)
        assert (answer.status, answer.description) == (404, "channel not found"), (method, path)
        assert answer.error_types == {"ChannelNotFound"}


@pytest.mark.parametrize("name", ["%2e%2e", "..%2f..%2fetc", "a%00b", "x" * 5000, "%ff", "*", "a b"])
async def test_an_id_that_can_be_none_is_404_too(api: Api, name: str) -> None:
    answer = await api.get(f"/channels/{name}/logs")
    assert answer.status in (400, 404)


async def test_an_unknown_type_is_400_and_the_valid_ones_are_named(channels: Channels, api: Api) -> None:
    channel = await channels.create("loopback", {})
    for answer in (
        await api.post("/channels/", {"type": "carrier_pigeon", "config": {}}),
        await api.post(channel.path, {"type": "carrier_pigeon"}),
    ):
        assert (answer.status, answer.error_types) == (400, {"InvalidChannelType"})
        assert all(name in answer.errors[0]["message"] for name in ("telnet", "telnet_addr", "loopback"))
    assert (await channel.get())["type"] == "loopback"


@rows(
    ("config", "field"),
    [
        ({"twisted_endpoint": 9001}, "twisted_endpoint"),
        ({"twisted_endpoint": "udp:9001"}, "twisted_endpoint"),
        ({"telnet_port": "9001"}, "telnet_port"),
        ({"telnet_port": 70000}, "telnet_port"),
        ({"telnet_port": 9001, "to_adr": "x"}, "to_adr"),
        ({}, "twisted_endpoint"),
    ],
)
async def test_a_config_that_its_type_refuses_is_400_and_the_field_is_named(
    api: Api, config: dict[str, Any], field: str
) -> None:
    before = (await api.get("/channels/")).result
    answer = await api.post("/channels/", {"type": "telnet", "config": config})
    assert answer.status == 400
    assert field in answer.errors[0]["message"]
    assert (await api.get("/channels/")).result == before


async def test_an_update_to_a_config_that_its_type_refuses_changes_nothing(channels: Channels, api: Api) -> None:
    channel = await channels.telnet()
    before = await channel.get()
    answer = await api.post(channel.path, {"config": {"telnet_port": "x"}, "label": "new"})
    assert answer.status == 400
    assert "telnet_port" in answer.errors[0]["message"]
    assert {**await channel.get(), "status": None} == {**before, "status": None}


@rows("n", ["abc", "-1", "1.5", "", "\N{FULLWIDTH DIGIT ONE}"])
async def test_a_bad_n_of_logs_is_400(loopback: Channel, api: Api, n: str) -> None:
    answer = await api.get(f"{loopback.path}/logs", params={"n": n})
    assert (answer.status, answer.description, answer.error_types) == (400, "api usage error", {"ApiUsageError"})


# --- URLs and methods -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/nothing", "/channels/x/nothing", "/jb", "/channels/x/messages/y/z"])
async def test_an_unknown_url_is_404_with_code_type_and_message(api: Api, path: str) -> None:
    answer = await api.get(path)
    assert answer.status == 404
    (error,) = answer.errors
    assert (error["code"], error["type"]) == (404, "Not Found")
    assert "404" in error["message"]


@pytest.mark.parametrize(("method", "path"), [("PUT", "/channels/"), ("DELETE", "/health"), ("PATCH", UNKNOWN)])
async def test_a_wrong_method_is_405_with_code_type_and_message(api: Api, method: str, path: str) -> None:
    answer = await api.request(method, path)
    assert answer.status == 405
    (error,) = answer.errors
    assert (error["code"], error["type"]) == (405, "Method Not Allowed")
    assert error["message"]
    assert answer.headers["Allow"]


@pytest.mark.parametrize(
    ("path", "right"), [("/channels", "/channels/"), ("/jb/channels", "/jb/channels/"), (f"{UNKNOWN}/", UNKNOWN)]
)
async def test_a_get_on_the_wrong_slash_is_redirected_and_told_where(api: Api, path: str, right: str) -> None:
    answer = await api.get(f"{path}?n=1")
    assert answer.status == 301
    (error,) = answer.errors
    assert (error["code"], error["type"]) == (301, "Moved Permanently")
    assert error["new_url"] == answer.headers["Location"] == f"{right}?n=1"
    assert (await api.get(path, allow_redirects=True)).status == (await api.get(right)).status


@rows("path", ["", "/", "/restart", "/restart/", "/messages", "/messages/", "/messages.json"])
async def test_a_post_is_never_redirected(loopback: Channel, api: Api, path: str) -> None:
    body = {"to": "+27", "content": "x"} if "messages" in path else {"label": "x"}
    for prefix in ("", "/jb"):
        answer = await api.post(f"{prefix}{loopback.path}{path}", body)
        assert answer.status in (200, 201), path


# --- broken HTTP ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_text",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nbroken header\r\n\r\n",
        b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /channels/ HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /channels/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: abc\r\n\r\n",
    ],
)
async def test_broken_http_is_answered_4xx_in_the_envelope(jb: JunebugProcess, request_text: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", jb.flags["port"])
    writer.write(request_text)
    async with asyncio.timeout(DEADLINE):
        answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    assert re.match(rb"HTTP/1\.[01] 4\d\d ", head), head
    envelope = json.loads(body)
    assert set(envelope) == {"status", "code", "description", "result"}
    assert envelope["result"]["errors"]
    assert (await jb.api.get("/health")).status == 200
