"""Endpoints of destinations, as a client sees them."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest

from junebug import names
from junebug.amqp.rpc import Answer as Told
from junebug.amqp.rpc import Arguments, RpcServer
from junebug.model.callbacks import Callback, DeadLetter
from junebug.model.messages import UserMessage
from tests.api.conftest import Api
from tests.api.test_channels import RATES, UNKNOWN
from tests.api.test_routers import process
from tests.tables import rows

NO_RATES = dict.fromkeys(RATES, 0.0)
SECRET = "whsec_" + "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"
MASK = "********"


@pytest.fixture
async def router(api: Api) -> str:
    return await api.router()


async def stored(api: Api, router: str, destination: str) -> dict[str, Any]:
    return (await api.stores.routers.with_destination(router, destination))[1].to_properties()


async def test_a_created_destination_is_answered_with_its_properties_id_and_rates(api: Api, router: str) -> None:
    given = {
        "config": {"regular_expression": "^8110"}, "label": "App", "metadata": {"a": 1}, "mo_url": "http://127.0.0.1:1/mo",
        "mo_url_auth_token": "tok", "amqp_queue": "some-app", "character_limit": 160, "callback_secret": SECRET,
    }  # fmt: skip
    answer = await api("POST", f"/routers/{router}/destinations/", json=given)
    assert (answer.status, answer.description) == (201, "destination created")
    destination = answer.result["id"]
    assert str(uuid.UUID(destination)) == destination
    masked = dict.fromkeys(("mo_url_auth_token", "mo_url_token", "callback_secret"), MASK)
    assert answer.result == {**given, **masked, "id": destination, "status": NO_RATES}
    found = await api("GET", f"/routers/{router}/destinations/{destination}")
    assert (found.status, found.description, found.result) == (200, "destination found", answer.result)
    assert await stored(api, router, destination) == given


async def test_only_given_properties_are_shown(api: Api, router: str) -> None:
    destination = await api.destination(router)
    found = await api("GET", f"/routers/{router}/destinations/{destination}")
    assert set(found.result) == {"id", "config", "status"}


async def test_the_list_is_the_sorted_ids_of_this_router_alone(api: Api, router: str) -> None:
    path = f"/routers/{router}/destinations/"
    assert (await api("GET", path)).result == []
    ids = [await api.destination(router) for _ in range(4)]
    await api.destination(await api.router())
    answer = await api("GET", path)
    assert (answer.status, answer.description, answer.result) == (200, "destinations retrieved", sorted(ids))


@rows(
    ("body", "error", "field"),
    [
        ({}, "invalid_body", "config"),
        ({"config": []}, "invalid_body", "config: "),
        ({"config": {"regular_expression": "1"}, "type": "x"}, "invalid_body", "type"),
        ({"config": {"regular_expression": "1"}, "label": 1}, "invalid_body", "label: "),
        ({"config": {"regular_expression": "1"}, "mo_url": "nope"}, "invalid_body", "mo_url: "),
        ({"config": {"regular_expression": "1"}, "mo_url_token": "a\nb"}, "invalid_body", "mo_url_token: "),
        ({"config": {"regular_expression": "1"}, "mo_url_auth_token": 1}, "invalid_body", "mo_url_auth_token: "),
        ({"config": {"regular_expression": "1"}, "amqp_queue": "amq.x"}, "invalid_body", "amqp_queue: "),
        ({"config": {"regular_expression": "1"}, "character_limit": -1}, "invalid_body", "character_limit: "),
        ({"config": {"regular_expression": "1"}, "callback_secret": "x"}, "invalid_body", "callback_secret: "),
        ({"config": {"regular_expression": "1"}, "mo_url_token": "a", "mo_url_auth_token": "b"}, "invalid_body",
         "mo_url_token: "),
        ({"config": {"regular_expression": "1"}, "mo_url_token": MASK}, "invalid_body", "mo_url_auth_token: "),
        ({"config": {"regular_expression": "1"}, "mo_url": f"http://{MASK}@a/"}, "invalid_body", "mo_url: "),
        ({"config": {}}, "InvalidRouterDestinationConfig", "regular_expression"),
        ({"config": {"regular_expression": "("}}, "InvalidRouterDestinationConfig", "config.regular_expression: "),
        ({"config": {"regular_expression": "(?=a)"}}, "InvalidRouterDestinationConfig", "config.regular_expression: "),
        ({"config": {"regular_expression": 1}}, "InvalidRouterDestinationConfig", "config.regular_expression: "),
    ],
)  # fmt: skip
async def test_a_bad_destination_is_refused(api: Api, plain_router: str, body: Any, error: str, field: str) -> None:
    answer = await api("POST", f"/routers/{plain_router}/destinations/", json=body)
    assert (answer.status, answer.errors[0]["type"]) == (400, error)
    assert field in answer.errors[0]["message"]
    assert (await api("GET", f"/routers/{plain_router}/destinations/")).result == []


@pytest.fixture
async def plain_router(router: str) -> str:
    return router


@rows("given", [{"mo_url_token": "tok"}, {"mo_url_auth_token": "tok"}, {"mo_url_token": "tok", "mo_url_auth_token": "tok"}])
async def test_the_token_has_two_names(api: Api, plain_router: str, given: dict[str, str]) -> None:
    destination = await api.destination(plain_router, mo_url="http://127.0.0.1:1/", **given)
    path = f"/routers/{plain_router}/destinations/{destination}"
    shown = (await api("GET", path)).result
    assert (shown["mo_url_token"], shown["mo_url_auth_token"]) == (MASK, MASK)
    assert (await stored(api, plain_router, destination))["mo_url_auth_token"] == "tok"
    for method in ("PUT", "PATCH"):
        assert (await api(method, path, json=shown)).result == shown
        assert (await stored(api, plain_router, destination))["mo_url_auth_token"] == "tok"
    await api("PATCH", path, json={**shown, "mo_url_token": "new"})  # the other one is as it was read
    assert (await stored(api, plain_router, destination))["mo_url_auth_token"] == "new"
    await api("PATCH", path, json={"mo_url_token": None})
    assert (await stored(api, plain_router, destination))["mo_url_auth_token"] is None


async def test_secrets_are_masked_and_what_was_read_can_be_sent_back(api: Api) -> None:
    router = await api.router("guarded", channel=await api.create(mo_url=None))
    given = {"config": {"word": "a", "key": "k3y"}, "mo_url": "http://user:hunter2@127.0.0.1:1/", "callback_secret": SECRET}
    destination = await api.destination(router, **given)
    path = f"/routers/{router}/destinations/{destination}"
    answer = await api("GET", path)
    assert answer.result["config"] == {"word": "a", "key": MASK}
    assert (answer.result["mo_url"], answer.result["callback_secret"]) == (f"http://{MASK}@127.0.0.1:1/", MASK)
    for method in ("PUT", "PATCH"):
        assert (await api(method, path, json=answer.result)).result == answer.result
        assert await stored(api, router, destination) == given
    elsewhere = await api("PATCH", path, json={"mo_url": f"http://{MASK}@evil:1/"})
    assert (elsewhere.status, elsewhere.errors[0]["type"]) == (400, "invalid_body")


async def test_a_put_replaces_and_a_patch_changes(api: Api, router: str) -> None:
    destination = await api.destination(router, label="a", mo_url="http://127.0.0.1:1/")
    path = f"/routers/{router}/destinations/{destination}"
    answer = await api("PATCH", path, json={"label": "b"})
    assert (answer.status, answer.description) == (200, "destination updated")
    assert (answer.result["label"], answer.result["mo_url"]) == ("b", "http://127.0.0.1:1/")
    answer = await api("PUT", path, json={"config": {"regular_expression": "^2"}, "character_limit": 10.0})
    assert answer.result == {"id": destination, "config": {"regular_expression": "^2"}, "character_limit": 10, "status": NO_RATES}
    assert (await api("GET", path)).result == answer.result
    assert (await api("PUT", path, json={"label": "x"})).errors[0]["type"] == "invalid_body"
    bad = await api("PATCH", path, json={"config": {"regular_expression": "("}})
    assert bad.errors[0]["type"] == "InvalidRouterDestinationConfig"
    assert (await api("POST", path, json={})).status == 405


async def test_many_changes_at_a_time_all_get_through(api: Api, router: str) -> None:
    destination = await api.destination(router)
    path, fields = f"/routers/{router}/destinations/{destination}", ({"label": "x"}, {"metadata": {"a": 1}})
    answers = await asyncio.gather(*(api("PATCH", path, json=fields[n % 2]) for n in range(20)))
    assert {answer.status for answer in answers} == {200}
    assert {"label": "x", "metadata": {"a": 1}}.items() <= (await api("GET", path)).result.items()


async def test_one_destination_is_the_default_at_most(api: Api, router: str) -> None:
    default = {"regular_expression": "^1", "default": True}
    first, second = await api.destination(router, config=default), await api.destination(router)
    path = f"/routers/{router}/destinations"
    for method, where, body in (("POST", f"{path}/", {"config": default}), ("PATCH", f"{path}/{second}", {"config": default})):
        answer = await api(method, where, json=body)
        assert (answer.status, answer.errors[0]["type"]) == (400, "InvalidRouterDestinationConfig")
        assert first in answer.errors[0]["message"]
    await api("PATCH", f"{path}/{first}", json={"config": {"regular_expression": "^1"}})
    assert (await api("PATCH", f"{path}/{second}", json={"config": default})).status == 200
    await api("DELETE", f"{path}/{second}")
    assert (await api("PATCH", f"{path}/{first}", json={"config": default})).status == 200
    await api.destination(await api.router(), config=default)  # of another router


async def test_a_keyword_is_one_destinations(api: Api) -> None:
    router = await api.router("keyword", channel=await api.create(mo_url=None))
    first = await api.destination(router, config={"keyword": "Join", "aliases": ["start"]})
    path = f"/routers/{router}/destinations"
    for keyword in ("JOIN", "Start"):
        answer = await api("POST", f"{path}/", json={"config": {"keyword": keyword}})
        assert (answer.status, answer.errors[0]["type"]) == (400, "InvalidRouterDestinationConfig")
        assert first in answer.errors[0]["message"]
    await api("PATCH", f"{path}/{first}", json={"config": {"keyword": "join"}})
    await api.destination(router, config={"keyword": "start"})


async def test_a_change_is_with_the_routers_process_when_it_is_answered(api: Api, router: str) -> None:
    async with process(api, router) as told:
        destination = await api.destination(router, label="one")
        assert told == [{destination: "one"}]
        path = f"/routers/{router}/destinations/{destination}"
        await api("PATCH", path, json={"label": "two"})
        assert told[1:] == [{destination: "two"}]
        await api("PATCH", path, json={"label": "two"})  # nothing new
        await api("PUT", path, json={"config": {"regular_expression": "2"}, "label": "three"})
        assert told[2:] == [{destination: "three"}]
        answer = await api("DELETE", path)
        assert (answer.status, answer.description, answer.result) == (200, "destination deleted", {})
        assert told[3:] == [{destination: None}]
        assert (await api("GET", path)).errors[0]["type"] == "DestinationNotFound"


async def test_a_process_that_starts_is_waited_for(api: Api, router: str) -> None:
    told: list[Any] = []

    async def refresh(arguments: Arguments) -> Told:
        told.append(arguments["destinations"])
        return {}

    server = RpcServer(api.broker, router, 1)
    await server.start()
    creating = asyncio.create_task(api.destination(router))
    await asyncio.wait([creating], timeout=0.3)
    assert not creating.done()
    server.begin({"refresh": refresh}, lambda: None)
    assert [[await creating]] == told
    await server.end()
    await server.stop()


async def test_a_process_that_hangs_is_not_waited_for_without_end(
    api: Api, router: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("junebug.api.handlers.destinations.REFRESH_TIMEOUT", 0.2)
    consumer = api.broker.consume(names.control_queue(router), lambda delivery: None, prefetch=1, temporary=True)
    await consumer.consuming.wait()
    destination = await api.destination(router)
    await consumer.cancel()
    assert (await api("GET", f"/routers/{router}/destinations/{destination}")).status == 200


@rows("amqp_queue", ["{router}", "{channel}", "{channel}.outbound.x"])
async def test_the_queues_of_channels_and_routers_are_no_destinations(api: Api, plain_router: str, amqp_queue: str) -> None:
    channel = (await api("GET", f"/routers/{plain_router}")).result["config"]["channel"]
    queue = amqp_queue.format(router=plain_router, channel=channel)
    body = {"config": {"regular_expression": "1"}, "amqp_queue": queue}
    answer = await api("POST", f"/routers/{plain_router}/destinations/", json=body)
    assert (answer.status, answer.errors[0]["schema_path"]) == (400, ["properties", "amqp_queue"])


@rows("destination", [UNKNOWN, "no%20id", "*"])
@rows(
    ("method", "path"),
    [
        ("GET", ""), ("PUT", ""), ("PATCH", ""), ("DELETE", ""), ("GET", "/logs"), ("POST", "/messages/"), ("GET", "/messages/m"),
        ("GET", "/dead-letters/"), ("DELETE", "/dead-letters/"), ("POST", "/dead-letters/replay"), ("DELETE", "/dead-letters/x"),
    ],
)  # fmt: skip
async def test_what_is_no_destination_is_not_found(
    api: Api, plain_router: str, destination: str, method: str, path: str
) -> None:
    body: dict[str, Any] = {"config": {"regular_expression": "1"}}
    body = {"to": "1", "content": "x"} if "messages" in path else {} if "dead" in path else body
    answer = await api(method, f"/routers/{plain_router}/destinations/{destination}{path}", json=body)
    assert (answer.status, answer.description) == (404, "destination not found")
    assert answer.errors[0]["type"] == "DestinationNotFound"


def letter(destination: str, content: str, error: str = "HTTP 500") -> DeadLetter:
    message = UserMessage(to_addr="8110", from_addr="+27", content=content, transport_name="the-channel")
    callback = Callback(to="mo_url", kind="inbound", id=message.message_id, wire=message.to_wire(), destination=destination)
    return DeadLetter(reason="too_old", error=error, callback=callback)


async def test_dead_letters_of_one_destination_and_of_all(api: Api, router: str) -> None:
    one, two = [await api.destination(router, mo_url_token=f"tok3n-{n}") for n in range(2)]
    letters = [letter(one, "a"), letter(two, "b"), letter(one, "c", "with tok3n-0 and tok3n-1"), letter(two, "d")]
    letters.append(letter(one, "e"))
    unreadable = DeadLetter(reason="unreadable", error="not JSON", queue="q", body=b"{")
    await api.broker.publish_many(names.dead_queue(router), [each.to_wire() for each in (*letters, unreadable)])
    everywhere, of_one = f"/routers/{router}/dead-letters/", f"/routers/{router}/destinations/{one}/dead-letters/"

    async def shown(path: str) -> tuple[list[Any], int]:
        answer = await api("GET", path)
        assert (answer.status, answer.description) == (200, "dead letters listed")
        return [each.get("message", {}).get("content") for each in answer.result["dead_letters"]], answer.result["total"]

    assert await shown(everywhere) == (["a", "b", "c", "d", "e", None], 6)
    assert await shown(f"{everywhere}?limit=2&offset=1") == (["b", "c"], 6)
    assert await shown(of_one) == (["a", "c", "e"], 3)
    assert await shown(f"{of_one}?limit=1&offset=1") == (["c"], 3)
    (found,) = (await api("GET", f"{of_one}?limit=1&offset=1")).result["dead_letters"]
    assert (found["destination"], found["message"]["channel_id"]) == (one, "the-channel")
    assert found["error"] == f"with {MASK} and {MASK}"

    answer = await api("POST", f"{of_one}replay", json={"ids": [letters[1].id]})  # of the other one
    assert (answer.status, answer.errors[0]["type"]) == (404, "DeadLetterNotFound")
    assert (await api("DELETE", f"{of_one}{letters[1].id}")).status == 404
    answer = await api("POST", f"{of_one}replay", json={"ids": [letters[0].id]})
    assert (answer.description, answer.result) == ("dead letters replayed", {"replayed": 1, "skipped": 0})
    (delivery,) = await api.taken(names.callback_queue(router), 1)
    callback = Callback.from_wire(delivery.body)
    assert (callback.id, callback.destination) == (letters[0].callback.id if letters[0].callback else "", one)
    assert (await api("DELETE", f"{of_one}{letters[2].id}")).result == {"deleted": 1}
    assert (await api("DELETE", of_one)).result == {"deleted": 1}
    assert await shown(everywhere) == (["b", "d", None], 3)
    assert (await api("POST", f"{everywhere}replay")).result == {"replayed": 2, "skipped": 1}
    assert (await api("DELETE", everywhere)).result == {"deleted": 1}


async def test_a_replay_finds_queues_that_rabbitmq_has_lost(api: Api, router: str) -> None:
    await api.broker.publish(names.dead_queue(router), letter(await api.destination(router), "a").to_wire())
    await api.broker.delete_queues([names.callback_queue(router)])
    assert (await api("POST", f"/routers/{router}/dead-letters/replay")).result == {"replayed": 1, "skipped": 0}
    assert await api.broker.queue_length(names.callback_queue(router)) == 1
