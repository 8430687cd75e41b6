"""Who is let in where: tokens, scopes, hosts, origins, and what is written down of changes (docs/access.md)."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import os
import stat
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from junebug.api import access
from junebug.config.declaration import Settings
from junebug.model.access import ADMIN, READ, SEND, digest
from tests.api.conftest import Api, running_api
from tests.polling import eventually
from tests.servers import RedisServer
from tests.tables import rows

ROOT = "a-token-of-the-settings-0"
ANY, OPEN = "any token", "everybody"
BODY = {"to": "+27", "content": "x"}

C, R, D = "/channels/{channel_id}", "/routers/{router_id}", "/routers/{router_id}/destinations/{destination_id}"
NEEDED: dict[str, dict[str, str | tuple[str, ...]]] = {
    "/channels/": {"GET": READ, "POST": ADMIN},
    C: {"GET": READ, "POST": ADMIN, "DELETE": ADMIN},
    f"{C}/restart": {"POST": ADMIN},
    f"{C}/pause": {"POST": ADMIN},
    f"{C}/resume": {"POST": ADMIN},
    f"{C}/logs": {"GET": READ},
    f"{C}/messages/": {"POST": SEND, "GET": READ, "DELETE": ADMIN},
    f"{C}/messages.json": {"POST": SEND},
    f"{C}/messages/bulk": {"POST": SEND},
    f"{C}/messages/{{message_id}}": {"GET": (READ, SEND), "DELETE": ADMIN},
    f"{C}/messages/{{message_id}}/timeline": {"GET": (READ, SEND)},
    "/routers/": {"GET": READ, "POST": ADMIN},
    R: {"GET": READ, "PUT": ADMIN, "PATCH": ADMIN, "DELETE": ADMIN},
    f"{R}/restart": {"POST": ADMIN},
    f"{R}/logs": {"GET": READ},
    f"{R}/messages/": {"POST": SEND},
    f"{R}/messages.json": {"POST": SEND},
    f"{R}/messages/{{message_id}}": {"GET": (READ, SEND)},
    f"{R}/messages/{{message_id}}/timeline": {"GET": (READ, SEND)},
    f"{R}/destinations/": {"GET": READ, "POST": ADMIN},
    D: {"GET": READ, "PUT": ADMIN, "PATCH": ADMIN, "DELETE": ADMIN},
    f"{D}/logs": {"GET": READ},
    f"{D}/messages/": {"POST": SEND},
    f"{D}/messages.json": {"POST": SEND},
    f"{D}/messages/{{message_id}}": {"GET": (READ, SEND)},
    f"{D}/messages/{{message_id}}/timeline": {"GET": (READ, SEND)},
    "/messages": {"GET": (READ, SEND)},
    **{
        f"{one}/dead-letters/{more}": methods
        for one in (C, R, D)
        for more, methods in {
            "": {"GET": READ, "DELETE": ADMIN}, "replay": {"POST": ADMIN}, "{letter_id}": {"DELETE": ADMIN},
        }.items()
    },
    "/channel-types/": {"GET": READ},
    "/router-types/": {"GET": READ},
    "/console/": {"GET": ANY},
    "/console/{file}": {"GET": ANY},
    "/events/stream": {"GET": READ},
    "/tokens/": {"GET": ADMIN, "POST": ADMIN},
    "/tokens/{token_id}": {"DELETE": ADMIN},
    "/metrics": {"GET": READ},
    "/openapi.json": {"GET": ANY},
    "/docs": {"GET": ANY},
    "/health": {"GET": OPEN},
    "/health/live": {"GET": OPEN},
}  # fmt: skip
"""Path -> method -> the scope that it needs."""
FILTERED = {"/events/stream", "/channels/", "/routers/", "/messages", "/metrics", "/channel-types/", "/router-types/"}
"""Lists that show a token of some channels only these, or what is no channel's."""


def endpoints(api: Api) -> list[tuple[str, str, str | tuple[str, ...]]]:
    """(method, path, what it needs) of every route that there is, in each of its forms; GETs are HEADs, too."""
    found = []
    for route in api.app.router.routes():
        path = route.resource.canonical if route.resource else ""
        plain = path.removeprefix("/jb")
        form = plain if plain in NEEDED else plain.removesuffix("/") if plain.endswith("/") else f"{plain}/"
        needed = NEEDED[form]["GET" if route.method == "HEAD" else route.method]
        is_redirect = form != plain and route.method in ("GET", "HEAD") and needed != OPEN
        found.append((route.method, path, ANY if is_redirect else needed))
    return found


