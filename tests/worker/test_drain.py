"""The end of a deleted channel: who hears of what was queued, and what becomes of those who do not listen."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace

from junebug import names
from junebug.amqp.broker import Broker
from junebug.amqp.frames import Delivery
from junebug.config.declaration import Settings
from junebug.errors import BrokerUnavailable, StoreUnavailable, Unroutable
from junebug.model.callbacks import Callback
from junebug.model.messages import Event, UserMessage
from junebug.model.spec import ChannelSpec
from junebug.stores import Stores
from junebug.worker.callbacks import drain
from tests.harness import Reply, WebhookSink
from tests.polling import eventually
from tests.servers import RabbitmqServer, RedisServer

MO_URL, EVENT_URL = "/mo", "/event"


class Deleted:
    """A channel that is deleted, and what it leaves."""

    def __init__(self, settings: Settings, stores: Stores, broker: Broker, sink: WebhookSink) -> None:
        self.settings = settings
        self.stores = stores
        self.broker = broker
        self.sink = sink
        self.id = str(uuid.uuid4())
        self.app = f"app-{self.id[:8]}"
        self.spec = ChannelSpec(id=self.id, type="telnet", config={}, mo_url=sink.url(MO_URL), mo_url_auth_token="t")
        self.delayed = names.retry_queues(self.id, settings.callback_retry_delays)

    async def declare(self) -> None:
        await self.broker.declare(names.channel_queues(self.id), remember=False)

    async def sent(self, *contents: str, priority: int = 1, queue: str = "", event_url: bool = True) -> None:
        """MTs that wait to be sent."""
        for content in contents:
            message = UserMessage(to_addr="+27", from_addr=None, content=content, transport_name=self.id)
            url = self.sink.url(EVENT_URL) if event_url else None
            await self.stores.outbound.put(self.id, replace(message, event_url=url))
            await self.broker.publish(queue or names.outbound_queue(self.id, priority), message.to_wire())

    async def received(self, *contents: str, sender: str = "+1") -> None:
        """MOs that wait for the application."""
        await self.broker.publish_many(
            names.inbound_queue(self.id), [self.message(content, sender).to_wire() for content in contents]
        )

    def message(self, content: str, sender: str = "+1") -> UserMessage:
        return UserMessage(to_addr="+2", from_addr=sender, content=content, transport_name=self.id)

    async def delay(self, queue: str, callback: Callback) -> None:
        await self.broker.declare({queue: names.waiting_arguments(self.id, 3600)}, remember=False)
        await self.broker.publish(queue, callback.to_wire())

    async def drain(self) -> None:
        named = await self.stores.wanted.named_queues()
        await drain.drain(self.settings, self.broker, self.stores, self.spec, self.delayed, named)

    async def left(self) -> int:
        return sum((await self.broker.queue_lengths([*names.channel_queues(self.id), *self.delayed])).values())

    async def taken(self, queue: str) -> list[dict[str, Any]]:
        """What is in a queue of the application."""
        found: list[dict[str, Any]] = []

        async def take(deliveries: Any) -> bool:
            for delivery in deliveries:
                found.append(json.loads(delivery.body))
                delivery.ack()
            return True

        await self.broker.browse(queue, take, keeping=False)
        return found

    async def clean_up(self) -> None:
        own = [*names.channel_queues(self.id), *self.delayed]
        of_app = [kind(self.app) for kind in (names.outbound_queue, names.inbound_queue, names.event_queue)]
        await self.broker.delete_queues([*own, *of_app])


@pytest.fixture
async def deleted(settings: Settings) -> AsyncIterator[Deleted]:
    stores, broker = Stores(settings), Broker(settings.amqp, "test")
    broker.start()
    await broker.wait_connected(10)
    async with WebhookSink() as sink:
        channel = Deleted(settings, stores, broker, sink)
        await channel.declare()
        yield channel
        await broker.wait_connected(30)  # a test may have killed RabbitMQ
        await channel.clean_up()
    await broker.close()
    await stores.close()


async def test_what_is_queued_is_cancelled_and_what_waits_is_called_once(deleted: Deleted) -> None:
    await deleted.sent("a", "b")
    await deleted.sent("urgent", priority=5)
    await deleted.sent("nobody asked", event_url=False)
    await deleted.received("mo")
    again = deleted.message("again")
    callback = Callback(to="mo_url", kind="inbound", id=again.message_id, wire=again.to_wire(), attempts=7)
    await deleted.delay(deleted.delayed[-1], callback)
    event = Event(event_type="ack", user_message_id="m", sent_message_id="s", transport_name=deleted.id)
    callback = Callback(to="event_url", kind="event", id=event.event_id, wire=event.to_wire(), url=deleted.sink.url("/late"))
    await deleted.broker.publish(names.callback_queue(deleted.id), callback.to_wire())
    await deleted.broker.publish(names.callback_queue(deleted.id), b"not a callback")
    await deleted.drain()
    assert sorted(body["content"] for body in deleted.sink.bodies(MO_URL)) == ["again", "mo"]
    assert {each.headers["Authorization"] for each in deleted.sink.requests(MO_URL)} == {"Token t"}
    assert deleted.sink.requests(MO_URL)[0].headers["Webhook-Id"]
    events = [(body["event_type"], body["event_details"]["reason"]) for body in deleted.sink.bodies(EVENT_URL)]
    assert events == [("rejected", "cancelled")] * 3
    assert [body["event_type"] for body in deleted.sink.bodies("/late")] == ["submitted"]
    assert await deleted.left() == 1  # the dead letter of what was no callback
    before = len(deleted.sink.received)
    await deleted.drain()
    assert len(deleted.sink.received) == before


@pytest.mark.parametrize("is_quorum", [False, True])
async def test_what_is_in_queues_of_another_kind_is_called_too(
    deleted: Deleted, is_quorum: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`queue_type` was changed, and the channel deleted before its process was started again."""
    monkeypatch.setattr(deleted.broker, "is_quorum", is_quorum)
    queues = [names.incoming_queues(deleted.id, kind) | names.callback_queues(deleted.id, kind) for kind in (False, True)]
    await deleted.broker.declare(queues[True], remember=False)
    for n, kind in enumerate((not is_quorum, is_quorum)):
        for m in range(30):
            content = str(n * 30 + m)
            body = deleted.message(content).to_wire()
            await deleted.broker.publish(names.of_kind(names.inbound_queue(deleted.id), kind), body)
    again = deleted.message("again", "+2")
    callback = Callback(to="mo_url", kind="inbound", id=again.message_id, wire=again.to_wire(), attempts=7)
    await deleted.broker.publish(names.of_kind(names.callback_queue(deleted.id), not is_quorum), callback.to_wire())
    await deleted.drain()
    contents = [body["content"] for body in deleted.sink.bodies(MO_URL)]
    assert sorted(contents) == sorted([*map(str, range(60)), "again"])
    left = await deleted.broker.look_at_queues([*queues[False], *queues[True]])
    assert not any(each.messages for each in left.values())
    await deleted.broker.delete_queues([*queues[True]])


