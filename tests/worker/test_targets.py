"""Where a callback may go: by the address that is called, whatever name or redirect led there."""

from __future__ import annotations

import dataclasses
import socket
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from junebug.config.addresses import Address
from junebug.config.declaration import AmqpSettings, RedisSettings, Settings
from junebug.worker.callbacks.targets import Refused, Targets, plain
from junebug.worker.callbacks.webhook import Outcome, Webhook
from tests.tables import rows


def found(*addresses: str) -> list[Any]:
    return [
        (socket.AF_INET6 if ":" in each else socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, 80)) for each in addresses
    ]


@rows(
    ["given", "is_called"],
    [
        ({}, ["127.0.0.1", "10.0.0.1", "192.168.1.1", "8.8.8.8", "::1", "fd00::1", "2001:db8::1", "0.0.0.0"]),
        ({"callback_deny": ["127.0.0.0/8", "::1/128"]}, ["10.0.0.1", "2001:db8::1"]),
        ({"callback_deny": ["10.0.0.0/8"], "callback_allow": ["10.1.0.0/16"]}, ["10.1.2.3", "::ffff:10.1.2.3", "11.0.0.1"]),
        ({"callback_allow": ["169.254.7.0/24"]}, ["169.254.7.1"]),
        ({"callback_deny": []}, ["169.254.169.254"]),
    ],
)
async def test_what_may_be_called(given: dict[str, Any], is_called: list[str]) -> None:
    targets = Targets(Settings(**given))
    for address in is_called:
        assert await targets.permitted("host", found(address), 80)


