"""Redis or RabbitMQ dead or silent: 503 in time, and what can be told is told."""

from __future__ import annotations

import asyncio
import dataclasses
import signal
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest

from junebug.config.declaration import Settings
from tests.api.conftest import Answer, Api, running_api
from tests.polling import eventually
from tests.servers import RabbitmqServer, RedisServer

REQUEST_TIMEOUT = 2.5
"""Seconds; a fifth of it is what a loaded machine has, beyond the patience with Redis and RabbitMQ, to make the answer."""
SLACK = 2.0
MESSAGE = {"to": "1", "content": "x"}
KEY = {"Idempotency-Key": "k"}


@pytest.fixture
async def api(settings: Settings) -> AsyncIterator[Api]:
    """Impatient; a test that takes `own_redis` or `own_rabbitmq` has that behind it."""
    async with running_api(dataclasses.replace(settings, request_timeout=REQUEST_TIMEOUT)) as running:
        yield running


async def unavailable(api: Api, method: str, path: str, **options: Any) -> dict[str, Any]:
    """The error of a 503 that came in time."""
    began = time.monotonic()
    answer = await api(method, path, **options)
    assert time.monotonic() - began < REQUEST_TIMEOUT + SLACK
    assert (answer.status, answer.description) == (503, "service unavailable"), answer.body
    return answer.errors[0]


async def all_unavailable(api: Api, requests: Iterable[tuple[str, str, Any]]) -> list[dict[str, Any]]:
    """The errors of what is asked at once: method, path, body."""
    return await asyncio.gather(*(unavailable(api, method, path, json=body) for method, path, body in requests))


async def take_away(server: RedisServer | RabbitmqServer, way: str) -> None:
    """Dead, or silent with its connections open; returns once it is."""
    if way == "kill":
        server.kill()
    else:
        server.signal(signal.SIGSTOP)
        while await asyncio.to_thread(server.answers):
            pass


async def bring_back(server: RedisServer | RabbitmqServer, way: str) -> None:
    if way == "kill":
        await asyncio.to_thread(server.start)
    else:
        server.signal(signal.SIGCONT)


async def healthy(api: Api) -> bool:
    return (await api("GET", "/health")).status == 200


async def sent_with_key(api: Api, one: str) -> Answer:
    """Once an attempt that may still be under way is over."""
    answers: list[Answer] = []

    async def answered() -> bool:
        answers.append(await api("POST", f"{one}/messages/", json=MESSAGE, headers=KEY))
        return answers[-1].status != 409

    await eventually(answered)
    return answers[-1]


@pytest.mark.parametrize("way", ["kill", "freeze"])
async def test_without_redis_requests_are_503_in_time_and_go_on_when_it_is_back(
    api: Api, own_redis: RedisServer, way: str
) -> None:
    channel, router = await api.create(), await api.router()
    destination = await api.destination(router)
    await take_away(own_redis, way)
    one, routed = f"/channels/{channel}", f"/routers/{router}"
    behind = f"{routed}/destinations/{destination}"
    create = {"type": "plain", "config": {}}
    requests: list[tuple[str, str, Any]] = [
        ("GET", "/channels/", None),
        ("GET", one, None),
        ("POST", one, {"label": "x"}),
        ("DELETE", one, None),
        ("POST", f"{one}/restart", None),
        ("GET", f"{one}/logs", None),
        ("POST", f"{one}/messages/", MESSAGE),
        ("GET", f"{one}/messages/m", None),
        ("GET", f"{one}/messages/", None),
        ("DELETE", f"{one}/messages/", None),
        ("DELETE", f"{one}/messages/m", None),
        ("POST", f"{one}/pause", None),
        ("POST", f"{one}/resume", None),
        ("GET", f"{one}/dead-letters/", None),
        ("DELETE", f"{one}/dead-letters/", None),
        ("DELETE", f"{one}/dead-letters/x", None),
        ("POST", f"{one}/dead-letters/replay", None),
        ("POST", "/channels/", create),
        ("POST", f"{one}/messages/?dry_run=true", MESSAGE),
        ("GET", "/events/stream", None),
        ("GET", "/routers/", None),
        ("POST", "/routers/", {"type": "from_address", "config": {"channel": channel}}),
        ("GET", routed, None),
        ("PATCH", routed, {"label": "x"}),
        ("PUT", routed, {"type": "keyword", "config": {"channel": channel}}),
        ("DELETE", routed, None),
        ("POST", f"{routed}/restart", None),
        ("GET", f"{routed}/logs", None),
        ("GET", f"{routed}/dead-letters/", None),
        ("GET", f"{routed}/destinations/", None),
        ("POST", f"{routed}/destinations/", {"config": {"regular_expression": "1"}}),
        ("GET", behind, None),
        ("PATCH", behind, {"label": "x"}),
        ("DELETE", behind, None),
        ("POST", f"{behind}/messages/", MESSAGE),
        ("GET", f"{behind}/messages/m", None),
    ]
    for error in await all_unavailable(api, requests):
        assert error["type"] == "StoreUnavailable"
        assert "Redis" in error["message"]
    assert (await unavailable(api, "POST", f"{one}/messages/", json=MESSAGE, headers=KEY))["type"] == "StoreUnavailable"
    health = await api("GET", "/health")
    assert (health.status, health.result["redis"], health.result["amqp"]) == (503, "down", "ok")
    assert [error["type"] for error in health.errors] == ["StoreUnavailable"]

    await bring_back(own_redis, way)
    await eventually(lambda: healthy(api))
    assert (await api("POST", f"{one}/messages/", json=MESSAGE)).status == 201
    first = await sent_with_key(api, one)
    assert (await sent_with_key(api, one)).headers["Idempotent-Replayed"] == "true"
    lengths = await api.broker.queue_lengths([f"{channel}.outbound"])
    assert (first.status, lengths) == (201, {f"{channel}.outbound": 2})


