"""Several hosts, and TLS: who is tried, who is told, and what goes on when one is away."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import ssl
import uuid
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from junebug.amqp import broker as broker_module
from junebug.amqp import connection
from junebug.amqp.broker import Broker
from junebug.amqp.connection import Link
from junebug.config.declaration import AmqpSettings
from junebug.errors import BrokerUnavailable, StartupError, Unroutable
from junebug.runtime.tls import TlsOptions
from tests import certificates
from tests.polling import eventually
from tests.proxy import between
from tests.servers import free_port


def at(settings: AmqpSettings, *hosts: str, **changes: Any) -> AmqpSettings:
    return dataclasses.replace(settings, hosts=list(hosts), **changes)


async def test_whoever_lets_us_in_is_found_whatever_is_tried_first(amqp_settings: AmqpSettings) -> None:
    away = [f"127.0.0.1:{free_port()}", "no.such.host.invalid", f"[::1]:{free_port()}"]
    for _ in range(10):
        link = await Link.open(at(amqp_settings, *away, f"127.0.0.1:{amqp_settings.port}"), "test")
        await link.end()


async def test_connections_are_spread(amqp_settings: AmqpSettings) -> None:
    async with AsyncExitStack() as stack:
        ports = [await stack.enter_async_context(between(amqp_settings.port)) for _ in range(3)]
        tried = set()
        settings = at(amqp_settings, *(f"localhost:{port}" for port in ports))
        for _ in range(60):
            link = await Link.open(settings, "test")
            tried.add(link.to.port)
            await link.end()
        assert tried == set(ports)


async def test_both_links_of_a_process_are_to_the_same_node(amqp_settings: AmqpSettings) -> None:
    async with AsyncExitStack() as stack:
        ports = [await stack.enter_async_context(between(amqp_settings.port)) for _ in range(4)]
        for _ in range(5):
            broker = Broker(at(amqp_settings, *(f"127.0.0.1:{port}" for port in ports)), "test")
            broker.start()
            await broker.wait_connected(10)
            await broker.ping(10)
            publishing = broker._publisher._link
            assert publishing
            assert publishing.to == broker._connection.link.to
            await broker.close()


async def test_one_that_accepts_and_says_nothing_is_passed_by(
    amqp_settings: AmqpSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "CONNECT_TIMEOUT", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(connection.random, "sample", lambda hosts, _: hosts)
        hosts = [f"127.0.0.1:{port}" for port in (silent.getsockname()[1], amqp_settings.port)]
        link = await Link.open(at(amqp_settings, *hosts), "test")
        await link.end()


async def test_every_address_of_a_name_is_tried_and_it_is_looked_up_each_time(
    amqp_settings: AmqpSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    stands_for = ["127.0.0.2", "127.0.0.3"]
    asked = []

    async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in stands_for]

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    settings = at(amqp_settings, f"rabbit.example:{amqp_settings.port}")
    with pytest.raises(ConnectionError):
        await Link.open(settings, "test")
    stands_for.append("127.0.0.1")
    link = await Link.open(settings, "test")
    assert link.to == ("127.0.0.1", amqp_settings.port)
    await link.end()
    assert asked.count("rabbit.example") == 2


async def test_a_broker_goes_on_at_another_host(amqp_settings: AmqpSettings) -> None:
    queue = f"test-{uuid.uuid4()}"
    async with between(amqp_settings.port) as other:
        stack = AsyncExitStack()
        first = await stack.enter_async_context(between(amqp_settings.port))
        broker = Broker(at(amqp_settings, f"127.0.0.1:{first}", f"127.0.0.1:{other}"), "test")
        broker.start()
        got: list[bytes] = []
        await broker.wait_connected(10)
        await broker.declare({queue: {}}, bind=True)

        def take(delivery: Any) -> None:
            got.append(delivery.body)
            delivery.ack()

        consumer = broker.consume(queue, take, prefetch=10)
        await broker.publish_surely(queue, [b"1"])
        await eventually(lambda: b"1" in got)
        await stack.aclose()  # whichever it had, the other one is left
        await asyncio.wait_for(broker.publish_surely(queue, [b"2"]), 30)
        await eventually(lambda: b"2" in got)
        assert broker._connection.link.to.port == other
        await consumer.cancel()
        await broker.delete_queues([queue])
        await broker.close()


async def test_each_host_that_is_away_is_told_by_name_and_without_the_password(amqp_settings: AmqpSettings) -> None:
    ports = [free_port(), free_port()]
    hosts = [*(f"127.0.0.1:{port}" for port in ports), "no.such.host.invalid"]
    with pytest.raises(StartupError) as error:
        await broker_module.check(at(amqp_settings, *hosts, password="sesame"), 10)
    told = str(error.value)
    assert told.startswith("amqp.hosts: ")
    assert all(f"{host}: " in told or f"{host}:{amqp_settings.port}: " in told for host in hosts), told
    assert "sesame" not in told
    assert "\n" not in told
    with pytest.raises(StartupError, match="^amqp.username, amqp.password: ") as error:
        await broker_module.check(at(amqp_settings, hosts[0], f"127.0.0.1:{amqp_settings.port}", password="sesame"), 10)
    assert "sesame" not in str(error.value)


async def test_tls(amqp_settings: AmqpSettings, tmp_path: Path) -> None:
    certificates.made_in(tmp_path)
    ca = str(tmp_path / "ca.pem")
    async with between(amqp_settings.port, tls=certificates.server_context(tmp_path)) as port:
        for options in (TlsOptions(ca_file=ca, server_name=certificates.NAME), TlsOptions(verify=False)):
            link = await Link.open(at(amqp_settings, f"127.0.0.1:{port}", tls=options), "test")
            assert isinstance(link._stream.writer.get_extra_info("ssl_object"), (ssl.SSLObject, ssl.SSLSocket))
            await link.end()
        for options, said in (
            (TlsOptions(server_name=certificates.NAME), "not trusted"), (TlsOptions(ca_file=ca), "not trusted"),
            (TlsOptions(ca_file=str(tmp_path / "none.pem")), "ca_file"),
        ):  # fmt: skip
            with pytest.raises(StartupError, match=f"^amqp.tls: .*{said}"):
                await broker_module.check(at(amqp_settings, f"127.0.0.1:{port}", tls=options), 10)
    with pytest.raises(StartupError, match="^amqp.tls: "):  # it talks none
        await broker_module.check(dataclasses.replace(amqp_settings, tls=TlsOptions(verify=False)), 10)


async def test_a_queue_whose_node_is_away_is_not_taken_for_none(amqp_settings: AmqpSettings, broker: Broker) -> None:
    """Of a cluster: RabbitMQ returns what is published to it as if there were none, and says the difference to who asks."""
    queue = f"{uuid.uuid4()}{uuid.uuid4()}.event"
    said = f"no queue '{queue}'".encode()
    away, asked = True, 0

    def change(piece: bytes) -> bytes:
        nonlocal asked
        if not away:
            return piece
        asked += piece.count(said)
        return piece.replace(said, b"home node of durable queue is down or inaccessible".ljust(len(said)))

    async def visit(_: Any) -> bool:
        return True

    async with between(amqp_settings.port, change) as port:
        ours = Broker(at(amqp_settings, f"127.0.0.1:{port}"), "test")
        ours.start()
        await ours.wait_connected(10)
        for ask in (
            ours.queue_exists(queue), ours.queue_length(queue), ours.queue_lengths([queue]),
            ours.browse(queue, visit, keeping=True),
        ):  # fmt: skip
            with pytest.raises(BrokerUnavailable, match="is down or inaccessible"):
                await ask
        before = asked
        surely = asyncio.create_task(ours.publish_surely(queue, [b"x"]))
        await eventually(lambda: asked >= before + 3)
        assert not surely.done()
        away = False
        await broker.declare({queue: {}}, remember=False)
        await asyncio.wait_for(surely, 30)
        assert await broker.queue_length(queue) == 1
        await broker.delete_queues([queue])
        assert not await ours.queue_exists(queue)
        with pytest.raises(Unroutable):
            await ours.publish_surely(queue, [b"x"])
        await ours.close()
