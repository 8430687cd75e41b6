"""A router's process between real servers: what comes by its channel, which application gets it, and what it says of itself."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from junebug import names
from junebug.model.messages import Event, UserMessage
from junebug.model.routing import DestinationSpec, routed
from junebug.routers.from_address.router import FromAddressRouter
from tests.polling import eventually
from tests.worker.conftest import Application, Bench

QUIET = {"mo_url": None}


def mo(channel: str, to: str, content: str | None = "hello", **fields: Any) -> UserMessage:
    sender = fields.pop("from_addr", "+27820000000")
    return UserMessage(to_addr=to, from_addr=sender, content=content, transport_name=channel, **fields)


async def arrives(bench: Bench, *messages: UserMessage) -> None:
    """As the channel's transport gives them to RabbitMQ."""
    for each in messages:
        await bench.put(names.inbound_queue(each.transport_name), each.to_wire())


async def routed_channel(bench: Bench, destinations: dict[str, dict[str, Any]], type: str = "from_address") -> tuple[str, str]:
    channel = await bench.channel("loopback", {}, **QUIET)
    await bench.running(channel)
    router = await bench.router(type, {"channel": channel}, destinations)
    await bench.running(router)
    return channel, router


def application(bench: Bench, path: str) -> list[dict[str, Any]]:
    """What this path was POSTed."""
    return [
        body for body, request in zip(bench.app.received, bench.app.requests, strict=True) if request.path == path
    ]


def contents(bench: Bench, path: str) -> list[str]:
    return [body["content"] for body in application(bench, path)]


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
async def test_each_destination_whose_expression_is_found_gets_the_message(bench: Bench) -> None:
    url = bench.app.url
    channel, _ = await routed_channel(bench, {
        "a": {"config": {"regular_expression": "^1"}, "mo_url": url("/a"), "mo_url_auth_token": "secret"},
        "b": {"config": {"regular_expression": "5$"}, "mo_url": url("/b")},
        "c": {"config": {"regular_expression": "^never$", "default": True}, "mo_url": url("/c")},
    })  # fmt: skip
    await arrives(bench, mo(channel, "123", "to a"), mo(channel, "145", "to both"), mo(channel, "9", "to the default"))
    await bench.app.wait(4)
    assert [contents(bench, path) for path in ("/a", "/b", "/c")] == [["to a", "to both"], ["to both"], ["to the default"]]
    assert {body["channel_id"] for body in bench.app.received} == {channel}
    assert {request.headers.get("Authorization") for request in bench.app.requests if request.path == "/a"} == {"Token secret"}
    message = application(bench, "/a")[0]
    kept = await bench.stores.inbound.get(channel, message["message_id"])
    assert kept  # it can be replied to
    assert kept.content == "to a"


async def test_what_nobody_is_for_is_dropped_counted_and_seen(bench: Bench) -> None:
    channel, router = await routed_channel(bench, {"a": {"config": {"regular_expression": "^1"}, "mo_url": bench.app.url("/a")}})
    await arrives(bench, mo(channel, "9", "nobody's"), mo(channel, "1", "a's"))
    await bench.app.wait(1)

    async def told() -> bool:
        return (await bench.component(router, "routing")).get("type") == "dropped"

    await eventually(told)
    component = await bench.component(router, "routing")
    assert (component["status"], component["details"]) == ("degraded", {"dropped": 1})
    assert contents(bench, "/a") == ["a's"]