@pytest.mark.parametrize("way", ["kill", "freeze"])
async def test_without_rabbitmq_sending_and_creating_are_503_in_time_and_reading_goes_on(
    api: Api, own_rabbitmq: RabbitmqServer, way: str
) -> None:
    channel = await api.create(label="x")
    one = f"/channels/{channel}"
    await take_away(own_rabbitmq, way)
    for error in await all_unavailable(api, [
        ("POST", f"{one}/messages/", MESSAGE),
        ("POST", "/channels/", {"type": "plain", "config": {}}),
    ]):  # fmt: skip
        assert error["type"] == "BrokerUnavailable"
        assert "RabbitMQ" in error["message"]
    for error in await all_unavailable(api, [
        ("GET", f"{one}/messages/", None),
        ("DELETE", f"{one}/messages/", None),
        ("DELETE", f"{one}/messages/m", None),
        ("GET", f"{one}/dead-letters/", None),
        ("DELETE", f"{one}/dead-letters/", None),
        ("POST", f"{one}/dead-letters/replay", None),
    ]):  # fmt: skip
        assert error["type"] == "BrokerUnavailable"
    assert (await unavailable(api, "POST", f"{one}/messages/", json=MESSAGE, headers=KEY))["type"] == "BrokerUnavailable"
    paused = await api("POST", f"{one}/pause")
    assert (paused.status, paused.result) == (200, {"paused": True, "queued": None, "sending": None})
    assert (await api("GET", "/channels/")).result == [channel]  # nothing half-created
    found = await api("GET", one)
    assert (found.status, found.result["label"]) == (200, "x")
    tried = await api("POST", f"{one}/messages/?dry_run=true", json=MESSAGE)
    assert (tried.status, tried.result["estimate"]["waiting"], len(tried.result["parts"])) == (200, None, 1)
    unknown = ("queue_length", "callbacks_waiting", "dead_letters")
    assert [found.result["status"][name] for name in unknown] == [None, None, None]
    assert (await api("POST", one, json={"label": "y"})).status == 200
    health = await api("GET", "/health")
    assert (health.status, health.result["redis"], health.result["amqp"]) == (503, "ok", "down")
    assert (await api("GET", "/health/live")).status == 200

    await bring_back(own_rabbitmq, way)
    await eventually(lambda: healthy(api), 30)
    assert (await api("POST", f"{one}/messages/", json=MESSAGE)).status == 201
    assert (await sent_with_key(api, one)).status == 201


@pytest.mark.parametrize("way", ["kill", "freeze"])
async def test_without_rabbitmq_what_is_behind_a_router_can_be_read_and_changed(
    api: Api, own_rabbitmq: RabbitmqServer, way: str
) -> None:
    channel, router = await api.create(mo_url=None), await api.router()
    one, gone = await api.destination(router), await api.destination(router)
    path = f"/routers/{router}"
    await take_away(own_rabbitmq, way)
    for error in await all_unavailable(api, [
        ("POST", "/routers/", {"type": "from_address", "config": {"channel": channel}}),
        ("POST", f"{path}/destinations/{one}/messages/", MESSAGE),
        ("GET", f"{path}/dead-letters/", None),
        ("POST", f"{path}/dead-letters/replay", None),
    ]):  # fmt: skip
        assert error["type"] == "BrokerUnavailable"
    assert (await api("GET", "/routers/")).result == [router]  # nothing half-created
    assert "router" not in (await api("GET", f"/channels/{channel}")).result["status"]
    found = await api("GET", path)
    assert (found.status, found.result["status"]["callbacks_waiting"]) == (200, None)
    assert (await api("PATCH", path, json={"label": "y"})).result["label"] == "y"
    made, changed, deleted = await asyncio.gather(  # its process may be about to come back: that is waited for
        api.destination(router),
        api("PATCH", f"{path}/destinations/{one}", json={"label": "y"}),
        api("DELETE", f"{path}/destinations/{gone}"),
    )
    assert (changed.result["label"], deleted.status) == ("y", 200)
    assert (await api("GET", f"{path}/destinations/")).result == sorted([one, made])

    await bring_back(own_rabbitmq, way)
    await eventually(lambda: healthy(api), 30)
    assert (await api("POST", f"{path}/destinations/{one}/messages/", json=MESSAGE)).status == 201
    assert (await api("DELETE", path)).status == 200