@rows(
    ["given", "is_refused"],
    [
        ({}, ["169.254.169.254", "169.254.0.1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "fe80::1", "fe80::1%lo",
              "fd00:ec2::254", "100.100.100.200"]),
        ({"callback_deny": ["127.0.0.0/8", "::1/128"]},
         ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::", "::ffff:0:0"]),
        ({"callback_deny": ["10.0.0.0/8"], "callback_allow": ["10.1.0.0/16"]}, ["10.2.0.1", "::ffff:10.2.0.1"]),
    ],
)  # fmt: skip
async def test_what_may_not(given: dict[str, Any], is_refused: list[str]) -> None:
    targets = Targets(Settings(**given))
    for address in is_refused:
        with pytest.raises(Refused, match="callback_deny"):
            await targets.permitted("host", found(address), 80)


async def test_of_a_names_addresses_those_are_called_that_may_be() -> None:
    left = await Targets(Settings()).permitted("host", found("169.254.169.254", "192.0.2.1", "fe80::1"), 80)
    assert [each[4][0] for each in left] == ["192.0.2.1"]


SERVERS = Settings(
    port=8080, redis=RedisSettings(host="localhost", port=6379), amqp=AmqpSettings(hostname="192.0.2.5", port=5672)
)


@rows(
    ["address", "port", "name"],
    [
        ("127.0.0.1", 8080, "API"), ("::1", 8080, "API"), ("0.0.0.0", 8080, "API"), ("::ffff:127.0.0.1", 8080, "API"),
        ("127.0.0.1", 6379, "Redis"), ("127.7.7.7", 6379, "Redis"), ("192.0.2.5", 5672, "RabbitMQ"),
        ("::ffff:192.0.2.5", 5672, "RabbitMQ"),
        ("127.0.0.1", 8081, ""), ("192.0.2.5", 8080, ""), ("192.0.2.5", 6379, ""), ("127.0.0.1", 5672, ""),
    ],
)  # fmt: skip
async def test_our_own_servers_are_never_called(address: str, port: int, name: str) -> None:
    targets = Targets(dataclasses.replace(SERVERS, callback_allow=["0.0.0.0/0", "::/0"]))
    if name:
        with pytest.raises(Refused, match=f"own {name}"):
            await targets.permitted("host", found(address), port)
    else:
        assert await targets.permitted("host", found(address), port)


async def test_each_host_of_rabbitmq_each_sentinel_and_the_master_of_the_moment_is_ours() -> None:
    redis = RedisSettings(sentinels=["192.0.2.6", "192.0.2.7:7"], master_name="m")
    settings = Settings(redis=redis, amqp=AmqpSettings(hosts=["192.0.2.1", "[2001:db8::2]:1"]))
    master = Address("192.0.2.8", 6379)
    targets = Targets(settings, lambda: master)
    for address, port, name in (
        ("192.0.2.1", 5672, "RabbitMQ"), ("2001:db8::2", 1, "RabbitMQ"), ("192.0.2.6", 26379, "Redis"), ("192.0.2.7", 7, "Redis"),
        ("192.0.2.8", 6379, "Redis"),
    ):  # fmt: skip
        with pytest.raises(Refused, match=f"own {name}"):
            await targets.permitted("host", found(address), port)
    master = Address("192.0.2.9", 6379)
    assert await targets.permitted("host", found("192.0.2.8"), 6379)
    master = Address("/run/redis.sock", 6379)
    assert await targets.permitted("host", found("192.0.2.9"), 6379)


async def test_they_are_known_by_every_address_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a machine that has an address besides loopback; elsewhere this says that a foreign one is none of ours."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent
            mine = str(probe.getsockname()[0])
        except OSError:
            mine = "127.0.0.1"
    with pytest.raises(Refused, match="own API"):
        await Targets(SERVERS).permitted("host", found(mine), 8080)
    assert await Targets(SERVERS).permitted("host", found("192.0.2.77"), 8080)


@rows(
    ["text", "address"],
    [("1.2.3.4", "1.2.3.4"), ("::ffff:1.2.3.4", "1.2.3.4"), ("64:ff9b::1.2.3.4", "1.2.3.4"), ("fe80::1%eth0", "fe80::1"),
     ("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("::ffff:0.0.0.0", "127.0.0.1"), ("2001:db8::1", "2001:db8::1")],
)  # fmt: skip
def test_what_an_address_stands_for(text: str, address: str) -> None:
    assert str(plain(text)) == address


async def posted(url: str, **settings: Any) -> Outcome:
    hook = Webhook(2.0, Targets(Settings(**settings)))
    try:
        return await hook.post(url, {})
    finally:
        await hook.close()


async def test_no_name_and_no_redirect_leads_to_what_is_denied() -> None:
    reached = []

    async def away(request: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": f"http://127.0.0.2:{server.port}/inner"})

    async def inner(request: web.Request) -> web.Response:
        reached.append(request.path)
        return web.Response()

    app = web.Application()
    app.router.add_post("/away", away)
    app.router.add_post("/inner", inner)
    server = TestServer(app, host="0.0.0.0")
    await server.start_server()
    try:
        assert (await posted(f"http://127.0.0.1:{server.port}/away")).ok
        assert reached.pop() == "/inner"
        outcome = await posted(f"http://127.0.0.1:{server.port}/away", callback_deny=["127.0.0.2/32"])
        assert (outcome.ok, outcome.is_hopeless, reached) == (False, True, [])
        for host in ("localhost", "127.0.0.1", "2130706433", "0.0.0.0", "[::ffff:127.0.0.1]"):
            outcome = await posted(f"http://{host}:{server.port}/inner", callback_deny=["127.0.0.0/8", "::1/128"])
            assert (outcome.ok, reached) == (False, []), host
    finally:
        await server.close()


async def test_no_octets_of_an_answer_are_in_what_is_said_of_it() -> None:
    async def answer(request: web.Request) -> web.Response:
        if request.path == "/there":
            return web.Response(status=307, headers={"Location": "http://a b:secret/"})
        return web.Response(status=int(request.path[1:]), reason="the secret of an inner server", text="secret")

    app = web.Application()
    app.router.add_post("/{what}", answer)
    server = TestServer(app)
    await server.start_server()
    try:
        told = {path: (await posted(str(server.make_url(path)))).reason for path in ("/500", "/404", "/599", "/there")}
    finally:
        await server.close()
    assert told == {
        "/500": "HTTP 500 Internal Server Error", "/404": "HTTP 404 Not Found", "/599": "HTTP 599",
        "/there": "HTTP 307 to what cannot be called",
    }  # fmt: skip
