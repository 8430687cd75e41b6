"""Endpoints of routers, as a client sees them."""

from __future__ import annotations

import asyncio
import functools
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from junebug import names
from junebug.amqp.rpc import Answer as Told
from junebug.amqp.rpc import Arguments, RpcServer
from junebug.logs.redaction import REDACTED
from junebug.model.messages import Status
from junebug.stores.channels import ChannelStore
from junebug.stores.routers import RouterStore
from tests.api.conftest import Answer, Api
from tests.api.test_channels import RATES, UNKNOWN
from tests.tables import rows

NEW_STATUS = {
    "status": None, "components": {}, **dict.fromkeys((*RATES, "dropped_message_rate"), 0.0),
    "callbacks_waiting": 0, "dead_letters": 0,
}  # fmt: skip


@pytest.fixture
async def channel(api: Api) -> str:
    """One that a router may have."""
    return await api.create(mo_url=None)


@asynccontextmanager
async def process(api: Api, router: str, generation: int = 1) -> AsyncIterator[list[Any]]:
    """A router's process as far as the API sees it; the labels of the destinations that it was told to read again."""
    told: list[Any] = []

    async def refresh(arguments: Arguments) -> Told:
        ids = arguments["destinations"]
        found = await api.stores.routers.some_destinations(router, ids)
        told.append({id: spec and spec.label for id, spec in found.items()})
        return {}

    server = RpcServer(api.broker, router, generation)
    await server.start()
    server.begin({"refresh": refresh}, lambda: None)
    try:
        yield told
    finally:
        await server.end()
        await server.stop()


async def test_a_created_router_is_answered_with_its_properties_id_and_status(api: Api, channel: str) -> None:
    given = {"type": "from_address", "label": "Shared", "config": {"channel": channel}, "metadata": {"owner": "x"}}
    answer = await api("POST", "/routers/", json=given)
    assert (answer.status, answer.description) == (201, "router created")
    router = answer.result["id"]
    assert str(uuid.UUID(router)) == router
    shown = {**given, "id": router, "status": NEW_STATUS}
    assert answer.result == shown
    found = await api("GET", f"/routers/{router}")
    assert (found.status, found.description, found.result) == (200, "router found", shown)
    stored, ids = await api.stores._redis.run(("GET", f"{router}:properties"), ("SMEMBERS", "routers"))
    assert (orjson.loads(stored), list(ids)) == (given, [router])
    for queue in names.router_queues(router):
        await api.broker.publish(queue, b"{}")  # would raise Unroutable


async def test_what_was_read_can_be_sent_back(api: Api) -> None:
    router = await api.router()
    shown = (await api("GET", f"/routers/{router}")).result
    for method, path in (("PATCH", f"/routers/{router}"), ("PUT", f"/routers/{router}")):
        answer = await api(method, path, json=shown)
        assert (answer.status, answer.description) == (200, "router updated")
        assert {**answer.result, "status": {}} == {**shown, "status": {}}  # counts that take long are not told
    assert (await api.stores.routers.get(router)).generation == 1


async def test_the_list_is_the_sorted_ids_alone(api: Api) -> None:
    assert (await api("GET", "/routers/")).result == []
    ids = [await api.router() for _ in range(3)]
    answer = await api("GET", "/routers/")
    assert (answer.status, answer.description, answer.result) == (200, "routers retrieved", sorted(ids))
    assert len((await api("GET", "/channels/")).result) == 3  # a router is none


async def test_an_id_of_the_callers_is_ignored(api: Api, channel: str) -> None:
    body = {"type": "from_address", "config": {"channel": channel}, "id": "mine", "status": {}}
    assert (await api("POST", "/routers/", json=body)).result["id"] != "mine"