async def test_health_names_both_when_both_are_away(
    api: Api, own_redis: RedisServer, own_rabbitmq: RabbitmqServer
) -> None:
    assert (await api("GET", "/health")).result == {"redis": "ok", "amqp": "ok"}
    own_redis.kill()
    await take_away(own_rabbitmq, "freeze")
    for path in ("/health", "/health/", "/jb/health"):
        health = await api("GET", path)
        assert (health.status, health.result["redis"], health.result["amqp"]) == (503, "down", "down")
        assert {error["type"] for error in health.errors} == {"StoreUnavailable", "BrokerUnavailable"}
    await bring_back(own_rabbitmq, "freeze")  # or closing the connection would wait for it


FULL_REDIS = {
    "full": (("CONFIG", "SET", "maxmemory", "1"), "used memory"),
    "read-only": (("REPLICAOF", "127.0.0.1", "1"), "read only replica"),
    "alone": (("CONFIG", "SET", "min-replicas-to-write", "1"), "NOREPLICAS"),
    "forbidden": (("ACL", "SETUSER", "default", "-@write"), "permissions"),
}
"""What has been done to it -> how, and a word of the answer's."""


@pytest.mark.parametrize(("done", "why"), FULL_REDIS.values(), ids=FULL_REDIS)
async def test_a_redis_that_answers_and_takes_nothing_is_down(
    api: Api, own_redis: RedisServer, done: tuple[str, ...], why: str
) -> None:
    channel = await api.create()
    await api.stores._redis.run(done)
    for _ in range(2):
        health = await api("GET", "/health")
        assert (health.status, health.result["redis"], health.result["amqp"]) == (503, "down", "ok")
        assert health.headers["Retry-After"]
        (error,) = health.errors
        assert error["type"] == "StoreUnavailable"
        assert why in error["message"]
    assert (await unavailable(api, "POST", f"/channels/{channel}/messages/", json=MESSAGE))["type"] == "StoreUnavailable"
    assert (await api("GET", "/health/live")).status == 200


@pytest.mark.parametrize("has_published", [True, False])
async def test_a_rabbitmq_that_is_connected_and_takes_nothing_is_down(
    api: Api, own_rabbitmq: RabbitmqServer, has_published: bool
) -> None:
    if has_published:
        assert await healthy(api)
    await asyncio.to_thread(own_rabbitmq.alarm, True)
    try:
        for _ in range(2):
            health = await api("GET", "/health")
            assert (health.status, health.result["redis"], health.result["amqp"]) == (503, "ok", "down")
            (error,) = health.errors
            assert (error["type"], "memory" in error["message"]) == ("BrokerUnavailable", True), error
            assert (await api("GET", "/health/live")).status == 200
    finally:
        await asyncio.to_thread(own_rabbitmq.alarm, False)
    await eventually(lambda: healthy(api))


async def test_a_publisher_that_cannot_be_opened_is_down(
    api: Api, own_rabbitmq: RabbitmqServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(_: str) -> Any:
        raise ConnectionError("connection limit reached")

    monkeypatch.setattr(api.broker._publisher._connection, "another", refused)
    health = await api("GET", "/health")
    assert (health.status, health.result["redis"], health.result["amqp"]) == (503, "ok", "down")
    assert "limit reached" in health.errors[0]["message"]


async def test_liveness_needs_neither(api: Api, own_redis: RedisServer, own_rabbitmq: RabbitmqServer) -> None:
    own_redis.kill()
    await take_away(own_rabbitmq, "freeze")
    for path in ("/health/live", "/health/live/", "/jb/health/live"):
        assert (await api("GET", path)).description == "alive"
    await bring_back(own_rabbitmq, "freeze")


async def test_a_channel_that_cannot_be_stored_leaves_no_queues(
    api: Api, monkeypatch: pytest.MonkeyPatch, own_redis: RedisServer
) -> None:
    declared: list[str] = []
    declare = api.broker.declare

    async def declare_and_lose_redis(queues: Any, **options: Any) -> None:
        await declare(queues, **options)
        declared.extend(queues)
        own_redis.kill()

    monkeypatch.setattr(api.broker, "declare", declare_and_lose_redis)
    assert (await api("POST", "/channels/", json={"type": "plain", "config": {}})).status == 503
    assert declared

    async def gone() -> bool:
        missing = 0
        for queue in declared:
            try:
                await api.broker.publish(queue, b"{}")
            except Exception as error:
                missing += type(error).__name__ == "Unroutable"
            await asyncio.sleep(0)
        return missing == len(declared)

    await eventually(gone)
