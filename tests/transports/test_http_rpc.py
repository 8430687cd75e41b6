"""The parts of channels that a provider calls over HTTP, each alone: paths, parameters, routes, sessions, configs."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import pytest

from junebug.door import routes
from junebug.door.routes import Route, Routes, path_of
from junebug.errors import InvalidChannelConfig, StoreUnavailable
from junebug.registry import Registry
from junebug.transports.http_api import mapping
from junebug.transports.http_rpc import parameters
from junebug.transports.sessions import Session, Sessions
from tests.polling import eventually
from tests.tables import rows


@rows(
    ("query", "body", "content_type", "expected"),
    [
        ("a=1&b=%20x&a=2", b"", "", {"a": "1", "b": " x"}),
        ("a=", b"", "", {"a": ""}),
        ("a=1", b"b=2&a=3", parameters.FORM, {"a": "1", "b": "2"}),
        ("a=1", b"b=2", "text/plain", {"a": "1"}),
        ("a=%F0%9F%92%90+x", b"", "", {"a": "💐 x"}),
        ("", b"", "", {}),
        ("a=%ff", b"", "", None),
        ("a=\udcff", b"", "", None),
        ("", b"a=\xff", parameters.FORM, None),
        ("&".join(f"p{n}=1" for n in range(201)), b"", "", None),
    ],
)
def test_parameters(query: str, body: bytes, content_type: str, expected: dict[str, str] | None) -> None:
    if expected is None:
        with pytest.raises(ValueError, match="."):
            parameters.read(query, body, content_type)
    else:
        assert parameters.read(query, body, content_type) == expected


PORT = {"web_port": 8099}


@rows(
    ("config", "fields"),
    [
        ({"web_path": "/x", **PORT}, []),
        ({"web_path": "x/y"}, []),
        ({}, ["config"]),
        ({"web_path": ""}, ["config.web_path"]),
        ({"web_path": "/"}, ["config.web_path"]),
        ({"web_path": "/a b"}, ["config.web_path"]),
        ({"web_path": "/a;{}"}, ["config.web_path"]),
        ({"web_path": "/a\r\nb"}, ["config.web_path"]),
        ({"web_path": "/../etc"}, ["config.web_path"]),
        ({"web_path": "/x?y"}, ["config.web_path"]),
        ({"web_path": "health"}, ["config.health_path"]),
        ({"web_path": "x", "health_path": "/x/"}, ["config.health_path"]),
        ({"web_path": "x", "web_port": 0}, ["config.web_port"]),
        ({"web_path": "x", "web_port": "8080"}, ["config.web_port"]),
        ({"web_path": "x", "web_username": "u"}, ["config.web_password"]),
        ({"web_path": "x", "web_password": "p"}, ["config.web_username"]),
        ({"web_path": "x", "validation_mode": "lax"}, ["config.validation_mode"]),
        ({"web_path": "x", "request_timeout_status_code": 99}, ["config.request_timeout_status_code"]),
        ({"web_path": "x", "colour": "red"}, ["config"]),
    ],
)
def test_dmark_configs(config: dict[str, Any], fields: list[str]) -> None:
    registry = Registry.from_settings({})
    if not fields:
        return registry.validate_config("dmark", config)
    with pytest.raises(InvalidChannelConfig) as raised:
        registry.validate_config("dmark", config)
    assert [field for field, _ in raised.value.problems] == fields


def outbound(**more: Any) -> dict[str, Any]:
    return {"outbound": {"url": "https://a.example/send", **more}}


def inbound(**more: Any) -> dict[str, Any]:
    return {"web_path": "x", "inbound": {"parameters": {"from": "f", "content": "c"}, **more}}


RECEIPTS = {"path": "/r", "parameters": {"provider_id": "id", "status": "s"}, "statuses": {"D": "delivered"}}


@rows(
    ("config", "fields"),
    [
        (outbound(), []),
        (outbound(url="https://a.example/send{?to,content}", method="GET"), []),
        (outbound(url="https://a.example/{key}", secrets={"key": "k"}), []),
        (inbound(), []),
        ({**inbound(), **outbound(id_path="id"), "receipts": RECEIPTS}, []),
        ({}, ["config.inbound"]),
        ({**inbound(), "web_path": None}, ["config.web_path"]),
        (outbound(url="ftp://a.example"), ["config.outbound.url"]),
        (outbound(url="https://{to}.example"), ["config.outbound.url"]),
        (outbound(url="https://u:p@a.example/"), ["config.outbound.url"]),
        (outbound(url="https://a.example/{colour}"), ["config.outbound.url"]),
        (outbound(json={"a": ["{colour}"]}), ["config.outbound.json"]),
        (outbound(form={"a": "{colour}"}), ["config.outbound.form"]),
        (outbound(headers={"X-A": "{colour}"}), ["config.outbound.headers"]),
        (outbound(headers={"X A": "b"}), ["config.outbound.headers"]),
        (outbound(headers={"X-A": "b\r\nX-B: c"}), ["config.outbound.headers"]),
        (outbound(json={}, form={}), ["config.outbound"]),
        (outbound(json={}, method="GET"), ["config.outbound.method"]),
        (outbound(secrets={"to": "x"}), ["config.outbound.secrets.to"]),
        (outbound(secrets={"a-b": "x"}), ["config.outbound.secrets.a-b"]),
        (outbound(username="u"), ["config.outbound.password"]),
        (outbound(success_pattern="("), ["config.outbound.success_pattern"]),
        (outbound(id_pattern="no group"), ["config.outbound.id_pattern"]),
        (outbound(id_pattern="(a)", id_path="b"), ["config.outbound.id_path"]),
        ({**inbound(), **outbound(), "receipts": RECEIPTS}, ["config.outbound.id_path"]),
        ({**inbound(), "receipts": RECEIPTS}, ["config.outbound"]),
        ({**inbound(), **outbound(id_path="i"), "receipts": {**RECEIPTS, "path": "x"}}, ["config.receipts.path"]),
        ({**inbound(), **outbound(id_path="i"), "receipts": {**RECEIPTS, "statuses": {"D": "gone"}}},
         ["config.receipts.statuses.D"]),
        (inbound(reply_in_response=True), ["config.inbound.response"]),
        (inbound(response={"body": "x", "json": {}}), ["config.inbound.response"]),
        (inbound(response={"body": "{colour}"}), ["config.inbound.response"]),
    ],
)  # fmt: skip
def test_http_api_configs(config: dict[str, Any], fields: list[str]) -> None:
    registry = Registry.from_settings({})
    if not fields:
        return registry.validate_config("http_api", config)
    with pytest.raises(InvalidChannelConfig) as raised:
        registry.validate_config("http_api", config)
    assert [field for field, _ in raised.value.problems] == fields


VALUES = {"to": "+27", "content": 'a"b<c>&\x00', "group": None}


def test_a_value_is_a_value_in_every_template() -> None:
    assert mapping.filled("{to}: {content} {group} {{other}}", VALUES) == '+27: a"b<c>&\x00  {{other}}'
    assert mapping.filled("{group}", VALUES) is None
    assert mapping.filled_json({"{to}": ["{to}", "{group}", 5, None]}, VALUES) == {"{to}": ["+27", None, 5, None]}
    assert mapping.filled_xml("<a b='{to}'>{content}{group}</a>", VALUES) == "<a b='+27'>a&quot;b&lt;c&gt;&amp;</a>"


@rows(
    ("said", "path", "expected"),
    [
        ({"a": {"b": ["x", {"c": 5}]}}, "a.b.1.c", "5"),
        ({"a": {"b": ["x"]}}, "a.b.0", "x"),
        ({"a.b": "dotted"}, "a.b", "dotted"),
        ({"a": None}, "a", None),
        ({"a": "x"}, "a.b", None),
        ({"a": ["x"]}, "a.1", None),
        ({"a": ["x"]}, "a.-1", None),
        ({"a": True}, "a", "true"),
        ({"a": {"b": 1}}, "a", '{"b":1}'),
        ({}, "", None),
    ],
)
def test_what_stands_at_a_path(said: Any, path: str, expected: str | None) -> None:
    assert mapping.value_at(said, path) == expected


def test_routes_are_found_as_soon_as_they_are_written(tmp_path: Path) -> None:
    known = Routes(tmp_path / "door")
    assert known.find("/a") is None
    directory = tmp_path / "door"
    directory.mkdir()
    for channel, paths in (("c", ("/a", "/a/health")), ("d", ("/b",))):
        routes.write(directory, Route(channel, paths, 5.0))
    assert [known.find(path) and known.find(path).channel for path in ("/a/", "a", "/a/health", "/b")] == ["c", "c", "c", "d"]  # type: ignore[union-attr]
    (directory / "nonsense.json").write_text('{"channel": 5}')
    routes.write(directory, Route("c", ("/c",), 5.0))
    assert (known.find("/a"), known.find("/c")) == (None, Route("c", ("/c",), 5.0))
    assert routes.owner(directory, "/b", besides="c") == "d"
    assert routes.owner(directory, "/b", besides="d") is None
    for file in routes.files_of(directory, "d"):
        file.unlink(missing_ok=True)
    assert known.find("/b") is None


def test_routes_written_in_the_moment_of_a_look_are_found_at_the_next(tmp_path: Path) -> None:
    """Where the kernel counts time in steps, its directory seems not to have changed since."""
    known, this_moment = Routes(tmp_path), time.time_ns() + 60_000_000_000
    for path in ("/a", "/b"):
        routes.write(tmp_path, Route("a", (path,), 5.0))
        for file in (tmp_path, routes.files_of(tmp_path, "a")[1]):
            os.utime(file, ns=(this_moment, this_moment))
        assert known.find(path) == Route("a", (path,), 5.0)


def test_paths() -> None:
    assert [path_of(each) for each in ("a", "/a", "/a/", "a/b//", "")] == ["/a", "/a", "/a", "/a/b", "/"]


class Store:
    """A channel's, in memory; `away`: Redis is."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}
        self.away = False

    def _look(self) -> None:
        if self.away:
            raise StoreUnavailable("Redis is away")

    async def fields(self, *keys: str) -> list[dict[str, str]]:
        self._look()
        return [dict(self.kept)]

    async def put_fields(self, key: str, fields: dict[str, str], ttl: float, other: str | None = None) -> dict[str, str]:
        self._look()
        self.kept.update(fields)
        return {}

    async def remove_fields(self, key: str, *fields: str) -> None:
        self._look()
        for field in fields:
            self.kept.pop(field, None)


