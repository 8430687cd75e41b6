"""Every channel type is put through the table of table.py: the other side of each, as far as the table needs it."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, ClassVar

import aiohttp
import pytest
from aiohttp import web

from junebug.config.declaration import RedisSettings, Settings
from junebug.config_schema import load_object
from junebug.registry import ENTRY_POINT_GROUP
from junebug.runtime import loop
from junebug.smpp.simulator.smsc import Smsc, SmscOptions
from junebug.stores import Stores
from junebug.transports import dmark, http_api, irc, loopback, smpp, telnet, telnet_addr, twitter, xmpp
from tests.harness import basic_authorization, unique
from tests.polling import eventually
from tests.servers import free_port
from tests.test_packaging import declared_channel_types
from tests.transports import ngircd, prosody
from tests.transports.kit import Provider
from tests.transports.pager import Pager, install_package
from tests.transports.running import Running
from tests.transports.table import table_of
from tests.transports.x_api import FakeX


class Loopback(Provider):
    channel_type = loopback.CHANNEL_TYPE
    connects = False
    person = "somebody"

    def config(self) -> dict[str, Any]:
        return {}

    async def meet(self, running: Running) -> None: ...

    async def say(self, text: str, running: Running) -> None:
        await running.send(self.person, text)

    async def hears(self, text: str, running: Running) -> None:
        await running.heard(text)

    async def attack(self, octets: Iterable[bytes], running: Running) -> None: ...


class Telnet(Provider):
    channel_type = telnet.CHANNEL_TYPE
    is_up = ("telnet", "listening")
    connects = False
    wrong: ClassVar[dict[str, Any]] = {"twisted_endpoint": "udp:99999", "max_connections": 0}
    hostile = (b"\xff\xfa" + b"x" * 100_000, b"\xff" * 10_000, b"\xff\xfb", b"\r" * 10_000, b"\x00" * 10_000)

    def __init__(self) -> None:
        self._port = free_port()
        self._writer: asyncio.StreamWriter | None = None

    def config(self) -> dict[str, Any]:
        return {"telnet_host": "127.0.0.1", "telnet_port": self._port}

    async def meet(self, running: Running) -> None:
        await super().meet(running)
        reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=2**24)
        self._lines: list[str] = []
        self._reading = asyncio.create_task(self._read(reader))
        self.introduce(self._writer)
        mine = self.person
        await eventually(lambda: mine in [each.from_addr for each in running.inbound], what="a session")

    def introduce(self, writer: asyncio.StreamWriter) -> None: ...

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with suppress(OSError):
            while line := await reader.readline():
                self._lines.append(line.decode("utf-8", "replace").rstrip("\n"))

    async def part(self) -> None:
        if self._writer:
            self._writer.close()
            with suppress(OSError):
                await self._writer.wait_closed()
            await self._reading
            self._writer = None

    @property
    def person(self) -> str:
        assert self._writer
        return "{}:{}".format(*self._writer.get_extra_info("sockname"))

    async def say(self, text: str, running: Running) -> None:
        assert self._writer
        self._writer.write(text.encode() + b"\r\n")

    async def hears(self, text: str, running: Running) -> None:
        await eventually(lambda: text in self._lines, what=repr(text))

    async def attack(self, octets: Iterable[bytes], running: Running) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            for each in octets:
                writer.write(each)
                await writer.drain()
        finally:
            writer.transport.abort()


class TelnetAddr(Telnet):
    channel_type = telnet_addr.CHANNEL_TYPE
    is_up = ("telnet_addr", "listening")
    person = "somebody"

    def introduce(self, writer: asyncio.StreamWriter) -> None:
        writer.write(b"8110\r\nsomebody\r\n")


class Smpp(Provider):
    channel_type = smpp.CHANNEL_TYPE
    is_up = ("smpp", "bound")
    person = "27820001111"
    wrong: ClassVar[dict[str, Any]] = {"password": "p" * 300, "window_size": 0, "delivery_report_regex": "("}
    endless = (b"\x7f\xff\xff\xff\x80\x00\x00\x09" + bytes(8), b"x" * 65_536)
    hostile = (
        b"\x00\x00\x00\x10\x80\x00\x00\x09" + b"\x00" * 4,  # half a PDU
        b"\x00\x00\x00\x00" * 1000,  # PDUs without a length
        b"\x7f\xff\xff\xff\x00\x00\x00\x05" + bytes(8),  # one of two gigabytes
        b"\x00\x00\x00\x10\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00\x01" * 1000,  # deliver_sm before the bind
    )

    async def __aenter__(self) -> Smpp:
        self._smsc = Smsc(SmscOptions(port=0, system_id="me", password="sesame-1", receipts=False, retry_delay=0.1))
        await self._smsc.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._smsc.stop()

    def config(self) -> dict[str, Any]:
        return {
            "host": "127.0.0.1", "port": self._smsc.port, "system_id": "me", "password": "sesame-1",
            "initial_reconnect_delay": 0.1, "max_reconnect_delay": 0.3, "registered_delivery": False,
        }  # fmt: skip

    def config_at(self, port: int, patience: float = 0.2) -> dict[str, Any]:
        return {**self.config(), "port": port, "smpp_bind_timeout": patience}

    def refused(self) -> dict[str, Any]:
        return {**self.config(), "password": "sesame-2"}

    async def say(self, text: str, running: Running) -> None:
        self._smsc.mo(self.person, "8110", text)

    async def hears(self, text: str, running: Running) -> None:
        await eventually(lambda: text in [each.content for each in self._smsc.messages.values()], what=repr(text))

    async def go(self) -> None:
        await self._smsc.stop()

    async def come_back(self) -> None:
        await self._smsc.start()


class Xmpp(Provider):
    channel_type = xmpp.CHANNEL_TYPE
    is_up = ("xmpp", "connected")
    person = "alice@localhost"
    wrong: ClassVar[dict[str, Any]] = {"username": "no name", "tls": {"mode": "none"}, "max_stanza_size": 10}
    largest = 65_000
    greeting = (b"<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'"
                b" id='1' from='localhost' version='1.0'>")  # fmt: skip
    endless = (b"<message from='a@b'><body>", b"x" * 65_536)
    hostile = (
        b"<a>" * 100_000,
        b"<message><body>" + b"x" * 3_000_000,
        b"<!DOCTYPE a [<!ENTITY a 'x'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;'>]><a>&b;</a>",
        b"</stream:stream>",
        b"<stream:error><see-other-host xmlns='urn:ietf:params:xml:ns:xmpp-streams'>evil.example:1</see-other-host>"
        b"</stream:error>",
        b"<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>NONSENSE</mechanism></mechanisms>"
        b"</stream:features>",
        b"<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>bm9uc2Vuc2U=</success>",
        b"<iq type='set'><bind/></iq><iq/><message/><presence from='@@@' type='subscribe'/>"
        b"<message from='@'><body>x</body></message>",
    )

    async def __aenter__(self) -> Xmpp:
        self._server = prosody.Prosody()
        await asyncio.to_thread(self._server.start)
        await self._enter()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._alice.__aexit__()
        self._server.destroy()

    async def _enter(self) -> None:
        self._alice = await prosody.Person(self._server, "alice").__aenter__()

    def config(self) -> dict[str, Any]:
        return self._server.config()

    def config_at(self, port: int, patience: float = 0.2) -> dict[str, Any]:
        return {**self.config(), "port": port, "connect_timeout": patience, "ping_timeout": patience}

    def refused(self) -> dict[str, Any]:
        return {**self.config(), "password": "a-wrong-password"}

    async def say(self, text: str, running: Running) -> None:
        self._alice.say("bot@localhost", text)

    async def hears(self, text: str, running: Running) -> None:
        await self._alice.hears(text)

    async def go(self) -> None:
        await self._alice.__aexit__()
        await asyncio.to_thread(self._server.kill)

    async def come_back(self) -> None:
        await asyncio.to_thread(self._server.start)
        await self._enter()


class Irc(Provider):
    channel_type = irc.CHANNEL_TYPE
    is_up = ("irc", "connected")
    person = "alice"
    wrong: ClassVar[dict[str, Any]] = {
        "nickname": "no name", "channels": ["help"], "listen": "never", "port": 0,
    }  # fmt: skip
    greeting = b":srv 433 * bot :taken\r\n"
    endless = (b":srv NOTICE bot :", b"x" * 65_536)
    hostile = (
        b":srv 433 * bot :taken\r\n" * 100,
        b":srv NICK\r\n:srv 001\r\n:\r\n::\r\n @\r\n:a!b@c\r\n:srv PING\r\nPING\r\nPONG\r\nJOIN\r\nKICK\r\nERROR\r\n",
        b":srv 001 bot\r\n" + b":bot NICK :\r\n:bot JOIN\r\n:x KICK #a\r\n:srv 401\r\n:srv 401 bot\r\n:x PRIVMSG\r\n" * 100,
        b"PING :" + b"x" * 15_000 + b"\r\n",
        b"PING\r\n" * 10_000,
    )

    async def __aenter__(self) -> Irc:
        self._server = ngircd.Ngircd()
        await asyncio.to_thread(self._server.start)
        await self._enter()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._alice.__aexit__()
        self._server.destroy()

    async def _enter(self) -> None:
        self._alice = await ngircd.Person(self._server, "alice").__aenter__()

    def config(self) -> dict[str, Any]:
        return self._server.config()

    def config_at(self, port: int, patience: float = 0.2) -> dict[str, Any]:
        limits = dict.fromkeys(("connect_timeout", "ping_interval", "response_timeout"), patience)
        return {**self.config(), "port": port, **limits}

    def refused(self) -> dict[str, Any]:
        return {**self.config(), "password": "a-wrong-password"}

    async def say(self, text: str, running: Running) -> None:
        self._alice.write(f"PRIVMSG bot :{text}")

    async def hears(self, text: str, running: Running) -> None:
        await self._alice.sees("PRIVMSG", "alice", text)

    async def go(self) -> None:
        await self._alice.__aexit__()
        await asyncio.to_thread(self._server.kill)

    async def come_back(self) -> None:
        await asyncio.to_thread(self._server.start)
        await self._enter()


class Twitter(Provider):
    channel_type = twitter.CHANNEL_TYPE
    is_up = ("twitter", "connected")
    person = "@alice"
    wrong: ClassVar[dict[str, Any]] = {"base_url": "x.com", "send_as": "fax", "consumer_key": "with space"}
    largest = 280 - len("@alice ")
    greeting = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"
    endless = (b'{"data":"', b"x" * 65_536)
    hostile = (
        b'{"data":{"id":"1","username":"../../me"}}',
        b'{"data":' * 10_000,
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
        b"HTTP/1.1 301 Moved\r\nLocation: http://evil.example/\r\nContent-Length: 0\r\n\r\n",
    )

    async def __aenter__(self) -> Twitter:
        self._x = FakeX()
        await self._x.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._x.stop()

    def config(self) -> dict[str, Any]:
        return self._x.config()

    def config_at(self, port: int, patience: float = 0.2) -> dict[str, Any]:
        return {**self.config(), "base_url": f"http://127.0.0.1:{port}", "request_timeout": patience}

    def refused(self) -> dict[str, Any]:
        return {**self.config(), "access_token_secret": "a-wrong-secret-of-the-token"}

    async def meet(self, running: Running) -> None:
        await super().meet(running)
        await self._x.was_polled()

    async def say(self, text: str, running: Running) -> None:
        self._x.direct_message("2", text)

    async def hears(self, text: str, running: Running) -> None:
        await eventually(lambda: f"@alice {text}" in self._x.by_bot(), what=repr(text))

    async def go(self) -> None:
        await self._x.stop()

    async def come_back(self) -> None:
        await self._x.start()


class OverHttp(Provider):
    """Asks a channel that listens; what nobody replies to waits until it parts."""

    connects = False
    hostile = (
        b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 100_000,
        b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 50_000,
        b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffffff\r\n",
        b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
        b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n" * 2_000,
        b"GET /x?%ff=%ff&%=%00 HTTP/1.1\r\nHost: x\r\nAuthorization: Basic \xff\xff\r\n\r\n",
        b"GET /x HTTP/1.1\r\nHost: x\r\nX-A: " + b"y" * 100_000 + b"\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\n\r\nCONNECT x:1 HTTP/1.1\r\n\r\nGET http://evil.example/x HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    )

    def __init__(self) -> None:
        self._port = free_port()
        self._heard: list[str] = []
        self._waiting: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession | None = None

    def config(self) -> dict[str, Any]:
        return {
            "web_path": "/x", "web_host": "127.0.0.1", "web_port": self._port,
            "web_username": "me", "web_password": "open-sesame",
        }  # fmt: skip

    async def meet(self, running: Running) -> None:
        await super().meet(running)
        self._session = aiohttp.ClientSession(headers={"Authorization": basic_authorization("me", "open-sesame")})

    async def part(self) -> None:
        for each in self._waiting:
            each.cancel()
        await asyncio.gather(*self._waiting, return_exceptions=True)
        if self._session:
            await self._session.close()

    def ask(self, **said: str) -> None:
        task = asyncio.create_task(self._ask(said))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def _ask(self, said: dict[str, str]) -> None:
        assert self._session
        async with self._session.post(f"http://127.0.0.1:{self._port}/x", data=said) as answer:
            self._heard.append(await answer.text())

    async def attack(self, octets: Iterable[bytes], running: Running) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            for each in octets:
                writer.write(each)
                await writer.drain()
        finally:
            writer.transport.abort()


class Dmark(OverHttp):
    channel_type = dmark.CHANNEL_TYPE
    is_up = ("dmark", "listening")
    person = "27820001111"
    wrong: ClassVar[dict[str, Any]] = {"web_path": "a b", "health_path": "/x/", "web_port": 0, "ussd_session_timeout": 0}

    def ask_as(self, session: str, text: str) -> None:
        others = dict.fromkeys(("transactionTime", "creationTime", "response"), "")
        self.ask(transactionId=session, msisdn=self.person, ussdServiceCode="*1#", ussdRequestString=text, **others)

    async def meet(self, running: Running) -> None:
        await super().meet(running)
        self._talk = unique("talk")
        self.ask_as(self._talk, "")
        await eventually(lambda: running.inbound, what="a session")

    async def asked(self, running: Running) -> dict[str, Any]:
        session = unique("t")
        self.ask_as(session, "")

        def come() -> str | None:
            found = (each for each in running.inbound if each.helper_metadata.get("session_id") == session)
            return next((each.message_id for each in found), None)

        return {"in_reply_to": await eventually(come, what="its request")}

    async def say(self, text: str, running: Running) -> None:
        self.ask_as(self._talk, text)
        await running.heard(text)

    async def hears(self, text: str, running: Running) -> None:
        def is_heard() -> bool:
            return any(each and json.loads(each)["responseString"] == text for each in self._heard)

        await eventually(is_heard, what=repr(text))


class HttpApi(OverHttp):
    channel_type = http_api.CHANNEL_TYPE
    is_up = ("http_api", "listening")
    person = "27820001111"
    wrong: ClassVar[dict[str, Any]] = {
        "web_path": "a b", "inbound": {"parameters": {}}, "outbound": {"url": "ftp://x"}, "receipts": {"path": "/x"},
    }  # fmt: skip

    async def __aenter__(self) -> HttpApi:
        self._sent: list[str] = []
        self._runner = web.ServerRunner(web.Server(self._take, access_log=None))
        await self._runner.setup()
        self._its_port = free_port()
        await web.TCPSite(self._runner, "127.0.0.1", self._its_port).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _take(self, request: web.BaseRequest) -> web.Response:
        self._sent.append(json.loads(await request.content.read())["text"])
        return web.Response(text=f"OK {len(self._sent)}")

    def config(self) -> dict[str, Any]:
        return {
            **super().config(),
            "inbound": {"parameters": {"from": "f", "content": "c", "provider_id": "id"}},
            "outbound": {
                "url": f"http://127.0.0.1:{self._its_port}/{{key}}", "json": {"text": "{content}", "to": "{to}"},
                "secrets": {"key": "the-key-of-the-door"}, "success_pattern": "^OK", "id_pattern": "^OK ([0-9]+)",
            },
            "receipts": {"path": "/r", "parameters": {"provider_id": "id", "status": "s"}, "statuses": {"D": "delivered"}},
        }  # fmt: skip

    async def say(self, text: str, running: Running) -> None:
        self.ask(f=self.person, c=text)
        await running.heard(text)

    async def hears(self, text: str, running: Running) -> None:
        await eventually(lambda: text in self._sent, what=repr(text))


PROVIDERS: list[type[Provider]] = [Loopback, Telnet, TelnetAddr, Smpp, Xmpp, Irc, Twitter, Dmark, HttpApi]


def test_each_type_that_there_is_is_put_through_the_table() -> None:
    assert {each.channel_type.name for each in PROVIDERS} == {each.name for each in declared_channel_types()}


@pytest.mark.parametrize("provider", PROVIDERS, ids=lambda provider: provider.channel_type.name)
def test_the_table(provider: type[Provider], redis_settings: RedisSettings, tmp_path: Path) -> None:
    run_table(provider(), redis_settings, tmp_path)


def test_a_type_that_a_package_installs(redis_settings: RedisSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(install_package(tmp_path))
    (entry,) = entry_points(group=ENTRY_POINT_GROUP, name="pager")
    provider = Pager()
    provider.channel_type = entry.load()  # type: ignore[misc]
    try:
        run_table(provider, redis_settings, tmp_path)
    finally:
        for name in ("junebug_pager", "junebug_pager.transport"):
            sys.modules.pop(name, None)
        load_object.cache_clear()


def run_table(provider: Provider, redis_settings: RedisSettings, directory: Path) -> None:
    """On the event loop that channels have."""

    async def whole() -> None:
        stores = Stores(Settings(redis=redis_settings))
        try:
            await table_of(provider, stores.transport("channel"), directory)
        finally:
            await stores.close()

    with asyncio.Runner(loop_factory=loop.new_event_loop) as runner:
        runner.run(whole())