async def test_those_of_one_address_are_called_in_their_order(deleted: Deleted) -> None:
    for n in range(60):
        await deleted.received(f"{n}", sender=f"+{n % 3}")
    deleted.sink.reply_to_content("0", Reply(delay=0.2))
    await deleted.drain()
    bodies = deleted.sink.bodies(MO_URL)
    for sender in ("+0", "+1", "+2"):
        numbers = [int(body["content"]) for body in bodies if body["from"] == sender]
        assert numbers == sorted(numbers)
    assert len(bodies) == 60


async def test_a_refusal_is_not_repeated(deleted: Deleted) -> None:
    deleted.sink.always[MO_URL] = Reply(500)
    await deleted.received("a", "b")
    await deleted.drain()
    assert len(deleted.sink.bodies(MO_URL)) == 2
    assert await deleted.left() == 0


async def test_a_destination_that_never_answers_is_left_alone_and_keeps_no_other_waiting(
    deleted: Deleted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "ATTEMPT_TIMEOUT", 1.0)
    deleted.settings = dataclasses.replace(deleted.settings, callback_concurrency=5)
    deleted.sink.always[MO_URL] = Reply(hang=True)
    for n in range(300):
        await deleted.received(f"{n}", sender=f"+{n}")
    async with WebhookSink() as other:
        event = Event(event_type="ack", user_message_id="m", sent_message_id="s", transport_name=deleted.id)
        url, channel = other.url("/other"), deleted.id
        sent = UserMessage(message_id="m", to_addr="1", from_addr=None, content="", transport_name=channel, event_url=url)
        await deleted.stores.outbound.put(channel, sent)
        await deleted.broker.publish(names.event_queue(deleted.id), event.to_wire())
        await deleted.drain()
        assert len(other.bodies("/other")) == 1
    assert len(deleted.sink.bodies(MO_URL)) < 20
    assert await deleted.left() == 0


async def test_when_the_time_is_over_the_rest_stays_where_it_is(
    deleted: Deleted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "LONGEST", 3.0)
    deleted.sink.always[MO_URL] = Reply(delay=0.5)
    await deleted.received(*map(str, range(100)))
    await deleted.drain()
    assert 0 < len(deleted.sink.bodies(MO_URL)) < 100
    assert 0 < await deleted.left() < 100


