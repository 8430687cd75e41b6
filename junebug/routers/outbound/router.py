"""OutboundRouter: what comes in is not its business. What goes out: choice.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from junebug.model.messages import UserMessage
from junebug.routers.base import Router


class OutboundRouter(Router):
    """Its channels' inbound messages and events are theirs."""

    def learn(self, destination: str, config: dict[str, Any]) -> None:
        """Its destinations have nothing to say."""

    def forget(self, destination: str, config: dict[str, Any]) -> None:
        """As above."""

    def route(self, message: UserMessage) -> Sequence[str]:
        return ()
