"""The worker's promises, from queue or socket to application and back."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import orjson
import pytest

from junebug import names
from junebug.config.declaration import RedisSettings
from junebug.errors import NotRunning
from junebug.model.messages import Event, Status
from junebug.model.spec import ChannelSpec
from junebug.stores import Stores
from junebug.transports.loopback.transport import LoopbackTransport
from junebug.worker.process import ChannelWorker
from tests.polling import eventually
from tests.servers import RedisServer, free_port
from tests.worker.conftest import Bench


async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    return reader, writer, "{}:{}".format(*writer.get_extra_info("sockname"))


async def line(reader: asyncio.StreamReader) -> str:
    return (await asyncio.wait_for(reader.readline(), 10)).decode()


async def test_loopback_returns_what_it_was_sent_with_events(bench: Bench) -> None:
    channel = await bench.channel("loopback", {})
    message_id = await bench.send(channel, "+27", "hello", bench.app.url("/event"))
    received = await bench.app.wait(3)
    by_type = {body.get("event_type"): body for body in received}
    assert set(by_type) == {None, "submitted", "delivery_succeeded"}
    assert by_type[None]["content"] == "hello"
    assert by_type[None]["from"] == "+27"
    assert by_type["submitted"]["message_id"] == message_id
    events = await bench.stores.outbound.events(channel, message_id)
    assert {event.api_type for event in events} == {"submitted", "delivery_succeeded"}


async def test_a_telnet_session_goes_new_resume_close(bench: Bench) -> None:
    port = free_port()
    channel = await bench.channel("telnet", {"twisted_endpoint": f"tcp:{port}:interface=127.0.0.1"})
    await bench.running(channel)
    reader, writer, address = await connect(port)
    await bench.app.wait(1)
    writer.write(b"Hi there\r\n")
    await bench.app.wait(2)
    message_id = await bench.send(channel, address, "hello", bench.app.url("/event"))
    assert await line(reader) == "hello\n"
    await bench.app.wait(3)
    writer.close()
    received = await bench.app.wait(4)
    sessions = [(b["channel_data"]["session_event"], b["content"]) for b in received if "event_type" not in b]
    assert sessions == [("new", None), ("resume", "Hi there"), ("close", None)]
    (event,) = [body for body in received if "event_type" in body]
    assert (event["event_type"], event["message_id"]) == ("submitted", message_id)
    assert {b["to"] for b in received if "event_type" not in b} == {f"127.0.0.1:{port}"}
    assert {b["from"] for b in received if "event_type" not in b} == {address}


async def test_an_unknown_telnet_address_is_shown_and_rejected(bench: Bench) -> None:
    port = free_port()
    channel = await bench.channel("telnet", {"twisted_endpoint": f"tcp:{port}"})
    await bench.running(channel)
    reader, writer, _ = await connect(port)
    await bench.app.wait(1)
    await bench.send(channel, "1.2.3.4:5", "lost", bench.app.url("/event"))
    assert await line(reader) == "UNKNOWN ADDR [1.2.3.4:5]: lost\n"
    event = (await bench.app.wait(2))[1]
    assert event["event_type"] == "rejected"
    assert event["event_details"] == {"reason": "Unknown address."}
    writer.close()


async def test_a_session_close_disconnects_after_writing(bench: Bench) -> None:
    port = free_port()
    channel = await bench.channel("telnet", {"twisted_endpoint": f"tcp:{port}"})
    await bench.running(channel)
    reader, _, address = await connect(port)
    await bench.app.wait(1)
    await bench.send(channel, address, "bye", session_event="close")
    assert await asyncio.wait_for(reader.read(), 10) == b"bye\n"
    assert (await bench.app.wait(2))[1]["channel_data"] == {"session_event": "close"}


async def test_a_failed_callback_is_repeated_and_blocks_nobody(bench: Bench) -> None:
    channel = await bench.channel("loopback", {"delivery_reports": False})
    bench.app.answers = [500, 500]
    await bench.send(channel, "1", "first")
    await bench.app.wait(1)
    for number in range(5):
        await bench.send(channel, f"other-{number}", "second")
    received = await bench.app.wait(8)
    ids = [body["message_id"] for body in received]
    assert ids.count(received[0]["message_id"]) >= 2
    assert len(set(ids)) == 6

    async def drained() -> bool:
        return await bench.length(names.inbound_queue(channel)) == 0

    await eventually(drained)


async def test_malformed_json_goes_to_the_dead_letters(bench: Bench) -> None:
    channel = await bench.channel("loopback", {})
    for queue in (names.outbound_queue(channel), names.inbound_queue(channel), names.event_queue(channel)):
        await bench.broker.publish(queue, b"{broken")

    async def buried() -> bool:
        return await bench.length(names.dead_queue(channel)) == 3

    await eventually(buried)
    await bench.send(channel, "1", "still works")
    assert (await bench.app.wait(1))[0]["content"] == "still works"


async def test_a_worker_hears_of_its_own_channel_alone(bench: Bench) -> None:
    channel = await bench.channel("loopback", {})

    async def listens() -> bool:
        (topics,) = await bench.stores._redis.run(("PUBSUB", "NUMSUB", names.change_topic(channel)))
        return list(topics.values() if isinstance(topics, dict) else topics[1::2]) == [1]

    await eventually(listens)


async def test_changed_settings_are_applied_without_a_restart(bench: Bench) -> None:
    port = free_port()
    channel = await bench.channel("telnet", {"twisted_endpoint": f"tcp:{port}"})
    await bench.running(channel)
    _, writer, _ = await connect(port)
    await bench.app.wait(1)
    old = await bench.stores.channels.get(channel)
    new = ChannelSpec.from_properties(channel, old.to_properties() | {"mo_url": bench.app.url("/new")})
    await bench.stores.channels.update(old, new, restart=False)

    async def moved() -> bool:
        writer.write(b"x\n")
        await asyncio.sleep(0.05)
        return any(request.path == "/new" for request in bench.app.requests)

    await eventually(moved)


async def test_a_change_that_nobody_told_of_is_found(bench: Bench) -> None:
    bench.settings = dataclasses.replace(bench.settings, reconcile_interval=0.03)
    channel = await bench.channel("loopback", {})
    await bench.running(channel)
    for is_paused in (True, False, True):  # the first may be found because the subscription is new
        await store_paused(bench, channel, is_paused)
        wanted = "paused" if is_paused else "resumed"

        async def found(wanted: str = wanted) -> bool:
            return (await bench.component(channel, "outbound")).get("type") == wanted

        await eventually(found)


async def store_paused(bench: Bench, channel: str, is_paused: bool) -> None:
    """Nobody is told."""
    spec = await bench.stores.channels.get(channel)
    changed = orjson.dumps(spec.to_properties() | {"paused": is_paused})
    await bench.stores._redis.run(("SET", names.channel_properties(channel), changed))


async def test_a_process_that_is_asked_to_follow_has_applied_what_is_stored_when_it_answers(bench: Bench) -> None:
    channel = await bench.channel("loopback", {"delivery_reports": False})
    await bench.running(channel)
    for is_paused in (True, False, True):
        await store_paused(bench, channel, is_paused)
        assert await bench.asking.ask(channel, "follow", 10) == {"paused": is_paused}
        await bench.send(channel, "+27", f"paused: {is_paused}")
        if not is_paused:
            await bench.app.wait(2)  # what is not begun goes back with the next pause
    assert [body["content"] for body in await bench.app.wait(2)] == ["paused: True", "paused: False"]
    assert await bench.broker.queue_length(names.outbound_queue(channel)) == 1


async def test_a_pause_while_a_process_starts_is_applied_before_it_sends(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts, may_go_on = asyncio.Event(), asyncio.Event()

    async def start(self: LoopbackTransport) -> None:
        starts.set()
        await may_go_on.wait()

    monkeypatch.setattr(LoopbackTransport, "start", start)
    channel = await bench.channel("loopback", {"delivery_reports": False})
    await bench.send(channel, "+27", "later")
    await starts.wait()
    await store_paused(bench, channel, True)
    assert await bench.asking.ask(channel, "follow", 10) == {"paused": True}
    may_go_on.set()

    async def is_told() -> bool:
        return (await bench.component(channel, "outbound")).get("type") == "paused"

    await eventually(is_told)
    assert await bench.broker.queue_length(names.outbound_queue(channel)) == 1
    assert not bench.app.received


async def test_when_redis_was_emptied_the_statuses_are_said_again(bench: Bench) -> None:
    channel = await bench.channel("loopback", {})
    await bench.running(channel)
    spec = await bench.stores.channels.get(channel)
    await bench.stores._redis.run(("DEL", names.channel_properties(channel), names.channel_status(channel)))
    await bench.stores.wanted.restore([spec])  # as the reconciler does
    await bench.running(channel)


async def test_what_is_in_flight_at_a_stop_is_finished_or_kept(bench: Bench) -> None:
    channel = await bench.channel("loopback", {"delivery_reports": False})
    await bench.running(channel)
    for number in range(200):
        await bench.send(channel, "1", str(number))
    assert await bench.stop(channel) == 0
    bench.start(channel)

    async def all_there() -> bool:
        return len({body["content"] for body in bench.app.received}) == 200

    await eventually(all_there)


async def test_rates_count_the_last_whole_window(bench: Bench) -> None:
    channel = await bench.channel("loopback", {})
    await bench.running(channel)

    async def counted() -> bool:
        await bench.send(channel, "1", "x", bench.app.url("/event"))
        rates = await bench.stores.rates.rates(channel)
        return all(rates[name] for name in ("inbound_message", "outbound_message", "submitted", "delivery_succeeded"))

    await eventually(counted)


async def test_an_unroutable_publish_is_visible_and_repeated(bench: Bench) -> None:
    queue = f"app-{free_port()}"
    channel = await bench.channel("loopback", {"delivery_reports": False}, mo_url=None, amqp_queue=queue)
    await bench.running(channel)
    message_id = await bench.send(channel, "1", "to amqp")

    async def degraded() -> bool:
        return (await bench.component(channel, "callbacks")).get("status") == "degraded"

    await eventually(degraded)
    await bench.broker.declare({f"{queue}.inbound": {}, f"{queue}.event": {}}, bind=True, remember=False)
    got: list[dict[str, Any]] = []

    def take(delivery: Any) -> None:
        got.append(orjson.loads(delivery.body))
        delivery.ack()

    consumers = [bench.broker.consume(f"{queue}.{kind}", take, prefetch=10) for kind in ("inbound", "event")]

    async def both() -> bool:
        return len(got) >= 2

    await eventually(both, 15)
    assert {wire["message_type"] for wire in got} == {"user_message", "event"}
    assert [wire["user_message_id"] for wire in got if wire["message_type"] == "event"] == [message_id]

    async def ok_again() -> bool:
        return (await bench.component(channel, "callbacks")).get("status") == "ok"

    await eventually(ok_again)
    for consumer in consumers:
        await consumer.cancel()
    await bench.broker.delete_queues([f"{queue}.inbound", f"{queue}.event", f"{queue}.outbound"])


async def test_messages_of_the_app_queue_are_sent(bench: Bench) -> None:
    queue = f"app-{free_port()}"
    channel = await bench.channel("loopback", {}, amqp_queue=queue)
    await bench.running(channel)
    wire = {"message_type": "user_message", "to_addr": "1", "from_addr": "2", "content": "from amqp",
            "timestamp": "2016-03-18T11:49:36Z", "transport_name": queue}  # fmt: skip

    async def published() -> bool:
        try:
            await bench.broker.publish(f"{queue}.outbound", orjson.dumps(wire), exchange=names.EXCHANGE)
        except Exception:
            return False
        return True

    await eventually(published)
    assert (await bench.app.wait(1))[0]["content"] == "from amqp"
    await bench.broker.delete_queues([f"{queue}.outbound"])


async def test_an_event_of_nobodys_message_is_kept_out_of_the_way(bench: Bench) -> None:
    channel = await bench.channel("loopback", {})
    event = Event(event_type="ack", user_message_id="", transport_name=channel)
    await bench.put(names.event_queue(channel), event.to_wire())
    await bench.send(channel, "1", "goes on")
    assert (await bench.app.wait(1))[0]["content"] == "goes on"


async def test_a_status_is_acknowledged_only_once_redis_has_it(bench: Bench, own_redis: RedisServer) -> None:
    redis = RedisSettings(host=own_redis.host, port=own_redis.port)
    bench.settings = dataclasses.replace(bench.settings, redis=redis, request_timeout=0.5)
    bench.stores = Stores(bench.settings)
    channel = await bench.channel("loopback", {})
    await bench.running(channel)
    own_redis.kill()
    status = Status(channel_id=channel, component="link", status="down", type="lost", message="x")
    queue = names.status_queue(channel)
    await bench.broker.publish(queue, status.to_wire())

    async def taken() -> bool:
        return await bench.broker.queue_length(queue) == 0

    await eventually(taken)
    await bench.stop(channel)
    assert await bench.broker.queue_length(queue) == 1
    own_redis.start()
    bench.start(channel)

    async def stored() -> bool:
        return "link" in await bench.stores.statuses.components(channel)

    await eventually(stored)


async def test_a_stored_amqp_queue_that_can_be_none_is_a_status_and_the_channel_goes_on(bench: Bench) -> None:
    channel = await bench.channel("loopback", {}, amqp_queue="é")
    await bench.running(channel)

    async def is_told() -> bool:
        return (await bench.component(channel, "amqp_queue")).get("type") == "invalid"

    await eventually(is_told)
    await bench.send(channel, "1", "still sent")
    await bench.app.wait(1)
    old = await bench.stores.channels.get(channel)
    new = ChannelSpec.from_properties(channel, old.to_properties() | {"amqp_queue": f"app-{channel[:8]}"})
    await bench.stores.channels.update(old, new, restart=False)

    async def is_valid() -> bool:
        return (await bench.component(channel, "amqp_queue")).get("status") == "ok"

    await eventually(is_valid)
    assert not bench.workers[channel].done()
    await bench.broker.delete_queues([f"app-{channel[:8]}.outbound"])


async def test_a_pause_holds_that_came_before_the_process_could_be_asked(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who pauses then is told that the process reads it; it may have read before."""
    open_for_questions = ChannelWorker._open
    asked: list[type[BaseException]] = []

    async def paused_before(worker: ChannelWorker, *arguments: Any) -> Any:
        await store_paused(bench, worker._id, True)
        try:
            await bench.asking.ask(worker._id, "follow", 10)
        except NotRunning as error:
            asked.append(type(error))
        await bench.send(worker._id, "+27", "after the pause")
        return await open_for_questions(worker, *arguments)

    monkeypatch.setattr(ChannelWorker, "_open", paused_before)
    channel = await bench.channel("loopback", {})
    await bench.running(channel)
    told = await bench.asking.ask(channel, "look", 10)
    assert (asked, told["paused"], sum(told["sending"].values())) == ([NotRunning], True, 0)
    assert bench.app.received == []
    assert await bench.length(names.outbound_queue(channel)) == 1