@rows(
    ("body", "error", "message"),
    [
        ({"config": {}}, "invalid_body", "type"),
        ({"type": "from_address"}, "invalid_body", "config"),
        ({"type": "from_address", "config": []}, "invalid_body", "config: "),
        ({"type": 1, "config": {}}, "invalid_body", "type: "),
        ({"type": "from_address", "config": {}, "label": 1}, "invalid_body", "label: "),
        ({"type": "from_address", "config": {}, "metadata": 1}, "invalid_body", "metadata: "),
        ({"type": "from_address", "config": {}, "mo_url": "http://a/"}, "invalid_body", "mo_url"),
        ([], "invalid_body", "object"),
        (
            {"type": "nope", "config": {}},
            "InvalidRouterType",
            "Invalid router type 'nope', must be one of: from_address, guarded, keyword, outbound",
        ),
        ({"type": "from_address", "config": {}}, "InvalidRouterConfig", '"channel" is a required property'),
        ({"type": "from_address", "config": {"channel": 1}}, "InvalidRouterConfig", "config.channel: "),
        ({"type": "from_address", "config": {"channel": UNKNOWN}}, "InvalidRouterConfig",
         f"config.channel: Channel {UNKNOWN} does not exist"),
        ({"type": "keyword", "config": {"channel": "no id*"}}, "InvalidRouterConfig",
         "config.channel: Channel no id* does not exist"),
        ({"type": "outbound", "config": {"channels": [{"channel": UNKNOWN}, {"channel": "*"}]}}, "InvalidRouterConfig",
         f"config.channels.0.channel: Channel {UNKNOWN} does not exist"),
    ],
)  # fmt: skip
async def test_a_bad_router_is_refused(api: Api, body: Any, error: str, message: str) -> None:
    answer = await api("POST", "/routers/", json=body)
    assert answer.status == 400
    assert answer.errors[0]["type"] == error
    assert message in answer.errors[0]["message"]
    assert (await api("GET", "/routers/")).result == []


async def test_every_channel_that_is_missing_is_named(api: Api, channel: str) -> None:
    config = {"channels": [{"channel": UNKNOWN}, {"channel": channel}, {"channel": "gone"}]}
    answer = await api("POST", "/routers/", json={"type": "outbound", "config": config})
    assert [each["field"] for each in answer.errors] == ["config.channels.0.channel", "config.channels.2.channel"]
    assert answer.description == "invalid router config"


@rows("destination", [{"mo_url": "http://127.0.0.1:1/"}, {"amqp_queue": "apps"}])
async def test_a_channel_with_a_destination_of_its_own_has_no_router(api: Api, destination: dict[str, str]) -> None:
    channel = await api.create(**{"mo_url": None, **destination})
    answer = await api("POST", "/routers/", json={"type": "from_address", "config": {"channel": channel}})
    (error,) = answer.errors
    assert (answer.status, error["type"], error["field"]) == (400, "InvalidRouterConfig", "config.channel")
    assert error["message"] == f"config.channel: Channel {channel} already has a destination specified"


async def test_a_channel_has_one_router_at_most(api: Api, channel: str) -> None:
    router = await api.router(channel=channel)
    answer = await api("POST", "/routers/", json={"type": "keyword", "config": {"channel": channel}})
    assert answer.status == 400
    assert answer.errors[0]["message"] == f"config.channel: Router {router} is already routing channel {channel}"
    other = await api.router()
    answer = await api("PATCH", f"/routers/{other}", json={"config": {"channel": channel}})
    assert answer.errors[0]["message"] == f"config.channel: Router {router} is already routing channel {channel}"
    assert (await api("GET", f"/routers/{other}")).result["config"]["channel"] != channel


async def test_two_that_want_the_same_channel_at_once(api: Api, channel: str) -> None:
    body = {"type": "from_address", "config": {"channel": channel}}
    answers = await asyncio.gather(*(api("POST", "/routers/", json=body) for _ in range(8)))
    assert sorted(answer.status for answer in answers) == [201] + [400] * 7


async def test_a_routed_channel_says_so_and_takes_no_destination_of_its_own(api: Api, channel: str) -> None:
    assert "router" not in (await api("GET", f"/channels/{channel}")).result["status"]
    router = await api.router(channel=channel)
    assert (await api("GET", f"/channels/{channel}")).result["status"]["router"] == router
    for change in ({"mo_url": "http://127.0.0.1:1/"}, {"amqp_queue": "apps"}):
        answer = await api("POST", f"/channels/{channel}", json=change)
        (error,) = answer.errors
        assert (answer.status, error["type"]) == (400, "ApiUsageError")
        assert router in error["message"]
        assert next(iter(change)) in error["message"]
    answer = await api("POST", f"/channels/{channel}", json={"label": "still", "mo_url": None})
    assert (answer.status, answer.result["status"]["router"]) == (200, router)
    sent = await api("POST", f"/channels/{channel}/messages/", json={"to": "1", "content": "x"})
    assert sent.errors[0]["message"] == 'This channel has no "mo_url" or "amqp_queue"'


