"""Messages as a router sees them."""

from __future__ import annotations

from junebug.model.messages import UserMessage


def inbound(to: str | None = "8080", content: str | None = "hello") -> UserMessage:
    return UserMessage(to_addr=to, from_addr="+27820000001", content=content, transport_name="c")
