"""Routers from outside: one number for many applications, by telnet and by loopback, and nothing lost whatever is killed."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shlex
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.blackbox import world as worlds
from tests.blackbox.conftest import Channels
from tests.blackbox.receiver import Receiver
from tests.blackbox.world import World
from tests.harness import START_DEADLINE, THOROUGH, Api, Channel, TelnetClient, WebhookSink, free_port, gather_limited
from tests.polling import eventually

FLAGS = {"callback-retry-delays": "0.2,0.5,1", "max-logs": 5000}
MESSAGES = 400 * THOROUGH
ROOT = Path(__file__).resolve().parents[2]
SEED = int(os.environ.get("JUNEBUG_TEST_SEED", random.randrange(1_000_000)))

module_world = worlds.module_world
world = worlds.world
channels = worlds.channels


class Router:
    """A router as its user sees it."""

    def __init__(self, api: Api, id: str) -> None:
        self.api = api
        self.path = f"/routers/{id}"
        self.id = id

    async def add(self, config: dict[str, Any], **properties: Any) -> str:
        """A destination; the path of it."""
        answer = await self.api.post(f"{self.path}/destinations/", {"config": config, **properties})
        assert answer.status == 201, answer
        return f"{self.path}/destinations/{answer.result['id']}"

    async def status(self) -> dict[str, Any]:
        return dict((await self.api.get(self.path)).result["status"])

    async def is_running(self) -> bool:
        return (await self.status())["components"].get("worker", {}).get("type") == "running"


async def routed(channel: Channel, type: str = "from_address") -> Router:
    answer = await channel.api.post("/routers/", {"type": type, "config": {"channel": channel.id}})
    assert answer.status == 201, answer
    return Router(channel.api, answer.result["id"])


async def test_two_services_on_one_channel(channels: Channels, world: World, sink: WebhookSink) -> None:
    """From the first word of a person to the application's answer on his screen, and the events that follow it."""
    channel = await channels.telnet(mo_url=None)
    router = await routed(channel, "keyword")
    join = await router.add({"keyword": "join"}, mo_url=sink.url("/join"), mo_url_token="a token")
    await router.add({"keyword": "help", "default": True}, mo_url=sink.url("/help"))
    async with await channel.connect() as client:
        (new,) = await sink.wait("/help")  # it has not said a word yet
        assert new.body["channel_data"] == {"session_event": "new"}
        await client.say("anything")
        assert (await sink.wait("/help", 2))[1].body["content"] == "anything"  # a session stays where it began
    async with await channel.connect() as client:
        message = {"to": client.address, "content": "to you", "event_url": sink.url("/event")}
        sent = await channel.api.post(f"{join}/messages/", message)
        assert (sent.status, sent.result["channel_id"]) == (201, channel.id)
        assert await client.hear() == "to you"
        event = (await sink.wait("/event"))[0].body
        assert (event["event_type"], event["message_id"]) == ("submitted", sent.result["message_id"])
        status = await channel.api.get(f"{join}/messages/{sent.result['message_id']}")
        assert status.result["last_event_type"] == "submitted"
    refused = await channel.api.post(channel.path, {"mo_url": sink.url("/mine")})
    assert refused.status == 400
    assert router.id in refused.result["errors"][0]["message"]
    assert (await channel.api.delete(router.path)).status == 200
    await channel.modify(mo_url=sink.url("/mine"))
    async with await channel.connect():
        await sink.wait("/mine")

    async def gone() -> bool:
        return not world.junebug.pid_titled(f"junebug: router:{router.id}")

    await eventually(gone)


