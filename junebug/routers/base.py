"""Router: what a router type implements. Nothing here knows RabbitMQ, Redis or HTTP.

A router is told of its destinations and says, of each message from a phone, to which of them it goes. It decides and does no
more: bringing it there, retries, sessions that stay where they began, and what is told of messages that nobody gets are the
worker's (worker/router.py). The smallest example is routers/keyword.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from junebug.model.messages import UserMessage


class Router:
    """Base class of all router types' decisions. One instance is one router, in its own process."""

    keeps_sessions = False
    """Whether a session (USSD) stays with the destinations that its first message went to, without being asked again."""

    def __init__(self, config: dict[str, Any]) -> None:
        """`config`: the router's, checked and without nulls."""
        self.config = config
        self.default: str | None = None
        """The destination of what no other one is for."""
        self.faults: dict[str, str] = {}
        """Destination -> why it cannot be routed to (its config was stored by another version): the router goes on without."""

    def set_all(self, destinations: Mapping[str, dict[str, Any]]) -> None:
        """Destination -> its config: all there are. Linear."""
        self.default = None
        self.faults = {}
        self.change(destinations, ())

    def change(self, changed: Mapping[str, dict[str, Any]], removed: Iterable[str]) -> None:
        """New or changed destinations with their configs, and those that are gone. In force with the next `route`; one that
        is of no use becomes one of `faults`, and stops nobody else.
        """
        for destination in removed:
            self.faults.pop(destination, None)
            if self.default == destination:
                self.default = None
        for destination, config in changed.items():
            self.faults.pop(destination, None)
            if config.get("default"):
                self.default = destination
            elif self.default == destination:
                self.default = None

    def route(self, message: UserMessage) -> Sequence[str]:
        """The destinations of an inbound message; none: nobody is to have it."""
        raise NotImplementedError

    def or_default(self, found: Sequence[str]) -> Sequence[str]:
        """`found`, else the default destination where there is one."""
        return found or (() if self.default is None else (self.default,))
