"""IrcConnection: one connection to an IRC server, from its first octet to its last: login, nickname, channels, who is there.

A server answers what it is asked in order. So what was written before a PING has been dealt with when its PONG comes, and an
error about it has come before.
Neighbours: lines.py is what lines mean; transport.py is the channel.
"""

from __future__ import annotations

import asyncio
import itertools
import ssl
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from irctokens.line import Line

from junebug.runtime.tls import reason_of
from junebug.transports.irc import lines
from junebug.transports.irc.pace import Pace
from junebug.transports.kept_link import LinkDown

LONGEST_LINE = 16 * 1024
"""Octets of one that a server may send: more than IRCv3's tags take."""
CLOSE_TIMEOUT = 0.4
WRITE_TIMEOUT = 30.0
JOINED_AT_ONCE = 2
"""Channels: their names may have 200 characters each, and a line 512 octets."""
MOST_NICKNAMES = 50
"""That are tried at a login."""
LONGEST_TEXT = 300
"""Characters of what a server says that go into a status."""

WELCOME = "001"
NICK_TAKEN = ("432", "433", "436", "437")
LOGIN_REFUSED = {"464": "auth_failed", "465": "banned", "902": "auth_failed", "904": "auth_failed", "905": "auth_failed",
                 "906": "auth_failed", "908": "auth_failed"}  # fmt: skip
NOT_JOINED = ("403", "405", "437", "471", "473", "474", "475", "476", "477", "489", "520")
NOT_SENT = ("401", "402", "403", "404", "407", "408", "413", "414", "415", "477", "486", "489", "531", "716")
"""Numeric replies (RFC 2812, 5.2, and networks' own), each about its second parameter."""