@pytest.fixture
async def guarded(settings: Settings) -> AsyncIterator[Api]:
    async with running_api(dataclasses.replace(settings, admin_token=ROOT), on_loopback=False) as api:
        yield api


def bearer(token: str, scheme: str = "Bearer") -> dict[str, Any]:
    return {"headers": {"Authorization": f"{scheme} {token}"}}


async def make(api: Api, *scopes: str, channels: list[str] | None = None, **more: Any) -> str:
    """A token's text."""
    body = {"name": "of a test", "scopes": scopes, "channels": channels, **more}
    answer = await api("POST", "/tokens/", json=body, **bearer(ROOT))
    assert (answer.status, answer.description) == (201, "token created"), answer.body
    return str(answer.result["token"])


async def test_the_table_has_every_endpoint_and_no_other(guarded: Api) -> None:
    found: dict[str, set[str]] = {}
    for route in guarded.app.router.routes():
        found.setdefault(route.resource.canonical if route.resource else "", set()).add(route.method)
    for path, methods in NEEDED.items():
        both = {path, path.removesuffix("/") if path.endswith("/") else f"{path}/"}
        wanted = {*methods, *({"HEAD"} if "GET" in methods else ())}
        for prefix in ("", "/jb"):
            for form in both:
                assert found.pop(f"{prefix}{form}") == wanted, (prefix, form)
    assert found == {}


