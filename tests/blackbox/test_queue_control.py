"""What waits to be sent: counted, looked at, cancelled, held back and let go, with the channel's worker running or not."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.blackbox.conftest import Channels
from tests.blackbox.smsc import WireSmsc
from tests.blackbox.test_smpp import smpp
from tests.harness import START_DEADLINE, Api, Channel, WebhookSink
from tests.polling import eventually


async def paused(channel: Channel) -> Channel:
    """Once its worker has applied it."""
    answer = await channel.api.post(f"{channel.path}/pause")
    assert (answer.status, answer.description, answer.result["paused"]) == (200, "sending paused", True)

    async def is_applied() -> bool:
        return (await channel.component("outbound")).get("type") == "paused"

    await eventually(is_applied, what="the pause")
    return channel


async def resume(channel: Channel) -> None:
    answer = await channel.api.post(f"{channel.path}/resume")
    assert (answer.status, answer.description, answer.result["paused"]) == (200, "sending resumed", False)


async def queued(channel: Channel, *priorities: int, **fields: Any) -> list[str]:
    """Ids of messages with these priorities; the content of each is its number."""
    return [
        (await channel.send("+27", str(n), priority=priority, **fields))["message_id"]
        for n, priority in enumerate(priorities)
    ]


async def listed(channel: Channel, query: str = "") -> dict[str, Any]:
    answer = await channel.api.get(f"{channel.path}/messages/{query}")
    assert (answer.status, answer.description) == (200, "messages listed"), answer
    return dict(answer.result)


async def listed_ids(channel: Channel, query: str = "") -> list[str]:
    return [each["message_id"] for each in (await listed(channel, query))["messages"]]


@asynccontextmanager
async def waiting_channel(kind: str, channels: Channels) -> AsyncIterator[Channel]:
    """A channel on which messages wait: paused, or without a worker (it cannot start)."""
    if kind == "paused":
        yield await paused(await channels.loopback())
    else:
        first = await channels.telnet()
        endpoint = {"twisted_endpoint": f"tcp:{first.port}:interface=127.0.0.1"}
        channel = await channels.create("telnet", endpoint)

        async def fails() -> bool:
            return (await channel.status())["status"] == "down"

        await eventually(fails, START_DEADLINE)
        yield channel


KINDS = ("paused", "no worker")


# --- pause ------------------------------------------------------------------------------------------------------------


async def test_a_paused_channel_sends_nothing_and_keeps_its_links(channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.telnet()
    async with await channel.connect() as client:
        await paused(channel)
        pid = await channel.pid()
        for n in range(3):
            await channel.send(client.address, f"later {n}")
        await client.say("hello")
        await sink.wait_content("/mo", "hello")
        status = await channel.status()
        assert (status["queue_length"], status["queue"]["paused"]) == (3, True)
        await resume(channel)
        assert await client.hear_lines(3) == [f"later {n}" for n in range(3)]
        assert client.is_open
        assert await channel.pid() == pid


async def test_what_is_accepted_after_a_pause_was_answered_is_not_sent(channels: Channels) -> None:
    """Also while the channel's process starts."""
    for _ in range(5):
        channel = await channels.create("loopback", {})
        assert (await channel.api.post(f"{channel.path}/pause")).status == 200
        ids = await queued(channel, 1, 1)
        await channel.running()
        assert await listed_ids(channel) == ids
        await resume(channel)
        assert (await channel.api.post(f"{channel.path}/pause")).status == 200
        ids = await queued(channel, 1, 1)
        assert (await listed_ids(channel))[-2:] == ids


async def test_a_pause_that_the_process_does_not_hear_of_is_told(channels: Channels) -> None:
    channel = await channels.loopback()
    pid = await channel.pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        answer = await channel.api.post(f"{channel.path}/pause")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert (answer.status, answer.result["paused"]) == (200, True)
    assert answer.description.startswith("sending paused, as soon as the channel's process hears of it")


