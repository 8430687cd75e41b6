"""The envelope, whatever comes: wrong URLs, wrong methods, broken HTTP, bodies too large or broken (COMPAT §1)."""

from __future__ import annotations

import asyncio
import dataclasses
import gzip
import zlib
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from junebug.config.declaration import Settings
from tests.api.conftest import Api, running_api
from tests.tables import rows

MESSAGE = {"to": "1", "content": "x"}


async def raw(api: Api, request: bytes) -> tuple[bytes, dict[str, Any]]:
    """Status line and envelope that these bytes are answered with."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(api.url.rpartition(":")[2]))
    try:
        writer.write(request)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        assert b"application/json" in head
        return head.split(b"\r\n")[0], orjson.loads(await reader.readexactly(length))
    finally:
        writer.close()


@rows("prefix", ["", "/jb"])
@rows(
    "path", ["/", "/foo", "/channels//x", "/channels/x/y/z", "/channels/x/logs/y", "/health/x", "//channels/"]
)
async def test_an_unknown_path_is_404(api: Api, prefix: str, path: str) -> None:
    for method in ("GET", "POST", "DELETE", "PUT"):
        answer = await api(method, prefix + path)
        assert answer.status == 404
        (error,) = answer.errors
        assert (error["code"], error["type"], error["message"]) == (404, "Not Found", "404: Not Found")


@rows(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/channels/", {"GET", "HEAD", "POST"}),
        ("PUT", "/channels/x", {"GET", "HEAD", "POST", "DELETE"}),
        ("PATCH", "/channels/x/", {"GET", "HEAD", "POST", "DELETE"}),
        ("GET", "/channels/x/restart", {"POST"}),
        ("POST", "/channels/x/logs", {"GET", "HEAD"}),
        ("PUT", "/channels/x/messages/", {"GET", "HEAD", "POST", "DELETE"}),
        ("POST", "/channels/x/messages/y", {"GET", "HEAD", "DELETE"}),
        ("GET", "/channels/x/messages.json", {"POST"}),
        ("GET", "/channels/x/pause", {"POST"}),
        ("DELETE", "/channels/x/resume/", {"POST"}),
        ("POST", "/channels/x/dead-letters/", {"GET", "HEAD", "DELETE"}),
        ("POST", "/channels/x/dead-letters/y", {"DELETE"}),
        ("PUT", "/channels/x/dead-letters/replay", {"POST"}),
        ("POST", "/health", {"GET", "HEAD"}),
        ("OPTIONS", "/channels/", {"GET", "HEAD", "POST"}),
    ],
)
async def test_a_wrong_method_is_405_and_told_the_right_ones(
    api: Api, method: str, path: str, allowed: set[str]
) -> None:
    answer = await api(method, path)
    assert answer.status == 405
    assert set(answer.headers["Allow"].replace(" ", "").split(",")) == allowed
    assert answer.errors[0]["type"] == "Method Not Allowed"
    assert answer.errors[0]["code"] == 405


@rows(
    ("path", "right"),
    [
        ("/channels", "/channels/"),
        ("/channels?a=b%20c", "/channels/?a=b%20c"),
        ("/channels/x/", "/channels/x"),
        ("/channels/x/logs/?n=2", "/channels/x/logs?n=2"),
        ("/channels/a%2Fb/messages/y/", "/channels/a%2Fb/messages/y"),
        ("/channels/x/messages?state=queued", "/channels/x/messages/?state=queued"),
        ("/channels/x/dead-letters", "/channels/x/dead-letters/"),
        ("/jb/channels", "/jb/channels/"),
    ],
)
async def test_a_get_on_the_wrong_slash_is_redirected(api: Api, path: str, right: str) -> None:
    answer = await api("GET", path)
    assert answer.status == 301
    assert answer.headers["Location"] == answer.errors[0]["new_url"] == right
    assert (answer.errors[0]["code"], answer.errors[0]["type"]) == (301, "Moved Permanently")


async def test_a_redirect_can_be_followed(api: Api) -> None:
    channel = await api.create()
    for path in ("/channels", f"/channels/{channel}/", f"/jb/channels/{channel}/"):
        assert (await api("GET", path, allow_redirects=True)).status == 200


HOSTS = [
    b"", b"Host: \xff\xfe\r\n", "Host: é\r\n".encode(), b"Host: evil.example\r\n", b"Host: [::1\r\n", b"Host: a:b:c\r\n",
    b"Host:\r\n",
]  # fmt: skip


async def test_a_redirect_is_relative_whatever_the_host_header_says(settings: Settings) -> None:
    more = b"X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.example\r\n"
    async with running_api(dataclasses.replace(settings, allowed_hosts=["*"])) as api:
        for host in HOSTS:
            status, body = await raw(api, b"GET /channels?a=%20b HTTP/1.0\r\n" + host + more + b"\r\n")
            assert (status.split()[1], body["result"]["errors"][0]["new_url"]) == (b"301", "/channels/?a=%20b")


ODD_REQUESTS = [
    b"GET /channels/\xff", b"GET /channels/\xff/", b"GET /channels/%FF", b"GET /\xff", b"GET /channels?\xff=\xfe",
    b"GET /channels/ID/logs?n=\xff", b"GET /channels/ID/messages/?limit=\xff", b"GET /channels/ID/messages/?state=\xff",
    b"GET /channels/ID/messages/\xff", b"GET /channels/ID/messages/%FF%00", b"GET /channels/ID/messages/%ED%A0%80",
    b"DELETE /channels/ID/messages/\xff", b"DELETE /channels/ID/messages/%ED%A0%80", b"DELETE /channels/ID/dead-letters/\xff",
    b"POST /channels/\xff/messages/", b"GET http://\xff:99999999/channels", b"GET http://xn--/channels",
    b"POST http://xn--/channels/ID/messages/", b"GET http://[::1/channels", b"GET //\xff@xn--:99999/channels", b"OPTIONS *",
    b"CONNECT xn--:99999", b"CONNECT \xff", b"\xff /channels", b"GET", b"GET \xff",
]  # fmt: skip
ODD_HEADERS = [
    b"Host: \xff", b"\xff: \xff", b"Idempotency-Key: \xff", b"Content-Type: \xff; charset=klingon", b"Content-Encoding: gzip",
    b"Content-Encoding: deflate", b"Content-Encoding: br", b"Content-Encoding: zstd", b"Content-Encoding: \xff",
    b"Cookie: \xff=\xff; =", b"If-Modified-Since: Mon, 01 Jan 99999999999999 00:00:00 GMT", b"Expect: \xff", b"Range: \xff",
    b"Authorization: Basic \xff", b"X-Forwarded-For: \xff", b"Upgrade: \xff", b"Connection: \xff", b"Accept: \xff",
]  # fmt: skip
ODD_BODIES = [
    b"", b"{", b"\xff", b'{"to":"\xed\xa0\x80"}', b'{"to":"\\ud800","content":"x"}', b'{"to":"1","content":"\\u0000"}',
    b"[" * 5000, b"[" * 5000 + b"]" * 5000, b'{"a":' * 5000 + b"1" + b"}" * 5000, b'{"priority":' + b"9" * 5000 + b"}",
    b'{"validity":1e400}', b"NaN",
    b'{"to":"1","content":"x","validity":1e-400}', b'{"to":"1","content":"x","expires_at":"0001-01-01T00:00:00+02:00"}',
    b'{"to":"1","content":"x","expires_at":"9999-12-31T23:59:59-12:00"}', b'{"to":"1","content":"x","event_url":"http://xn--/"}',
]  # fmt: skip


@rows(
    ("line", "headers", "content"),
    [
        *((line, b"", b"") for line in ODD_REQUESTS),
        *((line, header, b"{}") for header in ODD_HEADERS for line in (b"POST /channels/ID/messages/", b"POST /channels/")),
        *((b"GET /channels", header, b"") for header in ODD_HEADERS),
        *((b"POST /channels/ID/messages/", b"", content) for content in ODD_BODIES),
    ],
)
async def test_no_octets_of_a_request_are_a_fault_of_ours(
    api: Api, plain: str, line: bytes, headers: bytes, content: bytes
) -> None:
    head = [line + b" HTTP/1.1", *([] if headers.startswith(b"Host") else [b"Host: localhost"]), *([headers] if headers else [])]
    head += [b"Content-Length: %d" % len(content)] if content else []
    status, body = await raw(api, b"\r\n".join([*head, b"", b""]).replace(b"ID", plain.encode()) + content)
    assert 200 <= body["status"] < 500, body
    assert status.split()[1] == str(body["status"]).encode()


@pytest.mark.parametrize("prefix", ["", "/jb"])
async def test_a_post_or_delete_is_served_with_and_without_the_slash(api: Api, prefix: str) -> None:
    body = {"type": "plain", "config": {}, "mo_url": "http://127.0.0.1:1/"}
    for create, one in ((f"{prefix}/channels", "{}"), (f"{prefix}/channels/", "{}/")):
        created = await api("POST", create, json=body)
        assert created.status == 201
        channel = f"{prefix}/channels/{created.result['id']}"
        assert (await api("POST", one.format(channel), json={"label": "x"})).description == "channel updated"
        for form in ("messages", "messages/", "messages.json", "messages.json/"):
            assert (await api("POST", f"{channel}/{form}", json=MESSAGE)).description == "message submitted"
        assert (await api("DELETE", one.format(channel))).description == "channel deleted"


async def test_head_is_answered_where_get_is(api: Api) -> None:
    channel = await api.create()
    for path, status in (("/channels/", 200), (f"/channels/{channel}", 200), ("/health", 200), ("/channels", 301)):
        async with api.session.head(api.url + path, allow_redirects=False) as response:
            assert (response.status, await response.read()) == (status, b"")


@rows(
    "request_bytes",
    [
        b"NONSENSE\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nBad Header\r\n\r\n",
        b"POST /channels/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /channels/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_400(api: Api, request_bytes: bytes) -> None:
    status, body = await raw(api, request_bytes)
    assert status.split()[1] == b"400"
    assert (body["status"], body["code"], body["result"]["errors"][0]["type"]) == (400, "Bad Request", "Bad Request")


async def test_an_expectation_that_nobody_can_meet_is_417(api: Api) -> None:
    status, body = await raw(api, b"GET /channels/ HTTP/1.1\r\nHost: localhost\r\nExpect: miracles\r\n\r\n")
    assert (status.split()[1], body["status"]) == (b"417", 417)


async def test_a_body_that_breaks_off_in_its_chunks_is_400(api: Api) -> None:
    head = b"POST /channels/ HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    status, body = await raw(api, head + b"zz\r\n{}\r\n0\r\n\r\n")
    assert (status.split()[1], body["status"]) == (b"400", 400)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "nonsense"])
async def test_a_body_that_is_not_what_its_encoding_says_is_400(api: Api, encoding: str) -> None:
    answer = await api("POST", "/channels/", data=b"not compressed at all", headers={"Content-Encoding": encoding})
    assert answer.status == 400


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_a_compressed_body_is_read(api: Api, encoding: str, compress: Any) -> None:
    body = compress(orjson.dumps({"type": "plain", "config": {}}))
    assert (await api("POST", "/channels/", data=body, headers={"Content-Encoding": encoding})).status == 201


@pytest.fixture
async def small(settings: Settings) -> AsyncIterator[Api]:
    """An API that takes bodies of 1,000 bytes."""
    async with running_api(dataclasses.replace(settings, max_body_size=1000)) as running:
        yield running


def padded(size: int) -> bytes:
    body = orjson.dumps({"type": "plain", "config": {}, "label": ""})
    return body.replace(b'""', b'"' + b"x" * (size - len(body)) + b'"')


async def test_a_body_of_just_the_largest_size_is_taken(small: Api) -> None:
    assert (await small("POST", "/channels/", data=padded(1000))).status == 201


async def test_a_larger_body_is_413_in_whatever_way_it_comes(small: Api) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        body = padded(1001)
        yield body[:500]
        yield body[500:]

    for data, headers in (
        (padded(1001), {}),
        (chunks(), {}),
        (gzip.compress(padded(100_000)), {"Content-Encoding": "gzip"}),
        (padded(3_000_000), {}),
    ):
        answer = await small("POST", "/channels/", data=data, headers=headers)
        assert (answer.status, answer.errors[0]["type"]) == (413, "PayloadTooLarge")
        assert "max_body_size" in answer.errors[0]["message"]
    assert (await small("GET", "/channels/")).result == []


async def test_a_client_that_leaves_in_the_middle_of_its_body_harms_nobody(api: Api) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", int(api.url.rpartition(":")[2]))
    writer.write(b'POST /channels/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"type"')
    await writer.drain()
    writer.close()
    assert (await api("GET", "/channels/")).result == []


async def test_a_fault_of_ours_is_500_and_tells_nothing(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail() -> list[str]:
        raise RuntimeError("an inner secret")

    monkeypatch.setattr(api.stores.channels, "ids", fail)
    answer = await api("GET", "/channels/")
    assert (answer.status, answer.description) == (500, "generic error")
    assert "secret" not in str(answer.body)
    assert "Traceback" not in str(answer.body)
