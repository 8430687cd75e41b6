"""The xmpp type and a real prosody: what goes, what comes, who may see whom, and what happens when the server does not agree."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import slixmpp

from junebug.errors import NotSent, Rejected, TransportStartError, UnknownOutcome
from junebug.logs.redaction import Redactor
from junebug.logs.setup import setup_channel_logging
from junebug.model.messages import UserMessage
from junebug.stores.transport import TransportStore
from junebug.transports.xmpp import CHANNEL_TYPE
from tests.polling import eventually
from tests.tables import rows
from tests.transports.prosody import PASSWORD, Person, Prosody
from tests.transports.running import Running, message_to

BOT, ALICE, BOB = "bot@localhost", "alice@localhost", "bob@localhost"


@pytest.fixture(scope="module")
def server() -> Iterator[Prosody]:
    prosody = Prosody()
    prosody.start()
    yield prosody
    prosody.destroy()


@pytest.fixture
async def alice(server: Prosody) -> AsyncIterator[Person]:
    server.heal()
    async with Person(server, "alice") as person:
        yield person


def channel(server: Prosody, store: TransportStore, **config: Any) -> Running:
    return Running(CHANNEL_TYPE, server.config(**config), store)


async def test_a_conversation(server: Prosody, store: TransportStore, alice: Person) -> None:
    async with channel(server, store) as bot:
        connected = await bot.status("xmpp", "connected")
        assert connected.status == "ok"
        assert connected.message.startswith("Connected as bot@localhost/")
        assert [each.type for each in bot.statuses] == ["connecting", "connected"]
        message = message_to(ALICE, "Hej <Alice> & 'co' ☃ 😀\nsecond line")
        assert await bot.transport.send(message) == message.message_id
        got = await alice.hears(message.content or "")
        assert (got["from"].bare, got["type"], got["id"]) == (BOT, "chat", message.message_id)
        assert (await bot.report(message.message_id, "delivered")).transport_metadata == {}
        alice.say(BOT, "Hej då ☃ 😀\n& <mer>")
        came = await bot.heard("Hej då ☃ 😀\n& <mer>")
        assert (came.from_addr, came.to_addr, came.transport_type) == (ALICE, BOT, "xmpp")
        assert came.transport_metadata["xmpp_id"]


async def test_many_messages_stay_in_order(server: Prosody, store: TransportStore, alice: Person) -> None:
    async with channel(server, store) as bot:
        await asyncio.gather(*(bot.send(ALICE, f"no {number}") for number in range(100)))
        await alice.hears("no 99")
        assert [each["body"] for each in alice.got] == [f"no {number}" for number in range(100)]
        for number in range(300):
            alice.say(BOT, f"back {number}")
        await bot.heard("back 299")
        assert [each.content for each in bot.inbound] == [f"back {number}" for number in range(300)]


async def test_what_comes_while_rabbitmq_is_away_waits_and_is_not_lost(
    server: Prosody, store: TransportStore, alice: Person
) -> None:
    async with channel(server, store, ping_interval=0.1, ping_timeout=0.5) as bot:
        await bot.status("xmpp", "connected")
        bot.broker_is_there.clear()
        for number in range(1000):
            alice.say(BOT, f"{number}")
        await asyncio.sleep(1)  # longer than a ping may take, which is not answered while nothing is read
        assert bot.inbound == []
        assert bot.statuses[-1].type == "connected"
        bot.broker_is_there.set()
        await bot.heard("999")
        assert [each.content for each in bot.inbound] == [f"{number}" for number in range(1000)]


async def test_whoever_asks_to_see_the_account_may(server: Prosody, store: TransportStore, alice: Person) -> None:
    async with channel(server, store, status="away", status_message="Back at nine", presence_interval=0.2) as bot:
        await bot.status("xmpp", "connected")
        alice.client.send_presence_subscription(pto=BOT)
        shown = await alice.sees("away", BOT)
        assert shown["status"] == "Back at nine"
        alice.presences.clear()
        await alice.sees("away", BOT)  # the next one of its interval
    await alice.sees("unavailable", BOT)


async def test_a_status_that_is_no_known_one_is_shown_as_text(server: Prosody, store: TransportStore) -> None:
    async with Person(server, "bob") as bob, channel(server, store, status="Ask me") as bot:
        await bot.status("xmpp", "connected")
        bob.client.send_presence_subscription(pto=BOT)
        assert (await bob.sees("available", BOT))["status"] == "Ask me"


@rows(
    ("to", "content", "reason"),
    [
        ("nobody@localhost", "x", "service-unavailable"),
        ("", "x", "to: it is no JID"),
        ("@", "x", "to: it is no JID"),
        ("a b@c d", "x", "to: it is no JID"),
        (ALICE, None, "content: it is empty, and would not be shown"),
        (ALICE, "", "content: it is empty, and would not be shown"),
        (ALICE, "bell \x07", "content: XML has no character U+0007"),
        (ALICE, "\x00", "content: XML has no character U+0000"),
        (ALICE, "half \ud800", "content: XML has no character U+D800"),
        (ALICE, "no character \uffff", "content: XML has no character U+FFFF"),
        (ALICE, "x" * 66_000, "of 65536 at most"),
    ],
)
async def test_what_can_never_arrive_is_rejected(
    server: Prosody, store: TransportStore, to: str, content: str | None, reason: str
) -> None:
    async with channel(server, store) as bot:
        await bot.status("xmpp", "connected")
        with pytest.raises(Rejected) as raised:
            await bot.send(to, content)
        assert reason in raised.value.reason
        assert bot.events == []
        assert await bot.send(ALICE, "the connection lives")


async def test_markup_in_a_text_stays_text(server: Prosody, store: TransportStore, alice: Person) -> None:
    text = "</body></message><presence type='unavailable'/><!-- ]]> &amp; \u2028"
    async with channel(server, store) as bot:
        await bot.send(ALICE, text)
        await alice.hears(text)


async def test_what_has_no_text_is_no_message(
    server: Prosody, store: TransportStore, alice: Person
) -> None:
    async with channel(server, store) as bot:
        await bot.status("xmpp", "connected")
        alice.say(BOT, "a headline", "headline")
        alice.client.send_raw(f"<message to='{BOT}' type='chat'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>")
        alice.say(BOT, "a text")
        await bot.heard("a text")
        assert [each.content for each in bot.inbound] == ["a text"]


async def test_a_receipt_counts_only_from_whom_the_message_went_to(
    server: Prosody, store: TransportStore, alice: Person
) -> None:
    async with channel(server, store) as bot, Person(server, "bob") as bob:
        bob.client.plugin["xep_0184"].auto_ack = False
        await bot.status("xmpp", "connected")
        message = message_to(BOB, "to Bob")
        await bot.transport.send(message)
        got = await bob.hears("to Bob")
        alice.client.send_raw(error_of(got, "cancel", "gone"))
        alice.client.send_raw(receipt_of(message))
        alice.say(BOT, "both were lies")
        await bot.heard("both were lies")
        assert bot.events == []
        bob.client.send_raw(receipt_of(message))
        await bot.report(message.message_id, "delivered")
        bob.client.send_raw(receipt_of(message))
        bob.say(BOT, "said twice")
        await bot.heard("said twice")
        assert len(bot.events) == 1


def receipt_of(message: UserMessage) -> str:
    return f"<message to='{BOT}' id='1'><received xmlns='urn:xmpp:receipts' id='{message.message_id}'/></message>"


def error_of(got: slixmpp.Message, type: str, condition: str) -> str:
    error = f"<error type='{type}'><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"
    return f"<message to='{got['from']}' id='{got['id']}' type='error'>{error}</message>"


async def test_an_error_that_comes_later_is_a_failed_delivery(server: Prosody, store: TransportStore, alice: Person) -> None:
    alice.client.plugin["xep_0184"].auto_ack = False
    async with channel(server, store) as bot:
        await bot.status("xmpp", "connected")
        message = message_to(ALICE, "will bounce")
        await bot.transport.send(message)
        got = await alice.hears("will bounce")
        alice.client.send_raw(error_of(got, "wait", "recipient-unavailable"))
        failed = await bot.report(message.message_id, "failed")
        assert failed.transport_metadata == {"reason": "recipient-unavailable"}


async def test_a_wrong_password_is_told_and_tried_again(server: Prosody, store: TransportStore) -> None:
    async with channel(server, store, password="wrong-but-secret") as bot:
        refused = await bot.status("xmpp", "auth_failed")
        assert refused.status == "down"
        assert "The server refuses the login: not-authorized" in refused.message
        with pytest.raises(NotSent):
            await bot.transport.send(message_to(ALICE, "x"))
        await eventually(lambda: server.log().count("not-authorized") + server.log().count("disconnected") > 1)
        assert [each.type for each in bot.statuses] == ["connecting", "auth_failed"]


async def test_a_server_that_restarts_is_connected_to_again(server: Prosody, store: TransportStore) -> None:
    async with channel(server, store) as bot:
        await bot.status("xmpp", "connected")
        before = len(bot.statuses)
        await asyncio.to_thread(server.kill)
        lost = await bot.status("xmpp", "connection_lost", after=before)
        assert lost.status == "down"
        with pytest.raises(NotSent):
            await bot.transport.send(message_to(ALICE, "x"))
        await bot.status("xmpp", "connect_failed", after=before)
        await asyncio.to_thread(server.start)
        await bot.status("xmpp", "connected", after=before)
        async with Person(server, "alice") as alice:
            await bot.send(ALICE, "back again")
            await alice.hears("back again")


async def test_a_server_that_hangs_is_found_out_and_what_it_was_sent_is_unknown(server: Prosody, store: TransportStore) -> None:
    async with channel(server, store, ping_interval=0.2, ping_timeout=0.3) as bot:
        await bot.status("xmpp", "connected")
        server.signal(signal.SIGSTOP)
        try:
            with pytest.raises(UnknownOutcome):
                await bot.transport.send(message_to(ALICE, "x"))
            lost = await bot.status("xmpp", "connection_lost")
            assert lost.message == "The server has been silent for 0.3 seconds"
        finally:
            server.signal(signal.SIGCONT)
        await bot.status("xmpp", "connected", after=2)


async def test_another_client_takes_the_resource(server: Prosody, store: TransportStore) -> None:
    config = {"username": f"{BOT}/desk", "initial_reconnect_delay": 30, "max_reconnect_delay": 30}
    async with channel(server, store, **config) as first:
        assert (await first.status("xmpp", "connected")).message == "Connected as bot@localhost/desk"
        async with channel(server, store, **config) as second:
            await second.status("xmpp", "connected")
            conflict = await first.status("xmpp", "conflict")
            assert conflict.status == "down"


# --- TLS ------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tls_server() -> Iterator[Prosody]:
    prosody = Prosody(tls=True)
    prosody.start()
    yield prosody
    prosody.destroy()


async def test_tls_in_both_ways(tls_server: Prosody, store: TransportStore) -> None:
    trusted = {"ca_file": str(tls_server.authority)}
    for more in ({}, {"port": tls_server.tls_port, "tls": {"mode": "direct", **trusted}}, {"tls": {"verify": False}}):
        async with channel(tls_server, store, **more) as bot:
            await bot.status("xmpp", "connected")
            await bot.send(BOB, "safe")


async def test_a_certificate_that_nobody_vouches_for_is_refused(tls_server: Prosody, store: TransportStore) -> None:
    async with channel(tls_server, store, tls=True) as bot:
        assert "certificate is not trusted" in (await bot.status("xmpp", "tls_failed")).message
    direct = {"mode": "direct", "ca_file": str(tls_server.authority), "server_name": "elsewhere.example"}
    async with channel(tls_server, store, port=tls_server.tls_port, tls=direct) as bot:
        await bot.status("xmpp", "tls_failed")


async def test_the_password_does_not_leave_in_the_clear(server: Prosody, tls_server: Prosody, store: TransportStore) -> None:
    """Neither to a server that offers no TLS where it is wanted, nor to one that wants it where it is off."""
    async with Eavesdropper(server.port) as between, channel(server, store, port=between.port, tls=True) as bot:
        between.without = b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
        assert "no way to log in" in (await bot.status("xmpp", "auth_failed")).message
        assert b"<auth" not in between.heard
    async with channel(tls_server, store, tls=False) as bot:
        assert "wants TLS" in (await bot.status("xmpp", "auth_failed")).message


class Eavesdropper:
    """Hands on what both sides say, but for some octets, and remembers what the client said."""

    def __init__(self, to_port: int) -> None:
        self._to_port = to_port
        self.heard, self.without = b"", b"\0"

    async def __aenter__(self) -> Eavesdropper:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._to_port)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter, ours: bool) -> None:
            while data := await source.read(65536):
                self.heard += data if ours else b""
                sink.write(data.replace(self.without, b""))
            sink.close()

        await asyncio.gather(pump(reader, server_writer, True), pump(server_reader, writer, False), return_exceptions=True)


def test_files_that_cannot_be_used_are_named(store: TransportStore, server: Prosody) -> None:
    async def start() -> None:
        async with channel(server, store, tls={"ca_file": "/nonexistent"}):
            pass

    with pytest.raises(TransportStartError, match=r"tls\.ca_file: cannot use /nonexistent"):
        asyncio.run(start())


async def test_debug_logs_stanzas_but_nothing_of_the_login(server: Prosody, store: TransportStore, tmp_path: Path) -> None:
    log = setup_channel_logging(tmp_path / "log", "log", Redactor(), rotate_size=1_000_000, max_files=2)
    try:
        async with channel(server, store, debug=True) as bot:
            await bot.send(BOB, "seen in the log")
    finally:
        log.close()
    shown = (tmp_path / "log").read_text()
    assert "seen in the log" in shown
    assert [each for each in (PASSWORD, "<auth", "<response") if each in shown] == []
