"""Conversations through Junebug and real servers of chat systems: from the API to a person's client and back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.blackbox.conftest import Channels
from tests.harness import Channel, WebhookSink
from tests.polling import eventually
from tests.transports.prosody import PASSWORD, Person, Prosody


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


async def _is(channel: Channel, component: str, type: str) -> bool:
    return (await channel.component(component)).get("type") == type