def just_before(monkeypatch: pytest.MonkeyPatch, store: Any, method: str, doing: Callable[[], Awaitable[Answer]]) -> None:
    """Of somebody else: done when a request has read what it goes by, and is about to write."""
    write = getattr(store, method)

    async def after_it(self: Any, *args: Any, **options: Any) -> Any:
        monkeypatch.setattr(store, method, write)
        assert (await doing()).status < 300
        return await write(self, *args, **options)

    monkeypatch.setattr(store, method, after_it)


@rows(
    ["change", "why"],
    [
        (("POST", {"mo_url": "http://127.0.0.1:1/"}), "already has a destination"),
        (("POST", {"amqp_queue": "apps"}), "already has a destination"),
        (("DELETE", None), "does not exist"),
    ],
)
@rows("to", ["new", "other"])
async def test_a_router_takes_no_channel_that_changes_meanwhile(
    api: Api, monkeypatch: pytest.MonkeyPatch, change: tuple[str, Any], why: str, to: str
) -> None:
    channel, (method, body) = await api.create(mo_url=None), change
    router = await api.router() if to == "other" else ""
    before = (await api("GET", "/routers/")).result
    doing = functools.partial(api, method, f"/channels/{channel}", json=body)
    just_before(monkeypatch, RouterStore, "update" if router else "create", doing)
    wanted = {"type": "from_address", "config": {"channel": channel}}
    taking = await api(*(("PATCH", f"/routers/{router}") if router else ("POST", "/routers/")), json=wanted)
    assert (taking.status, taking.errors[0]["type"]) == (400, "InvalidRouterConfig")
    assert why in taking.errors[0]["message"]
    assert (await api("GET", "/routers/")).result == before
    if method == "POST":
        left = (await api("GET", f"/channels/{channel}")).result
        assert ("router" in left["status"], body.items() <= left.items()) == (False, True)


@rows("change", [{"mo_url": "http://127.0.0.1:1/"}, {"amqp_queue": "apps"}])
@rows("to", ["new", "other"])
async def test_a_channel_that_a_router_takes_meanwhile_gets_no_application(
    api: Api, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], to: str
) -> None:
    channel = await api.create(mo_url=None)
    other = await api.router() if to == "other" else ""
    wanted = {"type": "from_address", "config": {"channel": channel}}
    request = ("PATCH", f"/routers/{other}") if other else ("POST", "/routers/")
    just_before(monkeypatch, ChannelStore, "update", functools.partial(api, *request, json=wanted))
    answer = await api("POST", f"/channels/{channel}", json=change)
    router = (await api("GET", f"/channels/{channel}")).result["status"]["router"]
    assert (answer.status, answer.errors[0]["type"]) == (400, "ApiUsageError")
    assert router in answer.errors[0]["message"]
    left = (await api("GET", f"/channels/{channel}")).result
    assert (left.get("mo_url"), left.get("amqp_queue")) == (None, None)


async def uninstall(api: Api, router: str) -> None:
    """Make its type one that nobody knows."""
    stored = (await api.stores.routers.get(router)).to_properties()
    await api.stores._redis.run(("SET", names.channel_properties(router), orjson.dumps({**stored, "type": "gone"})))


