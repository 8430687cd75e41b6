"""Outbound queues of higher priorities: made with the first such message, found again, and never forgotten."""

from __future__ import annotations

import uuid

import pytest

from junebug import names
from junebug.model.messages import UserMessage
from junebug.model.spec import ChannelSpec
from junebug.worker import context
from tests.polling import eventually
from tests.worker.conftest import Bench

LOOPBACK = {"delivery_reports": False}


async def created(bench: Bench) -> str:
    """A channel as the API makes it, without a worker."""
    channel = str(uuid.uuid4())
    spec = ChannelSpec.from_properties(channel, {"type": "loopback", "config": LOOPBACK, "mo_url": bench.app.url("/mo")})
    await bench.stores.channels.create(spec)
    return channel


async def put(bench: Bench, channel: str, priority: int, content: str) -> None:
    """A message into a queue of its own, of which Redis is told nothing."""
    queue = names.outbound_queue(channel, priority)
    await bench.broker.declare({queue: {}}, remember=False)
    message = UserMessage(to_addr="+27", from_addr=None, content=content, transport_name=channel)
    await bench.broker.publish(queue, message.to_wire())


async def queues(bench: Bench, channel: str) -> list[int]:
    """Priorities that have one."""
    return [each for each in names.PRIORITIES if await bench.broker.queue_exists(names.outbound_queue(channel, each))]


async def noted(bench: Bench, channel: str) -> list[int]:
    return sorted((await bench.stores.channels.get(channel)).noted_priorities)


async def forget(bench: Bench, channel: str) -> None:
    """Redis loses the note."""
    await bench.stores.channels._redis.run(("DEL", names.channel_priorities(channel)))


async def test_a_channel_has_one_outbound_queue_and_takes_what_comes_with_a_new_priority(bench: Bench) -> None:
    channel = await created(bench)
    bench.start(channel)
    await bench.running(channel)
    assert await queues(bench, channel) == [1]
    await bench.stores.channels.note_priorities(channel, (5,))
    await put(bench, channel, 5, "urgent")
    await bench.app.wait(1)
    assert await noted(bench, channel) == [1, 5]
    await bench.stop(channel)
    await put(bench, channel, 5, "while it was away")
    bench.start(channel)
    assert [each["content"] for each in await bench.app.wait(2)] == ["urgent", "while it was away"]
    assert await queues(bench, channel) == [1, 5]


async def test_a_new_priority_of_a_paused_channel_waits(bench: Bench) -> None:
    channel = await bench.channel("loopback", LOOPBACK, paused=True)
    await bench.running(channel)
    await bench.stores.channels.note_priorities(channel, (4,))
    await put(bench, channel, 4, "later")
    queue = names.outbound_queue(channel, 4)

    async def is_followed() -> bool:
        return bool(bench._workers[channel]._priorities._known >= {4})

    await eventually(is_followed)
    assert await bench.broker.queue_length(queue) == 1
    old = await bench.stores.channels.get(channel)
    resumed = ChannelSpec.from_properties(channel, {**old.to_properties(), "paused": None}, old.generation, old.stored)
    await bench.stores.channels.update(old, resumed, restart=False)
    assert (await bench.app.wait(1))[0]["content"] == "later"


async def test_queues_that_an_older_junebug_made_are_found_at_the_start(bench: Bench) -> None:
    channel = await created(bench)
    await forget(bench, channel)
    await put(bench, channel, 3, "from before")
    bench.start(channel)
    assert (await bench.app.wait(1))[0]["content"] == "from before"
    assert await noted(bench, channel) == [1, 3]


async def test_a_queue_whose_note_alone_was_lost_is_found_later(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "UNLIKELY_AFTER", (0.0, 0.1))
    channel = await created(bench)
    await put(bench, channel, 2, "forgotten")
    bench.start(channel)
    assert (await bench.app.wait(1))[0]["content"] == "forgotten"

    async def is_noted() -> bool:
        return await noted(bench, channel) == [1, 2]

    await eventually(is_noted)


async def test_an_emptied_redis_is_told_again(bench: Bench) -> None:
    channel = await created(bench)
    bench.start(channel)
    await bench.running(channel)
    await bench.stores.channels.note_priorities(channel, (2, 5))

    async def is_known() -> bool:
        return await noted(bench, channel) == [1, 2, 5] and bench._workers[channel]._priorities._known == {1, 2, 5}

    await eventually(is_known)
    await forget(bench, channel)
    await bench.stores.channels.notify_changed(channel)
    await eventually(is_known)
