"""A Redis master, its replicas, and the sentinels that make one of them the master when that is gone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import redis

from junebug.config.declaration import RedisSettings
from junebug.embedded import LOOPBACK, ServerProgram
from tests.polling import eventually_blocking
from tests.servers import RedisServer, free_port

MASTER = "junebug-test"
DOWN_AFTER = 0.5
"""Seconds."""


class ReplicaServer(RedisServer):
    """Of `master` until it is told otherwise."""

    master: int

    def programs(self) -> tuple[ServerProgram, ...]:
        (program,) = super().programs()
        own = ("--replicaof", LOOPBACK, str(self.master))
        return (ServerProgram("redis", (*program.command, *own), program.environment, priority=0),)


class SentinelServer(RedisServer):
    master: int

    def programs(self) -> tuple[ServerProgram, ...]:
        directory, config = self.directory, self.directory / "sentinel.conf"
        if not config.exists():  # it writes into it itself
            about = f"{MASTER} {LOOPBACK} {self.master} 2"
            lines = [
                f"port {self.port}", f"bind {LOOPBACK}", f"dir {directory}", f"sentinel monitor {about}",
                f"sentinel down-after-milliseconds {MASTER} {DOWN_AFTER * 1000:.0f}",
                f"sentinel failover-timeout {MASTER} 60000",  # so long a replica may be of another address
            ]  # fmt: skip
            config.write_text("\n".join(lines) + "\n")
        program = shutil.which("redis-server")
        assert program
        return (ServerProgram("sentinel", (program, str(config), "--sentinel"), {}, priority=0),)


class Fleet:
    """`servers[0]` is the master at first."""

    def __init__(self) -> None:
        self.servers: list[RedisServer] = [RedisServer(free_port()), *(ReplicaServer(free_port()) for _ in range(2))]
        self.sentinels = [SentinelServer(free_port()) for _ in range(3)]
        for each in (*self.servers[1:], *self.sentinels):
            each.master = self.servers[0].port  # type: ignore[attr-defined]

    @property
    def settings(self) -> RedisSettings:
        return RedisSettings(sentinels=[f"127.0.0.1:{each.port}" for each in self.sentinels], master_name=MASTER)

    def configure(self, **options: str) -> None:
        for server in self.servers:
            with redis.Redis(port=server.port) as link:
                for name, value in options.items():
                    link.config_set(name.replace("_", "-"), value)

    def master(self) -> RedisServer:
        """As the sentinels agree, which may take them a moment."""

        def named() -> RedisServer | None:
            ports = set()
            for sentinel in self.sentinels:
                with redis.Redis(port=sentinel.port) as link:
                    ports.add(int(link.sentinel_get_master_addr_by_name(MASTER)[1]))
            return next((each for each in self.servers if {each.port} == ports), None)

        found: RedisServer = eventually_blocking(named, what="one master")
        return found

    def start(self) -> Fleet:
        for server in self.servers:
            server.start()
        eventually_blocking(self.replicates, what="replicas")
        for sentinel in self.sentinels:
            sentinel.start()
        eventually_blocking(self._is_watched, what="sentinels that know each other")
        return self

    def replicates(self) -> bool:
        for server in self.servers[1:]:
            with redis.Redis(port=server.port, decode_responses=True) as link:
                if link.info("replication").get("master_link_status") != "up":
                    return False
        return True

    def _is_watched(self) -> bool:
        for sentinel in self.sentinels:
            with redis.Redis(port=sentinel.port) as link:
                state = link.sentinel_master(MASTER)
                if state["num-slaves"] < len(self.servers) - 1 or state["num-other-sentinels"] < len(self.sentinels) - 1:
                    return False
        return True

    def destroy(self) -> None:
        for each in (*self.sentinels, *self.servers):
            each.destroy()


@contextmanager
def fleet() -> Iterator[Fleet]:
    made = Fleet()
    try:
        yield made.start()
    finally:
        made.destroy()
