"""Conversations through Junebug and real servers of chat systems: from the API to a person's client and back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.blackbox.conftest import Channels, StartJunebug
from tests.harness import Channel, WebhookSink
from tests.polling import eventually
from tests.transports import ngircd as irc_client
from tests.transports.ngircd import Ngircd
from tests.transports.pager import PagerServer, install_package
from tests.transports.prosody import PASSWORD, Person, Prosody
from tests.transports.x_api import KEYS, FakeX


@pytest.fixture(scope="module")
def prosody() -> Iterator[Prosody]:
    server = Prosody(tls=True)
    server.start()
    yield server
    server.destroy()


async def test_xmpp(channels: Channels, sink: WebhookSink, prosody: Prosody) -> None:
    async with Person(prosody, "alice") as alice:
        channel = await (await channels.create("xmpp", prosody.config())).running()
        assert channel.created["config"]["password"] == "********"
        await eventually(lambda: _is(channel, "xmpp", "connected"))
        sent = await channel.send("alice@localhost", "Hello 😀", event_url=sink.url("/event"))
        await alice.hears("Hello 😀")
        await channel.event(sent["message_id"], "submitted")
        await channel.event(sent["message_id"], "delivery_succeeded")
        alice.say("bot@localhost", "Hi there ☃")
        came = await sink.wait_content("/mo", "Hi there ☃")
        assert (came["from"], came["to"]) == ("alice@localhost", "bot@localhost")
        await channel.send(content="an answer", reply_to=came["message_id"])
        await alice.hears("an answer")
        refused = await channel.send("nobody@localhost", "x")
        assert (await channel.event(refused["message_id"], "rejected"))["event_details"]["reason"] == "service-unavailable"
        modified = await channel.modify(config={**prosody.config(), "password": "another-secret"})
        assert modified["config"]["password"] == "********"
        await eventually(lambda: _is(channel, "xmpp", "auth_failed"))
        logs = str(await channel.logs(n=200))
        assert [secret for secret in (PASSWORD, "another-secret") if secret in logs] == []


@pytest.fixture(scope="module")
def irc() -> Iterator[Ngircd]:
    server = Ngircd()
    server.start()
    yield server
    server.destroy()


async def test_irc(channels: Channels, sink: WebhookSink, irc: Ngircd) -> None:
    async with irc_client.Person(irc, "alice") as alice:
        await alice.join("#help")
        tls = {"port": irc.tls_port, "tls": {"ca_file": str(irc.directory / "server.pem"), "server_name": "irc.example.net"}}
        channel = await (await channels.create("irc", irc.config(channels=["#help"], **tls))).running()
        assert channel.created["config"]["password"] == "********"
        await alice.sees("JOIN", "#help")
        sent = await channel.send("alice", "Hello 😀")
        await alice.sees("PRIVMSG", "alice", "Hello 😀")
        await channel.event(sent["message_id"], "submitted")
        alice.write("PRIVMSG #help :bot: how are you?")
        came = await sink.wait_content("/mo", "how are you?")
        assert (came["from"], came["to"], came["group"]) == ("alice", "bot", "#help")
        await channel.send(content="fine ☃", reply_to=came["message_id"])
        await alice.sees("PRIVMSG", "#help", "fine ☃")
        await channel.send("alice", "waves", channel_data={"irc": {"irc_command": "ACTION"}})
        await alice.sees("PRIVMSG", "alice", "\x01ACTION waves\x01")
        refused = await channel.send("nobody", "x")
        assert (await channel.event(refused["message_id"], "rejected"))["event_details"]["reason"].startswith("401 ")
        wrong = {"to": "alice", "content": "x", "channel_data": {"irc": {"irc_command": "QUIT"}}}
        answer = await channel.api.post(f"{channel.path}/messages/", wrong)
        assert answer.status == 400
        assert "channel_data.irc.irc_command" in answer.errors[0]["message"]
        assert irc_client.PASSWORD not in str(await channel.logs(n=200))


async def test_twitter(channels: Channels, sink: WebhookSink) -> None:
    async with FakeX() as x:
        channel = await (await channels.create("twitter", x.config(long_tweets="split"))).running()
        assert {channel.created["config"][each] for each in KEYS} == {"********"}
        await eventually(lambda: _is(channel, "twitter", "connected"))
        await x.was_polled()
        id = x.tweet("2", "@bot what time is it?")
        came = await sink.wait_content("/mo", "@bot what time is it?")
        assert (came["from"], came["to"]) == ("@alice", "@bot")
        assert came["channel_data"] == {"tweet": True, "twitter": {"status_id": id}}
        sent = await channel.send(content="noon 😀", reply_to=came["message_id"])
        await channel.event(sent["message_id"], "submitted")
        assert (x.tweets[-1]["text"], x.tweets[-1]["reply"]) == ("noon 😀", id)
        sent = await channel.send("@alice", "psst", channel_data={"direct_message": True})
        await channel.event(sent["message_id"], "submitted")
        assert x.direct_messages[-1]["text"] == "psst"
        again = await channel.send("alice", "noon 😀", channel_data={"tweet": True})
        await channel.event(again["message_id"], "submitted")
        logs = str(await channel.logs(n=200))
        assert [secret for secret in KEYS.values() if secret in logs] == []


async def test_a_type_that_a_package_installs(start_junebug: StartJunebug, sink: WebhookSink, tmp_path: Path) -> None:
    """Beside Junebug, by its entry point: nothing of ours names it."""
    server = PagerServer()
    await server.start()
    junebug = start_junebug(environment={"PYTHONPATH": str(install_package(tmp_path))})
    config = {"host": "127.0.0.1", "port": server.port, "password": "sesame-of-the-pager"}
    answer = await junebug.api.post("/channels/", {"type": "pager", "config": {**config, "port": "no"}})
    assert (answer.status, answer.errors[0]["field"]) == (400, "config.port")
    answer = await junebug.api.post("/channels/", {"type": "pager", "config": config, "mo_url": sink.url("/mo")})
    assert answer.status == 201
    channel = await Channel(junebug.api, answer.result).running()
    assert channel.created["config"]["password"] == "********"
    sent = await channel.send("somebody", "Hello 😀")
    await channel.event(sent["message_id"], "submitted")
    assert server.got[-1]["text"] == "Hello 😀"
    refused = await channel.send("nobody!", "x")
    assert (await channel.event(refused["message_id"], "rejected"))["event_details"]["reason"] == "no such pager"
    server.say("somebody", "Hi there")
    assert (await sink.wait_content("/mo", "Hi there"))["from"] == "somebody"
    await server.stop()


async def _is(channel: Channel, component: str, type: str) -> bool:
    return (await channel.component(component)).get("type") == type
