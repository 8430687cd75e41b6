"""The irc type and a real ngircd: to people and channels, from them, and what happens when the server does not agree."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from junebug.errors import NotSent, Rejected, TransportStartError, UnknownOutcome
from junebug.stores.transport import TransportStore
from junebug.transports.irc import CHANNEL_TYPE, lines
from junebug.transports.irc.pace import Pace
from tests.polling import eventually
from tests.tables import rows
from tests.transports.ngircd import Ngircd, Person
from tests.transports.running import Running, message_to


@pytest.fixture(scope="module")
def server() -> Iterator[Ngircd]:
    ngircd = Ngircd()
    ngircd.start()
    yield ngircd
    ngircd.destroy()


@pytest.fixture
async def alice(server: Ngircd) -> AsyncIterator[Person]:
    server.heal()
    async with Person(server, "alice") as person:
        yield person


def channel(server: Ngircd, store: TransportStore, **config: Any) -> Running:
    return Running(CHANNEL_TYPE, server.config(**config), store)


async def in_channel(bot: Running, *names: str) -> None:
    """When it is there."""
    await eventually(lambda: bot.transport._connection and set(names) <= bot.transport._connection.joined)  # type: ignore[attr-defined]


# --- pure -----------------------------------------------------------------------------------------------------------------


@rows(
    ("content", "room", "wanted"),
    [
        ("", 10, []),
        (" \r\n ", 10, []),
        ("hello", 10, ["hello"]),
        ("one\r\ntwo\n\n\rthree", 10, ["one", "two", "three"]),
        ("0123456789", 10, ["0123456789"]),
        ("01234567890", 10, ["0123456789", "0"]),
        ("hello world", 10, ["hello", "world"]),
        ("0123456789 1", 10, ["0123456789", "1"]),
        ("☃☃☃☃", 10, ["☃☃☃", "☃"]),
        ("😀😀😀", 4, ["😀", "😀", "😀"]),
        ("a\x00b\x01c", 10, ["abc"]),
        ("\ud800", 10, ["?"]),
        ("x" * 100_000, 400, ["x" * 400] * 250),
        (" " * 100_000 + "x", 400, None),
    ],
)
def test_a_text_is_broken_into_lines_of_so_many_octets(content: str, room: int, wanted: list[str] | None) -> None:
    found = list(lines.texts(content, room))
    assert all(len(each.encode()) <= room for each in found)
    assert wanted is None or found == wanted


@rows("octets", [b"", b":", b": :", b":a", b"@", b"@a", b"@a b", b"\r\n", b"\x00", b" ", b":a :b", b"\xff\xfe\r\n", b"@\xff x"])
def test_hostile_lines_are_lines_or_none(octets: bytes) -> None:
    found = lines.parse(octets)
    assert found is None or found.command


@rows("parameters", [("a\r\nQUIT",), ("a\nb",), ("a\0b",), ("with space", "b"), (":colon", "b")])
def test_what_would_be_another_line_is_none(parameters: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"CR, LF or NUL|non last params"):
        lines.line("PRIVMSG", *parameters)


@rows(
    ("line", "wanted"),
    [
        (":al!a@h PRIVMSG bot :hi", ("al", None, "hi", "PRIVMSG", True)),
        (":al!a@h PRIVMSG #c :hi", ("al", "#c", "hi", "PRIVMSG", False)),
        (":al!a@h PRIVMSG #c :bot: hi", ("al", "#c", "hi", "PRIVMSG", True)),
        (":al!a@h PRIVMSG #c :BOT, hi", ("al", "#c", "hi", "PRIVMSG", True)),
        (":al!a@h PRIVMSG #c :@bot hi", ("al", "#c", "hi", "PRIVMSG", True)),
        (":al!a@h PRIVMSG #c :bot", ("al", "#c", "", "PRIVMSG", True)),
        (":al!a@h PRIVMSG #c :bottle: hi", ("al", "#c", "bottle: hi", "PRIVMSG", False)),
        (":al!a@h PRIVMSG #c :İ bot: hi", ("al", "#c", "İ bot: hi", "PRIVMSG", False)),
        (":al!a@h PRIVMSG bot :\x01ACTION waves\x01", ("al", None, "waves", "ACTION", True)),
        (":al!a@h PRIVMSG bot :\x01ACTION\x01", ("al", None, "", "ACTION", True)),
        (":al!a@h PRIVMSG bot :\x01VERSION\x01", None),
        (":al!a@h NOTICE bot :hi", None),
        (":bot!a@h PRIVMSG #c :bot: hi", None),
        (":Bot!a@h PRIVMSG bot :to myself", None),
        (":al!a@h PRIVMSG bot", None),
        ("PRIVMSG bot :from nobody", None),
        (": PRIVMSG bot :from nobody", None),
    ],
)
def test_what_is_for_the_application(line: str, wanted: tuple[Any, ...] | None) -> None:
    parsed = lines.parse(line.encode())
    assert parsed
    found = lines.said(parsed, "bot")
    assert wanted == (found and (found.sender, found.channel, found.text, found.command, found.to_us))


def test_lines_leave_at_once_after_a_silence_then_one_by_one() -> None:
    pace = Pace(2, 3)
    assert [pace.delay(100.0) for _ in range(6)] == [0, 0, 0, 2, 4, 6]
    assert pace.delay(104.0) == 4
    assert [pace.delay(1000.0) for _ in range(4)] == [0, 0, 0, 2]
    assert [Pace(0, 1).delay(0.0) for _ in range(3)] == [0, 0, 0]


def test_a_long_sasl_answer_is_in_pieces() -> None:
    assert lines.sasl_plain("me", "pw") == ["bWUAbWUAcHc="]
    pieces = lines.sasl_plain("m" * 50, "p" * 198)
    assert [len(each) for each in pieces] == [400, 1]
    assert pieces[-1] == "+"


# --- people ---------------------------------------------------------------------------------------------------------------


async def test_a_conversation(server: Ngircd, store: TransportStore, alice: Person) -> None:
    async with channel(server, store) as bot:
        connected = await bot.status("irc", "connected")
        assert (connected.status, connected.message) == ("ok", "Connected as bot")
        message = message_to("alice", "Hej Alice ☃ 😀")
        assert await bot.transport.send(message) == message.message_id
        got = await alice.sees("PRIVMSG", "alice", "Hej Alice ☃ 😀")
        assert got.hostmask.nickname == "bot"
        alice.write("PRIVMSG bot :Hej då ☃ 😀")
        came = await bot.heard("Hej då ☃ 😀")
        assert (came.from_addr, came.to_addr, came.group, came.transport_type) == ("alice", "bot", None, "irc")
        assert came.helper_metadata["irc"] == {
            "transport_nickname": "bot", "addressed_to_transport": True, "irc_server": "127.0.0.1", "irc_channel": None,
            "irc_command": "PRIVMSG",
        }  # fmt: skip
        alice.write("PRIVMSG bot :\udcff\udcfe latin \udce9")
        await bot.heard("ÿþ latin é")


async def test_actions_go_both_ways(server: Ngircd, store: TransportStore, alice: Person) -> None:
    async with channel(server, store) as bot:
        await bot.send("alice", "waves", helper_metadata={"irc": {"irc_command": "ACTION"}})
        await alice.sees("PRIVMSG", "alice", "\x01ACTION waves\x01")
        await bot.send("alice", "psst", helper_metadata={"irc": {"irc_command": "NOTICE"}})
        await alice.sees("NOTICE", "alice", "psst")
        alice.write("PRIVMSG bot :\x01ACTION waves back\x01", "PRIVMSG bot :\x01VERSION\x01", "NOTICE bot :no answer")
        assert (await bot.heard("waves back")).helper_metadata["irc"]["irc_command"] == "ACTION"
        alice.write("PRIVMSG bot :done")
        await bot.heard("done")
        assert [each.content for each in bot.inbound] == ["waves back", "done"]


async def test_a_long_message_is_whole_lines_of_512_octets_in_order(server: Ngircd, store: TransportStore, alice: Person) -> None:
    """`Person.sees` checks the octets of each line that comes."""
    async with channel(server, store) as bot:
        text = "☃" * 700 + " end"
        await asyncio.gather(bot.send("alice", text), bot.send("alice", "another"))
        await alice.sees("PRIVMSG", "alice", "another")
        got = [line.params[1] for line in alice.seen if line.command == "PRIVMSG" and line.source]
        assert "".join(got[:-1]).replace(" ", "") == text.replace(" ", "")
        assert len(got) <= 7
        assert all("\ufffd" not in each for each in got)


@rows(
    ("to", "content", "reason"),
    [
        ("nobody", "x", "401 No such nick or channel name"),
        ("nobody", "one\ntwo\nthree", "401 No such nick or channel name"),
        ("#nowhere", "x", ""),
        ("", "x", "to: it is neither a nickname nor a channel"),
        (None, "x", "to: it is neither a nickname nor a channel"),
        ("alice,bob", "x", "to: it is neither a nickname nor a channel"),
        ("alice\r\nQUIT", "x", "to: it is neither a nickname nor a channel"),
        ("alice :x", "x", "to: it is neither a nickname nor a channel"),
        (":alice", "x", "to: it is neither a nickname nor a channel"),
        ("\ud800", "x", "to: it is neither a nickname nor a channel"),
        ("$*", "x", "to: it is neither a nickname nor a channel"),
        ("bot@host", None, "content: it is empty, which IRC cannot send"),
        ("alice", "", "content: it is empty, which IRC cannot send"),
        ("alice", "\r\n\x00", "content: it is empty, which IRC cannot send"),
        ("alice", "x\n" * 11, "content: it would have more than 10 lines, which is max_lines"),
        ("alice", "x" * 10_000_000, "content: it would have more than 10 lines, which is max_lines"),
    ],
)
async def test_what_can_never_arrive_is_rejected(
    server: Ngircd, store: TransportStore, alice: Person, to: str | None, content: str | None, reason: str
) -> None:
    async with channel(server, store) as bot:
        with pytest.raises(Rejected) as raised:
            await bot.send(to, content)
        assert reason in raised.value.reason
        assert await bot.send("alice", "the connection lives")
        await alice.sees("PRIVMSG", "alice", "the connection lives")


async def test_each_refusal_finds_its_message(server: Ngircd, store: TransportStore, alice: Person) -> None:
    async with channel(server, store) as bot:
        await bot.status("irc", "connected")
        to = ["alice", "nobody", "alice", "nobody2", "nobody", "alice"]
        outcomes = await asyncio.gather(*(bot.send(each, "x\ny") for each in to), return_exceptions=True)
        assert [isinstance(each, Rejected) for each in outcomes] == [each != "alice" for each in to]


async def test_no_text_becomes_a_command(server: Ngircd, store: TransportStore, alice: Person) -> None:
    async with channel(server, store) as bot:
        await bot.send("alice", "one\r\nQUIT :bye\r\nPRIVMSG alice :\x01ACTION forged\x01")
        await alice.sees("PRIVMSG", "alice", "one")
        await alice.sees("PRIVMSG", "alice", "QUIT :bye")
        await alice.sees("PRIVMSG", "alice", "PRIVMSG alice :ACTION forged")


async def test_what_comes_while_rabbitmq_is_away_waits_and_is_not_lost(
    server: Ngircd, store: TransportStore, alice: Person
) -> None:
    async with channel(server, store, ping_interval=0.1, response_timeout=0.3) as bot:
        await bot.status("irc", "connected")
        bot.broker_is_there.clear()
        alice.write(*(f"PRIVMSG bot :{number}" for number in range(600)))
        await asyncio.sleep(1)
        assert bot.inbound == []
        bot.broker_is_there.set()
        await bot.heard("599")
        assert [each.content for each in bot.inbound] == [f"{number}" for number in range(600)]
        assert {each.type for each in bot.statuses} == {"connecting", "connected"}


# --- channels -------------------------------------------------------------------------------------------------------------


async def test_in_a_channel_those_who_address_it_are_heard(server: Ngircd, store: TransportStore, alice: Person) -> None:
    await alice.join("#help")
    async with channel(server, store, channels=["#help", "#Other"]) as bot:
        await in_channel(bot, "#help", "#other")
        alice.write("PRIVMSG #help :nobody listens", "PRIVMSG #help :Bot: what now?")
        came = await bot.heard("what now?")
        assert (came.from_addr, came.to_addr, came.group) == ("alice", "bot", "#help")
        assert [each.content for each in bot.inbound] == ["what now?"]
        await bot.send("alice", "this", group="#help")  # as a reply has it
        await alice.sees("PRIVMSG", "#help", "this")
        await bot.send("#help", "and that")
        await alice.sees("PRIVMSG", "#help", "and that")
    async with channel(server, store, channels=["#help"], listen="all") as bot:
        await in_channel(bot, "#help")
        alice.write("PRIVMSG #help :somebody listens")
        assert (await bot.heard("somebody listens")).helper_metadata["irc"]["addressed_to_transport"] is False


async def test_who_is_thrown_out_of_a_channel_comes_back(server: Ngircd, store: TransportStore, alice: Person) -> None:
    await alice.join("#strict")
    async with channel(server, store, channels=["#strict"], retry_interval=0.2) as bot:
        await in_channel(bot, "#strict")
        alice.write("MODE #strict +i", "KICK #strict bot :out")
        out = await bot.status("irc", "not_in_channel")
        assert out.status == "degraded"
        await bot.status("irc", "not_in_channel")
        alice.write("MODE #strict -i")
        await bot.status("irc", "connected", after=bot.statuses.index(out))
        await in_channel(bot, "#strict")


# --- the nickname ---------------------------------------------------------------------------------------------------------


async def test_a_nickname_that_is_taken_is_had_when_it_is_free(server: Ngircd, store: TransportStore) -> None:
    async with Person(server, "bot") as squatter, Person(server, "spare") as _:
        config = {"alternative_nicknames": ["spare", "helper"], "retry_interval": 0.2}
        async with channel(server, store, **config) as bot:
            taken = await bot.status("irc", "nick_in_use")
            assert (taken.status, taken.message) == ("degraded", "Connected as helper: bot is taken")
            squatter.write("PRIVMSG helper :hi")
            assert (await bot.heard("hi")).to_addr == "helper"
            squatter.write("NICK gone")
            await bot.status("irc", "connected", after=bot.statuses.index(taken))
            squatter.write("PRIVMSG bot :hi again")
            assert (await bot.heard("hi again")).to_addr == "bot"
            await bot.send("gone", "and to you")
            await squatter.sees("PRIVMSG", "gone", "and to you")


async def test_without_alternatives_a_number_is_added(server: Ngircd, store: TransportStore) -> None:
    async with Person(server, "bot"), channel(server, store) as bot:
        assert (await bot.status("irc", "nick_in_use")).message == "Connected as bot1: bot is taken"


# --- the connection -------------------------------------------------------------------------------------------------------


async def test_a_wrong_password_is_told_and_tried_again(server: Ngircd, store: TransportStore) -> None:
    async with channel(server, store, password="wrong-but-secret") as bot:
        refused = await bot.status("irc", "auth_failed")
        assert refused.status == "down"
        with pytest.raises(NotSent):
            await bot.transport.send(message_to("alice", "x"))


async def test_a_server_that_restarts_is_connected_to_again(server: Ngircd, store: TransportStore) -> None:
    async with channel(server, store, channels=["#help"]) as bot:
        await in_channel(bot, "#help")
        before = len(bot.statuses)
        await asyncio.to_thread(server.kill)
        assert (await bot.status("irc", "connection_lost", after=before)).status == "down"
        with pytest.raises(NotSent):
            await bot.transport.send(message_to("alice", "x"))
        await bot.status("irc", "connect_failed", after=before)
        await asyncio.to_thread(server.start)
        await bot.status("irc", "connected", after=before)
        await in_channel(bot, "#help")


async def test_a_server_that_hangs_is_found_out_and_what_it_was_sent_is_unknown(server: Ngircd, store: TransportStore) -> None:
    async with channel(server, store, ping_interval=0.2, response_timeout=0.3) as bot:
        await bot.status("irc", "connected")
        server.signal(signal.SIGSTOP)
        try:
            with pytest.raises(UnknownOutcome):
                await bot.transport.send(message_to("alice", "x"))
            assert (await bot.status("irc", "connection_lost")).message == "The server has been silent for 0.3 seconds"
        finally:
            server.signal(signal.SIGCONT)
        await bot.status("irc", "connected", after=2)


async def test_tls(server: Ngircd, store: TransportStore) -> None:
    trusted = {"ca_file": str(server.directory / "server.pem"), "server_name": "irc.example.net"}
    async with channel(server, store, port=server.tls_port, tls=trusted) as bot:
        await bot.status("irc", "connected")
        with pytest.raises(Rejected):
            await bot.send("nobody", "x")
    async with channel(server, store, port=server.tls_port, tls=True) as bot:
        assert "certificate is not trusted" in (await bot.status("irc", "tls_failed")).message
    with pytest.raises(TransportStartError, match=r"tls\.ca_file: cannot use /nonexistent"):
        async with channel(server, store, tls={"ca_file": "/nonexistent"}):
            pass


# --- a network with accounts: ngircd has none -----------------------------------------------------------------------------


async def test_login_with_an_account(store: TransportStore) -> None:
    for password, wanted in (("right-secret", "connected"), ("wrong-secret", "auth_failed")):
        async with AccountsServer() as server:
            config = server.config(sasl_username="me", sasl_password=password)
            async with Running(CHANNEL_TYPE, config, store) as bot:
                await bot.status("irc", wanted)
                assert (b"CAP END" in server.got) is (wanted == "connected")


async def test_a_network_without_accounts_where_one_is_wanted(server: Ngircd, store: TransportStore) -> None:
    async with channel(server, store, sasl_username="me", sasl_password="a-secret") as bot:
        assert (await bot.status("irc", "auth_failed")).message == "The server offers no SASL"


class AccountsServer:
    """Says what a server says that knows SASL PLAIN (IRCv3): me's password is right-secret."""

    def __init__(self) -> None:
        self.got: list[bytes] = []

    def config(self, **more: Any) -> dict[str, Any]:
        return {"network": "127.0.0.1", "port": self.port, "nickname": "bot", "line_interval": 0, **more}

    async def __aenter__(self) -> AccountsServer:
        self._server = await asyncio.start_server(self._client, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        right = lines.sasl_plain("me", "right-secret")[0].encode()
        answers: dict[bytes, Callable[[], bytes]] = {
            b"CAP REQ sasl": lambda: b":srv CAP * ACK :sasl",
            b"AUTHENTICATE PLAIN": lambda: b"AUTHENTICATE +",
            b"AUTHENTICATE " + right: lambda: b":srv 903 bot :SASL authentication successful",
            b"CAP END": lambda: b":srv 001 bot :Welcome bot!me@host",
        }
        while line := (await reader.readline()).rstrip():
            self.got.append(line)
            unknown = b":srv 904 bot :SASL authentication failed" if line.startswith(b"AUTHENTICATE") else None
            answer = answers[line]() if line in answers else unknown
            if answer:
                writer.write(answer + b"\r\n")
        writer.close()