async def test_a_paused_smpp_channel_stays_bound(channels: Channels) -> None:
    async with WireSmsc() as smsc:
        channel = await paused(await smpp(channels, smsc.port))
        await channel.send("+27", "later")
        assert (await channel.component("smpp"))["type"] == "bound"
        await resume(channel)
        (submit,) = await smsc.submitted()
        assert submit.text == "later"
        assert len(smsc.binds) == 1


async def test_a_pause_survives_a_restart_and_a_change(channels: Channels, sink: WebhookSink) -> None:
    channel = await paused(await channels.loopback())
    await channel.send("+27", "later")
    await channel.restart()
    await channel.modify(label="new")
    assert (await channel.status())["queue"]["paused"]
    assert await listed_ids(channel)
    assert sink.bodies("/mo") == []
    await resume(channel)
    await sink.wait_content("/mo", "later")


async def test_the_most_urgent_goes_first_after_a_pause(channels: Channels, sink: WebhookSink) -> None:
    channel = await paused(await channels.loopback())
    priorities = (1, 3, 5, 2, 4, 5, 1)
    await queued(channel, *priorities)
    await resume(channel)
    await sink.wait("/mo", len(priorities))
    order = sorted(range(len(priorities)), key=lambda n: -priorities[n])
    assert [int(body["content"]) for body in sink.bodies("/mo")] == order


@pytest.mark.parametrize("path", ["pause", "resume"])
async def test_an_unknown_channel_cannot_be_held_back(api: Api, path: str) -> None:
    assert (await api.post(f"/channels/00000000-0000-4000-8000-000000000000/{path}")).status == 404


# --- counting and looking ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_what_waits_is_counted_by_priority_and_listed_as_it_will_be_sent(channels: Channels, kind: str) -> None:
    async with waiting_channel(kind, channels) as channel:
        priorities = (1, 5, 3, 5, 1)
        ids = await queued(channel, *priorities)
        order = [ids[n] for n in sorted(range(len(ids)), key=lambda n: -priorities[n])]

        async def all_wait() -> bool:
            status = await channel.status()
            return bool(
                status["queue_length"] == 5
                and status["queue"]["queued"] == {"5": 2, "4": 0, "3": 1, "2": 0, "1": 2}
                and sum(status["queue"]["sending"].values()) == 0
            )

        await eventually(all_wait, what="five that wait")

        async def in_order() -> bool:
            return await listed_ids(channel) == order

        await eventually(in_order, what="the list in its order")
        page = await listed(channel, "?state=queued&limit=2&offset=1")
        assert [each["message_id"] for each in page["messages"]] == order[1:3]
        assert (page["limit"], page["offset"], page["total"]) == (2, 1, 5)
        entry = page["messages"][1]
        assert (entry["to"], entry["content"], entry["priority"], entry["state"]) == ("+27", "2", 3, "queued")
        assert (await listed(channel, "?offset=5"))["messages"] == []


async def test_what_waits_for_a_link_is_queued_and_can_be_cancelled(channels: Channels) -> None:
    async with WireSmsc() as smsc:
        await smsc.stop()
        channel = await (await smpp(channels, smsc.port, bound=False)).running()
        await queued(channel, 1, 5, 3)

        async def all_wait() -> bool:
            queue = (await channel.status())["queue"]
            return bool(queue["queued"] == {"5": 1, "4": 0, "3": 1, "2": 0, "1": 1})

        await eventually(all_wait)
        answer = await channel.api.delete(f"{channel.path}/messages/")
        assert answer.result == {"cancelled": 3, "remaining": 0}
        (later,) = await queued(channel, 1)
        await smsc.start()
        await channel.event(later, "submitted")
        assert len(await smsc.submitted(1)) == 1


