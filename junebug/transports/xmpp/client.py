"""XmppClient: one connection to an XMPP server, from its first octet to its last, on slixmpp.

slixmpp has the protocol: streams, STARTTLS, SASL, stanzas. What is not left to it: when to connect again (kept_link.py does),
how much a server may send (a stanza's octets, and stanzas that nobody has dealt with yet), the roster, which would keep
whoever sends a presence, and redirections to other hosts.
Neighbour: transport.py is the channel.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, cast

import slixmpp
from slixmpp.exceptions import IqError, IqTimeout
from slixmpp.xmlstream import ET, StanzaBase
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import MatchXPath

from junebug.runtime.tls import reason_of
from junebug.transports.kept_link import LinkDown

LARGEST_STANZA = 2**20
"""Octets of one that a server may send: more is an attack, or a mistake."""
DEEPEST = 100
"""Elements in one another, likewise."""
CLOSE_TIMEOUT = 1.0
LAST_WORD = 0.1
"""Seconds that an error takes to leave."""
FOREVER = 1_000_000
"""Seconds: slixmpp's own limit for an answer would count while nothing is read, too."""
LONGEST_TEXT = 300
"""Characters of what a server says of an error that go into a status."""
NO_WAY_IN = "The server offers no way to log in on this connection that we would take: it, or the option tls, wants TLS"

Found = Callable[[slixmpp.Message], None]


