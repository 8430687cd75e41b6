"""URLs that are called: what is refused, and what is left as it is written."""

from __future__ import annotations

import pytest

from junebug.api.schemas import http_url_problem
from junebug.config.declaration import Settings
from junebug.model.urls import HttpUrl, origin, parse
from junebug.worker.callbacks.targets import Targets
from junebug.worker.callbacks.webhook import Webhook
from tests.tables import rows

NEVER_CALLABLE = [
    "", "no url", "host/path", "ftp://host/", "http:host/", "http:/host", "http://", "http:///x", "http://@/", "http://:80/",
    "http://h:0/", "http://h:65536/", "http://h:99999999999999999999/", "http://h:80a/", "http://h:-1/", "http://h:1:2/",
    "http://h:²/", "http://[::1", "http://[::1]x/", "http://[]/", "http://[1.2.3.4]/", "http://[::g]/",
    "http://[" + ":" * 400 + "]/", "http://::1/", "http://a b/", "http://a%20b/", "http://a<b>/", "http://a|b/",
    "http://a\\b/", "http://a{b}/", "http://h\n/", "http://h/\r\nX: y", "http://h/\0",
    "http://xn--/", "http://a.xn--.b/", "http://xn--\U0001f4a9/", "http://xn--999999999999/",
    "http://" + "a" * 64 + "/", "http://" + "a." * 200 + "b/", "http://" + "é" * 100_000 + "/", "http://a..b/", "http://./",
    "http://.a/", "http://\u2025/", "http://\ud800/", "http://\u200b/", "http://256.256.256.256/", "http://1.2.3.4.5/",
    "http://a%3Ab:pw@host/", "http://%3A@host/", "http://a\"b:pw@host/", "http://a b:pw@host/", "http://user:pw@/", "http://u@:80/",
    "http://a%00:pw@host/", "http://a:pw%0d%0a@host/", "http://[::1%25]/", "http://[::1%25a%25b]/",
]  # fmt: skip


@rows("text", NEVER_CALLABLE)
async def test_what_can_never_be_called_is_refused_at_the_door_and_is_an_outcome_at_the_call(text: str) -> None:
    assert http_url_problem(text)
    with pytest.raises(ValueError, match=r"."):
        parse(text)
    outcome = await Webhook(1.0, Targets(Settings())).post(text, {})
    assert (outcome.ok, outcome.status) == (False, None)
    assert "pw" not in outcome.reason


@rows(
    ("text", "url"),
    [
        ("http://host", HttpUrl("http", "host", 80, "/")),
        ("HTTPS://Host.:/?", HttpUrl("https", "host.", 443, "/?")),
        ("http://host?a=b#c?d", HttpUrl("http", "host", 80, "/?a=b")),
        ("http://my_host-1:8080/a/../%2e%2E/./b//c", HttpUrl("http", "my_host-1", 8080, "/a/../%2e%2E/./b//c")),
        ("http://h/a%2fb%zz%?c=%41+d", HttpUrl("http", "h", 80, "/a%2fb%25zz%25?c=%41+d")),
        ("http://h/é [x]{y}?ü=\"", HttpUrl("http", "h", 80, "/%C3%A9%20%5Bx%5D%7By%7D?%C3%BC=%22")),
        ("http://127.0.0.1/", HttpUrl("http", "127.0.0.1", 80)),
        ("http://[::1]:81/", HttpUrl("http", "::1", 81)),
        ("http://[fe80::1%25eth0]/", HttpUrl("http", "fe80::1%eth0", 80)),
        ("http://bücher.example/", HttpUrl("http", "xn--bcher-kva.example", 80)),
        ("http://\U0001f4a9.la/", HttpUrl("http", "xn--ls8h.la", 80)),
        ("http://me:p%40s@s@host/", HttpUrl("http", "host", 80, "/", "Basic bWU6cEBzQHM=")),
        ("http://me@host/", HttpUrl("http", "host", 80, "/", "Basic bWU6")),
        ("http://@host/", HttpUrl("http", "host", 80)),
    ],
)  # fmt: skip
def test_what_can_be_called_is_left_as_it_is_written(text: str, url: HttpUrl) -> None:
    assert parse(text) == url


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("http://Host/{a}", "http://host:80"),
        ("https://u:p@ss@h{/a}", "https://h:443"),
        ("http://[::1]:81?x={a}", "http://[::1]:81"),
        (
    "http://xn--/", "no URL"),
        ("nothing", "no URL"),
        ("", "no URL"),
    ],
)
def test_an_origin_holds_no_secret(template: str, expected: str) -> None:
    assert origin(template) == expected


@pytest.mark.parametrize(
    ("location", "leads_to"),
    [
        ("/x?y", "http://h:81/x?y"),
        ("z", "http://h:81/a/z"),
        ("//other/", "http://other:80/"),
        ("https://other/é", "https://other:443/%C3%A9"),
        ("?q", "http://h:81/a/b?q"),
    ],
)
def test_a_location_is_relative_to_its_url(location: str, leads_to: str) -> None:
    url = parse("http://me:pw@h:81/a/b").join(location)
    assert url.origin + url.target == leads_to
