"""Job: a callback in a worker's hands. Office: who knows what is to become of it.

Neighbours: destinations.py is the office and makes jobs of deliveries; lane.py and waiting_room.py get them done.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Protocol

from junebug.amqp.frames import Delivery
from junebug.model.callbacks import Callback
from junebug.model.messages import Event, Status, UserMessage
from junebug.worker.callbacks.webhook import Outcome

Content = UserMessage | Event | Status


@dataclass(slots=True, eq=False)
class Job:
    """One callback until it is done: its destination has it, or RabbitMQ has confirmed it elsewhere."""

    callback: Callback
    content: Content
    delivery: Delivery | None
    """Where it came from; None for what was not on RabbitMQ."""
    since: float
    """When it came, in the loop's time."""
    done: asyncio.Future[None]
    """Cancelled when it is to go back to where it came from."""
    is_repeat: bool = False
    """It comes from a delay queue: `finish` acknowledges the delivery, which is of this one alone."""
    has_waited: bool = False
    """It comes from the waiting queue of its lane."""

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
        return not self.done.done() and (self.delivery is None or self.delivery.alive)

    def finish(self) -> None:
        """It needs no more care."""
        if not self.done.done():
            self.done.set_result(None)
            if self.is_repeat and self.delivery:
                self.delivery.ack()

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


class Office(Protocol):
    """What the parts of a lane ask of those who know the channel."""

    def job(self, delivery: Delivery) -> Job | None:
        """Of a delivery of a delay queue; None when there is nothing more to do for it."""

    def destination(self, job: Job) -> str | None:
        """Where it is to go now; None when nobody wants it any more."""

    def offer(self, job: Job) -> None:
        """Get it done there."""

    async def call(self, destination: str, job: Job) -> Outcome | None:
        """One attempt. None: it was not made, because the job goes elsewhere now."""

    async def settle(self, job: Job, outcome: Outcome) -> None:
        """After an attempt: it is done, to be tried again, or dead."""

    async def fail(self, job: Job) -> None:
        """While handling an exception, a fault of ours: somebody must look at it."""

    async def give_up_if_too_old(self, job: Job, error: str) -> bool:
        """Whether it waited for too long, and is a dead letter now."""
