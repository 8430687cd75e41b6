"""Redis: one file for each family of keys, its Lua beside it; names.py builds the keys.

Neighbours: the API, the workers and the reconciler each hold one `Stores`. client.py is the connection.
"""

from __future__ import annotations

from junebug import names
from junebug.config.addresses import Address
from junebug.config.declaration import Settings
from junebug.errors import StoreUnavailable
from junebug.stores.cancellations import CancellationStore
from junebug.stores.channels import ChannelStore
from junebug.stores.circuits import CircuitStore
from junebug.stores.client import RedisClient, is_failure, read_info
from junebug.stores.delay_queues import DelayQueueStore
from junebug.stores.idempotency import IdempotencyStore
from junebug.stores.inbound import InboundStore
from junebug.stores.leases import LeaseStore
from junebug.stores.metrics import MetricStore
from junebug.stores.outbound import OutboundStore
from junebug.stores.plugins import PluginStore
from junebug.stores.rates import RateStore
from junebug.stores.routers import RouterStore
from junebug.stores.statuses import StatusStore
from junebug.stores.tokens import TokenStore
from junebug.stores.transport import TransportStore
from junebug.stores.wanted import WantedStore


class Stores:
    """All stores of one process, over one connection to Redis."""

    def __init__(self, settings: Settings, timeout: float | None = None) -> None:
        """`timeout`: the longest a call may take, in seconds (default: the settings' request_timeout)."""
        self._redis = RedisClient(settings.redis, timeout or settings.request_timeout)
        self.channels = ChannelStore(self._redis)
        self.routers = RouterStore(self._redis)
        self.wanted = WantedStore(self._redis, settings.metric_window)
        self.inbound = InboundStore(self._redis, settings.inbound_message_ttl)
        self.outbound = OutboundStore(self._redis, settings.outbound_message_ttl)
        self.cancellations = CancellationStore(self._redis, settings.outbound_message_ttl)
        self.idempotency = IdempotencyStore(self._redis, settings.outbound_message_ttl)
        self.circuits = CircuitStore(self._redis)
        self.delay_queues = DelayQueueStore(self._redis)
        self.leases = LeaseStore(self._redis)
        self.statuses = StatusStore(self._redis)
        self.tokens = TokenStore(self._redis)
        self.metrics = MetricStore(self._redis)
        self.plugins = PluginStore(self._redis)
        self.rates = RateStore(self._redis, settings.metric_window)

    def transport(self, channel: str) -> TransportStore:
        """What the channel's transport keeps."""
        return TransportStore(self._redis, channel)

    def redis_address(self) -> Address:
        """As RedisClient has it."""
        return self._redis.address

    async def run_id(self) -> str:
        """Another one after each start of Redis; empty where it cannot be asked."""
        try:
            (told,) = await self._redis.run(("INFO", "server"))
        except Exception as error:  # a provider's Redis may have no INFO for us
            if not isinstance(error, StoreUnavailable) and not is_failure(error):
                raise
            return ""
        return read_info(told).get("run_id", "")

    async def ping(self) -> None:
        """Raises StoreUnavailable."""
        await self._redis.run(("PING",))

    async def check_writable(self) -> None:
        """Redis takes what is written: it is not full, nor a replica. Raises StoreUnavailable."""
        await self._redis.run(("SET", names.HEALTH, "1", "EX", "60"))

    async def close(self) -> None:
        await self._redis.close()