async def test_a_changed_destination_is_in_force_when_that_is_answered(bench: Bench) -> None:
    url = bench.app.url
    channel, router = await routed_channel(bench, {"a": {"config": {"regular_expression": "^1"}, "mo_url": url("/before")}})
    asking = bench.asking
    (old,) = (await bench.stores.routers.destinations(router)).values()
    changed = DestinationSpec.from_properties("a", {"config": {"regular_expression": "^2"}, "mo_url": url("/after")})
    await bench.stores.routers.put_destination(router, old, changed, ())
    assert await asking.ask(router, "refresh", 5.0, destinations=["a"]) == {}
    await arrives(bench, mo(channel, "1", "too late"), mo(channel, "2", "in time"))
    await bench.app.wait(1)
    assert (contents(bench, "/after"), contents(bench, "/before")) == (["in time"], [])
    (now,) = (await bench.stores.routers.destinations(router)).values()
    await bench.stores.routers.delete_destination(router, now, ())
    await asking.ask(router, "refresh", 5.0, destinations=["a"])
    await arrives(bench, mo(channel, "2", "nobody's"))

    async def dropped() -> bool:
        return bool((await bench.component(router, "routing")).get("type") == "dropped")

    await eventually(dropped)
    assert len(bench.app.received) == 1


async def test_events_find_to_the_destination_also_after_a_restart(bench: Bench) -> None:
    """And by what they bear, when Redis knows nothing."""
    app = bench.app
    channel, router = await routed_channel(bench, {"a": {"config": {"regular_expression": "^1"}, "amqp_queue": "of-a"}})
    queue: asyncio.Queue[bytes] = asyncio.Queue()
    await bench.broker.declare({"of-a.event": {}}, bind=True)
    bench.broker.consume(("of-a.event",), lambda each: (queue.put_nowait(each.body), each.ack()), prefetch=10)

    async def send(content: str, *, known: bool = True) -> str:
        url = app.url("/events")
        message = UserMessage(to_addr="+27", from_addr=None, content=content, transport_name=channel, event_url=url)
        message = routed(message, router, "a")
        if known:
            await bench.stores.outbound.put_routed(channel, (message,))
        await bench.broker.publish(names.outbound_queue(channel), message.to_wire())
        return message.message_id

    first = await send("one")
    body = (await app.wait(1))[0]
    assert (body["event_type"], body["message_id"], body["channel_id"]) == ("submitted", first, channel)
    assert orjson.loads(await asyncio.wait_for(queue.get(), 10))["user_message_id"] == first
    await bench.stop(router)
    second = await send("two", known=False)
    report = Event(event_type="delivery_report", user_message_id=first, delivery_status="delivered", transport_name=channel)
    await bench.put(names.event_queue(channel), report.to_wire())
    bench.start_router(router)
    missing = {(second, "ack"), (second, "delivery_report"), (first, "delivery_report")}
    while missing:
        event = orjson.loads(await asyncio.wait_for(queue.get(), 10))
        missing.discard((event["user_message_id"], event["event_type"]))


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
async def test_what_comes_while_the_router_is_away_waits_for_it(bench: Bench) -> None:
    channel, router = await routed_channel(bench, {"a": {"config": {"regular_expression": "^1"}, "mo_url": bench.app.url("/a")}})
    await bench.stop(router)
    await arrives(bench, *(mo(channel, "1", str(number)) for number in range(20)))
    bench.start_router(router)
    await bench.app.wait(20)
    assert contents(bench, "/a") == [str(number) for number in range(20)]  # in their order


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
async def test_a_channel_that_does_not_know_yet_that_it_is_routed_drops_nothing(bench: Bench) -> None:
    """Its worker is asked for nothing: it looks, before it drops."""
    channel = await bench.channel("loopback", {}, **QUIET)
    await bench.running(channel)
    await bench.stores._redis.run(("HSET", names.ROUTED_CHANNELS, channel, "a-router"))  # and nobody is told
    await arrives(bench, *(mo(channel, "1", str(number)) for number in range(20)))

    async def waits() -> bool:
        return await bench.length(names.inbound_queue(channel)) == 20

    await eventually(waits)


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
async def test_a_channel_that_does_not_know_yet_that_it_has_an_application_drops_nothing(bench: Bench) -> None:
    channel = await bench.channel("loopback", {}, **QUIET)
    await bench.running(channel)
    properties = (await bench.stores.channels.get(channel)).to_properties()
    stored = orjson.dumps({**properties, "mo_url": bench.app.url("/own")})
    await bench.stores._redis.run(("SET", names.channel_properties(channel), stored))  # and nobody is told
    messages = [mo(channel, "1", str(number)) for number in range(20)]
    await arrives(bench, *messages)

    async def is_read() -> bool:
        return await bench.stores.inbound.get(channel, messages[0].message_id) is not None

    await eventually(is_read)
    await bench.stores.channels.notify_changed(channel)
    await bench.app.wait(20)
    assert contents(bench, "/own") == [str(number) for number in range(20)]


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
async def test_a_channel_whose_router_is_gone_is_its_own_again(bench: Bench) -> None:
    channel, router = await routed_channel(bench, {"a": {"config": {"regular_expression": "^1"}, "mo_url": bench.app.url("/a")}})
    await bench.stop(router)
    spec = await bench.stores.channels.get(channel)
    changed = type(spec).from_properties(channel, {**spec.to_properties(), "mo_url": bench.app.url("/own")}, 1, spec.stored)
    await bench.stores.channels.update(spec, changed, restart=False)
    await bench.stores.routers.delete(router, channel)
    await arrives(bench, mo(channel, "1", "mine"))
    await bench.app.wait(1)
    assert contents(bench, "/own") == ["mine"]


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
async def test_one_destination_that_is_down_slows_no_other(bench: Bench) -> None:
    down = Application()
    await down.start()
    down.going_on.clear()  # it hangs
    channel, _ = await routed_channel(bench, {
        "down": {"config": {"regular_expression": "^1"}, "mo_url": down.url("/")},
        "up": {"config": {"regular_expression": "^2"}, "mo_url": bench.app.url("/up")},
    })  # fmt: skip
    for number in range(100):
        await arrives(bench, mo(channel, "1", f"down {number}", from_addr=f"+27{number}"), mo(channel, "2", f"up {number}"))
    await bench.app.wait(100)
    assert contents(bench, "/up") == [f"up {number}" for number in range(100)]
    down.going_on.set()
    await eventually(lambda: {body["content"] for body in down.received} == {f"down {number}" for number in range(100)})
    await down.stop()


