"""Transport: what a channel type implements. TransportContext: what it is given. Nothing here knows RabbitMQ or Redis.

A transport turns a provider's protocol into four calls: it is told to `start`, `stop` and `send`; it tells the context
of an inbound message, a delivery report and a status. It returns or raises; acks, retries and events are the worker's
(worker/outbound, worker/callbacks). The smallest example is transports/loopback.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import structlog

from junebug.model.messages import DeliveryStatus, Event, SessionEvent, Status, StatusLevel, UserMessage, of_shard
from junebug.runtime.metrics import Metrics
from junebug.runtime.tasks import Own, TaskOwner
from junebug.stores.transport import TransportStore

SEND_TIMEOUT = 120.0


@dataclass(frozen=True, slots=True)
class Report:
    """What the provider says of a message that it has: `delivered`, `failed` (both final) or `pending`."""

    status: str
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider took a message."""

    provider_id: str | None = None
    reports: tuple[Report, ...] = ()
    """What it has said of it already: published with the ack, behind it, in this order."""
    on_reported: Callable[[], Awaitable[None]] | None = None
    """Called once RabbitMQ holds all of these: what is kept of the reports for a crash may go now."""


@dataclass(eq=False, repr=False)  # its config holds passwords
class TransportContext:
    """A channel's side of the house, as its transport sees it."""

    channel_id: str
    channel_type: str
    config: dict[str, Any]
    _publish_inbound: Callable[[UserMessage], Awaitable[None]]
    _publish_event: Callable[[Event], Awaitable[None]]
    """Gives an event to the channel that is its `transport_name`."""
    _publish_status: Callable[[Status], Awaitable[None]]
    store: TransportStore
    """What the transport keeps beyond its own life. Its calls raise StoreUnavailable while Redis is away."""
    permit: Callable[[int], Awaitable[None]]
    """Returns when the channel's rate limit lets one more of that priority leave; the urgent do not wait for others.
    Each `send` has one permit already: this is for what leaves besides (the further parts of a message).
    Raises NotSent when the channel stops meanwhile.
    """

    def __post_init__(self) -> None:
        self.log = structlog.stdlib.get_logger("transport").bind()  # bound once: each message is logged
        self.may_begin: Callable[[bytes], bool] = lambda octets: True
        """To be asked before what a provider sends is looked at, where it sends again what was not answered. False: this
        channel's processes die of it. Then it is to be `set_aside`, and answered so that the provider does not repeat it.
        """
        self.own: Own = TaskOwner().own
        """Run a side task; one that dies of a bug ends the channel's process, which is started afresh. `stop` ends it."""
        self.set_aside: Callable[[bytes], Awaitable[None]]
        """With the dead letters, when this returns."""
        self.shard, self.shards = 0, 1
        """Which part of the channel this process is, from 0 on, of how many: what is limited for the channel is divided."""
        self.door: Path | None = None
        """Where the shared HTTP listener looks for its channels (junebug/door); None: there is none."""
        self.metrics = Metrics()
        """What the channel counts, for `GET /metrics` (runtime/families.py)."""
        self._last_statuses: dict[str, tuple[str, str, str]] = {}

    async def inbound(
        self,
        *,
        to_addr: str | None,
        from_addr: str | None,
        content: str | None,
        session_event: SessionEvent | None = None,
        transport_type: str | None = None,
        **fields: Any,
    ) -> UserMessage:
        """A message came from a phone. Returns once RabbitMQ holds it: only then tell the provider so.

        `fields`: any other field of UserMessage. While RabbitMQ is away this waits; a transport that waits with it
        takes no more from its provider than it can keep.
        """
        message = UserMessage(
            to_addr=to_addr, from_addr=from_addr, content=content, session_event=session_event,
            transport_name=self.channel_id, transport_type=transport_type or self.channel_type, **fields,
        )
        await self._publish_inbound(message)
        self.log.info(
            "inbound message received", message_id=message.message_id, from_addr=from_addr, to_addr=to_addr,
            session_event=session_event,
        )
        return message

    async def delivery_report(
        self, message_id: str, status: DeliveryStatus, details: dict[str, Any] | None = None, *, sent_by: str | None = None
    ) -> None:
        """The provider says of an MT sent earlier: `delivered`, `failed` (both final) or `pending`.

        `sent_by`: the channel that sent it, where that is another one (two channels may be one bind each of a pair).
        Returns once RabbitMQ holds it, which is not before it holds the message's ack: what `send` itself learns, it
        returns (Accepted).
        """
        event = Event(
            event_type="delivery_report", user_message_id=message_id, delivery_status=status,
            transport_name=sent_by or self.channel_id, transport_metadata=details or {},
        )
        await self._publish_event(event)
        self.log.info("delivery report", message_id=message_id, delivery_status=status)

    async def status(
        self, component: str, status: StatusLevel, type: str, message: str, details: dict[str, Any] | None = None
    ) -> None:
        """How a component does (spec 1.7.3). Said again unchanged, it is not sent again."""
        present = (status, type, message)
        if self._last_statuses.get(component) == present:
            return
        self._last_statuses[component] = present
        component = of_shard(component, self.shard)
        level = {"ok": self.log.info, "degraded": self.log.warning, "down": self.log.error}[status]
        level("status", component=component, status=status, type=type, reason=message)
        told = Status(
            channel_id=self.channel_id, component=component, status=status, type=type, message=message, details=details or {},
            shard=self.shard,
        )  # fmt: skip
        await self._publish_status(told)

    def has_reported(self, component: str) -> bool:
        """Whether the transport ever told the status of this component."""
        return component in self._last_statuses