async def test_the_walk_through_of_the_docs(world: World, sink: WebhookSink) -> None:
    """docs/routers.md, line by line: what a line answers is what the next ones name."""
    api, port, known = world.junebug.api, free_port(), dict[str, str]()
    text = (ROOT / "docs" / "routers.md").read_text()
    lines = text[text.index("```sh\n") + 6 :].partition("```")[0].splitlines()
    client = None
    for line, id in zip(lines, ("CHANNEL_ID", "ROUTER_ID", "DESTINATION_ID", "", ""), strict=True):
        for word, value in {"tcp:9001": f"tcp:{port}", "http://localhost:8001": sink.url(""), **known}.items():
            line = line.replace(word, value)
        curl, option, body, url = shlex.split(line)
        assert (curl, option) == ("curl", "-d")
        if "reply_to" in body:  # somebody has written meanwhile
            client = await TelnetClient.connect(port)
            async with client:
                await sink.wait("/help")
                await client.say("join")
                message = (await sink.wait("/help", 2))[1].body["message_id"]  # his session is there
                answer = await api.post(url.removeprefix("localhost:8080"), json.loads(body.replace("MESSAGE_ID", message)))
                assert answer.status == 201, answer
                assert await client.hear() == "welcome"
            continue
        answer = await api.post(url.removeprefix("localhost:8080"), json.loads(body))
        assert answer.status == 201, answer
        if id:
            known[id] = answer.result["id"]
    assert client
    await api.delete(f"/routers/{known['ROUTER_ID']}")
    await api.delete(f"/channels/{known['CHANNEL_ID']}")


async def test_a_changed_rule_is_in_force_with_the_200(channels: Channels, sink: WebhookSink) -> None:
    channel = await channels.create("loopback", {}, mo_url=None)
    router = await routed(channel)
    await eventually(router.is_running)
    destination = await router.add({"regular_expression": "^none$"}, mo_url=sink.url("/mo"))
    for number in range(10):
        answer = await channel.api.request("PATCH", destination, json={"config": {"regular_expression": f"^{number}$"}})
        assert answer.status == 200, answer
        for to in (number - 1, number):  # by the rule before, and by this one
            body = {"to": "+27", "from": str(to), "content": f"{number} to {to}"}
            assert (await channel.api.post(f"{destination}/messages/", body)).status == 201
        received = await sink.wait("/mo", number + 1)  # what is on its way meets the rule of when it gets there
    assert [each.body["content"] for each in received] == [f"{number} to {number}" for number in range(10)]


@pytest.mark.timeout(150)
async def test_nothing_is_lost_whatever_is_killed(channels: Channels, world: World) -> None:
    """Each message that got a 201 comes back to the one application whose number it bore, and both of its events do."""
    rng = random.Random(SEED)
    async with Receiver() as one, Receiver() as other:
        channel = await channels.create("loopback", {}, mo_url=None)
        router = await routed(channel)
        paths = {"1": await router.add({"regular_expression": "^1$"}, mo_url=one.url("/mo")),
                 "2": await router.add({"regular_expression": "^2$"}, mo_url=other.url("/mo"))}  # fmt: skip
        applications = {"1": one, "2": other}
        accepted: dict[str, list[tuple[str, str]]] = {"1": [], "2": []}

        async def send(number: int) -> None:
            which = str(1 + number % 2)
            url = applications[which].url("/event")
            body = {"to": f"+27{number % 20}", "from": which, "content": f"text {number}", "event_url": url}
            answer = await channel.api.post(f"{paths[which]}/messages/", body)
            if answer.status == 201:
                accepted[which].append((body["content"], answer.result["message_id"]))
            else:
                assert answer.status == 503, answer
            await asyncio.sleep(0.02)

        async def kill() -> None:
            victims = [f"router:{router.id}", f"channel:{channel.id}", f"router:{router.id}", "reconciler"] * 2
            for victim in rng.sample(victims, len(victims)):
                await asyncio.sleep(0.4)
                if pid := world.junebug.pid_titled(f"junebug: {victim}"):
                    os.kill(pid, signal.SIGKILL)

        killing = asyncio.create_task(kill())
        await gather_limited(4, (send(number) for number in range(MESSAGES)))
        await killing

        def missing() -> list[object]:
            keys = [
                (which, key) for which, sent in accepted.items() for content, id in sent
                for key in (("mo", content), ("event", id, "submitted"), ("event", id, "delivery_succeeded"))
            ]  # fmt: skip
            return [each for each in keys if not applications[each[0]].taken[each[1]]]

        await eventually(lambda: not missing(), START_DEADLINE * 2, f"everything with seed {SEED}")
        assert sum(map(len, accepted.values())) > MESSAGES / 2
        for which, application in applications.items():
            foreign = {content for content, _ in accepted["2" if which == "1" else "1"]}
            assert not [key for key in application.taken if key[0] == "mo" and key[1] in foreign]
