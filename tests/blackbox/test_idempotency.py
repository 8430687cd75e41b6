"""Idempotency-Key through several API processes, which are killed: one answer and one id for each key."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
from collections import Counter
from typing import Any

import aiohttp

from tests.blackbox.conftest import Channels
from tests.harness import Answer, Api, Channel, JunebugProcess, WebhookSink
from tests.polling import eventually

FLAGS = {"workers": 2, "request-timeout": 2}
CLIENTS = 10
KILLS = 8


async def send(api: Api, channel: Channel, key: str, content: str = "hello", **fields: Any) -> Answer:
    body = {"to": "+27", "content": content, **fields}
    return await api.post(f"{channel.path}/messages/", body, headers={"Idempotency-Key": key})


async def test_a_repeated_send_gets_the_first_answer_and_is_sent_once(
    channels: Channels, api: Api, sink: WebhookSink
) -> None:
    channel = await channels.loopback({"delivery_reports": False})
    first = await send(api, channel, "k", "once", event_url=sink.url("/event"))
    again = [await send(api, channel, "k", "once", event_url=sink.url("/event")) for _ in range(10)]
    assert {answer.status for answer in (first, *again)} == {201}
    assert all(answer.envelope == first.envelope for answer in again)
    assert "Idempotent-Replayed" not in first.headers
    assert {answer.headers["Idempotent-Replayed"] for answer in again} == {"true"}
    assert (await send(api, channel, "k", "else")).status == 422
    await sink.wait("/event")
    await channel.send("+27", "last")
    await sink.wait_content("/mo", "last")
    assert [body["content"] for body in sink.bodies("/mo")] == ["once", "last"]
    assert [body["message_id"] for body in sink.bodies("/event")] == [first.result["message_id"]]


async def test_many_at_once_with_one_key_send_once(channels: Channels, api: Api, sink: WebhookSink) -> None:
    channel = await channels.loopback({"delivery_reports": False})
    answers = await asyncio.gather(*(send(api, channel, "k") for _ in range(50)))  # a connection each: both processes
    assert {answer.status for answer in answers} == {201}
    assert len({answer.result["message_id"] for answer in answers}) == 1
    await channel.send("+27", "last")
    await sink.wait_content("/mo", "last")
    assert len(sink.bodies("/mo")) == 2


async def test_processes_killed_at_random_never_make_a_second_message_of_one_key(
    jb: JunebugProcess, channels: Channels, api: Api, sink: WebhookSink
) -> None:
    """A client that repeats until it has its 201. What it is sent twice has one id, and there is little of that."""
    channel = await channels.loopback({"delivery_reports": False})
    ids: dict[str, set[str]] = {}
    cut = 0

    async def until_answered(key: str) -> None:
        nonlocal cut

        async def attempt() -> bool:
            nonlocal cut
            try:
                answer = await send(api, channel, key, key, event_url=sink.url("/event"))
            except aiohttp.ClientError:
                cut += 1
                return False
            assert answer.status in (201, 409, 503), answer
            if answer.status == 201:
                ids.setdefault(key, set()).add(answer.result["message_id"])
            return answer.status == 201

        await eventually(attempt, 60, f"a 201 for {key}")

    async def client() -> None:
        while not killing.done():
            await until_answered(f"message {next(numbers)}")

    async def kill() -> None:
        for n in range(KILLS):
            await eventually(lambda n=n: len(ids) > n * 20, 60)  # they answer
            pid = await eventually(lambda n=n: jb.pid_titled(f"junebug: api:{n % 2 + 1}"))
            await asyncio.sleep(random.uniform(0, 0.05))
            os.kill(pid, signal.SIGKILL)

    numbers = itertools.count()
    killing = asyncio.create_task(kill())
    await asyncio.gather(killing, *(client() for _ in range(CLIENTS)))
    for key in list(ids):
        await until_answered(key)
    assert {len(found) for found in ids.values()} == {1}
    told = {next(iter(found)) for found in ids.values()}
    assert len(told) == len(ids)
    await eventually(lambda: {body["message_id"] for body in sink.bodies("/event")} >= told, what="every event")
    assert {body["message_id"] for body in sink.bodies("/event")} == told
    counted = Counter(body["content"] for body in sink.bodies("/mo"))
    assert set(counted) == set(ids)
    repeated = counted.total() - len(ids)
    print(f"\n{len(ids)} messages, {cut} requests cut off, {repeated} sent twice")
    assert repeated <= cut