async def test_every_scope_against_every_endpoint(guarded: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A made-up id stands in each path: whoever is let in is told that there is none, or that his body is no good."""
    monkeypatch.setattr(access, "PAUSES", 0.0)
    names = ("channel_id", "router_id", "destination_id", "message_id", "letter_id", "token_id", "file")
    ids = {name: f"no-{name}" for name in names}
    mine = [ids["channel_id"], ids["router_id"]]
    tokens: dict[str, tuple[str | None, set[str], str]] = {
        "nobody": (None, set(), "nothing"), "a liar": ("x" * 40, set(), "nothing"),
    }  # fmt: skip
    for scope in (ADMIN, READ, SEND):
        tokens[scope] = (await make(guarded, scope), {scope}, "all")
        tokens[f"{scope} here"] = (await make(guarded, scope, channels=mine), {scope}, "here")
        tokens[f"{scope} there"] = (await make(guarded, scope, channels=["another"]), {scope}, "there")
    tokens["both"] = (await make(guarded, READ, SEND), {READ, SEND}, "all")
    tokens["both here"] = (await make(guarded, READ, SEND, channels=mine), {READ, SEND}, "here")
    wrong, asked = [], 0
    for method, path, needed in endpoints(guarded):
        for who, (token, scopes, where) in tokens.items():
            options = {} if token is None else bearer(token)
            async with guarded.session.request(
                method, guarded.url + path.format(**ids), data=b"", allow_redirects=False, **options
            ) as answer:
                status = answer.status
            may = bool({needed} & {ANY, OPEN} or scopes & {*((needed,) if isinstance(needed, str) else needed), ADMIN})
            is_mine = "{channel_id}" in path or "{router_id}" in path
            is_list = path.removeprefix("/jb") in FILTERED and method != "POST"
            is_there = where == "all" or needed == ANY or is_list or (where == "here" and is_mine)
            refusal = 401 if where == "nothing" else None if may and is_there else 403
            asked += 1
            if (status != 200) if needed == OPEN else (status != refusal) if refusal else (status in (401, 403) or status >= 500):
                wrong.append((method, path, who, status))
    assert wrong == []
    assert asked > 1500


@rows(
    ["header", "is_known"],
    [
        (lambda token: f"Bearer {token}", True),
        (lambda token: f"bearer  {token} ", True),
        (lambda token: f"Token {token}", True),
        (lambda token: "Basic " + base64.b64encode(f"anybody:{token}".encode()).decode(), True),
        (lambda token: "Basic " + base64.b64encode(f"{token}:".encode()).decode(), True),
        (lambda token: "Basic " + base64.b64encode(token.encode()).decode(), True),
        (lambda token: "Basic " + base64.b64encode(f"{token}:x".encode()).decode(), False),
        (lambda token: f"Basic {token}", False),
        (lambda token: "Basic ====", False),
        (lambda token: "Basic " + base64.b64encode(b"\xff:\xff").decode(), False),
        (lambda token: f"Bearer {token}x", False),
        (lambda token: f"Bearer {token[:-1]}", False),
        (lambda token: f"Bearer {token[:-1]}{'a' if token[-1] != 'a' else 'b'}", False),
        (lambda token: f"Bearer {'x' * 5000}", False),
        (lambda token: "Bearer", False),
        (lambda token: "Bearer " + digest(token), False),
        (lambda token: token, False),
        (lambda token: "Digest username=x", False),
    ],
)
async def test_what_a_client_may_send(guarded: Api, monkeypatch: pytest.MonkeyPatch, header: Any, is_known: bool) -> None:
    monkeypatch.setattr(access, "PAUSES", 0.0)
    for token in (ROOT, await make(guarded, ADMIN)):
        answer = await guarded("GET", "/channels/", headers={"Authorization": header(token)})
        assert answer.status == (200 if is_known else 401)
        if not is_known:
            offered = [each.partition(" ")[0] for each in answer.headers.getall("WWW-Authenticate")]
            assert offered == (["Bearer", "Basic"] if header(token).startswith("Basic") else ["Bearer"])
            assert answer.errors[0]["type"] == "NotAuthenticated"
            assert token not in str(answer.body)


async def test_a_token_is_shown_once_and_kept_hashed(guarded: Api) -> None:
    text = await make(guarded, READ, SEND, channels=["c"], expires_at="2999-01-01 00:00")
    (stored,) = (await guarded.stores._redis.run(("HVALS", "api_tokens")))[0]
    assert text not in stored
    assert text.split("_", 2)[2] not in stored
    (shown,) = (await guarded("GET", "/tokens/", **bearer(ROOT))).result
    assert shown == {
        "id": text.split("_")[1], "name": "of a test", "scopes": [READ, SEND], "channels": ["c"],
        "created_at": shown["created_at"], "created_by": "admin_token", "expires_at": "2999-01-01 00:00:00.000000",
    }  # fmt: skip


async def test_a_revoked_token_is_none(guarded: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "PAUSES", 0.0)
    text = await make(guarded, READ)
    assert (await guarded("GET", "/channels/", **bearer(text))).status == 200
    path = f"/tokens/{text.split('_')[1]}"
    assert (await guarded("DELETE", path, **bearer(ROOT))).description == "token revoked"
    await eventually(lambda: _is_refused(guarded, text))
    again = await guarded("DELETE", path, **bearer(ROOT))
    assert (again.status, again.errors[0]["type"]) == (404, "TokenNotFound")


async def _is_refused(api: Api, text: str) -> bool:
    return (await api("GET", "/channels/", **bearer(text))).status == 401


async def test_an_expired_token_is_none(guarded: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "PAUSES", 0.0)
    text = await make(guarded, READ, expires_at="2999-01-01 00:00")
    assert (await guarded("GET", "/channels/", **bearer(text))).status == 200
    monkeypatch.setattr("junebug.model.access.timestamp_now", lambda: "2999-01-01 00:00:00.000001")
    assert await _is_refused(guarded, text)


@rows(
    ["changes", "field"],
    [
        ({"name": None}, "name"),
        ({"name": ""}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"scopes": []}, "scopes"),
        ({"scopes": ["root"]}, "scopes.0"),
        ({"scopes": [READ, READ]}, "scopes"),
        ({"channels": []}, "channels"),
        ({"channels": ["a/b"]}, "channels.0"),
        ({"expires_at": "2020-01-01"}, "expires_at"),
        ({"expires_at": "soon"}, "expires_at"),
        ({"more": 1}, "more"),
    ],
)
async def test_what_no_token_can_be(guarded: Api, changes: dict[str, Any], field: str) -> None:
    body = {"name": "x", "scopes": [READ], **changes}
    answer = await guarded("POST", "/tokens/", json=body, **bearer(ROOT))
    assert (answer.status, answer.errors[0]["type"]) == (400, "invalid_body")
    assert field in answer.errors[0]["message"]
    assert (await guarded("GET", "/tokens/", **bearer(ROOT))).result == []


async def test_a_token_of_some_channels_sees_these_and_takes_no_others(guarded: Api) -> None:
    guarded.session.headers["Authorization"] = f"Bearer {ROOT}"
    mine, other = await guarded.create(mo_url=None), await guarded.create(mo_url=None)
    router, foreign = await guarded.router(channel=mine), await guarded.router()
    text = await make(guarded, ADMIN, channels=[mine, router])
    guarded.session.headers["Authorization"] = f"Bearer {text}"
    assert (await guarded("GET", "/channels/")).result == [mine]
    assert (await guarded("GET", "/routers/")).result == [router]
    assert (await guarded("PATCH", f"/routers/{router}", json={"label": "x"})).status == 200
    for config in ({"channel": other}, {"channel": "none"}):
        answer = await guarded("PATCH", f"/routers/{router}", json={"config": config})
        assert (answer.status, answer.errors[0]["type"]) == (403, "NotAllowed")
    assert (await guarded("GET", f"/routers/{foreign}")).status == 403


async def test_a_destinations_token_is_for_it_alone(guarded: Api) -> None:
    guarded.session.headers["Authorization"] = f"Bearer {ROOT}"
    router = await guarded.router()
    mine, other = await guarded.destination(router), await guarded.destination(router)
    guarded.session.headers["Authorization"] = f"Bearer {await make(guarded, SEND, channels=[mine])}"
    path = f"/routers/{router}/destinations"
    sent = await guarded("POST", f"{path}/{mine}/messages/", json=BODY)
    assert sent.status == 201
    assert (await guarded("GET", f"{path}/{mine}/messages/{sent.result['message_id']}")).status == 200
    assert (await guarded("POST", f"{path}/{other}/messages/", json=BODY)).status == 403


# --- without a token --------------------------------------------------------------------------------------------------


async def test_a_stranger_is_told_of_health_no_more_than_the_status(own_redis: RedisServer, guarded: Api) -> None:
    for options, result in (({}, {}), (bearer("x"), {}), (bearer(ROOT), {"redis": "ok", "amqp": "ok"})):
        answer = await guarded("GET", "/health", **options)
        assert (answer.status, answer.result) == (200, result)
    own_redis.kill()
    async with guarded.session.get(f"{guarded.url}/health") as response:
        assert (response.status, (await response.json())["result"]) == (503, {})
    assert (await guarded("GET", "/health", **bearer(ROOT))).result["redis"] == "down"
    assert (await guarded("GET", "/nowhere")).status == 401
    assert (await guarded("GET", "/nowhere", **bearer(ROOT))).status == 404


async def test_redis_away_keeps_nobody_out_whom_it_let_in(own_redis: RedisServer, guarded: Api) -> None:
    text = await make(guarded, ADMIN)
    assert (await guarded("GET", "/health", **bearer(text))).result["redis"] == "ok"
    own_redis.kill()
    assert (await guarded("GET", "/channels/", **bearer(text))).errors[0]["type"] == "StoreUnavailable"
    assert (await guarded("GET", "/health", **bearer(text))).result["redis"] == "down"


@rows(
    ["settings_of", "on_loopback", "header", "status"],
    [
        ({}, True, None, 200),
        ({}, True, "Basic dXNlcjpwYXNz", 200),  # what was in an old client's URL
        ({}, True, "Bearer jb_0123456789ab_" + "x" * 43, 401),
        ({}, False, None, 401),
        ({"require_auth": True}, True, None, 401),
        ({"require_auth": True}, True, "Basic dXNlcjpwYXNz", 401),
        ({"no_auth": True}, False, None, 200),
        ({"no_auth": True}, False, "Bearer jb_0123456789ab_" + "x" * 43, 200),
        ({"admin_token": f"sha256:{digest(ROOT)}"}, False, f"Bearer {ROOT}", 200),
        ({"admin_token": f"sha256:{digest(ROOT)}"}, False, f"Bearer {digest(ROOT)}", 401),
    ],
)
async def test_where_a_token_is_needed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, settings_of: dict[str, Any], on_loopback: bool, header: str | None,
    status: int,
) -> None:  # fmt: skip
    monkeypatch.setattr(access, "PAUSES", 0.0)
    async with running_api(dataclasses.replace(settings, **settings_of), on_loopback=on_loopback) as api:
        answer = await api("GET", "/channels/", headers={} if header is None else {"Authorization": header})
        assert answer.status == status


async def test_failed_attempts_are_told_slowed_and_bounded(
    guarded: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    slept: list[float] = []
    waiting = asyncio.Event()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await waiting.wait()

    monkeypatch.setattr(access.asyncio, "sleep", sleep)
    attempts = access.FailedAttempts()
    tasks = [asyncio.create_task(attempts.failed("10.0.0.1")) for _ in range(access.MOST_WAITING)]
    while len(slept) < access.MOST_WAITING:
        await asyncio.wait(tasks, timeout=0.01)
    assert slept[:7] == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
    with pytest.raises(access.TooManyAttempts):
        await attempts.failed("10.0.0.2")
    waiting.set()
    await asyncio.gather(*tasks)
    await attempts.failed("10.0.0.2")
    assert (slept[-1], attempts.total) == (0.2, access.MOST_WAITING + 2)
    for number in range(access.MOST_ADDRESSES + 10):
        await attempts.failed(f"address {number}")
    assert len(attempts._of) == access.MOST_ADDRESSES
    told = [line for line in capsys.readouterr().out.splitlines() if "refused" in line and "10.0.0.1" in line]
    assert len(told) == 6  # 1, 2, 4, 8, 16, 32


# --- browsers ---------------------------------------------------------------------------------------------------------


@rows(
    ["host", "allowed", "is_answered"],
    [
        ("localhost:8080", [], True),
        ("LOCALHOST", [], True),
        ("127.0.0.1:1", [], True),
        ("127.9.9.9", [], True),
        ("[::1]:8080", [], True),
        ("[::ffff:127.0.0.1]:8080", [], True),
        ("[::ffff:10.0.0.1]:8080", [], False),
        ("junebug.localhost", [], True),
        ("attacker.example", [], False),
        ("attacker.example:8080", [], False),
        ("localhost.attacker.example", [], False),
        ("127.0.0.1.attacker.example", [], False),
        ("10.0.0.1", [], False),
        ("x", [], False),
        ("gateway.example", ["gateway.example"], True),
        ("Gateway.Example:443", ["gateway.example"], True),
        ("attacker.example", ["gateway.example"], False),
        ("attacker.example", ["*"], True),
    ],
)
async def test_on_loopback_only_our_own_names_are_answered(
    settings: Settings, host: str, allowed: list[str], is_answered: bool
) -> None:
    async with running_api(dataclasses.replace(settings, allowed_hosts=allowed, admin_token=ROOT)) as api:
        answer = await api("GET", "/channels/", headers={"Host": host})
        assert answer.status == (200 if is_answered else 403)
        if not is_answered:
            assert answer.errors[0]["type"] == "HostNotAllowed"
        assert (await api("GET", "/health", headers={"Host": host})).status == 200


@rows(
    ["headers", "allowed", "is_ours"],
    [
        ({}, [], True),
        ({"Origin": "http://localhost:8080", "Host": "localhost:8080"}, [], True),
        ({"Origin": "HTTP://Localhost:8080", "Host": "localhost:8080"}, [], True),
        ({"Origin": "http://localhost:3000", "Host": "localhost:8080"}, [], False),
        ({"Origin": "http://attacker.example"}, [], False),
        ({"Origin": "null"}, [], False),
        ({"Origin": ""}, [], False),
        ({"Origin": "https://gateway.example"}, ["gateway.example"], True),
        ({"Origin": "https://gateway.example:8443"}, ["gateway.example"], True),
        ({"Origin": "https://attacker.example"}, ["gateway.example"], False),
        ({"Origin": "https://anybody.example"}, ["*"], True),
        ({"Origin": "null"}, ["*"], False),
        ({"Sec-Fetch-Site": "cross-site"}, [], False),
        ({"Sec-Fetch-Site": "same-site"}, [], False),
        ({"Sec-Fetch-Site": "same-origin"}, [], True),
        ({"Sec-Fetch-Site": "none"}, [], True),
    ],
)
async def test_another_sites_page_changes_nothing(
    settings: Settings, headers: dict[str, str], allowed: list[str], is_ours: bool
) -> None:
    async with running_api(dataclasses.replace(settings, allowed_hosts=allowed, admin_token=ROOT)) as api:
        form = orjson.dumps({"type": "plain", "config": {}})
        for more in ({}, {"Authorization": f"Bearer {ROOT}"}):
            answer = await api("POST", "/channels/", data=form, headers={"Content-Type": "text/plain", **headers, **more})
            assert answer.status == (201 if is_ours else 403)
            if not is_ours:
                assert answer.errors[0]["type"] == "OriginNotAllowed"
        assert (await api("GET", "/channels/", headers={name: headers[name] for name in headers if name != "Host"})).status == 200


# --- the audit log ----------------------------------------------------------------------------------------------------


def audited(api: Api) -> list[dict[str, Any]]:
    path = api.settings.log_dir / "audit.log"
    return [orjson.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


async def test_each_change_is_written_down_with_who_made_it(guarded: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    guarded.session.headers["Authorization"] = f"Bearer {ROOT}"
    before = len(audited(guarded))
    secret = "whsec_" + base64.b64encode(b"s" * 24).decode()
    given = {"type": "guarded", "config": {"user": "u", "password": "hunter2"}, "mo_url": "http://me:hunter3@127.0.0.1/"}
    channel = (await guarded("POST", "/channels/", json=given)).result["id"]
    text = await make(guarded, ADMIN, channels=[channel])
    guarded.session.headers["Authorization"] = f"Bearer {text}"
    await guarded("POST", f"/channels/{channel}", json={"label": "new", "callback_secret": secret})
    await guarded("POST", f"/channels/{channel}", json={"config": {"user": "u", "password": "hunter4"}})
    await guarded("POST", f"/channels/{channel}", json={"label": 1})  # refused: nothing changed
    await guarded("GET", f"/channels/{channel}")
    await guarded("POST", f"/channels/{channel}/messages/", json=BODY)
    await guarded("DELETE", f"/channels/{channel}")
    created, token, labelled, changed, deleted = audited(guarded)[before:]
    assert (created["who"], created["action"], created["status"]) == ("admin_token", "POST /channels/", 201)
    assert created["channel_id"] == channel
    assert created["changes"]["config"] == {"from": None, "to": {"user": "u", "password": "********"}}
    assert (token["action"], token["token"]["channels"]) == ("POST /tokens/", [channel])
    assert (labelled["who"], labelled["token_id"], labelled["from"]) == ("of a test", text.split("_")[1], "127.0.0.1")
    assert labelled["changes"] == {
        "label": {"from": None, "to": "new"}, "callback_secret": {"from": None, "to": "********"},
    }  # fmt: skip
    masked = {"user": "u", "password": "********"}
    assert changed["changes"] == {"config": {"from": masked, "to": masked}}
    assert (deleted["action"], deleted["channel_id"]) == ("DELETE /channels/{channel_id}", channel)
    raw = (guarded.settings.log_dir / "audit.log").read_text()
    for hidden in ("hunter", secret, text, ROOT):
        assert hidden not in raw
    assert stat.S_IMODE(os.stat(guarded.settings.log_dir / "audit.log").st_mode) == 0o600


async def test_changes_of_routers_and_destinations_are_written_down(api: Api) -> None:
    before = len(audited(api))
    router = await api.router("guarded", channel=await api.create(mo_url=None), password="hunter2")
    destination = await api.destination(router, config={"word": "a", "key": "hunter3"})
    await api("PATCH", f"/routers/{router}", json={"label": "x"})
    await api("PATCH", f"/routers/{router}/destinations/{destination}", json={"label": "y"})
    await api("DELETE", f"/routers/{router}/destinations/{destination}")
    _, made, behind, changed, renamed, gone = audited(api)[before:]
    assert {line["who"] for line in (made, behind, changed, renamed, gone)} == {"local"}
    assert (made["router_id"], behind["destination_id"]) == (router, destination)
    assert made["changes"]["config"]["to"]["password"] == behind["changes"]["config"]["to"]["key"] == "********"
    assert (changed["changes"], renamed["changes"]) == (
        {"label": {"from": None, "to": "x"}}, {"label": {"from": None, "to": "y"}},
    )  # fmt: skip
    assert (gone["action"], gone["destination_id"]) == ("DELETE /routers/{router_id}/destinations/{destination_id}", destination)


async def test_an_audit_log_that_takes_nothing_stops_nobody(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    path = api.settings.log_dir / "audit.log"
    path.unlink(missing_ok=True)
    path.mkdir()
    channel = await api.create()
    told = [line for line in capsys.readouterr().out.splitlines() if "the audit log takes nothing" in line]
    assert len(told) == 1
    assert channel in told[0]


