"""One connection to Redis: to the server that the settings name, or to the one that the sentinels say is the master.

redis-py connects, authenticates and parses. Its own Sentinel is not used: it believes the first sentinel that answers, whatever
that saw last, and keeps a pool of connections to each of them in each process. Neighbour: client.py writes and reads.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import redis.asyncio as redis_asyncio
import redis.exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

from junebug.config.addresses import Address
from junebug.config.declaration import RedisSettings
from junebug.runtime.tls import current_context

CONNECT_TIMEOUT, SENTINEL_TIMEOUT = 2.0, 1.0
"""Seconds: of Redis, of the answer of one sentinel."""


class RedisLink(redis_asyncio.Connection):
    """Looks for the master at each connection, and makes sure that it is one (ROLE)."""

    def __init__(
        self, settings: RedisSettings, timeout: float = CONNECT_TIMEOUT, on_master: Callable[[Address], None] | None = None,
        **options: Any,
    ) -> None:  # fmt: skip
        """`on_master` is called when it has connected to a master that the sentinels named."""
        super().__init__(
            host=settings.host, port=settings.port, db=settings.db, username=settings.username, password=settings.password,
            decode_responses=True, encoding_errors="replace", socket_connect_timeout=min(CONNECT_TIMEOUT, timeout),
            socket_timeout=None,  # who waits bounds it all; and wait_for, which this would use, may swallow a cancellation
            retry=Retry(NoBackoff(), 0), maint_notifications_config=MaintNotificationsConfig(enabled=False),
            driver_info=None,  # reading its own version takes redis-py longer than connecting
            **{"protocol": 3, **options},
        )  # fmt: skip
        self._settings = settings
        self._on_master = on_master
        self._sentinels = deque(random.sample(settings.sentinel_addresses, len(settings.sentinels)))

    @property
    def address(self) -> Address:
        """Where it is, or was, or is to be connected to."""
        return Address(self.host, self.port)

    def abort(self) -> None:
        """Whoever reads is told."""
        if self._writer:
            self._writer.transport.abort()

    async def _connect(self) -> None:
        if self._settings.sentinels:
            self.host, self.port = await self._find_master()
        if self.address.is_socket:
            async with asyncio.timeout(self.socket_connect_timeout):
                self._reader, self._writer = await asyncio.open_unix_connection(self.host)
        else:
            await super()._connect()  # type: ignore[no-untyped-call]

    def _connection_arguments(self) -> Mapping[str, Any]:
        arguments: Mapping[str, Any] = super()._connection_arguments()
        if tls := self._settings.tls:
            arguments = {**arguments, "ssl": current_context(tls), "server_hostname": tls.server_name or self.host}
        return arguments

    async def on_connect_check_health(self, check_health: bool = True) -> None:
        await super().on_connect_check_health(check_health)
        if self._settings.sentinels:
            await self.send_command("ROLE", check_health=False)
            role = (await self.read_response())[0]
            if role != "master":
                raise redis.exceptions.ConnectionError(f"{self.address} is no master any more, or not yet, but a {role}")
            self._sentinels.rotate(1)
            if self._on_master:
                self._on_master(self.address)

    async def _find_master(self) -> Address:
        """As the first sentinel that answers says. The next time it is asked last, unless what it said proves true."""
        failures = []
        for _ in range(len(self._sentinels)):
            sentinel = self._sentinels[0]
            self._sentinels.rotate(-1)
            try:
                return await ask_sentinel(self._settings, sentinel)
            except redis.exceptions.RedisError as error:
                failures.append(str(error))
        raise redis.exceptions.ConnectionError("; ".join(failures))


async def ask_sentinel(settings: RedisSettings, sentinel: Address) -> Address:
    """Where it says that the master is. Raises RedisError, in whose text the sentinel is named."""
    own = RedisSettings(host=sentinel.host, port=sentinel.port, password=settings.sentinel_password, tls=settings.tls)
    link: Any = RedisLink(own)
    try:
        async with asyncio.timeout(SENTINEL_TIMEOUT):
            await link.connect()
            await link.send_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", settings.master_name)
            found = await link.read_response()
    except (redis.exceptions.RedisError, OSError, TimeoutError) as error:
        reason = f"it did not answer within {SENTINEL_TIMEOUT:g} s" if isinstance(error, TimeoutError) else str(error)
        raise redis.exceptions.ConnectionError(f"sentinel {sentinel}: {reason}") from None
    finally:
        await link.disconnect(nowait=True)
    if not found:
        raise redis.exceptions.ConnectionError(f"sentinel {sentinel}: it knows no master {settings.master_name!r}")
    return Address(str(found[0]), int(found[1]))
