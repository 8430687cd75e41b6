"""IrcTransport: a channel is a nickname in a network. Addresses are nicknames and channels; `group` is a channel.

A message's lines leave together, at the network's pace. It is accepted when a PING behind it has been answered: connection.py.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from functools import partial

from irctokens.line import Line

from junebug.errors import Expired, NotSent, Rejected, UnknownOutcome
from junebug.model.messages import StatusLevel, UserMessage
from junebug.runtime.loop import end_task
from junebug.runtime.tls import TlsOptions
from junebug.transports.base import Transport, TransportContext
from junebug.transports.in_order import InOrder
from junebug.transports.irc import lines
from junebug.transports.irc.connection import IrcConnection
from junebug.transports.kept_link import KeptLink, LinkDown, tls_of

COMPONENT = "irc"


@dataclass(eq=False)
class Unconfirmed:
    """A message whose lines were written: to whom, and why it was refused, if it was."""

    target: str
    lines_left: int
    refusal: str = ""


class IrcTransport(Transport):
    window = 10
    send_timeout = None

    def __init__(self, context: TransportContext) -> None:
        super().__init__(context)
        self._tls = TlsOptions.from_config(self.config.get("tls"))
        self._context: ssl.SSLContext | None = None
        self._link = KeptLink(context, COMPONENT, self.config["network"], self._connect)
        self._connection: IrcConnection | None = None
        self._writing = asyncio.Lock()
        """One message's lines leave together, and in the order of the messages."""
        self._unconfirmed: list[Unconfirmed] = []
        self._stopping = False
        self._room = asyncio.Event()
        self._room.set()
        self._found = InOrder(context, self._on_full)

    async def start(self) -> None:
        self._context = await tls_of(self._tls)
        self._found.start()
        self._link.start()

    def stop_sending(self) -> None:
        self._stopping = True

    async def stop(self) -> None:
        self._stopping = True
        await self._link.stop(self._connection.close() if self._connection else asyncio.sleep(0))
        await self._found.stop()

    async def ready(self) -> None:
        await self._link.ready()

    # --- out ----------------------------------------------------------------------------------------------------------

    async def send(self, message: UserMessage) -> str:
        target = message.group or message.to_addr or ""
        if not lines.is_target(target):
            raise Rejected("to: it is neither a nickname nor a channel")
        async with self._writing:
            connection = self._connection
            if self._stopping or not connection or not self._link.is_up or connection.is_closed:
                raise self._link.not_up()
            if message.has_expired():
                raise Expired(f"its time was over at {message.expires_at}")
            parts = self._lines(connection, message, target)
            unconfirmed = Unconfirmed(lines.same(target), len(parts))
            self._unconfirmed.append(unconfirmed)
            try:
                await self._write(connection, message, parts)
            except BaseException:
                self._unconfirmed.remove(unconfirmed)
                raise
        try:
            await connection.confirmed(self._writing)
        except LinkDown as down:
            if not unconfirmed.refusal:
                raise UnknownOutcome(str(down)) from None
        finally:
            if unconfirmed in self._unconfirmed:
                self._unconfirmed.remove(unconfirmed)
        if unconfirmed.refusal:
            raise Rejected(unconfirmed.refusal)
        return message.message_id

    def _lines(self, connection: IrcConnection, message: UserMessage, target: str) -> list[tuple[str, str, str]]:
        """Raises Rejected for what has none, or too many."""
        data = message.helper_metadata.get("irc")
        command = data.get("irc_command", "PRIVMSG") if isinstance(data, dict) else "PRIVMSG"
        is_action = command == "ACTION"
        verb = "NOTICE" if command == "NOTICE" else "PRIVMSG"
        around = "\x01ACTION {}\x01" if is_action else "{}"
        room = lines.room_for_text(connection.mask, verb, target) - (len(around) - 2)
        most = self.config.get("max_lines", 10)
        parts: list[tuple[str, str, str]] = []
        for text in lines.texts(message.content or "", room):
            if len(parts) == most:
                raise Rejected(f"content: it would have more than {most} lines, which is max_lines")
            parts.append((verb, target, around.format(text) if is_action else text))
        if not parts:
            raise Rejected("content: it is empty, which IRC cannot send")
        return parts

    async def _write(self, connection: IrcConnection, message: UserMessage, parts: list[tuple[str, str, str]]) -> None:
        for number, part in enumerate(parts):
            try:
                if number:
                    await self.context.permit(message.priority)
                await connection.write_in_pace(*part)
            except (LinkDown, NotSent) as error:
                if number:
                    raise UnknownOutcome(f"{number} of {len(parts)} lines were written: {error}") from None
                raise NotSent(str(error)) from None

    def _on_refused(self, target: str, reason: str) -> None:
        """The server says so once for each line: the first message to there that it has not been said of."""
        for each in self._unconfirmed:
            if each.target == lines.same(target) and each.lines_left:
                each.lines_left -= 1
                each.refusal = reason
                return

    # --- the connection -----------------------------------------------------------------------------------------------

    async def _connect(self) -> None:
        """One, from its first octet to its last. Raises LinkDown."""
        connection = self._connection = IrcConnection(
            self.config, self._context, room=self._room, on_line=self._on_line, on_refused=self._on_refused
        )
        try:
            await connection.open()
            await self._link.came_up(self._standing(connection)[2])
            tasks = [asyncio.create_task(each(connection)) for each in (IrcConnection.run, self._tell, self._keep)]
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for each in done:
                    each.result()
            finally:
                for task in tasks:
                    await end_task(task)
        finally:
            connection.end()

    async def _keep(self, connection: IrcConnection) -> None:
        """Ask for what is missing, and whether the server lives. Raises LinkDown."""
        loop = asyncio.get_running_loop()
        ping, retry = self.config.get("ping_interval", 60) or float("inf"), self.config.get("retry_interval", 60)
        next_ping, next_retry = loop.time() + ping, loop.time()
        while True:
            if loop.time() >= next_retry:
                next_retry = loop.time() + retry
                if lines.same(connection.nickname) != lines.same(connection.wanted):
                    await connection.write_in_pace("NICK", connection.wanted)
                wanted = self.config.get("channels") or ()
                await connection.join(each for each in wanted if lines.same(each) not in connection.joined)
            if loop.time() >= next_ping:
                await connection.dealt_with()
                next_ping = loop.time() + ping
            await asyncio.sleep(max(min(next_ping, next_retry) - loop.time(), 0))

    async def _tell(self, connection: IrcConnection) -> None:
        while True:
            await connection.changed.wait()
            connection.changed.clear()
            level, type, message = self._standing(connection)
            await self.context.status(COMPONENT, level, type, message)

    def _standing(self, connection: IrcConnection) -> tuple[StatusLevel, str, str]:
        if lines.same(connection.nickname) != lines.same(connection.wanted):
            return "degraded", "nick_in_use", f"Connected as {connection.nickname}: {connection.wanted} is taken"
        if connection.refusals:
            missing = "; ".join(f"{channel}: {reason}" for channel, reason in sorted(connection.refusals.items()))
            return "degraded", "not_in_channel", f"Not in {missing}"
        return "ok", "connected", f"Connected as {connection.nickname}"

    # --- in -----------------------------------------------------------------------------------------------------------

    def _on_full(self, full: bool) -> None:
        (self._room.clear if full else self._room.set)()

    def _on_line(self, line: Line) -> None:
        assert self._connection
        found = lines.said(line, self._connection.nickname)
        if found and (found.to_us or self.config.get("listen") == "all"):
            self._found.put(partial(self._inbound, found, self._connection.nickname))

    async def _inbound(self, found: lines.Said, nickname: str) -> None:
        details = {
            "transport_nickname": nickname, "addressed_to_transport": found.to_us, "irc_server": self.config["network"],
            "irc_channel": found.channel, "irc_command": found.command,
        }  # fmt: skip
        await self.context.inbound(
            to_addr=nickname, from_addr=found.sender, group=found.channel, content=found.text,
            helper_metadata={"irc": details}, transport_metadata={"irc_channel": found.channel},
        )
