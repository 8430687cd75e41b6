"""A channel with several processes: it looks like one from outside, and loses nothing when one of them is killed."""

from __future__ import annotations

import os
import signal
from collections import Counter, defaultdict
from collections.abc import AsyncIterator

import pytest

from junebug.smpp.simulator.smsc import Smsc, SmscOptions
from tests.blackbox.conftest import Channels
from tests.blackbox.test_smpp import config_for
from tests.blackbox.test_stream import following
from tests.harness import Channel, JunebugProcess, WebhookSink
from tests.polling import eventually
from tests.scraping import scrape

FLAGS = {"max-logs": 5000}
SHARDS = 3
PHONES, EACH = 30, 10
MOST_IN_HAND = 50
"""Messages and receipts that the killed process may have had under way."""


@pytest.fixture
async def smsc() -> AsyncIterator[Smsc]:
    """It answers each message with a receipt at once, by any bind."""
    async with Smsc(SmscOptions(port=0, receipt_delay=0.0)) as smsc:
        yield smsc


@pytest.fixture
async def sharded(channels: Channels, smsc: Smsc, sink: WebhookSink) -> Channel:
    channel = await channels.create(
        "smpp", config_for(smsc.port, shards=SHARDS, window_size=6), status_url=sink.url("/status")
    )
    await are_bound(channel, SHARDS)
    return channel


async def are_bound(channel: Channel, shards: int) -> None:
    wanted = {"smpp", *(f"smpp/{shard}" for shard in range(1, shards))}

    async def bound() -> bool:
        status = await channel.status()
        there = {name: body["type"] for name, body in status["components"].items() if name.startswith("smpp")}
        return there == dict.fromkeys(wanted, "bound") and status["status"] == "ok"

    await eventually(bound, what="all binds")


def processes(jb: JunebugProcess, channel: Channel) -> dict[str, int]:
    """Of the channel: what is behind its id -> pid."""
    return {
        unit.removeprefix(channel.id): pid for unit, pid in jb.channel_pids().items() if unit.partition("~")[0] == channel.id
    }


async def test_all_shards_together_are_one_channel(
    jb: JunebugProcess, sharded: Channel, smsc: Smsc, sink: WebhookSink
) -> None:
    before = processes(jb, sharded)
    assert before.keys() == {"", "~1", "~2"}
    bodies = [
        {"to": f"+2782000{phone:02}", "content": f"{phone} {n}", "event_url": sink.url("/event")}
        for n in range(EACH) for phone in range(PHONES)
    ]  # fmt: skip
    sent = dict[str, str]()
    for at in range(0, len(bodies), 50):
        answer = await sharded.api.post(f"{sharded.path}/messages/bulk", bodies[at : at + 50])
        assert answer.status == 201, answer
        sent |= {each["message_id"]: body["content"] for each, body in zip(answer.result["messages"], bodies[at:], strict=False)}
        if at == 150:
            os.kill(before["~1"], signal.SIGKILL)

    def told() -> dict[str, list[str]]:
        found = defaultdict(list)
        for event in sink.bodies("/event"):
            found[event["message_id"]].append(event["event_type"])
        return found

    await eventually(
        lambda: sum({"submitted", "delivery_succeeded"} <= {*types} for types in told().values()) == len(bodies), 60, "all events"
    )
    assert all(types[0] == "submitted" for types in told().values())
    heard = [message.content for message in smsc.messages.values()]
    assert {*heard} == {body["content"] for body in bodies}
    for phone in range(PHONES):  # what came again did so where it had its turn
        firsts = [*dict.fromkeys(text for text in heard if text.split()[0] == str(phone))]
        assert firsts == [f"{phone} {n}" for n in range(EACH)]
    repeated = len(heard) - len(bodies)
    assert repeated <= MOST_IN_HAND
    assert sum(types != ["submitted", "delivery_succeeded"] for types in told().values()) <= repeated + MOST_IN_HAND
    await are_bound(sharded, SHARDS)
    after = processes(jb, sharded)
    assert {unit for unit, pid in after.items() if before[unit] != pid} == {"~1"}
    await they_tell_as_one(sharded, sent)