class Transport:
    """Base class of all channel types' transports. One instance is one channel's connection to its provider."""

    config_schema: ClassVar[dict[str, Any]] = {"type": "object"}
    """JSON Schema of the channel's `config`; a class named in the setting `channels` declares it here."""
    secrets: ClassVar[tuple[str, ...]] = ()
    """Config fields never to be shown, likewise."""
    channel_data_schema: ClassVar[dict[str, Any] | None] = None
    """JSON Schema of a message's `channel_data` (its helper_metadata), likewise; None: anything."""
    window: int = 1
    """Messages that may be in `send` at the same time. 1 keeps them in order."""
    burst: int = 1
    """Messages that may come to `send` before `ready` sees the first of them."""
    is_fenced: ClassVar[bool] = False
    """Whether it looks at the fence (runtime/fence.py) itself before it writes; else that is done before each `send`."""
    acks: bool = True
    """Whether the application hears of messages that the provider accepted."""
    send_timeout: float | None = SEND_TIMEOUT
    """Seconds after which a `send` is cut off, its outcome unknown. None: each wait within it has a limit of its own."""

    def __init__(self, context: TransportContext) -> None:
        self.context = context
        self.config = context.config
        self.on_accepted: Callable[[UserMessage, str | None], None] = lambda message, provider_id: None
        """To be called with the provider's id of a message, by a `send` that has more to do once that is accepted: what is known
        to be is not sent again if this process is killed meanwhile.
        """

    async def start(self) -> None:
        """Begin: listen, or begin to connect. Raises TransportStartError when that cannot work (a port is taken);
        a provider that is away is no such case: report it as a status and keep trying.
        """

    async def finish(self, seconds: float) -> None:
        """The channel is about to stop: begin nothing new with the provider, and return when what it waits for is done, within
        so many seconds. Messages still come to `send` meanwhile.
        """

    async def stop(self) -> None:
        """End every connection and task. Called once, also after a `start` that failed half-way."""

    async def ready(self) -> None:
        """Return when `send` could begin with another one. What waits for that can still be cancelled and overtaken."""

    async def send(self, message: UserMessage) -> Accepted | str | None:
        """Give an MT to the provider; return the provider's id of it (None where there is none), or Accepted with more.

        Raises Rejected (final), NotSent (nothing left; tried again), UnknownOutcome (it may have arrived), or Expired
        where `send` itself waits for long.
        """
        raise NotImplementedError

    async def accepted_before(self, message: UserMessage, provider_id: str | None) -> Accepted:
        """This was accepted from the channel's last process, which was killed before RabbitMQ knew of it. It is not sent again;
        what `send` does besides is to be done now.
        """
        return Accepted(provider_id)

    def stop_sending(self) -> None:
        """The channel stops: a `send` of which nothing can leave now raises NotSent at once."""
