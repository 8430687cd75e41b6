"""A deleted channel: what was queued is cancelled, what waits is called once more, nothing is left (issue 4)."""

from __future__ import annotations

import asyncio

import redis

from tests.blackbox import world as worlds
from tests.blackbox.conftest import Channels, StartJunebug, own_database
from tests.blackbox.world import World
from tests.harness import START_DEADLINE, AppQueues, Channel, Reply, WebhookSink, own_queue, unique, vumi_message
from tests.polling import eventually

FLAGS = {"callback-retry-delays": "600"}
"""What fails waits for longer than any test."""

module_world = worlds.module_world
world = worlds.world
channels = worlds.channels


def left(world: World, name: str, db: int = 0) -> set[str]:
    """Keys and queues of this channel or application."""
    with redis.Redis(port=world.redis.port, db=db, decode_responses=True) as store:
        keys = {key for key in store.keys("*") if name in key}
        keys |= {f"member of {key}" for key in ("channels", "deleted_channels") if store.sismember(key, name)}
        keys |= {"generation"} if store.hexists("channel_generations", name) else set()
    return keys | {queue for queue in world.rabbitmq.queues() if queue.startswith(f"{name}.")}


async def nothing_is_left(world: World, channel: Channel, db: int = 0) -> None:
    async def found() -> set[str]:
        return await asyncio.to_thread(left, world, channel.id, db)

    async def is_gone() -> bool:
        remains = await found()
        assert not remains
        return True

    await eventually(is_gone, START_DEADLINE, f"the end of {channel.id}")


async def paused(channel: Channel, sink: WebhookSink, count: int = 20) -> set[str]:
    """A channel that has so many messages queued; their ids."""
    answer = await channel.api.post(f"{channel.path}/pause")
    assert answer.status == 200, answer
    await eventually(lambda: _is_paused(channel))
    return {
        (await channel.send("+27", f"text {n}", event_url=sink.url("/event"), priority=n % 5 + 1))["message_id"]
        for n in range(count)
    }


async def _is_paused(channel: Channel) -> bool:
    return (await channel.component("outbound")).get("type") == "paused"


def cancelled(sink: WebhookSink) -> set[str]:
    return {
        body["message_id"]
        for body in sink.bodies("/event")
        if (body["event_type"], body["event_details"].get("reason")) == ("rejected", "cancelled")
    }


async def test_a_deleted_channel_leaves_nothing_and_says_goodbye(
    world: World, channels: Channels, sink: WebhookSink
) -> None:
    async with AppQueues(world.rabbitmq.port, unique("app"), world.rabbitmq.vhost) as app:
        await app.declare("inbound", "event")
        channel = await channels.telnet(amqp_queue=app.name, status_url=sink.url("/status"))
        queued = await paused(channel, sink)
        theirs = vumi_message(to_addr="+27", content="by way of RabbitMQ")
        await app.send(theirs)
        sink.always["/mo"] = Reply(503)
        said = {f"line {n}" for n in range(20)}
        async with await channel.connect() as client:
            for line in sorted(said):
                await client.say(line)
            await eventually(lambda: len(sink.requests("/mo")) >= 5)
            await eventually(lambda: _count(app, "inbound", len(said)))
        assert {own_queue(f"{channel.id}.outbound"), f"{app.name}.outbound"} <= await asyncio.to_thread(world.rabbitmq.queues)
        sink.always.clear()
        sink.received.clear()
        await channel.delete()
        await nothing_is_left(world, channel)
        assert queued <= cancelled(sink)
        assert said <= {body["content"] for body in sink.bodies("/mo")}
        assert all(count == 1 for count in _counts(sink).values())
        events = [await app.next("event") for _ in range(len(queued) + 1)]
        assert {(event["event_type"], event["nack_reason"]) for event in events} == {("nack", "cancelled")}
        assert {event["user_message_id"] for event in events} == queued | {theirs["message_id"]}
        assert await asyncio.to_thread(left, world, app.name) == {f"{app.name}.inbound", f"{app.name}.event"}


async def _count(app: AppQueues, kind: str, wanted: int) -> bool:
    return (await app.count(f"{app.name}.{kind}") or 0) >= wanted


def _counts(sink: WebhookSink) -> dict[str, int]:
    contents = [body["content"] for body in sink.bodies("/mo") if body["content"]]
    return {content: contents.count(content) for content in contents}


async def test_an_application_that_hangs_does_not_keep_a_channel(
    world: World, channels: Channels, sink: WebhookSink
) -> None:
    channel = await channels.telnet()
    sink.always["/mo"] = sink.always["/event"] = Reply(hang=True)
    async with await channel.connect() as client:
        for n in range(200):
            await client.say(f"line {n}")
        await paused(channel, sink, 200)
        await channel.delete()
        other = await channels.loopback(mo_url=sink.url("/other"))  # nobody waits for it
        await other.send("+27", "meanwhile")
        await sink.wait_content("/other", "meanwhile")
        title = f"junebug: drain:{channel.id}"  # its applications' answers are read by nobody else
        await eventually(lambda: title in world.junebug.children().values())
    await nothing_is_left(world, channel)
    assert title not in world.junebug.children().values()


async def test_rabbitmq_killed_in_between_keeps_nothing(world: World, channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.loopback()
    queued = await paused(channel, sink, 100)
    sink.always["/event"] = Reply(delay=1.0)
    await channel.delete()
    await sink.wait("/event")
    await asyncio.to_thread(world.rabbitmq.kill)
    sink.always.clear()
    await asyncio.to_thread(world.rabbitmq.start)
    await nothing_is_left(world, channel)
    assert queued <= cancelled(sink)


async def test_a_channel_deleted_without_a_supervisor_says_goodbye_at_the_next_start(
    world: World, start_junebug: StartJunebug, sink: WebhookSink
) -> None:
    db = own_database()
    there = {"redis": world.redis, "rabbitmq": world.rabbitmq}
    first = start_junebug({"redis-db": db}, **there)
    channel = await Channels(first.api, sink).loopback()
    queued = await paused(channel, sink)
    assert first.stop() == 0
    alone = start_junebug({"redis-db": db}, command="junebug-api", **there)
    answer = await alone.api.delete(channel.path)
    assert answer.status == 200, answer
    assert (await alone.api.get(channel.path)).status == 404
    assert alone.stop() == 0
    start_junebug({"redis-db": db}, **there)
    await nothing_is_left(world, channel, db)
    assert cancelled(sink) == queued