@rows("how", ["deleted", "retyped", "another channel", "sends only"])
async def test_a_router_whose_type_is_gone_leaves_its_channel_free(api: Api, how: str) -> None:
    channel, another = await api.create(mo_url=None), await api.create(mo_url=None)
    router, kept = await api.router(channel=channel), await api.router()
    await uninstall(api, router)
    changes: dict[str, dict[str, Any]] = {
        "retyped": {"type": "keyword", "config": {"channel": another}},
        "another channel": {"type": "from_address", "config": {"channel": another}},
        "sends only": {"type": "outbound", "config": {"channels": [{"channel": channel}]}},
    }
    if how == "deleted":
        answer = await api("DELETE", f"/routers/{router}")
    else:
        answer = await api("PATCH", f"/routers/{router}", json=changes[how])
    assert answer.status == 200, answer.body
    assert "router" not in (await api("GET", f"/channels/{channel}")).result["status"]
    await api.router(channel=channel)
    held = (await api.stores.routers.get(kept)).config["channel"]
    assert (await api("GET", f"/channels/{held}")).result["status"]["router"] == kept
    if how in ("retyped", "another channel"):
        assert (await api("GET", f"/channels/{another}")).result["status"]["router"] == router


async def test_a_router_whose_type_is_gone_keeps_the_channel_that_it_has(api: Api, channel: str) -> None:
    router = await api.router(channel=channel)
    await uninstall(api, router)
    assert (await api("PATCH", f"/routers/{router}", json={"label": "still there"})).status == 200
    assert (await api("PATCH", f"/routers/{router}", json={"type": "keyword"})).status == 200
    assert (await api("GET", f"/channels/{channel}")).result["status"]["router"] == router


async def test_destinations_of_a_router_whose_type_is_gone_can_be_seen_and_deleted(api: Api, channel: str) -> None:
    router = await api.router("keyword", channel=channel)
    first = await api.destination(router, config={"keyword": "join", "aliases": ["start"], "default": True})
    second = await api.destination(router, config={"keyword": "stop"})
    await uninstall(api, router)
    path = f"/routers/{router}/destinations"
    assert (await api("GET", f"{path}/{first}")).result["config"] == dict.fromkeys(("keyword", "aliases", "default"), REDACTED)
    answer = await api("PATCH", f"{path}/{first}", json={"config": {"keyword": "join"}})
    assert (answer.status, answer.errors[0]["type"]) == (400, "InvalidRouterType")
    assert (await api("DELETE", f"{path}/{first}")).status == 200
    assert (await api("DELETE", f"{path}/{second}")).status == 200
    assert (await api("PATCH", f"/routers/{router}", json={"type": "keyword"})).status == 200
    await api.destination(router, config={"keyword": "stop", "aliases": ["start", "join"], "default": True})


async def test_a_deleted_router_leaves_its_channel_free(api: Api, channel: str) -> None:
    router = await api.router(channel=channel)
    destination = await api.destination(router)
    answer = await api("DELETE", f"/routers/{router}")
    assert (answer.status, answer.description, answer.result) == (200, "router deleted", {})
    for path in ("", "/destinations/", f"/destinations/{destination}", "/logs", "/dead-letters/"):
        assert (await api("GET", f"/routers/{router}{path}")).errors[0]["type"] == "RouterNotFound"
    assert (await api("DELETE", f"/routers/{router}")).status == 404
    assert (await api("POST", f"/channels/{channel}", json={"mo_url": "http://127.0.0.1:1/"})).status == 200
    await api("POST", f"/channels/{channel}", json={"mo_url": None})
    await api.router(channel=channel)


async def test_a_put_replaces_and_a_patch_changes(api: Api, channel: str) -> None:
    router = await api.router(channel=channel)
    path = f"/routers/{router}"
    await api("PATCH", path, json={"label": "a", "metadata": {"b": 1}})
    changed = await api("PATCH", path, json={"label": "c"})
    assert (changed.result["label"], changed.result["metadata"]) == ("c", {"b": 1})
    answer = await api("PUT", path, json={"type": "from_address", "config": {"channel": channel}})
    assert (answer.status, answer.description) == (200, "router updated")
    assert set(answer.result) == {"id", "type", "config", "status"}
    assert (await api("GET", path)).result == answer.result
    for body in ({"config": {"channel": channel}}, {"type": "from_address"}):
        assert (await api("PUT", path, json=body)).errors[0]["type"] == "invalid_body"
    assert (await api("POST", path, json={"label": "x"})).status == 405


