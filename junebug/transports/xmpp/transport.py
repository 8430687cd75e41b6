"""XmppTransport: a channel is one account. Addresses are bare JIDs; client.py is one connection, kept_link.py keeps it.

An MT is accepted when the server has answered a ping that was sent behind it: it has dealt with the message by then, and an
error of its own has come before that answer.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from functools import partial

import slixmpp
from slixmpp.xmlstream import StanzaBase

from junebug.errors import NotSent, Rejected, TransportStartError, Unavailable, UnknownOutcome
from junebug.model.messages import DeliveryStatus, UserMessage
from junebug.runtime.tls import TlsOptions
from junebug.transports.base import Transport, TransportContext
from junebug.transports.in_order import InOrder
from junebug.transports.kept_link import KeptLink, LinkDown, tls_of
from junebug.transports.xmpp.client import LONGEST_TEXT, XmppClient, sender_of

COMPONENT = "xmpp"
SHOWS = ("chat", "away", "xa", "dnd")
"""What RFC 6121, 4.7.2.1 knows beside simply available."""
NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 (2.2) does not have: a server ends the stream over one."""
REPORTS_TTL = 7 * 86_400.0
"""Seconds that a receipt is waited for: its recipient may be away."""
LONGEST_LOGGED = 4000
"""Characters of a stanza."""


