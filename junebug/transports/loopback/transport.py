"""Loopback: echoes an outbound message as an inbound one, with events; no provider at all."""

from __future__ import annotations

from junebug.model.messages import UserMessage
from junebug.transports.base import Accepted, Report, Transport


class LoopbackTransport(Transport):
    """`delivery_reports` (default true): each message is reported as delivered, too."""

    async def send(self, message: UserMessage) -> Accepted:
        await self.context.inbound(
            to_addr=message.from_addr,
            from_addr=message.to_addr,
            content=message.content,
            group=message.group,
            in_reply_to=message.in_reply_to,
            session_event=message.session_event,
            helper_metadata=message.helper_metadata,
        )
        delivered = self.config.get("delivery_reports", True)
        return Accepted(message.message_id, (Report("delivered"),) if delivered else ())
