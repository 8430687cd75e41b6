"""A callback in a worker's hands, from the queue that it came from until its destination has it, or another queue has.

Neighbours: forwarder.py, backlog.py and statuses.py make them, dispatcher.py brings each to its destination.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from junebug.amqp.frames import Delivery
from junebug.model.callbacks import Callback
from junebug.model.messages import Content, Event, Status, UserMessage
from junebug.worker.callbacks.source import Source


@dataclass(slots=True, eq=False)
class PendingCallback:
    """One callback until it is finished: its destination has it, or RabbitMQ has confirmed it elsewhere."""

    callback: Callback
    content: Content
    delivery: Delivery | None
    """Where it came from; None for what was not on RabbitMQ."""
    on_finished: Callable[[], None]
    """Lets its queue forget it."""
    home: Source[PendingCallback] | None = None
    """The queue that it came from, if that is its destination's alone: there it may go back to its place."""
    since: float = field(default_factory=lambda: asyncio.get_running_loop().time())
    number: int = field(default_factory=itertools.count().__next__)
    is_finished: bool = False

    @property
    def key(self) -> str:
        """What has one key is called in order: the messages of one address, the events of one message, a component."""
        match self.content:
            case UserMessage():
                return f"inbound {self.content.from_addr}"
            case Event():
                return f"event {self.content.user_message_id}"
            case Status():
                return f"status {self.content.component}"

    @property
    def is_wanted(self) -> bool:
        """False when its link is gone: it has been or will be delivered again."""
        return not self.is_finished and (self.delivery is None or self.delivery.alive)

    def finish(self) -> None:
        """It needs no more care."""
        if not self.is_finished:
            self.is_finished = True
            self.on_finished()

    def give_back(self) -> None:
        """It goes back to its place in its home, and comes again from there."""
        assert self.delivery is not None
        self.is_finished = True
        self.delivery.requeue()

    def fields(self) -> dict[str, Any]:
        """For the log."""
        match self.content:
            case UserMessage():
                about = {"message_id": self.content.message_id}
            case Event():
                about = {"message_id": self.content.user_message_id, "event_type": self.content.api_type}
            case Status():
                about = {"component": self.content.component, "status": self.content.status}
        return {"to": self.callback.to, **about}