async def test_only_a_changed_type_or_config_starts_it_afresh(api: Api) -> None:
    router, other = await api.router(), await api.create(mo_url=None)
    before = (await api.stores.routers.get(router)).config["channel"]

    async def generation(**change: Any) -> int:
        assert (await api("PATCH", f"/routers/{router}", json=change)).status == 200
        return (await api.stores.routers.get(router)).generation

    assert await generation(label="new", metadata={"a": 1}) == 1
    assert await generation(config={"channel": before}) == 1
    assert await generation(config={"channel": other}) == 2
    assert await generation(type="keyword") == 3
    assert "router" not in (await api("GET", f"/channels/{before}")).result["status"]
    assert (await api("GET", f"/channels/{other}")).result["status"]["router"] == router
    await api.router(channel=before)


async def test_the_type_of_a_router_with_destinations_stays(api: Api) -> None:
    router = await api.router()
    destination = await api.destination(router)
    answer = await api("PATCH", f"/routers/{router}", json={"type": "keyword"})
    assert (answer.status, answer.errors[0]["type"]) == (400, "ApiUsageError")
    await api("DELETE", f"/routers/{router}/destinations/{destination}")
    assert (await api("PATCH", f"/routers/{router}", json={"type": "keyword"})).status == 200


async def test_many_changes_at_a_time_all_get_through(api: Api) -> None:
    router = await api.router()
    fields = ({"label": "x"}, {"metadata": {"a": 1}})
    answers = await asyncio.gather(*(api("PATCH", f"/routers/{router}", json=fields[n % 2]) for n in range(20)))
    assert {answer.status for answer in answers} == {200}
    shown = (await api("GET", f"/routers/{router}")).result
    assert (shown["label"], shown["metadata"]) == ("x", {"a": 1})


async def test_a_restart_is_waited_for(api: Api) -> None:
    router = await api.router()
    async with process(api, router):
        asked = asyncio.create_task(api("POST", f"/routers/{router}/restart"))
        async with asyncio.timeout(5):
            while (await api.stores.routers.get(router)).generation == 1:
                await asyncio.sleep(0.01)
        await asyncio.wait([asked], timeout=0.3)
        assert not asked.done()
    answer = await asked
    assert (answer.status, answer.description, answer.result) == (200, "router restarted", {})
    channel = await api.create()
    for unknown in (UNKNOWN, channel):
        assert (await api("POST", f"/routers/{unknown}/restart")).errors[0]["type"] == "RouterNotFound"
    assert (await api.stores.channels.get(channel)).generation == 1


async def test_the_status_is_what_the_process_said(api: Api) -> None:
    router = await api.router()
    status = Status(channel_id=router, component="routing", status="degraded", type="dropped", message="2 dropped")
    await api.stores.statuses.put(status)
    await api.broker.publish(names.callback_queue(router), b"{}")
    await api.broker.publish(names.dead_queue(router), b"{}")
    shown = (await api("GET", f"/routers/{router}")).result["status"]
    assert (shown["status"], shown["callbacks_waiting"], shown["dead_letters"]) == ("degraded", 1, 1)
    assert shown["components"]["routing"]["type"] == "dropped"
    now = 1_000_000.0
    await api.stores.rates.add(router, {"dropped_message": 3, "inbound_message": 5}, now)
    assert (await api.stores.rates.rates(router, now + 1))["dropped_message"] == 3


async def test_secrets_are_masked_and_what_was_read_can_be_sent_back(api: Api, channel: str) -> None:
    config = {"channel": channel, "password": "s3cret-word"}
    shown = (await api("POST", "/routers/", json={"type": "guarded", "config": config})).result
    path, masked = f"/routers/{shown['id']}", {**config, "password": "********"}
    assert shown["config"] == masked
    for method in ("PUT", "PATCH"):
        assert (await api(method, path, json=shown)).result["config"] == masked
        assert (await api.stores.routers.get(shown["id"])).config == config
    answer = await api("PATCH", path, json={"config": {**masked, "password": "other-word"}})
    assert answer.result["config"] == masked
    assert (await api.stores.routers.get(shown["id"])).config["password"] == "other-word"
    answer = await api("POST", "/routers/", json={"type": "guarded", "config": {"password": "********"}})
    assert (answer.status, answer.errors[0]["field"]) == (400, "config.password")


