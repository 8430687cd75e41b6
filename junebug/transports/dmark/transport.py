"""DmarkTransport: what D-mark's requests and responses say (COMPAT §5).

A request is transactionId (the session), msisdn, ussdServiceCode, ussdRequestString and the rest; the response is
`{"responseString": text, "action": "request" or "end"}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from junebug.model.messages import SessionEvent, UserMessage
from junebug.transports.base import TransportContext
from junebug.transports.dmark import CHANNEL_TYPE, CONFIG_SCHEMA
from junebug.transports.http_rpc import parameters
from junebug.transports.http_rpc.transport import Answer, HttpRpcTransport, Pending, as_json
from junebug.transports.sessions import Session, Sessions

PARAMETERS = frozenset(
    ("transactionId", "msisdn", "ussdServiceCode", "transactionTime", "ussdRequestString", "creationTime", "response")
)
UNAVAILABLE = "The service is not available at the moment. Please try again later."


class DmarkTransport(HttpRpcTransport):
    config_schema = CONFIG_SCHEMA
    secrets = CHANNEL_TYPE.secrets
    unavailable = Answer(
        503, as_json(503, {"responseString": UNAVAILABLE, "action": "end"}).body, headers={"Retry-After": "1"}
    )

    def __init__(self, context: TransportContext) -> None:
        super().__init__(context)
        self._is_strict = self.config.get("validation_mode", "strict") == "strict"
        timeout = self.config.get("ussd_session_timeout", 600)
        self._sessions = Sessions(context.store, timeout, self._on_timeout)

    async def start(self) -> None:
        await self._sessions.load()
        self.context.own("ussd sessions", self._sessions.watch())
        await super().start()

    def problems(self, said: Mapping[str, str]) -> dict[str, list[str]]:
        return parameters.problems(said, PARAMETERS, strict=self._is_strict)

    async def on_request(self, request_id: str, said: Mapping[str, str], pending: Pending) -> None:
        session_id, from_addr, to_addr = said["transactionId"], said["msisdn"], self._to_addr(said["ussdServiceCode"])
        pending.session = session_id
        event = await self._sessions.heard(session_id, to_addr, from_addr)
        about = {
            "transaction_id": session_id, "transaction_time": said["transactionTime"], "creation_time": said["creationTime"],
        }  # fmt: skip
        await self._publish(
            session_id, to_addr, from_addr, event, message_id=request_id,
            content=None if event == "new" else said["ussdRequestString"], transport_metadata={"dmark_ussd": about},
            trace=pending.trace,
        )  # fmt: skip

    async def _on_timeout(self, session: Session) -> None:
        await self._publish(session.id, session.to_addr, session.from_addr, "close", content=None)

    async def _publish(
        self, session_id: str, to_addr: str | None, from_addr: str | None, event: SessionEvent, content: str | None, **fields: Any
    ) -> None:
        await self.context.inbound(
            to_addr=to_addr, from_addr=from_addr, content=content, session_event=event, provider="dmark",
            transport_type="ussd", helper_metadata={"session_id": session_id}, **fields,
        )  # fmt: skip

    def _to_addr(self, code: str) -> str:
        return f"*{code.strip('*#')}#" if self.config.get("fix_to_addr") else code

    def answer_of(self, message: UserMessage) -> Answer:
        action = "end" if message.session_event == "close" else "request"
        return as_json(200, {"responseString": message.content, "action": action})

    async def replied(self, message: UserMessage, pending: Pending) -> None:
        if message.session_event == "close" and pending.session is not None:
            await self._sessions.end(pending.session)