async def test_a_session_stays_where_it_began_also_after_a_restart(bench: Bench) -> None:
    url = bench.app.url
    channel, router = await routed_channel(bench, {
        "join": {"config": {"keyword": "join"}, "mo_url": url("/join")},
        "other": {"config": {"keyword": "other", "default": True}, "mo_url": url("/other")},
    }, "keyword")  # fmt: skip
    await arrives(bench, mo(channel, "1", "JOIN us", session_event="new"), mo(channel, "1", "1", session_event="resume"))
    await bench.app.wait(2)
    await bench.stop(router)
    bench.start_router(router)
    await arrives(bench, mo(channel, "1", "2", session_event="resume"), mo(channel, "1", None, session_event="close"))
    await bench.app.wait(4)
    await arrives(bench, mo(channel, "1", "3", session_event="resume"), mo(channel, "1", "join", from_addr="+1"))
    await bench.app.wait(6)
    assert contents(bench, "/join") == ["JOIN us", "1", "2", None, "join"]
    assert contents(bench, "/other") == ["3"]


async def test_what_a_destination_sends_over_rabbitmq_leaves_by_the_channel(bench: Bench) -> None:
    channel, router = await routed_channel(bench, {"a": {"config": {"regular_expression": "^1"}, "amqp_queue": "app"}})
    queue: asyncio.Queue[bytes] = asyncio.Queue()
    await bench.broker.declare({"app.event": {}}, bind=True)
    bench.broker.consume(("app.event",), lambda each: (queue.put_nowait(each.body), each.ack()), prefetch=10)
    message = UserMessage(to_addr="+27", from_addr=None, content="from the app", transport_name="app")
    await bench.broker.declare({"app.outbound": {}}, bind=True)
    await bench.broker.publish("app.outbound", message.to_wire(), exchange=names.EXCHANGE)
    event = orjson.loads(await asyncio.wait_for(queue.get(), 10))
    assert (event["user_message_id"], event["event_type"], event["transport_name"]) == (message.message_id, "ack", channel)
    await bench.broker.publish("app.outbound", b"no message", exchange=names.EXCHANGE)

    async def buried() -> bool:
        return await bench.length(names.dead_queue(router)) == 1

    await eventually(buried)


