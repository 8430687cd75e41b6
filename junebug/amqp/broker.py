"""RabbitMQ, as the rest of Junebug uses it: one Broker a process, composed of the parts of this package.

    connection.py   connected, and again after every loss            frames.py    one channel (reader.py cuts its frames)
    topology.py     queues declared, measured, deleted               publisher.py confirmed publishing, a link of its own
    consumer.py     consuming for as long as it takes                browse.py    going once through what waits
    quorum_consumer.py  the same of quorum queues                    kinds.py     queues that are of either kind
    confirm_channel.py  what is written, confirmed and refused

Two links: RabbitMQ blocks one that publishes while it is short of memory or disk space, and then reads nothing of it.
The other consumes, acknowledges and administers, so that queues drain meanwhile. The former is opened with the first
message. What was delivered and not acknowledged when a link broke comes again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import structlog

from junebug import names
from junebug.amqp.browse import browse
from junebug.amqp.connection import Connection, address, check
from junebug.amqp.consumer import Consumer
from junebug.amqp.frames import Delivery
from junebug.amqp.kinds import Kinds
from junebug.amqp.publisher import Publisher
from junebug.amqp.quorum_consumer import consume
from junebug.amqp.topology import Topology
from junebug.config.declaration import AmqpSettings
from junebug.model.spec import ChannelSpec
from junebug.runtime.tasks import TaskOwner

__all__ = ["Broker", "Consumer", "Delivery", "check"]

log = structlog.stdlib.get_logger(__name__)


class Broker:
    """One process's RabbitMQ."""

    def __init__(self, settings: AmqpSettings, name: str, on_state: Callable[[bool, str], None] | None = None) -> None:
        """`name` is shown by RabbitMQ; `on_state(usable, why)` is called at each change."""
        self._settings = settings
        self._on_state = on_state
        self.is_quorum = settings.queue_type == "quorum"
        self.tasks = TaskOwner()
        """Whoever owns this Broker ends with them."""
        topology = Topology()
        self._connection = Connection(settings, name, self.tasks, topology.restore, self._on_connection)
        topology.connection = self._connection
        self._publisher = publisher = Publisher(self._connection, topology, self.tasks, self._report)
        self.kinds = Kinds(topology, publisher)
        self._consumers: set[Consumer] = set()
        self._last_state = (False, "")
        self._reported: tuple[bool, str] | None = None
        # what the parts do themselves
        self.start, self.wait_connected = self._connection.start, self._connection.wait
        self.declare, self.declare_surely, self.forget = topology.declare, topology.declare_surely, topology.forget
        self.surely = topology.surely
        self.delete_queues, self.delete_idle_queue = topology.delete, topology.delete_idle
        self.without_idle_queues = topology.without_idle
        self.queue_exists, self.queue_length, self.queue_lengths = topology.exists, topology.length, topology.lengths
        self.look_at_queues, self.has_leader = topology.look, topology.has_leader
        self.publish, self.publish_many = publisher.publish, publisher.publish_many
        self.publish_surely, self.ping = publisher.publish_surely, publisher.ping
        self.consume = functools.partial(consume, self._connection, topology, self.tasks, self._consumers)
        self.browse = functools.partial(browse, self._connection)

    def wanted_layout(self, shards: int) -> names.Layout:
        """Which outbound queues a channel of so many shards is to have."""
        return names.LAYOUTS[self.is_quorum + 2 * (shards > 1)]

    def layout(self, spec: ChannelSpec) -> names.Layout:
        """Of the queues to which this channel's messages are to be published."""
        return spec.newest_layout or self.wanted_layout(spec.shards)

    def prefers_quorum(self, spec: ChannelSpec | None) -> bool:
        """Of which kind queues of what is on its way to the application are believed to be (kinds.py): a channel's, or (None) a
        router's.
        """
        return self.layout(spec).is_quorum if spec else self.is_quorum

    @property
    def connected(self) -> bool:
        return self._connection.connected

    @property
    def blocked(self) -> str:
        """Why RabbitMQ takes no messages at the moment (low on memory, on disk space); empty: it does."""
        return self._publisher.blocked

    async def close(self) -> None:
        """End consumers, then publishing, then the connection (late events still leave)."""
        for consumer in list(self._consumers):
            await consumer.cancel()
        await self._publisher.close()
        await self._connection.close()

    # --- what is told -------------------------------------------------------------------------------------------------

    def _on_connection(self, connected: bool, why: str) -> None:
        self._last_state = (connected, why)
        self._report()

    def _report(self) -> None:
        connected, why = self._last_state
        state = (False, f"RabbitMQ takes no messages: {self.blocked}") if connected and self.blocked else (connected, why)
        if state == self._reported:
            return
        self._reported = state
        usable, why = state
        if self._on_state:
            self._on_state(usable, why)
        elif usable:
            log.info("amqp connected", address=address(self._settings))
        else:
            log.warning("amqp not connected", address=address(self._settings), reason=why)