async def test_looking_again_and_again_delays_nothing_and_loses_nothing(channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.loopback({"delivery_reports": False})
    sent = []
    for n in range(100):
        sent.append(str(n))
        await channel.send("+27", str(n))
        if n % 10 == 0:
            await listed(channel)
    await sink.wait("/mo", 100)
    assert [body["content"] for body in sink.bodies("/mo")] == sent


async def test_an_empty_queue_has_an_empty_list(channels: Channels) -> None:
    channel = await channels.loopback()
    assert await listed(channel) == {"messages": [], "limit": 100, "offset": 0, "total": 0}


# --- cancelling -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
async def test_all_that_waits_is_cancelled_with_an_event_each(channels: Channels, sink: WebhookSink, kind: str) -> None:
    async with waiting_channel(kind, channels) as channel:
        ids = await queued(channel, 1, 5, 3, 3, 1, event_url=sink.url("/event"))
        cancelled = 0

        async def none_waits() -> bool:
            nonlocal cancelled
            answer = await channel.api.delete(f"{channel.path}/messages/")
            assert (answer.status, answer.description) == (200, "messages cancelled"), answer
            cancelled += answer.result["cancelled"]
            return cancelled == len(ids)

        await eventually(none_waits, what="all cancelled")
        for message_id in ids if kind != "no worker" else ():  # events need a worker to leave
            event = await channel.event(message_id, "rejected")
            assert event["event_details"] == {"reason": "cancelled"}
            await sink.wait_for("/event", lambda body, id=message_id: body["message_id"] == id)
        assert (await channel.status())["queue_length"] == 0
        assert (await listed(channel))["total"] == 0
        assert sink.bodies("/mo") == []


async def test_cancelled_messages_are_not_sent_after_a_resume(channels: Channels, sink: WebhookSink) -> None:
    channel = await paused(await channels.loopback())
    await queued(channel, 1, 2, 3)
    assert (await channel.api.delete(f"{channel.path}/messages")).result == {"cancelled": 3, "remaining": 0}
    await resume(channel)
    await channel.send("+27", "after")
    await sink.wait_content("/mo", "after")
    assert [body["content"] for body in sink.bodies("/mo")] == ["after"]


@pytest.mark.parametrize("kind", KINDS)
async def test_one_is_cancelled_and_the_others_keep_their_order(
    channels: Channels, api: Api, kind: str
) -> None:
    async with waiting_channel(kind, channels) as channel:
        ids = await queued(channel, 1, 1, 1, 1)
        chosen = f"{channel.path}/messages/{ids[1]}"

        async def is_cancelled() -> bool:  # on its way to the worker and back it does not wait for a moment
            return (await api.delete(chosen)).status == 200

        await eventually(is_cancelled)

        async def others_wait() -> bool:
            return await listed_ids(channel) == [ids[0], *ids[2:]]

        await eventually(others_wait)
        again = await api.delete(chosen)
        assert (again.status, again.description, again.error_types) == (404, "message not queued", {"MessageNotQueued"})


async def test_a_message_that_was_sent_or_is_unknown_cannot_be_cancelled(channels: Channels, api: Api) -> None:
    channel = await channels.loopback()
    sent = await channel.send("+27")
    await channel.event(sent["message_id"], "submitted")
    for message_id in (sent["message_id"], "0" * 32):
        assert (await api.delete(f"/jb{channel.path}/messages/{message_id}")).status == 404


# --- a worker that dies -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_a_question_to_a_worker_that_dies_is_answered_soon(channels: Channels, method: str) -> None:
    channel = await paused(await channels.loopback())
    sent = await queued(channel, 1, 1, 2)
    pid = await channel.pid()
    os.kill(pid, signal.SIGSTOP)
    question = asyncio.create_task(channel.api.request(method, f"{channel.path}/messages/"))
    await asyncio.sleep(0.3)
    os.kill(pid, signal.SIGKILL)
    answer = await asyncio.wait_for(question, 10)
    assert answer.status == 200, answer
    assert answer.result["total" if method == "GET" else "cancelled"] == len(sent)
