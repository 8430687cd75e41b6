"""Router: what a router type implements. Nothing here knows RabbitMQ, Redis or HTTP.

A router is told of its destinations and says, of each message from a phone, to which of them it goes. It decides and does no
more: bringing it there, retries, sessions that stay where they began, and what is told of messages that nobody gets are the
worker's (worker/router.py). The smallest example is routers/keyword.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from junebug.errors import InvalidRouterDestinationConfig
from junebug.model.messages import UserMessage


class Router:
    """Base class of all router types' decisions. One instance is one router, in its own process."""

    keeps_sessions = False
    """Whether a session (USSD) stays with the destinations that its first message went to, without being asked again."""

    def __init__(self, config: dict[str, Any]) -> None:
        """`config`: the router's, checked and without nulls."""
        self.config = config
        self.destinations: dict[str, dict[str, Any]] = {}
        """Destination -> its config."""
        self.default: str | None = None
        """The destination of what no other one is for: of several, the first by its id."""
        self.faults: dict[str, str] = {}
        """Destination -> why its config is of no use (another version stored it): the router goes on without."""
        self._defaults: set[str] = set()

    def set_all(self, destinations: Mapping[str, dict[str, Any]]) -> None:
        """Destination -> its config: all there are. Linear, and cheap for those that stay as they are."""
        self.change(destinations, [known for known in self.destinations if known not in destinations])

    def change(self, changed: Mapping[str, dict[str, Any]], removed: Iterable[str]) -> None:
        """New or changed destinations with their configs, and those that are gone. In force with the next `route`."""
        for destination in removed:
            if destination in self.destinations:
                self.forget(destination, self.destinations.pop(destination))
                self._defaults.discard(destination)
                self.faults.pop(destination, None)
        for destination, config in changed.items():
            before = self.destinations.get(destination)
            if before == config:
                continue
            if before is not None:
                self.forget(destination, before)
            self.faults.pop(destination, None)
            self.destinations[destination] = config
            (self._defaults.add if config.get("default") is True else self._defaults.discard)(destination)
            try:
                self.learn(destination, config)
            except (InvalidRouterDestinationConfig, ValueError) as error:
                self.faults[destination] = str(error)
        self.default = min(self._defaults, default=None)

    def learn(self, destination: str, config: dict[str, Any]) -> None:
        """One that is new, or changed. Raises InvalidRouterDestinationConfig, or ValueError, where the config is of no use:
        it becomes one of `faults`, and stops nobody. It is the default destination still, where it says so.
        """
        raise NotImplementedError

    def forget(self, destination: str, config: dict[str, Any]) -> None:
        """One that `learn` was told of, with that config: it is gone, or about to change. It may be one of `faults`."""
        raise NotImplementedError

    def route(self, message: UserMessage) -> Sequence[str]:
        """The destinations of an inbound message; none: nobody is to have it."""
        raise NotImplementedError

    def or_default(self, found: Sequence[str]) -> Sequence[str]:
        """`found`, else the default destination where there is one."""
        return found or (() if self.default is None else (self.default,))