async def test_sessions_outlive_their_process_and_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    store, over = Store(), list[Session]()

    async def ended(session: Session) -> None:
        over.append(session)

    def sessions(timeout: float = 60) -> Sessions:
        return Sessions(store, timeout, ended)  # type: ignore[arg-type]

    before = sessions()
    assert [await before.heard(each, "1", "2") for each in ("a", "b", "a")] == ["new", "new", "resume"]
    assert (await before.end("b"), await before.end("b")) == (True, False)
    after = sessions()
    await after.load()
    assert [await after.heard(each, "1", "2") for each in ("a", "b")] == ["resume", "new"]
    store.away = True
    assert [await after.heard(each, "1", "2") for each in ("c", "c")] == ["new", "resume"]
    blind = sessions()
    await blind.load()
    assert len(blind) == 0
    store.away = False
    monkeypatch.setattr("junebug.transports.sessions.MOST", 3)
    assert await after.heard("d", "1", "2") == "new"
    assert [session.id for session in over] == ["a"], "the oldest makes room"
    quick = sessions(0.05)
    await quick.load()
    watching = asyncio.create_task(quick.watch())
    assert await quick.heard("q", "1", "2") == "new"
    await eventually(lambda: [session.id for session in over][1:] == ["b", "d", "q"], 5, "the silent ones are over")
    watching.cancel()
    await eventually(lambda: not store.kept, 5, "Redis forgets them")
    assert all(session.until <= time.time() + 60 for session in over)


async def test_requests_at_once_begin_one_session() -> None:
    store, over = Store(), list[str]()

    async def ended(session: Session) -> None:
        await asyncio.sleep(0)
        over.append(session.id)

    sessions = Sessions(store, 0.01, ended)  # type: ignore[arg-type]
    for expected in ([], ["a"]):
        assert await asyncio.gather(*(sessions.heard("a", "1", "2") for _ in range(3))) == ["new", "resume", "resume"]
        assert over == expected
        assert [*store.kept] == ["a"]
        await asyncio.sleep(0.02)