async def test_the_applications_queues_get_what_they_should_and_its_own_stay(deleted: Deleted) -> None:
    deleted.spec = dataclasses.replace(deleted.spec, mo_url=None, amqp_queue=deleted.app)
    outbound, inbound, events = (f"{deleted.app}.{kind}" for kind in ("outbound", "inbound", "event"))
    await deleted.broker.declare({outbound: {}, inbound: {}, events: {}}, bind=True, remember=False)
    await deleted.sent("ours", event_url=False)
    await deleted.sent("theirs", queue=outbound, event_url=False)
    await deleted.received("mo")
    await deleted.drain()
    assert [body["content"] for body in await deleted.taken(inbound)] == ["mo"]
    told = await deleted.taken(events)
    assert [(event["event_type"], event["nack_reason"]) for event in told] == [("nack", "cancelled")] * 2
    await deleted.broker.publish(inbound, b"{}")
    await deleted.broker.publish(events, b"{}")
    with pytest.raises(Unroutable):
        await deleted.broker.publish(outbound, b"{}")


async def test_an_outbound_queue_that_others_use_is_left_alone(deleted: Deleted) -> None:
    deleted.spec = dataclasses.replace(deleted.spec, amqp_queue=deleted.app)
    queue = f"{deleted.app}.outbound"
    await deleted.broker.declare({queue: {}}, remember=False)
    other = ChannelSpec(id=str(uuid.uuid4()), type="telnet", config={}, amqp_queue=deleted.app, given=frozenset({"amqp_queue"}))
    await deleted.stores.channels.create(other)  # its worker is not up
    await deleted.sent("theirs", queue=queue)
    await deleted.drain()
    assert await deleted.broker.queue_length(queue) == 1
    await deleted.stores.channels.delete(other.id)
    held: list[Delivery] = []
    consumer = deleted.broker.consume(queue, held.append, prefetch=10)
    await eventually(lambda: held)
    await deleted.drain()
    await consumer.cancel()
    assert await deleted.broker.queue_length(queue) == 1
    assert not deleted.sink.received


async def test_a_queue_that_the_dead_workers_link_still_holds_is_waited_for(deleted: Deleted) -> None:
    await deleted.received("mo")
    dead = Broker(deleted.settings.amqp, "dead")
    dead.start()
    await dead.wait_connected(10)
    held: list[Delivery] = []
    dead.consume(names.inbound_queue(deleted.id), held.append, prefetch=10)
    await eventually(lambda: held)
    task = asyncio.create_task(deleted.drain())
    await dead.close()
    await task
    assert [body["content"] for body in deleted.sink.bodies(MO_URL)] == ["mo"]


async def test_redis_or_rabbitmq_away_is_told_and_loses_nothing(
    deleted: Deleted, own_redis: RedisServer, own_rabbitmq: RabbitmqServer
) -> None:
    settings = dataclasses.replace(
        deleted.settings,
        redis=dataclasses.replace(deleted.settings.redis, port=own_redis.port, db=0),
        amqp=own_rabbitmq.settings,
        request_timeout=1.0,
    )
    stores, broker = Stores(settings), Broker(settings.amqp, "test")
    broker.start()
    await broker.wait_connected(30)
    own = Deleted(settings, stores, broker, deleted.sink)
    await own.declare()
    await own.sent("a", "b")
    await asyncio.to_thread(own_redis.kill)
    with pytest.raises(StoreUnavailable):
        await own.drain()
    await asyncio.to_thread(own_redis.start)
    await asyncio.to_thread(own_rabbitmq.kill)
    with pytest.raises(BrokerUnavailable):
        await own.drain()
    await asyncio.to_thread(own_rabbitmq.start)
    await broker.wait_connected(30)
    await own.drain()
    told = {body["message_id"] for body in deleted.sink.bodies(EVENT_URL)}
    assert len(told) == 2  # a killed RabbitMQ may have forgotten an acknowledgement: then it is told twice
    assert await own.left() == 0
    await broker.close()
    await stores.close()


async def test_a_queue_that_another_channel_names_is_not_touched(deleted: Deleted) -> None:
    """An older Junebug took a channel's id for another one's amqp_queue."""
    other = str(uuid.uuid4())
    spec = ChannelSpec.from_properties(other, {"type": "telnet", "config": {}, "amqp_queue": deleted.id})
    await deleted.stores.channels.create(spec)
    await deleted.declare()
    await deleted.sent("for the other", "and that", event_url=False)
    await deleted.sent("mine", priority=5)
    await deleted.drain()
    lengths = await deleted.broker.queue_lengths(names.PLAIN.queues(deleted.id))
    assert lengths[names.outbound_queue(deleted.id)] == 2
    assert sum(lengths.values()) == 2
