"""HttpApiTransport: an aggregator or a USSD gateway as the channel's config describes it.

    MO: request at web_path -> inbound message -> answered, at once or with the application's reply
    MT: outbound.py -> the provider's id -> receipts at receipts.path -> delivery reports
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import orjson
from aiohttp import web

from junebug.errors import NotSent, Rejected, StoreUnavailable, UnknownOutcome
from junebug.model.messages import SessionEvent, UserMessage, new_id
from junebug.transports.base import TransportContext
from junebug.transports.http_api import CHANNEL_TYPE, CONFIG_SCHEMA, INBOUND, RECEIPTS, mapping
from junebug.transports.http_api.outbound import LONGEST_ID, LONGEST_REASON, Outbound
from junebug.transports.http_rpc.transport import Answer, HttpRpcTransport, Pending, as_json, respond
from junebug.transports.sessions import Session, Sessions

REPEATS_TTL = 3600.0
"""Seconds for which a message that the provider brings again is known by its id."""
RECEIPT_TIMEOUT = 30.0
"""Seconds in which RabbitMQ must have taken what a request with receipts says."""
EARLY_PATIENCE = 5.0
"""A receipt may come before the answer that says the id: so many seconds are given to the messages that are being sent."""
UNAVAILABLE = "The service is not available at the moment. Please try again later."
NEEDED = ("from", "content", "session_id")
"""Of the parameters that the config names, what no request may lack, and which of them may be empty."""
MAY_BE_EMPTY = ("content",)


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
        if self._replies:  # somebody reads it
            shown = self._answer(UNAVAILABLE, "close")
            self.unavailable = Answer(503, shown.body, shown.content_type, self.unavailable.headers)
        self._sessions = Sessions(context.store, self._of(INBOUND, self._inbound, "session_timeout"), self._on_timeout)
        self._known_by = "message_id" if "message_id" in self._receipts.get("parameters", {}) else "provider_id"
        """What of a receipt says which message it tells of: ours, where the config names it."""
        self._arriving: set[str] = set()
        """The provider's ids of messages that RabbitMQ does not hold yet."""
        self._receiving = 0
        self._being_sent: set[asyncio.Future[None]] = set()
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
        items = mapping.items(said, self._inbound.get("list"))
        if items is None:
            return {"missing_parameter": [self._inbound["list"]]}
        values = ((each, mapping.value_at(item, names[each])) for item in items for each in NEEDED if each in names)
        missing = {names[each] for each, value in values if value is None or not (value or each in MAY_BE_EMPTY)}
        return {"missing_parameter": sorted(missing)} if missing else {}

    def refusal(self, problems: Mapping[str, list[str]]) -> Answer:
        status = self._response.get("refusal_status", 400)
        return Answer(status, as_json(status, problems).body)

    async def on_request(self, request_id: str, said: Mapping[str, Any], pending: Pending) -> Answer | None:
        names: dict[str, str] = self._inbound["parameters"]
        items = mapping.items(said, self._inbound.get("list")) or []
        messages = [{each: mapping.value_at(item, name) for each, name in names.items()} for item in items]
        if self._replies:
            event = await self._take(request_id, messages[0], pending)
            return None if event != "close" else self._answer(None, event)
        ids = {found["provider_id"] or "" for found in messages if _is_id(found.get("provider_id"))}
        if ids & self._arriving:
            return self.unavailable  # it did not wait for our answer to the first time
        self._arriving |= ids
        try:
            known, event = await self._brought_before(ids), None
            for found in messages:
                provider_id = found.get("provider_id") or ""
                if provider_id in known:
                    self.context.log.warning("brought before: not again", provider_id=provider_id)
                    continue
                event = await self._take(new_id(), found, pending)
                if provider_id in ids:
                    known.add(provider_id)
                    await self._note(f"mo:{provider_id}", "1", REPEATS_TTL)
        finally:
            self._arriving -= ids
        return self._answer(None, event or "resume")

    async def _take(self, message_id: str, found: Mapping[str, str | None], pending: Pending) -> str | None:
        """One message; its session event."""
        event = await self._session_event(found)
        pending.session, provider_id = found.get("session_id"), found.get("provider_id")
        await self._publish(
            found.get("to"), found.get("from"), event, pending.session, message_id=message_id, group=found.get("group"),
            content=None if event == "new" and self._replies and not found.get("content") else found.get("content"),
            transport_metadata={"http_api": {"provider_id": provider_id}} if provider_id else {}, trace=pending.trace,
        )  # fmt: skip
        return event

    async def _session_event(self, found: Mapping[str, str | None]) -> SessionEvent | None:
        words: dict[str, SessionEvent] = self._inbound.get("session_events") or {}
        told = words.get(found.get("session_event") or "")
        session_id = found.get("session_id")
        if session_id is None:
            return told
        if told == "close":
            await self._sessions.end(session_id)
            return told
        event = await self._sessions.heard(session_id, found.get("to"), found.get("from"))
        return told or event

    async def _brought_before(self, provider_ids: set[str]) -> set[str]:
        ids = [*provider_ids]
        try:
            known = await self.context.store.get(*(f"mo:{each}" for each in ids)) if ids else []
        except StoreUnavailable:
            return set()
        return {each for each, value in zip(ids, known, strict=True) if value is not None}

    async def _note(self, key: str, value: str, ttl: float) -> None:
        try:
            await self.context.store.put(key, value, ttl)
        except StoreUnavailable as error:
            self.context.log.warning("an id cannot be kept", reason=str(error))

    async def _on_timeout(self, session: Session) -> None:
        await self._publish(session.to_addr, session.from_addr, "close", session.id, content=None)

    async def _publish(
        self, to_addr: str | None, from_addr: str | None, event: SessionEvent | None, session_id: str | None, **fields: Any
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
        sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._being_sent.add(sent)
        try:
            provider_id = await self._outbound.send(message, session_id if isinstance(session_id, str) else None)
            if provider_id and "provider_id" in self._receipts.get("parameters", {}):
                await self._note(f"id:{provider_id}", message.message_id, self._of(RECEIPTS, self._receipts, "id_ttl"))
        except Rejected:
            await self._tell_outbound()
            raise
        except NotSent as error:
            await self._tell_outbound("not_accepted", "The provider takes no messages", error)
            raise
        except UnknownOutcome as error:
            await self._tell_outbound("outcome_unknown", "The provider does not say whether it took a message", error)
            raise
        finally:
            self._being_sent.discard(sent)
            sent.set_result(None)
        await self._tell_outbound()
        return provider_id

    async def _tell_outbound(self, type: str = "accepted", text: str = "The provider answers", why: object = None) -> None:
        details = {} if why is None else {"reason": str(why)}
        await self.context.status("outbound", "ok" if why is None else "down", type, text, details)

    def answer_of(self, message: UserMessage) -> Answer:
        return self._answer(message.content, message.session_event or "resume")

    async def replied(self, message: UserMessage, pending: Pending) -> None:
        if message.session_event == "close" and pending.session is not None:
            await self._sessions.end(pending.session)

    # --- receipts -----------------------------------------------------------------------------------------------------

    def more_handlers(self) -> dict[str, Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]]:
        return {self._receipts["path"]: self._receive} if self._receipts else {}

    async def _receive(self, request: web.BaseRequest) -> web.StreamResponse:
        unavailable = respond(type(self).unavailable)
        if self._stopping or self._receiving >= self.option("max_pending_requests"):
            return unavailable
        self._receiving += 1
        try:
            async with asyncio.timeout(RECEIPT_TIMEOUT):
                return respond(await self._on_receipts(request))
        except (TimeoutError, StoreUnavailable):
            return unavailable
        finally:
            self._receiving -= 1

    async def _on_receipts(self, request: web.BaseRequest) -> Answer:
        """Raises StoreUnavailable."""
        said = await self.look_at(request, checked=False)
        if isinstance(said, Answer):
            return said
        items = mapping.items(said, self._receipts.get("list"))
        if items is None:
            return self.refusal({"missing_parameter": [self._receipts["list"]]})
        names: dict[str, str] = self._receipts["parameters"]
        receipts = [{each: mapping.value_at(item, name) for each, name in names.items()} for item in items]
        if missing := {names[each] for found in receipts for each in ("status", self._known_by) if not found[each]}:
            return self.refusal({"missing_parameter": sorted(missing)})
        message_ids = await self._messages_of(receipts)
        for found, message_id in zip(receipts, message_ids, strict=True):
            await self._report(found, message_id)
        is_any_known = any(message_ids) or not receipts
        return Answer(200) if is_any_known else Answer(404, "Unknown message\n", "text/plain")

    async def _report(self, found: Mapping[str, str | None], message_id: str | None) -> None:
        word = found["status"] or ""
        status = self._receipts["statuses"].get(word)
        if message_id is None:
            self.context.log.warning("a receipt of an unknown message", its_id=(found[self._known_by] or "")[:LONGEST_ID])
        elif status is None:
            self.context.log.warning("a receipt says what `statuses` does not know", message_id=message_id, word=word[:100])
        else:
            reason = (found.get("reason") or "")[:LONGEST_REASON]
            details = {"status": word} | ({"reason": reason} if reason else {})
            await self.context.delivery_report(message_id, status, details)

    async def _messages_of(self, receipts: Sequence[Mapping[str, str | None]]) -> list[str | None]:
        """Our ids of the messages that they tell of. Raises StoreUnavailable."""
        being_sent = [*self._being_sent]
        known = await self._known(receipts)
        if None in known and being_sent:
            await asyncio.wait(being_sent, timeout=EARLY_PATIENCE)
            known = await self._known(receipts)
        return known

    async def _known(self, receipts: Sequence[Mapping[str, str | None]]) -> list[str | None]:
        ids = [found[self._known_by] or "" for found in receipts]
        if self._known_by == "message_id":
            return [each if _is_id(each) else None for each in ids]
        cut = LONGEST_ID + 1  # what is longer is no id that was kept
        return await self.context.store.get(*(f"id:{each[:cut]}" for each in ids)) if ids else []


def _is_id(text: str | None) -> bool:
    return 0 < len(text or "") <= LONGEST_ID