async def they_tell_as_one(channel: Channel, sent: dict[str, str]) -> None:
    """The killed one's last lines were not in its file yet."""
    lines = await channel.logs(n=5000)
    ids = {entry["message_id"] for entry in lines if entry["message"] == "message sent"}
    assert ids <= sent.keys()
    assert len(ids) >= len(sent) - MOST_IN_HAND
    times = [entry["timestamp"] for entry in lines]
    assert times == sorted(times, reverse=True)
    assert {entry["logger"] for entry in lines} == {channel.id, f"{channel.id}~1", f"{channel.id}~2"}
    for message in [*sent][-4:]:
        life = (await channel.api.get(f"{channel.path}/messages/{message}/timeline")).result
        assert {"sent", "event"} <= {step["kind"] for step in life["steps"]}
        assert (life["status"], life["logs"]) == ("delivery_succeeded", "complete")
    found = (await channel.api.get(f"/messages?channel_id={channel.id}&limit=500")).result
    assert {each["message_id"] for each in found["messages"]} == ids

    async def counted() -> bool:
        return (await scrape(channel.api.url)).value("junebug_smpp_binds", channel_id=channel.id, state="bound") == SHARDS

    await eventually(counted, what="the binds of all, counted")


async def test_what_waits_is_one_queue_from_outside(jb: JunebugProcess, sharded: Channel, smsc: Smsc) -> None:
    """All have heard of a pause that was answered."""
    await sharded.api.post(f"{sharded.path}/pause")
    sent = {(await sharded.send(f"+278300000{n}", f"text {n}"))["message_id"]: f"text {n}" for n in range(20)}
    assert (await sharded.status())["queue_length"] == len(sent)
    listed = [
        message["message_id"]
        for offset in range(0, 20, 4)
        for message in (await sharded.api.get(f"{sharded.path}/messages/?offset={offset}&limit=4")).result["messages"]
    ]
    assert Counter(listed) == Counter([*sent])
    for message in listed[:3]:
        assert (await sharded.api.delete(f"{sharded.path}/messages/{message}")).status == 200
    await sharded.api.post(f"{sharded.path}/resume")
    await eventually(lambda: len(smsc.messages) == len(sent) - 3, what="the others")
    for message in listed[:3]:
        assert (await sharded.event(message, "rejected"))["event_details"]["reason"] == "cancelled"
    await sharded.api.post(f"{sharded.path}/pause")
    for n in range(20):
        await sharded.send(f"+278400000{n}", "never")
    done = (await sharded.api.delete(f"{sharded.path}/messages/")).result
    assert done == {"cancelled": 20, "remaining": 0}


async def test_the_stream_tells_what_all_do(sharded: Channel) -> None:
    async with following(sharded.api, f"?channel_id={sharded.id}&kind=event,status") as client:
        sent = {(await sharded.send(f"+278500000{n}", f"text {n}"))["message_id"] for n in range(8)}
        told: set[str] = set()
        while told != sent:
            event = await client.next()
            assert event
            assert event.data["channel_id"] == sharded.id
            if event.data.get("event_type") == "submitted":
                told.add(event.data["message_id"])


async def test_fewer_shards_leave_nothing_of_the_others(jb: JunebugProcess, sharded: Channel, smsc: Smsc) -> None:
    async def ends() -> bool:
        return processes(jb, sharded).keys() == {""}

    config = (await sharded.get())["config"]
    await sharded.modify(config={**config, "shards": 1})
    await eventually(ends, what="one process")
    await are_bound(sharded, 1)
    assert not [name for name in (await sharded.status())["components"] if "/" in name]
    await sharded.send("+27820001111", "by the one")
    await eventually(lambda: [each.content for each in smsc.messages.values()] == ["by the one"])
    await sharded.delete()
    await eventually(lambda: not processes(jb, sharded), what="no process")
