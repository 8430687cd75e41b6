"""What others put on a channel's queues ends up with the dead letters, and the channel goes on (issue 10, A1).

tests/test_foreign_messages.py has the values; these are some of the worst, given to every reader.
"""

from __future__ import annotations

import orjson
import pytest

from junebug import names
from junebug.amqp.outbound_queue import cancel_all, list_queued, queues_of
from junebug.model.callbacks import DeadLetter
from junebug.model.messages import event_of
from junebug.model.spec import ChannelSpec
from junebug.runtime.metrics import Metrics
from tests.polling import eventually
from tests.worker.conftest import Bench
from tests.worker.test_forwarder import loopback, mo

DEEP = b"[" * 1000 + b"]" * 1000
POISON = (
    b'{"to_addr": "1", "content": "x", "expires_at": "0001-01-01T00:00:00+02:00"}',
    b'{"to_addr": "1", "content": "x", "expires_at": "9999-12-31T23:59:59-12:00"}',
    b'{"to_addr": %s, "event_type": "ack", "user_message_id": %s}' % (DEEP, DEEP),
    b'{"event_type": "ack", "user_message_id": "m", "transport_metadata": {"a": %s}}' % DEEP,
    b'{"event_type": "ack", "user_message_id": "m", "message_timestamp": "0001-01-01T00:00:00+02:00"}',
    b'{"to": "mo_url", "kind": "inbound", "id": "", "message": {}, "error": "", "attempts": 1e300, "since": "inf"}',
    b"[" * 100_000,
)


async def letters(bench: Bench, channel: str) -> list[DeadLetter]:
    found: list[DeadLetter] = []

    async def visit(deliveries: list[object]) -> bool:
        found.extend(DeadLetter.from_wire(delivery.body) for delivery in deliveries)  # type: ignore[attr-defined]
        return True

    await bench.broker.browse(bench.name(names.dead_queue(channel)), visit, keeping=True)
    return found


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
@pytest.mark.parametrize(
    ("queue", "readable"),
    [
        (names.outbound_queue, (3, 4, 5)), (lambda channel: names.outbound_queue(channel, 5), (3, 4, 5)),
        (names.inbound_queue, (3, 4, 5)), (names.event_queue, ()), (names.callback_queue, ()),
    ],
    ids=["outbound", "urgent", "inbound", "event", "callbacks"],
)  # fmt: skip
async def test_a_poisoned_queue_goes_on(bench: Bench, queue: object, readable: tuple[int, ...]) -> None:
    channel = await loopback(bench, mo_url=bench.app.url("/mo"))
    await bench.running(channel)
    await bench.stores.channels.note_priorities(channel, (5,))  # as its first such message does
    name = bench.name(queue(channel))  # type: ignore[operator]
    poison = [body for number, body in enumerate(POISON) if number not in readable]
    await bench.broker.publish_many(name, poison)
    good = mo("good", "+1")
    await bench.put(names.inbound_queue(channel), good.to_wire())
    told = event_of(good, channel, "ack", sent_message_id="s", transport_metadata={"url": 1})
    await bench.put(names.event_queue(channel), told.to_wire())
    await bench.send(channel, "1", "sent", bench.app.url("/event"))

    async def has_gone_on() -> bool:
        got = [body.get("content") for body in bench.app.received]
        return {"good", "sent"} <= set(got) and any("event_type" in body for body in bench.app.received)

    await eventually(has_gone_on)

    async def are_dead() -> bool:
        return len(await letters(bench, channel)) == len(poison)

    await eventually(are_dead)
    assert {(letter.queue, letter.body) for letter in await letters(bench, channel)} == {(name, body) for body in poison}


@pytest.mark.parametrize("queue", [names.status_queue, names.control_queue], ids=["status", "control"])
async def test_what_is_no_status_and_no_question_is_dropped(bench: Bench, queue: object) -> None:
    channel = await loopback(bench, mo_url=bench.app.url("/mo"))
    await bench.running(channel)
    name = queue(channel)  # type: ignore[operator]
    questions = [{"reply_to": {}}, {"reply_to": "x" * 300, "id": 1, "question": "look", "arguments": {}}, {"question": []}]
    for body in (*POISON, *map(orjson.dumps, questions)):
        await bench.broker.publish(name, body)
    await bench.send(channel, "1", "sent")
    await bench.app.wait(1)
    assert not bench.workers[channel].done()


async def test_a_poisoned_queue_is_listed_and_emptied(bench: Bench) -> None:
    channel = await bench.channel("loopback", {}, paused=True)
    await bench.running(channel)
    await bench.broker.publish_many(names.outbound_queue(channel), [POISON[0], b'{"content": "first"}', *POISON[1:3]])
    await bench.stop(channel)
    queues = queues_of(ChannelSpec(id=channel, type="", config={}), names.PLAIN)
    listed = await list_queued(bench.broker, channel, queues, 0, 100)
    assert [message.content for message in listed] == ["first"]
    done = await cancel_all(bench.broker, Metrics(), channel, queues, 30, is_quorum=False)
    assert (done.cancelled, done.remaining) == (1, 0)
    assert [letter.body for letter in await letters(bench, channel)] == [POISON[0], *POISON[1:3]]