async def test_when_redis_was_emptied_the_destinations_are_written_back(bench: Bench) -> None:
    channel, router = await routed_channel(bench, {"a": {"config": {"regular_expression": "^1"}, "mo_url": bench.app.url("/a")}})
    specs = (await bench.stores.channels.get(channel), await bench.stores.routers.get(router))
    await bench.stores._redis.run(("FLUSHDB",))
    await bench.stores.wanted.restore(specs, {channel: router})  # as the reconciler does

    async def back() -> bool:
        return list(await bench.stores.routers.destinations(router)) == ["a"]

    await eventually(back)
    await arrives(bench, mo(channel, "1", "still"))
    await bench.app.wait(1)
    assert contents(bench, "/a") == ["still"]


async def test_a_fault_of_the_type_costs_its_message_the_way_and_no_other(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    channel, router = await routed_channel(bench, {"a": {"config": {"regular_expression": "^1"}, "mo_url": bench.app.url("/a")}})
    right = FromAddressRouter.route

    def route(self: FromAddressRouter, message: UserMessage) -> Sequence[str]:
        if message.content == "odd":
            raise ZeroDivisionError
        return right(self, message)

    monkeypatch.setattr(FromAddressRouter, "route", route)
    await arrives(bench, mo(channel, "1", "before"), mo(channel, "1", "odd"), mo(channel, "1", "after"))
    await bench.app.wait(2)
    assert contents(bench, "/a") == ["before", "after"]

    async def buried() -> bool:
        return await bench.length(names.dead_queue(router)) == 1

    await eventually(buried)


async def test_a_config_of_no_use_stops_nobody_and_is_told(bench: Bench) -> None:
    channel, router = await routed_channel(bench, {
        "a": {"config": {"regular_expression": "^1"}, "mo_url": bench.app.url("/a")},
        "b": {"config": {"regular_expression": "(?<=1)2("}, "mo_url": bench.app.url("/b")},
    })  # fmt: skip
    await arrives(bench, mo(channel, "12", "to a"))
    await bench.app.wait(1)
    component = await bench.component(router, "routing")
    assert (component["status"], component["type"]) == ("degraded", "faulty_destinations")
    assert list(component["details"]["destinations"]) == ["b"]


async def test_a_destination_that_failed_and_is_changed_fails_no_more(bench: Bench) -> None:
    """As a channel's: what its callbacks do not go to any more is no trouble of the router's."""
    nowhere = {"config": {"regular_expression": "^1"}, "mo_url": "http://127.0.0.1:1/"}
    channel, router = await routed_channel(bench, {"a": nowhere, "b": {"config": {"regular_expression": "^2"}}})
    await arrives(bench, mo(channel, "1"))

    async def is_told(status: str) -> bool:
        return (await bench.component(router, "callbacks")).get("status") == status

    await eventually(lambda: is_told("degraded"))
    old = (await bench.stores.routers.destinations(router))["a"]
    changed = DestinationSpec.from_properties("a", {**nowhere, "mo_url": bench.app.url("/a")})
    await bench.stores.routers.put_destination(router, old, changed, ())
    await bench.asking.ask(router, "refresh", 5.0, destinations=["a"])
    await eventually(lambda: is_told("ok"))
    await bench.app.wait(1)  # and what waited goes where it is to go now