class XmppTransport(Transport):
    window = 10
    send_timeout = None

    def __init__(self, context: TransportContext) -> None:
        super().__init__(context)
        config = self.config
        try:
            self._jid = slixmpp.JID(config["username"])
        except slixmpp.InvalidJID as error:
            raise TransportStartError(f"username: it is no JID: {error}") from None
        tls = config.get("tls", True)
        options = dict(tls) if isinstance(tls, dict) else {}
        self._direct = options.pop("mode", "starttls") == "direct"
        self._tls = TlsOptions.from_config(options or bool(tls))
        self._context: ssl.SSLContext | None = None
        self._host, self._port = config.get("host"), config.get("port", 5222)
        self._ping_timeout = config.get("ping_timeout", 30)
        where = f"{self._host}:{self._port}" if self._host else self._jid.domain
        self._link = KeptLink(context, COMPONENT, where, self._connection)
        self._client: XmppClient | None = None
        self._unconfirmed: dict[str, asyncio.Future[str]] = {}
        """Message id -> what refused it, of those whose `send` still waits."""
        self._found = InOrder(context, self._on_full)

    async def start(self) -> None:
        self._context = await tls_of(self._tls)
        self._found.start()
        self._link.start()

    async def stop(self) -> None:
        await self._link.stop(self._client.close() if self._client else asyncio.sleep(0))
        await self._found.stop()

    async def ready(self) -> None:
        await self._link.ready()

    # --- out ----------------------------------------------------------------------------------------------------------

    async def send(self, message: UserMessage) -> str:
        client = self._client
        if not client or not self._link.is_up or client.lost.done():
            raise self._link.not_up()
        stanza = self._stanza(client, message)
        if self.config.get("receipts", True):
            await self._expect_report(message.message_id, stanza["to"].bare)
        refusal = self._unconfirmed[message.message_id] = asyncio.get_running_loop().create_future()
        try:
            stanza.send()
            await client.ping_server(self._ping_timeout)
        except LinkDown as down:
            client.break_off(down.type, str(down))
            if not refusal.done():
                raise UnknownOutcome(str(down)) from None
        finally:
            self._unconfirmed.pop(message.message_id, None)
        if refusal.done():
            raise Rejected(refusal.result())
        return message.message_id

    def _stanza(self, client: XmppClient, message: UserMessage) -> slixmpp.Message:
        """Raises Rejected for what the server would end the stream over."""
        try:
            to = slixmpp.JID(message.to_addr or "")
        except ValueError:  # InvalidJID is one, and what no encoding has
            to = slixmpp.JID("")
        if not to.domain:
            raise Rejected("to: it is no JID")
        content = message.content
        if not content:
            raise Rejected("content: it is empty, and would not be shown")
        if found := NOT_XML.search(content):
            raise Rejected(f"content: XML has no character U+{ord(found[0]):04X}")
        stanza = client.make_message(mto=to, mbody=content, mtype="chat")
        stanza["id"] = message.message_id
        if self.config.get("receipts", True):
            stanza["request_receipt"] = True
        limit = min(self.config.get("max_stanza_size", 65_536), client.limits.max_bytes or 2**31)
        size = len(str(stanza).encode())
        if size > limit:
            raise Rejected(f"content: the stanza would have {size} octets, of {limit} at most")
        return stanza

    async def _expect_report(self, message_id: str, to: str) -> None:
        try:
            await self.context.store.put(f"sent:{message_id}", to, REPORTS_TTL)
        except Unavailable as error:
            raise NotSent(str(error)) from None

    # --- the connection -----------------------------------------------------------------------------------------------

    async def _connection(self) -> None:
        """One, from its first octet to its last."""
        client = XmppClient(
            self._jid.full, self.config["password"], self._context, direct=self._direct,
            server_name=self._tls.server_name if self._tls else None,
            on_message=self._on_message, on_error=self._on_error, on_receipt=self._on_receipt,
            on_stanza=self._log_stanza if self.config.get("debug") else None,
        )  # fmt: skip
        self._client = client
        try:
            await client.log_in(self._host, self._port, self.config.get("connect_timeout", 30))
            self._present(client)
            await self._link.came_up(f"Connected as {client.boundjid.full}")
            await self._keep_alive(client)
        finally:
            client.end()

    async def _keep_alive(self, client: XmppClient) -> None:
        """Presences and pings, until the connection is lost. Raises LinkDown."""
        loop = asyncio.get_running_loop()
        presence = self.config.get("presence_interval", 60) or float("inf")
        ping = self.config.get("ping_interval", 60) or float("inf")
        next_presence, next_ping = loop.time() + presence, loop.time() + ping
        while not client.lost.done():
            left = max(min(next_presence, next_ping) - loop.time(), 0)
            await asyncio.wait([client.lost], timeout=left if left < float("inf") else None)
            if client.lost.done():
                break
            if loop.time() >= next_presence:
                next_presence = loop.time() + presence
                self._present(client)
            if loop.time() >= next_ping:
                await client.ping_server(self._ping_timeout)
                next_ping = loop.time() + ping
        raise client.lost.result()

    def _present(self, client: XmppClient) -> None:
        status, text = self.config.get("status", ""), self.config.get("status_message", "")
        known = status in SHOWS
        client.send_presence(pshow=status if known else None, pstatus=text or (None if known else status) or None)

    # --- in -----------------------------------------------------------------------------------------------------------

    def _on_message(self, stanza: slixmpp.Message) -> None:
        sender = sender_of(stanza)
        if sender and stanza["type"] in ("chat", "normal") and stanza["body"]:
            wants_receipt = bool(stanza["request_receipt"]) and self.config.get("receipts", True)
            self._found.put(partial(self._inbound, self._client, sender, stanza["id"], stanza["body"], wants_receipt))

    def _on_error(self, stanza: slixmpp.Message) -> None:
        sender, refused = sender_of(stanza), self._unconfirmed.get(stanza["id"])
        reason = f"{stanza['error']['condition']} {stanza['error']['text']}".strip()[:LONGEST_TEXT]
        if refused and not refused.done():
            refused.set_result(reason)
        elif sender and not refused:
            self._found.put(partial(self._report, sender.bare, stanza["id"], "failed", reason))

    def _on_receipt(self, stanza: slixmpp.Message) -> None:
        if sender := sender_of(stanza):
            self._found.put(partial(self._report, sender.bare, stanza["receipt"], "delivered"))

    def _log_stanza(self, direction: str, stanza: StanzaBase) -> None:
        if isinstance(stanza, slixmpp.Message | slixmpp.Presence | slixmpp.Iq):  # of the login nothing: it has the password
            self.context.log.info("stanza", direction=direction, stanza=str(stanza)[:LONGEST_LOGGED])

    def _on_full(self, full: bool) -> None:
        if self._client:
            self._client.pause(full)

    async def _inbound(
        self, client: XmppClient | None, sender: slixmpp.JID, id: str, body: str, wants_receipt: bool
    ) -> None:
        await self.context.inbound(
            to_addr=self._jid.bare, from_addr=sender.bare, content=body, transport_metadata={"xmpp_id": id},
        )
        if wants_receipt and id and client and not client.lost.done():
            receipt = client.make_message(mto=sender)
            receipt["receipt"] = id
            receipt.send()

    async def _report(self, sender: str, message_id: str, status: DeliveryStatus, reason: str = "") -> None:
        """Of a message that went to this sender; whatever else it says is nothing to us."""
        (to,) = await self.context.store.get(f"sent:{message_id}")
        if to != sender:
            return
        await self.context.delivery_report(message_id, status, {"reason": reason} if reason else {})
        await self.context.store.remove(f"sent:{message_id}")
