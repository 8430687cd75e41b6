"""GET /events/stream of a whole Junebug: what its processes do is told as they do it."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from tests.blackbox.conftest import Channels
from tests.harness import Api, Channel, JunebugProcess
from tests.polling import eventually
from tests.sse import Client, Event


@asynccontextmanager
async def following(api: Api, query: str = "", last_id: str = "") -> AsyncIterator[Client]:
    headers = {"Last-Event-ID": last_id} if last_id else {}
    async with aiohttp.ClientSession() as session, session.get(f"{api.url}/events/stream{query}", headers=headers) as response:
        assert response.status == 200, await response.text()
        yield Client(response)


async def until(client: Client, is_last: Callable[[dict[str, Any]], bool]) -> list[Event]:
    found: list[Event] = []
    while not found or not is_last(found[-1].data):
        event = await client.next()
        assert event, found
        found.append(event)
    return found


async def test_a_message_is_seen_to_leave_arrive_and_come_back(channels: Channels, api: Api) -> None:
    channel = await channels.loopback()
    async with following(api, f"?channel_id={channel.id}&kind=event,message") as client:
        sent = await channel.send("+2771", "echo me")
        found = [event for event in (await client.next(), await client.next(), await client.next()) if event]
    told = {(event.kind, event.data.get("event_type"), event.data.get("direction")) for event in found}
    assert told == {
        ("event", "submitted", None), ("event", "delivery_succeeded", None), ("message", None, "inbound"),
    }  # fmt: skip
    assert {event.data["message_id"] for event in found if event.kind == "event"} == {sent["message_id"]}


async def test_a_channel_that_cannot_start_is_seen_to_be_down_and_to_come_up(channels: Channels, api: Api) -> None:
    """Its process says that it is up, the reconciler that it dies."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with following(api, "?kind=status") as client:
            config = {"telnet_port": port, "telnet_host": "127.0.0.1"}
            body = {"type": "telnet", "config": config, "mo_url": "http://127.0.0.1:1/"}
            created = await api.post("/channels/", body)
            channel = Channel(api, created.result)
            await until(client, lambda told: told["component"] == "worker" and told["status"] == "down")
            taken.close()
            found = await until(client, lambda told: told["component"] == "worker" and told["status"] == "ok")
            assert found[-1].data["channel_id"] == channel.id
            await channel.delete()


async def test_nothing_is_missed_while_the_api_is_started_anew(jb: JunebugProcess, channels: Channels, api: Api) -> None:
    channel = await channels.loopback()
    query = f"?channel_id={channel.id}&kind=message"
    async with following(api, query) as client:
        await channel.send("+2771", "one")
        assert (await client.next()) is not None
        pid = jb.pid_titled("junebug: api") or next(pid for pid, title in jb.children().items() if " api" in title)
        os.kill(pid, signal.SIGKILL)
        try:
            assert await client.next() is None
        except aiohttp.ClientPayloadError:
            pass  # cut off amid the stream

    async def is_sent() -> bool:
        try:
            return bool(await channel.send("+2771", "two"))
        except (aiohttp.ClientError, AssertionError):
            return False

    await eventually(is_sent)
    async with following(api, query, client.last_id) as client:
        assert (await client.next()) is not None
