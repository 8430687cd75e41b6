"""A transport that does what a test tells it, to see what the worker makes of each outcome."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, ClassVar

from junebug.model.messages import UserMessage
from junebug.transports.base import Accepted, Transport


class ScriptedTransport(Transport):
    """`outcomes`: for each coming send an error to raise, an event to wait for, a call to make (its result is returned) or
    what to return; then ids.
    """

    outcomes: ClassVar[deque[Any]] = deque()
    sent: ClassVar[list[str | None]] = []
    stopped: ClassVar[int] = 0
    secrets = ("password",)

    async def start(self) -> None:
        if self.config.get("log_password"):
            self.context.log.error("the provider refuses %s", self.config["password"], config=self.config)
            raise ConnectionError(f"wrong password {self.config['password']}")

    async def send(self, message: UserMessage) -> Accepted | str | None:
        outcome = self.outcomes.popleft() if self.outcomes else f"id-{message.content}"
        if isinstance(outcome, Exception):
            raise outcome
        if isinstance(outcome, asyncio.Event):
            await outcome.wait()
            outcome = None
        if callable(outcome):
            outcome = await outcome(self, message)
        self.sent.append(message.content)
        return outcome

    async def stop(self) -> None:
        type(self).stopped += 1