class XmppClient(slixmpp.ClientXMPP):
    """`lost` is done, with a LinkDown, when the connection has ended or could not be made."""

    def __init__(
        self, jid: str, password: str, tls: ssl.SSLContext | None, *, direct: bool, server_name: str | None,
        on_message: Found, on_error: Found, on_receipt: Found, on_stanza: Callable[[str, StanzaBase], None] | None,
    ) -> None:  # fmt: skip
        in_clear = {f"unencrypted_{each}": tls is None for each in ("plain", "digest", "cram", "scram")}
        plugins = {"feature_mechanisms": in_clear, "xep_0184": {"auto_ack": False}}
        context = tls or ssl.create_default_context()  # one is wanted, if only to be ignored
        super().__init__(jid, password, plugin_config=plugins, ssl_context=context)
        self.lost: asyncio.Future[LinkDown] = asyncio.get_running_loop().create_future()
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.enable_direct_tls = tls is not None and direct
        self.enable_starttls = tls is not None and not direct
        self.enable_plaintext = tls is None
        self.whitespace_keepalive_interval = 10**9  # pings do that
        if server_name:  # what TLS asks for
            self.default_domain = server_name
        self._unfinished = 0
        """Octets since the last whole stanza."""
        self._why: LinkDown | None = None
        self._paused, self._resumed_at = False, 0.0
        for name in ("xep_0030", "xep_0199", "xep_0184"):
            self.register_plugin(name)
        for name in ("Presence", "Stream Error", "Roster Update"):
            self.remove_handler(name)
        self._on("{jabber:client}presence", self._on_presence)
        self._on("{http://etherx.jabber.org/streams}error", self._on_stream_error)
        for event, handler in {
            "session_start": self._on_session_start,
            "message": on_message,
            "message_error": on_error,
            "receipt_received": on_receipt,
            "failed_auth": self._on_refusal,
            "no_auth": lambda _: self._blame("auth_failed", NO_WAY_IN),
            "stream_negotiated": self._on_negotiated,
            "connection_failed": lambda error: self._blame(_type_of(error, "connect_failed"), _text(error)),
            "ssl_invalid_chain": lambda error: self.break_off("tls_failed", _text(error)),
            "disconnected": self._on_disconnected,
        }.items():
            self.add_event_handler(event, handler)
        self.add_filter("out", self._on_sent)
        if on_stanza:
            for direction in ("in", "out"):
                self.add_filter(direction, partial(_show, on_stanza, direction))

    def _on(self, path: str, handler: Callable[[Any], None]) -> None:
        self.register_handler(Callback(path, MatchXPath(path), handler))

    # --- its life -----------------------------------------------------------------------------------------------------

    async def log_in(self, host: str | None, port: int, timeout: float) -> None:
        """Connect, and be authenticated and bound to a resource. Raises LinkDown."""
        where = f"{host}:{port}" if host else self.default_domain
        try:
            async with asyncio.timeout(timeout):
                await (self.connect(host, port) if host else self.connect())
                if not self.is_connected():  # slixmpp would try again by itself
                    why = self._why or LinkDown("connect_failed", "nobody answers")
                    raise LinkDown(why.type, f"Cannot connect to {where}: {why}")
                either: set[asyncio.Future[Any]] = {self.ready, self.lost}
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            raise self._why or LinkDown("connect_failed", f"Not logged in at {where} within {timeout:g} seconds") from None
        if self.lost.done():
            raise self.lost.result()

    def break_off(self, type: str, reason: str) -> None:
        """End it now."""
        self._blame(type, reason)
        self.abort()

    async def close(self) -> None:
        """In good order: what was written leaves first."""
        if not self.ready.done():
            self.abort()
        elif self.is_connected():
            try:
                async with asyncio.timeout(2 * CLOSE_TIMEOUT):
                    await self.disconnect(CLOSE_TIMEOUT)
            except TimeoutError:
                self.abort()

    def end(self) -> None:
        """Whatever is still there of it ends."""
        self.cancel_connection_attempt()
        self.abort()
        for task in (self._run_out_filters, *self.scheduled_events.values()):
            if task:  # slixmpp's own task holds its client, which is to cancel it when nothing holds it
                task.cancel()
        self.scheduled_events.clear()

    def pause(self, paused: bool) -> None:
        """Read no more, or go on."""
        self._paused, self._resumed_at = paused, asyncio.get_running_loop().time()
        transport = self.transport
        if transport and not transport.is_closing():
            (transport.pause_reading if paused else transport.resume_reading)()

    # --- what it does -------------------------------------------------------------------------------------------------

    async def ping_server(self, timeout: float) -> None:
        """Return when the server has answered, which is after it has dealt with all that was sent before (RFC 6120, 10.1).

        Raises LinkDown: the connection is gone, or the server silent.
        """
        loop = asyncio.get_running_loop()
        ping: Any = self.Iq(stype="get", sto=self.boundjid.domain)
        ping.enable("ping")
        answer: asyncio.Future[Any] = ping.send(timeout=FOREVER)
        asked = loop.time()
        while not answer.done() and not self.lost.done():
            left = timeout if self._paused else max(asked, self._resumed_at) + timeout - loop.time()
            if left <= 0:
                raise LinkDown("connection_lost", f"The server has been silent for {timeout:g} seconds")
            await asyncio.wait([answer, self.lost], timeout=left, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise self.lost.result()
        with suppress(IqError):  # it knows no pings, but has answered
            answer.result()

    # --- what slixmpp tells -------------------------------------------------------------------------------------------

    def data_received(self, data: bytes | str) -> None:
        self._unfinished += len(data)
        try:
            super().data_received(data)
        except Exception as error:  # of slixmpp's, on what a server may send
            self.break_off("connection_lost", f"The server sent what cannot be read: {type(error).__name__}")
        if self._unfinished > LARGEST_STANZA:
            self.break_off("connection_lost", f"The server sent a stanza of more than {LARGEST_STANZA} octets")
        if self.xml_depth > DEEPEST:
            self.break_off("connection_lost", f"The server sent more than {DEEPEST} elements in one another")

    def incoming_filter(self, xml: ET.Element) -> ET.Element:
        self._unfinished = 0
        return xml

    def _on_session_start(self, _: object) -> None:
        if not self.ready.done():
            self.ready.set_result(None)

    def _on_negotiated(self, _: object) -> None:
        if not self.authenticated:
            self.break_off("auth_failed", NO_WAY_IN)

    def exception(self, exception: BaseException) -> None:
        if not isinstance(exception, IqError | IqTimeout):
            self.break_off("connection_lost", f"The server sent what cannot be dealt with: {type(exception).__name__}")

    def _on_sent(self, stanza: StanzaBase) -> StanzaBase:
        if stanza.name == "error" and stanza.namespace == self.stream_ns:  # slixmpp tells the server what is wrong with it
            self._blame("connection_lost", f"The server's stream is broken: {stanza['condition']}")
            asyncio.get_running_loop().call_later(LAST_WORD, self.abort)  # slixmpp would wait for it to agree
        return stanza

    def _on_presence(self, presence: slixmpp.Presence) -> None:
        """Whoever wants to see us may."""
        answers = {"subscribe": "subscribed", "unsubscribe": "unsubscribed"}
        answer, sender = answers.get(presence["type"]), sender_of(presence)
        if answer and sender:
            self.send_presence(pto=sender.bare, ptype=cast(Any, answer))

    def _on_refusal(self, failure: Any) -> None:
        self._blame("auth_failed", _text(f"The server refuses the login: {failure['condition']} {failure['text']}".strip()))

    def _on_stream_error(self, error: Any) -> None:
        condition = error["condition"]
        self.break_off("conflict" if condition == "conflict" else "connection_lost",
                       _text(f"The server ended the stream: {condition} {error['text']}".strip()))  # fmt: skip

    def _on_disconnected(self, reason: object) -> None:
        if not self.lost.done():
            type, text = _type_of(reason, "connection_lost"), _text(reason or "The server closed the connection")
            self.lost.set_result(self._why or LinkDown(type, text))

    def _blame(self, type: str, reason: str) -> None:
        """The first that is known is the cause of what follows."""
        self._why = self._why or LinkDown(type, reason)


def sender_of(stanza: StanzaBase) -> slixmpp.JID | None:
    """None for one that names none, or no JID."""
    try:
        sender = slixmpp.JID(stanza["from"])
    except ValueError:  # InvalidJID is one
        return None
    return sender if sender.bare else None


def _show(on_stanza: Callable[[str, StanzaBase], None], direction: str, stanza: StanzaBase) -> StanzaBase:
    on_stanza(direction, stanza)
    return stanza


def _type_of(error: object, type: str) -> str:
    return "tls_failed" if isinstance(error, ssl.SSLError) else type


def _text(reason: object) -> str:
    return (reason_of(reason) if isinstance(reason, Exception) else str(reason))[:LONGEST_TEXT]
