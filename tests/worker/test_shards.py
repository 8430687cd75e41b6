"""A channel's shards, in this process: each sends its part, the first one does all the rest."""

from __future__ import annotations

import pytest

from junebug import names
from junebug.model.messages import UserMessage
from junebug.model.spec import Launch
from tests.polling import eventually
from tests.worker.conftest import Bench

LAYOUT = names.Layout(is_slotted=True)
TO = [f"+2782000{number:04}" for number in range(20)]


@pytest.fixture
async def sharded(bench: Bench) -> list[str]:
    """Its units, which run."""
    channel = await bench.channel("loopback", {"shards": 2}, status_url=bench.app.url("/status"))
    bench.start(names.unit(channel, 1), Launch(fence=3))
    await eventually(lambda: said(bench, channel, "worker", "worker/1"))
    return names.units(channel, 2)


async def said(bench: Bench, channel: str, *components: str) -> bool:
    found = await bench.stores.statuses.components(channel)
    return all(found.get(component, {}).get("status") == "ok" for component in components)


async def send(bench: Bench, channel: str, event_url: str) -> dict[str, str]:
    """To each number one; number -> message id."""
    sent = {}
    for to in TO:
        message = UserMessage(to_addr=to, from_addr="8110", content=f"to {to}", transport_name=channel, event_url=event_url)
        await bench.stores.outbound.put(channel, message)
        await bench.broker.publish(LAYOUT.queue(channel, 1, to), message.to_wire())
        sent[to] = message.message_id
    return sent


async def test_each_sends_its_part_and_the_first_forwards_all(bench: Bench, sharded: list[str]) -> None:
    channel, other = sharded
    await bench.stop(other)
    sent = await send(bench, channel, bench.app.url("/event"))
    of_other = {to for to in TO if LAYOUT.queue(channel, 1, to) in LAYOUT.queues(channel, shard=1, shards=2)}
    assert 0 < len(of_other) < len(TO)

    def heard() -> set[str]:
        return {body["from"] for body in bench.app.received if body.get("content")}

    await eventually(lambda: heard() == {*TO} - of_other, what="those of the first")
    bench.start(other, Launch(fence=4))
    await eventually(lambda: heard() == {*TO}, what="all")

    def told() -> dict[str, list[str]]:
        events = [body for body in bench.app.received if "event_type" in body]
        return {id: [body["event_type"] for body in events if body["message_id"] == id] for id in sent.values()}

    await eventually(lambda: all(each == ["submitted", "delivery_succeeded"] for each in told().values()), what="all events")


async def test_what_a_shard_says_is_kept_under_its_name_and_posted_by_the_first(bench: Bench, sharded: list[str]) -> None:
    channel = sharded[0]

    def posted() -> set[str]:
        return {body["component"] for body in bench.app.received if "component" in body}

    wanted = {"worker", "amqp", "redis", "loopback", "worker/1", "amqp/1", "redis/1", "loopback/1"}
    await eventually(lambda: posted() == wanted, what="all statuses")
    assert (await bench.stores.statuses.components(channel)).keys() == wanted


async def test_a_shard_is_asked_by_its_own_name(bench: Bench, sharded: list[str]) -> None:
    for unit in sharded:
        assert (await bench.asking.ask(unit, "look", 5))["held"] == {str(priority): 0 for priority in names.PRIORITIES}
        assert await bench.asking.generation(unit, 5) == 1


async def test_one_that_the_channel_has_not_ends(bench: Bench, sharded: list[str]) -> None:
    unit = names.unit(sharded[0], 2)
    bench.start(unit)
    assert await bench.workers[unit] == 1