class IrcConnection:
    """`config`: the channel's. While `room` is clear nothing is read. `on_line` gets what is not dealt with here; `on_refused`
    whom something could not be sent to, and why.
    """

    def __init__(
        self, config: dict[str, Any], tls: ssl.SSLContext | None, *, room: asyncio.Event,
        on_line: Callable[[Line], None], on_refused: Callable[[str, str], None],
    ) -> None:  # fmt: skip
        self._config, self._tls = config, tls
        self._room, self._on_line, self._on_refused = room, on_line, on_refused
        self.wanted = config["nickname"]
        self.nickname = self.wanted
        self.mask = self.wanted
        """Ours, as others see it: nick!user@host, once we know."""
        self.joined: set[str] = set()
        self.refusals: dict[str, str] = {}
        """Channel -> why we are not in it."""
        self.changed = asyncio.Event()
        """Set when the nickname or the channels are others."""
        self._pace = Pace(config.get("line_interval", 2), config.get("line_burst", 5))
        self._timeout: float = config.get("response_timeout", 60)
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._pongs: dict[str, asyncio.Future[bool]] = {}
        self._tokens = itertools.count(1)
        self._confirmation: asyncio.Task[None] | None = None
        self._next_confirmation = 0.0
        self._why: LinkDown | None = None
        self._is_in = False
        self.is_closed = False

    # --- its life -----------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect and log in. Raises LinkDown."""
        host, timeout = self._config["network"], self._config.get("connect_timeout", 30)
        port = self._config.get("port") or (6697 if self._tls else 6667)
        tls = self._config.get("tls")
        name = ((tls.get("server_name") if isinstance(tls, dict) else None) or host) if self._tls else None
        try:
            async with asyncio.timeout(timeout):
                self._reader, self._writer = await asyncio.open_connection(
                    host, port, ssl=self._tls, server_hostname=name, limit=LONGEST_LINE
                )
                await self._log_in()
        except TimeoutError:
            what = "No login" if self._writer else "No connection"
            raise LinkDown("connect_failed", f"{what} within {timeout:g} seconds") from None
        except (OSError, ValueError) as error:
            type = "tls_failed" if isinstance(error, ssl.SSLError) else "connect_failed"
            raise LinkDown(type, f"Cannot connect to {host}:{port}: {reason_of(error)}") from None

    async def _log_in(self) -> None:
        username = self._config.get("username") or self._config["nickname"][:10]
        if "sasl_username" in self._config:
            await self.write("CAP", "REQ", "sasl")
        if password := self._config.get("password"):
            await self.write("PASS", password)
        nicknames = self._nicknames()
        await self.write("NICK", next(nicknames))
        await self.write("USER", username, "0", "*", self._config.get("realname", "Junebug"))
        while True:
            found = await self._read()
            if found is None:
                continue
            if found.command == WELCOME and found.params:
                self.nickname = found.params[0]
                last = found.params[-1].rpartition(" ")[2]
                self.mask = last if lines.same(last).startswith(f"{lines.same(self.nickname)}!") else self.nickname
                self._is_in = True
                return self.changed.set()
            if found.command in NICK_TAKEN:
                await self.write("NICK", next(nicknames, "") or _no_nickname())
            elif refused := LOGIN_REFUSED.get(found.command):
                raise LinkDown(refused, _text("The server refuses the login", found))
            elif found.command in ("CAP", "AUTHENTICATE", "903", "421"):
                await self._authenticate(found)

    def _nicknames(self) -> Iterator[str]:
        yield self.wanted
        given = self._config.get("alternative_nicknames") or ()
        yield from given
        yield from (f"{self.wanted[:7]}{number}" for number in range(1, MOST_NICKNAMES - len(given)))

    async def _authenticate(self, found: Line) -> None:
        """A step of SASL PLAIN."""
        if "sasl_username" not in self._config:
            return
        if found.command == "903":
            await self.write("CAP", "END")
        elif found.command == "AUTHENTICATE" and found.params[:1] == ["+"]:
            for chunk in lines.sasl_plain(self._config["sasl_username"], self._config["sasl_password"]):
                await self.write("AUTHENTICATE", chunk)
        elif found.command == "CAP" and found.params[1:2] == ["ACK"]:
            await self.write("AUTHENTICATE", "PLAIN")
        elif found.command == "421" and found.params[1:2] != ["CAP"]:
            return
        else:
            raise LinkDown("auth_failed", "The server offers no SASL")

    async def run(self) -> None:
        """Read until it ends. Raises LinkDown."""
        while True:
            await self._room.wait()
            found = await self._read()
            if found:
                self._deal(found)

    async def close(self) -> None:
        """In good order, as far as that is quick."""
        if self._writer and not self.is_closed:
            self.is_closed = True
            try:
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    self._writer.write(lines.line("QUIT", "Bye"))
                    await self._writer.drain()
                    self._writer.close()
                    await self._writer.wait_closed()
            except (OSError, RuntimeError):
                self._writer.transport.abort()

    def end(self, why: LinkDown | None = None) -> None:
        """Now. Whoever waits for the server learns of it."""
        self._why = self._why or why
        self.is_closed = True
        if self._writer:
            self._writer.transport.abort()
        for waiting in self._pongs.values():
            if not waiting.done():
                waiting.set_result(False)
        self._pongs.clear()
        if self._confirmation:
            self._confirmation.cancel()

    def _lost(self) -> LinkDown:
        return self._why or LinkDown("connection_lost", "The connection was lost")

    # --- writing ------------------------------------------------------------------------------------------------------

    async def write(self, command: str, *parameters: str) -> None:
        """One line, now. Raises LinkDown."""
        assert self._writer
        octets = lines.line(command, *parameters)
        if self.is_closed or self._writer.is_closing():
            raise self._lost()
        try:
            self._writer.write(octets)
            async with asyncio.timeout(WRITE_TIMEOUT):
                await self._writer.drain()
        except TimeoutError:
            raise LinkDown("connection_lost", f"The server has read nothing for {WRITE_TIMEOUT:g} seconds") from None
        except (OSError, RuntimeError) as error:
            raise LinkDown("connection_lost", f"the connection was lost: {reason_of(error)}") from None

    async def join(self, channels: Iterable[str]) -> None:
        """Ask to be let in."""
        asked = list(channels)
        for start in range(0, len(asked), JOINED_AT_ONCE):
            await self.write_in_pace("JOIN", ",".join(asked[start : start + JOINED_AT_ONCE]))

    async def write_in_pace(self, command: str, *parameters: str) -> None:
        """One line, when its time has come."""
        await asyncio.sleep(self._pace.delay(asyncio.get_running_loop().time()))
        await self.write(command, *parameters)

    async def dealt_with(self) -> None:
        """Return when the server has dealt with all that was written before. Raises LinkDown, and the connection has ended."""
        token = f"jb{next(self._tokens)}"
        pong = self._pongs[token] = asyncio.get_running_loop().create_future()
        try:
            await self.write_in_pace("PING", token)
            while not pong.done():
                was_read = self._room.is_set()
                await asyncio.wait([pong], timeout=self._timeout)
                if not pong.done() and was_read and self._room.is_set():
                    self.end(LinkDown("connection_lost", f"The server has been silent for {self._timeout:g} seconds"))
        finally:
            self._pongs.pop(token, None)
        if not pong.result():
            raise self._lost()

    async def confirmed(self, writing: asyncio.Lock) -> None:
        """As `dealt_with`; many who wait share one question. `writing`: whoever has it is to be waited for, too."""
        if self._confirmation and not self._confirmation.done():  # it may have been asked before our lines
            await asyncio.wait([self._confirmation])
        if not self._confirmation or self._confirmation.done():
            self._confirmation = asyncio.create_task(self._confirm(writing))
        await asyncio.wait([self._confirmation])
        if self._confirmation.cancelled():
            raise self._lost()
        self._confirmation.result()

    async def _confirm(self, writing: asyncio.Lock) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._next_confirmation - loop.time())
        self._next_confirmation = loop.time() + 2 * self._config.get("line_interval", 2)
        async with writing:
            pass
        await self.dealt_with()

    # --- reading ------------------------------------------------------------------------------------------------------

    async def _read(self) -> Line | None:
        """The next line; None for one that is none, or a PING, which is answered. Raises LinkDown."""
        assert self._reader
        try:
            octets = await self._reader.readline()
        except ValueError:  # StreamReader's, of its limit
            raise LinkDown("connection_lost", f"The server sent a line of more than {LONGEST_LINE} octets") from None
        except (OSError, RuntimeError) as error:
            raise self._why or LinkDown("connection_lost", f"The connection was lost: {reason_of(error)}") from None
        if not octets.endswith(b"\n"):
            raise self._why or LinkDown("connection_lost", "The server closed the connection")
        found = lines.parse(octets)
        if found and found.command == "PING":
            await self.write("PONG", *found.params[-1:])
            return None
        if found and found.command == "ERROR":
            why = _text("The server closes the connection", found)
            refuses = not self._is_in and "password" in why.lower()  # ngircd says no more than that
            raise LinkDown("auth_failed" if refuses else "connection_lost", why)
        return found

    def _deal(self, found: Line) -> None:
        command, params = found.command, found.params
        sender = found.hostmask.nickname if found.source else ""
        is_ours = lines.same(sender) == lines.same(self.nickname)
        if command == "PONG" and params:
            waiting = self._pongs.get(params[-1])
            if waiting and not waiting.done():
                waiting.set_result(True)
        elif command == "NICK" and is_ours and params and lines.is_target(params[0]):
            self.nickname = params[0]
            self.mask = self.nickname + (found.source or "")[len(sender) :]
            self.changed.set()
        elif command == "JOIN" and is_ours and params:
            self.mask = found.source or self.mask
            self.joined.add(lines.same(params[0]))
            self.refusals.pop(lines.same(params[0]), None)
            self.changed.set()
        elif (command == "PART" and is_ours and params) or (
            command == "KICK" and len(params) > 1 and lines.same(params[1]) == lines.same(self.nickname)
        ):
            self.joined.discard(lines.same(params[0]))
            self._refuse(params[0], f"{command} {params[-1]}")
        elif len(params) > 1 and (command in NOT_JOINED or command in NOT_SENT):
            if command in NOT_JOINED and lines.same(params[1]) not in self.joined:
                self._refuse(params[1], f"{command} {params[-1]}")
            self._on_refused(params[1], f"{command} {params[-1]}"[:LONGEST_TEXT])
        else:
            self._on_line(found)

    def _refuse(self, channel: str, reason: str) -> None:
        if lines.same(channel) in map(lines.same, self._config.get("channels") or ()):
            self.refusals[lines.same(channel)] = reason[:LONGEST_TEXT]
            self.changed.set()


def _no_nickname() -> str:
    raise LinkDown("nick_in_use", "Every nickname that was tried is taken")


def _text(what: str, found: Line) -> str:
    return f"{what}: {found.params[-1] if found.params else found.command}"[:LONGEST_TEXT]
