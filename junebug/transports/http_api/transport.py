"""HttpApiTransport: an aggregator or a USSD gateway as the channel's config describes it.

    MO: request at web_path -> inbound message -> answered, at once or with the application's reply
    MT: outbound.py -> the provider's id -> receipts at receipts.path -> delivery reports
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson
from aiohttp import web

from junebug.errors import NotSent, Rejected, StoreUnavailable
from junebug.model.messages import UserMessage
from junebug.transports.base import TransportContext
from junebug.transports.http_api import CHANNEL_TYPE, CONFIG_SCHEMA, INBOUND, RECEIPTS, mapping
from junebug.transports.http_api.outbound import Outbound
from junebug.transports.http_rpc.transport import Answer, HttpRpcTransport, Pending, as_json, respond
from junebug.transports.sessions import Session, Sessions

REPEATS_TTL = 3600.0
"""Seconds for which a message that the provider brings again is known by its id."""
EARLY_PATIENCE, LOOK_AGAIN = 5.0, 0.1
"""A receipt may come before the answer that says the id: so many seconds it is waited for, looked for each so many."""
LONGEST_ID = 200


class HttpApiTransport(HttpRpcTransport):
    config_schema = CONFIG_SCHEMA
    secrets = CHANNEL_TYPE.secrets

    def __init__(self, context: TransportContext) -> None:
        self._inbound: dict[str, Any] = context.config.get("inbound") or {}
        self._receipts: dict[str, Any] = context.config.get("receipts") or {}
        self.takes_requests = bool(self._inbound)
        super().__init__(context)
        outbound = context.config.get("outbound")
        self._outbound = Outbound(outbound) if outbound else None
        self._replies = bool(self._inbound.get("reply_in_response"))
        self._response: dict[str, Any] = self._inbound.get("response") or {}
        self._sessions = Sessions(context.store, self._of(INBOUND, self._inbound, "session_timeout"), self._on_timeout)
        self._sending = 0
        if self._outbound:
            self.window = self._outbound.option("window") + (self.window if self._replies else 0)
            self.send_timeout = self._outbound.option("timeout") + 15

    @staticmethod
    def _of(schema: Mapping[str, Any], given: Mapping[str, Any], name: str) -> Any:
        return given.get(name, schema["properties"][name].get("default"))

    async def start(self) -> None:
        if "session_id" in self._inbound.get("parameters", {}):
            await self._sessions.load()
            self.context.own("sessions", self._sessions.watch())
        if self._inbound or self._receipts:
            return await super().start()
        await self.context.status(self.context.channel_type, "ok", "started", "Messages are sent, none are received")

    async def stop(self) -> None:
        await super().stop()
        if self._outbound:
            await self._outbound.close()

    # --- MO -----------------------------------------------------------------------------------------------------------

    def read(self, request: web.BaseRequest, body: bytes) -> dict[str, Any]:
        return mapping.read(request.rel_url.raw_query_string, body, request.content_type)

    def problems(self, said: Mapping[str, Any]) -> dict[str, list[str]]:
        names: dict[str, str] = self._inbound["parameters"]
        needed = [name for each, name in names.items() if each in ("from", "content", "session_id") and each in names]
        missing = [name for name in needed if mapping.value_at(said, name) is None]
        return {"missing_parameter": missing} if missing else {}

    def refusal(self, problems: Mapping[str, list[str]]) -> Answer:
        status = self._response.get("refusal_status", 400)
        return Answer(status, as_json(status, problems).body)

    async def on_request(self, request_id: str, said: Mapping[str, Any], pending: Pending) -> Answer | None:
        names: dict[str, str] = self._inbound["parameters"]
        found = {each: mapping.value_at(said, name) for each, name in names.items()}
        provider_id = found.get("provider_id")
        if provider_id and await self._is_repeat(provider_id):
            self.context.log.warning("brought before: not again", provider_id=provider_id[:LONGEST_ID])
            return self._answer(None, "resume")
        event = await self._session_event(found)
        pending.session = found.get("session_id")
        await self._publish(
            found.get("to"), found.get("from"), event, pending.session, message_id=request_id, group=found.get("group"),
            content=None if event == "new" and self._replies and not found.get("content") else found.get("content"),
            transport_metadata={"http_api": {"provider_id": provider_id}} if provider_id else {},
        )  # fmt: skip
        if provider_id:
            await self._note(f"mo:{provider_id[:LONGEST_ID]}", request_id, REPEATS_TTL)
        return None if self._replies and event != "close" else self._answer(None, event or "resume")

    async def _session_event(self, found: Mapping[str, str | None]) -> str | None:
        words: dict[str, str] = self._inbound.get("session_events") or {}
        told = words.get(found.get("session_event") or "")
        session_id = found.get("session_id")
        if session_id is None:
            return told
        if told == "close":
            await self._sessions.end(session_id)
            return told
        event = await self._sessions.heard(session_id, found.get("to"), found.get("from"))
        return told or event

    async def _is_repeat(self, provider_id: str) -> bool:
        try:
            (known,) = await self.context.store.get(f"mo:{provider_id[:LONGEST_ID]}")
        except StoreUnavailable:
            return False
        return known is not None

    async def _note(self, key: str, value: str, ttl: float) -> None:
        try:
            await self.context.store.put(key, value, ttl)
        except StoreUnavailable as error:
            self.context.log.warning("an id cannot be kept", reason=str(error))

    async def _on_timeout(self, session: Session) -> None:
        await self._publish(session.to_addr, session.from_addr, "close", session.id, content=None)

    async def _publish(
        self, to_addr: str | None, from_addr: str | None, event: str | None, session_id: str | None, **fields: Any
    ) -> None:
        await self.context.inbound(
            to_addr=to_addr, from_addr=from_addr, session_event=event, provider=self._inbound.get("provider"),
            transport_type=self._of(INBOUND, self._inbound, "transport_type"),
            helper_metadata={"session_id": session_id} if session_id is not None else {}, **fields,
        )  # fmt: skip

    def _answer(self, content: str | None, event: str) -> Answer:
        actions = self._response.get("actions") or {}
        values = {"content": content, "action": actions.get("close" if event == "close" else "resume", event)}
        status = self._response.get("status", 200)
        if "json" in self._response:
            return Answer(status, orjson.dumps(mapping.filled_json(self._response["json"], values)).decode())
        content_type = self._response.get("content_type", "text/plain")
        fill = mapping.filled_xml if "xml" in content_type else mapping.filled
        return Answer(status, fill(self._response.get("body", ""), values) or "", content_type)

    # --- MT -----------------------------------------------------------------------------------------------------------

    async def send(self, message: UserMessage) -> str | None:
        if self._replies and message.in_reply_to in self._pending:
            return await super().send(message)
        if self._outbound is None:
            if self._replies:
                return await super().send(message)  # which says what is missing
            raise Rejected("This channel has no outbound: it can only receive, and reply to a request that waits")
        session_id = message.helper_metadata.get("session_id")
        self._sending += 1
        try:
            provider_id = await self._outbound.send(message, session_id if isinstance(session_id, str) else None)
        except Rejected:
            await self.context.status("outbound", "ok", "accepted", "The provider answers")
            raise
        except NotSent as error:
            await self.context.status("outbound", "down", "not_accepted", f"The provider takes no messages: {error}")
            raise
        finally:
            self._sending -= 1
        await self.context.status("outbound", "ok", "accepted", "The provider answers")
        if provider_id and self._receipts:
            ttl = self._of(RECEIPTS, self._receipts, "id_ttl")
            await self._note(f"id:{provider_id[:LONGEST_ID]}", message.message_id, ttl)
        return provider_id

    def answer_of(self, message: UserMessage) -> Answer:
        return self._answer(message.content, message.session_event or "resume")

    async def replied(self, message: UserMessage, pending: Pending) -> None:
        if message.session_event == "close" and pending.session is not None:
            await self._sessions.end(pending.session)

    # --- receipts -----------------------------------------------------------------------------------------------------

    def more_handlers(self) -> dict[str, Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]]:
        return {self._receipts["path"]: self._receive_receipt} if self._receipts else {}

    async def _receive_receipt(self, request: web.BaseRequest) -> web.StreamResponse:
        said = await self.look_at(request, checked=False)
        if isinstance(said, Answer):
            return respond(said)
        found = {each: mapping.value_at(said, name) for each, name in self._receipts["parameters"].items()}
        word = found.get("status")
        status = self._receipts["statuses"].get(word)
        if status is None:
            self.context.log.warning("a receipt says what `statuses` does not know", status=str(word)[:100])
            return respond(Answer(200))
        message_id = await self._message_of(found)
        if message_id is None:
            self.context.log.warning("a receipt of an unknown message", provider_id=str(found.get("provider_id"))[:LONGEST_ID])
            return respond(Answer(404, "Unknown message\n", "text/plain"))
        details = {"status": word} | ({"reason": found["reason"]} if found.get("reason") else {})
        await self.context.delivery_report(message_id, status, details)
        return respond(Answer(200))

    async def _message_of(self, found: Mapping[str, str | None]) -> str | None:
        if message_id := found.get("message_id"):
            return message_id if len(message_id) <= LONGEST_ID else None
        provider_id = (found.get("provider_id") or "")[:LONGEST_ID]
        ends = asyncio.get_running_loop().time() + EARLY_PATIENCE
        while provider_id:
            (message_id,) = await self.context.store.get(f"id:{provider_id}")
            if message_id or not self._sending or asyncio.get_running_loop().time() > ends:
                return message_id
            await asyncio.sleep(LOOK_AGAIN)
        return None