async def test_logs_are_shown_without_secrets(api: Api, channel: str) -> None:
    body = {"type": "guarded", "config": {"channel": channel, "password": "s3cret-word"}}
    router = (await api("POST", "/routers/", json=body)).result["id"]
    destinations = [
        await api.destination(router, config={"key": f"key-{n}-secret"}, mo_url_auth_token=f"tok3n-{n}") for n in range(2)
    ]
    path = api.log_path(router)
    entries = [
        {"logger": "router", "message": "s3cret-word and key-0-secret and tok3n-1", "message_id": "m1"},
        {"logger": "router", "message": "one", "destination_id": destinations[0], "message_id": "m1"},
        {"logger": "router", "message": "two", "destination_id": destinations[1], "message_id": "m2"},
        {"logger": "router", "message": "three", "destination_id": destinations[0], "message_id": "m2"},
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(orjson.dumps(entry) + b"\n" for entry in entries))

    async def messages(where: str) -> list[str]:
        answer = await api("GET", f"/routers/{router}{where}")
        assert (answer.status, answer.description) == (200, "logs retrieved")
        return [entry["message"] for entry in answer.result]

    assert await messages("/logs") == ["three", "two", "one", "******** and ******** and ********"]
    assert await messages("/logs?n=1") == ["three"]
    assert await messages("/logs?message_id=m1") == ["one", "******** and ******** and ********"]
    assert await messages(f"/destinations/{destinations[0]}/logs") == ["three", "one"]
    assert await messages(f"/destinations/{destinations[0]}/logs?message_id=m2&n=5") == ["three"]
    assert (await api("GET", f"/routers/{router}/logs?n=x")).status == 400
    assert (await api("GET", f"/routers/{router}/destinations/{UNKNOWN}/logs")).errors[0]["type"] == "DestinationNotFound"


@rows("router", [UNKNOWN, "no%20id", "a" * 200, "*"])
@rows(
    ("method", "path"),
    [
        ("GET", ""), ("PUT", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/restart"), ("GET", "/logs"),
        ("GET", "/destinations/"), ("POST", "/destinations/"), ("GET", "/destinations/x"), ("PUT", "/destinations/x"),
        ("PATCH", "/destinations/x"), ("DELETE", "/destinations/x"), ("GET", "/destinations/x/logs"),
        ("POST", "/destinations/x/messages/"), ("GET", "/destinations/x/messages/m"), ("POST", "/messages/"),
        ("GET", "/messages/m"), ("GET", "/dead-letters/"), ("DELETE", "/dead-letters/"), ("POST", "/dead-letters/replay"),
        ("DELETE", "/dead-letters/x"), ("GET", "/destinations/x/dead-letters/"),
    ],
)  # fmt: skip
async def test_what_is_no_router_is_not_found(api: Api, router: str, method: str, path: str) -> None:
    body: dict[str, Any] = {"config": {"channel": "c"}, "type": "from_address"} if method in ("PUT", "PATCH") else {"config": {}}
    if "destinations/" in path:
        body = {"config": {}}
    if "messages/" in path:
        body = {"to": "1", "content": "x"}
    if "dead-letters" in path:
        body = {}
    answer = await api(method, f"/routers/{router}{path}", json=body)
    assert (answer.status, answer.description, answer.errors[0]["type"]) == (404, "router not found", "RouterNotFound")


async def test_both_forms_and_the_prefix_are_served(api: Api, channel: str) -> None:
    body = {"type": "from_address", "config": {"channel": channel}}
    router = (await api("POST", "/jb/routers", json=body)).result["id"]
    moved = await api("GET", "/routers")
    assert (moved.status, moved.headers["Location"]) == (301, "/routers/")
    assert (await api("GET", f"/jb/routers/{router}")).status == 200
    assert (await api("GET", f"/routers/{router}/")).headers["Location"] == f"/routers/{router}"
    assert (await api("PATCH", f"/routers/{router}/", json={"label": "x"})).result["label"] == "x"
    assert (await api("POST", f"/routers/{router}/restart/")).status == 200
    assert (await api("DELETE", f"/jb/routers/{router}/")).status == 200
